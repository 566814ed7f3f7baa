//! A lookup name by name, for links that leave the root and for kernels without openat2(2).
//!
//! Each name is opened without following it before anything is decided about it, so what was checked is what is used.
//! A link is expanded by its text: the magic links of /proc are refused, since their text is not where they lead.
//!
//! The owner rule: a link that leaves the root, every link met outside, and every link by which those were reached,
//! must belong to the owner of what it leads to, as with Apache's SymLinksIfOwnerMatch. An absolute link into the root
//! does not leave it; a relative one that goes above the root does, even if it comes back.

use super::{Facts, Missing, READ, Tree, below, facts, names};
use crate::base::file::FileKind;
use crate::base::site::Symlinks;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

/// Links that are followed in one lookup, as in the kernel.
pub(super) const LINK_LIMIT: usize = 40;
/// Names that are looked at in one lookup, those of links included: links could otherwise keep us busy.
pub(super) const STEP_LIMIT: usize = 4096;
/// Directories that are held at once.
const DEPTH_LIMIT: usize = 256;

/// Where a walk ended.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) facts: Facts,
    /// The directory that holds it, and its name there, unless it is a directory itself.
    holder: Option<(OwnedFd, Vec<u8>)>,
}

impl Place {
    /// Opens it for reading if it is a regular file.
    pub(super) fn open(self) -> Result<(Facts, Option<File>), Missing> {
        match self.holder {
            Some((directory, name)) if self.facts.is_file() => {
                let file = reopen(directory.as_fd(), &name, &self.facts)?;
                // The facts anew: it may have grown since.
                Ok((facts(&file)?, Some(file)))
            }
            _ => Ok((self.facts, None)),
        }
    }
}

/// Opens `name`, which must still be the file that was looked at.
pub(super) fn reopen(directory: BorrowedFd<'_>, name: &[u8], expected: &Facts) -> Result<File, Missing> {
    let flags = READ | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = match openat(directory, name, flags, Mode::empty()) {
        Ok(file) => file,
        // It is a link by now.
        Err(Errno::ELOOP) => return Err(Missing::NotFound),
        Err(errno) => return Err(errno.into()),
    };
    if !facts(&file)?.is_same(expected) {
        return Err(Missing::NotFound);
    }
    Ok(file.into())
}

/// Looks `path` up, which is relative and has no `..`.
pub(super) fn walk(tree: &Tree, path: &[u8], symlinks: Symlinks) -> Result<Place, Missing> {
    let mut walk = Walk {
        tree,
        symlinks,
        held: Vec::new(),
        outside: None,
        end: None,
        steps: Vec::new(),
        links: 0,
    };
    walk.push(names(path), demands_directory(path));
    for _ in 0..STEP_LIMIT {
        match walk.steps.pop() {
            None => return walk.finish(),
            Some(step) => walk.take(step)?,
        }
    }
    Err(Missing::Endless)
}

/// What is still to do.
#[derive(Debug)]
enum Step {
    /// Go to this name.
    Name(Vec<u8>),
    /// Go up.
    Up,
    /// What was reached must be a directory: a slash stood behind it.
    Directory,
    /// Here a link's text ends, so that what was reached is what it leads to.
    EndOfLink {
        /// The link's owner.
        owner: u32,
        /// It leads out of the root.
        leaves: bool,
    },
}

struct Walk<'t> {
    tree: &'t Tree,
    symlinks: Symlinks,
    /// The directories from below the root to where we are; empty = the root.
    held: Vec<OwnedFd>,
    /// Where we are if that is not in the root.
    outside: Option<OwnedFd>,
    /// What was reached if it is no directory: its name where we are.
    end: Option<(Vec<u8>, Facts)>,
    /// The next one last.
    steps: Vec<Step>,
    links: usize,
}

impl Walk<'_> {
    fn here(&self) -> BorrowedFd<'_> {
        let held = self.outside.as_ref().or(self.held.last());
        held.unwrap_or(&self.tree.root).as_fd()
    }

    /// Puts names before everything else that is to do.
    fn push<'n>(&mut self, names: impl IntoIterator<Item = &'n [u8]>, is_directory: bool) {
        if is_directory {
            self.steps.push(Step::Directory);
        }
        let step = |name: &[u8]| match name {
            b".." => Step::Up,
            name => Step::Name(name.to_owned()),
        };
        let first = self.steps.len();
        self.steps.extend(names.into_iter().map(step));
        if let Some(new) = self.steps.get_mut(first..) {
            new.reverse();
        }
    }

    fn take(&mut self, step: Step) -> Result<(), Missing> {
        match step {
            Step::EndOfLink { owner, leaves } => self.check_owner(owner, leaves),
            _ if self.end.is_some() => Err(Missing::NotADirectory),
            Step::Directory => Ok(()),
            Step::Up => self.go_up(),
            Step::Name(name) => self.go_to(name),
        }
    }

    fn go_up(&mut self) -> Result<(), Missing> {
        if self.outside.is_none() {
            if self.held.pop().is_some() {
                return Ok(());
            }
            self.leave()?;
        }
        self.outside = Some(openat(self.here(), "..", DIRECTORY, Mode::empty())?);
        Ok(())
    }

    /// The root is being left: each link whose text is being followed leads out.
    fn leave(&mut self) -> Result<(), Missing> {
        if self.symlinks == Symlinks::Inside {
            return Err(Missing::Escapes);
        }
        for step in &mut self.steps {
            if let Step::EndOfLink { leaves, .. } = step {
                *leaves = true;
            }
        }
        Ok(())
    }

    fn go_to(&mut self, name: Vec<u8>) -> Result<(), Missing> {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let found = openat(self.here(), name.as_slice(), flags, Mode::empty())?;
        let stat = fstat(&found)?;
        if is_link(&stat) {
            return self.follow(&found, stat.st_uid);
        }
        let facts = super::stated(&stat);
        match facts.kind {
            FileKind::File | FileKind::Other => self.end = Some((name, facts)),
            FileKind::Directory if self.outside.is_some() => self.outside = Some(found),
            FileKind::Directory if self.held.len() == DEPTH_LIMIT => return Err(Missing::Endless),
            FileKind::Directory => self.held.push(found),
        }
        Ok(())
    }

    fn follow(&mut self, link: &OwnedFd, owner: u32) -> Result<(), Missing> {
        self.links += 1;
        if self.links > LINK_LIMIT {
            return Err(Missing::Endless);
        }
        if fstatfs(link)?.filesystem_type() == PROC_SUPER_MAGIC {
            return Err(Missing::Escapes);
        }
        let text = readlinkat(link, "")?;
        let text = text.as_bytes();
        let leaves = self.outside.is_some();
        self.steps.push(Step::EndOfLink { owner, leaves });
        let is_directory = demands_directory(text);
        if !text.starts_with(b"/") {
            self.push(names(text), is_directory);
            return Ok(());
        }
        let roots = [Some(&self.tree.path), self.tree.real.as_ref()];
        let inside = roots.into_iter().flatten().find_map(|root| below(text, root));
        if let Some(rest) = inside {
            self.outside = None;
            self.held.clear();
            self.push(rest, is_directory);
            return Ok(());
        }
        self.leave()?;
        self.outside = Some(nix::fcntl::open("/", DIRECTORY, Mode::empty())?);
        self.push(names(text), is_directory);
        Ok(())
    }

    fn check_owner(&self, owner: u32, leaves: bool) -> Result<(), Missing> {
        if !leaves || self.symlinks == Symlinks::Follow {
            return Ok(());
        }
        let target = match &self.end {
            Some((_, facts)) => facts.user,
            None => fstat(self.here())?.st_uid,
        };
        if target == owner { Ok(()) } else { Err(Missing::Escapes) }
    }

    fn finish(mut self) -> Result<Place, Missing> {
        let Some((name, facts)) = self.end.take() else {
            return Ok(Place {
                facts: facts(self.here())?,
                holder: None,
            });
        };
        let directory = match self.outside.or_else(|| self.held.pop()) {
            Some(directory) => directory,
            None => super::super::output::duplicate(&self.tree.root).map_err(Missing::Other)?,
        };
        Ok(Place {
            facts,
            holder: Some((directory, name)),
        })
    }
}

/// How a directory on the way is opened.
pub(super) const DIRECTORY: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);

fn demands_directory(path: &[u8]) -> bool {
    path.ends_with(b"/") || path.ends_with(b"/.")
}

pub(super) fn is_link(stat: &FileStat) -> bool {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFLNK
}
