//! Response heads and our own error pages (RFC 9112 §4, RFC 9110 §15).
//!
//! Never here: reading the clock for Date (it is passed in), or choosing a body's framing.

use super::framing::Framing;
use crate::base::message::{ResponseHead, Version, is_one_line, write_field};

/// What every response carries beside the app's own fields.
#[derive(Clone, Copy, Debug)]
pub struct Common<'a> {
    /// The Server field; empty = none.
    pub server: &'a str,
    /// The Date field: an IMF-fixdate.
    pub date: &'a str,
    /// The X-Request-Id field, printable; replaces the app's.
    pub request_id: Option<&'a [u8]>,
}

/// The usual reason phrase of a status; `Unknown` if it has none.
#[must_use]
pub fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        102 => "Processing",
        103 => "Early Hints",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        203 => "Non-Authoritative Information",
        204 => "No Content",
        205 => "Reset Content",
        206 => "Partial Content",
        207 => "Multi-Status",
        208 => "Already Reported",
        226 => "IM Used",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        305 => "Use Proxy",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        418 => "I'm a teapot",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        423 => "Locked",
        424 => "Failed Dependency",
        425 => "Too Early",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        506 => "Variant Also Negotiates",
        507 => "Insufficient Storage",
        508 => "Loop Detected",
        510 => "Not Extended",
        511 => "Network Authentication Required",
        _ => "Unknown",
    }
}

/// Makes a small HTML page for an error of ours: replaces `head` and `body`.
///
/// `detail` is a fixed text shown below the reason phrase; empty means none.
pub fn error_page(status: u16, detail: &str, head: &mut ResponseHead, body: &mut Vec<u8>) {
    head.clear();
    head.status = status;
    head.push(b"Content-Type", b"text/html");
    body.clear();
    body.extend_from_slice(b"<!DOCTYPE html>\n<html>\n  <head><title>");
    escape(reason(status), body);
    body.extend_from_slice(b"</title></head>\n  <body>\n    <h1>");
    escape(reason(status), body);
    body.extend_from_slice(b"</h1>\n");
    if !detail.is_empty() {
        body.extend_from_slice(b"    <p>");
        escape(detail, body);
        body.extend_from_slice(b"</p>\n");
    }
    body.extend_from_slice(b"  </body>\n</html>\n");
}

fn escape(text: &str, out: &mut Vec<u8>) {
    for byte in text.bytes() {
        match byte {
            b'&' => out.extend_from_slice(b"&amp;"),
            b'<' => out.extend_from_slice(b"&lt;"),
            b'>' => out.extend_from_slice(b"&gt;"),
            b'"' => out.extend_from_slice(b"&quot;"),
            b'\'' => out.extend_from_slice(b"&#39;"),
            _ => out.push(byte),
        }
    }
}

/// Writes a final response's head.
pub(super) fn write_head(
    version: Version,
    head: &ResponseHead,
    framing: Framing,
    keep_alive: bool,
    common: &Common<'_>,
    out: &mut Vec<u8>,
) {
    // Most of a head is the app's fields; the rest fits in this allowance, so the buffer grows once if at all.
    out.reserve(head.bytes.len() + 4 * head.fields.len() + 256);
    status_line(version, head, out);
    if !common.server.is_empty() {
        write_field(b"Server", common.server.as_bytes(), out);
    }
    write_field(b"Date", common.date.as_bytes(), out);
    out.extend_from_slice(if keep_alive {
        b"Connection: keep-alive\r\n"
    } else {
        b"Connection: close\r\n".as_slice()
    });
    match framing {
        Framing::Bodiless(Some(length)) | Framing::Length(length) => {
            write_field(b"Content-Length", itoa::Buffer::new().format(length).as_bytes(), out);
        }
        Framing::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        Framing::Bodiless(None) | Framing::Close => {}
    }
    if let Some(id) = common.request_id {
        write_field(b"X-Request-Id", id, out);
    }
    app_fields(head, common.request_id.is_some(), out);
    out.extend_from_slice(b"\r\n");
}

/// Writes an interim response's head: no body, nothing of ours.
pub(super) fn write_interim(head: &ResponseHead, out: &mut Vec<u8>) {
    status_line(Version::Http11, head, out);
    app_fields(head, false, out);
    out.extend_from_slice(b"\r\n");
}

fn status_line(version: Version, head: &ResponseHead, out: &mut Vec<u8>) {
    // A status that is not three digits would be malformed for the client; the cause is a fault of this program.
    let status = if (100..=999).contains(&head.status) {
        head.status
    } else {
        500
    };
    out.extend_from_slice(version.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(itoa::Buffer::new().format(status).as_bytes());
    out.push(b' ');
    let given = head.text(head.reason);
    if given.is_empty() || !is_one_line(given) {
        out.extend_from_slice(reason(status).as_bytes());
    } else {
        out.extend_from_slice(given);
    }
    out.extend_from_slice(b"\r\n");
}

fn app_fields(head: &ResponseHead, has_request_id: bool, out: &mut Vec<u8>) {
    for (name, value) in head.fields() {
        let ours = is_ours(name) || (has_request_id && name.eq_ignore_ascii_case(b"x-request-id"));
        // Whoever filled the head has checked it; a line break that got here all the same must not split the response.
        if !ours && is_one_line(name) && is_one_line(value) {
            write_field(name, value, out);
        }
    }
}

/// True for fields about this connection, which the app cannot know, and those we write ourselves.
fn is_ours(name: &[u8]) -> bool {
    let known: &[&str] = match name.len() {
        2 => &["te"],
        4 => &["date"],
        6 => &["server"],
        7 => &["trailer", "upgrade"],
        8 => &["trailers"],
        10 => &["connection", "keep-alive"],
        14 => &["content-length"],
        17 => &["transfer-encoding"],
        18 => &["proxy-authenticate"],
        19 => &["proxy-authorization"],
        _ => &[],
    };
    known.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_pages_replace_and_escape() {
        let mut head = ResponseHead::default();
        head.push(b"X-Old", b"x");
        let mut body = b"old".to_vec();
        error_page(400, "<a href='x'>\"&\"</a>", &mut head, &mut body);
        assert_eq!(head.status, 400);
        let fields: Vec<_> = head.fields().collect();
        assert_eq!(fields, [(b"Content-Type".as_slice(), b"text/html".as_slice())]);
        let page = String::from_utf8_lossy(&body);
        assert!(page.starts_with("<!DOCTYPE html>\n"));
        assert!(page.contains("<title>Bad Request</title>") && page.contains("<h1>Bad Request</h1>"));
        assert!(page.contains("<p>&lt;a href=&#39;x&#39;&gt;&quot;&amp;&quot;&lt;/a&gt;</p>"));
        error_page(418, "", &mut head, &mut body);
        let page = String::from_utf8_lossy(&body);
        assert!(page.contains("<h1>I&#39;m a teapot</h1>") && !page.contains("<p>"));
    }

    #[test]
    fn statuses_in_use_have_phrases() {
        for status in [
            400, 403, 404, 405, 408, 413, 414, 417, 429, 431, 500, 501, 502, 503, 504, 505,
        ] {
            assert_ne!(reason(status), "Unknown", "{status}");
        }
    }
}
