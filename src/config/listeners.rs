//! `[[listener]]`: addresses, and what web servers that speak FastCGI reach there.
//!
//! Never here: binding, and finding the script that a request names (`front`).

use super::hosting::{Hosting, Runs};
use super::kind::{Value, shown_text};
use super::resolve::{Resolver, join};
use super::tables::{LISTENER_KEYS, Table};
use super::{Bind, FastCgiListener, Program};
use crate::base::site::{Act, Site};
use std::path::{Path, PathBuf};

use super::problem::Problems;

/// The endings of what PHP runs, unless a listener says otherwise: php-fpm's `security.limit_extensions`.
const PHP: [&str; 2] = [".php", ".phar"];

/// Of unix sockets, unless a listener says otherwise: as php-fpm's `listen.mode`.
const MODE: u32 = 0o660;

/// True for a listener that speaks FastCGI.
pub(super) fn is_fastcgi(listener: &Table) -> bool {
    listener.text("protocol") == Some("fastcgi")
}

impl Resolver<'_> {
    /// Adds the addresses of listeners that speak HTTP to `bind`.
    pub(super) fn add_binds(&mut self, listeners: &[Table]) {
        let http = || listeners.iter().filter(|listener| !is_fastcgi(listener));
        let texts = http().flat_map(|listener| {
            let texts = listener.list("bind").unwrap_or_default();
            texts.iter().map(|text| (text.clone(), listener.origin("bind")))
        });
        let texts: Vec<_> = texts.collect();
        if !listeners.is_empty() && self.values.is_default("bind") {
            self.values.replace("bind", Value::List(Vec::new()));
        }
        self.values.extend("bind", texts);
        let is_nowhere = |listener: &&Table| listener.list("bind").is_none_or(<[_]>::is_empty);
        for listener in listeners.iter().filter(is_nowhere) {
            let problem = listener.problem("bind", "a listener must have an address");
            self.problems
                .push(problem.advice("for example bind = \"127.0.0.1:8000\""));
        }
        for listener in http() {
            for name in ["allowed_roots", "pool", "suffix", "mode"] {
                if listener.has(name) {
                    let problem = listener.problem(name, format!("{name} needs protocol fastcgi"));
                    self.problems
                        .push(problem.advice("with HTTP, sites say what is served"));
                }
            }
        }
    }
}

/// What web servers that speak FastCGI reach, and its tables as TOML. Pools and sites have been made.
pub(super) fn fastcgi(
    listeners: Vec<Table>,
    base: &Path,
    binds: &[Bind],
    hosting: &mut Hosting<'_>,
    problems: &mut Problems,
) -> (Vec<FastCgiListener>, String) {
    let (mut found, mut text) = (Vec::<FastCgiListener>::new(), String::new());
    for mut table in listeners.into_iter().filter(is_fastcgi) {
        let pool = pool_of(&table, hosting, problems);
        let runs = pool.map(|pool| hosting.runs(pool));
        let allowed_roots = allowed_roots(&mut table, runs, hosting, problems);
        let suffixes = match table.list("suffix") {
            Some(typed) => typed.to_vec(),
            None if matches!(runs, Some(Runs::Php | Runs::Server)) => PHP.map(str::to_owned).into(),
            None => Vec::new(),
        };
        hosting.served.extend(pool);
        let mut addresses = Vec::new();
        for typed in table.list("bind").unwrap_or_default() {
            match Bind::parse(typed, base) {
                Ok(bind) => {
                    let is_taken = binds.contains(&bind) || found.iter().any(|other| other.bind == bind);
                    if is_taken && !typed.ends_with(":0") {
                        let problem = table.problem("bind", format!("bind names {} twice", bind.text()));
                        problems.push(problem.advice("leave one out"));
                    }
                    check_directory(&table, &bind, hosting, problems);
                    addresses.push(bind.text());
                    found.push(FastCgiListener {
                        bind,
                        allowed_roots: allowed_roots.clone(),
                        pool,
                        mode: table
                            .number("mode")
                            .and_then(|mode| u32::try_from(mode).ok())
                            .unwrap_or(MODE),
                        runs_files: runs != Some(Runs::App) || !allowed_roots.is_empty(),
                        suffixes: suffixes.clone(),
                    });
                }
                Err((why, advice)) => {
                    let problem = table.problem("bind", format!("bind {why}"));
                    problems.push(problem.advice(advice));
                }
            }
        }
        table.replace("bind", Value::List(addresses));
        let origin = table.origin.to_string().replace(char::is_control, "?");
        text.push_str(&format!("\n[[listener]]  # {origin}\n"));
        table.render(LISTENER_KEYS, &mut text);
    }
    (found, text)
}

/// The pool that a listener leads to; `None` = sites say which.
fn pool_of(table: &Table, hosting: &Hosting<'_>, problems: &mut Problems) -> Option<usize> {
    let Some(name) = table.text("pool") else {
        let runs_files = |site: &Site| {
            let mut acts = site.routes.iter().map(|route| &route.act);
            acts.any(|act| matches!(act, Act::Script { .. } | Act::NoScript { .. }))
        };
        return match hosting.pools.len() {
            _ if hosting.sites.iter().any(runs_files) => None,
            1 => Some(0),
            // What is wrong there was told.
            0 => None,
            count => {
                let what =
                    format!("there are {count} pools, but no site says which of them runs what a web server names");
                problems.push(table.problem("", what).advice("name one: pool = \"php\""));
                None
            }
        };
    };
    match hosting.find_pool(name, 0) {
        Ok(pool) => {
            if let Some(Program::Wsgi(_)) = hosting.pools.get(pool).map(|pool| &pool.program) {
                let what = format!("pool names {name}, which is a WSGI app and takes no requests by FastCGI");
                let advice = "let the web server speak HTTP: proxy_pass instead of fastcgi_pass in nginx";
                problems.push(table.problem("pool", what).advice(advice));
            }
            Some(pool)
        }
        Err(advice) => {
            let what = format!("pool must name a pool, but not {}", shown_text(name));
            problems.push(table.problem("pool", what).advice(advice));
            None
        }
    }
}

/// Directories in which a web server may name scripts: without any, it may name none.
fn allowed_roots(
    table: &mut Table,
    runs: Option<Runs>,
    hosting: &Hosting<'_>,
    problems: &mut Problems,
) -> Vec<PathBuf> {
    let typed = table.list("allowed_roots").unwrap_or_default();
    let mut found = Vec::new();
    for text in typed {
        let path = join(hosting.around.start, text);
        if text.is_empty() || (hosting.around.look && !path.is_dir()) {
            let what = format!("allowed_roots must be directories, but not {}", shown_text(text));
            problems.push(table.problem("allowed_roots", what));
        }
        found.push(path);
    }
    if typed.is_empty() && runs != Some(Runs::App) {
        let what = "a listener that speaks FastCGI must have allowed_roots";
        let problem = table.problem("allowed_roots", what);
        problems.push(problem.advice("for example allowed_roots = [\"/srv/www\"]"));
    }
    let texts = found.iter().map(|path| path.display().to_string());
    let texts = Value::List(texts.collect());
    table.replace("allowed_roots", texts);
    found
}

fn check_directory(table: &Table, bind: &Bind, hosting: &Hosting<'_>, problems: &mut Problems) {
    let Bind::Unix(path) = bind else { return };
    let parent = path.parent().unwrap_or(Path::new("/"));
    if hosting.around.look && !parent.is_dir() {
        let (path, parent) = (path.display(), parent.display());
        let what = format!("bind is unix:{path}, but there is no directory {parent}");
        let advice = "make the directory, or choose another path";
        problems.push(table.problem("bind", what).advice(advice));
    }
}
