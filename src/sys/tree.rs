//! Looking up and opening what a path names below a root directory, without ever getting out of it by accident.
//!
//! ```text
//! let tree = Tree::open(Path::new("/srv/www"), Way::Owned(own_user()))?;
//! match tree.open_file(b"/a/b.html", Symlinks::Owner) {
//!     Ok((facts, Some(file))) => ...                      // a regular file, opened for reading
//!     Ok((facts, None)) => ...                            // a directory, a device, a FIFO, a socket
//!     Err(Missing::NotADirectory) => ...                  // `/a` is a file: perhaps a script, and `/b.html` its PATH_INFO
//!     Err(missing) => ...                                 // `missing.status()` is for the client, its text for the log
//! }
//! ```
//!
//! A path is bytes as they came from the URL, decoded: slashes at its start, double ones and `.` mean nothing, `..` is
//! refused, and a slash at its end demands a directory.
//!
//! The kernel does the work in one call (openat2(2) with RESOLVE_BENEATH), so nothing that is renamed or linked
//! meanwhile leads out. Only where a link seems to leave the root, or the kernel has no such call (Linux before 5.6,
//! and some containers), the path is walked name by name (`tree/walk.rs`), with every name held by a descriptor before
//! anything is decided about it.
//!
//! Nothing here waits for the other end of a FIFO or for a device, and the magic links of /proc are never followed:
//! they lead to whatever a process has open, past all permissions.
//!
//! The path of the root itself may lead through directories of strangers: `tree/way.rs` says which links count there.
//!
//! Never here: URLs, which names are hidden, what a file means.

mod walk;
mod way;

pub use way::{NoRoot, StrayLink, Way, open_file};

use crate::base::file::{Facts, FileKind};
use crate::base::site::Symlinks;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The longest path that is looked up, in bytes: PATH_MAX without the NUL. Longer ones name nothing.
pub const PATH_LIMIT: usize = 4095;

/// How often a lookup that was disturbed by a rename is begun again before it is walked.
const RETRIES: usize = 4;

/// A root directory, held by descriptor: lookups happen there, whatever becomes of its name. See
/// [`refresh`](Self::refresh).
#[derive(Debug)]
pub struct Tree {
    /// As configured.
    path: PathBuf,
    way: Way,
    /// O_PATH.
    root: OwnedFd,
    /// Its path without links, for absolute links that lead back into it.
    real: Option<PathBuf>,
    /// The kernel has openat2(2) and lets us use it.
    by_kernel: bool,
}

/// Why a path names nothing that may be served.
#[derive(Debug, thiserror::Error)]
pub enum Missing {
    /// Nothing has this name; also a name that no file can have (too long, or with a NUL byte).
    #[error("no such file")]
    NotFound,
    /// A file stands where the path needs a directory: `file/rest`, `file/`.
    #[error("a part of the path is a file, not a directory")]
    NotADirectory,
    /// The permissions of the file or of a directory on the way forbid it.
    #[error("permission denied")]
    Denied,
    /// The path itself has `..`.
    #[error("a path with `..` is not looked up")]
    GoesUp,
    /// A link leaves the root and may not be followed: by the policy, because its owner is not the owner of what it
    /// leads to, or because it is one of the magic links of /proc.
    #[error("a link on the way leads out of the root and may not be followed")]
    Escapes,
    /// The same for a link on the way to the root.
    #[error(transparent)]
    Astray(StrayLink),
    /// More links, or more directories, than are followed. Mostly links that lead in a circle.
    #[error("there is a loop of symbolic links on the way, or too many in a row")]
    Endless,
    /// The system failed: no descriptors or memory left, a broken disk.
    #[error("cannot be looked up")]
    Other(#[source] io::Error),
}

impl Missing {
    /// The status for the client. What is refused for its links looks like what is not there for its permissions: 403.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::NotFound | Self::NotADirectory => 404,
            Self::Denied | Self::GoesUp | Self::Escapes | Self::Astray(_) | Self::Endless => 403,
            Self::Other(_) => 500,
        }
    }
}

impl From<NoRoot> for Missing {
    fn from(error: NoRoot) -> Self {
        match error {
            NoRoot::Link(link) => Self::Astray(link),
            NoRoot::System(error) => Self::Other(error),
        }
    }
}

impl From<Errno> for Missing {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::ENOENT | Errno::ENAMETOOLONG | Errno::EILSEQ => Self::NotFound,
            Errno::ENOTDIR => Self::NotADirectory,
            Errno::EACCES | Errno::EPERM => Self::Denied,
            Errno::EXDEV => Self::Escapes,
            Errno::ELOOP => Self::Endless,
            other => Self::Other(other.into()),
        }
    }
}

impl Tree {
    /// Holds the directory at `root`, an absolute path, which may have links as `way` says.
    ///
    /// # Errors
    /// It is not there, is no directory, may not be entered, or a link on the way is not followed.
    pub fn open(root: &Path, way: Way) -> Result<Self, NoRoot> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let (descriptor, real) = match way {
            Way::Any => (nix::fcntl::open(root, flags, Mode::empty())?, root.canonicalize().ok()),
            Way::Owned(trusted) => {
                let (descriptor, real) = way::open_directory(root, trusted)?;
                (descriptor, Some(real))
            }
        };
        let how = OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_BENEATH);
        // ENOSYS from old kernels, EPERM from the filters of old container runtimes. A root that may not be entered
        // (EACCES) says so at each lookup.
        let by_kernel = !matches!(
            openat2(&descriptor, ".", how),
            Err(Errno::ENOSYS | Errno::EPERM | Errno::EINVAL | Errno::E2BIG)
        );
        Ok(Self {
            path: root.to_owned(),
            way,
            real,
            root: descriptor,
            by_kernel,
        })
    }

    /// The path it was opened by.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its path without links, if it could be found.
    #[must_use]
    pub fn real_path(&self) -> Option<&Path> {
        self.real.as_deref()
    }

    /// Opens the root anew if its path names another directory by now; true if it did. For deployments that switch a
    /// link or rename a directory. One stat(2): call it now and then, such as once a second or before each request.
    /// The directory that is held was once found by links that count, so another way to it is as good.
    ///
    /// # Errors
    /// The path names no directory (any more), or a link on the way is not followed; the old one stays in use.
    pub fn refresh(&mut self) -> Result<bool, NoRoot> {
        let (now, held) = (self.path.metadata()?, fstat(&self.root)?);
        if (now.dev(), now.ino()) == (held.st_dev, held.st_ino) {
            return Ok(false);
        }
        *self = Self::open(&self.path, self.way)?;
        Ok(true)
    }

    /// What `path` names. Needs no permission to read it: scripts may be executable only.
    ///
    /// # Errors
    /// It names nothing that may be served.
    pub fn look(&self, path: &[u8], symlinks: Symlinks) -> Result<Facts, Missing> {
        match self.direct(path, symlinks, OFlag::O_PATH)? {
            Some(descriptor) => facts(&descriptor),
            None => Ok(self.walk(path, symlinks)?.facts),
        }
    }

    /// True if nothing has this name, which costs less to ask than an open that fails. False means nothing.
    #[must_use]
    pub fn is_absent(&self, path: &[u8]) -> bool {
        let start = path.iter().position(|byte| *byte != b'/').unwrap_or(path.len());
        let name = path.get(start..).unwrap_or_default();
        // An empty one names the root, but not for the system.
        !name.is_empty() && fstatat(&self.root, name, AtFlags::AT_SYMLINK_NOFOLLOW) == Err(Errno::ENOENT)
    }

    /// What `path` names, opened for reading if it is a regular file.
    ///
    /// The facts are those of the open file, not of a file that had the name a moment ago. The descriptor is
    /// close-on-exec, and O_NONBLOCK, which means nothing to a regular file.
    ///
    /// # Errors
    /// It names nothing that may be served, or a regular file that may not be read.
    pub fn open_file(&self, path: &[u8], symlinks: Symlinks) -> Result<(Facts, Option<File>), Missing> {
        match self.direct(path, symlinks, READ) {
            Ok(Some(descriptor)) => {
                let facts = facts(&descriptor)?;
                Ok((facts, facts.is_file().then(|| File::from(descriptor))))
            }
            Ok(None) => self.walk(path, symlinks)?.open(),
            // A directory that may be entered but not listed, and what cannot be opened at all, such as a socket.
            Err(Refusal { missing, passing: true }) => {
                let facts = self.look(path, symlinks)?;
                if facts.is_file() {
                    Err(missing)
                } else {
                    Ok((facts, None))
                }
            }
            Err(refusal) => Err(refusal.missing),
        }
    }

    /// The file that a beginning of `path` names, and how many bytes of `path` that is: for scripts, where the rest is
    /// PATH_INFO. `/a/b.cgi/c/d` gives 8 if `/a` is a directory and `/a/b.cgi` is none.
    ///
    /// The rest is empty or starts with a slash. A path that names a directory gives its facts and its whole length.
    ///
    /// # Errors
    /// No beginning of it names a file that may be served.
    pub fn look_along(&self, path: &[u8], symlinks: Symlinks) -> Result<(usize, Facts), Missing> {
        match self.look(path, symlinks) {
            Err(Missing::NotADirectory) => {}
            result => return Ok((path.len(), result?)),
        }
        // No more lookups than there are directories before the file.
        for (end, window) in path.windows(2).enumerate() {
            if let [name, b'/'] = window
                && *name != b'/'
            {
                let end = end + 1;
                let facts = self.look(path.get(..end).unwrap_or(path), symlinks)?;
                if !facts.is_directory() {
                    return Ok((end, facts));
                }
            }
        }
        Err(Missing::NotADirectory)
    }

    /// One call of the kernel; `None` if the path has to be walked.
    fn direct(&self, path: &[u8], symlinks: Symlinks, flags: OFlag) -> Result<Option<OwnedFd>, Refusal> {
        let path = relative(path)?;
        if !self.by_kernel {
            return Ok(None);
        }
        let resolve = match symlinks {
            Symlinks::Inside | Symlinks::Owner => ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS,
            Symlinks::Follow => ResolveFlag::RESOLVE_NO_MAGICLINKS,
        };
        let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve);
        for _ in 0..RETRIES {
            match openat2(&self.root, path, how) {
                Ok(descriptor) => return Ok(Some(descriptor)),
                Err(Errno::EINTR | Errno::EAGAIN) => {}
                Err(Errno::EXDEV | Errno::ELOOP) => return Ok(None),
                Err(errno) => {
                    return Err(Refusal {
                        passing: matches!(errno, Errno::EACCES | Errno::EPERM | Errno::ENXIO | Errno::ENODEV),
                        missing: errno.into(),
                    });
                }
            }
        }
        Ok(None)
    }

    fn walk(&self, path: &[u8], symlinks: Symlinks) -> Result<walk::Place, Missing> {
        walk::walk(self, relative(path)?, symlinks)
    }
}

/// How a file is opened to be read: FIFOs and devices do not make us wait, and no terminal becomes ours.
const READ: OFlag = OFlag::O_RDONLY.union(OFlag::O_NONBLOCK).union(OFlag::O_NOCTTY);

/// Why the kernel's lookup failed, and whether looking without opening may say more.
struct Refusal {
    missing: Missing,
    passing: bool,
}

impl From<Missing> for Refusal {
    fn from(missing: Missing) -> Self {
        Self {
            missing,
            passing: false,
        }
    }
}

impl From<Refusal> for Missing {
    fn from(refusal: Refusal) -> Self {
        refusal.missing
    }
}

/// The path as the kernel takes it: not empty, not absolute, without `..`.
fn relative(path: &[u8]) -> Result<&[u8], Missing> {
    let start = path.iter().take_while(|byte| **byte == b'/').count();
    let path = path.get(start..).unwrap_or_default();
    if path.len() > PATH_LIMIT || path.contains(&0) {
        return Err(Missing::NotFound);
    }
    if path.split(|byte| *byte == b'/').any(|name| name == b"..") {
        return Err(Missing::GoesUp);
    }
    Ok(if path.is_empty() { b"." } else { path })
}

/// The facts of what is open.
fn facts(descriptor: impl AsFd) -> Result<Facts, Missing> {
    Ok(stated(&fstat(descriptor)?))
}

fn stated(stat: &FileStat) -> Facts {
    let kind = match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
        SFlag::S_IFREG => FileKind::File,
        SFlag::S_IFDIR => FileKind::Directory,
        _ => FileKind::Other,
    };
    Facts {
        kind,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        modified: stat.st_mtime,
        nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
        inode: stat.st_ino,
        device: stat.st_dev,
        mode: stat.st_mode & 0o7777,
        user: stat.st_uid,
        group: stat.st_gid,
    }
}

/// The names of an absolute path, without empty ones and `.`.
fn names(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/')
        .filter(|name| !name.is_empty() && *name != b".")
}

/// What follows `root` in `path`, both absolute, name by name; `None` if `path` does not lie in it.
fn below<'p>(path: &'p [u8], root: &Path) -> Option<Vec<&'p [u8]>> {
    let mut rest = names(path);
    for name in names(root.as_os_str().as_bytes()) {
        if rest.next()? != name {
            return None;
        }
    }
    Some(rest.collect())
}

#[cfg(test)]
mod tests;
