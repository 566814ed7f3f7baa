//! One `[[site.route]]`: which paths it is for, and what it does.
//!
//! Never here: which route a path takes (`plan::route`).

use super::hosting::{Hosting, Runs};
use super::kind::shown_text;
use super::layers::Origin;
use super::problem::{Problem, Problems};
use super::tables::Table;
use super::{Program, WorkerProtocol};
use crate::base::site::{Act, Fallback, PathMatch, Route};

/// Statuses of `redirect`.
const REDIRECTS: &[u64] = &[301, 302, 303, 307, 308];

impl Hosting<'_> {
    /// What a table says; `None` if that cannot be told.
    pub(super) fn route(
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
        let streams = self.streams(table, pool, problems);
        Some(Route {
            path,
            suffixes,
            act,
            streams,
        })
    }

    /// Whether bodies are passed on as they arrive. How workers take requests is settled when they start; those that
    /// speak FastCGI take both.
    fn streams(&self, table: &Table, pool: Option<usize>, problems: &mut Problems) -> Option<bool> {
        let streams = table.flag("stream_request")?;
        let Some(pool) = pool.and_then(|pool| self.pools.get(pool)) else {
            let problem = table.problem("stream_request", "stream_request needs `pool`");
            problems.push(problem.advice("files and redirects need no body"));
            return None;
        };
        let can = pool.stream_request || pool.protocol == WorkerProtocol::FastCgi;
        if streams && !can {
            let what = format!(
                "stream_request is set, but it is not known that the pool {} speaks FastCGI",
                pool.name
            );
            let advice = match pool.program {
                Program::Wsgi(_) => "WSGI apps get requests that are whole",
                Program::Scripts => "scripts get requests that are whole",
                _ => "set it in the pool, or its `protocol`; routes with false there get whole requests",
            };
            problems.push(table.problem("stream_request", what).advice(advice));
        }
        Some(streams)
    }
}

/// A route for all paths.
pub(super) fn route(act: Act) -> Route {
    Route {
        path: PathMatch::Prefix("/".to_owned()),
        suffixes: Vec::new(),
        act,
        streams: None,
    }
}

pub(super) fn app(pool: usize) -> Act {
    Act::App {
        pool,
        script_name: String::new(),
    }
}

/// Endings of names, in lower case.
pub(super) fn suffixes(
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
pub(super) fn path_fault(path: &str) -> Option<&'static str> {
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
pub(super) fn fallback_path(text: &str, origin: &Origin, problems: &mut Problems) -> Option<Fallback> {
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
