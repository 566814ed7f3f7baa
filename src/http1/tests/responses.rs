//! Responses as a client reads them: every framing, and what is written around it.

use super::{COMMON, Conn};
use crate::base::message::{BodyLength, ResponseHead, Version};
use crate::http1::conn::{Common, Event};
use crate::http1::policy::Policy;

/// A connection that has read this request line, with the fields a client of that version needs to keep it open.
fn asked(method: &str, version: Version) -> Conn {
    let mut conn = Conn::new();
    let request = format!(
        "{method} / {}\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
        version.as_str()
    );
    let step = conn.step(&Policy::default(), request.as_bytes());
    assert_eq!(step, Ok((request.len(), Event::Head)));
    assert_eq!(conn.step(&Policy::default(), b""), Ok((0, Event::End)));
    conn
}

fn response(status: u16, fields: &[(&str, &str)]) -> ResponseHead {
    let mut head = ResponseHead {
        status,
        ..ResponseHead::default()
    };
    for (name, value) in fields {
        head.push(name.as_bytes(), value.as_bytes());
    }
    head
}

/// What a client makes of a response.
#[derive(Debug, PartialEq)]
struct Read {
    length: Option<u64>,
    chunked: bool,
    close: bool,
    /// The body; `None` if its end is not there.
    body: Option<Vec<u8>>,
    /// Bytes behind the response, on a connection that stays open.
    rest: usize,
}

/// A client of its own: httparse for the head, the rules of RFC 9112 §6.3 for the body.
fn read(method: &str, bytes: &[u8]) -> Read {
    let mut slots = [httparse::EMPTY_HEADER; 16];
    let mut parsed = httparse::Response::new(&mut slots);
    let start = parsed.parse(bytes).expect("a response").unwrap();
    let status = parsed.code.expect("a status");
    let field = |name: &str| {
        let mut found = parsed.headers.iter().filter(|f| f.name.eq_ignore_ascii_case(name));
        let value = found.next().map(|f| std::str::from_utf8(f.value).expect("text"));
        assert!(found.next().is_none(), "{name} twice");
        value
    };
    let length = field("content-length").map(|text| text.parse::<u64>().expect("a number"));
    let chunked = field("transfer-encoding")
        .inspect(|v| assert_eq!(*v, "chunked"))
        .is_some();
    let close = match field("connection").expect("always there") {
        "close" => true,
        "keep-alive" => false,
        other => panic!("Connection: {other}"),
    };
    assert!(!(chunked && length.is_some()));
    let sent = &bytes[start..];
    let (body, used) = if method == "HEAD" || matches!(status, 100..=199 | 204 | 304) {
        (Some(Vec::new()), 0)
    } else if chunked {
        unchunk(sent)
    } else if let Some(length) = length {
        let length = length as usize;
        (sent.get(..length).map(<[u8]>::to_vec), length.min(sent.len()))
    } else {
        assert!(close, "a body without end on a connection that stays open");
        (Some(sent.to_vec()), sent.len())
    };
    Read {
        length,
        chunked,
        close,
        body,
        rest: sent.len() - used,
    }
}

fn unchunk(bytes: &[u8]) -> (Option<Vec<u8>>, usize) {
    let mut body = Vec::new();
    let mut place = 0;
    loop {
        let Ok(httparse::Status::Complete((start, size))) = httparse::parse_chunk_size(&bytes[place..]) else {
            return (None, bytes.len());
        };
        let start = place + start;
        let end = start + size as usize;
        assert_eq!(&bytes[end..end + 2], b"\r\n");
        body.extend_from_slice(&bytes[start..end]);
        place = end + 2;
        if size == 0 {
            return (Some(body), place);
        }
    }
}

/// One response with all that may decide its framing.
#[derive(Debug)]
struct Case {
    method: &'static str,
    version: Version,
    status: u16,
    body: BodyLength,
    announced: Option<u64>,
    sent: &'static [u8],
    closing: bool,
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for method in ["GET", "HEAD", "POST"] {
        for version in [Version::Http10, Version::Http11] {
            for status in [101, 200, 204, 205, 304, 404, 500] {
                for body in [
                    BodyLength::None,
                    BodyLength::Known(0),
                    BodyLength::Known(5),
                    BodyLength::Chunked,
                    BodyLength::Close,
                ] {
                    for sent in [b"".as_slice(), b"four", b"hello", b"hello!"] {
                        for (announced, closing) in [(None, false), (None, true), (Some(5), false)] {
                            cases.push(Case {
                                method,
                                version,
                                status,
                                body,
                                announced,
                                sent,
                                closing,
                            });
                        }
                    }
                }
            }
        }
    }
    cases
}

#[test]
fn every_framing_is_read_as_it_was_meant() {
    for case in cases() {
        let mut conn = asked(case.method, case.version);
        if case.closing {
            conn.close_after();
        }
        let mut head = response(case.status, &[("Content-Length", "77"), ("X-App", "x")]);
        head.content_length = case.announced;
        let mut out = Vec::new();
        conn.send_head(&head, case.body, &COMMON, &mut out);
        assert_eq!(
            conn.body_is_bodiless(),
            case.method == "HEAD" || [101, 204, 304].contains(&case.status)
        );
        // In two parts, with an empty one between, which must not end a chunked body.
        let (first, second) = case.sent.split_at(case.sent.len() / 2);
        for part in [first, b"", second] {
            conn.send_data(part, &mut out);
        }
        let is_whole = conn.send_end(&mut out);
        let read = read(case.method, &out);

        let no_body = conn.body_is_bodiless();
        let promised = match case.body {
            BodyLength::None => Some(0),
            BodyLength::Known(length) => Some(length),
            BodyLength::Chunked | BodyLength::Close => None,
        };
        let unknown = promised.is_none() && !no_body;
        let expected_body = match promised {
            _ if no_body => Some(Vec::new()),
            Some(length) => case.sent.get(..length as usize).map(<[u8]>::to_vec),
            None => Some(case.sent.to_vec()),
        };
        let expected_length = match case.status {
            101 | 204 => None,
            304 => case.announced,
            _ if no_body => case.announced.or(promised.filter(|&length| length > 0)),
            _ => promised,
        };
        let is_http10 = case.version == Version::Http10;
        let expected = Read {
            length: expected_length,
            chunked: unknown && !is_http10,
            close: case.closing || (unknown && is_http10),
            body: expected_body.clone(),
            rest: 0,
        };
        assert_eq!(read, expected, "{case:?}");
        assert_eq!(is_whole, expected_body.is_some(), "{case:?}");
        let counted = expected_body.map_or(case.sent.len(), |body| body.len());
        assert_eq!(conn.body_sent(), counted as u64, "{case:?}");
        let stays = is_whole && !expected.close;
        assert_eq!((conn.keeps_alive(), conn.next_request()), (stays, stays), "{case:?}");
    }
}

#[test]
fn fields_in_order_and_those_of_the_app_that_are_not_its_own() {
    let mut conn = asked("GET", Version::Http11);
    let head = response(
        200,
        &[
            ("Content-Type", "text/plain"),
            ("connection", "upgrade"),
            ("Keep-Alive", "timeout=5"),
            ("Proxy-Authenticate", "x"),
            ("Proxy-Authorization", "x"),
            ("TE", "x"),
            ("Trailer", "x"),
            ("Trailers", "x"),
            ("Transfer-Encoding", "chunked"),
            ("Upgrade", "h2c"),
            ("SERVER", "other"),
            ("date", "never"),
            ("Content-Length", "77"),
            ("x-request-id", "other"),
            ("Set-Cookie", "a=1"),
            ("Set-Cookie", "b=2"),
            ("X-Split", "a\r\nInjected: b"),
            ("X-Nul", "a\0"),
            ("X-Empty", ""),
        ],
    );
    let common = Common {
        request_id: Some(b"0123456789abcdef"),
        ..COMMON
    };
    let mut out = Vec::new();
    conn.send_head(&head, BodyLength::Known(2), &common, &mut out);
    conn.send_data(b"hi", &mut out);
    let expected = "HTTP/1.1 200 OK\r\n\
        Server: rgunicorn\r\n\
        Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
        Connection: keep-alive\r\n\
        Content-Length: 2\r\n\
        X-Request-Id: 0123456789abcdef\r\n\
        Content-Type: text/plain\r\n\
        Set-Cookie: a=1\r\n\
        Set-Cookie: b=2\r\n\
        X-Empty: \r\n\
        \r\n\
        hi";
    assert_eq!(String::from_utf8_lossy(&out), expected);
}

#[test]
fn without_names_of_our_own() {
    let mut conn = asked("GET", Version::Http10);
    let common = Common { server: "", ..COMMON };
    let mut out = Vec::new();
    let head = response(200, &[("X-Request-Id", "app"), ("Server", "app")]);
    conn.send_head(&head, BodyLength::Close, &common, &mut out);
    let expected =
        "HTTP/1.0 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nConnection: close\r\nX-Request-Id: app\r\n\r\n";
    assert_eq!(String::from_utf8_lossy(&out), expected);
}

#[test]
fn reason_phrases() {
    for (status, phrase, line) in [
        (200, "", "HTTP/1.1 200 OK"),
        (200, "Fine", "HTTP/1.1 200 Fine"),
        (200, "Fine\r\nX: y", "HTTP/1.1 200 OK"),
        (413, "", "HTTP/1.1 413 Content Too Large"),
        (299, "", "HTTP/1.1 299 Unknown"),
        (0, "", "HTTP/1.1 500 Internal Server Error"),
        (1000, "", "HTTP/1.1 500 Internal Server Error"),
    ] {
        let mut head = response(status, &[]);
        head.reason = head.store(phrase.as_bytes());
        let mut out = Vec::new();
        asked("GET", Version::Http11).send_head(&head, BodyLength::None, &COMMON, &mut out);
        assert_eq!(String::from_utf8_lossy(&out).lines().next(), Some(line));
    }
}

#[test]
fn bytes_that_the_caller_sends_by_itself() {
    let mut conn = asked("GET", Version::Http11);
    let mut out = Vec::new();
    assert_eq!(conn.begin_data(5, &mut out), 0, "nothing before the head");
    conn.send_head(&response(200, &[]), BodyLength::Chunked, &COMMON, &mut out);
    out.clear();
    for (length, line) in [
        (1, "1"),
        (15, "f"),
        (16, "10"),
        (0x0012_3456_789a, "123456789a"),
        (1 << 63, "8000000000000000"),
    ] {
        assert_eq!(conn.begin_data(length, &mut out), length);
        assert_eq!(String::from_utf8_lossy(&out), format!("{line}\r\n"));
        out.clear();
        conn.end_data(length, &mut out);
        assert_eq!(out, b"\r\n");
        out.clear();
    }
    assert_eq!(conn.body_sent(), (1 << 63) + 0x0012_3456_789a + 32);

    let mut conn = asked("GET", Version::Http11);
    conn.send_head(&response(200, &[]), BodyLength::Known(10), &COMMON, &mut out);
    out.clear();
    assert_eq!(conn.begin_data(8, &mut out), 8);
    conn.end_data(8, &mut out);
    assert_eq!(conn.begin_data(8, &mut out), 2);
    conn.end_data(2, &mut out);
    assert_eq!((conn.body_sent(), out.as_slice()), (10, b"".as_slice()));
    assert!(conn.send_end(&mut out));
    assert_eq!(conn.begin_data(8, &mut out), 0, "nothing after the end");
}

#[test]
fn a_second_end_repeats_the_verdict() {
    let mut out = Vec::new();
    let mut conn = asked("GET", Version::Http11);
    assert!(!conn.send_end(&mut out), "no end before a head");
    conn.send_head(&response(200, &[]), BodyLength::Known(2), &COMMON, &mut out);
    out.clear();
    assert!(!conn.send_end(&mut out) && !conn.send_end(&mut out) && out.is_empty());
}
