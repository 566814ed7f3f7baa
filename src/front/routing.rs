//! What serves a request: its site, its route, and the file or script that its path names there.
//!
//! Never here: which route counts (`plan::route`), how a file is sent (files.rs).

use super::event_loop::Front;
use super::exchange::Exchange;
use crate::base::file::Facts;
use crate::base::ids::PoolId;
use crate::base::level::Level;
use crate::base::owner::{self, Owned};
use crate::base::site::{Site, Symlinks, script_suffixes};
use crate::cgi::vars::{PathError, decode_path};
use crate::config::{Pool, Program, Rights, WorkerProtocol};
use crate::files::{self, Hiding};
use crate::logging::escape;
use crate::plan::route::{self, Decision, Hosts, Look, Router};
use crate::sys::process;
use crate::sys::tree::{self, Missing, NoRoot, StrayLink, Way};
use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a root is used before its name is looked up again: deployments rename it or switch a link.
const ROOT_AGE: Duration = Duration::from_secs(1);

/// What serves a request, besides a pool.
#[derive(Debug)]
pub(super) enum Own {
    /// A file.
    File {
        file: File,
        facts: Facts,
        /// Below the root, with a slash in front.
        path: Vec<u8>,
    },
    /// A redirect to the same path with a slash at its end.
    Slash,
    /// What the server can do.
    Options,
    /// A redirect of the configuration.
    Redirect { status: u16, to: String },
    /// A page.
    Refuse { status: u16 },
}

/// The script that a request's path names.
#[derive(Clone, Debug)]
pub(super) struct Script {
    pub(super) script_name: Vec<u8>,
    pub(super) path_info: Vec<u8>,
    pub(super) file: Vec<u8>,
}

/// How long nothing more is said of a root that is refused for the same link. Everybody who asks for it has it looked at.
const SILENCE: Duration = Duration::from_secs(60);

/// Which links may stand on the way to the roots of a site. `arbiter` is the user who runs the arbiter.
pub(super) fn way(symlinks: Symlinks, arbiter: u32) -> Way {
    match symlinks {
        Symlinks::Inside | Symlinks::Owner => Way::Owned(arbiter),
        Symlinks::Follow => Way::Any,
    }
}

/// A directory in which files are looked up, opened when it is needed.
#[derive(Debug)]
pub(super) struct Root {
    path: PathBuf,
    way: Way,
    tree: Option<tree::Tree>,
    /// When its name was looked up.
    checked: Option<Instant>,
    /// The link for which it was refused then.
    refused: Option<StrayLink>,
    /// What was said of it last, and when.
    said: Option<(StrayLink, Instant)>,
}

impl Root {
    pub(super) fn new(path: PathBuf, way: Way) -> Self {
        Self {
            path,
            way,
            tree: None,
            checked: None,
            refused: None,
            said: None,
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn get(&mut self, now: Instant) -> Result<&tree::Tree, NoRoot> {
        let is_fresh = self.checked.is_some_and(|checked| now - checked < ROOT_AGE);
        let found = match (self.tree.take(), &self.refused) {
            (Some(tree), _) if is_fresh => Ok(tree),
            (None, Some(link)) if is_fresh => return Err(link.clone().into()),
            (Some(mut tree), _) => match tree.refresh() {
                // It comes back when a deployment is over; until then it is not used.
                Err(NoRoot::System(error)) => {
                    self.tree = Some(tree);
                    return Err(error.into());
                }
                refreshed => refreshed.map(|_| tree),
            },
            (None, _) => tree::Tree::open(&self.path, self.way),
        };
        self.refused = match &found {
            Err(NoRoot::Link(link)) => Some(link.clone()),
            _ => None,
        };
        if !is_fresh && (found.is_ok() || self.refused.is_some()) {
            self.checked = Some(now);
        }
        Ok(self.tree.insert(found?))
    }

    /// What is to be said about its being refused, now and then.
    fn complaint(&mut self, now: Instant) -> Option<String> {
        let link = self.refused.as_ref()?;
        let is_known = |(said, at): &(StrayLink, Instant)| said == link && now - *at < SILENCE;
        if self.said.as_ref().is_some_and(is_known) {
            return None;
        }
        self.said = Some((link.clone(), now));
        Some(format!("nothing is sent from {}: {link}", self.path.display()))
    }
}

/// Where a site stands: in which of the tables that are in use, and where there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SitePlace {
    pub(super) table: u32,
    place: usize,
}

/// The tables of sites in use: the one that requests are routed by, and those of earlier configurations, in which requests
/// on their way still find their site's root and pages.
#[derive(Debug)]
pub(super) struct Tables {
    current: Sites,
    old: Vec<Sites>,
}

impl Tables {
    pub(super) fn new(sites: Sites) -> Self {
        Self {
            current: sites,
            old: Vec::new(),
        }
    }

    /// New requests are routed by these sites from now on.
    pub(super) fn replace(&mut self, mut sites: Sites) {
        sites.table = self.current.table.wrapping_add(1);
        self.old.push(std::mem::replace(&mut self.current, sites));
    }

    /// Drops the old tables that nobody refers to. True if there are others.
    pub(super) fn keep(&mut self, is_used: impl Fn(u32) -> bool) -> bool {
        self.old.retain(|sites| is_used(sites.table));
        !self.old.is_empty()
    }

    /// The pool of a request that nothing was decided about yet: the only one, or none.
    pub(super) fn usual_pool(&self) -> usize {
        self.current.plain.unwrap_or(usize::MAX)
    }

    /// What a new request starts from.
    pub(super) fn first(&self) -> SitePlace {
        SitePlace {
            table: self.current.table,
            place: 0,
        }
    }

    /// The site that serves a host; a place where there is none if nobody does.
    pub(super) fn find(&mut self, host: Option<&[u8]>) -> SitePlace {
        let found = self.current.hosts.find(host.unwrap_or_default());
        SitePlace {
            table: self.current.table,
            place: found.unwrap_or(usize::MAX),
        }
    }

    pub(super) fn get(&self, site: SitePlace) -> Option<&Site> {
        self.table(site.table)?.sites.get(site.place)
    }

    /// A regular file of a site, by its path below the root.
    pub(super) fn open(&self, site: SitePlace, path: &[u8]) -> Option<(Facts, File)> {
        let sites = self.table(site.table)?;
        let tree = sites.roots.get(site.place)?.as_ref()?.tree.as_ref()?;
        if tree.is_absent(path) {
            return None;
        }
        let (facts, file) = tree.open_file(path, sites.sites.get(site.place)?.symlinks).ok()?;
        Some((facts, file?))
    }

    /// Which of a site's files are never sent.
    pub(super) fn hiding(&self, site: SitePlace) -> Hiding<'_> {
        let sites = self.table(site.table);
        let scripts = sites.and_then(|sites| sites.scripts.get(site.place));
        Hiding {
            scripts: scripts.map(Vec::as_slice).unwrap_or_default(),
            served: self.get(site).map_or(&[], |site| &site.files.served),
        }
    }

    fn table(&self, table: u32) -> Option<&Sites> {
        if table == self.current.table {
            return Some(&self.current);
        }
        self.old.iter().find(|sites| sites.table == table)
    }
}

/// The sites of a configuration, ready to be asked.
#[derive(Debug)]
pub(super) struct Sites {
    /// Its number, never used twice while anybody refers to it.
    table: u32,
    sites: Vec<Site>,
    hosts: Hosts,
    router: Router,
    roots: Vec<Option<Root>>,
    /// For each, the endings of files that it runs.
    scripts: Vec<Vec<String>>,
    /// The pool that serves everything, whatever the request.
    plain: Option<usize>,
}

impl Sites {
    /// Sites whose pools have these numbers, under an arbiter of this user.
    pub(super) fn new(mut sites: Vec<Site>, numbers: &[PoolId], arbiter: u32) -> Self {
        let is_plain = route::is_plain(&sites);
        let first = numbers.first().map_or(0, |id| usize::from(id.0));
        sites.iter_mut().for_each(|site| site.number_pools(numbers));
        let root = |site: &Site| Some(Root::new(site.root.clone()?, way(site.symlinks, arbiter)));
        Self {
            table: 0,
            hosts: Hosts::new(&sites),
            router: Router::default(),
            roots: sites.iter().map(root).collect(),
            scripts: sites.iter().map(|site| script_suffixes(&site.routes)).collect(),
            plain: is_plain.then_some(first),
            sites,
        }
    }
}

/// The files of a site, as routing sees them. Keeps what the last lookup found.
struct Lookup<'a> {
    tree: Option<&'a tree::Tree>,
    symlinks: Symlinks,
    found: Option<(Facts, Option<File>)>,
    failure: Option<io::Error>,
}

impl route::Tree for Lookup<'_> {
    fn look(&mut self, path: &[u8]) -> Look {
        self.found = None;
        let Some(tree) = self.tree else { return Look::Denied };
        let found = match tree.open_file(path, self.symlinks) {
            // A script may be executable only.
            Err(Missing::Denied) => tree.look(path, self.symlinks).map(|facts| (facts, None)),
            found => found,
        };
        match found {
            Ok((facts, file)) => {
                let look = match () {
                    () if facts.is_file() => Look::File,
                    () if facts.is_directory() => Look::Directory,
                    () => Look::Special,
                };
                self.found = Some((facts, file));
                look
            }
            Err(Missing::NotFound) => Look::Missing,
            Err(Missing::NotADirectory) => Look::NotADirectory,
            Err(Missing::Denied) => Look::Denied,
            // The router has refused paths that go up, so it was a link.
            Err(Missing::GoesUp | Missing::Escapes | Missing::Astray(_)) => Look::Escapes,
            Err(Missing::Endless) => Look::Endless,
            Err(Missing::Other(error)) => {
                self.failure = Some(error);
                Look::Denied
            }
        }
    }
}

impl Lookup<'_> {
    /// Why the script that was found last, with this name, is not safe from other users.
    fn owner_fault(&self, rights: &Rights, name: &[u8]) -> Option<String> {
        let (facts, _) = self.found.as_ref()?;
        let ours = owner::Ours {
            user: rights.user.unwrap_or_else(process::own_user),
            group: rights.group.unwrap_or_else(process::own_group),
        };
        let end = name.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        let directory = self
            .tree?
            .look(name.get(1..end).unwrap_or_default(), self.symlinks)
            .ok();
        owner::fault(owned(facts), directory.as_ref().map(owned), ours)
    }
}

fn owned(facts: &Facts) -> Owned {
    Owned {
        user: facts.user,
        group: facts.group,
        mode: facts.mode,
    }
}

impl Front {
    /// Decides what serves a request, by its head: sets its pool, or an answer of ours.
    pub(super) fn route(&mut self, exchange: &mut Exchange) -> Result<(), PathError> {
        exchange.own = None;
        exchange.script = None;
        exchange.mount = 0;
        exchange.wants_stream = None;
        let first = self.sites.first();
        let sites = &mut self.sites.current;
        if sites.plain.is_some() {
            return Ok(());
        }
        // One that is redirected within the server may have come by an earlier table. Pools of that may have gone, and
        // their numbers may be others' by now, so nothing is ever routed by it again.
        exchange.site = first;
        self.path.clear();
        decode_path(exchange.head.path(), &mut self.path)?;
        let host = exchange.head.host.map(|span| exchange.head.text(span));
        let Some(place) = sites.hosts.find(host.unwrap_or_default()) else {
            // Nor does any site's page.
            exchange.site.place = usize::MAX;
            exchange.own = Some(Own::Refuse { status: 404 });
            return Ok(());
        };
        exchange.site.place = place;
        let (Some(site), Some(root)) = (sites.sites.get(place), sites.roots.get_mut(place)) else {
            return Ok(());
        };
        let mut lookup = Lookup {
            tree: None,
            symlinks: site.symlinks,
            found: None,
            failure: None,
        };
        match root.as_mut().map(|root| root.get(self.now)) {
            Some(Ok(tree)) => lookup.tree = Some(tree),
            Some(Err(NoRoot::System(error))) => lookup.failure = Some(error),
            // Its files are all forbidden then.
            Some(Err(NoRoot::Link(_))) | None => {}
        }
        let is_plain = !has_encoded_slash(exchange.head.path());
        let decision = sites.router.route(site, &self.path, is_plain, &mut lookup);
        exchange.wants_stream = sites.router.streams();
        let path = sites.router.path();
        let decision = unless_private(decision, path);
        let mut why = Cow::Borrowed("");
        let mut level = Level::Info;
        match decision {
            Decision::App { pool, mount } => {
                exchange.pool = pool;
                exchange.mount = mount;
            }
            Decision::Script { pool, name } => {
                let (name, info) = path.split_at_checked(name).unwrap_or_default();
                let root = site.root.as_deref().map(|root| root.as_os_str().as_bytes());
                let rights = self.pools.get(pool).and_then(|pool| checked_rights(&pool.config));
                if let Some(fault) = rights.and_then(|rights| lookup.owner_fault(rights, name)) {
                    exchange.own = Some(Own::Refuse { status: 403 });
                    // Nobody but its owner can mend it.
                    level = Level::Warning;
                    let root = site.root.as_deref().unwrap_or(Path::new("/"));
                    why = format!("{}{}: {fault}", root.display(), escape::cut(name, 256)).into();
                }
                exchange.pool = pool;
                exchange.script = Some(Box::new(Script {
                    script_name: name.to_vec(),
                    path_info: info.to_vec(),
                    file: [root.unwrap_or_default(), name].concat(),
                }));
            }
            Decision::NoScript { why: reason } => {
                exchange.own = Some(Own::Refuse { status: 500 });
                level = Level::Error;
                why = reason.into();
            }
            Decision::File => {
                exchange.own = Some(match lookup.found {
                    Some((facts, Some(file))) => Own::File {
                        file,
                        facts,
                        path: path.to_vec(),
                    },
                    _ => Own::Refuse { status: 403 },
                });
            }
            Decision::Slash => exchange.own = Some(Own::Slash),
            Decision::Server => exchange.own = Some(Own::Options),
            Decision::Redirect { status, to } => {
                exchange.own = Some(Own::Redirect {
                    status,
                    to: to.to_owned(),
                });
            }
            Decision::Refuse { status, why: reason } => {
                exchange.own = Some(Own::Refuse { status });
                why = reason.into();
            }
        }
        let failure = lookup.failure;
        let complaint = root.as_mut().and_then(|root| root.complaint(self.now));
        if let (Some(error), Some(Own::Refuse { status })) = (failure, &mut exchange.own) {
            *status = 500;
            let root = site.root.as_deref().unwrap_or(Path::new("/")).display();
            let text = format!("failed (500): cannot look up its path in {root}: {error}");
            self.say_request(Level::Error, exchange, &text);
        } else if !why.is_empty() {
            let status = if let Some(Own::Refuse { status }) = exchange.own {
                status
            } else {
                500
            };
            let text = format!("failed ({status}): {why}");
            self.say_request(level, exchange, &text);
        }
        if let Some(complaint) = complaint {
            self.say(Level::Error, None, format_args!("{complaint}"));
        }
        Ok(())
    }
}

/// The same, but as if it were not there for scripts and directories of which nothing is served. Files are left to those
/// who send them.
fn unless_private<'a>(decision: Decision<'a>, path: &[u8]) -> Decision<'a> {
    let named = match decision {
        Decision::Script { name, .. } => path.get(..name).unwrap_or_default(),
        // A reason is given for what was found, and not for what the configuration refuses.
        Decision::Refuse { status: 403, why } if !why.is_empty() => path,
        Decision::NoScript { .. } | Decision::Slash => path,
        _ => return decision,
    };
    match files::private(named.split(|byte| *byte == b'/')) {
        Some(hidden) => Decision::Refuse {
            status: 404,
            why: hidden.reason(),
        },
        None => decision,
    }
}

/// The rights of a pool whose scripts the front has to look at: runners do that by themselves, and what servers run is
/// not known.
fn checked_rights(pool: &Pool) -> Option<&Rights> {
    let is_ours = matches!(pool.program, Program::Exec(_)) && pool.protocol != WorkerProtocol::Cgi;
    Some(&pool.rights).filter(|rights| is_ours && rights.check_owner)
}

/// `%2F` in a path as sent.
fn has_encoded_slash(path: &[u8]) -> bool {
    path.windows(3).any(|window| window.eq_ignore_ascii_case(b"%2f"))
}
