//! Request bodies: counted or chunked (RFC 9112 §6, §7).
//!
//! Never here: deciding whether there is a body (`framing` does), or keeping its bytes.

use super::error::Error;
use super::fields::{Fields, Line, Lines};
use super::policy::Policy;
use crate::base::message::BodyLength;

/// Bytes of one chunk-size line with its extensions, CRLF not counted.
const CHUNK_LINE_LIMIT: usize = 4096;
/// How many bytes chunk-size lines may have in excess of what honest chunking needs, over one body.
///
/// Without it a client can make a server read kilobytes of extensions for each byte of data (CVE-2023-39326 in Go,
/// whose accounting this is).
const CHUNK_EXCESS_LIMIT: u64 = 16 * 1024;
/// Bytes of framing that every chunk may have for free.
const CHUNK_ALLOWANCE: u64 = 16;

/// Trailers that would change framing, routing or authentication after the fact (RFC 9110 §6.5.1).
const FORBIDDEN_TRAILERS: [&str; 10] = [
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "te",
    "trailer",
    "transfer-encoding",
];

/// What came next in a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part<'b> {
    /// More input is needed.
    NeedData,
    /// Bytes of the body, never empty.
    Data(&'b [u8]),
    /// The body is complete, trailers included.
    End,
}

/// A body being read.
#[derive(Debug, Default)]
pub(super) enum Body {
    /// Nothing more to come.
    #[default]
    Complete,
    /// This many bytes to come; never 0.
    Counted(u64),
    /// Chunks to come.
    Chunked(Chunks),
}

impl Body {
    /// A body of the given length, from its first byte.
    pub(super) fn new(length: BodyLength) -> Self {
        match length {
            BodyLength::Chunked => Self::Chunked(Chunks::default()),
            BodyLength::Known(length) if length > 0 => Self::Counted(length),
            // Close does not occur in requests.
            BodyLength::Known(_) | BodyLength::None | BodyLength::Close => Self::Complete,
        }
    }

    /// Reads on: bytes used, and what came of them.
    pub(super) fn step<'b>(&mut self, policy: &Policy, input: &'b [u8]) -> Result<(usize, Part<'b>), Error> {
        match self {
            Self::Complete => Ok((0, Part::End)),
            Self::Counted(left) => {
                let data = take(left, input);
                if *left == 0 {
                    *self = Self::Complete;
                }
                Ok(match data {
                    [] => (0, Part::NeedData),
                    data => (data.len(), Part::Data(data)),
                })
            }
            Self::Chunked(chunks) => {
                let (used, part) = chunks.step(policy, input)?;
                if part == Part::End {
                    *self = Self::Complete;
                }
                Ok((used, part))
            }
        }
    }
}

/// As much of `input` as is left to come.
fn take<'b>(left: &mut u64, input: &'b [u8]) -> &'b [u8] {
    let len = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
    *left -= len as u64;
    input.get(..len).unwrap_or_default()
}

/// Where in a chunked body the next byte stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// Before the first digit of a chunk size.
    #[default]
    SizeStart,
    /// Within a chunk size.
    Size,
    /// Blanks between a size and the `;` they promise.
    SizeBlank,
    /// Within chunk extensions.
    Extension,
    /// Before the LF of a chunk-size line.
    SizeEnd,
    /// Within chunk data.
    Data,
    /// Before the CR after chunk data.
    DataCr,
    /// Before the LF after chunk data.
    DataLf,
    /// In the trailers.
    Trailers,
}

/// Decodes a chunked body.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    place: Place,
    /// The chunk's size while it is read, then its bytes still to come.
    left: u64,
    /// Bytes of the chunk-size line so far.
    line: usize,
    /// Framing in excess of the allowance.
    excess: u64,
    /// Bytes of the body announced so far, the current chunk included.
    total: u64,
    lines: Lines,
    trailers: Fields,
}

impl Chunks {
    fn step<'b>(&mut self, policy: &Policy, input: &'b [u8]) -> Result<(usize, Part<'b>), Error> {
        let mut used = 0;
        loop {
            let rest = input.get(used..).unwrap_or_default();
            match self.place {
                Place::Trailers => {
                    let (taken, ended) = self.trailers(policy, rest)?;
                    let part = if ended { Part::End } else { Part::NeedData };
                    return Ok((used + taken, part));
                }
                Place::Data if !rest.is_empty() => {
                    let data = take(&mut self.left, rest);
                    if self.left == 0 {
                        self.place = Place::DataCr;
                    }
                    return Ok((used + data.len(), Part::Data(data)));
                }
                Place::SizeStart
                | Place::Size
                | Place::SizeBlank
                | Place::Extension
                | Place::SizeEnd
                | Place::Data
                | Place::DataCr
                | Place::DataLf => {
                    let Some(&byte) = rest.first() else {
                        return Ok((used, Part::NeedData));
                    };
                    self.place = self.framing_byte(policy, byte)?;
                    used += 1;
                }
            }
        }
    }

    /// Takes one byte that is not data, and says where the next one stands.
    fn framing_byte(&mut self, policy: &Policy, byte: u8) -> Result<Place, Error> {
        let in_line = matches!(
            self.place,
            Place::SizeStart | Place::Size | Place::SizeBlank | Place::Extension
        );
        if in_line && byte != b'\r' {
            self.line += 1;
            if self.line > CHUNK_LINE_LIMIT {
                return Err(Error::ChunkTooLong);
            }
        }
        match (self.place, byte) {
            (Place::SizeStart | Place::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = char::from(byte).to_digit(16).unwrap_or(0);
                // A size beyond 64 bits is a body too large, not a number that wraps around.
                let size = self.left.checked_mul(16).ok_or(Error::BodyTooLarge)?;
                self.left = size + u64::from(digit);
                Ok(Place::Size)
            }
            (Place::Size | Place::SizeBlank, b' ' | b'\t') => Ok(Place::SizeBlank),
            (Place::Size | Place::SizeBlank, b';') => Ok(Place::Extension),
            // RFC 9112 §7.1.1: extensions are ignored. Quoted text is not understood, so a CR ends the line even there,
            // and must be followed by LF.
            (Place::Extension, b'\t' | b' '..=b'~' | 0x80..) => Ok(Place::Extension),
            (Place::Size | Place::Extension, b'\r') => Ok(Place::SizeEnd),
            (Place::SizeEnd, b'\n') => self.size_known(policy),
            (Place::DataCr, b'\r') => Ok(Place::DataLf),
            (Place::DataLf, b'\n') => Ok(Place::SizeStart),
            (Place::DataCr | Place::DataLf, _) => Err(Error::ChunkEnd),
            (Place::SizeStart | Place::Size | Place::SizeBlank | Place::Extension | Place::SizeEnd, _) => {
                Err(Error::ChunkSize)
            }
            // The caller handles these without coming here.
            (Place::Data | Place::Trailers, _) => Err(Error::ChunkEnd),
        }
    }

    /// A chunk-size line is complete: checks the limits it may have reached.
    fn size_known(&mut self, policy: &Policy) -> Result<Place, Error> {
        let framing = self.line as u64 + 2;
        let allowed = CHUNK_ALLOWANCE.saturating_add(self.left.saturating_mul(2));
        self.excess = self.excess.saturating_add(framing).saturating_sub(allowed);
        self.line = 0;
        if self.excess > CHUNK_EXCESS_LIMIT {
            return Err(Error::ChunkTooLong);
        }
        if self.left == 0 {
            return Ok(Place::Trailers);
        }
        self.total = self.total.checked_add(self.left).ok_or(Error::BodyTooLarge)?;
        if self.total > policy.limits.body {
            return Err(Error::BodyTooLarge);
        }
        Ok(Place::Data)
    }

    /// Reads whole trailer lines, checks them and drops them: bytes used, and whether the last one was seen.
    fn trailers(&mut self, policy: &Policy, input: &[u8]) -> Result<(usize, bool), Error> {
        let mut used = 0;
        loop {
            let rest = input.get(used..).unwrap_or_default();
            match self.trailers.step(policy, &mut self.lines, rest)? {
                Line::Partial => return Ok((used, false)),
                Line::Field(field) => {
                    let name = field.name.of(rest);
                    let is = |known: &&str| name.eq_ignore_ascii_case(known.as_bytes());
                    if FORBIDDEN_TRAILERS.iter().any(is) {
                        return Err(Error::Trailer);
                    }
                }
                Line::Folded(_) => {}
                Line::End => return Ok((used + self.lines.position(), true)),
            }
            used += self.lines.position();
            self.lines = Lines::default();
        }
    }
}
