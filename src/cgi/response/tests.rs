use super::*;
use crate::base::fault::Fault;
use proptest::prelude::*;

/// Feeds `input` in parts of `size` bytes: how many bytes the head took, and the head as text.
fn parse(parser: &mut Parser, input: &[u8], size: usize) -> Result<Option<(usize, String)>, String> {
    // What was there before must not shine through.
    let mut head = ResponseHead {
        status: 418,
        content_length: Some(7),
        ..ResponseHead::default()
    };
    head.push(b"Old", b"field");
    let mut at = 0;
    for part in input.chunks(size) {
        let (used, event) = match parser.step(part, &mut head) {
            Ok(result) => result,
            Err(error) => {
                assert_eq!((error.fault(), error.status()), (Fault::Worker, 502));
                let text = error.to_string();
                // What follows an empty line is quoted as far as it has come.
                let cut = text.find(", then ").filter(|_| matches!(error, Error::Empty { .. }));
                return Err(text.get(..cut.unwrap_or(text.len())).unwrap_or_default().to_owned());
            }
        };
        at += used;
        match event {
            Event::NeedData => assert_eq!(used, part.len(), "NeedData uses everything"),
            Event::Head(kind) => {
                assert_eq!(parser.step(part, &mut head), Ok((0, Event::Head(kind))));
                return Ok(Some((at, render(&head, kind))));
            }
        }
    }
    Ok(None)
}

fn render(head: &ResponseHead, kind: Kind) -> String {
    let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
    let mut out = format!("{} {:?}", head.status, kind);
    if head.reason.len > 0 {
        out += &format!(" ({})", text(head.text(head.reason)));
    }
    if let Some(length) = head.content_length {
        out += &format!(" [{length}]");
    }
    for (name, value) in head.fields() {
        out += &format!(" {}: {};", text(name), text(value));
    }
    out
}

/// Every row whole, byte by byte, in threes, and with a body behind it; with a parser that has been used before.
fn check(name: &str, input: &[u8], expected: Result<&str, &str>) {
    let with_body = [input, b"body\n\n"].concat();
    let mut parser = Parser::new(DEFAULT_LIMIT);
    for (input, size) in [
        (input, usize::MAX),
        (input, 1),
        (input, 3),
        (&with_body, usize::MAX),
        (&with_body, 1),
    ] {
        parser.reset();
        match (parse(&mut parser, input, size), expected) {
            (Ok(Some((used, found))), Ok(expected)) => {
                assert_eq!(found, expected, "{name} in parts of {size}");
                assert!(with_body[used..].starts_with(b"body"), "{name}: used {used}");
            }
            (Err(found), Err(expected)) => {
                assert!(found.contains(expected), "{name}: {found:?} lacks {expected:?}");
            }
            (found, _) => panic!("{name} in parts of {size}: {found:?}, expected {expected:?}"),
        }
    }
}

#[test]
fn heads_are_taken() {
    let rows: &[(&str, &[u8], &str)] = &[
        (
            "a document, LF",
            b"Content-Type: text/html\n\n",
            "200 Document Content-Type: text/html;",
        ),
        (
            "CRLF",
            b"Content-Type: text/html\r\nX-A: b\r\n\r\n",
            "200 Document Content-Type: text/html; X-A: b;",
        ),
        (
            "both line ends in one head",
            b"Content-Type: a/b\r\nX-A: b\n\r\n",
            "200 Document Content-Type: a/b; X-A: b;",
        ),
        (
            "blanks around values",
            b"content-type: \t a/b \t\nX-A:b c\n\n",
            "200 Document content-type: a/b; X-A: b c;",
        ),
        (
            "colons in a value",
            b"Content-Type: a/b\nX-Time: 1:2:3\n\n",
            "200 Document Content-Type: a/b; X-Time: 1:2:3;",
        ),
        (
            "8-bit bytes and tabs in values",
            b"Content-Type: a/b\nX-A: \xe9\t\xff\n\n",
            "200 Document Content-Type: a/b; X-A: \\xe9\\t\\xff;",
        ),
        (
            "nothing but the name of a file",
            b"X-Sendfile: /srv/a\n\n",
            "200 Document X-Sendfile: /srv/a;",
        ),
        (
            "the same for nginx",
            b"x-accel-redirect: /a\nSet-Cookie: b\n\n",
            "200 Document x-accel-redirect: /a; Set-Cookie: b;",
        ),
        (
            "the same for lighttpd",
            b"X-LIGHTTPD-send-file: /a\n\n",
            "200 Document X-LIGHTTPD-send-file: /a;",
        ),
        (
            "status with reason",
            b"Status: 404 Not Found\n\n",
            "404 Document (Not Found)",
        ),
        ("status alone", b"STATUS: 204\r\n\r\n", "204 Document"),
        (
            "a wide gap before the reason",
            b"Status: 500  Oh \n\n",
            "500 Document (Oh)",
        ),
        ("the lowest and highest status", b"Status: 200\n\n", "200 Document"),
        ("the highest status", b"Status: 599 x\n\n", "599 Document (x)"),
        (
            "interim",
            b"Status: 103 Early Hints\nLink: </a.css>; rel=preload\n\n",
            "103 Document (Early Hints) Link: </a.css>; rel=preload;",
        ),
        (
            "a local redirect",
            b"Location: /a?b\n\n",
            "302 LocalRedirect Location: /a?b;",
        ),
        (
            "another host is not local",
            b"Location: //evil.example/\n\n",
            "302 ClientRedirect Location: //evil.example/;",
        ),
        (
            "a local path with other fields is for the client",
            b"Location: /a\nSet-Cookie: a=b\n\n",
            "302 ClientRedirect Location: /a; Set-Cookie: a=b;",
        ),
        (
            "a local path with a dropped field is for the client",
            b"X-CGI-A: 1\nLocation: /a\n\n",
            "302 ClientRedirect Location: /a;",
        ),
        (
            "a local path with a length is for the client",
            b"Location: /a\nContent-Length: 0\n\n",
            "302 ClientRedirect [0] Location: /a;",
        ),
        (
            "a local path with a status is for the client",
            b"Status: 303 See Other\nLocation: /a\n\n",
            "303 ClientRedirect (See Other) Location: /a;",
        ),
        (
            "a client redirect",
            b"Location: https://a.example/\n\n",
            "302 ClientRedirect Location: https://a.example/;",
        ),
        (
            "a client redirect with a document and no status",
            b"Content-Type: text/html\nLocation: http://a.example/\n\n",
            "302 ClientRedirect Content-Type: text/html; Location: http://a.example/;",
        ),
        (
            "a relative reference is the client's to resolve",
            b"Location: b.html\n\n",
            "302 ClientRedirect Location: b.html;",
        ),
        (
            "created",
            b"Status: 201 Created\nLocation: /new\n\n",
            "201 Document (Created) Location: /new;",
        ),
        (
            "an empty value is no field",
            b"Status:\nLocation: \nContent-Type: a/b\nX-A:\nStatus: 201\n\n",
            "201 Document Content-Type: a/b;",
        ),
        (
            "fields of the connection are ours",
            b"Content-Type: a/b\nConnection: close\nKeep-Alive: 5\nTransfer-Encoding: chunked\nTrailer: A\n\
              Trailers: A\nTE: b\nUpgrade: c\nProxy-Connection: d\nProxy-Authenticate: e\n\
              Proxy-Authorization: f\nx-cgi-thing: g\nX-Cgif: h\n\n",
            "200 Document Content-Type: a/b; X-Cgif: h;",
        ),
        (
            "Date and Server are left to HTTP/1",
            b"Content-Type: a/b\nDate: x\nServer: y\n\n",
            "200 Document Content-Type: a/b; Date: x; Server: y;",
        ),
        (
            "cookies are never merged",
            b"Content-Type: a/b\nSet-Cookie: a=1\nset-cookie: b=2\n\n",
            "200 Document Content-Type: a/b; Set-Cookie: a=1; set-cookie: b=2;",
        ),
        (
            "a length",
            b"Content-Type: a/b\nContent-Length: 0012\n\n",
            "200 Document [12] Content-Type: a/b;",
        ),
        (
            "the longest length, twice the same",
            b"Content-Type: a/b\nContent-Length: 18446744073709551615\ncontent-length: 18446744073709551615\n\n",
            "200 Document [18446744073709551615] Content-Type: a/b;",
        ),
        (
            "every token byte in a name",
            b"Status: 200\n!#$%&'*+-.^_`|~09azAZ: x\n\n",
            "200 Document !#$%&\\'*+-.^_`|~09azAZ: x;",
        ),
    ];
    for (name, input, expected) in rows {
        check(name, input, Ok(expected));
    }
}

#[test]
fn what_follows_an_empty_line_is_quoted() {
    let words = |input: &[u8]| {
        let result = Parser::new(1000).step(input, &mut ResponseHead::default());
        result.expect_err("an empty line").to_string()
    };
    let found = "expected header fields, found an empty line first";
    assert_eq!(words(b"\r\n"), found);
    assert_eq!(words(b"\n<p>\n"), format!("{found}, then \"<p>\\n\""));
    let long = [&b"\n"[..], &[b'x'; 100]].concat();
    assert_eq!(words(&long), format!("{found}, then \"{}\"", "x".repeat(64)));
}

#[test]
fn heads_of_fastcgi_may_be_bare() {
    let rows: [(&[u8], &str); 6] = [
        (b"\r\n", "200 Document"),
        (b"\n", "200 Document"),
        (b"X-A: a\r\n\r\n", "200 Document X-A: a;"),
        (b"Content-Length: 3\n\n", "200 Document [3]"),
        (b"Status: 404\n\n", "404 Document"),
        (b"Location: /a\n\n", "302 LocalRedirect Location: /a;"),
    ];
    for (input, expected) in rows {
        let with_body = [input, b"body\n\n"].concat();
        let mut parser = Parser::for_fastcgi(DEFAULT_LIMIT);
        for size in [usize::MAX, 1, 3] {
            parser.reset();
            let found = parse(&mut parser, &with_body, size);
            assert_eq!(found, Ok(Some((input.len(), expected.to_owned()))), "{size}");
        }
    }
    let mut parser = Parser::for_fastcgi(DEFAULT_LIMIT);
    assert!(parse(&mut parser, b"<html>\n\n", usize::MAX).is_err());
    // An empty head after an interim one.
    let mut head = ResponseHead::default();
    parser.reset();
    assert_eq!(
        parser.step(b"Status: 103\n\n\n", &mut head),
        Ok((13, Event::Head(Kind::Document)))
    );
    parser.reset();
    assert_eq!(parser.step(b"\n", &mut head), Ok((1, Event::Head(Kind::Document))));
    assert_eq!(head.status, 200);
}

#[test]
fn heads_are_refused() {
    let rows: &[(&str, &[u8], &str)] = &[
        (
            "an empty line first",
            b"\nContent-Type: a/b\n\n",
            "found an empty line first",
        ),
        (
            "an empty line first, CRLF",
            b"\r\nContent-Type: a/b\r\n\r\n",
            "found an empty line first",
        ),
        (
            "a page without a head",
            b"<html>\n\n",
            "expected a header field, found \"<html>\"",
        ),
        (
            "text with a colon",
            b"PHP Warning: x\n\n",
            "expected a header field, found \"PHP Warning: x\"",
        ),
        ("NPH output", b"HTTP/1.1 200 OK\r\n\r\n", "found \"HTTP/1.1 200 OK\""),
        ("no name", b": a\n\n", "found \": a\""),
        (
            "a blank before the colon",
            b"Content-Type : a/b\n\n",
            "found \"Content-Type : a/b\"",
        ),
        (
            "8-bit in a name",
            b"Content-Typ\xe9: a/b\n\n",
            "found \"Content-Typ\\xe9: a/b\"",
        ),
        (
            "NUL in a name",
            b"Content\0-Type: a/b\n\n",
            "found \"Content\\x00-Type: a/b\"",
        ),
        (
            "a continuation line",
            b"Content-Type: a/b\n c\n\n",
            "found a continuation line \" c\"",
        ),
        (
            "a continuation by tab",
            b"Content-Type: a/b\n\tc\n\n",
            "found a continuation line \"\\tc\"",
        ),
        (
            "a line of blanks",
            b"Content-Type: a/b\n \n\n",
            "found a continuation line",
        ),
        (
            "NUL in a value",
            b"Content-Type: a\0b\n\n",
            "value of \"Content-Type\", found byte 0x00",
        ),
        (
            "CR in a value",
            b"X-A: a\rSet-Cookie: b\n\n",
            "value of \"X-A\", found byte 0x0d",
        ),
        (
            "CR before CRLF",
            b"X-A: a\r\r\n\r\n",
            "value of \"X-A\", found byte 0x0d",
        ),
        ("an escape", b"X-A: \x1b[0m\n\n", "found byte 0x1b"),
        ("DEL", b"X-A: a\x7f\n\n", "found byte 0x7f"),
        (
            "nothing required",
            b"X-A: a\n\n",
            "found none of them after \"X-A: a\\n\\n\"",
        ),
        ("nothing but empty values", b"Content-Type:\n\n", "found none of them"),
        ("a length alone", b"Content-Length: 3\n\n", "found none of them"),
        (
            "two types",
            b"Content-Type: a/b\ncontent-type: a/b\n\n",
            "expected Content-Type once",
        ),
        (
            "two locations",
            b"Location: /a\nLocation: /b\n\n",
            "expected Location once",
        ),
        ("two states", b"Status: 200\nStatus: 200\n\n", "expected Status once"),
        (
            "a status with colon",
            b"Status: 404: Not Found\n\n",
            "found \"404: Not Found\"",
        ),
        (
            "a status with tab",
            b"Status: 404\tNot Found\n\n",
            "found \"404\\tNot Found\"",
        ),
        ("two digits", b"Status: 40\n\n", "found \"40\""),
        ("four digits", b"Status: 2000 OK\n\n", "found \"2000 OK\""),
        ("a signed status", b"Status: +20 OK\n\n", "found \"+20 OK\""),
        ("no digits", b"Status: OK\n\n", "found \"OK\""),
        ("below the range", b"Status: 099\n\n", "found \"099\""),
        ("above the range", b"Status: 600\n\n", "found \"600\""),
        ("switching protocols", b"Status: 101 x\n\n", "found \"101 x\""),
        (
            "a length with a sign",
            b"Status: 200\nContent-Length: +1\n\n",
            "found \"+1\"",
        ),
        (
            "a length list",
            b"Status: 200\nContent-Length: 1, 1\n\n",
            "found \"1, 1\"",
        ),
        (
            "a length past 64 bits",
            b"Status: 200\nContent-Length: 18446744073709551616\n\n",
            "found \"18446744073709551616\"",
        ),
        (
            "two lengths",
            b"Status: 200\nContent-Length: 1\nContent-Length: 2\n\n",
            "expected Content-Length once",
        ),
    ];
    for (name, input, expected) in rows {
        check(name, input, Err(expected));
    }
}

#[test]
fn the_limit_counts_the_whole_head() {
    let head = b"Status: 200\nX-A: bcd\n\n";
    for size in [1, 3, usize::MAX] {
        let exact = parse(&mut Parser::new(head.len()), head, size);
        assert!(matches!(exact, Ok(Some(_))), "{exact:?}");
        let one_past = parse(&mut Parser::new(head.len() - 1), head, size);
        let error = one_past.expect_err("too long");
        assert!(error.contains("of at most 21 bytes"), "{error}");
    }
    // A line without an end is refused as soon as no end could come in time.
    let mut parser = Parser::new(100);
    assert_eq!(parse(&mut parser, &[b'a'; 99], 10), Ok(None));
    assert!(parse(&mut parser, b"a", 10).is_err());
}

#[test]
fn excerpts_are_short_and_name_no_values() {
    let long = [b"<p>".repeat(100), b"\n".to_vec()].concat();
    let error = parse(&mut Parser::new(1000), &long, 7).expect_err("no field");
    assert_eq!(
        error,
        format!("expected a header field, found \"{}<\"", "<p>".repeat(21))
    );
    let secret = b"Set-Cookie: secret\x01\n\n";
    let error = parse(&mut Parser::new(1000), secret, 1).expect_err("control byte");
    assert!(!error.contains("secret"), "{error}");
}

#[test]
fn the_end_of_output_in_a_head_is_explained() {
    let mut parser = Parser::new(1000);
    assert_eq!(parse(&mut parser, b"Status: 200\nX-A", 4), Ok(None));
    let error = parser.eof();
    assert_eq!(error.status(), 502);
    assert!(error.to_string().ends_with("after \"Status: 200\\nX-A\""), "{error}");
}

#[test]
fn an_interim_head_is_followed_by_another() {
    let output = b"Status: 103\nLink: a\n\nStatus: 200\nContent-Type: a/b\n\nbody";
    let mut parser = Parser::new(1000);
    let (used, head) = parse(&mut parser, output, usize::MAX).unwrap().unwrap();
    assert_eq!(head, "103 Document Link: a;");
    parser.reset();
    let (more, head) = parse(&mut parser, &output[used..], 1).unwrap().unwrap();
    assert_eq!(head, "200 Document Content-Type: a/b;");
    assert_eq!(&output[used + more..], b"body");
}

fn any_head() -> impl Strategy<Value = Vec<(String, String)>> {
    let field = ("X-[A-Za-z0-9-]{1,12}", "[!-~]([ -~]{0,20}[!-~])?");
    let fields = prop::collection::vec(field, 0..6);
    let required = prop_oneof![
        Just(("Content-Type".to_owned(), "text/plain".to_owned())),
        Just(("status".to_owned(), "404 Not Found".to_owned())),
        Just(("LOCATION".to_owned(), "http://a.example/".to_owned())),
    ];
    (fields, required, any::<prop::sample::Index>()).prop_map(|(mut fields, required, place)| {
        fields.retain(|(name, _)| !is_gateway_field(name.as_bytes()));
        fields.insert(place.index(fields.len() + 1), required);
        fields
    })
}

fn encode(fields: &[(String, String)], line_end: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.extend_from_slice(format!("{name}: {value}{line_end}").as_bytes());
    }
    out.extend_from_slice(line_end.as_bytes());
    out
}

proptest! {
    #[test]
    fn what_was_written_is_read(fields in any_head(), crlf: bool, size in 1_usize..40) {
        let line_end = if crlf { "\r\n" } else { "\n" };
        let written = encode(&fields, line_end);
        let mut parser = Parser::new(written.len());
        let mut head = ResponseHead::default();
        let mut at = 0;
        for part in [&written, &b"body\n\n"[..]].concat().chunks(size) {
            let (used, event) = parser.step(part, &mut head).expect("valid");
            at += used;
            if event != Event::NeedData {
                break;
            }
        }
        prop_assert_eq!(at, written.len());
        let kept: Vec<_> = fields.iter().filter(|(name, _)| name != "status").collect();
        let found: Vec<_> = head.fields().collect();
        prop_assert_eq!(found.len(), kept.len());
        for ((name, value), (kept_name, kept_value)) in found.into_iter().zip(kept) {
            prop_assert_eq!(name, kept_name.as_bytes());
            prop_assert_eq!(value, kept_value.as_bytes());
        }
    }

    #[test]
    fn damage_is_judged_the_same_however_it_arrives(
        fields in any_head(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), prop_oneof![
            Just(b'\n'), Just(b'\r'), Just(0), Just(b':'), Just(b' '), any::<u8>()
        ]), 0..4),
        size in 1_usize..40,
    ) {
        let mut written = encode(&fields, "\n");
        for (place, byte) in damage {
            let place = place.index(written.len());
            written[place] = byte;
        }
        let whole = parse(&mut Parser::new(4096), &written, usize::MAX);
        let parts = parse(&mut Parser::new(4096), &written, size);
        if let Ok(Some((_, head))) = &whole {
            // Escaped, so that a backslash of the value's own must not be taken for the start of an escape.
            let head = head.replace("\\\\", "");
            prop_assert!(!head.contains("\\n") && !head.contains("\\r") && !head.contains("\\x00"));
        }
        prop_assert_eq!(whole, parts);
    }
}
