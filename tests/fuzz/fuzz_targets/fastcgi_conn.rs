//! Bytes from a FastCGI application, cut two ways: the meaning must be the same, and nothing may panic.
//!
//! The first byte is the size of the parts; a byte of 0 means that no request was begun.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rgunicorn::fastcgi::{Conn, Error, Event};

/// What a stream means, in one text that does not depend on how it was cut.
#[derive(Debug, Default, PartialEq, Eq)]
struct Meaning {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    /// Everything else, with how much output came before it.
    events: Vec<String>,
    error: Option<Error>,
}

fn run(is_begun: bool, input: &[u8], size: usize) -> Meaning {
    let mut conn = Conn::new();
    if is_begun {
        conn.begin(b"", true, &mut Vec::new()).expect("a fresh connection");
    }
    let mut meaning = Meaning::default();
    for part in input.chunks(size) {
        let mut rest = part;
        loop {
            let (used, event) = match conn.step(rest) {
                Ok(result) => result,
                Err(error) => {
                    meaning.error = Some(error);
                    return meaning;
                }
            };
            rest = &rest[used..];
            match event {
                Event::NeedData => {
                    assert!(rest.is_empty(), "bytes were left over");
                    break;
                }
                Event::Stdout(data) => {
                    assert!(!data.is_empty() && conn.is_active());
                    meaning.stdout.extend_from_slice(data);
                }
                Event::Stderr(data) => {
                    assert!(!data.is_empty() && conn.is_active());
                    meaning.stderr.extend_from_slice(data);
                }
                other => {
                    let (stdout, stderr) = (meaning.stdout.len(), meaning.stderr.len());
                    meaning.events.push(format!("{stdout} {stderr} {other:?}"));
                }
            }
        }
    }
    meaning
}

fuzz_target!(|input: &[u8]| {
    if let Some((&first, stream)) = input.split_first() {
        let whole = run(first > 0, stream, usize::MAX);
        let parts = run(first > 0, stream, usize::from(first).max(1));
        assert_eq!(whole, parts);
    }
});
