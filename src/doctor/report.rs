//! Findings, and how they are written.

use std::path::{Path, PathBuf};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weight {
    /// Good to know.
    Note,
    /// To be changed.
    Wrong,
    /// To be changed before it can run at all.
    Fatal,
}

#[derive(Debug)]
struct Finding {
    weight: Weight,
    what: String,
    place: String,
    advice: String,
}

/// Everything found about one script.
#[derive(Debug)]
pub(super) struct Report {
    path: PathBuf,
    user: String,
    findings: Vec<Finding>,
    /// What it answered, if it ran.
    answer: Option<String>,
}

impl Report {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            user: String::new(),
            findings: Vec::new(),
            answer: None,
        }
    }

    pub(super) fn runs_as(&mut self, user: &str) {
        user.clone_into(&mut self.user);
    }

    pub(super) fn answers(&mut self, answer: String) {
        self.answer = Some(answer);
    }

    /// Something that is good to know.
    pub(super) fn note(&mut self, what: impl Into<String>, place: impl Into<String>, advice: impl Into<String>) {
        self.add(Weight::Note, what.into(), place.into(), advice.into());
    }

    /// Something that is wrong, though the script can be run.
    pub(super) fn wrong(&mut self, what: impl Into<String>, place: impl Into<String>, advice: impl Into<String>) {
        self.add(Weight::Wrong, what.into(), place.into(), advice.into());
    }

    /// Something for which it cannot be run.
    pub(super) fn fatal(&mut self, what: impl Into<String>, place: impl Into<String>, advice: impl Into<String>) {
        self.add(Weight::Fatal, what.into(), place.into(), advice.into());
    }

    fn add(&mut self, weight: Weight, what: String, place: String, advice: String) {
        self.findings.push(Finding {
            weight,
            what,
            place,
            advice,
        });
    }

    /// Nothing forbids running it.
    pub(super) fn is_runnable(&self) -> bool {
        !self.findings.iter().any(|finding| finding.weight == Weight::Fatal)
    }

    /// Nothing is wrong.
    pub(super) fn is_well(&self) -> bool {
        self.findings.iter().all(|finding| finding.weight == Weight::Note)
    }

    pub(super) fn text(&self) -> String {
        let path = shown(&self.path);
        let mut text = String::new();
        for finding in &self.findings {
            let word = match finding.weight {
                Weight::Note => "note",
                Weight::Wrong | Weight::Fatal => "wrong",
            };
            text.push_str(&format!("{word}: {}\n", finding.what));
            for line in [format!("at {}", finding.place)].iter().chain([&finding.advice]) {
                if !line.is_empty() {
                    text.push_str(&format!("  {line}\n"));
                }
            }
        }
        let count = self
            .findings
            .iter()
            .filter(|finding| finding.weight != Weight::Note)
            .count();
        let things = if count == 1 {
            "1 thing is".to_owned()
        } else {
            format!("{count} things are")
        };
        let user = &self.user;
        let end = match (&self.answer, count) {
            (Some(answer), 0) => format!("{path} runs as {user}: {answer}"),
            (Some(answer), _) => format!("{things} wrong with {path}, which was run as {user}: {answer}"),
            (None, _) if self.is_runnable() => format!("{things} wrong with {path}, which was run as {user}"),
            (None, _) => format!("{things} wrong with {path}, so it was not run"),
        };
        text.push_str(&end);
        text.push('\n');
        text
    }
}

/// A path as it is printed: what is not printable is escaped.
pub(super) fn shown(path: &Path) -> String {
    path.to_string_lossy().chars().flat_map(plain).collect()
}

fn plain(letter: char) -> Vec<char> {
    if letter.is_control() {
        letter.escape_default().collect()
    } else {
        vec![letter]
    }
}

/// The beginning of a text of others, quoted and escaped.
pub(super) fn quoted(text: &[u8]) -> String {
    const LIMIT: usize = 160;
    let cut = text.get(..LIMIT).unwrap_or(text);
    let more = if cut.len() < text.len() { "..." } else { "" };
    // Text of other languages stays readable.
    match std::str::from_utf8(cut) {
        Ok(text) => format!("\"{}\"{more}", text.chars().map(escaped).collect::<String>()),
        Err(_) => format!("\"{}\"{more}", cut.escape_ascii()),
    }
}

fn escaped(letter: char) -> String {
    match letter {
        '\'' => "'".to_owned(),
        letter => letter.escape_debug().collect(),
    }
}
