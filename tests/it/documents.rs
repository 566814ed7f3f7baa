//! The documents: every link leads somewhere, every page that is named exists, and each sentence has a line of its own.

use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::apps::root;

/// Every page of the project.
fn pages() -> Vec<PathBuf> {
    let mut found = vec![root().join("README.md")];
    let mut directories = vec![root().join("docs"), root().join("tests")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).expect("a directory").flatten() {
            let path = entry.path();
            if path.is_dir() && !["target", "corpus"].iter().any(|name| path.ends_with(name)) {
                directories.push(path);
            } else if path.extension().is_some_and(|end| end == "md") {
                found.push(path);
            }
        }
    }
    assert!(found.len() > 10, "{found:?}");
    found
}

/// The lines that are prose: not code, with their numbers.
fn prose(text: &str) -> Vec<(usize, &str)> {
    let mut fenced = false;
    let mut found = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced && !line.starts_with("    ") {
            found.push((number, line));
        }
    }
    found
}

/// The anchor that a heading gets on the usual sites.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text
        .chars()
        .filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn broken(page: &Path, target: &str) -> bool {
    if target.contains("://") {
        return false;
    }
    let (file, place) = target.split_once('#').unwrap_or((target, ""));
    let path = match file {
        "" => page.to_owned(),
        file => page.parent().expect("a directory").join(file),
    };
    if !path.exists() {
        return true;
    }
    let has_place = || {
        let text = fs::read_to_string(&path).unwrap_or_default();
        let lines = prose(&text).into_iter();
        lines
            .filter(|(_, line)| line.starts_with('#'))
            .any(|(_, line)| anchor(line) == place)
    };
    !place.is_empty() && !has_place()
}

#[test]
fn links_lead_somewhere() {
    let (mut wrong, mut count) = (Vec::new(), 0);
    for page in pages() {
        let text = fs::read_to_string(&page).expect("a page");
        for (number, line) in prose(&text) {
            for rest in line.split("](").skip(1) {
                let target = rest.split(')').next().unwrap_or_default();
                count += 1;
                if broken(&page, target) {
                    wrong.push(format!("{}:{number}: {target}", page.display()));
                }
            }
        }
    }
    assert!(count > 10, "only {count} links");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Words such as `docs/http.md` and `scripts/test` in a text.
fn named(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && !"/._-".contains(c));
    words.map(|word| word.trim_end_matches(['.', '/'])).filter(|word| {
        ["docs/", "scripts/", "conf/", "tests/it/"]
            .iter()
            .any(|start| word.starts_with(start))
    })
}

#[test]
fn files_that_are_named_exist() {
    let mut wrong = Vec::new();
    let mut files = pages();
    let mut directories = vec![root().join("src"), root().join("scripts"), root().join("conf")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).expect("a directory").flatten() {
            let path = entry.path();
            if path.is_dir() {
                directories.push(path);
            } else {
                files.push(path);
            }
        }
    }
    for path in files {
        let text = fs::read_to_string(&path).expect("a file");
        for name in named(&text).filter(|name| !root().join(name).exists()) {
            wrong.push(format!("{}: {name}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The place of a second sentence in a line.
fn second_sentence(line: &str) -> Option<usize> {
    // Code may hold anything, and tables cannot be broken.
    let mut in_code = false;
    let hidden = line.chars().map(|c| {
        in_code ^= c == '`';
        if in_code || c == '`' || !c.is_ascii() { 'x' } else { c }
    });
    let line: String = hidden.collect();
    if line.starts_with(['|', '#']) {
        return None;
    }
    let ends = line.match_indices(". ").chain(line.match_indices(".** "));
    ends.map(|(at, end)| at + end.len())
        .find(|at| line[*at..].starts_with(|c: char| c.is_ascii_uppercase()) && !is_numbering(&line[..*at]))
}

/// `1. ` before an item.
fn is_numbering(text: &str) -> bool {
    text.trim()
        .trim_end_matches('.')
        .bytes()
        .all(|byte| byte.is_ascii_digit())
}

#[test]
fn each_sentence_has_a_line_of_its_own() {
    let mut wrong = Vec::new();
    for page in pages() {
        let text = fs::read_to_string(&page).expect("a page");
        for (number, line) in prose(&text) {
            if let Some(at) = second_sentence(line) {
                let rest: String = line.chars().skip(at).take(40).collect();
                wrong.push(format!("{}:{number}: {rest}", page.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn sentences_are_told_apart() {
    assert_eq!(second_sentence("One. Two."), Some(5));
    assert_eq!(second_sentence("- **One.** Two."), Some(11));
    for one in [
        "1. One.",
        "One, e.g. `A. B`.",
        "RFC 9112 §6.3 says so.",
        "| One. Two. |",
    ] {
        assert_eq!(second_sentence(one), None, "{one}");
    }
}
