//! A response head becomes a CGI header, for web servers that come to us by FastCGI; RFC 3875 §6.
//!
//! Never here: the body, and which responses have one.

use crate::base::message::{ResponseHead, is_one_line, write_field};

/// Appends `head` as a CGI header with the empty line that ends it.
///
/// `length` is the body's, if it is announced. `request_id` replaces the app's X-Request-Id. Date and Server are the
/// app's: the web server adds its own.
pub fn write_header(head: &ResponseHead, length: Option<u64>, request_id: Option<&[u8]>, out: &mut Vec<u8>) {
    out.reserve(head.bytes.len() + 4 * head.fields.len() + 128);
    // RFC 3875 §6.3.3: always given, so that a Location means the same to every web server.
    let mut digits = itoa::Buffer::new();
    out.extend_from_slice(b"Status: ");
    out.extend_from_slice(digits.format(head.status).as_bytes());
    let reason = head.text(head.reason);
    if !reason.is_empty() && is_one_line(reason) {
        out.push(b' ');
        out.extend_from_slice(reason);
    }
    out.extend_from_slice(b"\r\n");
    if let Some(length) = length {
        write_field(b"Content-Length", digits.format(length).as_bytes(), out);
    }
    if let Some(id) = request_id {
        write_field(b"X-Request-Id", id, out);
    }
    for (name, value) in head.fields() {
        let is_ours =
            is_of_the_connection(name) || (request_id.is_some() && name.eq_ignore_ascii_case(b"x-request-id"));
        // Whoever filled the head has checked it; a line break that got here all the same must not split the header.
        if !is_ours && is_one_line(name) && is_one_line(value) {
            write_field(name, value, out);
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Fields that we write, or that are about a connection no app knows of.
fn is_of_the_connection(name: &[u8]) -> bool {
    const NAMES: [&str; 9] = [
        "status",
        "content-length",
        "connection",
        "keep-alive",
        "te",
        "trailer",
        "trailers",
        "transfer-encoding",
        "upgrade",
    ];
    NAMES.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgi::response::{Event, Parser};

    fn text(head: &ResponseHead, length: Option<u64>, id: Option<&[u8]>) -> String {
        let mut out = Vec::new();
        write_header(head, length, id, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_header_has_a_status_and_the_apps_fields() {
        let mut head = ResponseHead {
            status: 404,
            ..ResponseHead::default()
        };
        assert_eq!(text(&head, None, None), "Status: 404\r\n\r\n");
        head.reason = head.store(b"Nothing here");
        for (name, value) in [
            ("Content-Type", "text/plain"),
            ("Server", "theirs"),
            ("Set-Cookie", "a"),
            ("Set-Cookie", "b"),
            ("X-Request-Id", "theirs"),
            ("Content-Length", "5"),
            ("Transfer-Encoding", "chunked"),
            ("Bad\nName", "x"),
            ("Bad", "x\r\nSet-Cookie: c"),
        ] {
            head.push(name.as_bytes(), value.as_bytes());
        }
        let expected = "Status: 404 Nothing here\r\nContent-Length: 7\r\nX-Request-Id: ours\r\n\
             Content-Type: text/plain\r\nServer: theirs\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\n";
        assert_eq!(text(&head, Some(7), Some(b"ours")), expected);
        assert!(text(&head, None, None).contains("X-Request-Id: theirs"));
        head.reason = head.store(b"two\r\nlines");
        assert!(text(&head, None, None).starts_with("Status: 404\r\n"));
    }

    #[test]
    fn what_is_written_can_be_read() {
        let mut head = ResponseHead {
            status: 201,
            ..ResponseHead::default()
        };
        head.push(b"Content-Type", b"text/html; charset=utf-8");
        head.push(b"X-Other", b"a, b");
        let header = text(&head, Some(12), None);
        let mut read = ResponseHead::default();
        let (used, event) = Parser::new(1000).step(header.as_bytes(), &mut read).unwrap();
        assert!(matches!(event, Event::Head(_)) && used == header.len());
        assert_eq!((read.status, read.content_length), (201, Some(12)));
        assert_eq!(read.field("x-other"), Some(&b"a, b"[..]));
    }
}
