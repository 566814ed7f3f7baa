//! How a site's files are sent: content types, which endings are, and which files its apps may name.
//!
//! Never here: how a file is sent (`crate::files`), its routes (`routes.rs`).

use super::hosting::Hosting;
use super::kind::{Value, shown_text};
use super::layers::Origin;
use super::problem::{Problem, Problems};
use super::resolve::{join, reason};
use super::routes::{path_fault, suffixes};
use super::tables::Table;
use crate::base::site::{Act, Files, PathMatch, Route};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const SENDFILE: &str = "sendfile_roots";
const ACCEL: &str = "accel_roots";

impl Hosting<'_> {
    /// The rules of a `[[site]]`; what it does not say, the top level does, but for what apps may send.
    pub(super) fn files_of_table(&self, keys: &mut Table, problems: &mut Problems) -> Files {
        let mut types = self.types(&mut Problems::default());
        types.extend(self.types_of(keys.map("types"), &|| keys.origin("types"), problems));
        let served = match keys.list("served_suffixes") {
            Some(typed) => suffixes(
                typed,
                &|_| (keys.origin("served_suffixes"), "served_suffixes"),
                problems,
            ),
            None => self.served(&mut Problems::default()),
        };
        let precompressed = keys
            .flag("precompressed")
            .unwrap_or_else(|| self.base.flag("precompressed"));
        let typed = keys.list(SENDFILE).unwrap_or_default();
        let sendfile_roots = self.sendfile_roots(typed, &|_| keys.origin(SENDFILE), problems);
        let accel_roots = self.accel_roots(keys.map(ACCEL), &keys.origin(ACCEL), problems);
        let texts = sendfile_roots.iter().map(|path| path.display().to_string());
        keys.replace(SENDFILE, Value::List(texts.collect()));
        let pairs = accel_roots.iter().map(|(prefix, path)| {
            let prefix = if prefix.is_empty() { "/" } else { prefix };
            (prefix.to_owned(), path.display().to_string())
        });
        keys.replace(ACCEL, Value::Map(pairs.collect()));
        Files {
            types: types.into_iter().collect(),
            served,
            precompressed,
            sendfile_roots,
            accel_roots,
        }
    }

    /// The rules of the unnamed site.
    pub(super) fn files_of_top(&mut self, problems: &mut Problems) -> Files {
        self.has_unnamed_site = true;
        let base = self.base;
        let origin = |place| base.origin(SENDFILE, place);
        Files {
            types: self.types(&mut Problems::default()).into_iter().collect(),
            served: self.served(&mut Problems::default()),
            precompressed: base.flag("precompressed"),
            sendfile_roots: self.sendfile_roots(base.list(SENDFILE), &origin, problems),
            accel_roots: self.accel_roots(base.map(ACCEL), &base.origin(ACCEL, 0), problems),
        }
    }

    /// Says what is wrong with the rules of the top level, which many sites may have taken over.
    ///
    /// What apps may send is said for one site, never for all: a tenant's app would reach another's files.
    pub(super) fn check_top(&self, problems: &mut Problems) {
        self.types(problems);
        self.served(problems);
        if self.has_unnamed_site {
            return;
        }
        let is_set = [
            (SENDFILE, !self.base.list(SENDFILE).is_empty()),
            (ACCEL, !self.base.map(ACCEL).is_empty()),
        ];
        for (name, _) in is_set.into_iter().filter(|(_, is_set)| *is_set) {
            let problem = Problem::new(format!(
                "{name} at the top level is for the unnamed site, which is not there"
            ));
            let problem = problem.at(self.base.origin(name, 0), name);
            problems.push(problem.advice("say it in the [[site]] whose apps may send these files"));
        }
    }

    /// The types of the top level.
    fn types(&self, problems: &mut Problems) -> BTreeMap<String, String> {
        self.types_of(self.base.map("types"), &|| self.base.origin("types", 0), problems)
    }

    fn types_of(
        &self,
        typed: &[(String, String)],
        origin: &dyn Fn() -> Origin,
        problems: &mut Problems,
    ) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        for (ending, kind) in typed {
            let mut wrong = |what: String, advice: &str| {
                problems.push(Problem::new(what).at(origin(), "types").advice(advice));
            };
            let plain = ending.strip_prefix('.').unwrap_or(ending).to_ascii_lowercase();
            if plain.is_empty() || plain.contains(['.', '/', '\0']) || (plain != "*" && plain.contains('*')) {
                let what = format!(
                    "types must have endings of names as keys, but not {}",
                    shown_text(ending)
                );
                wrong(
                    what,
                    "what follows the last dot, such as wasm; * is for files of no known type",
                );
            }
            if !is_content_type(kind) {
                let what = format!("types must be content types, but not {}", shown_text(kind));
                wrong(what, "for example types = { wasm = \"application/wasm\" }");
            }
            if found.insert(plain, kind.clone()).is_some() {
                let what = format!("types has the ending {} twice", shown_text(ending));
                wrong(what, "capitals and a dot in front make no difference; leave one out");
            }
        }
        found
    }

    fn served(&self, problems: &mut Problems) -> Vec<String> {
        let base = self.base;
        let origin = |place| (base.origin("served_suffixes", place), "served_suffixes");
        suffixes(base.list("served_suffixes"), &origin, problems)
    }

    fn sendfile_roots(
        &self,
        typed: &[String],
        origin: &dyn Fn(usize) -> Origin,
        problems: &mut Problems,
    ) -> Vec<PathBuf> {
        let typed = typed.iter().enumerate();
        let found = typed.filter_map(|(place, text)| self.directory(SENDFILE, text, &origin(place), problems));
        found.collect()
    }

    fn accel_roots(
        &self,
        typed: &[(String, String)],
        origin: &Origin,
        problems: &mut Problems,
    ) -> Vec<(String, PathBuf)> {
        let mut found: Vec<(String, PathBuf)> = Vec::new();
        for (prefix, text) in typed {
            let mut wrong = |what: String, advice: &str| {
                problems.push(Problem::new(what).at(origin.clone(), ACCEL).advice(advice));
            };
            if let Some(advice) = path_fault(prefix) {
                wrong(
                    format!("{ACCEL} must have paths as keys, but not {}", shown_text(prefix)),
                    advice,
                );
            }
            let plain = prefix.strip_suffix('/').unwrap_or(prefix);
            if found.iter().any(|(other, _)| other == plain) {
                let what = format!("{ACCEL} has the path {} twice", shown_text(prefix));
                wrong(what, "a slash at the end makes no difference; leave one out");
            }
            if let Some(path) = self.directory(ACCEL, text, origin, problems) {
                found.push((plain.to_owned(), path));
            }
        }
        found.sort();
        found
    }

    /// A directory that apps may name files in.
    fn directory(&self, name: &str, text: &str, origin: &Origin, problems: &mut Problems) -> Option<PathBuf> {
        let mut wrong = |what: String, advice: &str| {
            problems.push(Problem::new(what).at(origin.clone(), name).advice(advice));
        };
        if text.is_empty() || text.contains('\0') {
            let what = format!("{name} must be directories, but not {}", shown_text(text));
            wrong(what, "for example /srv/private");
            return None;
        }
        let path = join(self.around.start, text);
        if path == Path::new("/") {
            let what = format!("{name} names /, below which every file of this machine lies");
            wrong(what, "name the directories that hold what apps may send");
        } else if self.around.look {
            let why = match path.metadata() {
                Ok(meta) if meta.is_dir() => None,
                Ok(_) => Some("that is no directory".to_owned()),
                Err(error) => Some(reason(&error)),
            };
            if let Some(why) = why {
                let what = format!("{name} names {}, but: {why}", path.display());
                wrong(what, "make the directory, or choose another");
            }
        }
        Some(path)
    }
}

/// An ending that is run everywhere is not sent: a mistake of who says both, `own` being where, and what the top level
/// says does not count for a site that runs it.
pub(super) fn settle_served(files: &mut Files, routes: &[Route], own: Option<&Origin>, problems: &mut Problems) {
    let runs = |suffix: &String| {
        routes.iter().any(|route| {
            let is_everywhere = route.path == PathMatch::Prefix("/".to_owned());
            let is_script = matches!(route.act, Act::Script { .. } | Act::NoScript { .. });
            is_everywhere && is_script && route.suffixes.contains(suffix)
        })
    };
    if let Some(origin) = own {
        for suffix in files.served.iter().filter(|suffix| runs(suffix)) {
            let what = format!("served_suffixes has {suffix}, but files with this ending are run");
            let problem = Problem::new(what).at(origin.clone(), "served_suffixes");
            problems
                .push(problem.advice("take it out of there, or out of `script_suffixes` or the route that runs them"));
        }
    }
    files.served.retain(|suffix| !runs(suffix));
}

/// `TYPE/SUBTYPE`, and what follows a `;`, fit for a field.
fn is_content_type(text: &str) -> bool {
    let kind = text.split(';').next().unwrap_or_default().trim_end();
    let is_token = |part: &str| {
        let byte = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&byte);
        !part.is_empty() && part.bytes().all(byte)
    };
    let is_fit = text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    let is_kind = kind
        .split_once('/')
        .is_some_and(|(one, two)| is_token(one) && is_token(two));
    is_fit && is_kind && text.trim() == text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types() {
        for text in [
            "a/b",
            "text/html; charset=utf-8",
            "application/vnd.x+json",
            "a/b;c=\"d e\"",
        ] {
            assert!(is_content_type(text), "{text}");
        }
        for text in [
            "",
            "a",
            "a/",
            "/b",
            "a/b/c",
            "a b/c",
            " a/b",
            "a/b ",
            "a/b\r\nX: y",
            "a/\u{e4}",
            "a/b; c=\u{e4}",
        ] {
            assert!(!is_content_type(text), "{text}");
        }
    }
}
