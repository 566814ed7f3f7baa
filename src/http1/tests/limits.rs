//! Every limit, at it and one past it.

use super::{check, status};
use crate::http1::error::Error;
use crate::http1::policy::{Limits, Policy, Rules};

fn limited(limits: Limits) -> Policy {
    Policy {
        limits,
        rules: Rules {
            permit_obsolete_folding: true,
            ..Rules::default()
        },
    }
}

fn head(fields: &str) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n").into_bytes()
}

#[test]
fn request_line() {
    let policy = limited(Limits {
        request_line: 20,
        ..Limits::default()
    });
    let at = b"GET /567890 HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(check(&policy, at).requests.len(), 1);
    assert_eq!(status(&policy, b"GET /5678901 HTTP/1.1\r\nHost: a\r\n\r\n"), Some(414));
    // A line that never ends is refused as soon as it is too long, a CR at the limit not before it is known not to be
    // the line's end.
    assert_eq!(status(&policy, b"GET /5678901 HTTP/1.1"), Some(414));
    assert_eq!(status(&policy, b"GET /567890 HTTP/1.1\r"), None);
    assert_eq!(status(&policy, b"GET /567890 HTTP/1.1\rx"), Some(414));
}

#[test]
fn number_of_fields() {
    let policy = limited(Limits {
        fields: 3,
        ..Limits::default()
    });
    assert_eq!(check(&policy, &head("A: 1\r\nB: 2\r\n")).requests.len(), 1);
    assert_eq!(check(&policy, &head("A: 1\r\nB: 2\r\n 3\r\n")).requests.len(), 1);
    assert_eq!(
        check(&policy, &head("A: 1\r\nB: 2\r\nC: 3\r\n")).error,
        Some(Error::TooManyFields)
    );
}

#[test]
fn size_of_a_field() {
    let policy = limited(Limits {
        field_size: 10,
        ..Limits::default()
    });
    // Name, value and both bytes of CRLF count.
    assert_eq!(check(&policy, &head("X: 45678\r\n")).requests.len(), 1);
    assert_eq!(check(&policy, &head("X: 456789\r\n")).error, Some(Error::FieldTooLarge));
    let endless = b"GET / HTTP/1.1\r\nHost: a\r\nX: 456789";
    assert_eq!(check(&policy, &endless[..endless.len() - 1]).error, None);
    assert_eq!(check(&policy, endless).error, Some(Error::FieldTooLarge));
    // Folded lines count together.
    assert_eq!(check(&policy, &head("X: 4\r\n 2\r\n")).requests.len(), 1);
    assert_eq!(
        check(&policy, &head("X: 4\r\n 23\r\n")).error,
        Some(Error::FieldTooLarge)
    );
    assert_eq!(
        check(&policy, &head("X: 4\r\n 2\r\n 2\r\n")).error,
        Some(Error::FieldTooLarge)
    );
}

#[test]
fn no_head_is_longer_than_the_limits_add_up_to() {
    let limits = Limits {
        request_line: 14,
        fields: 3,
        field_size: 10,
        body: 0,
    };
    let longest = b"GET / HTTP/1.1\r\nHost: 78\r\nX: 45678\r\nY: 45678\r\n\r\n";
    let transcript = check(&limited(limits), longest);
    assert_eq!((transcript.error, transcript.requests.len()), (None, 1));
    assert!(longest.len() <= limits.head());
    let unlimited = Limits {
        request_line: usize::MAX,
        fields: usize::MAX,
        field_size: usize::MAX,
        body: u64::MAX,
    };
    assert_eq!(unlimited.head(), usize::MAX);
    assert_eq!(check(&limited(unlimited), longest).error, None);
}

#[test]
fn counted_body() {
    let policy = limited(Limits {
        body: 5,
        ..Limits::default()
    });
    assert_eq!(
        check(&policy, &[head("Content-Length: 5\r\n"), b"hello".to_vec()].concat()).requests[0].body,
        b"hello"
    );
    // Refused before any of it is read.
    let transcript = check(&policy, &head("Content-Length: 6\r\n"));
    assert_eq!(transcript.error, Some(Error::BodyTooLarge));
    assert!(transcript.requests.is_empty());
}

#[test]
fn chunked_body() {
    let policy = limited(Limits {
        body: 5,
        ..Limits::default()
    });
    let chunked = |body: &str| [head("Transfer-Encoding: chunked\r\n"), body.as_bytes().to_vec()].concat();
    let at = check(&policy, &chunked("2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"));
    assert_eq!((at.error, at.requests[0].body.as_slice()), (None, b"hello".as_slice()));
    let past = check(&policy, &chunked("2\r\nhe\r\n4\r\n"));
    assert_eq!(past.error, Some(Error::BodyTooLarge));
    assert_eq!(past.requests[0].body, b"he");
}

#[test]
fn chunk_size_line() {
    let chunked = |line: &str| {
        let body = format!("{line}\r\nhello\r\n0\r\n\r\n");
        [head("Transfer-Encoding: chunked\r\n"), body.into_bytes()].concat()
    };
    let extension = |length: usize| format!("5;{}", "x".repeat(length - 2));
    assert_eq!(check(&Policy::default(), &chunked(&extension(4096))).error, None);
    assert_eq!(
        check(&Policy::default(), &chunked(&extension(4097))).error,
        Some(Error::ChunkTooLong)
    );
    let zeros = format!("{}5", "0".repeat(4096));
    assert_eq!(
        check(&Policy::default(), &chunked(&zeros)).error,
        Some(Error::ChunkTooLong)
    );
}

#[test]
fn chunk_framing_in_excess_of_data() {
    let long_extensions = |chunks: usize| {
        let chunk = format!("1;{}\r\nx\r\n", "y".repeat(4000));
        let body = chunk.repeat(chunks) + "0\r\n\r\n";
        [head("Transfer-Encoding: chunked\r\n"), body.into_bytes()].concat()
    };
    assert_eq!(check(&Policy::default(), &long_extensions(4)).error, None);
    assert_eq!(
        check(&Policy::default(), &long_extensions(5)).error,
        Some(Error::ChunkTooLong)
    );
    // Any number of small chunks is fine without extensions.
    let small = [
        head("Transfer-Encoding: chunked\r\n"),
        "1\r\nx\r\n".repeat(20_000).into_bytes(),
        b"0\r\n\r\n".to_vec(),
    ];
    assert_eq!(check(&Policy::default(), &small.concat()).error, None);
}

#[test]
fn trailers() {
    let policy = limited(Limits {
        fields: 3,
        field_size: 30,
        ..Limits::default()
    });
    let trailers = |text: &str| {
        let body = format!("0\r\n{text}\r\n");
        [head("Transfer-Encoding: chunked\r\n"), body.into_bytes()].concat()
    };
    let field = |length: usize| format!("X: {}\r\n", "y".repeat(length - 5));
    assert_eq!(check(&policy, &trailers(&field(30).repeat(3))).error, None);
    assert_eq!(check(&policy, &trailers(&field(31))).error, Some(Error::FieldTooLarge));
    assert_eq!(
        check(&policy, &trailers(&field(30).repeat(4))).error,
        Some(Error::TooManyFields)
    );
}
