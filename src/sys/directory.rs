//! A directory held by descriptor: what is done in it happens there, whatever becomes of its name.
//!
//! For root in directories of others: no link is followed, and no open waits for the other end of a pipe.

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fchmod, fstat};
use nix::unistd::{Gid, UnlinkatFlags, fchown, unlinkat};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

/// An open directory.
#[derive(Debug)]
pub struct Directory {
    descriptor: OwnedFd,
}

impl Directory {
    /// Opens the directory at `path`; a link to one is refused.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let descriptor = nix::fcntl::open(path, flags, Mode::empty())?;
        Ok(Self { descriptor })
    }

    /// Its owner.
    pub fn owner(&self) -> io::Result<u32> {
        Ok(fstat(&self.descriptor)?.st_uid)
    }

    /// False once it was removed.
    pub fn has_name(&self) -> io::Result<bool> {
        Ok(fstat(&self.descriptor)?.st_nlink > 0)
    }

    /// Lets a group go through it to names that it knows; only its owner lists and changes it.
    pub fn let_through(&self, group: u32) -> io::Result<()> {
        fchown(&self.descriptor, None, Some(Gid::from_raw(group)))?;
        Ok(fchmod(&self.descriptor, Mode::from_bits_truncate(0o710))?)
    }

    /// The names in it.
    pub fn names(&self) -> io::Result<Vec<OsString>> {
        let entries = std::fs::read_dir(format!("/proc/self/fd/{}", self.descriptor.as_raw_fd()))?;
        entries.map(|entry| Ok(entry?.file_name())).collect()
    }

    /// Opens or, with `create`, makes a file in it, readable and writable by its owner only.
    pub fn file(&self, name: &str, create: bool) -> io::Result<File> {
        let mut flags = OFlag::O_RDWR | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        flags.set(OFlag::O_CREAT | OFlag::O_EXCL, create);
        let file = openat(&self.descriptor, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?;
        Ok(File::from(file))
    }

    /// Removes a name that is no directory.
    pub fn remove(&self, name: &OsStr) -> io::Result<()> {
        Ok(unlinkat(&self.descriptor, name, UnlinkatFlags::NoRemoveDir)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_not_followed_and_removal_reaches_the_directory_itself() {
        let dir = tempfile::tempdir().unwrap();
        let (real, moved) = (dir.path().join("real"), dir.path().join("moved"));
        std::fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(&real, dir.path().join("link")).unwrap();
        assert!(Directory::open(&dir.path().join("link")).is_err());

        let held = Directory::open(&real).unwrap();
        held.file("a", true).unwrap();
        assert!(held.file("a", true).is_err());
        std::os::unix::fs::symlink("/dev/zero", real.join("b")).unwrap();
        assert!(held.file("b", false).is_err());
        std::fs::rename(&real, &moved).unwrap();
        let mut names = held.names().unwrap();
        names.sort();
        assert_eq!(names, ["a", "b"]);
        held.remove(OsStr::new("a")).unwrap();
        assert!(!moved.join("a").exists());
        assert_eq!(held.owner().unwrap(), crate::sys::process::own_user());
    }
}
