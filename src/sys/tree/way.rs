//! The way to a root: its own path, name by name, when whoever owns a part of it may be a stranger.
//!
//! Each name is opened without following it before anything is decided about it, and what is held at the end is what
//! was checked. So a link counts by the owner of what it led to in this walk, whatever is renamed meanwhile.

use super::walk::{DIRECTORY, LINK_LIMIT, STEP_LIMIT, is_link, reopen};
use super::{Facts, names, stated};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, readlinkat};
use nix::sys::stat::{Mode, fstat};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Which links may stand on the way to a root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// All.
    Any,
    /// Those of root, of this user, and of the owner of what they lead to.
    Owned(u32),
}

/// A link on the way to a root that is not followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StrayLink {
    /// Its owner could lead us to what is another's.
    #[error(
        "the link {link:?} belongs to user {owner}, and what it leads to belongs to user {target}: without symlinks = \
         \"follow\", a link on the way to a root must be of root's or of the owner of what it leads to"
    )]
    Owner {
        /// Where it is.
        link: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Whose that is what it leads to.
        target: u32,
    },
    /// One of those in /proc, which lead to whatever a process has open.
    #[error("{link:?} is a link in /proc, and those lead to no root without symlinks = \"follow\"")]
    Magic {
        /// Where it is.
        link: PathBuf,
    },
}

/// Why a root, or a file that has none, cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum NoRoot {
    /// A link forbids it.
    #[error(transparent)]
    Link(#[from] StrayLink),
    /// The system says no, or it is no directory.
    #[error(transparent)]
    System(#[from] io::Error),
}

impl NoRoot {
    /// The status for the client.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::Link(_) => 403,
            Self::System(_) => 500,
        }
    }
}

impl From<Errno> for NoRoot {
    fn from(errno: Errno) -> Self {
        Self::System(errno.into())
    }
}

/// Opens the file at an absolute path for reading, if it is a regular one.
///
/// # Errors
/// A link on the way is not followed, or the system says no.
pub fn open_file(path: &Path, trusted: u32) -> Result<(Facts, Option<File>), NoRoot> {
    let end = follow(path, trusted)?;
    let Some((name, facts)) = end.file else {
        return Ok((stated(&fstat(&end.directory)?), None));
    };
    if !facts.is_file() {
        return Ok((facts, None));
    }
    let file = reopen(end.directory.as_fd(), &name, &facts).map_err(io::Error::other)?;
    Ok((stated(&fstat(&file)?), Some(file)))
}

/// Opens the directory at an absolute path; with its path without links.
pub(super) fn open_directory(path: &Path, trusted: u32) -> Result<(OwnedFd, PathBuf), NoRoot> {
    let end = follow(path, trusted)?;
    match end.file {
        Some(_) => Err(Errno::ENOTDIR.into()),
        None => Ok((end.directory, end.real)),
    }
}

/// Where a way ends.
struct End {
    directory: OwnedFd,
    /// The path of the directory without links.
    real: PathBuf,
    /// The name in it that was reached, if that is no directory.
    file: Option<(Vec<u8>, Facts)>,
}

/// What is still to do, the next one last.
enum Step {
    Name(Vec<u8>),
    Up,
    /// Here a link's text ends, so that what was reached is what it leads to.
    EndOfLink {
        link: PathBuf,
        owner: u32,
    },
}

fn push(steps: &mut Vec<Step>, path: &[u8]) {
    let first = steps.len();
    steps.extend(names(path).map(|name| match name {
        b".." => Step::Up,
        name => Step::Name(name.to_owned()),
    }));
    if let Some(new) = steps.get_mut(first..) {
        new.reverse();
    }
}

fn top() -> Result<End, Errno> {
    Ok(End {
        directory: nix::fcntl::open("/", DIRECTORY, Mode::empty())?,
        real: PathBuf::from("/"),
        file: None,
    })
}

fn follow(path: &Path, trusted: u32) -> Result<End, NoRoot> {
    let (mut end, mut steps, mut links) = (top()?, Vec::new(), 0);
    push(&mut steps, path.as_os_str().as_bytes());
    for _ in 0..STEP_LIMIT {
        let name = match steps.pop() {
            None => return Ok(end),
            Some(Step::EndOfLink { link, owner }) => {
                check_owner(&end, link, owner, trusted)?;
                continue;
            }
            Some(_) if end.file.is_some() => return Err(Errno::ENOTDIR.into()),
            Some(Step::Up) => {
                end.directory = openat(&end.directory, "..", DIRECTORY, Mode::empty())?;
                end.real.pop();
                continue;
            }
            Some(Step::Name(name)) => name,
        };
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let found = openat(&end.directory, name.as_slice(), flags, Mode::empty())?;
        let stat = fstat(&found)?;
        let facts = stated(&stat);
        let place = || end.real.join(OsStr::from_bytes(&name));
        if is_link(&stat) {
            links += 1;
            if links > LINK_LIMIT {
                break;
            }
            if fstatfs(&found)?.filesystem_type() == PROC_SUPER_MAGIC {
                return Err(StrayLink::Magic { link: place() }.into());
            }
            let (link, owner) = (place(), stat.st_uid);
            steps.push(Step::EndOfLink { link, owner });
            let text = readlinkat(&found, "")?;
            if text.as_bytes().starts_with(b"/") {
                end = top()?;
            }
            push(&mut steps, text.as_bytes());
        } else if facts.is_directory() {
            end.real = place();
            end.directory = found;
        } else {
            end.file = Some((name, facts));
        }
    }
    Err(Errno::ELOOP.into())
}

fn check_owner(end: &End, link: PathBuf, owner: u32, trusted: u32) -> Result<(), NoRoot> {
    let target = match &end.file {
        Some((_, facts)) => facts.user,
        None => fstat(&end.directory)?.st_uid,
    };
    if [0, trusted, target].contains(&owner) {
        return Ok(());
    }
    Err(StrayLink::Owner { link, owner, target }.into())
}
