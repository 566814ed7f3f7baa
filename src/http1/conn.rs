//! One client connection: requests in order, keep-alive, pipelining, 100-continue, close (RFC 9112 §9).
//!
//! Never here: sockets, timeouts, workers, and keeping bodies.

use super::body::{Body, Part};
use super::error::Error;
use super::framing::{self, Framing};
use super::policy::Policy;
use super::request::{self, Facts, HeadReader};
use super::response;
pub use super::response::Common;
use crate::base::message::{BodyLength, RequestHead, ResponseHead, Version};

/// What the bytes of a step meant.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'b> {
    /// Nothing more can be read until more bytes arrive or the next request is due.
    NeedData,
    /// A request head is whole: see [`Conn::head`] and [`Conn::body_length`].
    Head,
    /// Bytes of the request's body without framing, never empty.
    Data(&'b [u8]),
    /// The request is whole.
    End,
}

/// What is read next.
#[derive(Debug, Default)]
enum Reading {
    /// A head.
    #[default]
    Head,
    /// A body.
    Body(Body),
    /// Nothing until the next request.
    End,
    /// Nothing ever again.
    Failed(Error),
}

/// How far the response is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Writing {
    /// No final head was sent.
    #[default]
    Head,
    /// The head was sent.
    Body,
    /// The response is over.
    End,
}

/// The server side of one HTTP/1 connection.
///
/// Reading: call [`step`](Self::step) until it says [`Event::NeedData`].
/// Writing: [`send_head`](Self::send_head), any number of [`send_data`](Self::send_data), [`send_end`](Self::send_end).
/// When both are through, [`next_request`](Self::next_request) starts over or says that the connection must close.
#[derive(Debug, Default)]
pub struct Conn {
    head: RequestHead,
    facts: Facts,
    version: Version,
    is_head: bool,
    reader: HeadReader,
    /// Bytes of a head have arrived.
    has_begun: bool,
    /// The empty line that may precede a request was skipped.
    has_skipped: bool,
    /// `100 Continue` is no longer due: sent, or the body has begun.
    has_continued: bool,
    reading: Reading,
    writing: Writing,
    framing: Framing,
    /// Body bytes that the announced length still allows.
    left: u64,
    sent: u64,
    /// More was to be sent than the announced length allows.
    has_surplus: bool,
    /// The connection ends after this response.
    must_close: bool,
}

impl Conn {
    /// A connection on which nothing has happened.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads on: bytes used, and what they meant.
    ///
    /// Bytes that were not used must stand at the start of the next input, with more behind them once it has arrived.
    /// A head is used as a whole, so a caller must be ready to keep [`Limits::head`](super::policy::Limits::head) bytes.
    /// After [`Event::End`] it answers [`Event::NeedData`] to whatever the input holds until
    /// [`next_request`](Self::next_request).
    ///
    /// # Errors
    /// The request must be answered with [`Error::status`] and the connection closed; the head holds what was understood.
    /// Further steps repeat the error.
    pub fn step<'b>(&mut self, policy: &Policy, input: &'b [u8]) -> Result<(usize, Event<'b>), Error> {
        let result = match &mut self.reading {
            Reading::Head => self.step_head(policy, input),
            Reading::Body(body) => body.step(policy, input).map(|(used, part)| {
                // A client that sends its body no longer waits for permission.
                self.has_continued |= used > 0;
                match part {
                    Part::NeedData => (used, Event::NeedData),
                    Part::Data(data) => (used, Event::Data(data)),
                    Part::End => {
                        self.reading = Reading::End;
                        (used, Event::End)
                    }
                }
            }),
            Reading::End => Ok((0, Event::NeedData)),
            Reading::Failed(error) => Err(*error),
        };
        if let Err(error) = &result {
            self.reading = Reading::Failed(*error);
            self.must_close = true;
        }
        result
    }

    fn step_head<'b>(&mut self, policy: &Policy, input: &'b [u8]) -> Result<(usize, Event<'b>), Error> {
        let mut skipped = 0;
        if !self.has_begun && !self.has_skipped {
            // RFC 9112 §2.2: one empty line before a request line is ignored, for clients that end bodies with one.
            match input {
                [b'\r', b'\n', ..] => {
                    self.has_skipped = true;
                    skipped = 2;
                }
                [b'\r'] => return Ok((0, Event::NeedData)),
                _ => {}
            }
        }
        let input = input.get(skipped..).unwrap_or_default();
        if input.is_empty() {
            return Ok((skipped, Event::NeedData));
        }
        if !self.has_begun {
            self.has_begun = true;
            self.head.clear();
        }
        let result = self.reader.step(policy, input, &mut self.head);
        if result.is_err() && self.head.bytes.is_empty() {
            // So that the access log can say what was asked for.
            let seen = input.get(..self.reader.seen()).unwrap_or_default();
            self.head.bytes.extend_from_slice(seen);
        }
        self.version = self.head.version;
        self.is_head = self.head.is_head();
        let Some(length) = result? else {
            return Ok((skipped, Event::NeedData));
        };
        self.facts = request::interpret(&policy.limits, &mut self.head)?;
        self.reading = Reading::Body(Body::new(self.facts.body));
        Ok((skipped + length, Event::Head))
    }

    /// The request's head: whole from [`Event::Head`] until [`next_request`](Self::next_request).
    #[must_use]
    pub fn head(&self) -> &RequestHead {
        &self.head
    }

    /// The request's head, which the caller may change or swap for another one to reuse its memory.
    pub fn head_mut(&mut self) -> &mut RequestHead {
        &mut self.head
    }

    /// The length of the request's body, from [`Event::Head`] on.
    #[must_use]
    pub fn body_length(&self) -> BodyLength {
        self.facts.body
    }

    /// True if the client waits for `100 Continue`: it asked for it, it has a body, and no byte of that has come.
    #[must_use]
    pub fn wants_continue(&self) -> bool {
        self.facts.expects_continue
            && !self.has_continued
            && self.writing == Writing::Head
            && matches!(self.reading, Reading::Body(_))
    }

    /// True if the connection stays open after this exchange: what the request asks for, then what the response promised.
    #[must_use]
    pub fn keeps_alive(&self) -> bool {
        self.facts.persistent && !self.must_close
    }

    /// True if no byte of a request has been seen since the last one, so that closing loses nothing.
    #[must_use]
    pub fn at_request_start(&self) -> bool {
        matches!(self.reading, Reading::Head) && !self.has_begun
    }

    /// True if a request has not been read to its end (nor failed).
    #[must_use]
    pub fn is_reading(&self) -> bool {
        matches!(self.reading, Reading::Head | Reading::Body(_))
    }

    /// Makes this exchange the connection's last; has no effect on a response head that has been sent.
    pub fn close_after(&mut self) {
        self.must_close = true;
    }

    /// Writes `100 Continue` if the client waits for it.
    pub fn send_continue(&mut self, out: &mut Vec<u8>) {
        if self.wants_continue() {
            self.has_continued = true;
            out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
    }

    /// Writes an interim response of the app: status 100 to 199 but not 101, and only towards HTTP/1.1.
    ///
    /// Anything else is dropped, as is an interim response after the final one began.
    pub fn send_interim(&mut self, head: &ResponseHead, out: &mut Vec<u8>) {
        let fits = matches!(head.status, 100 | 102..=199);
        if !fits || self.version == Version::Http10 || self.writing != Writing::Head {
            return;
        }
        self.has_continued |= head.status == 100;
        response::write_interim(head, out);
    }

    /// Writes the head of the final response.
    ///
    /// `body` is what is known of the body's length; without knowledge it is chunked, or ends with the connection
    /// towards HTTP/1.0. Responses to HEAD and with status 1xx, 204 and 304 have no body, whatever is sent later.
    pub fn send_head(&mut self, head: &ResponseHead, body: BodyLength, common: &Common<'_>, out: &mut Vec<u8>) {
        if self.writing != Writing::Head {
            debug_assert!(false, "one final head per request");
            return;
        }
        // RFC 9110 §10.1.1: a client that was never told to continue may or may not send its body now, so the
        // connection cannot be read any further.
        self.must_close |= self.wants_continue();
        self.framing = framing::response(self.version, self.is_head, head.status, body, head.content_length);
        self.must_close |= self.framing == Framing::Close;
        self.left = match self.framing {
            Framing::Bodiless(_) => 0,
            Framing::Length(length) => length,
            Framing::Chunked | Framing::Close => u64::MAX,
        };
        self.writing = Writing::Body;
        let keep_alive = self.keeps_alive();
        response::write_head(self.version, head, self.framing, keep_alive, common, out);
    }

    /// Writes body bytes; never more than were announced, and none where there is no body.
    pub fn send_data(&mut self, data: &[u8], out: &mut Vec<u8>) {
        let allowed = self.begin_data(data.len() as u64, out);
        let allowed = usize::try_from(allowed).unwrap_or(usize::MAX);
        if let Some(data) = data.get(..allowed) {
            out.extend_from_slice(data);
        }
        self.end_data(allowed as u64, out);
    }

    /// Writes what must precede `length` body bytes that the caller sends by itself (from a file, say), and says how
    /// many of them it must send: fewer than asked for if the announced length ends there, 0 if there is no body.
    ///
    /// The bytes must be followed by [`end_data`](Self::end_data) with the number returned here.
    #[must_use = "only as many bytes as returned may be sent"]
    pub fn begin_data(&mut self, length: u64, out: &mut Vec<u8>) -> u64 {
        if self.writing != Writing::Body {
            return 0;
        }
        let allowed = length.min(self.left);
        self.has_surplus |= allowed < length && matches!(self.framing, Framing::Length(_));
        self.sent = self.sent.saturating_add(allowed);
        if self.framing == Framing::Chunked {
            // An empty chunk would end the body.
            if allowed > 0 {
                chunk_size(allowed, out);
            }
        } else if self.framing != Framing::Close {
            self.left -= allowed;
        }
        allowed
    }

    /// Writes what must follow the bytes that [`begin_data`](Self::begin_data) allowed.
    pub fn end_data(&mut self, allowed: u64, out: &mut Vec<u8>) {
        if self.framing == Framing::Chunked && allowed > 0 {
            out.extend_from_slice(b"\r\n");
        }
    }

    /// Ends the response. False if fewer bytes were sent than announced: the caller must cut the connection, since the
    /// client waits for the rest.
    #[must_use = "a short response must end with its connection"]
    pub fn send_end(&mut self, out: &mut Vec<u8>) -> bool {
        let is_short = matches!(self.framing, Framing::Length(_)) && self.left > 0;
        if self.writing == Writing::Body {
            self.writing = Writing::End;
            self.must_close |= is_short;
            if self.framing == Framing::Chunked {
                out.extend_from_slice(b"0\r\n\r\n");
            }
        }
        self.writing == Writing::End && !is_short
    }

    /// True if more body bytes were given than were announced: the rest of them was dropped.
    #[must_use]
    pub fn has_surplus(&self) -> bool {
        self.has_surplus
    }

    /// Body bytes sent in this response, chunk framing not counted.
    #[must_use]
    pub fn body_sent(&self) -> u64 {
        self.sent
    }

    /// True if the response's head announced its length, all of it was written, and nobody has tried to write more.
    #[must_use]
    pub fn is_fulfilled(&self) -> bool {
        let has_length = matches!(self.framing, Framing::Bodiless(_) | Framing::Length(_));
        self.writing != Writing::Head && has_length && self.left == 0 && !self.has_surplus
    }

    /// True if the response has no body, whatever the app sends; known from [`send_head`](Self::send_head) on.
    #[must_use]
    pub fn body_is_bodiless(&self) -> bool {
        matches!(self.framing, Framing::Bodiless(_))
    }

    /// Starts over for the next request, once this one is read and answered.
    ///
    /// False if the connection must close instead, or if either side of the exchange is not through yet.
    pub fn next_request(&mut self) -> bool {
        let through = matches!(self.reading, Reading::End) && self.writing == Writing::End;
        if !through || !self.keeps_alive() {
            return false;
        }
        let mut head = std::mem::take(&mut self.head);
        head.clear();
        *self = Self {
            head,
            ..Self::default()
        };
        true
    }
}

/// Writes a chunk-size line.
fn chunk_size(size: u64, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let width = (64 - size.leading_zeros()).div_ceil(4).max(1);
    for place in (0..width).rev() {
        let nibble = (size >> (4 * place)) & 0xf;
        out.push(DIGITS.get(nibble as usize).copied().unwrap_or(b'0'));
    }
    out.extend_from_slice(b"\r\n");
}
