//! The header of a CGI response becomes a response head; RFC 3875 §6.
//!
//! `docs/protocols/fastcgi.md` lists what is accepted, changed and refused.
//! Never here: the body, NPH output (§5), which fields HTTP/1 replaces (Date, Server).

use crate::base::message::{Field, ResponseHead, Span};

pub use super::error::{Error, Excerpt};

/// The usual limit of a header with its empty line, in bytes.
pub const DEFAULT_LIMIT: usize = 64 * 1024;

/// What a step gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Everything was used; more bytes are needed.
    NeedData,
    /// The head is complete. The bytes after those used are the body.
    Head(Kind),
}

/// The kinds of response of RFC 3875 §6.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A document (§6.2.1), or with a 1xx status an interim head: reset the parser, the next head follows.
    Document,
    /// Location for the client (§6.2.3, §6.2.4). The status is the script's, else 302.
    ClientRedirect,
    /// Location for the gateway (§6.2.2): a path and query to answer with instead. There is no other field and no body.
    /// The status is set to 302, for gateways that send it to the client.
    LocalRedirect,
}

/// Reads one header at a time from a script's output.
#[derive(Debug)]
pub struct Parser {
    limit: usize,
    /// A head without Content-Type, Location and Status is a document, too.
    takes_bare: bool,
    /// Bytes of this header used so far.
    used: usize,
    /// The start of a line that came in parts.
    partial: Vec<u8>,
    /// The first bytes of a header that came in parts.
    first: Excerpt,
    seen: Seen,
    done: Option<Kind>,
}

/// The fields that decide what a response is.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// Any line that is not empty.
    line: bool,
    content_type: bool,
    location: Option<Location>,
    status: Option<u16>,
    /// Any field besides Location and Status.
    other: bool,
    /// A field that names a file to be sent instead of a body.
    file: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Location {
    /// Begins with one `/`.
    Local,
    /// An absolute URI, or something else for the client to make sense of.
    Client,
}

impl Parser {
    /// A parser that takes headers of at most `limit` bytes, the empty line included.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            takes_bare: false,
            used: 0,
            partial: Vec::new(),
            first: Excerpt::new(b""),
            seen: Seen::default(),
            done: None,
        }
    }

    /// The same for a FastCGI server, whose heads are its own making: a page of PHP without any field has an empty head,
    /// and web servers take that for a document without a type.
    #[must_use]
    pub fn for_fastcgi(limit: usize) -> Self {
        Self {
            takes_bare: true,
            ..Self::new(limit)
        }
    }

    /// Makes ready for the next header: after an interim head, or for another response.
    pub fn reset(&mut self) {
        self.used = 0;
        self.partial.clear();
        self.first = Excerpt::new(b"");
        self.seen = Seen::default();
        self.done = None;
    }

    /// Takes output: how many bytes were used, and what they meant.
    ///
    /// `head` is emptied at the start of a header and must be the same in every step of it.
    /// With [`Event::NeedData`] all of `input` was used. After [`Event::Head`] the same is given again, until
    /// [`reset`](Self::reset).
    /// The head has neither Status nor Content-Length among its fields: `status`, `reason` and `content_length` have them.
    ///
    /// # Errors
    /// Whatever RFC 3875 §6 does not allow, and a header longer than the limit. Nothing is to be sent from it.
    pub fn step(&mut self, input: &[u8], head: &mut ResponseHead) -> Result<(usize, Event), Error> {
        if let Some(kind) = self.done {
            return Ok((0, Event::Head(kind)));
        }
        if self.used == 0 {
            head.clear();
        }
        let mut at = 0;
        while let Some(rest) = input.get(at..)
            && let Some(end) = memchr::memchr(b'\n', rest)
        {
            let tail = rest.get(..end).unwrap_or_default();
            at += end + 1;
            if self.used + at > self.limit {
                return Err(self.too_long(input));
            }
            let is_end = if self.partial.is_empty() {
                self.line(tail, head)?
            } else {
                let mut line = std::mem::take(&mut self.partial);
                line.extend_from_slice(tail);
                let is_end = self.line(&line, head)?;
                line.clear();
                self.partial = line;
                is_end
            };
            if is_end && !self.seen.line && !self.takes_bare {
                let found = Excerpt::new(input.get(at..).unwrap_or_default());
                return Err(Error::Empty { found });
            }
            if is_end {
                let kind = self.finish(input.get(..at).unwrap_or(input), head)?;
                self.done = Some(kind);
                return Ok((at, Event::Head(kind)));
            }
        }
        if self.used + input.len() >= self.limit {
            return Err(self.too_long(input));
        }
        self.first.push(input);
        self.partial.extend_from_slice(input.get(at..).unwrap_or_default());
        self.used += input.len();
        Ok((input.len(), Event::NeedData))
    }

    /// True inside a header of which something has come.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.used > 0
    }

    /// The error for output that ended where it stands: inside a header.
    #[must_use]
    pub fn eof(&self) -> Error {
        Error::Eof { found: self.first }
    }

    fn start(&self, input: &[u8]) -> Excerpt {
        let mut start = self.first;
        start.push(input);
        start
    }

    fn too_long(&self, input: &[u8]) -> Error {
        Error::TooLong {
            limit: self.limit,
            found: self.start(input),
        }
    }

    /// Takes one line without its LF; true if it is the empty line that ends the header.
    fn line(&mut self, text: &[u8], head: &mut ResponseHead) -> Result<bool, Error> {
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if text.is_empty() {
            return Ok(true);
        }
        self.seen.line = true;
        if matches!(text.first(), Some(b' ' | b'\t')) {
            return Err(Error::Continuation {
                found: Excerpt::new(text),
            });
        }
        let Some(line) = Line::split(text) else {
            return Err(Error::Line {
                found: Excerpt::new(text),
            });
        };
        // CR and NUL would let a script's input end a field or the head early further on.
        if let Some(byte) = forbidden_byte(line.value) {
            return Err(Error::Value {
                name: Excerpt::new(line.name),
                byte,
            });
        }
        // §6.3: a field without a value is a field that was not sent.
        if !line.value.is_empty() {
            self.field(&line, head)?;
        }
        Ok(false)
    }

    fn field(&mut self, line: &Line<'_>, head: &mut ResponseHead) -> Result<(), Error> {
        let seen = &mut self.seen;
        let role = Role::of(line.name);
        match role {
            Role::Status => {
                if seen.status.is_some() {
                    return Err(Error::Repeated { name: "Status" });
                }
                let (status, reason) = parse_status(line.value)?;
                seen.status = Some(status);
                head.reason = head.store(reason);
            }
            Role::Location => {
                if seen.location.is_some() {
                    return Err(Error::Repeated { name: "Location" });
                }
                seen.location = Some(Location::of(line.value));
                line.keep(head);
            }
            Role::ContentType => {
                if seen.content_type {
                    return Err(Error::Repeated { name: "Content-Type" });
                }
                seen.content_type = true;
                seen.other = true;
                line.keep(head);
            }
            Role::ContentLength => {
                seen.other = true;
                let length = parse_length(line.value)?;
                if head.content_length.is_some_and(|earlier| earlier != length) {
                    return Err(Error::Repeated { name: "Content-Length" });
                }
                head.content_length = Some(length);
            }
            Role::Dropped => seen.other = true,
            Role::File | Role::Other => {
                seen.other = true;
                seen.file |= role == Role::File;
                line.keep(head);
            }
        }
        Ok(())
    }

    /// Decides at the empty line what the response is: §6.2.
    fn finish(&self, input: &[u8], head: &mut ResponseHead) -> Result<Kind, Error> {
        let seen = &self.seen;
        let (status, kind) = match (seen.location, seen.status) {
            (None, Some(status)) => (status, Kind::Document),
            (None, None) if seen.content_type || seen.file || self.takes_bare => (200, Kind::Document),
            (None, None) => {
                return Err(Error::Missing {
                    found: self.start(input),
                });
            }
            (Some(Location::Local), None) if !seen.other => (302, Kind::LocalRedirect),
            // Without a status the client must get 302 (§6.2.3), with other fields too: 200 would show an empty page.
            (Some(_), None) => (302, Kind::ClientRedirect),
            (Some(_), Some(status @ 300..=399)) => (status, Kind::ClientRedirect),
            // 201 and others have a Location of their own meaning.
            (Some(_), Some(status)) => (status, Kind::Document),
        };
        head.status = status;
        Ok(kind)
    }
}

/// One line, split.
struct Line<'a> {
    /// The line up to the end of the value.
    text: &'a [u8],
    name: &'a [u8],
    /// Without blanks around it; the end of `text`.
    value: &'a [u8],
}

impl<'a> Line<'a> {
    /// `None` without a colon or if the name is not a token. A blank before the colon is part of the name, so no token.
    fn split(text: &'a [u8]) -> Option<Self> {
        let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
        let colon = memchr::memchr(b':', text)?;
        let name = text.get(..colon)?;
        if name.is_empty() || !name.iter().all(|byte| is_token_byte(*byte)) {
            return None;
        }
        // The colon is no blank, so this ends there at the latest.
        let end = text.iter().rposition(|byte| !is_blank(byte))? + 1;
        let text = text.get(..end)?;
        let after = text.get(colon + 1..)?;
        let blanks = after.iter().take_while(|byte| is_blank(byte)).count();
        let value = after.get(blanks..)?;
        Some(Self { text, name, value })
    }

    /// Copies the line into the head, in one piece.
    fn keep(&self, head: &mut ResponseHead) {
        let line = head.store(self.text);
        let length = |part: &[u8]| u32::try_from(part.len()).unwrap_or(line.len).min(line.len);
        let (name, value) = (length(self.name), length(self.value));
        head.fields.push(Field {
            name: Span {
                start: line.start,
                len: name,
            },
            value: Span {
                start: line.start.saturating_add(line.len - value),
                len: value,
            },
        });
    }
}

/// What becomes of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Status,
    Location,
    ContentType,
    ContentLength,
    /// The connection to the client is ours, not the script's; X-CGI- fields are for the gateway alone (§6.3.5).
    Dropped,
    /// Names a file whose bytes are the body (X-Sendfile): a response needs no more than that, though RFC 3875 does not
    /// know it.
    File,
    Other,
}

impl Role {
    fn of(name: &[u8]) -> Self {
        let is = |wanted: &str| name.eq_ignore_ascii_case(wanted.as_bytes());
        match name.len() {
            6 if is("status") => Self::Status,
            8 if is("location") => Self::Location,
            12 if is("content-type") => Self::ContentType,
            14 if is("content-length") => Self::ContentLength,
            2 if is("te") => Self::Dropped,
            7 if is("trailer") || is("upgrade") => Self::Dropped,
            8 if is("trailers") => Self::Dropped,
            10 if is("connection") || is("keep-alive") => Self::Dropped,
            10 if is("x-sendfile") => Self::File,
            16 if is("proxy-connection") => Self::Dropped,
            16 if is("x-accel-redirect") => Self::File,
            17 if is("transfer-encoding") => Self::Dropped,
            18 if is("proxy-authenticate") => Self::Dropped,
            19 if is("proxy-authorization") => Self::Dropped,
            20 if is("x-lighttpd-send-file") => Self::File,
            _ if is_gateway_field(name) => Self::Dropped,
            _ => Self::Other,
        }
    }
}

fn is_gateway_field(name: &[u8]) -> bool {
    name.get(..6).is_some_and(|start| start.eq_ignore_ascii_case(b"x-cgi-"))
}

impl Location {
    /// `//host/path` names another host, so it is not local.
    fn of(value: &[u8]) -> Self {
        match value {
            [b'/', b'/', ..] => Self::Client,
            [b'/', ..] => Self::Local,
            _ => Self::Client,
        }
    }
}

/// Three digits, then nothing or a blank and the reason. 101 is refused: nothing here can switch protocols.
fn parse_status(value: &[u8]) -> Result<(u16, &[u8]), Error> {
    let refuse = || Error::Status {
        found: Excerpt::new(value),
    };
    let (digits, reason) = value.split_first_chunk::<3>().ok_or_else(refuse)?;
    let is_separate = matches!(reason, [] | [b' ', ..]);
    if !is_separate || !digits.iter().all(u8::is_ascii_digit) {
        return Err(refuse());
    }
    let status = digits
        .iter()
        .fold(0, |number, digit| number * 10 + u16::from(digit - b'0'));
    match status {
        101 => Err(refuse()),
        100..=599 => Ok((status, reason.trim_ascii())),
        _ => Err(refuse()),
    }
}

fn parse_length(value: &[u8]) -> Result<u64, Error> {
    value
        .iter()
        .try_fold(0_u64, |number, byte| {
            let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
            number.checked_mul(10)?.checked_add(digit)
        })
        .ok_or_else(|| Error::ContentLength {
            found: Excerpt::new(value),
        })
}

/// RFC 9110 §5.6.2.
pub(crate) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The first byte that may not stand in a field value: RFC 9110 §5.5.
fn forbidden_byte(value: &[u8]) -> Option<u8> {
    let is_forbidden = |byte: u8| (byte < b' ' && byte != b'\t') || byte == 0x7f;
    // Without an early exit the compiler looks at many bytes at once; the second look is for errors only.
    let any = value.iter().fold(false, |any, byte| any | is_forbidden(*byte));
    if !any {
        return None;
    }
    value.iter().copied().find(|byte| is_forbidden(*byte))
}

#[cfg(test)]
mod tests;
