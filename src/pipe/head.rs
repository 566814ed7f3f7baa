//! The response head on the wire: docs/protocols/pipe.md §6. `200 OK NUL name NUL value NUL ...`
//!
//! Never here: the HTTP form of a head, Date, Server.

use super::error::Error;
use crate::base::message::{Field, ResponseHead, Span};

/// Fields that concern one HTTP connection and are the front's own affair (RFC 9110 §7.6.1). A worker's are dropped.
const HOP_BY_HOP: [&str; 7] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Fills `head` from the bytes of a head block; what stood in it before is lost.
///
/// Content-Length is taken out of the fields and into `content_length`. One copy of the block and no allocation once
/// the head's buffers have grown.
pub fn decode(block: &[u8], head: &mut ResponseHead) -> Result<(), Error> {
    head.clear();
    let mut items = Items { block, at: 0 };
    let (status, text) = items.next().unwrap_or_default();
    head.status = parse_status(text)?;
    head.reason = reason_span(status, text)?;
    while let Some((name_at, name)) = items.next() {
        let Some((value_at, value)) = items.next() else {
            if name.is_empty() {
                break; // What follows the last NUL.
            }
            return Err(Error::head("a value after each field name", name));
        };
        if name.is_empty() || !name.iter().copied().all(is_token) {
            return Err(Error::head("a field name made of token characters", name));
        }
        // A line end inside a value would let the app's data write fields of its own into the response.
        if memchr::memchr2(b'\r', b'\n', value).is_some() {
            return Err(Error::head("a field value without CR and LF", value));
        }
        let trimmed = value.trim_ascii();
        if is_dropped(name, trimmed, head)? {
            continue;
        }
        let blanks = value.len() - value.trim_ascii_start().len();
        let field = Field {
            name: span(name_at, name.len()),
            value: span(value_at.saturating_add(blanks), trimmed.len()),
        };
        head.fields.push(field);
    }
    head.bytes.extend_from_slice(block);
    Ok(())
}

/// Appends the block of `head`, ended by NUL, Content-Length last if it is set.
pub fn encode(head: &ResponseHead, out: &mut Vec<u8>) {
    let mut digits = itoa::Buffer::new();
    out.extend_from_slice(digits.format(head.status).as_bytes());
    let reason = head.text(head.reason);
    if !reason.is_empty() {
        out.push(b' ');
        out.extend_from_slice(reason);
    }
    out.push(0);
    for (name, value) in head.fields() {
        for text in [name, value] {
            out.extend_from_slice(text);
            out.push(0);
        }
    }
    if let Some(length) = head.content_length {
        out.extend_from_slice(b"Content-Length\0");
        out.extend_from_slice(digits.format(length).as_bytes());
        out.push(0);
    }
}

/// The pieces between NULs and where each begins. After the last NUL comes one more piece, empty or not.
struct Items<'b> {
    block: &'b [u8],
    at: usize,
}

impl<'b> Iterator for Items<'b> {
    type Item = (usize, &'b [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.block.get(self.at..)?;
        let length = memchr::memchr(0, rest).unwrap_or(rest.len());
        let item = (self.at, rest.get(..length)?);
        self.at += length + 1;
        Some(item)
    }
}

fn parse_status(text: &[u8]) -> Result<u16, Error> {
    let bad = || Error::head("a status of three digits from 100 to 999", text);
    let (&[a, b, c], rest) = text.split_first_chunk::<3>().ok_or_else(bad)?;
    let digits = [a, b, c].iter().all(u8::is_ascii_digit);
    if !digits || !matches!(rest.first(), None | Some(b' ')) || a == b'0' {
        return Err(bad());
    }
    let value = |digit: u8| u16::from(digit - b'0');
    let status = value(a) * 100 + value(b) * 10 + value(c);
    if status == 101 {
        return Err(Error::head(
            "a status other than 101, as connections are not handed over",
            text,
        ));
    }
    Ok(status)
}

fn reason_span(at: usize, text: &[u8]) -> Result<Span, Error> {
    let reason = text.get(4..).unwrap_or_default();
    if reason
        .iter()
        .any(|&byte| (byte < b' ' && byte != b'\t') || byte == 0x7f)
    {
        return Err(Error::head("a reason phrase without control characters", text));
    }
    Ok(span(at.saturating_add(4), reason.len()))
}

/// True if the field stays out of the list: hop-by-hop, or Content-Length, which is noted in `head`.
fn is_dropped(name: &[u8], value: &[u8], head: &mut ResponseHead) -> Result<bool, Error> {
    if name.eq_ignore_ascii_case(b"content-length") {
        let length = parse_length(value).ok_or_else(|| Error::head("digits in Content-Length", value))?;
        if head.content_length.is_some_and(|before| before != length) {
            return Err(Error::head("one Content-Length, or equal ones", value));
        }
        head.content_length = Some(length);
        return Ok(true);
    }
    Ok(HOP_BY_HOP
        .iter()
        .any(|known| name.eq_ignore_ascii_case(known.as_bytes())))
}

fn parse_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None; // Rust's own parser would take a sign.
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// RFC 9110 §5.6.2, as a table since every byte of every name is looked up.
#[allow(clippy::indexing_slicing)] // Done by the compiler.
static TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let marks = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut rest = marks.as_slice();
    while let Some((&byte, after)) = rest.split_first() {
        table[byte as usize] = true;
        rest = after;
    }
    table
};

fn is_token(byte: u8) -> bool {
    TOKEN.get(usize::from(byte)).copied().unwrap_or(false)
}

fn span(start: usize, len: usize) -> Span {
    // Blocks are far below 4 GiB: the head limit saw to that.
    Span {
        start: u32::try_from(start).unwrap_or(u32::MAX),
        len: u32::try_from(len).unwrap_or(0),
    }
}
