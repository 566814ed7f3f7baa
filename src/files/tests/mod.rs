//! Requests for files, answered.

mod by_app;
mod codings;
mod conditions;
mod ranges;

use super::*;
use crate::base::file::{Facts, FileKind};
use crate::base::message::{Field, RequestHead, Span};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Sat, 29 Oct 1994 19:43:31 GMT, the date of the RFC's examples.
const MODIFIED: i64 = 783_459_811;
const TAG: &str = "\"2eb2a5e3075bcd15-3e8\"";

fn request(method: &str, fields: &[(&str, &str)]) -> RequestHead {
    let mut head = RequestHead::default();
    let mut store = |text: &str| {
        let span = Span {
            start: head.bytes.len() as u32,
            len: text.len() as u32,
        };
        head.bytes.extend_from_slice(text.as_bytes());
        span
    };
    let method = store(method);
    let fields = fields.iter().map(|(name, value)| Field {
        name: store(name),
        value: store(value),
    });
    let fields = fields.collect();
    RequestHead { method, fields, ..head }
}

fn facts() -> Facts {
    Facts {
        kind: FileKind::File,
        size: 1000,
        modified: MODIFIED,
        nanoseconds: 123_456_789,
        ..Facts::default()
    }
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_700_000_000)
}

fn html(facts: &Facts) -> Representation<'_> {
    Representation {
        content_type: "text/html",
        ..Representation::of(facts)
    }
}

fn answered(method: &str, fields: &[(&str, &str)], file: &Representation<'_>) -> Answer {
    let mut out = Answer::default();
    // What an earlier answer left must not show.
    out.head.push(b"Left", b"over");
    out.pieces.push(Piece::Text(b"left over".to_vec()));
    answer(
        &request(method, fields),
        file,
        now(),
        Boundary::from_seed(0xb),
        &mut out,
    );
    out
}

/// The answer for the usual file.
fn usual(method: &str, fields: &[(&str, &str)]) -> Answer {
    answered(method, fields, &html(&facts()))
}

/// Status, fields and length in one text.
fn shown(answer: &Answer) -> String {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let mut lines = vec![answer.head.status.to_string()];
    lines.extend(
        answer
            .head
            .fields()
            .map(|(name, value)| format!("{}: {}", text(name), text(value))),
    );
    lines.extend(answer.head.content_length.map(|length| format!("length {length}")));
    lines.join("\n")
}

#[test]
fn a_file_is_described_and_sent() {
    let get = usual("GET", &[]);
    let described = format!(
        "200\nContent-Type: text/html\nLast-Modified: Sat, 29 Oct 1994 19:43:31 GMT\nETag: {TAG}\nAccept-Ranges: bytes\nlength 1000"
    );
    assert_eq!(shown(&get), described);
    assert_eq!(
        get.pieces,
        [Piece::File {
            offset: 0,
            length: 1000
        }]
    );
    let head = usual("HEAD", &[("Range", "bytes=0-1")]);
    assert_eq!(shown(&head), described);
    assert_eq!(head.pieces, []);
}

#[test]
fn methods() {
    assert_eq!(shown(&usual("OPTIONS", &[])), "204\nAllow: GET, HEAD, OPTIONS");
    for method in ["POST", "PUT", "DELETE", "get", "TRACE", ""] {
        let refused = usual(method, &[("If-None-Match", "*")]);
        assert_eq!(shown(&refused), "405\nAllow: GET, HEAD, OPTIONS", "{method}");
        assert_eq!(refused.pieces, []);
    }
    let facts = facts();
    let by_app = Representation {
        by_app: true,
        ..html(&facts)
    };
    let fields = [
        ("If-Match", "\"other\""),
        ("Range", "bytes=0-1"),
        ("If-None-Match", "*"),
    ];
    let posted = answered("POST", &fields, &by_app);
    assert_eq!((posted.head.status, posted.head.content_length), (200, Some(1000)));
    assert_eq!(answered("GET", &fields[2..], &by_app).head.status, 304);
}

#[test]
fn an_empty_file() {
    let facts = Facts { size: 0, ..facts() };
    let answer = answered("GET", &[], &html(&facts));
    assert_eq!((answer.head.status, answer.head.content_length), (200, Some(0)));
    assert_eq!(answer.pieces, []);
}

#[test]
fn tags_tell_versions_and_codings_apart() {
    let tag = |facts: &Facts, coding| {
        let file = Representation {
            coding,
            ..Representation::of(facts)
        };
        let answer = answered("GET", &[], &file);
        String::from_utf8(answer.head.field("ETag").unwrap().to_vec()).unwrap()
    };
    let base = facts();
    assert_eq!(tag(&base, None), TAG);
    assert_eq!(tag(&base, Some(Coding::Gzip)), "\"2eb2a5e3075bcd15-3e8-gzip\"");
    let others = [
        Facts { size: 1001, ..base },
        Facts {
            modified: MODIFIED + 1,
            ..base
        },
        Facts {
            nanoseconds: 123_456_790,
            ..base
        },
        Facts { modified: -1, ..base },
        Facts {
            modified: i64::MIN,
            nanoseconds: 999_999_999,
            size: u64::MAX,
            ..base
        },
    ];
    let mut tags: Vec<String> = others.iter().map(|facts| tag(facts, Some(Coding::Zstd))).collect();
    tags.push(tag(&base, Some(Coding::Zstd)));
    assert!(tags.iter().all(|tag| tag.ends_with("-zstd\"")), "{tags:?}");
    tags.sort();
    tags.dedup();
    assert_eq!(tags.len(), others.len() + 1);
    // Nothing but the content's version counts.
    let moved = Facts {
        inode: 7,
        device: 8,
        mode: 0o600,
        ..base
    };
    assert_eq!(tag(&moved, None), TAG);
}

#[test]
fn times_that_no_date_can_name() {
    let modified = |modified: i64, now: SystemTime| {
        let facts = Facts { modified, ..facts() };
        let mut out = Answer::default();
        answer(
            &request("GET", &[]),
            &html(&facts),
            now,
            Boundary::from_seed(1),
            &mut out,
        );
        let field = out.head.field("Last-Modified");
        field.map(|value| String::from_utf8(value.to_vec()).unwrap())
    };
    let second = |second| UNIX_EPOCH + Duration::from_secs(second);
    assert_eq!(modified(0, now()).as_deref(), Some("Thu, 01 Jan 1970 00:00:00 GMT"));
    assert_eq!(modified(-1, now()), None);
    assert_eq!(modified(i64::MIN, now()), None);
    // A file of the future was modified just now.
    let expected = Some("Tue, 14 Nov 2023 22:13:20 GMT");
    assert_eq!(modified(i64::MAX, now()).as_deref(), expected);
    assert_eq!(modified(1_700_000_001, now()).as_deref(), expected);
    // And a clock that is wrong brings nothing down.
    assert_eq!(modified(i64::MAX, second(253_402_300_800)), None);
    let last = Some("Fri, 31 Dec 9999 23:59:59 GMT");
    assert_eq!(modified(i64::MAX, second(253_402_300_799)).as_deref(), last);
    assert_eq!(modified(0, UNIX_EPOCH - Duration::from_secs(1)), None);
}
