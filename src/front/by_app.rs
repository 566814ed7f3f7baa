//! Files that apps name in their responses (X-Sendfile, X-Accel-Redirect): found in the directories that the
//! configuration allows, and sent in the place of what the app has sent.
//!
//! Never here: which fields count and which stay (`crate::files::by_app`), which links are followed (`sys::tree`).

use super::event_loop::Front;
use super::exchange::{Exchange, Stage};
use super::files::{detail, types};
use super::routing::{Root, way};
use crate::base::file::Facts;
use crate::base::level::Level;
use crate::base::message::RequestHead;
use crate::base::site::{Files, Symlinks};
use crate::cgi::vars::decode_path;
use crate::files::by_app::{self, Naming, Wish, below};
use crate::files::{self, Boundary, Coding, Representation};
use crate::logging::escape;
use crate::sys::clock;
use crate::sys::tree::{self, Missing, NoRoot, Tree, Way};
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Directories that are held open; one more, and all are opened anew.
const DIRECTORIES: usize = 256;

/// Directories that apps name files in, and those of error pages, held open once they were needed. Found by their paths,
/// so that they do not depend on which sites there are.
#[derive(Debug)]
pub(super) struct Directories {
    arbiter: u32,
    /// Of sites that follow all links.
    follow: HashMap<PathBuf, Root>,
    /// Of all others.
    owned: HashMap<PathBuf, Root>,
}

impl Directories {
    /// None yet, under an arbiter of this user.
    pub(super) fn new(arbiter: u32) -> Self {
        Self {
            arbiter,
            follow: HashMap::new(),
            owned: HashMap::new(),
        }
    }

    pub(super) fn get(&mut self, path: &Path, symlinks: Symlinks, now: Instant) -> Result<&Tree, NoRoot> {
        let way = way(symlinks, self.arbiter);
        let known = match way {
            Way::Any => &mut self.follow,
            Way::Owned(_) => &mut self.owned,
        };
        if !known.contains_key(path) {
            if known.len() >= DIRECTORIES {
                known.clear();
            }
            known.insert(path.to_owned(), Root::new(path.to_owned(), way));
        }
        match known.get_mut(path) {
            Some(root) => root.get(now),
            None => Err(io::Error::from(io::ErrorKind::NotFound).into()),
        }
    }

    /// A file outside of all roots, such as a page of errors: links on the way to it count as on that to a root.
    pub(super) fn open(
        &mut self,
        path: &Path,
        symlinks: Symlinks,
        now: Instant,
    ) -> Result<(Facts, Option<File>), Missing> {
        let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Missing::NotFound);
        };
        let tree = self.get(directory, symlinks, now)?;
        let policy = match way(symlinks, 0) {
            Way::Any => Symlinks::Follow,
            Way::Owned(_) => Symlinks::Inside,
        };
        match tree.open_file(name.as_bytes(), policy) {
            // A link: its own way is looked at as a whole.
            Err(Missing::Escapes) => Ok(tree::open_file(path, self.arbiter)?),
            opened => opened,
        }
    }
}

/// Why a file is not sent.
struct Refusal {
    status: u16,
    why: String,
}

fn refuse(status: u16, why: impl Into<String>) -> Refusal {
    let why = why.into();
    Refusal { status, why }
}

/// A file that was found.
struct Found {
    facts: Facts,
    file: File,
    /// For its content type.
    name: Vec<u8>,
}

impl Front {
    /// How the response at hand names a file, if its site lets apps do so.
    pub(super) fn naming(&self, exchange: &Exchange) -> Option<Naming> {
        let rules = &self.sites.get(exchange.site)?.files;
        if rules.sendfile_roots.is_empty() && rules.accel_roots.is_empty() {
            return None;
        }
        Naming::of(&exchange.response, |naming| match naming {
            Naming::Sendfile => !rules.sendfile_roots.is_empty(),
            Naming::Accel => !rules.accel_roots.is_empty(),
        })
    }

    /// The app has ended its response, which names a file: that is what the client gets.
    pub(super) fn send_named(&mut self, exchange: &mut Exchange, naming: Naming) {
        if exchange.client.is_none() {
            exchange.ended = true;
            return;
        }
        let wish = Wish::of(exchange.response.status);
        exchange.length = None;
        exchange.response.content_length = None;
        if wish == Wish::Nothing {
            by_app::drop_names(&mut exchange.response);
            return self.response_end(exchange);
        }
        let head = std::mem::take(&mut exchange.head);
        match self.find_named(exchange, naming) {
            Ok(found) => self.answer_named(exchange, &head, wish, &found),
            Err(Refusal { status, why }) => {
                let (field, value) = naming.field(&exchange.response);
                let (value, setting) = (escape::cut(value, 256), naming.setting());
                let text = format!("failed ({status}): {field} names {value}, but {why} ({setting})");
                self.say_answer(Level::Error, exchange, &head, &text);
                self.fail(exchange, status, detail(status));
                // The worker has ended its part well: one that writes the access log itself has written its line.
                exchange.answered = true;
            }
        }
        exchange.head = head;
    }

    fn find_named(&mut self, exchange: &Exchange, naming: Naming) -> Result<Found, Refusal> {
        let Some(site) = self.sites.get(exchange.site) else {
            return Err(refuse(500, "no site serves its host"));
        };
        let (_, value) = naming.field(&exchange.response);
        let mut look = Look {
            directories: &mut self.directories,
            symlinks: site.symlinks,
            now: self.now,
        };
        match naming {
            Naming::Sendfile => look.sendfile(&site.files, value),
            Naming::Accel => look.accel(&site.files, value),
        }
    }

    fn answer_named(&mut self, exchange: &mut Exchange, head: &RequestHead, wish: Wish, found: &Found) {
        let types = types(self.sites.get(exchange.site));
        let given = by_app::content_type(&exchange.response);
        let coding = match exchange.response.field("content-encoding") {
            None if given.is_none() => Coding::inherent(&found.name),
            _ => None,
        };
        let representation = Representation {
            facts: &found.facts,
            content_type: given.unwrap_or_else(|| types.of(&found.name)),
            coding,
            varies: false,
            by_app: true,
        };
        let nothing = RequestHead::default();
        let mut answer = std::mem::take(&mut self.file_answer);
        let boundary = Boundary::from_seed(self.random.u64(..));
        let request = wish.request(head, &nothing);
        files::answer(request, &representation, clock::wall(), boundary, &mut answer);
        if let Wish::Whole(status) = wish {
            answer.head.status = status;
            if head.is_head() {
                answer.pieces.clear();
            }
        }
        by_app::keep_fields(&exchange.response, &mut answer.head);
        self.send_answer(exchange, head, &found.file, &mut answer);
        self.file_answer = answer;
    }
}

/// Looks for what a response names.
struct Look<'a> {
    directories: &'a mut Directories,
    symlinks: Symlinks,
    now: Instant,
}

impl Look<'_> {
    /// A path as it stands; if nothing has this name, the same decoded: some apps encode it, since Apache's mod_xsendfile
    /// and lighttpd decode it, and some do not.
    fn sendfile(&mut self, rules: &Files, value: &[u8]) -> Result<Found, Refusal> {
        let found = self.in_roots(&rules.sendfile_roots, value);
        if !value.contains(&b'%') || !matches!(found, Err(Refusal { status: 404, .. })) {
            return found;
        }
        let mut decoded = Vec::new();
        match decode_path(value, &mut decoded) {
            Ok(()) => self.in_roots(&rules.sendfile_roots, &decoded),
            Err(_) => found,
        }
    }

    fn in_roots(&mut self, roots: &[PathBuf], path: &[u8]) -> Result<Found, Refusal> {
        let mut refusal = refuse(403, "that lies outside the directories that apps may send files from");
        for root in roots {
            let tree = match self.directories.get(root, self.symlinks, self.now) {
                Ok(tree) => tree,
                Err(error) => {
                    refusal = unreachable(root, &error);
                    continue;
                }
            };
            let names = [Some(tree.path()), tree.real_path()];
            let mut names = names.into_iter().flatten().map(|name| name.as_os_str().as_bytes());
            let Some(rest) = names.find_map(|name| below(path, name)) else {
                continue;
            };
            match open(tree, rest, self.symlinks) {
                Err(other) => refusal = other,
                found => return found,
            }
        }
        Err(refusal)
    }

    /// As nginx's `alias`: the longest start of a path counts, and the rest is looked up in its directory.
    fn accel(&mut self, rules: &Files, value: &[u8]) -> Result<Found, Refusal> {
        let mut path = Vec::new();
        if let Err(error) = decode_path(by_app::accel_path(value), &mut path) {
            return Err(refuse(404, error.to_string()));
        }
        let rows = rules.accel_roots.iter();
        let fitting = rows.filter_map(|(prefix, root)| Some((below(&path, prefix.as_bytes())?, root)));
        let Some((rest, root)) = fitting.min_by_key(|(rest, _)| rest.len()) else {
            return Err(refuse(404, "no path of this start is given a directory"));
        };
        match self.directories.get(root, self.symlinks, self.now) {
            Ok(tree) => open(tree, rest, self.symlinks),
            Err(error) => Err(unreachable(root, &error)),
        }
    }
}

fn unreachable(root: &Path, error: &NoRoot) -> Refusal {
    refuse(error.status(), format!("{} cannot be opened: {error}", root.display()))
}

/// Opens a regular file by its path in a directory.
fn open(tree: &Tree, path: &[u8], symlinks: Symlinks) -> Result<Found, Refusal> {
    let root = tree.path().display();
    match tree.open_file(path, symlinks) {
        Ok((facts, Some(file))) => Ok(Found {
            facts,
            file,
            name: path.to_vec(),
        }),
        Ok((facts, None)) if facts.is_directory() => Err(refuse(404, format!("that is a directory in {root}"))),
        Ok(_) => Err(refuse(404, format!("that is no regular file in {root}"))),
        Err(Missing::NotFound | Missing::NotADirectory) => Err(refuse(404, format!("there is no such file in {root}"))),
        Err(Missing::Other(error)) => Err(refuse(500, format!("it cannot be looked up in {root}: {error}"))),
        Err(Missing::Denied) => Err(refuse(
            403,
            format!("the server's user may not read it in {root}: permission denied"),
        )),
        Err(missing) => Err(refuse(missing.status(), format!("in {root} {missing}"))),
    }
}

impl Exchange {
    /// What the app sends is not for the client: its response names a file.
    pub(super) fn is_replaced(&self) -> bool {
        self.naming.is_some() && self.stage == Stage::Held
    }
}
