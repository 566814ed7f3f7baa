//! The worker's end of the channel and of the pull queue: docs/protocols/pipe.md. For the runner and for tests.
//!
//! Never here: sockets, descriptors, the board.

use super::error::Error;
use super::frame::{self, HEADER, Header, Kind, flag, leading_u32};
use super::head;
use crate::base::message::ResponseHead;

/// What bytes from the front mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerEvent<'b> {
    /// Nothing until more bytes are there.
    NeedData,
    /// A request begins: the caller's block is filled. Data and an end follow.
    Request {
        /// Its id, to be named in the answer.
        id: u16,
    },
    /// The payload of this request goes on in a descriptor that was passed beside the frame, from the file's start to
    /// its end. Comes instead of `Request`; the caller's block holds the payload as far as it came: the block's length
    /// in four bytes, the block, the body, cut anywhere. Nothing else follows about this request.
    Spilled {
        /// Its id.
        id: u16,
    },
    /// A part of a request body, as it arrived.
    Data {
        /// The request.
        id: u16,
        /// Never empty.
        data: &'b [u8],
    },
    /// The request is complete.
    End {
        /// The request.
        id: u16,
    },
    /// The answer is no longer wanted. If the request's end has not come, it will not. May name a request that was
    /// answered already.
    Abort {
        /// The request.
        id: u16,
        /// Its deadline has passed; otherwise its client has left.
        overdue: bool,
    },
    /// This many more bytes of the answer's body may be sent. May name a request that was answered already.
    Window {
        /// The request.
        id: u16,
        /// Bytes, to be added to what is left.
        bytes: u32,
    },
    /// Finish what runs, answer it, exit 0.
    Drain,
    /// Shared memory that was named by [`WorkerConn::body_shared`] may be written to again.
    Return {
        /// The offset that was named.
        offset: u64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// At a header.
    Header,
    /// At the counted block of a REQUEST, `payload` bytes before the frame's end.
    Block { id: u16, end: bool, payload: usize },
    /// In the payload of a REQUEST that goes on in a descriptor.
    Spilled { id: u16, payload: usize },
    /// In body bytes.
    Data { id: u16, end: bool, left: usize },
    /// In bytes to be ignored.
    Skip { left: usize },
}

/// The worker's end of a channel. A message from the pull queue is decoded by an end of its own.
#[derive(Debug)]
pub struct WorkerConn {
    block_limit: usize,
    state: State,
    partial: Vec<u8>,
    /// Requests begun whose body has not ended.
    open: Vec<u16>,
}

impl WorkerConn {
    /// A channel at its start. A block of variables may have `block_limit` bytes.
    #[must_use]
    pub fn new(block_limit: usize) -> Self {
        Self {
            block_limit,
            state: State::Header,
            partial: Vec::new(),
            open: Vec::new(),
        }
    }

    /// Appends the READY frame: the worker's first, save for LOG frames. `slots` is 1 to 2046, `flags` are
    /// [`frame::ready`]'s.
    pub fn ready(slots: u16, flags: u8, out: &mut Vec<u8>) {
        out.extend_from_slice(
            &Header {
                kind: Kind::Ready,
                flags,
                id: 0,
                length: 2,
            }
            .encode(),
        );
        out.extend_from_slice(&slots.to_be_bytes());
    }

    /// Appends a RESPONSE frame. Not `end`: [`Self::body`] follows, or for status 1xx another response.
    pub fn response(id: u16, head: &ResponseHead, body: &[u8], end: bool, out: &mut Vec<u8>) {
        let mut block = Vec::with_capacity(head.bytes.len() + 64);
        head::encode(head, &mut block);
        frame::put_block(Kind::Response, id, &block, body, if end { flag::END } else { 0 }, out);
    }

    /// Appends more of a response's body; `end` with the last part, which may be empty.
    pub fn body(id: u16, data: &[u8], end: bool, out: &mut Vec<u8>) {
        frame::put_body(id, data, end, out);
    }

    /// Appends a RESPONSE frame whose body, or its beginning, is in a file: `length` bytes from `offset` on. The file's
    /// descriptor travels beside the frame's first byte.
    pub fn response_file(id: u16, head: &ResponseHead, (offset, length): (u64, u64), end: bool, out: &mut Vec<u8>) {
        let mut block = Vec::with_capacity(head.bytes.len() + 64);
        head::encode(head, &mut block);
        let mut place = Vec::with_capacity(frame::PLACE);
        frame::put_place(offset, length, &mut place);
        let flags = if end { flag::END | flag::FD } else { flag::FD };
        frame::put_block(Kind::Response, id, &block, &place, flags, out);
    }

    /// Appends a BODY frame for a part of the body that is in a file, as [`Self::response_file`] does.
    pub fn body_file(id: u16, (offset, length): (u64, u64), end: bool, out: &mut Vec<u8>) {
        let header = Header {
            kind: Kind::Body,
            flags: if end { flag::END | flag::FD } else { flag::FD },
            id,
            length: frame::PLACE,
        };
        out.extend_from_slice(&header.encode());
        frame::put_place(offset, length, out);
    }

    /// Appends a BODY frame for a part of the body that is in shared memory: as [`Self::body_file`], but the memory may be
    /// written to again after the RETURN for `offset`.
    pub fn body_shared(id: u16, (offset, length): (u64, u64), end: bool, out: &mut Vec<u8>) {
        let end = if end { flag::END } else { 0 };
        let header = Header {
            kind: Kind::Body,
            flags: flag::FD | flag::SHARED | end,
            id,
            length: frame::PLACE,
        };
        out.extend_from_slice(&header.encode());
        frame::put_place(offset, length, out);
    }

    /// Appends an ABORT frame: this response cannot be completed.
    pub fn abort(id: u16, out: &mut Vec<u8>) {
        frame::put_empty(Kind::Abort, id, out);
    }

    /// Appends an ABORT frame that says what the client is to get if it has got nothing yet (400 to 599), and why; of the
    /// reason, the first [`frame::REASON_LIMIT`] bytes count.
    pub fn give_up(id: u16, status: u16, reason: &[u8], out: &mut Vec<u8>) {
        let reason = reason.get(..frame::REASON_LIMIT).unwrap_or(reason);
        let header = Header {
            kind: Kind::Abort,
            flags: 0,
            id,
            length: 2 + reason.len(),
        };
        out.extend_from_slice(&header.encode());
        out.extend_from_slice(&status.to_be_bytes());
        out.extend_from_slice(reason);
    }

    /// Appends the answer that consists of another path of this server: `head` has it as its Location.
    pub fn redirect(id: u16, head: &ResponseHead, out: &mut Vec<u8>) {
        let mut block = Vec::with_capacity(head.bytes.len() + 64);
        head::encode(head, &mut block);
        frame::put_block(Kind::Response, id, &block, &[], flag::END | flag::REDIRECT, out);
    }

    /// Appends a REFUSED frame: this request was not run and will not be.
    pub fn refuse(id: u16, out: &mut Vec<u8>) {
        frame::put_empty(Kind::Refused, id, out);
    }

    /// Appends a HEARTBEAT frame.
    pub fn heartbeat(out: &mut Vec<u8>) {
        frame::put_empty(Kind::Heartbeat, 0, out);
    }

    /// Appends a LOG frame; `id` 0 = about no request, `level` one of [`frame::level`].
    pub fn log(id: u16, level: u8, text: &[u8], out: &mut Vec<u8>) {
        let text = text.get(..frame::IGNORABLE_LIMIT).unwrap_or(text);
        out.extend_from_slice(
            &Header {
                kind: Kind::Log,
                flags: 0,
                id,
                length: text.len() + 1,
            }
            .encode(),
        );
        out.push(level);
        out.extend_from_slice(text);
    }

    /// Appends a NOTE frame: variables as the app left them, for the access log. Those beyond the limit of a frame are
    /// left out.
    pub fn note<'v>(id: u16, variables: impl Iterator<Item = (&'v [u8], &'v [u8])>, out: &mut Vec<u8>) {
        let start = out.len();
        out.resize(start + HEADER, 0);
        for (name, value) in variables {
            let length = out.len() - start - HEADER + name.len() + value.len() + 2;
            let is_whole = !name.contains(&0) && !value.contains(&0);
            if is_whole && length <= frame::NOTE_LIMIT {
                out.extend_from_slice(name);
                out.push(0);
                out.extend_from_slice(value);
                out.push(0);
            }
        }
        let header = Header {
            kind: Kind::Note,
            flags: 0,
            id,
            length: out.len() - start - HEADER,
        };
        out.splice(start..start + HEADER, header.encode());
    }

    /// Appends a WINDOW frame: `n` more bytes of this request's body may come.
    pub fn window(id: u16, n: u32, out: &mut Vec<u8>) {
        frame::put_window(id, n, out);
    }

    /// Takes bytes from the front: how many were used, and what they meant. `block` is filled at `Request` and
    /// `Spilled`, and untouched otherwise. Call again with the rest until it says `NeedData`.
    pub fn step<'b>(&mut self, input: &'b [u8], block: &mut Vec<u8>) -> Result<(usize, WorkerEvent<'b>), Error> {
        let mut used = 0;
        loop {
            let rest = input.get(used..).unwrap_or_default();
            let (count, event) = match self.state {
                State::Header => self.step_header(rest)?,
                State::Block { id, end, payload } => self.step_block(rest, block, id, end, payload)?,
                State::Spilled { id, payload } => self.step_spilled(rest, block, id, payload),
                State::Data { id, end, left } => self.step_data(rest, id, end, left),
                State::Skip { left } => self.step_skip(rest, left),
            };
            used += count;
            if let Some(event) = event {
                return Ok((used, event));
            }
        }
    }

    fn step_header<'b>(&mut self, input: &'b [u8]) -> Result<(usize, Option<WorkerEvent<'b>>), Error> {
        let Some(header) = Header::decode(input, frame::PAYLOAD_LIMIT)? else {
            return Ok((0, Some(WorkerEvent::NeedData)));
        };
        let Header {
            kind,
            flags,
            id,
            length,
        } = header;
        self.check(header)?;
        let end = flags & flag::END != 0;
        let event = match kind {
            Kind::Request if flags & flag::FD != 0 => {
                self.state = State::Spilled { id, payload: length };
                return Ok((HEADER, None));
            }
            Kind::Request => {
                self.state = State::Block {
                    id,
                    end,
                    payload: length,
                };
                return Ok((HEADER, None));
            }
            Kind::Body => {
                self.state = State::Data { id, end, left: length };
                return Ok((HEADER, None));
            }
            Kind::Window => {
                let Some(bytes) = input.get(HEADER..).and_then(leading_u32) else {
                    return Ok((0, Some(WorkerEvent::NeedData)));
                };
                self.skip(length - 4);
                return Ok((HEADER + 4, Some(WorkerEvent::Window { id, bytes })));
            }
            Kind::Abort => {
                self.close(id);
                let overdue = flags & frame::abort::OVERDUE != 0;
                Some(WorkerEvent::Abort { id, overdue })
            }
            Kind::Drain => Some(WorkerEvent::Drain),
            Kind::Return => {
                let Some(offset) = input.get(HEADER..).and_then(|payload| payload.first_chunk()) else {
                    return Ok((0, Some(WorkerEvent::NeedData)));
                };
                let offset = u64::from_be_bytes(*offset);
                self.skip(length - frame::OFFSET);
                return Ok((HEADER + frame::OFFSET, Some(WorkerEvent::Return { offset })));
            }
            Kind::Ignorable
            | Kind::Response
            | Kind::Refused
            | Kind::Log
            | Kind::Note
            | Kind::Ready
            | Kind::Heartbeat => None,
        };
        self.skip(length);
        Ok((HEADER, event))
    }

    fn check(&self, header: Header) -> Result<(), Error> {
        let Header {
            kind,
            flags,
            id,
            length,
        } = header;
        let (about_request, needed) = match kind {
            Kind::Request if flags & flag::FD != 0 => (true, 0),
            Kind::Request | Kind::Window => (true, 4),
            Kind::Body | Kind::Abort => (true, 0),
            Kind::Return => (false, frame::OFFSET),
            Kind::Drain | Kind::Ignorable => (false, 0),
            Kind::Response | Kind::Refused | Kind::Log | Kind::Note | Kind::Ready | Kind::Heartbeat => {
                return Err(Error::unexpected("a frame that fronts send", kind, id));
            }
        };
        if length < needed {
            return Err(Error::short(kind, needed, length));
        }
        if about_request && id == 0 {
            return Err(Error::unexpected("the id of a request", kind, id));
        }
        let is_open = self.open.contains(&id);
        if kind == Kind::Body && !is_open {
            return Err(Error::unexpected("a request first", kind, id));
        }
        if kind == Kind::Request && is_open {
            return Err(Error::unexpected("the end of the request it began", kind, id));
        }
        Ok(())
    }

    fn step_block<'b>(
        &mut self,
        input: &'b [u8],
        block: &mut Vec<u8>,
        id: u16,
        end: bool,
        payload: usize,
    ) -> Result<(usize, Option<WorkerEvent<'b>>), Error> {
        let wait = |used| Ok((used, Some(WorkerEvent::NeedData)));
        let counted = if self.partial.is_empty() { input } else { &self.partial };
        let Some(length) = leading_u32(counted) else {
            return wait(0);
        };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > self.block_limit {
            return Err(Error::HeadTooLong {
                length,
                limit: self.block_limit,
            });
        }
        let whole = length.saturating_add(4);
        if whole > payload {
            return Err(Error::short(Kind::Request, whole, payload));
        }
        let missing = whole - self.partial.len();
        let Some(piece) = input.get(..missing) else {
            self.partial.extend_from_slice(input);
            return wait(input.len());
        };
        self.partial.extend_from_slice(piece);
        block.clear();
        block.extend_from_slice(self.partial.get(4..).unwrap_or_default());
        self.partial.clear();
        check_block(block)?;
        self.state = State::Data {
            id,
            end,
            left: payload - whole,
        };
        if !end {
            self.open.push(id);
        }
        Ok((missing, Some(WorkerEvent::Request { id })))
    }

    fn step_spilled<'b>(
        &mut self,
        input: &'b [u8],
        block: &mut Vec<u8>,
        id: u16,
        payload: usize,
    ) -> (usize, Option<WorkerEvent<'b>>) {
        let missing = payload - self.partial.len();
        let Some(piece) = input.get(..missing) else {
            self.partial.extend_from_slice(input);
            return (input.len(), Some(WorkerEvent::NeedData));
        };
        self.partial.extend_from_slice(piece);
        block.clear();
        block.append(&mut self.partial);
        self.state = State::Header;
        (missing, Some(WorkerEvent::Spilled { id }))
    }

    fn step_data<'b>(&mut self, input: &'b [u8], id: u16, end: bool, left: usize) -> (usize, Option<WorkerEvent<'b>>) {
        if left == 0 {
            self.state = State::Header;
            if !end {
                return (0, None);
            }
            self.close(id);
            return (0, Some(WorkerEvent::End { id }));
        }
        let data = input.get(..left).unwrap_or(input);
        if data.is_empty() {
            return (0, Some(WorkerEvent::NeedData));
        }
        self.state = State::Data {
            id,
            end,
            left: left - data.len(),
        };
        (data.len(), Some(WorkerEvent::Data { id, data }))
    }

    fn step_skip<'b>(&mut self, input: &'b [u8], left: usize) -> (usize, Option<WorkerEvent<'b>>) {
        let count = left.min(input.len());
        self.skip(left - count);
        (count, (count < left).then_some(WorkerEvent::NeedData))
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

/// The names and values of a whole block. Whatever follows the last complete pair is left out.
pub fn variables(block: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut items = block.split(|&byte| byte == 0);
    std::iter::from_fn(move || {
        let name = items.next()?;
        Some((name, items.next()?))
    })
}

fn check_block(block: &[u8]) -> Result<(), Error> {
    let nuls = memchr::memchr_iter(0, block).count();
    if !nuls.is_multiple_of(2) || block.last().is_some_and(|&byte| byte != 0) {
        return Err(Error::head("variables as NAME NUL VALUE NUL", block));
    }
    Ok(())
}
