//! The files of `tests/data/http1`: each must read as `accept.txt` or `reject.txt` says.
//!
//! Files named `loose-` are read with every rule loosened, and must be refused without.
//! Files to be refused have the status at the start of their name.
//! `BLESS=1` writes what was read into the text files, for review.

use super::check;
use crate::http1::policy::{Policy, Rules};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs};

const LOOSE: Rules = Rules {
    permit_obsolete_folding: true,
    strip_header_spaces: true,
    permit_unconventional_http_method: true,
    permit_unconventional_http_version: true,
    casefold_http_method: true,
};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/http1")
}

fn files(kind: &str) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder().join(kind)).expect("corpus");
    let files: BTreeMap<_, _> = entries
        .map(|entry| entry.expect("entry").path())
        .map(|path| {
            assert!(path.extension().is_some_and(|e| e == "http"), "{path:?}");
            let name = path.file_stem().expect("name").to_string_lossy().into_owned();
            (name, fs::read(&path).expect("readable"))
        })
        .collect();
    assert!(!files.is_empty());
    files
}

fn policy(name: &str) -> Policy {
    Policy {
        rules: if name.starts_with("loose-") {
            LOOSE
        } else {
            Rules::default()
        },
        ..Policy::default()
    }
}

fn compare(kind: &str, read: &str) {
    let path = folder().join(kind).with_extension("txt");
    if env::var_os("BLESS").is_some() {
        fs::write(&path, read).expect("written");
    }
    let expected = fs::read_to_string(&path).expect("readable");
    for (expected, read) in expected.split("== ").zip(read.split("== ")) {
        assert_eq!(read, expected, "see {path:?}");
    }
    assert_eq!(read.len(), expected.len(), "see {path:?}");
}

#[test]
fn accepted_requests_read_as_written_down() {
    let mut read = String::new();
    for (name, bytes) in files("accept") {
        let transcript = check(&policy(&name), &bytes);
        assert_eq!(transcript.error, None, "{name}");
        assert!(transcript.requests.iter().all(|request| request.complete), "{name}");
        write!(read, "== {name}\n{transcript}").expect("strings take all");
    }
    compare("accept", &read);
}

#[test]
fn refused_requests_fail_as_written_down() {
    let mut read = String::new();
    for (name, bytes) in files("reject") {
        let transcript = check(&policy(&name), &bytes);
        let status = transcript.error.map(|error| error.status().to_string());
        assert_eq!(status.as_deref(), name.get(..3), "{name}");
        write!(read, "== {name}\n{transcript}").expect("strings take all");
    }
    compare("reject", &read);
}

#[test]
fn loose_rules_are_needed_where_they_are_used() {
    for (name, bytes) in files("accept") {
        if name.starts_with("loose-") {
            assert!(check(&Policy::default(), &bytes).error.is_some(), "{name}");
        }
    }
}

#[test]
fn no_prefix_of_a_request_is_a_request() {
    for (name, bytes) in files("accept") {
        let whole = check(&policy(&name), &bytes);
        for end in 0..bytes.len() {
            let cut = check(&policy(&name), &bytes[..end]);
            assert_eq!(cut.error, None, "{name} cut at {end}");
            let complete = cut.requests.iter().filter(|request| request.complete).count();
            // Bytes behind a last request belong to nothing, so cutting those changes nothing.
            let used: usize = whole.requests.iter().map(|request| request.used).sum();
            assert!(complete < whole.requests.len() || end >= used, "{name} cut at {end}");
        }
    }
}
