//! Tests of whole connections: one reader plays the caller, and every row runs whole, byte by byte and with bytes behind.
#![allow(clippy::indexing_slicing, clippy::cast_possible_truncation)] // A test that goes wrong there has failed.

mod corpus;
mod exchanges;
mod generated;
mod limits;
mod responses;

use super::conn::{Common, Conn, Event};
use super::error::Error;
use super::policy::Policy;
use crate::base::message::{BodyLength, ResponseHead, Version};
use std::fmt;

/// The fields that every test response carries.
const COMMON: Common<'static> = Common {
    server: "rgunicorn",
    date: "Sun, 06 Nov 1994 08:49:37 GMT",
    request_id: None,
};

/// A request as a caller saw it.
#[derive(Clone, Debug, Default, PartialEq)]
struct Request {
    method: Vec<u8>,
    target: Vec<u8>,
    path: Vec<u8>,
    query: Option<Vec<u8>>,
    host: Option<Vec<u8>>,
    version: Version,
    fields: Vec<(Vec<u8>, Vec<u8>)>,
    length: BodyLength,
    persistent: bool,
    wants_continue: bool,
    body: Vec<u8>,
    complete: bool,
    /// Bytes it took, framing included.
    used: usize,
}

/// Everything a caller saw on one connection.
#[derive(Clone, Debug, Default, PartialEq)]
struct Transcript {
    requests: Vec<Request>,
    error: Option<Error>,
    /// The connection would take another request.
    is_open: bool,
}

/// Plays the caller of a connection whose bytes arrive in the given pieces; answers every request with an empty 200.
fn read<'a>(policy: &Policy, pieces: impl IntoIterator<Item = &'a [u8]>) -> Transcript {
    let mut conn = Conn::new();
    let mut transcript = Transcript::default();
    let mut buffer = Vec::new();
    let mut taken = 0;
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            let (used, event) = match conn.step(policy, &buffer) {
                Ok(step) => step,
                Err(error) => {
                    assert_eq!(conn.step(policy, &buffer), Err(error), "an error is final");
                    assert!(!conn.keeps_alive() && !conn.next_request());
                    transcript.error = Some(error);
                    return transcript;
                }
            };
            taken += used;
            match event {
                Event::NeedData => {
                    buffer.drain(..used);
                    assert_eq!(
                        conn.step(policy, &buffer),
                        Ok((0, Event::NeedData)),
                        "nothing was left to say"
                    );
                    break;
                }
                Event::Head => transcript.requests.push(request(&conn)),
                Event::Data(data) => {
                    assert!(!data.is_empty());
                    last(&mut transcript).body.extend_from_slice(data);
                }
                Event::End => {
                    last(&mut transcript).complete = true;
                    last(&mut transcript).used = taken;
                    taken = 0;
                    assert_eq!(conn.step(policy, &buffer[used..]), Ok((0, Event::NeedData)));
                    answer(&mut conn);
                    if !conn.next_request() {
                        return transcript;
                    }
                }
            }
            buffer.drain(..used);
        }
    }
    transcript.is_open = conn.is_reading();
    transcript
}

fn last(transcript: &mut Transcript) -> &mut Request {
    transcript.requests.last_mut().expect("a body follows a head")
}

fn request(conn: &Conn) -> Request {
    let head = conn.head();
    let owned = |text: &[u8]| text.to_vec();
    Request {
        method: owned(head.method()),
        target: owned(head.target()),
        path: owned(head.path()),
        query: head.query.map(|span| owned(head.text(span))),
        host: head.host.map(|span| owned(head.text(span))),
        version: head.version,
        fields: head.fields().map(|(name, value)| (owned(name), owned(value))).collect(),
        length: conn.body_length(),
        persistent: conn.keeps_alive(),
        wants_continue: conn.wants_continue(),
        ..Request::default()
    }
}

fn answer(conn: &mut Conn) {
    let head = ResponseHead {
        status: 200,
        ..ResponseHead::default()
    };
    let mut out = Vec::new();
    conn.send_head(&head, BodyLength::Known(0), &COMMON, &mut out);
    assert!(conn.send_end(&mut out));
}

/// Reads bytes whole, byte by byte, in threes, and with more bytes behind, and demands the same each time.
fn check(policy: &Policy, bytes: &[u8]) -> Transcript {
    let whole = read(policy, [bytes]);
    assert_eq!(read(policy, bytes.chunks(1)), whole, "byte by byte");
    assert_eq!(read(policy, bytes.chunks(3)), whole, "in threes");
    let used: usize = whole.requests.iter().map(|request| request.used).sum();
    let ends_here = whole.is_open && used == bytes.len();
    if ends_here || !whole.is_open {
        assert_eq!(read(policy, [bytes, b"GE"]), whole, "with bytes behind");
        assert_eq!(
            read(policy, [[bytes, b"GE"].concat().as_slice()]),
            whole,
            "with bytes behind at once"
        );
    }
    whole
}

/// The status of the error that bytes lead to.
fn status(policy: &Policy, bytes: &[u8]) -> Option<u16> {
    check(policy, bytes).error.map(|error| error.status())
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
        let option = |bytes: &Option<Vec<u8>>| bytes.as_deref().map_or("none".to_owned(), |b| format!("`{}`", text(b)));
        writeln!(
            f,
            "{} `{}` {}",
            text(&self.method),
            text(&self.target),
            self.version.as_str()
        )?;
        writeln!(
            f,
            "  path `{}` query {} host {}",
            text(&self.path),
            option(&self.query),
            option(&self.host)
        )?;
        for (name, value) in &self.fields {
            writeln!(f, "  {}: `{}`", text(name), text(value))?;
        }
        let flags = [
            (self.persistent, "keep-alive"),
            (self.wants_continue, "wants continue"),
            (!self.complete, "incomplete"),
        ];
        let flags: String = flags.iter().filter(|f| f.0).map(|f| format!(" ({})", f.1)).collect();
        writeln!(f, "  {:?} `{}`{flags}", self.length, text(&self.body))
    }
}

impl fmt::Display for Transcript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for request in &self.requests {
            request.fmt(f)?;
        }
        match self.error {
            Some(error) => writeln!(f, "{} {error}", error.status()),
            None => writeln!(f, "{}", if self.is_open { "open" } else { "closed" }),
        }
    }
}
