//! The front's end of one worker's channel: docs/protocols/pipe.md.
//!
//! Never here: sockets, which requests are in flight (the caller checks that a frame's id is one it gave this worker),
//! counting windows.

use super::error::Error;
use super::frame::{self, HEADER, Header, Kind, PLACE, SLOTS_LIMIT, flag, leading_u32};
use super::head;
use crate::base::message::ResponseHead;

/// Text of a LOG frame is handed out in events of at most this many bytes. The caller's input buffer must be able to
/// hold this much and a header.
pub const LOG_PART: usize = 4096;

/// Responses of one worker that may be open at once.
const OPEN_LIMIT: usize = SLOTS_LIMIT as usize;

/// Caps on what a worker may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a response head.
    pub head: usize,
    /// Bytes of a frame's payload; never more than [`frame::PAYLOAD_LIMIT`].
    pub frame: usize,
}

impl Default for Limits {
    /// 64 KiB of head; frames as long as the protocol allows, since bodies pass through without being stored.
    fn default() -> Self {
        Self {
            head: 64 * 1024,
            frame: frame::PAYLOAD_LIMIT,
        }
    }
}

/// What bytes from a worker mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'b> {
    /// Nothing until more bytes are there.
    NeedData,
    /// The worker takes requests from now on. Comes once, before any event about a request.
    Ready {
        /// Requests at once, 1 to 2046.
        slots: u16,
        /// [`frame::ready`] flags.
        flags: u8,
    },
    /// The worker's loop turns.
    Heartbeat,
    /// The caller's head is filled. Status 1xx: interim, another head follows. Otherwise data and an end follow.
    Head {
        /// The request answered.
        id: u16,
        /// Bytes of its body, if they are all in this frame.
        length: Option<usize>,
        /// The answer is to be what its Location names, on this server.
        redirect: bool,
    },
    /// A part of a response body, as it arrived.
    Data {
        /// The request answered.
        id: u16,
        /// Never empty.
        data: &'b [u8],
    },
    /// A part of a response body that is in a file: the descriptor that came beside the frame, the oldest of those that
    /// no such event has named yet.
    File {
        /// The request answered.
        id: u16,
        /// Where in the file it begins.
        offset: u64,
        /// Its bytes; may be 0. `offset + length` is a possible size of a file.
        length: u64,
        /// The worker waits for [`FrontConn::give_back`] before it writes to this place again, and sends more meanwhile.
        shared: bool,
    },
    /// The response is complete.
    End {
        /// The request answered.
        id: u16,
    },
    /// The worker cannot complete this response: answer with an error, or cut the client's connection if the head has
    /// gone.
    Aborted {
        /// The request given up.
        id: u16,
        /// The status that the client is to get: 400 to 599.
        status: Option<u16>,
        /// Why, for the log; empty if the worker does not say. As sent: not checked for control characters or UTF-8.
        reason: &'b [u8],
    },
    /// This many more body bytes may be sent for this request.
    Window {
        /// The request.
        id: u16,
        /// Bytes, to be added to what is left.
        bytes: u32,
    },
    /// A line for the error log. A long one comes in parts of [`LOG_PART`] bytes, each an event of its own.
    Log {
        /// The request it is about; 0 = none.
        id: u16,
        /// [`frame::level`]; a higher number counts as critical.
        level: u8,
        /// As sent: not checked for control characters or UTF-8.
        text: &'b [u8],
    },
    /// A part of the variables, `NAME\0VALUE\0...`, that the access log is to show for a request. As it arrived: a name
    /// or value may go on in the next part.
    Note {
        /// The request they are about.
        id: u16,
        /// Never empty.
        pairs: &'b [u8],
    },
    /// The worker did not run this request: it is safe to send it elsewhere.
    Refused {
        /// The request refused.
        id: u16,
    },
}

/// Where in a frame the next byte belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// At a header.
    Header,
    /// At the counted head block of a RESPONSE, `payload` bytes before the frame's end.
    Head { id: u16, flags: u8, payload: usize },
    /// At the place in a file that a frame with the flag FD ends with.
    Place { id: u16, kind: Kind, flags: u8 },
    /// In body bytes, this many before the frame's end. At 0 the frame is over and only its END is to be told.
    Data { id: u16, end: bool, left: usize },
    /// In the text of a LOG frame.
    Log { id: u16, level: u8, left: usize },
    /// In the variables of a NOTE frame.
    Note { id: u16, left: usize },
    /// In bytes to be ignored.
    Skip { left: usize },
}

/// The front's end of a channel.
#[derive(Debug)]
pub struct FrontConn {
    limits: Limits,
    state: State,
    is_ready: bool,
    /// The start of a head block that came in pieces.
    partial: Vec<u8>,
    /// Requests whose response has begun and not ended. A response of one frame is never in here.
    open: Vec<u16>,
}

impl FrontConn {
    /// A channel to a worker that has just been spawned: its READY is still to come.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            state: State::Header,
            is_ready: false,
            partial: Vec::new(),
            open: Vec::new(),
        }
    }

    /// A channel to an idle worker that said READY to an earlier front.
    #[must_use]
    pub fn resumed(limits: Limits) -> Self {
        Self {
            is_ready: true,
            ..Self::new(limits)
        }
    }

    /// Appends a REQUEST frame, for the channel. `id` is not 0, `block` is `NAME\0VALUE\0...`; `end` if `body` is the
    /// whole body, otherwise [`Self::body`] follows.
    pub fn request(id: u16, block: &[u8], body: &[u8], end: bool, out: &mut Vec<u8>) {
        debug_assert!(id != 0, "0 names no request");
        frame::put_block(Kind::Request, id, block, body, if end { flag::END } else { 0 }, out);
    }

    /// Appends a REQUEST frame with a descriptor: what follows `body` is in the file passed beside it. For the pull
    /// queue, or for the channel of a worker that said [`frame::ready::FDS`].
    ///
    /// Without `descriptor` it is the same as [`Self::request`] with `end`. On the pull queue the result must be one
    /// message of at most [`frame::MESSAGE_LIMIT`] bytes: [`Self::spill`] cuts a longer one.
    pub fn request_message(id: u16, block: &[u8], body: &[u8], descriptor: bool, out: &mut Vec<u8>) {
        debug_assert!(id != 0, "0 names no request");
        let flags = if descriptor { flag::END | flag::FD } else { flag::END };
        frame::put_block(Kind::Request, id, block, body, flags, out);
    }

    /// Cuts a message made by [`Self::request_message`] down to `limit` bytes and marks it as continued in a
    /// descriptor. Returns what belongs at the start of that file; empty if nothing had to be cut. If the message
    /// had a descriptor already, the new file must go on with the old one's content.
    #[must_use]
    pub fn spill(message: &mut Vec<u8>, limit: usize) -> Vec<u8> {
        let limit = limit.max(HEADER);
        if message.len() <= limit {
            return Vec::new();
        }
        let rest = message.split_off(limit);
        if let Ok(Some(header)) = Header::decode(message, frame::PAYLOAD_LIMIT) {
            let header = Header {
                flags: header.flags | flag::FD,
                length: limit - HEADER,
                ..header
            };
            message.splice(..HEADER, header.encode());
        }
        rest
    }

    /// Appends more of a request's body; `end` with the last part, which may be empty.
    pub fn body(id: u16, data: &[u8], end: bool, out: &mut Vec<u8>) {
        frame::put_body(id, data, end, out);
    }

    /// Appends an ABORT frame: this request's answer is no longer wanted, and no more of its body follows. The worker
    /// still ends the exchange; until then its id is in use.
    ///
    /// `overdue`: because its deadline has passed, not because nobody listens any more.
    pub fn abort(id: u16, overdue: bool, out: &mut Vec<u8>) {
        frame::put_abort(id, if overdue { frame::abort::OVERDUE } else { 0 }, out);
    }

    /// Appends a DRAIN frame. No request may follow it.
    pub fn drain(out: &mut Vec<u8>) {
        frame::put_empty(Kind::Drain, 0, out);
    }

    /// Appends a WINDOW frame: `n` more bytes of this response's body may come.
    pub fn window(id: u16, n: u32, out: &mut Vec<u8>) {
        frame::put_window(id, n, out);
    }

    /// Appends a RETURN frame: the shared memory from `offset` on has been read.
    pub fn give_back(offset: u64, out: &mut Vec<u8>) {
        frame::put_return(offset, out);
    }

    /// Requests whose response has begun in an earlier frame and not ended.
    #[must_use]
    pub fn open_responses(&self) -> &[u16] {
        &self.open
    }

    /// True if the last byte taken ended a frame: an EOF here cuts nothing in two.
    #[must_use]
    pub fn is_between_frames(&self) -> bool {
        self.state == State::Header
    }

    /// Takes bytes from the worker: how many were used, and what they meant.
    ///
    /// Call again with the rest until it says `NeedData`; then append what comes next to the rest it left. `head` is
    /// filled at an `Event::Head` and untouched otherwise. After an error the channel is of no use.
    pub fn step<'b>(&mut self, input: &'b [u8], head: &mut ResponseHead) -> Result<(usize, Event<'b>), Error> {
        let mut used = 0;
        loop {
            let rest = input.get(used..).unwrap_or_default();
            let (count, event) = match self.state {
                State::Header => self.step_header(rest)?,
                State::Head { id, flags, payload } => self.step_head(rest, head, (id, flags), payload)?,
                State::Place { id, kind, flags } => self.step_place(rest, id, kind, flags)?,
                State::Data { id, end, left } => self.step_data(rest, id, end, left),
                State::Log { id, level, left } => self.step_log(rest, id, level, left),
                State::Note { id, left } => self.step_note(rest, id, left),
                State::Skip { left } => self.step_skip(rest, left),
            };
            used += count;
            if let Some(event) = event {
                return Ok((used, event));
            }
        }
    }

    /// A handler returns the bytes used and its event; `None` means that the state has changed and to go on.
    fn step_header<'b>(&mut self, input: &'b [u8]) -> Result<(usize, Option<Event<'b>>), Error> {
        let Some(header) = Header::decode(input, self.limits.frame)? else {
            return Ok((0, Some(Event::NeedData)));
        };
        let Header {
            kind,
            flags,
            id,
            length,
        } = header;
        self.check(header)?;
        let payload = input.get(HEADER..).unwrap_or_default();
        let (end, fd) = (flags & flag::END != 0, flags & flag::FD != 0);
        let event = match kind {
            Kind::Response => {
                self.state = State::Head {
                    id,
                    flags,
                    payload: length,
                };
                return Ok((HEADER, None));
            }
            Kind::Body if fd => {
                if length != PLACE {
                    return Err(Error::place(kind, format!("{length} bytes")));
                }
                self.state = State::Place { id, kind, flags };
                return Ok((HEADER, None));
            }
            Kind::Body => {
                self.state = State::Data { id, end, left: length };
                return Ok((HEADER, None));
            }
            Kind::Log => {
                let Some(&level) = payload.first() else {
                    return Ok((0, Some(Event::NeedData)));
                };
                self.state = State::Log {
                    id,
                    level,
                    left: length - 1,
                };
                return Ok((HEADER + 1, None));
            }
            Kind::Note => {
                self.state = State::Note { id, left: length };
                return Ok((HEADER, None));
            }
            Kind::Window => {
                let Some(bytes) = leading_u32(payload) else {
                    return Ok((0, Some(Event::NeedData)));
                };
                self.skip(length - 4);
                return Ok((HEADER + 4, Some(Event::Window { id, bytes })));
            }
            Kind::Ready => {
                let Some(&slots) = payload.first_chunk() else {
                    return Ok((0, Some(Event::NeedData)));
                };
                let slots = u16::from_be_bytes(slots);
                if !(1..=SLOTS_LIMIT).contains(&slots) {
                    return Err(Error::Slots { found: slots });
                }
                self.is_ready = true;
                self.skip(length - 2);
                return Ok((HEADER + 2, Some(Event::Ready { slots, flags })));
            }
            Kind::Abort => {
                let length = length.min(2 + frame::REASON_LIMIT);
                let Some(payload) = payload.get(..length) else {
                    return Ok((0, Some(Event::NeedData)));
                };
                self.close(id);
                self.skip(header.length - length);
                let (status, reason) = match payload.split_first_chunk() {
                    Some((status, reason)) => (Some(u16::from_be_bytes(*status)), reason),
                    None => (None, &[][..]),
                };
                let status = status.filter(|status| (400..=599).contains(status));
                return Ok((HEADER + length, Some(Event::Aborted { id, status, reason })));
            }
            Kind::Refused => Some(Event::Refused { id }),
            Kind::Heartbeat => Some(Event::Heartbeat),
            Kind::Ignorable | Kind::Request | Kind::Drain | Kind::Return => None,
        };
        self.skip(length);
        Ok((HEADER, event))
    }

    /// Whether a frame may come now, and is long enough for what it must hold.
    fn check(&self, header: Header) -> Result<(), Error> {
        let Header { kind, id, length, .. } = header;
        let (about_request, needed) = match kind {
            Kind::Request | Kind::Drain | Kind::Return => {
                return Err(Error::unexpected("a frame that workers send", kind, id));
            }
            Kind::Response | Kind::Window => (true, 4),
            Kind::Body | Kind::Note | Kind::Abort | Kind::Refused => (true, 0),
            Kind::Log => (false, 1),
            Kind::Ready => (false, 2),
            Kind::Heartbeat | Kind::Ignorable => (false, 0),
        };
        if length < needed {
            return Err(Error::short(kind, needed, length));
        }
        if kind == Kind::Ready && self.is_ready {
            return Err(Error::unexpected("READY only once", kind, id));
        }
        if !about_request {
            return Ok(());
        }
        if !self.is_ready {
            return Err(Error::unexpected("READY first", kind, id));
        }
        if id == 0 {
            return Err(Error::unexpected("the id of a request", kind, id));
        }
        let is_open = self.open.contains(&id);
        let breach = if kind == Kind::Body && !is_open {
            "a response head first"
        } else if kind == Kind::Response && is_open {
            "the end of the response it began"
        } else if kind == Kind::Refused && is_open {
            "no refusal of what was answered"
        } else if kind == Kind::Response && self.open.len() >= OPEN_LIMIT {
            "no more open responses than slots"
        } else {
            return Ok(());
        };
        Err(Error::unexpected(breach, kind, id))
    }

    fn step_head<'b>(
        &mut self,
        input: &'b [u8],
        head: &mut ResponseHead,
        (id, flags): (u16, u8),
        payload: usize,
    ) -> Result<(usize, Option<Event<'b>>), Error> {
        let wait = |used| Ok((used, Some(Event::NeedData)));
        let (end, fd) = (flags & flag::END != 0, flags & flag::FD != 0);
        let redirect = flags & flag::REDIRECT != 0;
        // The count is left with the caller until the whole block is there or a first piece of it is stored.
        let counted = if self.partial.is_empty() { input } else { &self.partial };
        let Some(length) = leading_u32(counted) else {
            return wait(0);
        };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > self.limits.head {
            return Err(Error::HeadTooLong {
                length,
                limit: self.limits.head,
            });
        }
        let whole = length.saturating_add(4);
        if whole > payload {
            return Err(Error::short(Kind::Response, whole, payload));
        }
        let missing = whole - self.partial.len();
        let Some(piece) = input.get(..missing) else {
            self.partial.extend_from_slice(input);
            return wait(input.len());
        };
        if self.partial.is_empty() {
            head::decode(piece.get(4..).unwrap_or_default(), head)?;
        } else {
            self.partial.extend_from_slice(piece);
            head::decode(self.partial.get(4..).unwrap_or_default(), head)?;
            self.partial.clear();
        }
        let left = payload - whole;
        if redirect {
            if !end || fd || left > 0 {
                return Err(Error::unexpected("END and no body with REDIRECT", Kind::Response, id));
            }
            if !head.field("location").is_some_and(|place| place.starts_with(b"/")) {
                return Err(Error::unexpected(
                    "a Location that begins with / with REDIRECT",
                    Kind::Response,
                    id,
                ));
            }
        }
        if head.status < 200 {
            if end || fd || left > 0 {
                return Err(Error::unexpected(
                    "neither body nor END with an interim head",
                    Kind::Response,
                    id,
                ));
            }
            self.state = State::Header;
        } else {
            self.state = if !fd {
                State::Data { id, end, left }
            } else if left == PLACE {
                let kind = Kind::Response;
                State::Place { id, kind, flags }
            } else {
                return Err(Error::place(Kind::Response, format!("{left} bytes")));
            };
            if !end {
                self.open.push(id);
            }
        }
        let length = (end && !fd).then_some(left);
        Ok((missing, Some(Event::Head { id, length, redirect })))
    }

    fn step_place<'b>(
        &mut self,
        input: &'b [u8],
        id: u16,
        kind: Kind,
        flags: u8,
    ) -> Result<(usize, Option<Event<'b>>), Error> {
        let Some(bytes) = input.get(..PLACE) else {
            return Ok((0, Some(Event::NeedData)));
        };
        let Some((offset, length)) = frame::place(bytes) else {
            return Err(Error::place(kind, format!("\"{}\"", bytes.escape_ascii())));
        };
        // Only the END, if any, is left to be told.
        let end = flags & flag::END != 0;
        self.state = State::Data { id, end, left: 0 };
        let shared = flags & flag::SHARED != 0;
        let event = Event::File {
            id,
            offset,
            length,
            shared,
        };
        Ok((PLACE, Some(event)))
    }

    fn step_data<'b>(&mut self, input: &'b [u8], id: u16, end: bool, left: usize) -> (usize, Option<Event<'b>>) {
        if left == 0 {
            self.state = State::Header;
            if !end {
                return (0, None);
            }
            self.close(id);
            return (0, Some(Event::End { id }));
        }
        let data = input.get(..left).unwrap_or(input);
        if data.is_empty() {
            return (0, Some(Event::NeedData));
        }
        self.state = State::Data {
            id,
            end,
            left: left - data.len(),
        };
        (data.len(), Some(Event::Data { id, data }))
    }

    fn step_log<'b>(&mut self, input: &'b [u8], id: u16, level: u8, left: usize) -> (usize, Option<Event<'b>>) {
        let Some(text) = input.get(..left.min(LOG_PART)) else {
            return (0, Some(Event::NeedData));
        };
        let left = left - text.len();
        self.state = if left == 0 {
            State::Header
        } else {
            State::Log { id, level, left }
        };
        (text.len(), Some(Event::Log { id, level, text }))
    }

    fn step_note<'b>(&mut self, input: &'b [u8], id: u16, left: usize) -> (usize, Option<Event<'b>>) {
        if left == 0 {
            self.state = State::Header;
            return (0, None);
        }
        let pairs = input.get(..left).unwrap_or(input);
        if pairs.is_empty() {
            return (0, Some(Event::NeedData));
        }
        self.state = State::Note {
            id,
            left: left - pairs.len(),
        };
        (pairs.len(), Some(Event::Note { id, pairs }))
    }

    fn step_skip<'b>(&mut self, input: &'b [u8], left: usize) -> (usize, Option<Event<'b>>) {
        let count = left.min(input.len());
        self.skip(left - count);
        (count, (count < left).then_some(Event::NeedData))
    }

    fn skip(&mut self, left: usize) {
        self.state = if left == 0 { State::Header } else { State::Skip { left } };
    }

    fn close(&mut self, id: u16) {
        if let Some(place) = self.open.iter().position(|&open| open == id) {
            self.open.swap_remove(place);
        }
    }
}
