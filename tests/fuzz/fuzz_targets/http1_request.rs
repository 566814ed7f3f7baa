//! A client's bytes on a whole HTTP/1 connection: any split must give the same events, and none may panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rgunicorn::base::message::{BodyLength, ResponseHead};
use rgunicorn::http1::conn::{Common, Conn, Event};
use rgunicorn::http1::error::Error;
use rgunicorn::http1::policy::{Limits, Policy, Rules};

const LOOSE: Rules = Rules {
    permit_obsolete_folding: true,
    strip_header_spaces: true,
    permit_unconventional_http_method: true,
    permit_unconventional_http_version: true,
    casefold_http_method: true,
};

const SMALL: Limits = Limits {
    request_line: 40,
    fields: 4,
    field_size: 40,
    body: 20,
};

#[derive(Debug, PartialEq)]
enum Seen {
    Head {
        head: String,
        length: BodyLength,
        persistent: bool,
        wants_continue: bool,
    },
    Body(Vec<u8>),
    End,
    Refused(Error),
}

fuzz_target!(|bytes: &[u8]| {
    for limits in [Limits::default(), SMALL] {
        for rules in [Rules::default(), LOOSE] {
            let policy = Policy { limits, rules };
            let whole = read(&policy, bytes, |_| usize::MAX);
            assert_eq!(read(&policy, bytes, |_| 1), whole);
            // Pieces whose lengths come from the bytes themselves, so that the fuzzer can choose them.
            assert_eq!(read(&policy, bytes, |next| usize::from(next % 13) + 1), whole);
        }
    }
});

/// Plays the caller of a connection; `piece` says how many bytes arrive at once, given the first of them.
fn read(policy: &Policy, mut bytes: &[u8], piece: fn(u8) -> usize) -> Vec<Seen> {
    let mut conn = Conn::new();
    let mut seen = Vec::new();
    let mut buffer = Vec::new();
    while let Some(&next) = bytes.first() {
        let (arrived, later) = bytes.split_at(piece(next).min(bytes.len()));
        buffer.extend_from_slice(arrived);
        bytes = later;
        loop {
            let (used, event) = match conn.step(policy, &buffer) {
                Ok(step) => step,
                Err(error) => {
                    seen.push(Seen::Refused(error));
                    answer(&mut conn);
                    return seen;
                }
            };
            let needs_data = event == Event::NeedData;
            match event {
                Event::NeedData => {}
                Event::Head => seen.push(head(&conn, buffer.get(..used).expect("used bytes exist"), policy)),
                Event::Data(data) => match seen.last_mut() {
                    Some(Seen::Body(body)) => body.extend_from_slice(data),
                    _ => seen.push(Seen::Body(data.to_vec())),
                },
                Event::End => {
                    seen.push(Seen::End);
                    if !answer(&mut conn) {
                        return seen;
                    }
                }
            }
            buffer.drain(..used);
            if needs_data {
                break;
            }
        }
    }
    seen
}

fn head(conn: &Conn, bytes: &[u8], policy: &Policy) -> Seen {
    let head = conn.head();
    // Two more for the empty line that may come first.
    assert!(bytes.len() <= policy.limits.head().saturating_add(2));
    let stray = |(place, byte): (usize, &u8)| (*byte == b'\n') != (place > 0 && bytes.get(place - 1) == Some(&b'\r'));
    assert!(!bytes.iter().enumerate().any(stray), "a line end that is not CRLF");
    for (name, value) in head.fields() {
        assert!(!name.is_empty() && !value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
    }
    assert!(head.path().starts_with(b"/") || head.path() == b"*");
    let fields: Vec<_> = head
        .fields()
        .map(|(n, v)| (n.escape_ascii().to_string(), v.escape_ascii().to_string()))
        .collect();
    let host = head.host.map(|span| head.text(span));
    Seen::Head {
        head: format!(
            "{:?} {:?} {:?} {:?} {:?} {:?} {fields:?}",
            head.method(),
            head.target(),
            head.path(),
            head.query.map(|span| head.text(span)),
            host,
            head.version
        ),
        length: conn.body_length(),
        persistent: conn.keeps_alive(),
        wants_continue: conn.wants_continue(),
    }
}

/// Answers with a body of unknown length; says whether the connection stays open.
fn answer(conn: &mut Conn) -> bool {
    let common = Common {
        server: "fuzz",
        date: "Sun, 06 Nov 1994 08:49:37 GMT",
        request_id: None,
    };
    let head = ResponseHead {
        status: 200,
        ..ResponseHead::default()
    };
    let mut out = Vec::new();
    conn.send_head(&head, BodyLength::Chunked, &common, &mut out);
    conn.send_data(b"hello", &mut out);
    assert!(conn.send_end(&mut out));
    assert!(out.starts_with(b"HTTP/1."));
    conn.next_request()
}
