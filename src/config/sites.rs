//! Sites: hosts, root, and the routes of those that name none.
//!
//! Never here: one `[[site.route]]` (`routes.rs`), which route a path takes (`plan::route`).

use super::files::settle_served;
use super::hosting::{Hosting, Runs};
use super::kind::{Value, shown_text};
use super::layers::Origin;
use super::problem::{Problem, Problems};
use super::resolve::{join, reason};
use super::routes::{app, fallback_path, path_fault, route, suffixes};
use super::tables::{ROUTE_KEYS, SITE_KEYS, SiteTable, Table};
use crate::base::hidden::{Hidden, Hiding, hidden};
use crate::base::site::{Act, Fallback, Files, Host, PathMatch, Route, Site, Symlinks, script_suffixes};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What is logged where PHP files cannot be run.
const NO_PHP: &str = "there is no php-cgi on PATH: install it (Debian: apt install php-cgi), or define [pool.php] with `exec` or `connect`";

/// What the routes of a site are made of that names none.
struct Standard<'a> {
    /// The app or server, if one is named.
    pool: Option<usize>,
    has_root: bool,
    fallback: &'a str,
    fallback_origin: Origin,
    suffixes: &'a [String],
    /// User and group of its scripts; empty = those of the top level.
    owner: (&'a str, &'a str),
    unit: usize,
    origin: &'a Origin,
}

impl Hosting<'_> {
    /// The site of the flat settings.
    pub(super) fn unnamed_site(&mut self, root: Option<PathBuf>, has_pool: bool, problems: &mut Problems) -> Site {
        let base = self.base;
        let suffixes = suffixes(
            base.list("script_suffixes"),
            &|place| (base.origin("script_suffixes", place), "script_suffixes"),
            problems,
        );
        let routes = self.standard_routes(
            &Standard {
                pool: has_pool.then_some(0),
                has_root: root.is_some(),
                fallback: base.text("fallback"),
                fallback_origin: base.origin("fallback", 0),
                suffixes: &suffixes,
                owner: ("", ""),
                unit: 0,
                origin: &base.origin("root", 0),
            },
            problems,
        );
        let mut files = self.files_of_top(problems);
        settle_served(&mut files, &routes, Some(&base.origin("served_suffixes", 0)), problems);
        Site {
            name: "default".to_owned(),
            hosts: Vec::new(),
            index: if root.is_some() {
                self.index(None, problems)
            } else {
                Vec::new()
            },
            symlinks: if root.is_some() || names_files(&files) {
                symlinks(base.text("symlinks"))
            } else {
                Symlinks::default()
            },
            root,
            routes,
            pages: Vec::new(),
            files,
        }
    }

    /// The site of a configuration that has one pool and no site.
    pub(super) fn site_of_one_pool(&mut self, problems: &mut Problems) -> Site {
        let routes = self.standard_routes(
            &Standard {
                pool: Some(0),
                has_root: false,
                fallback: "",
                fallback_origin: Origin::Default,
                suffixes: &[],
                owner: ("", ""),
                unit: 0,
                origin: &Origin::Default,
            },
            problems,
        );
        Site {
            name: "default".to_owned(),
            routes,
            symlinks: symlinks(self.base.text("symlinks")),
            files: self.files_of_top(problems),
            ..Site::default()
        }
    }

    /// Routes that follow from what a site has: an app, a root, or both.
    fn standard_routes(&mut self, want: &Standard<'_>, problems: &mut Problems) -> Vec<Route> {
        let wrong = |what: &str, advice: &str| {
            let problem = Problem::new(what).at(want.fallback_origin.clone(), "fallback");
            problem.advice(advice)
        };
        if !want.has_root {
            if !want.fallback.is_empty() {
                problems.push(wrong("fallback needs `root`", "it is for paths that name no file"));
            }
            let Some(pool) = want.pool else { return Vec::new() };
            if self.runs(pool) == Runs::Scripts {
                let problem = Problem::new("a pool of scripts needs a site with `root`").at(want.origin.clone(), "");
                problems.push(problem.advice("scripts are files below it"));
            }
            return vec![route(app(pool))];
        }
        let fallback = match want.fallback {
            "" | "app" => None,
            path => fallback_path(path, &want.fallback_origin, problems),
        };
        let files = |fallback: Option<Fallback>| route(Act::Files { fallback });
        let to_app = want.fallback == "app";
        let Some(pool) = want.pool else {
            if to_app {
                problems.push(wrong(
                    "fallback is app, but there is no app",
                    "name a path such as /index.php",
                ));
            }
            let php = match self.made_pool("php", want.owner, want.unit, want.origin, problems) {
                Some(pool) => Act::Script { pool },
                None => Act::NoScript { why: NO_PHP.to_owned() },
            };
            let mut routes = vec![Route {
                suffixes: vec![".php".to_owned()],
                ..route(php)
            }];
            if let Some(pool) = self.made_pool("cgi", want.owner, want.unit, want.origin, problems) {
                routes.extend(script_routes(pool, want.suffixes));
            }
            routes.push(files(fallback));
            return routes;
        };
        match self.runs(pool) {
            Runs::App if fallback.is_some() => {
                let advice = "leave `fallback` out, or write routes; docs/hosting.md shows how";
                problems.push(wrong("fallback would leave nothing for the app", advice));
                Vec::new()
            }
            Runs::App => vec![files(Some(Fallback::Pool(pool)))],
            Runs::Server if to_app => vec![files(Some(Fallback::Pool(pool)))],
            Runs::Php | Runs::Scripts if to_app => {
                let advice = "what runs here are files; name one such as /index.php";
                problems.push(wrong("fallback is app, but there is no app", advice));
                Vec::new()
            }
            Runs::Php | Runs::Server => vec![
                Route {
                    suffixes: vec![".php".to_owned()],
                    ..route(Act::Script { pool })
                },
                files(fallback),
            ],
            Runs::Scripts => {
                let mut routes = script_routes(pool, want.suffixes);
                routes.push(files(fallback));
                routes
            }
        }
    }

    /// Takes a `[[site]]`.
    pub(super) fn site_table(&mut self, mut table: SiteTable, unit: usize, problems: &mut Problems) {
        let place = self.sites.len();
        let hosts = self.hosts_of(&table.keys, place, problems);
        let root = self.root_of(&mut table.keys, problems);
        let pages = pages(&mut table.keys, root.as_deref(), problems);
        let routes = if table.routes.is_empty() {
            self.routes_of_keys(&table.keys, root.is_some(), unit, problems)
        } else {
            for name in ["pool", "user", "group", "script_suffixes"] {
                if table.keys.has(name) {
                    let problem = table.keys.problem(name, format!("{name} is for sites without routes"));
                    problems.push(problem.advice("say it in the routes and their pools"));
                }
            }
            let SiteTable { keys, routes } = &table;
            let routes = routes
                .iter()
                .filter_map(|route| self.route(route, keys, root.is_some(), unit, problems));
            routes.collect()
        };
        let index = self.index(Some(&table.keys), problems);
        let mut files = self.files_of_table(&mut table.keys, problems);
        let own = table.keys.has("served_suffixes");
        let own = own.then(|| table.keys.origin("served_suffixes"));
        settle_served(&mut files, &routes, own.as_ref(), problems);
        let is_script = |path: &Path| is_script(path, root.as_deref(), &routes, &files);
        self.look_for_pages(&table.keys, &pages, is_script);
        let chosen = table
            .keys
            .text("symlinks")
            .unwrap_or_else(|| self.base.text("symlinks"));
        let site = Site {
            name: match table.keys.list("hosts").unwrap_or_default() {
                [first, ..] => first.clone(),
                [] => "default".to_owned(),
            },
            hosts,
            index: if root.is_some() { index } else { Vec::new() },
            symlinks: if root.is_some() || names_files(&files) || !pages.is_empty() {
                symlinks(chosen)
            } else {
                Symlinks::default()
            },
            root,
            routes,
            pages,
            files,
        };
        self.sites.push(site);
        self.site_texts.push(render(&table));
    }

    fn hosts_of(&mut self, keys: &Table, place: usize, problems: &mut Problems) -> Vec<Host> {
        let mut hosts = Vec::new();
        let origin = keys.origin("hosts");
        let mut claim = |key: String, problems: &mut Problems| {
            if let Some((_, other)) = self.hosts.get(&key) {
                let what = match key.as_str() {
                    "" => "there are two sites without hosts".to_owned(),
                    host if host.starts_with('.') => format!("two sites have the host \"*{host}\""),
                    host => format!("two sites have the host \"{host}\""),
                };
                let problem = Problem::new(what).at(origin.clone(), if key.is_empty() { "" } else { "hosts" });
                let advice = format!("the other {}", other.sentence_of_place("stands"));
                problems.push(problem.advice(advice));
            } else {
                self.hosts.insert(key, (place, origin.clone()));
            }
        };
        let typed = keys.list("hosts").unwrap_or_default();
        if typed.is_empty() {
            claim(String::new(), problems);
        }
        for text in typed {
            match host(text) {
                Ok(host) => {
                    let (Host::Exact(key) | Host::Below(key)) = &host;
                    claim(key.clone(), problems);
                    hosts.push(host);
                }
                Err(advice) => {
                    let problem = keys.problem(
                        "hosts",
                        format!("hosts must be names of hosts, but not {}", shown_text(text)),
                    );
                    problems.push(problem.advice(advice));
                }
            }
        }
        hosts
    }

    fn root_of(&self, keys: &mut Table, problems: &mut Problems) -> Option<PathBuf> {
        let text = keys.text("root")?;
        if text.is_empty() || text.contains('\0') {
            let shown = shown_text(text);
            problems.push(keys.problem("root", format!("root must be a directory, but not {shown}")));
            return None;
        }
        let path = join(self.around.start, text);
        if self.around.look && !self.around.forgives {
            let why = match path.metadata() {
                Ok(meta) if meta.is_dir() => None,
                Ok(_) => Some("that is no directory".to_owned()),
                Err(error) => Some(reason(&error)),
            };
            if let Some(why) = why {
                let what = format!("root is {}, but: {why}", path.display());
                problems.push(
                    keys.problem("root", what)
                        .advice("make the directory, or choose another"),
                );
            }
        }
        keys.replace("root", Value::Text(path.display().to_string()));
        Some(path)
    }

    /// Pages may come later than their site, and until then our own are sent; but the name may be wrong.
    fn look_for_pages(&mut self, keys: &Table, pages: &[(u16, PathBuf)], is_script: impl Fn(&Path) -> bool) {
        if !self.around.look || self.around.forgives {
            return;
        }
        for (status, path) in pages {
            let why = match path.metadata() {
                _ if is_script(path) => "it is a script, and pages are sent as they are".to_owned(),
                Ok(meta) if meta.is_file() => continue,
                Ok(_) => "that is no file".to_owned(),
                Err(error) => reason(&error),
            };
            let place = keys.origin("pages").sentence("pages");
            let path = path.display();
            self.warnings
                .push(format!("the page of {status} is {path}, but: {why}; {place}"));
        }
    }

    fn routes_of_keys(&mut self, keys: &Table, has_root: bool, unit: usize, problems: &mut Problems) -> Vec<Route> {
        let pool = match keys.text("pool") {
            None => None,
            Some(name) => match self.find_pool(name, unit) {
                Ok(pool) => Some(pool),
                Err(advice) => {
                    let what = format!("there is no pool named {}", shown_text(name));
                    problems.push(keys.problem("pool", what).advice(advice));
                    return Vec::new();
                }
            },
        };
        if pool.is_none() && !has_root {
            if !keys.has("root") {
                let problem = keys.problem("", "a site must have `root`, `pool` or routes");
                problems.push(problem.advice("docs/hosting.md shows how"));
            }
            return Vec::new();
        }
        for name in ["user", "group"] {
            if keys.has(name) && pool.is_some() {
                let problem = keys.problem(name, format!("{name} is for the scripts of a site without `pool`"));
                problems.push(problem.advice("set it in the pool"));
            }
        }
        if keys.has("group") && !keys.has("user") {
            let problem = keys.problem("group", "group needs `user`");
            problems.push(problem.advice("scripts of sites without a user have the group of the top level"));
        }
        let base = self.base;
        let suffixes = match keys.list("script_suffixes") {
            Some(typed) => suffixes(
                typed,
                &|_| (keys.origin("script_suffixes"), "script_suffixes"),
                problems,
            ),
            None => suffixes(
                base.list("script_suffixes"),
                &|place| (base.origin("script_suffixes", place), "script_suffixes"),
                problems,
            ),
        };
        let want = Standard {
            pool,
            has_root,
            fallback: keys.text("fallback").unwrap_or_default(),
            fallback_origin: keys.origin("fallback"),
            suffixes: &suffixes,
            owner: (
                keys.text("user").unwrap_or_default(),
                keys.text("group").unwrap_or_default(),
            ),
            unit,
            origin: &keys.origin,
        };
        self.standard_routes(&want, problems)
    }

    /// Names of files that stand for their directory: a site's own, or those of the top level.
    fn index(&self, keys: Option<&Table>, problems: &mut Problems) -> Vec<String> {
        let own = keys.and_then(|keys| Some((keys, keys.list("index")?)));
        let names = own.map_or_else(|| self.base.list("index"), |(_, names)| names);
        for (place, name) in names.iter().enumerate() {
            if name.is_empty() || name.contains(['/', '\0']) || name.starts_with('.') {
                let origin = own.map_or_else(|| self.base.origin("index", place), |(keys, _)| keys.origin("index"));
                let what = format!("index must be names of files, but not {}", shown_text(name));
                problems.push(Problem::new(what).at(origin, "index"));
            }
        }
        names.to_vec()
    }
}

/// Routes for CGI scripts: all below /cgi-bin/, and files with these endings.
fn script_routes(pool: usize, suffixes: &[String]) -> Vec<Route> {
    let below = Route {
        path: PathMatch::Prefix("/cgi-bin/".to_owned()),
        ..route(Act::Script { pool })
    };
    let ending = Route {
        suffixes: suffixes.to_vec(),
        ..route(Act::Script { pool })
    };
    let mut routes = vec![below];
    // Without endings it would run every file.
    routes.extend((!suffixes.is_empty()).then_some(ending));
    routes
}

/// Whether apps may name files.
fn names_files(files: &Files) -> bool {
    !files.sendfile_roots.is_empty() || !files.accel_roots.is_empty()
}

fn symlinks(word: &str) -> Symlinks {
    match word {
        "inside" => Symlinks::Inside,
        "follow" => Symlinks::Follow,
        _ => Symlinks::Owner,
    }
}

/// A host as it is typed: `shop.example`, `*.shop.example` or `[::1]`. Otherwise, what to do.
fn host(text: &str) -> Result<Host, &'static str> {
    let lower = text.to_ascii_lowercase();
    let (below, name) = match lower.strip_prefix("*.") {
        Some(name) => (true, name),
        None => (false, lower.as_str()),
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_v6 = |text: &str| {
        let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        inner.is_some_and(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok())
    };
    if !below && is_v6(name) {
        return Ok(Host::Exact(name.to_owned()));
    }
    if text == "*" || text == "_" {
        return Err("the site for all other hosts has no hosts at all");
    }
    if !text.is_ascii() {
        return Err("write it as clients send it, xn--...");
    }
    if name.contains('*') {
        return Err("`*.` can stand only at the start");
    }
    if name.contains('/') {
        return Err("a site has hosts; paths are for routes");
    }
    if name.contains(':') {
        return Err("leave out the port: a site serves all ports");
    }
    let part = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || name.starts_with('.') || name.contains("..") || !name.bytes().all(part) {
        return Err("for example shop.example, or *.shop.example for all below it");
    }
    Ok(if below {
        Host::Below(format!(".{name}"))
    } else {
        Host::Exact(name.to_owned())
    })
}

/// Whether a file is run, or is the source of a script: it is not sent as a page then.
fn is_script(path: &Path, root: Option<&Path>, routes: &[Route], files: &Files) -> bool {
    let runs = |name: &Path| {
        let name = [b"/", name.as_os_str().as_bytes()].concat();
        let mut routes = routes.iter().filter(|route| route.is_for_scripts());
        routes.any(|route| route.path.takes(&name) && route.has_suffix(&name))
    };
    let below = root.and_then(|root| path.strip_prefix(root).ok());
    let hiding = Hiding {
        scripts: &script_suffixes(routes),
        served: &files.served,
    };
    let name = path.file_name().map(OsStr::as_bytes);
    below.is_some_and(runs) || hidden(name, &hiding) == Some(Hidden::Script)
}

/// Pages of errors: files by status.
fn pages(keys: &mut Table, root: Option<&Path>, problems: &mut Problems) -> Vec<(u16, PathBuf)> {
    let mut found = Vec::new();
    for (status, text) in keys.map("pages") {
        let Some(code) = status.parse::<u16>().ok().filter(|code| (400..=599).contains(code)) else {
            let what = format!(
                "pages must have statuses from 400 to 599 as keys, but not {}",
                shown_text(status)
            );
            problems.push(keys.problem("pages", what));
            continue;
        };
        let path = match (text.strip_prefix("file:"), root) {
            (Some(path), _) if path.starts_with('/') => Some(join(Path::new("/"), path)),
            (None, Some(root)) if path_fault(text).is_none() => {
                Some(join(root, text.strip_prefix('/').unwrap_or(text)))
            }
            _ => None,
        };
        match path {
            Some(path) => found.push((code, path)),
            None => {
                let what = format!(
                    "pages must be paths below `root`, or file:/PATH, but not {}",
                    shown_text(text)
                );
                problems.push(
                    keys.problem("pages", what)
                        .advice("for example pages = { 404 = \"/errors/404.html\" }"),
                );
            }
        }
    }
    found.sort();
    let texts = found
        .iter()
        .map(|(code, path)| (code.to_string(), format!("file:{}", path.display())));
    let texts = texts.collect();
    keys.replace("pages", Value::Map(texts));
    found
}

/// A site as TOML that makes it again.
fn render(table: &SiteTable) -> String {
    let place = |table: &Table| table.origin.to_string().replace(char::is_control, "?");
    let mut text = format!("\n[[site]]  # {}\n", place(&table.keys));
    table.keys.render(SITE_KEYS, &mut text);
    for route in &table.routes {
        text.push_str(&format!("[[site.route]]  # {}\n", place(route)));
        route.render(ROUTE_KEYS, &mut text);
    }
    text
}
