//! Sites and their routes.
//!
//! Never here: which route a path takes (`plan::route`).

use super::hosting::{Hosting, Runs};
use super::kind::{Value, shown_text};
use super::layers::Origin;
use super::problem::{Problem, Problems};
use super::resolve::{join, reason};
use super::tables::{ROUTE_KEYS, SITE_KEYS, SiteTable, Table};
use crate::base::site::{Act, Fallback, Host, PathMatch, Route, Site, Symlinks};
use std::path::{Path, PathBuf};

/// What is logged where PHP files cannot be run.
const NO_PHP: &str = "there is no php-cgi on PATH: install it (Debian: apt install php-cgi), or define [pool.php] with `exec` or `connect`";

/// Statuses of `redirect`.
const REDIRECTS: &[u64] = &[301, 302, 303, 307, 308];

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
        Site {
            name: "default".to_owned(),
            hosts: Vec::new(),
            index: if root.is_some() {
                self.index(None, problems)
            } else {
                Vec::new()
            },
            symlinks: if root.is_some() {
                symlinks(base.text("symlinks"))
            } else {
                Symlinks::default()
            },
            root,
            routes,
            pages: Vec::new(),
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
            symlinks: if root.is_some() {
                symlinks(chosen)
            } else {
                Symlinks::default()
            },
            root,
            routes,
            pages,
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
                let advice = match other.sentence_of_place("stands") {
                    place if key.is_empty() => format!("the other {place}"),
                    _ => format!("the other {place}"),
                };
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
        if self.around.look {
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

    fn route(
        &self,
        table: &Table,
        site: &Table,
        has_root: bool,
        unit: usize,
        problems: &mut Problems,
    ) -> Option<Route> {
        let path = path_of(table, problems);
        let mut suffixes = suffixes(
            table.list("suffix").unwrap_or_default(),
            &|_| (table.origin("suffix"), "suffix"),
            problems,
        );
        let is_static = table.flag("static").unwrap_or(false);
        let acts = [
            table.has("redirect"),
            table.has("refuse"),
            table.has("pool") || is_static,
        ];
        if acts.iter().filter(|act| **act).count() != 1 {
            let problem = table.problem("", "a route does one thing: `pool`, `static`, `redirect` or `refuse`");
            problems.push(problem.advice("only `static` and `pool` go together: files, and an app for the rest"));
            return None;
        }
        for (name, is_needed, needs) in [
            ("status", table.has("redirect"), "`redirect`"),
            (
                "fallback",
                is_static && !table.has("pool"),
                "`static = true` without `pool`",
            ),
            ("script", table.has("pool") && !is_static, "`pool` without `static`"),
            (
                "script_name",
                table.has("pool") && !is_static,
                "`pool` without `static`",
            ),
        ] {
            if table.has(name) && !is_needed {
                problems.push(table.problem(name, format!("{name} needs {needs}")));
            }
        }
        let pool = match table.text("pool") {
            None => None,
            Some(name) => match self.find_pool(name, unit) {
                Ok(pool) => Some(pool),
                Err(advice) => {
                    let what = format!("there is no pool named {}", shown_text(name));
                    problems.push(table.problem("pool", what).advice(advice));
                    return None;
                }
            },
        };
        let act = match (pool, is_static) {
            (Some(pool), true) => Act::Files {
                fallback: Some(Fallback::Pool(pool)),
            },
            (Some(pool), false) => {
                let runs = self.runs(pool);
                let by_itself = match runs {
                    Runs::Php | Runs::Scripts => true,
                    Runs::Server => !suffixes.is_empty(),
                    Runs::App => false,
                };
                if table.flag("script").unwrap_or(by_itself) {
                    if runs == Runs::Php && suffixes.is_empty() {
                        // php-cgi would run whatever file it is given.
                        suffixes.push(".php".to_owned());
                    }
                    if table.has("script_name") {
                        problems.push(table.problem("script_name", "script_name is for apps, not for scripts"));
                    }
                    Act::Script { pool }
                } else {
                    let script_name = script_name(table, &path, problems);
                    Act::App { pool, script_name }
                }
            }
            (None, true) => {
                let own = table.text("fallback").map(|text| (text, table.origin("fallback")));
                let usual = site.text("fallback").map(|text| (text, site.origin("fallback")));
                let fallback = own.or(usual);
                Act::Files {
                    fallback: fallback.and_then(|(text, origin)| fallback_path(text, &origin, problems)),
                }
            }
            (None, false) => answer(table, problems),
        };
        let needs_root = match &act {
            Act::Files { .. } | Act::Script { .. } => true,
            _ => !suffixes.is_empty(),
        };
        if needs_root && !has_root && !site.has("root") {
            let problem = table.problem("", "this route needs `root` in its site");
            problems.push(problem.advice("files and scripts are below it"));
        }
        Some(Route { path, suffixes, act })
    }
}

/// A route for all paths.
fn route(act: Act) -> Route {
    Route {
        path: PathMatch::Prefix("/".to_owned()),
        suffixes: Vec::new(),
        act,
    }
}

fn app(pool: usize) -> Act {
    Act::App {
        pool,
        script_name: String::new(),
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

/// Endings of names, in lower case.
fn suffixes(
    typed: &[String],
    origin: &dyn Fn(usize) -> (Origin, &'static str),
    problems: &mut Problems,
) -> Vec<String> {
    for (place, suffix) in typed.iter().enumerate() {
        if suffix.len() < 2 || !suffix.starts_with('.') || suffix.contains(['/', '\0', '*']) {
            let (origin, name) = origin(place);
            let what = format!("{name} must be endings such as .php, but not {}", shown_text(suffix));
            problems.push(Problem::new(what).at(origin, name));
        }
    }
    typed.iter().map(|suffix| suffix.to_ascii_lowercase()).collect()
}

/// Why a text is no path of a URL, decoded, as routes compare it.
fn path_fault(path: &str) -> Option<&'static str> {
    if !path.starts_with('/') {
        Some("it must begin with /")
    } else if path.contains(['?', '#']) {
        Some("paths are compared without the query")
    } else if path.chars().any(char::is_control) {
        Some("it must not contain control characters")
    } else if path.contains("//") || path.split('/').any(|part| part == "." || part == "..") {
        Some("paths are compared without `//`, `.` and `..`")
    } else if path.contains('*') {
        Some("it is the start of a path, no pattern")
    } else {
        None
    }
}

fn path_of(table: &Table, problems: &mut Problems) -> PathMatch {
    let (name, text) = match (table.text("path"), table.text("exact")) {
        (_, Some(text)) => ("exact", text),
        (text, None) => ("path", text.unwrap_or("/")),
    };
    if table.has("path") && table.has("exact") {
        let problem = table.problem("exact", "exact and path exclude each other");
        problems.push(problem.advice("`path` is for everything at and below it, `exact` for one path"));
    }
    if let Some(advice) = path_fault(text) {
        let what = format!("{name} must be a path, but not {}", shown_text(text));
        problems.push(table.problem(name, what).advice(advice));
    }
    if name == "exact" {
        PathMatch::Exact(text.to_owned())
    } else {
        PathMatch::Prefix(text.to_owned())
    }
}

/// A front controller. `app` is no path: the word is for sites without routes.
fn fallback_path(text: &str, origin: &Origin, problems: &mut Problems) -> Option<Fallback> {
    if let Some(advice) = path_fault(text) {
        let what = format!("fallback must be a path below `root`, but not {}", shown_text(text));
        problems.push(Problem::new(what).at(origin.clone(), "fallback").advice(advice));
        return None;
    }
    Some(Fallback::Path(text.to_owned()))
}

fn script_name(table: &Table, path: &PathMatch, problems: &mut Problems) -> String {
    let Some(text) = table.text("script_name") else {
        return String::new();
    };
    let name = text.strip_suffix('/').unwrap_or(text);
    let (PathMatch::Prefix(path) | PathMatch::Exact(path)) = path;
    let is_part = match path.strip_prefix(name) {
        Some(rest) => rest.is_empty() || rest.starts_with('/'),
        None => false,
    };
    if !name.is_empty() && (path_fault(name).is_some() || !is_part) {
        let what = format!(
            "script_name must be the start of the route's path, but not {}",
            shown_text(text)
        );
        let advice = format!("for example {}", path.strip_suffix('/').unwrap_or(path));
        problems.push(table.problem("script_name", what).advice(advice));
    }
    name.to_owned()
}

/// A redirect or a refusal.
fn answer(table: &Table, problems: &mut Problems) -> Act {
    let Some(to) = table.text("redirect") else {
        let status = table.number("refuse").and_then(|status| u16::try_from(status).ok());
        return Act::Refuse {
            status: status.unwrap_or(404),
        };
    };
    let is_uri = to.split_once(':').is_some_and(|(scheme, _)| {
        let part = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
        scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.bytes().all(part)
    });
    let plain = to.bytes().all(|byte| byte.is_ascii_graphic());
    if !plain || !(is_uri || to.starts_with('/') || to.starts_with("$uri")) {
        let what = format!("redirect must be a URI or a path, but not {}", shown_text(to));
        let advice = "for example https://shop.example$uri, or /new/place; other than ASCII is percent-encoded";
        problems.push(table.problem("redirect", what).advice(advice));
    }
    let status = table.number("status").unwrap_or(302);
    if !REDIRECTS.contains(&status) {
        let what = format!("status must be 301, 302, 303, 307 or 308, but not {status}");
        problems.push(table.problem("status", what));
    }
    Act::Redirect {
        status: u16::try_from(status).unwrap_or(302),
        to: to.to_owned(),
    }
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
