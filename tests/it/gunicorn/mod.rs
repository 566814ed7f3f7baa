//! The same conf files, apps, command lines, requests and signals for Gunicorn and for rgunicorn: what can be seen of
//! both is equal, but for the differences that are named here with their reason.

mod conf_files;
mod processes;
mod requests;
mod start;

use std::collections::BTreeMap;

use crate::harness::apps::root;
use crate::harness::contest::{BOTH, Contest, Contestant, Who};

/// What one of the two did, in parts that are compared one by one.
type Seen = BTreeMap<String, Vec<String>>;

/// Lines of the error log that only rgunicorn writes, or that only Gunicorn writes; each with its reason.
const OWN_LINES: &[(Who, &str)] = &[
    // A worker that was told to end is no news; Gunicorn says so for some of them, as it happens to reap them.
    (Who::Gunicorn, "was sent SIGTERM!"),
    (Who::Ours, "was sent SIGTERM!"),
    // The front is a process of ours alone.
    (Who::Ours, "Front (pid:"),
    // Gunicorn says the number of workers at level DEBUG.
    (Who::Ours, "Workers wanted in pool"),
    // Who called whom inside the server is nobody's business; what the app did stands in lines of its own.
    (Who::Gunicorn, "/gunicorn/workers/"),
    (Who::Gunicorn, "    self.handle_request("),
    (Who::Gunicorn, "    respiter = self.wsgi("),
    (Who::Gunicorn, "    self.cfg.pre_request("),
    (Who::Ours, "File \"rgunicorn/"),
    (Who::Ours, "    result = self.app("),
    (Who::Ours, "    self.cfg.pre_request("),
    // Python's marks below such lines.
    (Who::Gunicorn, "  ^^^^"),
    (Who::Ours, "  ^^^^"),
    // A thread of Gunicorn's writes this at any time after the start.
    (Who::Gunicorn, "Control socket listening at "),
    (Who::Ours, "Control socket listening at "),
];

/// A conf file of `tests/data/gunicorn-conf`.
fn conf(name: &str) -> String {
    std::fs::read_to_string(root().join("tests/data/gunicorn-conf").join(name)).expect("a conf file")
}

/// Does the same with both and demands that the same was seen.
fn compare(contest: &Contest, act: impl Fn(&mut Contestant) -> Seen) {
    let [mut theirs, mut ours] = BOTH.map(|who| {
        let mut contestant = contest.start(who);
        let seen = act(&mut contestant);
        (contestant, seen)
    });
    let mut different = Vec::new();
    let mut names: Vec<String> = theirs.1.keys().chain(ours.1.keys()).cloned().collect();
    names.sort();
    names.dedup();
    for name in names {
        let [their, our] = [&mut theirs.1, &mut ours.1].map(|seen| seen.remove(&name).unwrap_or_default());
        if their != our {
            different.push(format!("{name}\n{}", difference(&their, &our)));
        }
    }
    assert!(
        different.is_empty(),
        "< Gunicorn, > rgunicorn\n{}",
        different.join("\n")
    );
}

/// Lines that only one side has, each with its side; if there are none, both lists.
fn difference(theirs: &[String], ours: &[String]) -> String {
    let only = |these: &[String], those: &[String], sign: char| -> Vec<String> {
        let mut rest = those.to_vec();
        let mut found = Vec::new();
        for line in these {
            match rest.iter().position(|other| other == line) {
                Some(place) => drop(rest.remove(place)),
                None => found.push(format!("  {sign} {line}")),
            }
        }
        found
    };
    let lines = [only(theirs, ours, '<'), only(ours, theirs, '>')].concat();
    if lines.is_empty() {
        format!("  the same lines in another order:\n  < {theirs:?}\n  > {ours:?}")
    } else {
        lines.join("\n")
    }
}

/// The record of hooks: those of the arbiter's side in their order, and those of each worker in theirs. What different
/// processes do at the same time has no order.
fn note_record(contestant: &Contestant, seen: &mut Seen) {
    for line in contestant.record() {
        let line = contestant.plain(&line);
        let age = line.split(' ').find(|word| word.starts_with("age="));
        let part = age.map_or_else(
            || "record of the server".to_owned(),
            |age| format!("record of the worker {age}"),
        );
        seen.entry(part).or_default().push(line);
    }
}

/// The error log: the arbiter's lines in their order, everything else sorted.
fn note_log(contestant: &Contestant, seen: &mut Seen) {
    let own = |line: &String| {
        OWN_LINES
            .iter()
            .any(|(who, text)| *who == contestant.who && line.contains(text))
    };
    // The arbiter writes these for its workers, with its own pid before them; Gunicorn's workers write them.
    let of_workers = |line: String| match line.split_once("] [INFO] ") {
        Some((_, text)) if text.starts_with("Booting worker with pid") || text.starts_with("Worker exiting") => {
            text.to_owned()
        }
        _ => line,
    };
    let lines = contestant
        .log_lines()
        .into_iter()
        .filter(|line| !own(line))
        .map(of_workers);
    let (arbiter, mut others): (Vec<String>, Vec<String>) = lines.partition(|line| line.starts_with("[ARBITER]"));
    others.sort();
    seen.insert("lines of the arbiter".to_owned(), arbiter);
    seen.insert("other lines of the log".to_owned(), others);
}

/// Notes one thing.
#[expect(clippy::needless_pass_by_value, reason = "numbers and texts are given as they are")]
fn note(seen: &mut Seen, name: &str, line: impl ToString) {
    seen.entry(name.to_owned()).or_default().push(line.to_string());
}

/// Notes a response: status, body, and fields that the app or the protocol decides.
fn note_get(contestant: &Contestant, target: &str, seen: &mut Seen) {
    let response = contestant.get(target);
    let text = contestant.plain(&response.text());
    note(seen, "responses", format!("{target}: {} {text}", response.status));
}
