//! Sites: what is served to requests for some hosts, by paths. Made by the configuration, read by routing.
//!
//! Never here: which route a path takes (`plan::route`), texts of a configuration (`config`).

use super::ids::PoolId;
use std::path::PathBuf;

/// What is served to requests for some hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Site {
    /// For logs and complaints: its first host, or `default`.
    pub name: String,
    /// Whose requests it serves; empty = those that no other site serves.
    pub hosts: Vec<Host>,
    /// The directory that paths name files in; absolute, without a slash at the end.
    pub root: Option<PathBuf>,
    /// Names that are looked for in a directory, in this order.
    pub index: Vec<String>,
    /// Which symbolic links are followed.
    pub symlinks: Symlinks,
    /// The first that matches counts. If none does: 404.
    pub routes: Vec<Route>,
    /// What is sent instead of our own pages: a status, and the path of a file.
    pub pages: Vec<(u16, PathBuf)>,
    /// How its files are sent.
    pub files: Files,
}

/// How a site's files are sent, and which of them its apps may name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// Content types besides the usual ones: an ending in lower case without its dot, or `*` for all that have none.
    pub types: Vec<(String, String)>,
    /// Endings, with their dots and in lower case, that are sent although they are scripts'.
    pub served: Vec<String>,
    /// Compressed siblings are looked for.
    pub precompressed: bool,
    /// Where the files lie that apps may name by X-Sendfile; empty = it passes through.
    pub sendfile_roots: Vec<PathBuf>,
    /// What the paths stand for that apps may name by X-Accel-Redirect: the start of a path without a slash at its end,
    /// and a directory. Empty = it passes through.
    pub accel_roots: Vec<(String, PathBuf)>,
}

impl Site {
    /// Names its pools by numbers instead of their places in the configuration. One without a number is no pool.
    pub fn number_pools(&mut self, numbers: &[PoolId]) {
        let number = |pool: &mut usize| *pool = numbers.get(*pool).map_or(usize::MAX, |id| usize::from(id.0));
        for route in &mut self.routes {
            match &mut route.act {
                Act::App { pool, .. } | Act::Script { pool } => number(pool),
                Act::Files {
                    fallback: Some(Fallback::Pool(pool)),
                } => number(pool),
                Act::Files { .. } | Act::NoScript { .. } | Act::Redirect { .. } | Act::Refuse { .. } => {}
            }
        }
    }
}

/// Which hosts a site serves. Texts are in lower case, without a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// `shop.example`
    Exact(String),
    /// `*.shop.example`, kept as `.shop.example`: every name below, not the name itself.
    Below(String),
}

/// Which symbolic links are followed below a root.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Symlinks {
    /// Those that stay in the root.
    Inside,
    /// Those, and links out of it that belong to the owner of what they lead to.
    #[default]
    Owner,
    /// All.
    Follow,
}

/// One rule of a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Which paths it is for.
    pub path: PathMatch,
    /// Endings of the file that the path names, such as `.php`; empty = any path. Compared without regard to case, so
    /// that `A.PHP` is not sent as text.
    pub suffixes: Vec<String>,
    /// What serves them.
    pub act: Act,
    /// Whether its pool gets bodies as they arrive; `None` = as the pool says.
    pub streams: Option<bool>,
}

/// Which paths a route is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathMatch {
    /// Everything at and below: `/api` and `/api/` match `/api` and `/api/x`, not `/apis`. `/` matches everything.
    Prefix(String),
    /// This path only.
    Exact(String),
}

impl PathMatch {
    /// Whether a path is one of them.
    #[must_use]
    pub fn takes(&self, path: &[u8]) -> bool {
        match self {
            Self::Prefix(prefix) => is_below(path, prefix),
            Self::Exact(exact) => path == exact.as_bytes(),
        }
    }
}

impl Route {
    /// Whether a name has one of its endings.
    #[must_use]
    pub fn has_suffix(&self, name: &[u8]) -> bool {
        ends_with(&self.suffixes, name)
    }

    /// Whether it runs scripts, or would if it could.
    #[must_use]
    pub fn is_for_scripts(&self) -> bool {
        matches!(self.act, Act::Script { .. } | Act::NoScript { .. })
    }
}

/// Whether a path is `prefix` or something below it.
#[must_use]
pub fn is_below(path: &[u8], prefix: &str) -> bool {
    let prefix = prefix.as_bytes();
    let prefix = prefix.strip_suffix(b"/").unwrap_or(prefix);
    let Some(rest) = path.strip_prefix(prefix) else {
        return prefix.is_empty();
    };
    rest.is_empty() || prefix.is_empty() || rest.starts_with(b"/")
}

/// Whether a name has one of these endings, in any case of letters. Without any, every name has.
#[must_use]
pub fn ends_with(suffixes: &[String], name: &[u8]) -> bool {
    let ends = |suffix: &String| {
        let start = name.len().checked_sub(suffix.len());
        let end = start.and_then(|start| name.get(start..));
        end.is_some_and(|end| end.eq_ignore_ascii_case(suffix.as_bytes()))
    };
    suffixes.is_empty() || suffixes.iter().any(ends)
}

/// The endings of a site's scripts.
#[must_use]
pub fn script_suffixes(routes: &[Route]) -> Vec<String> {
    let routes = routes.iter().filter(|route| route.is_for_scripts());
    routes.flat_map(|route| route.suffixes.iter().cloned()).collect()
}

/// What a route does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// An app gets the request.
    App {
        /// Its pool, by its place in the configuration.
        pool: usize,
        /// The part of the path that is the app's SCRIPT_NAME; the rest is its PATH_INFO.
        script_name: String,
    },
    /// The file that the path names is run as a script. A path that names none goes to the next route.
    Script {
        /// The pool that runs it, by its place in the configuration.
        pool: usize,
    },
    /// Scripts cannot be run, for a reason that is logged: 500. Their source must not be sent.
    NoScript {
        /// For the log: what is missing, and what to do.
        why: String,
    },
    /// A file is sent.
    Files {
        /// What serves paths that name no file; `None` = 404.
        fallback: Option<Fallback>,
    },
    /// The client is sent elsewhere.
    Redirect {
        /// 301, 302, 303, 307 or 308.
        status: u16,
        /// A URI, or a path of this site. `$uri` in it stands for path and query as sent.
        to: String,
    },
    /// A page of ours.
    Refuse {
        /// Its status: 400 to 599.
        status: u16,
    },
}

/// What serves paths that name no file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// A front controller, by its path below the root: `/index.php`. PATH_INFO is empty then, as with nginx's
    /// `try_files`; REQUEST_URI has what the client asked for.
    Path(String),
    /// An app.
    Pool(usize),
}
