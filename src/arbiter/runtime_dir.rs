//! The private directory of worker sockets, `rgunicorn-<pid>-<random>`, and what dead arbiters left of theirs.
//!
//! Under root it belongs to root, and a group that nobody else has lets the front through, and no script of its user.
//! A lock on a file in it tells the living from the dead: unlike a pid it means the same in every container.

use super::Arbiter;
use crate::logging::NONE;
use crate::sys::account;
use crate::sys::directory::Directory;
use crate::sys::process::{is_alive, own_user};
use std::ffi::OsStr;
use std::fs::{DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

const PREFIX: &str = "rgunicorn-";
const LOCK: &str = "lock";

/// A directory that is ours until dropped.
#[derive(Debug)]
pub(super) struct RuntimeDir {
    path: PathBuf,
    access: Access,
    directory: Directory,
    _lock: File,
    /// Why it has no group for the front.
    refusal: Option<io::Error>,
}

/// Who gets to the sockets besides us.
#[derive(Clone, Copy, Debug)]
enum Access {
    /// Nobody else.
    Ours,
    /// A user, with the user's group.
    User(u32, u32),
    /// Members of a group, by names that they know.
    Group(u32),
}

impl RuntimeDir {
    /// Makes a directory for a front of `owner` (user and group), after removing what the dead left in `parent`.
    pub(super) fn create(parent: &Path, pid: u32, seed: u64, owner: Option<(u32, u32)>) -> io::Result<Self> {
        remove_stale(parent, owner);
        let mut random = fastrand::Rng::with_seed(seed);
        let mut attempts = 0;
        let path = loop {
            let tail: String = std::iter::repeat_with(|| random.alphanumeric()).take(4).collect();
            let path = parent.join(format!("{PREFIX}{pid}-{tail}"));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => break path,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempts < 16 => attempts += 1,
                Err(error) => return Err(error),
            }
        };
        let group = owner
            .filter(|_| own_user() == 0)
            .map(|_| account::spare_group(&mut random));
        let (directory, lock) = take(&path)?;
        let user = owner.map_or(Access::Ours, |(user, group)| Access::User(user, group));
        let (mut access, mut refusal) = (group.map_or(user, Access::Group), None);
        if let Err(error) = give(&path, &directory, access) {
            // A user namespace may not know the number.
            if group.is_none() {
                return Err(error);
            }
            (access, refusal) = (user, Some(error));
            give(&path, &directory, access)?;
        }
        Ok(Self {
            path,
            access,
            directory,
            _lock: lock,
            refusal,
        })
    }

    /// Makes it again if somebody has removed it, as cleaners of temporary directories do. True if that was so.
    pub(super) fn restore(&mut self) -> io::Result<bool> {
        if self.directory.has_name()? {
            return Ok(false);
        }
        DirBuilder::new().mode(0o700).create(&self.path)?;
        (self.directory, self._lock) = take(&self.path)?;
        give(&self.path, &self.directory, self.access)?;
        Ok(true)
    }

    /// The groups that a front must have besides its own.
    pub(super) fn groups(&self) -> Vec<u32> {
        match self.access {
            Access::Group(group) => vec![group],
            Access::Ours | Access::User(..) => Vec::new(),
        }
    }

    /// Why every process of the front's user gets to the sockets, if that is so against our will.
    pub(super) fn refusal(&self) -> Option<&io::Error> {
        self.refusal.as_ref()
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes a file in it. The owner of the directory may have moved it, so the path is not trusted.
    pub(super) fn remove(&self, path: &Path) {
        let _ = self.directory.remove(path.file_name().unwrap_or_default());
    }
}

impl Arbiter {
    /// Sees to it that workers have a place for their sockets, whatever has become of it.
    pub(super) fn keep_runtime_dir(&mut self) {
        let restored = self.runtime_dir.restore();
        let path = self.runtime_dir.path().display();
        match restored {
            Ok(false) => {}
            Ok(true) => {
                let line = format_args!("{path} was removed by somebody, and is made again: cleaners should spare it");
                self.log.warning(&NONE, line);
            }
            Err(error) => {
                let line = format_args!("{path} was removed by somebody, and cannot be made again: {error}");
                self.log.error(&NONE, line);
            }
        }
    }
}

impl Drop for RuntimeDir {
    fn drop(&mut self) {
        remove(&self.path, &self.directory);
    }
}

/// Takes possession of a directory that was just made.
fn take(path: &Path) -> io::Result<(Directory, File)> {
    let directory = Directory::open(path)?;
    let lock = directory.file(LOCK, true)?;
    lock.lock()?;
    Ok((directory, lock))
}

fn give(path: &Path, directory: &Directory, access: Access) -> io::Result<()> {
    match access {
        Access::Ours => Ok(()),
        Access::User(user, group) => std::os::unix::fs::lchown(path, Some(user), Some(group)),
        Access::Group(group) => directory.let_through(group),
    }
}

/// Removes directories of our form that belong to us and that no living arbiter holds.
fn remove_stale(parent: &Path, owner: Option<(u32, u32)>) {
    let Ok(entries) = std::fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(pid_of) else {
            continue;
        };
        let Ok(directory) = Directory::open(&entry.path()) else {
            continue;
        };
        let is_ours = |user: u32| user == own_user() || owner.is_some_and(|(owner, _)| owner == user);
        if directory.owner().is_ok_and(is_ours) && is_abandoned(&directory, pid) {
            remove(&entry.path(), &directory);
        }
    }
}

fn pid_of(name: &str) -> Option<i32> {
    let (pid, tail) = name.strip_prefix(PREFIX)?.split_once('-')?;
    let pid = pid.parse().ok()?;
    (tail.len() == 4).then_some(pid)
}

fn is_abandoned(directory: &Directory, pid: i32) -> bool {
    match directory.file(LOCK, false) {
        Ok(lock) => !matches!(lock.try_lock(), Err(TryLockError::WouldBlock)),
        // Its maker is about to lock it, or died before it could.
        Err(_) => !is_alive(pid),
    }
}

/// Removes what arbiters put there, and the directory if nothing else is in it.
fn remove(path: &Path, directory: &Directory) {
    let is_put_there = |name: &OsStr| {
        let name = name.to_string_lossy();
        name == LOCK || (name.starts_with('w') && name.ends_with(".sock"))
    };
    for name in directory.names().unwrap_or_default() {
        if is_put_there(&name) {
            let _ = directory.remove(&name);
        }
    }
    let _ = std::fs::remove_dir(path);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_directory_is_private_and_leaves_nothing_behind() {
        let parent = tempfile::tempdir().unwrap();
        let dir = RuntimeDir::create(parent.path(), 7, 1, None).unwrap();
        let mode = std::fs::metadata(dir.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        std::fs::write(dir.path().join("w3.sock"), "").unwrap();
        drop(dir);
        assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_directory_that_was_removed_is_made_again_and_is_as_private() {
        let parent = tempfile::tempdir().unwrap();
        let mut dir = RuntimeDir::create(parent.path(), 7, 1, None).unwrap();
        assert!(!dir.restore().unwrap());
        std::fs::remove_dir_all(dir.path()).unwrap();
        assert!(dir.restore().unwrap());
        assert!(!dir.restore().unwrap());
        let mode = std::fs::metadata(dir.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        let _second = RuntimeDir::create(parent.path(), 8, 2, None).unwrap();
        assert!(dir.path().exists(), "it is locked like the first");
        let path = dir.path().to_owned();
        drop(dir);
        assert!(!path.exists());
    }

    #[test]
    fn the_living_keep_theirs_and_the_dead_lose_it() {
        let parent = tempfile::tempdir().unwrap();
        let living = RuntimeDir::create(parent.path(), 999_999_999, 1, None).unwrap();
        let dead = parent.path().join("rgunicorn-999999998-abcd");
        let unrelated = parent.path().join("rgunicorn-abcd");
        let unlocked = parent.path().join(format!("rgunicorn-{}-abcd", std::process::id()));
        for path in [&dead, &unrelated, &unlocked] {
            std::fs::create_dir(path).unwrap();
        }
        std::fs::write(dead.join(LOCK), "").unwrap();
        std::fs::write(dead.join("w1.sock"), "").unwrap();
        let _second = RuntimeDir::create(parent.path(), 7, 2, None).unwrap();
        assert!(living.path().exists());
        assert!(unrelated.exists() && unlocked.exists());
        assert!(!dead.exists());
    }

    #[test]
    fn what_others_put_there_is_never_removed() {
        let parent = tempfile::tempdir().unwrap();
        let dead = parent.path().join("rgunicorn-999999999-abcd");
        std::fs::create_dir(&dead).unwrap();
        std::fs::write(dead.join("precious"), "").unwrap();
        let _dir = RuntimeDir::create(parent.path(), 7, 1, None).unwrap();
        assert!(dead.join("precious").exists());
    }
}
