//! Output of a script, cut two ways: the same head or the same error, and no head that could split a response.
//!
//! The first byte is the size of the parts.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rgunicorn::base::message::ResponseHead;
use rgunicorn::cgi::response::{Error, Event, Kind, Parser};

/// Small, so that it is reached.
const LIMIT: usize = 512;

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Incomplete,
    Head {
        used: usize,
        kind: Kind,
        status: u16,
        content_length: Option<u64>,
        fields: Vec<(Vec<u8>, Vec<u8>)>,
    },
    Empty,
    Refused(Error),
}

fn run(input: &[u8], size: usize) -> Outcome {
    let mut parser = Parser::new(LIMIT);
    let mut head = ResponseHead::default();
    let mut at = 0;
    for part in input.chunks(size) {
        match parser.step(part, &mut head) {
            // What follows an empty line is quoted as far as it has come.
            Err(Error::Empty { .. }) => return Outcome::Empty,
            Err(error) => return Outcome::Refused(error),
            Ok((used, Event::NeedData)) => {
                assert_eq!(used, part.len(), "bytes were left over");
                at += used;
            }
            Ok((used, Event::Head(kind))) => {
                check(&head);
                return Outcome::Head {
                    used: at + used,
                    kind,
                    status: head.status,
                    content_length: head.content_length,
                    fields: head
                        .fields()
                        .map(|(name, value)| (name.to_vec(), value.to_vec()))
                        .collect(),
                };
            }
        }
    }
    Outcome::Incomplete
}

fn check(head: &ResponseHead) {
    assert!((100..=599).contains(&head.status) && head.status != 101);
    let is_clean = |text: &[u8]| !text.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0));
    assert!(is_clean(head.text(head.reason)));
    for (name, value) in head.fields() {
        assert!(!name.is_empty() && is_clean(name) && !name.contains(&b':'));
        assert!(!value.is_empty() && is_clean(value));
    }
    for name in ["Connection", "Transfer-Encoding", "Content-Length", "Status"] {
        assert!(head.field(name).is_none(), "{name} was passed on");
    }
}

fuzz_target!(|input: &[u8]| {
    if let Some((&first, output)) = input.split_first() {
        let whole = run(output, usize::MAX);
        let parts = run(output, usize::from(first).max(1));
        assert_eq!(whole, parts);
    }
});
