//! A host, a path and a tree of files -> what serves a request.
//!
//! Never here: opening files, texts of a configuration, what is never served as a file (`files`).

use crate::base::site::{Act, Fallback, Host, PathMatch, Route, Site, is_below};
use std::collections::HashMap;

/// Which site serves a host.
#[derive(Debug, Default)]
pub struct Hosts {
    exact: HashMap<Box<[u8]>, usize>,
    /// With the dot in front. The longest that matches counts.
    below: HashMap<Box<[u8]>, usize>,
    default: Option<usize>,
    /// The host in lower case.
    lower: Vec<u8>,
}

impl Hosts {
    /// The hosts of all sites.
    #[must_use]
    pub fn new(sites: &[Site]) -> Self {
        let mut hosts = Self::default();
        for (place, site) in sites.iter().enumerate() {
            if site.hosts.is_empty() {
                hosts.default.get_or_insert(place);
            }
            for host in &site.hosts {
                match host {
                    Host::Exact(name) => hosts.exact.entry(name.as_bytes().into()).or_insert(place),
                    Host::Below(name) => hosts.below.entry(name.as_bytes().into()).or_insert(place),
                };
            }
        }
        hosts
    }

    /// The site for the Host of a request, its port and a dot at the end apart. `None`: nobody serves it.
    pub fn find(&mut self, host: &[u8]) -> Option<usize> {
        if self.exact.is_empty() && self.below.is_empty() {
            return self.default;
        }
        self.lower.clear();
        self.lower.extend(without_port(host).iter().map(u8::to_ascii_lowercase));
        if self.lower.last() == Some(&b'.') {
            self.lower.pop();
        }
        if let Some(place) = self.exact.get(self.lower.as_slice()) {
            return Some(*place);
        }
        let dots = (0..self.lower.len()).filter(|place| self.lower.get(*place) == Some(&b'.'));
        // A name below has something before its dot.
        let mut ends = dots.filter(|dot| *dot > 0).filter_map(|dot| self.lower.get(dot..));
        ends.find_map(|end| self.below.get(end)).copied().or(self.default)
    }
}

/// A host without its port; the brackets of an IPv6 address stay.
fn without_port(host: &[u8]) -> &[u8] {
    let colon = host.iter().rposition(|byte| *byte == b':');
    match colon {
        Some(place) if !host.get(place..).unwrap_or_default().contains(&b']') => host.get(..place).unwrap_or(host),
        _ => host,
    }
}

/// Whether the first pool serves every request at the root of its paths, so that nothing has to be decided.
#[must_use]
pub fn is_plain(sites: &[Site]) -> bool {
    let [site] = sites else { return false };
    let [route] = site.routes.as_slice() else { return false };
    let is_app = matches!(&route.act, Act::App { pool: 0, script_name } if script_name.is_empty());
    is_app
        && route.streams.is_none()
        && site.hosts.is_empty()
        && route.suffixes.is_empty()
        && route.path == PathMatch::Prefix("/".to_owned())
}

/// What a name stands for below a root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// Nothing.
    Missing,
    /// Nothing, since a file stands where a directory should.
    NotADirectory,
    /// The system does not let us see it.
    Denied,
    /// It is neither a regular file nor a directory: a FIFO, a socket, a device.
    Special,
    /// A symbolic link that leads out of the root.
    Escapes,
    /// Symbolic links without end.
    Endless,
}

/// The files of a site.
pub trait Tree {
    /// What `path` names, which has no slash in front and no empty, `.` or `..` segment. Empty = the root.
    fn look(&mut self, path: &[u8]) -> Look;
}

/// What serves a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision<'a> {
    /// An app. Its SCRIPT_NAME has this many bytes of the path; the rest is PATH_INFO.
    App {
        /// Its pool.
        pool: usize,
        /// Bytes of the path.
        mount: usize,
    },
    /// A script below the root.
    Script {
        /// The pool that runs it.
        pool: usize,
        /// Bytes of [`Router::path`] that are the script's name; the rest is PATH_INFO.
        name: usize,
    },
    /// The same, and nothing here can run it.
    NoScript {
        /// For the log.
        why: &'a str,
    },
    /// The file that [`Router::path`] names.
    File,
    /// The path of a directory, without the slash at its end: the client shall ask with it.
    Slash,
    /// `*`, and no app asks for it: the question is what the server can do.
    Server,
    /// A redirect of the configuration.
    Redirect {
        /// Its status.
        status: u16,
        /// Where to, with `$uri` in it.
        to: &'a str,
    },
    /// A page of ours.
    Refuse {
        /// Its status.
        status: u16,
        /// For the log; empty = nothing that had to be said.
        why: &'static str,
    },
}

const NOT_FOUND: Decision<'static> = Decision::Refuse { status: 404, why: "" };

/// Finds what serves a path. Kept, because its memory is used again.
#[derive(Debug, Default)]
pub struct Router {
    path: Vec<u8>,
    streams: Option<bool>,
}

/// What a path names below the root, found out once and only when a route needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Named {
    /// A file. Its name has so many bytes; the rest is PATH_INFO.
    File(usize),
    /// A directory, asked for without a slash at the end.
    Slash,
    /// A directory without an index.
    Directory,
    Missing,
    Denied,
    Special,
    Escapes,
    Endless,
    /// `*`, which is for apps, and else for us.
    Server,
}

impl Router {
    /// The path that was decided about: with one slash where there were several, with the name of the index, or the
    /// fallback's. Only after a decision for a script or a file.
    #[must_use]
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// Whether the route that was decided for has its pool get bodies as they arrive; `None` = as the pool says.
    #[must_use]
    pub fn streams(&self) -> Option<bool> {
        self.streams
    }

    /// Decides for a decoded path. `*`, which OPTIONS may name, is like `/`, but names no file.
    ///
    /// `is_plain` = it has no encoded slash. A path with one names no file, since it could name another than it shows.
    ///
    /// Routes see other spellings of a path, too, since files and many apps do: `//private` is for a route of `/private`,
    /// and so are `/x/../private` and `/private/../x`.
    pub fn route<'a>(&mut self, site: &'a Site, path: &[u8], is_plain: bool, tree: &mut dyn Tree) -> Decision<'a> {
        self.path.clear();
        match self.pass(site, path, is_plain, tree) {
            Step::Done(decision) => decision,
            Step::Again(other) => match self.pass(site, other.as_bytes(), true, tree) {
                Step::Done(decision) => decision,
                // The fallback is not there either.
                Step::Again(_) => NOT_FOUND,
            },
        }
    }

    fn pass<'a>(&mut self, site: &'a Site, path: &[u8], is_plain: bool, tree: &mut dyn Tree) -> Step<'a> {
        let mut named = None;
        self.streams = None;
        let others = other_spellings(path);
        let is_for = |route: &&Route| {
            let others = others.iter().any(|other| route.path.takes(other));
            others || route.path.takes(path)
        };
        for route in site.routes.iter().filter(is_for) {
            match &route.act {
                Act::Script { .. } | Act::NoScript { .. } | Act::Files { .. } => {
                    let found = *named.get_or_insert_with(|| self.name(site, path, is_plain, tree));
                    if let Some(step) = self.by_file(route, found) {
                        self.streams = route.streams;
                        return step;
                    }
                }
                _ if !route.has_suffix(path) => {}
                Act::App { pool, script_name } => {
                    let mount = if is_below(path, script_name) {
                        script_name.len()
                    } else {
                        0
                    };
                    self.streams = route.streams;
                    return Step::Done(Decision::App { pool: *pool, mount });
                }
                Act::Redirect { status, to } => return Step::Done(Decision::Redirect { status: *status, to }),
                Act::Refuse { status } => return refuse(*status, ""),
            }
        }
        Step::Done(if path == b"*" { Decision::Server } else { NOT_FOUND })
    }

    /// What a route about files says, if it says anything.
    fn by_file<'a>(&self, route: &'a Route, named: Named) -> Option<Step<'a>> {
        if let Named::File(name) = named
            && !route.has_suffix(self.path.get(..name).unwrap_or_default())
        {
            return None;
        }
        let fallback = match (&route.act, named) {
            (Act::Script { pool }, Named::File(name)) => {
                return Some(Step::Done(Decision::Script { pool: *pool, name }));
            }
            (Act::NoScript { why }, Named::File(_)) => return Some(Step::Done(Decision::NoScript { why })),
            (Act::Files { .. }, Named::File(name)) if name == self.path.len() => {
                return Some(Step::Done(Decision::File));
            }
            (Act::Files { .. }, Named::Slash) => return Some(Step::Done(Decision::Slash)),
            (Act::Files { .. }, Named::Denied) => return Some(refuse(403, "it may not be read")),
            (Act::Files { .. }, Named::Special) => {
                return Some(refuse(403, "it is neither a regular file nor a directory"));
            }
            (Act::Files { .. }, Named::Escapes) => {
                return Some(refuse(403, "a symbolic link leads out of the root"));
            }
            (Act::Files { .. }, Named::Endless) => {
                return Some(refuse(403, "there is a loop of symbolic links, or too many in a row"));
            }
            (
                Act::Files {
                    fallback: None | Some(Fallback::Path(_)),
                },
                Named::Server,
            ) => return Some(Step::Done(Decision::Server)),
            (Act::Files { fallback }, Named::File(_) | Named::Directory | Named::Missing | Named::Server) => fallback,
            _ => return None,
        };
        Some(match fallback {
            Some(Fallback::Pool(pool)) => Step::Done(Decision::App { pool: *pool, mount: 0 }),
            Some(Fallback::Path(other)) => Step::Again(other),
            None if named == Named::Directory => refuse(403, "it is a directory without an index"),
            None => Step::Done(NOT_FOUND),
        })
    }

    /// Finds the file that a path names, and keeps the path as it names it.
    fn name(&mut self, site: &Site, path: &[u8], is_plain: bool, tree: &mut dyn Tree) -> Named {
        self.path.clear();
        if path == b"*" {
            return Named::Server;
        }
        if !is_plain || site.root.is_none() || !self.clean(path) {
            return Named::Missing;
        }
        let is_directory = self.path.ends_with(b"/");
        let whole = self
            .path
            .get(1..self.path.len() - usize::from(is_directory && self.path.len() > 1));
        match tree.look(whole.unwrap_or_default()) {
            // A slash after a file is a PATH_INFO.
            Look::File if is_directory => Named::File(self.path.len() - 1),
            Look::File => Named::File(self.path.len()),
            Look::Directory if is_directory => self.find_index(site, tree),
            Look::Directory => Named::Slash,
            Look::NotADirectory => self.find_script(tree),
            Look::Missing => Named::Missing,
            Look::Denied => Named::Denied,
            Look::Special => Named::Special,
            Look::Escapes => Named::Escapes,
            Look::Endless => Named::Endless,
        }
    }

    /// Takes a path over with one slash where there are several. False if it names no file for sure.
    fn clean(&mut self, path: &[u8]) -> bool {
        if path.first() != Some(&b'/') {
            return false;
        }
        for segment in path.split(|byte| *byte == b'/').filter(|segment| !segment.is_empty()) {
            if segment == b"." || segment == b".." || segment.iter().any(|byte| *byte < b' ' || *byte == 0x7f) {
                return false;
            }
            self.path.push(b'/');
            self.path.extend_from_slice(segment);
        }
        if path.ends_with(b"/") {
            self.path.push(b'/');
        }
        true
    }

    fn find_index(&mut self, site: &Site, tree: &mut dyn Tree) -> Named {
        let directory = self.path.len();
        for name in &site.index {
            self.path.truncate(directory);
            self.path.extend_from_slice(name.as_bytes());
            match tree.look(self.path.get(1..).unwrap_or_default()) {
                Look::File => return Named::File(self.path.len()),
                Look::Escapes => return Named::Escapes,
                Look::Endless => return Named::Endless,
                Look::Denied => return Named::Denied,
                Look::Special => return Named::Special,
                Look::Directory | Look::Missing | Look::NotADirectory => {}
            }
        }
        self.path.truncate(directory);
        Named::Directory
    }

    /// The file in the middle of a path, which has a PATH_INFO behind it.
    fn find_script(&self, tree: &mut dyn Tree) -> Named {
        let slashes = (1..self.path.len()).filter(|place| self.path.get(*place) == Some(&b'/'));
        for end in slashes {
            match tree.look(self.path.get(1..end).unwrap_or_default()) {
                Look::Directory => {}
                Look::File => return Named::File(end),
                Look::Missing | Look::NotADirectory => return Named::Missing,
                Look::Denied => return Named::Denied,
                Look::Special => return Named::Special,
                Look::Escapes => return Named::Escapes,
                Look::Endless => return Named::Endless,
            }
        }
        Named::Missing
    }
}

/// How far a pass over the routes came.
#[derive(Debug)]
enum Step<'a> {
    Done(Decision<'a>),
    /// The same for another path.
    Again(&'a str),
}

fn refuse(status: u16, why: &'static str) -> Step<'static> {
    Step::Done(Decision::Refuse { status, why })
}

/// What a path with empty segments or dots may be taken for: with one slash where there are several, and with its dots
/// resolved as well. None of any other path.
fn other_spellings(path: &[u8]) -> Vec<Vec<u8>> {
    if !path.windows(2).any(|pair| pair == b"//" || pair == b"/.") {
        return Vec::new();
    }
    let (mut merged, mut resolved) = (Vec::new(), Vec::new());
    let mut is_directory = path.ends_with(b"/");
    for segment in path.split(|byte| *byte == b'/').filter(|segment| !segment.is_empty()) {
        merged.push(b'/');
        merged.extend_from_slice(segment);
        let is_dots = segment == b"." || segment == b"..";
        if segment == b".." {
            let parent = resolved.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
            resolved.truncate(parent);
        } else if !is_dots {
            resolved.push(b'/');
            resolved.extend_from_slice(segment);
        }
        is_directory = is_dots || path.ends_with(b"/");
    }
    if path.ends_with(b"/") {
        merged.push(b'/');
    }
    if is_directory || resolved.is_empty() {
        resolved.push(b'/');
    }
    vec![merged, resolved]
}

/// What runs a file that a web server names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runner<'a> {
    /// The pool of the first route that is for such files.
    Pool(usize),
    /// There is a route for such files, and nothing here can run them.
    Missing {
        /// For the log.
        why: &'a str,
    },
    /// No route is for such files.
    None,
}

/// Which pool of a site runs `file`, whose real name this is. Routes count by the endings they name, and by `path`, the
/// SCRIPT_NAME that the web server gives; empty = only those for all paths. The site's root plays no part.
#[must_use]
pub fn runner<'a>(site: &'a Site, path: &[u8], file: &[u8]) -> Runner<'a> {
    let mut routes = site
        .routes
        .iter()
        .filter(|route| route.path.takes(path) && route.has_suffix(file));
    let found = routes.find_map(|route| match &route.act {
        Act::Script { pool } => Some(Runner::Pool(*pool)),
        Act::NoScript { why } => Some(Runner::Missing { why }),
        Act::App { .. } | Act::Files { .. } | Act::Redirect { .. } | Act::Refuse { .. } => None,
    });
    found.unwrap_or(Runner::None)
}

#[cfg(test)]
mod tests;
