//! What is known about a file, as `sys::tree` finds it and `files` describes it to clients.
//!
//! Never here: the file's name, and how it is looked up.

/// What stands under a name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file: its bytes are there without waiting for anybody.
    #[default]
    File,
    /// A directory.
    Directory,
    /// A device, a FIFO or a socket. Never sent, never run.
    Other,
}

/// What is known about a file. Links have been followed: these are the facts of what they lead to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// What it is.
    pub kind: FileKind,
    /// Its size in bytes.
    pub size: u64,
    /// When its content changed last: seconds since 1970, negative before.
    pub modified: i64,
    /// And nanoseconds, below 1,000,000,000.
    pub nanoseconds: u32,
    /// With `device`, which file it is, whatever its names.
    pub inode: u64,
    /// The file system it is on.
    pub device: u64,
    /// Permission bits, `0o7777` at most.
    pub mode: u32,
    /// Its owner.
    pub user: u32,
    /// Its group.
    pub group: u32,
}

impl Facts {
    /// True for a regular file.
    #[must_use]
    pub fn is_file(&self) -> bool {
        self.kind == FileKind::File
    }

    /// True for a directory.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        self.kind == FileKind::Directory
    }

    /// True for a regular file that at least one of owner, group and others may execute.
    #[must_use]
    pub fn is_executable(&self) -> bool {
        self.is_file() && self.mode & 0o111 != 0
    }

    /// True if both name the same file.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}
