//! Bytes from a web server that speaks FastCGI, cut two ways: the meaning must be the same, and nothing may panic.
//!
//! The first byte is the size of the parts; an odd one means that requests are ended as soon as their body begins.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rgunicorn::fastcgi::server::{Conn, Event};
use rgunicorn::fastcgi::{Error, ProtocolStatus};

/// What a stream means, in one text that does not depend on how it was cut.
#[derive(Debug, Default, PartialEq, Eq)]
struct Meaning {
    body: Vec<u8>,
    /// Everything else, with how much of bodies came before it.
    events: Vec<String>,
    error: Option<Error>,
}

fn run(is_ended_early: bool, input: &[u8], size: usize) -> Meaning {
    let mut conn = Conn::new(4096);
    let mut meaning = Meaning::default();
    let mut out = Vec::new();
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
            out.clear();
            match event {
                Event::NeedData => {
                    assert!(rest.is_empty(), "bytes were left over");
                    break;
                }
                Event::Stdin(data) => {
                    assert!(!data.is_empty() && conn.is_active());
                    if is_ended_early {
                        conn.send_stdout(b"early", &mut out);
                        conn.send_end(0, ProtocolStatus::Complete, &mut out);
                    } else {
                        meaning.body.extend_from_slice(data);
                    }
                }
                Event::End => {
                    meaning.events.push(format!("{} end", meaning.body.len()));
                    conn.send_end(0, ProtocolStatus::Complete, &mut out);
                }
                Event::Reply(reply) => {
                    reply.write(usize::from(u16::MAX), &mut out);
                    meaning.events.push(format!("{} {reply:?} {out:?}", meaning.body.len()));
                }
                Event::Params => {
                    let variables: Vec<_> = conn.variables().collect();
                    meaning.events.push(format!("{} {variables:?}", meaning.body.len()));
                }
                other => meaning.events.push(format!("{} {other:?}", meaning.body.len())),
            }
        }
    }
    meaning
}

fuzz_target!(|input: &[u8]| {
    if let Some((&first, stream)) = input.split_first() {
        let is_ended_early = first % 2 == 1;
        let whole = run(is_ended_early, stream, usize::MAX);
        let parts = run(is_ended_early, stream, usize::from(first).max(1));
        assert_eq!(whole, parts);
    }
});
