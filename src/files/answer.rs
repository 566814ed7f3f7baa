//! What is answered to a request for a file.

use super::coding::Coding;
use super::condition::{Verdict, evaluate, range_applies};
use super::list::single;
use super::range::{self, Part, Wanted};
use super::tag::Tag;
use crate::base::file::Facts;
use crate::base::message::{RequestHead, ResponseHead};
use httpdate::HttpDate;
use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The methods that files have.
const ALLOW: &[u8] = b"GET, HEAD, OPTIONS";

/// The first second of the year 10000, which no HTTP-date can name.
const END_OF_DATES: u64 = 253_402_300_800;

/// What is sent to whom the file is for.
#[derive(Clone, Copy, Debug)]
pub struct Representation<'a> {
    /// Of the file whose bytes are sent: the sibling's, if one was chosen.
    pub facts: &'a Facts,
    /// Of the file itself, whatever its coding: see [`Types`](super::Types).
    pub content_type: &'a str,
    /// How the bytes are coded: by the choice of a sibling, or [`Coding::inherent`].
    pub coding: Option<Coding>,
    /// There are siblings that others would get.
    pub varies: bool,
    /// An app answers with this file (X-Sendfile): every method gets it. Conditions and ranges count for GET and HEAD
    /// only, as everywhere.
    pub by_app: bool,
}

impl<'a> Representation<'a> {
    /// A file without siblings and of no known type.
    #[must_use]
    pub fn of(facts: &'a Facts) -> Self {
        Self {
            facts,
            content_type: super::types::DEFAULT,
            coding: None,
            varies: false,
            by_app: false,
        }
    }
}

/// An answer. Keep it for the next: its memory is used again.
#[derive(Debug, Default)]
pub struct Answer {
    /// Status and fields; `content_length` is that of all pieces, or of those a GET would get.
    ///
    /// Statuses are 200, 204 (OPTIONS), 206, 304, 405, 412 and 416. The last three have no content: send your page of
    /// that status with these fields added.
    pub head: ResponseHead,
    /// The body, in order. Empty for HEAD and where there is none.
    pub pieces: Vec<Piece>,
}

/// A piece of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// These bytes.
    Text(Vec<u8>),
    /// Bytes of the file.
    File {
        /// Where they begin.
        offset: u64,
        /// How many they are; never 0.
        length: u64,
    },
}

impl Piece {
    /// Its length in bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        match self {
            Self::Text(bytes) => bytes.len() as u64,
            Self::File { length, .. } => *length,
        }
    }
}

/// What separates the parts of a multipart answer: 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Boundary([u8; 16]);

impl Boundary {
    /// Makes one from a number that nobody can guess, or files could have it inside.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        let mut digits = [b'0'; 16];
        // Cannot fail: exactly 16 digits.
        let _ = write!(digits.as_mut_slice(), "{seed:016x}");
        Self(digits)
    }
}

/// Answers a request for a file. `now` is the time of the Date field, `boundary` is used if several ranges are sent.
///
/// Fields of a 200: Content-Type, Content-Encoding, Last-Modified, ETag, Accept-Ranges, Vary. A 304 has ETag and Vary:
/// what its receiver has stored says the rest (RFC 9110 §15.4.5).
pub fn answer(request: &RequestHead, file: &Representation<'_>, now: SystemTime, boundary: Boundary, out: &mut Answer) {
    out.head.clear();
    out.pieces.clear();
    let (is_get, is_head) = (request.method() == b"GET", request.is_head());
    if !is_get && !is_head && !file.by_app {
        out.head.status = if request.method() == b"OPTIONS" { 204 } else { 405 };
        out.head.push(b"Allow", ALLOW);
        return;
    }
    let tag = Tag::of(file.facts, file.coding);
    let modified = last_modified(file.facts, now);
    if is_get || is_head {
        match evaluate(request, &tag, modified) {
            Verdict::Proceed => {}
            Verdict::Failed => {
                out.head.status = 412;
                return;
            }
            Verdict::NotModified => {
                out.head.status = 304;
                validators(&tag, None, file, &mut out.head);
                return;
            }
        }
    }
    // §14.2: Range means something for GET only.
    let range = single(request, "Range").filter(|_| is_get && range_applies(request, &tag, modified, now));
    let wanted = range.map_or(Wanted::Whole, |value| range::wanted(value, file.facts.size));
    match wanted {
        Wanted::Whole => whole(file, out),
        Wanted::Nothing => {
            out.head.status = 416;
            content_range(None, file.facts.size, &mut out.head);
            return;
        }
        Wanted::Parts(parts) => match parts.as_slice() {
            [part] => {
                out.head.status = 206;
                out.head.push(b"Content-Type", file.content_type.as_bytes());
                content_range(Some(*part), file.facts.size, &mut out.head);
                out.pieces.push((*part).into());
            }
            parts => multipart(parts, file, boundary, out),
        },
    }
    if let Some(coding) = file.coding {
        out.head.push(b"Content-Encoding", coding.name().as_bytes());
    }
    validators(&tag, modified, file, &mut out.head);
    out.head.push(b"Accept-Ranges", b"bytes");
    out.head.content_length = Some(out.pieces.iter().map(Piece::length).sum());
    if is_head {
        out.pieces.clear();
    }
}

fn whole(file: &Representation<'_>, out: &mut Answer) {
    out.head.status = 200;
    out.head.push(b"Content-Type", file.content_type.as_bytes());
    if file.facts.size > 0 {
        out.pieces.push(Piece::File {
            offset: 0,
            length: file.facts.size,
        });
    }
}

/// RFC 9110 §14.6.
fn multipart(parts: &[Part], file: &Representation<'_>, Boundary(boundary): Boundary, out: &mut Answer) {
    out.head.status = 206;
    let kind = [b"multipart/byteranges; boundary=".as_slice(), &boundary].concat();
    out.head.push(b"Content-Type", &kind);
    let mut line_end: &[u8] = b"";
    for part in parts {
        let mut text = [line_end, b"--", &boundary, b"\r\nContent-Type: "].concat();
        text.extend_from_slice(file.content_type.as_bytes());
        text.extend_from_slice(b"\r\nContent-Range: ");
        range_text(Some(*part), file.facts.size, &mut text);
        text.extend_from_slice(b"\r\n\r\n");
        out.pieces.push(Piece::Text(text));
        out.pieces.push((*part).into());
        line_end = b"\r\n";
    }
    out.pieces
        .push(Piece::Text([line_end, b"--", &boundary, b"--\r\n"].concat()));
}

impl From<Part> for Piece {
    fn from(part: Part) -> Self {
        Self::File {
            offset: part.offset,
            length: part.length,
        }
    }
}

fn content_range(part: Option<Part>, size: u64, head: &mut ResponseHead) {
    let mut text = Vec::with_capacity(70);
    range_text(part, size, &mut text);
    head.push(b"Content-Range", &text);
}

/// §14.4: `bytes 0-4/10`, and `bytes */10` where nothing is sent.
fn range_text(part: Option<Part>, size: u64, text: &mut Vec<u8>) {
    // Writing into memory cannot fail.
    let _ = match part {
        Some(Part { offset, length }) => write!(text, "bytes {offset}-{}/{size}", offset + (length - 1)),
        None => write!(text, "bytes */{size}"),
    };
}

/// Last-Modified, ETag and Vary.
fn validators(tag: &Tag, modified: Option<u64>, file: &Representation<'_>, head: &mut ResponseHead) {
    if let Some(modified) = modified {
        let mut text = [0; 32];
        let mut room = text.as_mut_slice();
        let date = HttpDate::from(UNIX_EPOCH + Duration::from_secs(modified));
        // Cannot fail: a date has 29 bytes.
        let _ = write!(room, "{date}");
        let rest = room.len();
        let date = text.get(..text.len() - rest).unwrap_or_default();
        head.push(b"Last-Modified", date);
    }
    head.push(b"ETag", tag.as_bytes());
    if file.varies {
        head.push(b"Vary", b"Accept-Encoding");
    }
}

/// The value of Last-Modified in seconds since 1970. Never later than the answer itself (§8.8.2.1); `None` for times
/// before 1970 and where the clock is out of its mind.
fn last_modified(facts: &Facts, now: SystemTime) -> Option<u64> {
    let now = now.duration_since(UNIX_EPOCH).ok()?.as_secs();
    let modified = u64::try_from(facts.modified).ok()?.min(now);
    (modified < END_OF_DATES).then_some(modified)
}
