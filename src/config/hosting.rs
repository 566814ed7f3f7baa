//! Pools and sites: those of tables, and those that the flat settings make.
//!
//! A file is taken as a whole or left out as a whole. Never here: sites (`sites.rs`) and their routes (`routes.rs`).

use super::include::{self, Files};
use super::kind::{Raw, Value, shown_text};
use super::layers::{Entry, Layer, Origin, Values};
use super::pool::{PROGRAMS, is_php_cgi};
use super::problem::{Problem, Problems};
use super::resolve::{Resolver, Surroundings};
use super::settings::Setting;
use super::tables::{self, PoolTable, Tables};
use super::{Pool, Program, UNNAMED};
use crate::base::site::{Act, Route, Site};
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

mod implied;

/// The tables of one file, and what is wrong with them so far.
#[derive(Debug, Default)]
pub(super) struct Unit {
    /// The file as it is named in complaints.
    pub file: String,
    /// Its tables.
    pub tables: Tables,
    /// What is wrong.
    pub problems: Problems,
    /// Where it is, and what it says, if it is an included one.
    pub path: PathBuf,
    /// See `path`.
    pub text: String,
    /// What it said when all was well with it, if it ever was.
    pub earlier: Option<String>,
}

impl Unit {
    /// True if it has a pool or a site.
    pub(super) fn has_tables(&self) -> bool {
        !self.tables.pools.is_empty() || !self.tables.sites.is_empty()
    }
}

/// What is known of a pool by its name.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub place: usize,
    /// The file it stands in.
    unit: usize,
    origin: Origin,
    /// If it was made for sites: of which user and group.
    made_for: Option<(String, String)>,
}

impl Named {
    /// How it came to be, as part of a sentence about it.
    fn sentence(&self) -> String {
        match self.made_for {
            Some(_) => format!(
                "was made for the scripts of the site that {}",
                self.origin.sentence_of_place("begins")
            ),
            None => self.origin.sentence_of_place("begins"),
        }
    }
}

/// What a pool runs, as far as routes depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Runs {
    /// PHP files.
    Php,
    /// What an existing FastCGI server runs.
    Server,
    /// Scripts.
    Scripts,
    /// An app, which gets every path.
    App,
}

/// What is made of all tables.
#[derive(Debug)]
pub(super) struct Made {
    pub pools: Vec<Pool>,
    pub sites: Vec<Site>,
    /// Tables as TOML that makes the same again.
    pub text: String,
    /// The values of named pools with WSGI apps, by place.
    pub wsgi: Vec<(usize, Values)>,
    /// True if a file was left out, or what it said earlier goes on.
    pub skipped: bool,
    /// Complaints about files of which what they said earlier goes on.
    pub errors: Vec<String>,
    /// Included files with what was taken of them.
    pub files: Files,
}

/// Makes pools and sites, file by file.
pub(super) struct Hosting<'a> {
    /// The resolved values of the top level.
    pub(super) base: &'a Values,
    pub(super) around: Surroundings<'a>,
    pub(super) warnings: &'a mut Vec<String>,
    pub(super) pools: Vec<Pool>,
    pub(super) sites: Vec<Site>,
    names: HashMap<String, Named>,
    /// Where each host's site stands; the empty host is the default site's.
    pub(super) hosts: HashMap<String, (usize, Origin)>,
    pool_texts: Vec<String>,
    pub(super) site_texts: Vec<String>,
    wsgi: Vec<(usize, Values)>,
    /// php-cgi, once it was looked for.
    php: Option<Option<PathBuf>>,
    skipped: bool,
    errors: Vec<String>,
    files: Files,
    /// Pools that listeners lead to.
    pub(super) served: HashSet<usize>,
    /// The root directory of the unnamed site, and whether there is an unnamed pool; until its site is made.
    unnamed: Option<(Option<PathBuf>, bool)>,
    /// There is a site of the flat settings.
    pub(super) has_unnamed_site: bool,
    /// The configuration may have no site: what it includes may be still to come.
    may_be_empty: bool,
}

impl Unit {
    /// 0 for a file that says what it said when all was well, 1 for one that says something else, 2 for a new one.
    pub(super) fn newness(&self) -> u8 {
        match &self.earlier {
            Some(earlier) if *earlier == self.text => 0,
            Some(_) => 1,
            None => 2,
        }
    }
}

impl<'a> Hosting<'a> {
    pub(super) fn new(base: &'a Values, around: Surroundings<'a>, warnings: &'a mut Vec<String>) -> Self {
        Self {
            base,
            around,
            warnings,
            pools: Vec::new(),
            sites: Vec::new(),
            names: HashMap::new(),
            hosts: HashMap::new(),
            pool_texts: Vec::new(),
            site_texts: Vec::new(),
            wsgi: Vec::new(),
            php: None,
            skipped: false,
            errors: Vec::new(),
            files: Files::new(),
            served: HashSet::new(),
            unnamed: None,
            has_unnamed_site: false,
            may_be_empty: base.origin("include", usize::MAX) != Origin::Default,
        }
    }

    /// Takes the pool and the root directory of the flat settings, if there are any.
    pub(super) fn unnamed(
        &mut self,
        pool: Option<Pool>,
        root: Option<PathBuf>,
        has_tables: bool,
        problems: &mut Problems,
    ) {
        let base = self.base;
        let has_pool = pool.is_some();
        if !has_pool && root.is_none() {
            if !has_tables && !self.may_be_empty {
                problems.push(nothing_to_run());
            }
            if !base.text("fallback").is_empty() {
                let problem = Problem::new("fallback needs `root`").at(base.origin("fallback", 0), "fallback");
                problems.push(problem.advice("it is for paths that name no file"));
            }
            return;
        }
        let origins = ["root"].iter().chain(PROGRAMS);
        let origins = origins.map(|name| base.origin(name, usize::MAX));
        let origin = origins.max_by_key(Origin::rank).unwrap_or(Origin::Default);
        if let Some(pool) = pool {
            self.know(&pool.name, 0, origin.clone(), None);
            self.pools.push(pool);
            self.pool_texts.push(String::new());
        }
        self.hosts.insert(String::new(), (0, origin));
        self.unnamed = Some((root, has_pool));
    }

    /// Takes the tables of a file: the configuration's own (number 0), whose problems are those of the configuration, or
    /// an included one. If anything is wrong with that, what it said when nothing was goes on, and if that is wrong too
    /// by now, it is left out.
    pub(super) fn unit(&mut self, number: usize, unit: Unit, problems: &mut Problems) {
        let Unit {
            file,
            tables,
            problems: mut wrong,
            path,
            text,
            earlier,
        } = unit;
        if number == 0 {
            self.tables(0, tables, &mut wrong);
            return problems.append(wrong);
        }
        let Err(wrong) = self.attempt(number, tables, wrong) else {
            self.files.insert(path, text);
            return;
        };
        self.skipped = true;
        if let Some(earlier) = earlier {
            let mut old_wrong = Problems::default();
            let tables = include::tables(&earlier, &file, &mut old_wrong);
            self.around.forgives = true;
            let taken = self.attempt(number, tables, old_wrong);
            self.around.forgives = false;
            if taken.is_ok() {
                self.files.insert(path, earlier);
                let complain = |problem: &Problem| {
                    format!(
                        "{file} is broken, and what it said before stays: {}",
                        problem.on_one_line()
                    )
                };
                self.errors.extend(wrong.iter().map(complain));
                return;
            }
        }
        for problem in wrong.iter() {
            self.warnings
                .push(format!("{file} is left out: {}", problem.on_one_line()));
        }
    }

    /// Takes the tables of an included file, or nothing of them.
    fn attempt(&mut self, number: usize, tables: Tables, mut wrong: Problems) -> Result<(), Problems> {
        let before = (self.pools.len(), self.sites.len(), self.wsgi.len());
        self.tables(number, tables, &mut wrong);
        let Err(wrong) = wrong.into_result() else {
            return Ok(());
        };
        self.pools.truncate(before.0);
        self.pool_texts.truncate(before.0);
        self.sites.truncate(before.1);
        self.site_texts.truncate(before.1);
        self.wsgi.truncate(before.2);
        self.names.retain(|_, named| named.place < before.0);
        self.hosts.retain(|_, (site, _)| *site < before.1);
        Err(wrong)
    }

    fn tables(&mut self, number: usize, tables: Tables, wrong: &mut Problems) {
        let from = self.pools.len();
        for table in tables.pools {
            self.pool_table(table, number, wrong);
        }
        // Its routes may lead to pools of tables.
        if let Some((root, has_pool)) = self.unnamed.take() {
            let site = self.unnamed_site(root, has_pool, wrong);
            self.sites.push(site);
            self.site_texts.push(String::new());
        }
        for table in tables.sites {
            self.site_table(table, number, wrong);
        }
        self.check_room(from, number, wrong);
    }

    /// Workers that run even with nothing to do must fit into `max_workers`. `from` = the first pool of this file.
    fn check_room(&self, from: usize, unit: usize, problems: &mut Problems) {
        let most = usize::try_from(self.base.number("max_workers")).unwrap_or(usize::MAX);
        let least = |pools: &[Pool]| pools.iter().map(Pool::least_processes).sum::<usize>();
        let (others, own) = self.pools.split_at_checked(from).unwrap_or_default();
        let (others, own) = (least(others), least(own));
        if most == 0 || own == 0 || others + own <= most {
            return;
        }
        let what = if unit == 0 {
            format!("max_workers is {most}, but {own} workers run even with nothing to do")
        } else {
            format!(
                "its pools have {own} workers even with nothing to do, and other files {others}, but max_workers is {most}"
            )
        };
        let problem = Problem::new(what).at(self.base.origin("max_workers", 0), "max_workers");
        let advice =
            "raise it, or lower `workers` or their `min`; with min = 0 a pool has none before its first request";
        problems.push(problem.advice(advice));
    }

    /// Ends: without any site, one pool serves everything that comes by HTTP.
    pub(super) fn finish(mut self, has_http: bool, problems: &mut Problems) -> Made {
        if has_http && self.sites.is_empty() && problems.is_empty() {
            match self.pools.len() {
                0 => {}
                1 => {
                    let site = self.site_of_one_pool(problems);
                    self.sites.push(site);
                }
                count => {
                    let what = format!("there are {count} pools, but no site says which requests they get");
                    problems.push(Problem::new(what).advice("add a [[site]] with routes; docs/hosting.md shows how"));
                }
            }
        }
        self.check_top(problems);
        self.warn_of_unused_pools();
        let texts = self.pool_texts.into_iter().chain(self.site_texts);
        Made {
            pools: self.pools,
            sites: self.sites,
            text: texts.collect(),
            wsgi: self.wsgi,
            skipped: self.skipped,
            errors: self.errors,
            files: self.files,
        }
    }

    fn warn_of_unused_pools(&mut self) {
        let mut used = std::mem::take(&mut self.served);
        for Route { act, .. } in self.sites.iter().flat_map(|site| &site.routes) {
            use crate::base::site::Fallback;
            match act {
                Act::App { pool, .. } | Act::Script { pool } => drop(used.insert(*pool)),
                Act::Files {
                    fallback: Some(Fallback::Pool(pool)),
                } => drop(used.insert(*pool)),
                Act::Files { .. } | Act::NoScript { .. } | Act::Redirect { .. } | Act::Refuse { .. } => {}
            }
        }
        for (place, pool) in self.pools.iter().enumerate() {
            if !used.contains(&place) {
                self.warnings.push(format!("no site uses the pool {}", pool.name));
            }
        }
    }

    fn know(&mut self, name: &str, unit: usize, origin: Origin, made_for: Option<(String, String)>) {
        let named = Named {
            place: self.pools.len(),
            unit,
            origin,
            made_for,
        };
        self.names.insert(name.to_owned(), named);
    }

    /// The pool that a table of a file means: one of the same file or of the main one, so that no tenant's requests get
    /// to another's pool by mistake.
    pub(super) fn find_pool(&self, name: &str, unit: usize) -> Result<usize, String> {
        let is_seen = |named: &Named| named.unit == 0 || named.unit == unit;
        if let Some(named) = self.names.get(name) {
            return if is_seen(named) {
                Ok(named.place)
            } else {
                Err(format!(
                    "the pool of this name {} and only that file can use it",
                    named.sentence()
                ))
            };
        }
        let seen = self.names.iter().filter(|(_, named)| is_seen(named));
        let seen = seen.map(|(name, _)| name.as_str());
        Err(match super::file::nearest_of(name, seen) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("define it: [pool.{name}]"),
        })
    }

    /// What a pool runs.
    pub(super) fn runs(&self, pool: usize) -> Runs {
        match self.pools.get(pool).map(|pool| &pool.program) {
            Some(Program::Connect(_)) => Runs::Server,
            Some(Program::Scripts) => Runs::Scripts,
            Some(program) if is_php_cgi(program) => Runs::Php,
            _ => Runs::App,
        }
    }

    fn pool_table(&mut self, table: PoolTable, unit: usize, problems: &mut Problems) {
        if let Some(other) = self.names.get(&table.name) {
            let what = format!("there are two pools named {}", shown_text(&table.name));
            let problem = Problem::new(what).at(table.origin.clone(), "");
            let advice = format!("the other {}; choose another name", other.sentence());
            problems.push(problem.advice(advice));
            return;
        }
        if table.name == UNNAMED {
            let what = format!("a pool cannot be named {UNNAMED}");
            let problem = Problem::new(what).at(table.origin.clone(), "");
            problems.push(problem.advice("that is the name of the pool that `exec` or an app at the top level makes"));
        }
        self.make_pool(table, unit, None, problems);
    }

    /// Makes a pool of a table, typed or not. Settings that it does not have are those of the top level, but for what is
    /// run: that of the top level is the unnamed pool's.
    fn make_pool(
        &mut self,
        table: PoolTable,
        unit: usize,
        made_for: Option<(String, String)>,
        problems: &mut Problems,
    ) -> usize {
        let PoolTable {
            name,
            origin,
            mut layer,
            env,
        } = table;
        let base = self.base;
        self.complete(&mut layer, env);
        let mut wrong = Problems::default();
        let mut values = base.overlay(&layer, &mut wrong);
        let mut resolver = Resolver {
            values: &mut values,
            around: self.around,
            problems: &mut wrong,
            warnings: self.warnings,
            base: self.around.start.to_owned(),
        };
        resolver.choose_program();
        let chdir = resolver.working_directory();
        if resolver.names_program("wsgi_app") {
            resolver.base.clone_from(&chdir);
        }
        let pool = resolver.pool(Some(&name), chdir);
        let mut pool = pool.unwrap_or_else(|| {
            let problem = Problem::new(format!("the pool {name} has nothing to run")).at(origin.clone(), "");
            let advice = "set `app`, `exec` or `connect` in it, or `protocol = \"cgi\"` for a pool of scripts";
            resolver.problems.push(problem.advice(advice));
            Pool::nothing(&name)
        });
        resolver.check_limits();
        if layer.contains_key("umask") {
            pool.rights.umask = u32::try_from(values.number("umask")).ok();
        }
        if !matches!(pool.program, Program::Exec(_) | Program::Scripts) || is_php_cgi(&pool.program) {
            let limits = layer.keys().filter(|name| name.starts_with("rlimit_"));
            let idle =
                |limit: &&'static str| format!("{limit} of pool {name} has no effect: it binds CGI scripts only");
            self.warnings.extend(limits.map(idle));
        }
        if let Program::Wsgi(wsgi) = &mut pool.program {
            // Workers of named pools are not forked from a process that has the app.
            wsgi.preload = false;
            self.refuse_loggers(&mut wrong);
        }
        problems.append(wrong);
        self.pool_texts.push(render(&name, &origin, &layer, &values, base));
        self.know(&name, unit, origin, made_for);
        let place = self.pools.len();
        if matches!(pool.program, Program::Wsgi(_)) {
            self.wsgi.push((place, values));
        }
        self.pools.push(pool);
        place
    }

    /// A logger in Python is set up by the process that forks the workers of the unnamed app; those of named pools would
    /// be without it.
    fn refuse_loggers(&self, problems: &mut Problems) {
        let loggers = ["logger_class", "logconfig", "logconfig_json"];
        for name in loggers.into_iter().filter(|name| !self.base.text(name).is_empty()) {
            let problem = Problem::new(format!("{name} is for the one app of the top level"));
            let problem = problem.at(self.base.origin(name, 0), name);
            problems.push(problem.advice("leave it out where [pool.NAME] tables have WSGI apps"));
        }
    }

    /// Adds to a pool's settings what follows from those that are there, and the defaults of such pools.
    fn complete(&self, layer: &mut Layer, env: Option<(Vec<String>, Origin)>) {
        let is_default = |name: &str| self.base.origin(name, usize::MAX) == Origin::Default;
        let mut add = |name: &'static str, raw: Raw, origin: Origin| {
            layer.entry(name).or_insert_with(|| Entry::new(raw, origin));
        };
        for name in PROGRAMS {
            let nothing = if *name == "wsgi_app" {
                Raw::Text(String::new())
            } else {
                Raw::List(Vec::new())
            };
            add(name, nothing, Origin::Default);
        }
        if is_default("clear_env") {
            add("clear_env", Raw::Flag(true), Origin::Default);
        }
        if is_default("pass_env") {
            add("pass_env", Raw::List(vec!["PATH".to_owned()]), Origin::Default);
        }
        if let Some(origin) = layer.get("user").map(|entry| entry.origin.clone()) {
            // The group of the top level is not one that this user is in.
            layer
                .entry("group")
                .or_insert_with(|| Entry::new(Raw::Text(String::new()), origin.clone()));
            if is_default("check_owner") {
                layer
                    .entry("check_owner")
                    .or_insert_with(|| Entry::new(Raw::Flag(true), origin));
            }
        }
        if let Some((more, origin)) = env {
            let inherited = || {
                let items = self.base.list("raw_env");
                let origins = (0..items.len()).map(|item| self.base.origin("raw_env", item));
                Entry {
                    raw: Raw::List(items.to_vec()),
                    origin: origin.clone(),
                    items: origins.collect(),
                }
            };
            let entry = layer.entry("raw_env").or_insert_with(inherited);
            if let Raw::Text(item) = &entry.raw {
                entry.raw = Raw::List(vec![item.clone()]);
            }
            if let Raw::List(items) = &mut entry.raw {
                entry.items.resize(items.len(), entry.origin.clone());
                entry.items.extend(more.iter().map(|_| origin.clone()));
                items.extend(more);
            }
        }
    }
}

/// That nothing is named to run.
fn nothing_to_run() -> Problem {
    Problem::new("No application module specified.").advice(
        "name a WSGI app: rgunicorn app:application\n  \
         or a program: rgunicorn --exec ./app\n  \
         or a directory with pages and scripts: rgunicorn --root ./public_html\n  \
         or a FastCGI server: rgunicorn --connect unix:/run/php/fpm.sock",
    )
}

/// A pool as TOML: what its table has, and what it came to otherwise than at the top level.
fn render(name: &str, origin: &Origin, layer: &Layer, values: &Values, base: &Values) -> String {
    let shown = if name.contains('.') {
        super::kind::quoted(name)
    } else {
        name.to_owned()
    };
    let place = origin.to_string().replace(char::is_control, "?");
    let mut text = format!("\n[pool.{shown}]  # {place}\n");
    for setting in Setting::all().filter(|setting| setting.is_per_pool()) {
        let Some(value) = values.value(setting.name) else {
            continue;
        };
        let is_nothing = PROGRAMS.contains(&setting.name) && is_empty(value);
        let is_own = layer.contains_key(setting.name) || base.value(setting.name) != Some(value);
        if is_own && !is_nothing {
            let origin = values.origin(setting.name, usize::MAX);
            tables::render(setting.name, setting.kind, value, &origin, &mut text);
        }
    }
    text
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Text(text) => text.is_empty(),
        Value::List(texts) => texts.is_empty(),
        Value::Flag(_) | Value::Number(_) | Value::Duration(_) | Value::Size(_) | Value::Map(_) => false,
    }
}

#[cfg(test)]
mod tests;
