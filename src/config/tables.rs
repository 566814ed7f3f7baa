//! The tables of a file: `[pool.NAME]`, `[[site]]` with `[[site.route]]`, and `[[listener]]`, as they were typed.
//!
//! Keys and kinds are checked here, so that every complaint names its line. What the values mean is in `hosting.rs`.

use super::file::{self, Places, nearest_of};
use super::kind::{Kind, Raw, Value, shown_text};
use super::layers::{Entry, Layer, Origin};
use super::problem::{Problem, Problems};
use super::settings::Setting;
use std::collections::BTreeMap;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A key of a table that is no setting.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What values it takes.
    pub kind: Kind,
    /// What it is, whole sentences on one line.
    pub doc: &'static str,
}

const fn key(name: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key { name, kind, doc }
}

const fn text(of: &'static str) -> Kind {
    Kind::Text { of }
}

/// Keys of `[pool.NAME]` that are other words for settings.
#[rustfmt::skip] // One row each.
pub const POOL_KEYS: &[Key] = &[
    key("app", text("MODULE, MODULE:NAME or MODULE:FACTORY()"), "A WSGI app: `wsgi_app` under a shorter name."),
    key("env", Kind::Map { of: "variable = value" }, "Environment variables of the pool's workers, beside those of `raw_env`."),
    key("rlimits", Kind::Map { of: "resource = number" }, "`{ cpu = 10 }` is `rlimit_cpu = 10`, and so on."),
];

/// Keys of `[[site]]`.
#[rustfmt::skip] // One row each.
pub const SITE_KEYS: &[Key] = &[
    key("hosts", Kind::List { of: "host names, or *.NAME for all below one", commas: false }, "Whose requests the site serves. Without it the site is the default: it serves the hosts of no other site."),
    key("root", Kind::Path { of: "a directory" }, "As the setting `root`, for this site."),
    key("index", Kind::List { of: "file names", commas: true }, "As the setting `index`, which is its default."),
    key("symlinks", Kind::Choice(&["inside", "owner", "follow"]), "As the setting `symlinks`, which is its default."),
    key("fallback", text("a path below `root`, or the word app"), "As the setting `fallback`. With routes, it is that of static routes that name none."),
    key("script_suffixes", Kind::List { of: "endings of names", commas: true }, "As the setting `script_suffixes`, which is its default. Only for sites without routes."),
    key("pool", text("a pool's name"), "The app of a site without routes."),
    key("user", text("name or number"), "User of the scripts of a site with `root` and neither routes nor `pool`. Its pools are named `php.USER` and `cgi.USER`, and sites with the same user share them."),
    key("group", text("name or number"), "Group of these scripts; the default is the user's own."),
    key("pages", Kind::Map { of: "status = path" }, "What is sent instead of our own pages of errors: paths below `root`, or `file:/PATH` for any file."),
    key("types", Kind::Map { of: "ending = content type" }, "As the setting `types`, whose rows count too unless the site has one for the same ending."),
    key("served_suffixes", Kind::List { of: "endings of names", commas: true }, "As the setting `served_suffixes`, which is its default."),
    key("precompressed", Kind::Flag, "As the setting `precompressed`, which is its default."),
    key("sendfile_roots", Kind::List { of: "directories", commas: false }, "As the setting `sendfile_roots`, for the apps of this site. That of the top level is no default: one tenant's app could then send another's files."),
    key("accel_roots", Kind::Map { of: "start of a path = directory" }, "As the setting `accel_roots`, for the apps of this site."),
];

/// Keys of `[[site.route]]`.
#[rustfmt::skip] // One row each.
pub const ROUTE_KEYS: &[Key] = &[
    key("path", text("a path, decoded"), "Paths at and below this one: `/api` matches `/api` and `/api/x`, not `/apis`. The default is `/`."),
    key("exact", text("a path, decoded"), "This path only."),
    key("suffix", Kind::List { of: "endings such as .php", commas: false }, "Only paths that name a file with one of these endings, whatever the case of the letters."),
    key("pool", text("a pool's name"), "The pool that gets the request."),
    key("script", Kind::Flag, "Whether the pool runs the file that the path names, or is an app that gets all paths. The default is true for php-cgi, for pools of scripts, and for `connect` with a `suffix`."),
    key("script_name", text("a path"), "The part of the path at which the app is mounted: its SCRIPT_NAME. The default is empty, so the app sees whole paths."),
    key("stream_request", Kind::Flag, "As the setting `stream_request` of its pool, for these paths: true for pools that speak FastCGI or have it themselves, false for any."),
    key("static", Kind::Flag, "Files are sent. With `pool` too, paths that name no file go to that app."),
    key("fallback", text("a path below `root`"), "With `static`: the front controller for paths that name no file, for example `/index.php`."),
    key("redirect", text("a URI or a path; $uri = path and query as sent"), "The client is sent there."),
    key("status", Kind::Number { unit: "a status", min: 301, max: 308 }, "Of `redirect`: 301, 302, 303, 307 or 308. The default is 302."),
    key("refuse", Kind::Number { unit: "a status", min: 400, max: 599 }, "The request is answered with this status and a page of ours."),
];

/// Keys of `[[listener]]`.
#[rustfmt::skip] // One row each.
pub const LISTENER_KEYS: &[Key] = &[
    key("bind", Kind::List { of: "addresses", commas: false }, "As the setting `bind`; without a `bind` at the top level these are the only addresses."),
    key("protocol", Kind::Choice(&["http", "fastcgi"]), "What clients speak there. The default is http."),
    key("allowed_roots", Kind::List { of: "directories", commas: false }, "With fastcgi: directories in which a web server may name scripts. What lies elsewhere, or leaves them by a link, is answered with 403."),
    key("pool", text("a pool's name"), "With fastcgi: the pool that gets all requests. Without it the site of a request's host says what runs a file with such an ending; if there is one pool only, it is that. A pool that is an app (not php-cgi, not scripts) needs no `allowed_roots`."),
    key("mode", Kind::Octal, "With fastcgi: permission bits of unix sockets, which belong to `user` and `group`. The default is 0o660, as with php-fpm: who can connect can have any script run with any variables."),
    key("suffix", Kind::List { of: "endings such as .php", commas: false }, "With fastcgi and `pool`: endings of the files that are run. The default is .php and .phar for PHP and for `connect`, and any for scripts."),
];

/// The values of one table, each with the line of its key.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Table {
    /// Where the table begins.
    pub origin: Origin,
    /// A value is `None` if it is not of its kind, which was complained about.
    cells: BTreeMap<&'static str, (Option<Value>, Origin)>,
}

impl Table {
    fn new(origin: Origin) -> Self {
        Self {
            origin,
            cells: BTreeMap::new(),
        }
    }

    /// True if the key was typed.
    pub(super) fn has(&self, name: &str) -> bool {
        self.cells.contains_key(name)
    }

    /// Where the key was typed; if it was not, where the table begins.
    pub(super) fn origin(&self, name: &str) -> Origin {
        self.cells
            .get(name)
            .map_or_else(|| self.origin.clone(), |(_, origin)| origin.clone())
    }

    /// Of a text or path; `None` if it was not typed.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        match self.cells.get(name) {
            Some((Some(Value::Text(text)), _)) => Some(text),
            _ => None,
        }
    }

    /// Of a list; `None` if it was not typed.
    pub(super) fn list(&self, name: &str) -> Option<&[String]> {
        match self.cells.get(name) {
            Some((Some(Value::List(texts)), _)) => Some(texts),
            _ => None,
        }
    }

    /// Of a flag; `None` if it was not typed.
    pub(super) fn flag(&self, name: &str) -> Option<bool> {
        match self.cells.get(name) {
            Some((Some(Value::Flag(on)), _)) => Some(*on),
            _ => None,
        }
    }

    /// Of a number; `None` if it was not typed.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        match self.cells.get(name) {
            Some((Some(Value::Number(number)), _)) => Some(*number),
            _ => None,
        }
    }

    /// Of a table of texts; empty if it was not typed.
    pub(super) fn map(&self, name: &str) -> &[(String, String)] {
        match self.cells.get(name) {
            Some((Some(Value::Map(pairs)), _)) => pairs,
            _ => &[],
        }
    }

    /// Replaces a value by what it was resolved to.
    pub(super) fn replace(&mut self, name: &str, value: Value) {
        if let Some((old, _)) = self.cells.get_mut(name) {
            *old = Some(value);
        }
    }

    /// The values as TOML, in the order of `keys`, with origins as comments.
    pub(super) fn render(&self, keys: &[Key], out: &mut String) {
        for key in keys {
            if let Some((Some(value), origin)) = self.cells.get(key.name) {
                render(key.name, key.kind, value, origin, out);
            }
        }
    }

    /// A complaint about a key: what, where, what to do.
    pub(super) fn problem(&self, name: &str, what: impl Into<String>) -> Problem {
        let shown = if self.has(name) { name } else { "" };
        Problem::new(what).at(self.origin(name), shown)
    }
}

/// One value as TOML with its origin as a comment.
pub(super) fn render(name: &str, kind: Kind, value: &Value, origin: &Origin, out: &mut String) {
    // A file's name may hold anything, a comment may not hold controls.
    let origin = origin.to_string().replace(char::is_control, "?");
    let value = kind.write(value);
    out.push_str(&format!("{name} = {value}  # {origin}\n"));
}

/// `[pool.NAME]`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PoolTable {
    /// Its name.
    pub name: String,
    /// Where it begins.
    pub origin: Origin,
    /// Its settings, by their names in the table of settings.
    pub layer: Layer,
    /// What `env` adds to `raw_env`, as NAME=VALUE, and where.
    pub env: Option<(Vec<String>, Origin)>,
}

/// `[[site]]`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SiteTable {
    /// Its keys but for `route`.
    pub keys: Table,
    /// Its `[[site.route]]` tables.
    pub routes: Vec<Table>,
}

/// The tables of one file, in its order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Tables {
    /// Pools.
    pub pools: Vec<PoolTable>,
    /// Sites.
    pub sites: Vec<SiteTable>,
    /// Listeners.
    pub listeners: Vec<Table>,
}

impl Tables {
    /// Takes a value of the top level if it is one of these tables. False if it is none.
    pub(super) fn take(
        &mut self,
        name: &str,
        value: &Spanned<DeValue<'_>>,
        places: &Places<'_>,
        problems: &mut Problems,
    ) -> bool {
        match name {
            "pool" => self.take_pools(value, places, problems),
            "site" => {
                for table in tables("site", value, places, problems) {
                    let keys = read(&table, SITE_KEYS, "[[site]]", Some("route"), places, problems);
                    let routes = table.inner.get("route").map(|route| {
                        let found = tables("site.route", route, places, problems);
                        let read = |table: &Found<'_, '_>, problems: &mut Problems| {
                            read(table, ROUTE_KEYS, "[[site.route]]", None, places, problems)
                        };
                        found.iter().map(|table| read(table, problems)).collect()
                    });
                    self.sites.push(SiteTable {
                        keys,
                        routes: routes.unwrap_or_default(),
                    });
                }
            }
            "listener" => {
                for table in tables("listener", value, places, problems) {
                    let listener = read(&table, LISTENER_KEYS, "[[listener]]", None, places, problems);
                    self.listeners.push(listener);
                }
            }
            _ => return false,
        }
        true
    }

    fn take_pools(&mut self, value: &Spanned<DeValue<'_>>, places: &Places<'_>, problems: &mut Problems) {
        let origin = places.of(&value.span());
        let DeValue::Table(pools) = value.get_ref() else {
            let problem = Problem::new("pool must be a table").at(origin, "");
            problems.push(problem.advice("begin each pool with a line such as [pool.api]"));
            return;
        };
        let mut found: Vec<_> = pools.iter().collect();
        found.sort_by_key(|(key, _)| key.span().start);
        for (key, value) in found {
            let origin = places.of(&key.span());
            let name = key.get_ref().to_string();
            let DeValue::Table(inner) = value.get_ref() else {
                let what = format!("pool.{name} must be a table");
                let advice = "begin each pool with a line such as [pool.api]";
                problems.push(Problem::new(what).at(origin, "").advice(advice));
                continue;
            };
            if !is_pool_name(&name) {
                let what = format!(
                    "a pool's name is letters, digits, `-`, `_` and `.`, at most 64 of them, but not {}",
                    shown_text(&name)
                );
                problems.push(Problem::new(what).at(origin.clone(), ""));
            }
            let pool = read_pool(name, origin, inner, places, problems);
            self.pools.push(pool);
        }
    }
}

fn is_pool_name(name: &str) -> bool {
    let part = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=64).contains(&name.len()) && name.bytes().all(part)
}

/// A table of an array of tables.
struct Found<'a, 'text> {
    inner: &'a DeTable<'text>,
    origin: Origin,
}

fn tables<'a, 'text>(
    name: &str,
    value: &'a Spanned<DeValue<'text>>,
    places: &Places<'_>,
    problems: &mut Problems,
) -> Vec<Found<'a, 'text>> {
    let mut found = Vec::new();
    let mut wrong = |origin| {
        let problem = Problem::new(format!("{name} must be a list of tables")).at(origin, "");
        problems.push(problem.advice(format!("begin each with the line [[{name}]]")));
    };
    let DeValue::Array(items) = value.get_ref() else {
        wrong(places.of(&value.span()));
        return found;
    };
    for item in items.iter() {
        let origin = places.of(&item.span());
        match item.get_ref() {
            DeValue::Table(inner) => found.push(Found { inner, origin }),
            _ => wrong(origin),
        }
    }
    found
}

/// Reads the keys of a table but for `other`, which is read elsewhere.
fn read(
    table: &Found<'_, '_>,
    keys: &'static [Key],
    shown: &str,
    other: Option<&str>,
    places: &Places<'_>,
    problems: &mut Problems,
) -> Table {
    let mut read = Table::new(table.origin.clone());
    for (key, value) in table.inner.iter() {
        let name: &str = key.get_ref();
        if other == Some(name) {
            continue;
        }
        let origin = places.of(&key.span());
        let Some(key) = keys.iter().find(|key| key.name == name) else {
            let names = keys.iter().map(|key| key.name).chain(other);
            problems.push(unknown(name, shown, origin, names));
            continue;
        };
        let entry = file::entry(value, origin, places);
        let value = accept(key.name, key.kind, &entry, problems);
        read.cells.insert(key.name, (value, entry.origin));
    }
    read
}

fn unknown<'a>(name: &str, table: &str, origin: Origin, names: impl Iterator<Item = &'a str>) -> Problem {
    let problem = Problem::new(format!("unknown key {} in {table}", shown_text(name))).at(origin, "");
    problem.advice(match nearest_of(&name.to_ascii_lowercase().replace('-', "_"), names) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("docs/settings.md lists the keys of {table}"),
    })
}

/// Checks the kind of a value.
pub(super) fn accept(name: &str, kind: Kind, entry: &Entry, problems: &mut Problems) -> Option<Value> {
    let value = kind.accept(&entry.raw);
    if value.is_none() {
        let wanted = kind.expectation();
        let what = format!("{name} must be {wanted}, but not {}", entry.raw.shown());
        problems.push(Problem::new(what).at(entry.origin.clone(), name));
    }
    value
}

fn read_pool(
    name: String,
    origin: Origin,
    table: &DeTable<'_>,
    places: &Places<'_>,
    problems: &mut Problems,
) -> PoolTable {
    let mut pool = PoolTable {
        name,
        origin,
        layer: Layer::new(),
        env: None,
    };
    for (key, value) in table.iter() {
        let name: &str = key.get_ref();
        let origin = places.of(&key.span());
        match name {
            "env" => pool.env = read_env(value, origin, problems),
            "rlimits" => read_rlimits(value, places, problems, &mut pool.layer),
            _ => {
                let setting = Setting::find(if name == "app" { "wsgi_app" } else { name });
                match setting {
                    Some(setting) if setting.is_per_pool() => {
                        if setting.name == "workers" {
                            read_workers(value, origin, places, &mut pool.layer, problems);
                        } else {
                            pool.layer.insert(setting.name, file::entry(value, origin, places));
                        }
                    }
                    Some(setting) if setting.is_in_file() => {
                        let what = format!("{name} cannot stand in a [pool] table");
                        let problem = Problem::new(what).at(origin, "");
                        problems.push(problem.advice("it is for the whole server: write it at the top level"));
                    }
                    _ => problems.push(unknown(name, "[pool.NAME]", origin, pool_names())),
                }
            }
        }
    }
    // A number of workers means this number, whatever the least and the most are elsewhere.
    if pool.layer.contains_key("workers") && !pool.layer.contains_key("min_workers") {
        let origin = pool
            .layer
            .get("workers")
            .map_or(Origin::Default, |entry| entry.origin.clone());
        pool.layer.insert("min_workers", Entry::new(Raw::Integer(4096), origin));
    }
    pool
}

/// All keys of `[pool.NAME]`.
fn pool_names() -> impl Iterator<Item = &'static str> {
    let settings = Setting::all().filter(|setting| setting.is_per_pool());
    let words = POOL_KEYS.iter().map(|key| key.name);
    settings.map(|setting| setting.name).chain(words)
}

/// Pairs of a table, with numbers and flags as texts.
fn pairs(value: &Spanned<DeValue<'_>>) -> Option<Vec<(String, String)>> {
    let DeValue::Table(table) = value.get_ref() else {
        return None;
    };
    let mut found: Vec<_> = table.iter().collect();
    found.sort_by_key(|(key, _)| key.span().start);
    let text = |value: &DeValue<'_>| match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(on) => Some(on.to_string()),
        _ => None,
    };
    let pairs = found
        .into_iter()
        .map(|(key, value)| Some((key.get_ref().to_string(), text(value.get_ref())?)));
    pairs.collect()
}

fn read_env(value: &Spanned<DeValue<'_>>, origin: Origin, problems: &mut Problems) -> Option<(Vec<String>, Origin)> {
    let Some(pairs) = pairs(value) else {
        let problem = Problem::new("env must be a table of texts").at(origin, "env");
        problems.push(problem.advice("for example env = { LANG = \"C.UTF-8\" }"));
        return None;
    };
    for (name, _) in &pairs {
        if name.is_empty() || name.contains(['=', '\0']) {
            let what = format!("env must have names of variables as keys, but not {}", shown_text(name));
            problems.push(Problem::new(what).at(origin.clone(), "env"));
        }
    }
    let items = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
    Some((items, origin))
}

fn read_rlimits(value: &Spanned<DeValue<'_>>, places: &Places<'_>, problems: &mut Problems, layer: &mut Layer) {
    let origin = places.of(&value.span());
    let DeValue::Table(table) = value.get_ref() else {
        let problem = Problem::new("rlimits must be a table").at(origin, "rlimits");
        problems.push(problem.advice("for example rlimits = { cpu = 10 }"));
        return;
    };
    for (key, value) in table.iter() {
        let name: &str = key.get_ref();
        let origin = places.of(&key.span());
        match Setting::find(&format!("rlimit_{name}")) {
            Some(setting) => drop(layer.insert(setting.name, file::entry(value, origin, places))),
            None => {
                let known = Setting::all().filter_map(|setting| setting.name.strip_prefix("rlimit_"));
                problems.push(unknown(name, "rlimits", origin, known));
            }
        }
    }
}

/// Puts `workers` into a layer: a number, or a table `{ min, max, idle }`.
pub(super) fn read_workers(
    value: &Spanned<DeValue<'_>>,
    origin: Origin,
    places: &Places<'_>,
    layer: &mut Layer,
    problems: &mut Problems,
) {
    let DeValue::Table(table) = value.get_ref() else {
        layer.insert("workers", file::entry(value, origin, places));
        return;
    };
    for (key, value) in table.iter() {
        let name: &str = key.get_ref();
        let setting = match name {
            "min" => "min_workers",
            "max" => "workers",
            "idle" => "idle_timeout",
            _ => {
                let names = ["min", "max", "idle"].into_iter();
                problems.push(unknown(name, "workers", places.of(&key.span()), names));
                continue;
            }
        };
        layer.insert(setting, file::entry(value, places.of(&key.span()), places));
    }
    let number = |name: &str| match layer.get(name).map(|entry| &entry.raw) {
        Some(Raw::Integer(number)) => Some(*number),
        _ => None,
    };
    if let (Some(min), Some(max)) = (number("min_workers"), number("workers"))
        && min > max
    {
        let what = format!("min is {min}, but must not be more than max, which is {max}");
        problems.push(Problem::new(what).at(origin.clone(), "workers"));
    }
    if number("workers") == Some(0) {
        let problem =
            Problem::new("max must be at least 1: without a worker nothing is answered").at(origin, "workers");
        problems.push(problem.advice("min = 0 has workers only while they are needed"));
    }
}
