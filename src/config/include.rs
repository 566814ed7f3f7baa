//! Included files: which a pattern names, and their tables.
//!
//! Never here: what the tables mean (`hosting.rs`).

use super::file::{self, Keys};
use super::hosting::Unit;
use super::kind::Raw;
use super::layers::{Entry, Origin};
use super::problem::{Problem, Problems};
use super::resolve::reason;
use super::tables::Tables;
use std::collections::BTreeMap;
use std::collections::HashSet;
use std::path::{Component, Path, PathBuf};

/// Texts of included files, by their paths.
pub type Files = BTreeMap<PathBuf, String>;

/// The files that `entry`, the value of `include`, names, in the order of its items and of their names. `directory` is
/// that of the file in which it stands, and names of files are shown as from `start`.
///
/// `good` has what each file said when all was well with it.
pub(super) fn read(entry: &Entry, directory: &Path, start: &Path, good: &Files, problems: &mut Problems) -> Vec<Unit> {
    let patterns = match &entry.raw {
        Raw::Text(pattern) => std::slice::from_ref(pattern),
        Raw::List(patterns) => patterns.as_slice(),
        // The kind of the setting is complained about elsewhere.
        _ => &[],
    };
    let mut seen = HashSet::new();
    let mut units = Vec::new();
    for (place, pattern) in patterns.iter().enumerate() {
        let origin = entry.items.get(place).unwrap_or(&entry.origin);
        let found = match matches(&directory.join(pattern)) {
            Ok(found) => found,
            Err((path, error)) => {
                let what = format!("cannot read {}: {}", path.display(), reason(&error));
                let problem = Problem::new(what).at(origin.clone(), "include");
                problems.push(problem.advice(format!("relative paths start from {}", directory.display())));
                continue;
            }
        };
        for path in found {
            if seen.insert(path.clone()) {
                units.push(unit(path, start, good, origin));
            }
        }
    }
    units
}

/// One file. What is wrong with it is its own affair.
fn unit(path: PathBuf, start: &Path, good: &Files, origin: &Origin) -> Unit {
    let mut unit = Unit {
        file: path.strip_prefix(start).unwrap_or(&path).display().to_string(),
        earlier: good.get(&path).cloned(),
        ..Unit::default()
    };
    let read = regular(&path).and_then(|()| std::fs::read_to_string(&path));
    unit.path = path;
    let text = match read {
        Ok(text) => text,
        Err(error) => {
            let what = format!("cannot read {}: {}", unit.file, reason(&error));
            unit.problems.push(Problem::new(what).at(origin.clone(), "include"));
            return unit;
        }
    };
    unit.tables = tables(&text, &unit.file, &mut unit.problems);
    unit.text = text;
    unit
}

/// What else there may be gives nobody an end to read to, or nothing before somebody writes.
fn regular(path: &Path) -> std::io::Result<()> {
    if path.metadata()?.is_file() {
        return Ok(());
    }
    Err(std::io::Error::other("it is no regular file"))
}

/// The tables of an included file.
pub(super) fn tables(text: &str, file: &str, problems: &mut Problems) -> Tables {
    let tables = match file::document(text, file, Keys::Tables, problems) {
        Ok(document) => document.tables,
        Err(broken) => {
            problems.append(broken);
            Tables::default()
        }
    };
    if let Some(listener) = tables.listeners.first() {
        let problem = Problem::new("listeners cannot stand in an included file").at(listener.origin.clone(), "");
        problems.push(problem.advice("write them in the main file"));
    }
    tables
}

/// The paths that a pattern names, sorted. A path without `*`, `?` or `[` must exist; a pattern may match nothing.
fn matches(pattern: &Path) -> Result<Vec<PathBuf>, (PathBuf, std::io::Error)> {
    let mut found = vec![PathBuf::new()];
    let mut is_pattern = false;
    for component in pattern.components() {
        let name = component.as_os_str();
        let wild = match component {
            Component::Normal(name) => name.to_str().filter(|name| name.contains(['*', '?', '['])),
            _ => None,
        };
        let Some(wild) = wild else {
            for path in &mut found {
                path.push(name);
            }
            // Below a pattern, what is not there is not meant.
            found.retain(|path| !is_pattern || path.exists());
            continue;
        };
        is_pattern = true;
        let mut next = Vec::new();
        for directory in found {
            if !directory.is_dir() && directory.exists() {
                continue;
            }
            let entries = std::fs::read_dir(&directory).map_err(|error| (directory.clone(), error))?;
            for entry in entries.flatten() {
                let name = entry.file_name();
                if name.to_str().is_some_and(|name| is_match(wild, name)) {
                    next.push(directory.join(name));
                }
            }
        }
        found = next;
    }
    if is_pattern {
        found.retain(|path| !path.is_dir());
    } else if let Err(error) = pattern.metadata() {
        return Err((pattern.to_owned(), error));
    }
    found.sort();
    Ok(found)
}

/// True if a pattern with `*`, `?` and `[a-z]` matches a whole name. A `.` that begins the name must be typed, as in a
/// shell.
fn is_match(pattern: &str, name: &str) -> bool {
    if name.starts_with('.') && !pattern.starts_with('.') {
        return false;
    }
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    // Where to go on when a `*` must take one character more.
    let mut star: Option<(usize, usize)> = None;
    let (mut at, mut place) = (0, 0);
    while let Some(c) = name.get(place) {
        let step = match pattern.get(at) {
            Some('*') => {
                star = Some((at + 1, place));
                at += 1;
                continue;
            }
            Some('?') => Some(1),
            Some('[') => class(pattern.get(at..).unwrap_or_default(), *c),
            Some(other) => (other == c).then_some(1),
            None => None,
        };
        match (step, star) {
            (Some(step), _) => {
                at += step;
                place += 1;
            }
            (None, Some((after, from))) => {
                star = Some((after, from + 1));
                (at, place) = (after, from + 1);
            }
            (None, None) => return false,
        }
    }
    pattern.get(at..).unwrap_or_default().iter().all(|c| *c == '*')
}

/// Whether a class such as `[a-c_]` or `[!0-9]` at the start of a pattern has this character: the length of the class if
/// so. A `[` without its end is a plain character.
fn class(pattern: &[char], c: char) -> Option<usize> {
    // A `]` that comes first is a member.
    let first = if matches!(pattern.get(1), Some('!' | '^')) {
        2
    } else {
        1
    };
    let end = pattern
        .iter()
        .skip(first + 1)
        .position(|c| *c == ']')
        .map(|end| end + first + 1);
    let Some(end) = end else {
        return (c == '[').then_some(1);
    };
    let mut members = pattern.get(first..end).unwrap_or_default();
    let mut is_member = false;
    while let [from, rest @ ..] = members {
        match rest {
            ['-', to, rest @ ..] => {
                is_member |= (*from..=*to).contains(&c);
                members = rest;
            }
            _ => {
                is_member |= *from == c;
                members = rest;
            }
        }
    }
    (is_member == (first == 1)).then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_patterns_as_in_a_shell() {
        for (pattern, name, expected) in [
            ("*", "a.toml", true),
            ("*", ".hidden", false),
            (".*", ".hidden", true),
            ("*.toml", "a.toml", true),
            ("*.toml", ".toml", false),
            ("*.toml", "a.toml.bak", false),
            ("*.toml", "a.toml.toml", true),
            ("a*b*c", "aXbXbc", true),
            ("a*b*c", "aXbXb", false),
            ("a**", "a", true),
            ("?.toml", "é.toml", true),
            ("?.toml", ".toml", false),
            ("?", "", false),
            ("[a-c]x", "bx", true),
            ("[a-c]x", "dx", false),
            ("[!a-c]x", "dx", true),
            ("[!a-c]x", "ax", false),
            ("[]]", "]", true),
            ("[]-]", "-", true),
            ("[a-]", "-", true),
            ("[", "[", true),
            ("[a", "[a", true),
            ("[a", "a", false),
            ("*[0-9]", "x9y8", true),
            ("", "", true),
            ("", "a", false),
            // This takes for ever where each `*` tries again what the one before it has tried.
            (
                "a*a*a*a*a*a*a*a*a*a*a*a*a*b",
                "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                false,
            ),
        ] {
            assert_eq!(is_match(pattern, name), expected, "{pattern:?} {name:?}");
        }
    }

    #[test]
    fn patterns_name_files_in_order_and_plain_names_themselves() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::create_dir_all(at("d/sub.toml")).unwrap();
        std::fs::create_dir_all(at("e")).unwrap();
        for name in ["d/b.toml", "d/a.toml", "d/a.toml~", "d/.x.toml", "e/b.toml"] {
            std::fs::write(at(name), "").unwrap();
        }
        let found = |pattern: &str| -> Vec<String> {
            let found = matches(&at(pattern)).unwrap().into_iter();
            let short = found.map(|path| path.strip_prefix(directory.path()).unwrap().display().to_string());
            short.collect()
        };
        assert_eq!(found("d/*.toml"), ["d/a.toml", "d/b.toml"]);
        assert_eq!(found("?/b.toml"), ["d/b.toml", "e/b.toml"]);
        assert_eq!(found("*/a.toml"), ["d/a.toml"]);
        assert_eq!(found("d/*.none"), [""; 0]);
        assert_eq!(found("d/a.toml"), ["d/a.toml"]);
        assert!(matches(&at("missing.toml")).is_err() && matches(&at("missing/*.toml")).is_err());
    }
}
