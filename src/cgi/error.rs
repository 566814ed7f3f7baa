//! Why the header of a CGI response is refused, with enough of it to see what the script really printed.

use crate::base::fault::Fault;
use std::fmt;

/// Why a header is refused. The worker is to blame: the client gets 502.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The first line is empty.
    #[error("expected header fields, found an empty line first{}", then(found))]
    Empty {
        /// The first bytes of what follows, as far as they had come.
        found: Excerpt,
    },
    /// The output ended inside the header.
    #[error("expected an empty line after the header fields, found the end of the output after {found}")]
    Eof {
        /// The first bytes of the output.
        found: Excerpt,
    },
    /// The header is longer than the limit.
    #[error("expected header fields of at most {limit} bytes, found more after {found}")]
    TooLong {
        /// The limit in bytes.
        limit: usize,
        /// The first bytes of the output.
        found: Excerpt,
    },
    /// A line without a colon, or whose name is not a token.
    #[error("expected a header field, found {found}")]
    Line {
        /// The first bytes of the line.
        found: Excerpt,
    },
    /// A line that begins with a blank: CGI has no continuation lines (§6.3).
    #[error("expected a header field, found a continuation line {found}")]
    Continuation {
        /// The first bytes of the line.
        found: Excerpt,
    },
    /// CR, LF, NUL or another control byte in a value. The value itself stays out of the log.
    #[error("expected printable bytes in the value of {name}, found byte {byte:#04x}")]
    Value {
        /// The field.
        name: Excerpt,
        /// The byte.
        byte: u8,
    },
    /// Content-Type, Location or Status twice (§6.3), or two lengths that differ.
    #[error("expected {name} once, found it again")]
    Repeated {
        /// The field.
        name: &'static str,
    },
    /// None of the fields of which one is required.
    #[error("expected Content-Type, Location or Status, found none of them after {found}")]
    Missing {
        /// The first bytes of the output.
        found: Excerpt,
    },
    /// The output of an nph- script does not begin with a status line.
    #[error("expected a status line such as HTTP/1.1 200 OK, found {found}")]
    StatusLine {
        /// The first bytes of the line.
        found: Excerpt,
    },
    /// The output of an nph- script is in chunks.
    #[error("expected a body as it is, found one in chunks (Transfer-Encoding), which are added where they are needed")]
    Chunked,
    /// Status is not three digits and a reason, or is out of range.
    #[error("expected a status from 200 to 599 or an interim one, with a blank before its reason, found {found}")]
    Status {
        /// The value.
        found: Excerpt,
    },
    /// Content-Length is not a number of 64 bits.
    #[error("expected digits in Content-Length, found {found}")]
    ContentLength {
        /// The value.
        found: Excerpt,
    },
}

impl Error {
    /// Always the worker.
    #[must_use]
    pub fn fault(&self) -> Fault {
        Fault::Worker
    }

    /// The status for the client: 502.
    #[must_use]
    pub fn status(&self) -> u16 {
        502
    }
}

fn then(found: &Excerpt) -> String {
    if found.as_bytes().is_empty() {
        String::new()
    } else {
        format!(", then {found}")
    }
}

/// The first 64 bytes of what was found; prints quoted and escaped.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Excerpt {
    bytes: [u8; Self::LIMIT],
    len: usize,
}

impl Excerpt {
    /// How many bytes are kept.
    pub const LIMIT: usize = 64;

    pub(super) fn new(text: &[u8]) -> Self {
        let mut excerpt = Self {
            bytes: [0; Self::LIMIT],
            len: 0,
        };
        excerpt.push(text);
        excerpt
    }

    /// Adds what still fits.
    pub(super) fn push(&mut self, text: &[u8]) {
        let room = self.bytes.get_mut(self.len..).unwrap_or_default();
        for (place, byte) in room.iter_mut().zip(text) {
            *place = *byte;
            self.len += 1;
        }
    }

    /// The bytes kept, as they came.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl fmt::Display for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.as_bytes().escape_ascii())
    }
}

impl fmt::Debug for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
