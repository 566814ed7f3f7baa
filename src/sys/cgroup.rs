//! Control groups, version 2: where ours is, groups below it, who is in them, and what they may take.
//!
//! See cgroups(7) and the kernel's `admin-guide/cgroup-v2`. Version 1 is not used: its controllers lie in trees of their
//! own, which nobody delegates.
//! Never here: which groups there are, and their limits.

use super::{process, signals};
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// One group, by the path of its directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    path: PathBuf,
}

/// The group of this process; `None` where no tree of version 2 is mounted.
pub fn own() -> io::Result<Option<Group>> {
    let mounts = fs::read("/proc/self/mountinfo")?;
    let groups = fs::read("/proc/self/cgroup")?;
    Ok(place(&mounts, &groups).map(Group::at))
}

impl Group {
    /// The group with this directory.
    #[must_use]
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Its directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The group above it, if its own name is `name`.
    #[must_use]
    pub fn above(&self, name: &str) -> Option<Self> {
        let is_it = self.path.file_name().is_some_and(|own| own == name);
        let parent = self.path.parent().filter(|_| is_it)?;
        // Above the topmost group there is none.
        let parent = Self::at(parent.to_owned());
        parent.path.join("cgroup.procs").exists().then_some(parent)
    }

    /// The groups right below it.
    pub fn below(&self) -> io::Result<Vec<Self>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                found.push(Self::at(entry.path()));
            }
        }
        Ok(found)
    }

    /// Makes the group `name` below this one, or takes the one that is there.
    pub fn make(&self, name: &str) -> io::Result<Self> {
        let path = self.path.join(name);
        match fs::create_dir(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(Self { path }),
        }
    }

    /// Removes it. A group with processes or groups in it is `ResourceBusy`; one that is gone is no error.
    pub fn remove(&self) -> io::Result<()> {
        match fs::remove_dir(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The controllers that it can have.
    pub fn controllers(&self) -> io::Result<Vec<String>> {
        self.words("cgroup.controllers")
    }

    /// The controllers that the groups below it have.
    pub fn delegated(&self) -> io::Result<Vec<String>> {
        self.words("cgroup.subtree_control")
    }

    /// Gives the groups below it a controller, or takes it from them. `ResourceBusy`: there are processes in the group
    /// itself, which the kernel allows in the topmost one only.
    pub fn delegate(&self, controller: &str, on: bool) -> io::Result<()> {
        let sign = if on { '+' } else { '-' };
        self.set("cgroup.subtree_control", &format!("{sign}{controller}"))
    }

    /// True for the root of the tree: there the kernel does not ask that a group with groups below it has no processes.
    #[must_use]
    pub fn is_topmost(&self) -> bool {
        !self.has("cgroup.type")
    }

    /// Whether this process may make groups in it and hand on its controllers.
    pub fn check_writable(&self) -> io::Result<()> {
        use nix::fcntl::AT_FDCWD;
        use nix::unistd::{AccessFlags, faccessat};
        let may = |path: &Path, mode| faccessat(AT_FDCWD, path, mode, nix::fcntl::AtFlags::AT_EACCESS);
        may(&self.path, AccessFlags::W_OK | AccessFlags::X_OK)?;
        Ok(may(&self.path.join("cgroup.subtree_control"), AccessFlags::W_OK)?)
    }

    /// Writes one of its files, such as `memory.max`.
    pub fn set(&self, file: &str, value: &str) -> io::Result<()> {
        // Never made: a file that is not there is a controller that is not there.
        let file = File::options().write(true).open(self.path.join(file))?;
        // The kernel takes a value only in one piece.
        io::Write::write(&mut &file, value.as_bytes()).map(drop)
    }

    /// True if it has a file of this name.
    #[must_use]
    pub fn has(&self, file: &str) -> bool {
        self.path.join(file).exists()
    }

    /// The number behind a word in one of its files: `oom_kill` in `memory.events`.
    #[must_use]
    pub fn count(&self, file: &str, word: &str) -> Option<u64> {
        let text = fs::read_to_string(self.path.join(file)).ok()?;
        let mut lines = text.lines();
        lines.find_map(|line| line.strip_prefix(word)?.strip_prefix(' ')?.trim().parse().ok())
    }

    /// The processes in it, those of groups below it not counted.
    pub fn members(&self) -> io::Result<Vec<i32>> {
        let text = fs::read_to_string(self.path.join("cgroup.procs"))?;
        // 0 = a process that we cannot see.
        Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
    }

    /// Moves a process into it. One that is gone is no error.
    pub fn take(&self, pid: i32) -> io::Result<()> {
        match self.set("cgroup.procs", &pid.to_string()) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            other => other,
        }
    }

    /// Where a process enters it by writing `0`, even one that could not open this itself.
    pub fn entrance(&self) -> io::Result<OwnedFd> {
        let file = File::options().write(true).open(self.path.join("cgroup.procs"))?;
        Ok(file.into())
    }

    /// Kills everything in it and below it, also what is being forked meanwhile.
    pub fn kill(&self) -> io::Result<()> {
        match self.set("cgroup.kill", "1") {
            // Before Linux 5.14.
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.path.exists() => self.kill_each(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn kill_each(&self) -> io::Result<()> {
        for group in self.below()? {
            group.kill_each()?;
        }
        for pid in self.members()?.into_iter().filter(|pid| *pid > 1) {
            process::signal(pid, signals::KILL)?;
        }
        Ok(())
    }

    fn words(&self, file: &str) -> io::Result<Vec<String>> {
        let text = fs::read_to_string(self.path.join(file))?;
        Ok(text.split_ascii_whitespace().map(str::to_owned).collect())
    }
}

/// The directory of our group, by /proc/self/mountinfo and /proc/self/cgroup.
fn place(mounts: &[u8], groups: &[u8]) -> Option<PathBuf> {
    let mut lines = groups.split(|byte| *byte == b'\n');
    let own = lines.find_map(|line| line.strip_prefix(b"0::"))?;
    let (root, mount) = mounts.split(|byte| *byte == b'\n').find_map(mounted)?;
    // A mount may show a part of the tree only.
    let own = match own.strip_prefix(root.as_slice()) {
        Some(rest) if root != b"/" && matches!(rest.first(), None | Some(b'/')) => rest,
        _ => own,
    };
    let own = own.strip_prefix(b"/").unwrap_or(own);
    let mount = PathBuf::from(std::ffi::OsStr::from_bytes(&mount));
    Some(if own.is_empty() {
        mount
    } else {
        mount.join(std::ffi::OsStr::from_bytes(own))
    })
}

/// The root and the place of a mount of version 2, by its line of mountinfo (proc_pid_mountinfo(5)).
fn mounted(line: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let middle = memchr::memmem::find(line, b" - ")?;
    let kind = line.get(middle + 3..)?.split(|byte| *byte == b' ').next()?;
    let mut fields = line.split(|byte| *byte == b' ').skip(3);
    let (root, mount) = (fields.next()?, fields.next()?);
    (kind == b"cgroup2").then(|| (unescape(root), unescape(mount)))
}

/// Blanks and such are written as a backslash and three octal digits.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut found = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, more)) = rest.split_first() {
        rest = more;
        let octal = (*first == b'\\').then(|| more.get(..3)).flatten();
        let byte = octal.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        found.push(byte.unwrap_or(*first));
        if byte.is_some() {
            rest = more.get(3..).unwrap_or_default();
        }
    }
    found
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::sys::launch::{Launch, launch};
    use std::os::fd::AsFd;

    /// A group of this test below our own, removed with everything in it.
    pub(crate) struct Trial(pub(crate) Group);

    impl Trial {
        /// It stops the test where groups cannot be made: they need root, or a delegated tree.
        pub(crate) fn new(name: &str) -> Self {
            let own = own().unwrap().expect("this test needs a mounted tree of cgroup v2");
            let name = format!("rgunicorn-test-{name}-{}", std::process::id());
            let made = own.make(&name);
            Self(made.expect("this test needs root, or a cgroup v2 that its user may write to"))
        }
    }

    impl Drop for Trial {
        fn drop(&mut self) {
            remove_all(&self.0);
        }
    }

    fn remove_all(group: &Group) {
        let _ = group.kill();
        for below in group.below().unwrap_or_default() {
            remove_all(&below);
        }
        for _ in 0..1000 {
            if group.remove().is_ok() {
                return;
            }
            let _ = crate::sys::poll::wait(&[], Some(std::time::Duration::from_millis(5)));
        }
    }

    pub(crate) fn shell(script: &str, group: &Group) -> i32 {
        let null = File::options().read(true).write(true).open("/dev/null").unwrap();
        let entrance = group.entrance().unwrap();
        launch(&Launch {
            program: "sh".into(),
            args: vec!["sh".into(), "-c".into(), script.into()],
            env: Vec::new(),
            directory: "/".into(),
            descriptors: vec![(0, null.as_fd()), (1, null.as_fd()), (2, null.as_fd())],
            group: Some(entrance.as_fd()),
            ..Launch::default()
        })
        .unwrap()
    }

    fn wait_until(mut is_so: impl FnMut() -> bool) {
        for _ in 0..2000 {
            if is_so() {
                return;
            }
            let _ = crate::sys::poll::wait(&[], Some(std::time::Duration::from_millis(5)));
        }
        panic!("waited in vain");
    }

    #[test]
    fn our_group_is_found_in_pure_and_mixed_trees() {
        let case = |mounts: &str, groups: &str, expected: Option<&str>| {
            let found = place(mounts.as_bytes(), groups.as_bytes());
            assert_eq!(found.as_deref(), expected.map(Path::new), "{mounts} {groups}");
        };
        let pure = "24 1 0:2 / /proc rw - proc proc rw\n\
                    30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        case(
            pure,
            "0::/system.slice/shop.service\n",
            Some("/sys/fs/cgroup/system.slice/shop.service"),
        );
        case(pure, "0::/\n", Some("/sys/fs/cgroup"));
        case(pure, "4:memory:/x\n", None);
        let mixed = "30 24 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
                     31 30 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                     32 30 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        case(mixed, "4:memory:/x\n0::/a b\n", Some("/sys/fs/cgroup/unified/a b"));
        case("30 24 0:26 / /a rw - tmpfs tmpfs rw\n", "0::/a\n", None);
        // A part of the tree, at a place with a blank in its name.
        let part = "30 24 0:26 /box /my\\040groups rw - cgroup2 none rw\n";
        case(part, "0::/box/shop\n", Some("/my groups/shop"));
        case(part, "0::/boxes\n", Some("/my groups/boxes"));
        case("", "", None);
        case("\n30 24\n - cgroup2\n", "0::", None);
    }

    #[test]
    fn what_a_process_starts_is_in_its_group_and_is_killed_with_it() {
        let trial = Trial::new("kill");
        let pool = trial.0.make("pool").unwrap();
        let leaf = pool.make("worker").unwrap();
        // The second one leaves the session and the process group, and is nobody's child we know.
        let pid = shell("setsid sleep 1000 & wait", &leaf);
        wait_until(|| leaf.members().unwrap().len() == 2);
        assert!(leaf.members().unwrap().contains(&pid));
        assert!(pool.members().unwrap().is_empty());
        assert_eq!(leaf.remove().unwrap_err().kind(), io::ErrorKind::ResourceBusy);
        leaf.kill().unwrap();
        crate::sys::process::reap(pid).unwrap();
        wait_until(|| leaf.remove().is_ok());
        // Gone is gone.
        leaf.remove().unwrap();
        leaf.kill().unwrap();
        pool.remove().unwrap();
    }

    #[test]
    fn processes_are_killed_one_by_one_where_the_kernel_has_no_word_for_all() {
        let trial = Trial::new("each");
        let leaf = trial.0.make("a").unwrap().make("b").unwrap();
        let pid = shell("sleep 1000 & sleep 1000", &leaf);
        wait_until(|| leaf.members().unwrap().len() == 3);
        trial.0.kill_each().unwrap();
        crate::sys::process::reap(pid).unwrap();
        wait_until(|| leaf.members().unwrap().is_empty());
    }

    #[test]
    fn a_running_process_can_be_moved() {
        let trial = Trial::new("move");
        let (one, two) = (trial.0.make("one").unwrap(), trial.0.make("two").unwrap());
        assert_eq!(one.above("one"), Some(Group::at(trial.0.path().to_owned())));
        assert_eq!(one.above("two"), None);
        let pid = shell("exec sleep 1000", &one);
        two.take(pid).unwrap();
        assert_eq!((one.members().unwrap(), two.members().unwrap()), (vec![], vec![pid]));
        two.kill().unwrap();
        crate::sys::process::reap(pid).unwrap();
        two.take(pid).unwrap();
    }

    #[test]
    fn values_are_written_and_counts_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let group = Group::at(dir.path().to_owned());
        let file = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        file("memory.max", "");
        group.set("memory.max", "1048576").unwrap();
        assert_eq!(fs::read(dir.path().join("memory.max")).unwrap(), b"1048576");
        assert_eq!(group.set("pids.max", "9").unwrap_err().kind(), io::ErrorKind::NotFound);
        file("memory.events", "oom 3\noom_kill 2\noom_kill_x 7\n");
        assert_eq!(group.count("memory.events", "oom_kill"), Some(2));
        assert_eq!(group.count("memory.events", "max"), None);
        file("cgroup.controllers", "cpu memory\n");
        assert_eq!(group.controllers().unwrap(), ["cpu", "memory"]);
    }
}
