//! The file and the way to it: permissions, owner, mount.

use super::Subject;
use super::report::{Report, shown};
use crate::base::interpreter_line::InterpreterLine;
use crate::base::owner::{Ours, Owned, Writers};
use crate::sys::account::{Account, group_name, user_name};
use std::ffi::OsString;
use std::fs::Metadata;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const READ: u32 = 4;
const EXECUTE: u32 = 1;

/// Checks what does not depend on what is in the file.
pub(super) fn check(subject: &Subject, account: &Account, report: &mut Report) {
    check_way(subject, account, report);
    if !subject.is_php() {
        check_execution(subject, account, report);
        check_mount(&subject.real, report);
    }
    check_owner(subject, account, report);
}

impl Subject {
    /// It is run by php-cgi, not by itself.
    pub(super) fn is_php(&self) -> bool {
        let is_php = self
            .named
            .extension()
            .is_some_and(|ending| ending.eq_ignore_ascii_case("php"));
        is_php && self.start.as_deref().and_then(InterpreterLine::of).is_none()
    }
}

fn may(account: &Account, right: u32, meta: &Metadata) -> bool {
    account.may(right, meta.mode(), meta.uid(), meta.gid(), meta.is_dir())
}

/// Mode, owner and group as `ls -l` would say them.
fn rights(path: &Path, meta: &Metadata) -> String {
    format!(
        "{}, mode {:04o}, owner {}, group {}",
        shown(path),
        meta.mode() & 0o7777,
        user_name(meta.uid()),
        group_name(meta.gid())
    )
}

/// Each directory on the way must let the user through.
fn check_way(subject: &Subject, account: &Account, report: &mut Report) {
    let mut directories: Vec<&Path> = Vec::new();
    for path in [&subject.named, &subject.real] {
        let mut way: Vec<&Path> = path.ancestors().skip(1).collect();
        way.reverse();
        for directory in way {
            if !directories.contains(&directory) {
                directories.push(directory);
            }
        }
    }
    for directory in directories {
        let Ok(meta) = directory.metadata() else {
            continue;
        };
        if meta.is_dir() && !may(account, EXECUTE, &meta) {
            let what = format!("{} may not enter a directory on the way", account.name);
            let advice = format!("chmod o+x {}, or give it to a group of this user", shown(directory));
            report.fatal(what, rights(directory, &meta), advice);
        }
    }
}

fn check_execution(subject: &Subject, account: &Account, report: &mut Report) {
    let (path, meta) = (shown(&subject.named), &subject.meta);
    let place = || rights(&subject.named, meta);
    if meta.mode() & 0o111 == 0 {
        report.fatal("it is not executable", place(), format!("chmod +x {path}"));
    } else if !may(account, EXECUTE, meta) {
        let what = format!("it is not executable for {}", account.name);
        report.fatal(what, place(), format!("chmod a+x {path}, or chown it to this user"));
    }
    let is_script = subject
        .start
        .as_ref()
        .is_none_or(|start| !start.starts_with(b"\x7fELF"));
    if is_script && !may(account, READ, meta) {
        let what = format!("{} may not read it, which the interpreter must", account.name);
        report.fatal(what, place(), format!("chmod a+r {path}, or chown it to this user"));
    }
}

/// The rule of `check_owner`: nobody but its user, and root, may have put the script there or be able to change it.
fn check_owner(subject: &Subject, account: &Account, report: &mut Report) {
    let (path, meta) = (shown(&subject.named), &subject.meta);
    let place = rights(&subject.named, meta);
    if meta.uid() != account.user && meta.uid() != 0 {
        let what = format!(
            "it belongs to {}, not to {} or root",
            user_name(meta.uid()),
            account.name
        );
        let advice = format!(
            "chown {} {path}, or run it as its owner; else check_owner refuses it",
            account.name
        );
        report.wrong(what, place.clone(), advice);
    }
    writable(&subject.named, meta, account, report, "it");
    let Some(directory) = subject.real.parent() else {
        return;
    };
    if let Ok(meta) = directory.metadata()
        && meta.mode() & 0o1000 == 0
    {
        // In a directory with the sticky bit only owners rename and remove.
        writable(directory, &meta, account, report, "its directory");
    }
}

fn writable(path: &Path, meta: &Metadata, account: &Account, report: &mut Report, whose: &str) {
    let owned = Owned {
        user: meta.uid(),
        group: meta.gid(),
        mode: meta.mode(),
    };
    let ours = Ours {
        user: account.user,
        group: account.groups.first().copied().unwrap_or_default(),
    };
    let Some(writers) = Writers::of(owned, ours) else {
        return;
    };
    let (who, bits) = match writers {
        Writers::Everybody => ("everybody".to_owned(), "o-w"),
        Writers::Group(group) => (format!("the group {}", group_name(group)), "g-w"),
    };
    let advice = format!("chmod {bits} {}; else check_owner refuses it", shown(path));
    report.wrong(format!("{whose} is writable by {who}"), rights(path, meta), advice);
}

fn check_mount(path: &Path, report: &mut Report) {
    let Ok(table) = std::fs::read("/proc/self/mountinfo") else {
        return;
    };
    let Some(mount) = mount_of(&table, path) else {
        return;
    };
    if mount
        .options
        .split(|byte| *byte == b',')
        .any(|option| option == b"noexec")
    {
        let point = shown(&mount.point);
        report.fatal(
            "it lies on a file system that is mounted noexec, from which nothing is executed",
            point.clone(),
            format!("mount -o remount,exec {point} (and change /etc/fstab), or move the script"),
        );
    }
}

/// A line of /proc/self/mountinfo, as far as it matters (proc_pid_mountinfo(5)).
struct Mount<'t> {
    point: PathBuf,
    options: &'t [u8],
}

/// The mount that holds a path without links: the last of those with the longest mount point.
fn mount_of<'t>(table: &'t [u8], path: &Path) -> Option<Mount<'t>> {
    let mounts = table.split(|byte| *byte == b'\n').filter_map(|line| {
        let mut words = line.split(|byte| *byte == b' ').skip(4);
        let point = PathBuf::from(OsString::from_vec(unescaped(words.next()?)));
        let options = words.next()?;
        path.starts_with(&point).then_some(Mount { point, options })
    });
    mounts.max_by_key(|mount| mount.point.as_os_str().len())
}

/// Blanks, tabs, newlines and backslashes stand there as three octal digits.
fn unescaped(word: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(word.len());
    let mut rest = word;
    loop {
        rest = match rest {
            [] => return text,
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', rest @ ..] => {
                text.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest
            }
            [byte, rest @ ..] => {
                text.push(*byte);
                rest
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_of_a_path() {
        let table = b"22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
            30 22 0:26 / /srv rw,nosuid,noexec - tmpfs x rw\n\
            31 30 0:27 / /srv/a\\040b rw,relatime - tmpfs x rw,noexec\n\
            32 22 0:28 / /srv/twice rw - tmpfs x rw\n\
            33 22 0:29 / /srv/twice ro,noexec - tmpfs x rw\n\
            broken\n";
        let of = |path: &str| {
            let mount = mount_of(table, Path::new(path)).unwrap();
            format!("{} {}", mount.point.display(), mount.options.escape_ascii())
        };
        assert_eq!(of("/x"), "/ rw,relatime");
        assert_eq!(of("/srvx/y"), "/ rw,relatime");
        assert_eq!(of("/srv/x"), "/srv rw,nosuid,noexec");
        assert_eq!(of("/srv/a b/c"), "/srv/a b rw,relatime");
        assert_eq!(of("/srv/twice/x"), "/srv/twice ro,noexec");
        assert!(mount_of(b"", Path::new("/")).is_none());
        assert_eq!(unescaped(b"\\134\\04\\400\\"), b"\\\\04\\400\\");
    }
}
