//! The output of a script whose name begins with `nph-`: a whole HTTP response (RFC 3875 §5), of which the head is read
//! here and framed anew by whoever sends it. The script cannot know what the client's connection needs.
//!
//! Never here: the body.

use super::error::{Error, Excerpt};
use super::response::{self, Event};
use crate::base::message::ResponseHead;

/// Reads one head at a time from a script's output.
#[derive(Debug)]
pub struct Parser {
    limit: usize,
    /// The head as far as it has come.
    partial: Vec<u8>,
    fields: response::Parser,
}

impl Parser {
    /// A parser that takes heads of at most `limit` bytes, the empty line included.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            partial: Vec::new(),
            // The status line becomes a field that is a little longer.
            fields: response::Parser::new(limit.saturating_add(16)),
        }
    }

    /// Makes ready for the next head, after an interim one.
    pub fn reset(&mut self) {
        self.partial.clear();
        self.fields.reset();
    }

    /// Takes output: how many bytes were used, and what they meant. With [`Event::NeedData`] all of `input` was used.
    ///
    /// # Errors
    /// What is no head of HTTP/1, a head that announces chunks, and what [`response::Parser::step`] refuses.
    pub fn step(&mut self, input: &[u8], head: &mut ResponseHead) -> Result<(usize, Event), Error> {
        let before = self.partial.len();
        let room = self.limit.saturating_sub(before);
        let taken = input.get(..room).unwrap_or(input);
        self.partial.extend_from_slice(taken);
        let Some(end) = end_of_head(&self.partial, before) else {
            if taken.len() < input.len() || self.partial.len() >= self.limit {
                return Err(Error::TooLong {
                    limit: self.limit,
                    found: Excerpt::new(&self.partial),
                });
            }
            return Ok((input.len(), Event::NeedData));
        };
        let whole = self.partial.get(..end).unwrap_or_default();
        let (line, rest) = whole.split_at(memchr::memchr(b'\n', whole).map_or(end, |at| at + 1));
        let status = status_of(line).ok_or_else(|| Error::StatusLine {
            found: Excerpt::new(line),
        })?;
        if rest.split(|byte| *byte == b'\n').any(is_transfer_encoding) {
            return Err(Error::Chunked);
        }
        let header = [b"Status: ", status, b"\n", rest].concat();
        let (_, event) = self.fields.step(&header, head)?;
        Ok((end.saturating_sub(before), event))
    }

    /// The error for output that ended where it stands: inside a head.
    #[must_use]
    pub fn eof(&self) -> Error {
        Error::Eof {
            found: Excerpt::new(&self.partial),
        }
    }
}

/// Where the empty line that ends a head ends; the first `searched` bytes have none.
fn end_of_head(bytes: &[u8], searched: usize) -> Option<usize> {
    let start = searched.saturating_sub(2);
    let rest = bytes.get(start..)?;
    memchr::memchr_iter(b'\n', rest).find_map(|at| {
        let after = rest.get(at + 1..)?;
        let length = match after {
            [b'\n', ..] => 1,
            [b'\r', b'\n', ..] => 2,
            _ => return None,
        };
        Some(start + at + 1 + length)
    })
}

/// Status and reason of a status line: what follows `HTTP/1.1 `.
fn status_of(line: &[u8]) -> Option<&[u8]> {
    let line = line.trim_ascii_end();
    let rest = line.strip_prefix(b"HTTP/1.")?;
    match rest {
        [b'0' | b'1', b' ', status @ ..] => Some(status),
        _ => None,
    }
}

fn is_transfer_encoding(line: &[u8]) -> bool {
    let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
    name.eq_ignore_ascii_case(b"transfer-encoding")
}

#[cfg(test)]
mod tests {
    use super::super::response::Kind;
    use super::*;

    /// An output, and its status, fields and body.
    type Case<'a> = (&'a [u8], u16, &'a [&'a str], &'a [u8]);

    /// Feeds the output in pieces of `size`; gives status, fields and body, or the error.
    fn read(output: &[u8], size: usize) -> Result<(u16, Vec<String>, Vec<u8>), String> {
        let (mut parser, mut head, mut body) = (Parser::new(200), ResponseHead::default(), Vec::new());
        let mut seen = None;
        for piece in output.chunks(size) {
            let mut rest = piece;
            if seen.is_none() {
                let (used, event) = parser.step(rest, &mut head).map_err(|error| error.to_string())?;
                rest = &rest[used..];
                if let Event::Head(kind) = event {
                    assert_ne!(kind, Kind::LocalRedirect);
                    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                    let fields = head
                        .fields()
                        .map(|(name, value)| format!("{}={}", text(name), text(value)));
                    seen = Some((head.status, fields.collect()));
                }
            }
            body.extend_from_slice(rest);
        }
        let (status, fields) = seen.ok_or_else(|| parser.eof().to_string())?;
        Ok((status, fields, body))
    }

    #[test]
    fn heads_are_read_and_framing_is_left_out() {
        let cases: &[Case<'_>] = &[
            (
                b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\nbody\n\n",
                200,
                &["Content-Type=text/plain"],
                b"body\n\n",
            ),
            (b"HTTP/1.0 404\nX: y\n\n", 404, &["X=y"], b""),
            (
                b"HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n",
                302,
                &["Location=/x"],
                b"",
            ),
            (b"HTTP/1.1 204 No Content\r\n\r\n", 204, &[], b""),
        ];
        for (output, status, fields, body) in cases {
            for size in [1, 2, 7, output.len()] {
                let (found, found_fields, found_body) = read(output, size).unwrap();
                let shown = output.escape_ascii();
                assert_eq!((found, &found_body[..]), (*status, *body), "{shown}");
                assert_eq!(found_fields, *fields, "{shown}");
            }
        }
    }

    #[test]
    fn what_is_no_response_is_refused() {
        let cases: &[(&[u8], &str)] = &[
            (b"Content-Type: text/plain\r\n\r\n", "status line"),
            (b"HTTP/2 200\r\n\r\n", "status line"),
            (b"HTTP/1.1 two\r\n\r\n", "status from 200"),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                "chunks",
            ),
            (b"HTTP/1.1 200 OK\r\nX", "end of the output"),
            (&[b'x'; 300], "at most 200 bytes"),
        ];
        for (output, words) in cases {
            for size in [1, output.len()] {
                let error = read(output, size).unwrap_err();
                assert!(error.contains(words), "{}: {error}", output.escape_ascii());
            }
        }
    }
}
