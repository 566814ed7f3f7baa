//! Frames: docs/protocols/pipe.md §3 to §5. An eight-byte header, then the payload.
//!
//! Never here: the meaning of payloads (`conn`, `worker`), limits that a caller chooses.

use super::error::Error;

/// Bytes of a frame header: type u8, flags u8, request id u16, payload length u32, big-endian.
pub const HEADER: usize = 8;

/// Bytes of a payload at most. It is chosen so that no printable text passes as a length.
pub const PAYLOAD_LIMIT: usize = 256 * 1024 * 1024;

/// Bytes of the payload of a frame of unknown, ignorable type at most.
pub const IGNORABLE_LIMIT: usize = 64 * 1024;

/// Bytes of the payload of a NOTE frame at most.
pub const NOTE_LIMIT: usize = 64 * 1024;

/// Bytes of a message on the pull queue at most, its header included.
pub const MESSAGE_LIMIT: usize = 128 * 1024;

/// Body bytes each side may send for a request before the first WINDOW frame, with [`ready::FLOW`].
pub const WINDOW: u32 = 256 * 1024;

/// Requests at once that one worker may offer: the cells of its board.
pub const SLOTS_LIMIT: u16 = 2046;

/// Bytes of the reason in an ABORT frame at most; what is more is ignored.
pub const REASON_LIMIT: usize = 4096;

/// Bytes of a place in a file: offset u64, length u64, big-endian.
pub const PLACE: usize = 16;

/// Bytes of the payload of a RETURN frame: an offset, u64, big-endian.
pub const OFFSET: usize = 8;

/// Header flags of REQUEST, RESPONSE and BODY.
pub mod flag {
    /// The body ends with this frame.
    pub const END: u8 = 0x01;
    /// A descriptor is passed beside the frame. REQUEST: the payload goes on in it. RESPONSE and BODY: the payload ends
    /// with a place in that file instead of body bytes.
    pub const FD: u8 = 0x02;
    /// RESPONSE only: the front serves what Location names instead.
    pub const REDIRECT: u8 = 0x04;
    /// RESPONSE and BODY, with [`FD`]: the file is memory that the worker will write to again, after a RETURN.
    pub const SHARED: u8 = 0x08;
}

/// Header flags of ABORT.
pub mod abort {
    /// From the front: the request is past its deadline, not only unwanted.
    pub const OVERDUE: u8 = 0x01;
}

/// Header flags of READY.
pub mod ready {
    /// The worker takes its requests from the pull queue.
    pub const PULL: u8 = 0x01;
    /// The worker reads its channel at all times, and both sides keep to the windows.
    pub const FLOW: u8 = 0x02;
    /// The worker takes bodies as descriptors on its channel.
    pub const FDS: u8 = 0x04;
    /// The worker obeys ABORT: it ends what runs that request, and nothing else.
    pub const ABORTS: u8 = 0x08;
    /// While it sends a response in several frames, the worker looks for ABORT between them.
    pub const LOOKS: u8 = 0x10;
}

/// Levels of LOG frames.
pub mod level {
    /// Per request.
    pub const DEBUG: u8 = 0;
    /// Lifecycle.
    pub const INFO: u8 = 1;
    /// It coped.
    pub const WARNING: u8 = 2;
    /// Someone must act.
    pub const ERROR: u8 = 3;
    /// The service is at stake.
    pub const CRITICAL: u8 = 4;
}

/// The types of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Front to worker: a request.
    Request,
    /// Worker to front: a response's head and the start of its body.
    Response,
    /// Both ways: more of a body.
    Body,
    /// Both ways: the exchange ends here, incomplete.
    Abort,
    /// Both ways: more body bytes may be sent.
    Window,
    /// Worker to front: the request was not run.
    Refused,
    /// Worker to front: a line for the error log.
    Log,
    /// Worker to front: variables as the app left them, for the access log.
    Note,
    /// Worker to front: it takes requests from now on.
    Ready,
    /// Worker to front: its loop turns.
    Heartbeat,
    /// Front to worker: finish, then exit.
    Drain,
    /// Front to worker: a stretch of shared memory may be written to again.
    Return,
    /// A type from 0x80 on that this version does not know: to be skipped.
    Ignorable,
}

impl Kind {
    /// The number on the wire.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Request => 0x01,
            Self::Response => 0x02,
            Self::Body => 0x03,
            Self::Abort => 0x04,
            Self::Window => 0x05,
            Self::Refused => 0x06,
            Self::Log => 0x07,
            Self::Note => 0x08,
            Self::Ready => 0x10,
            Self::Heartbeat => 0x11,
            Self::Drain => 0x12,
            Self::Return => 0x13,
            Self::Ignorable => 0x80,
        }
    }

    /// What a number on the wire means; `None` for one that must not occur.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0x01 => Self::Request,
            0x02 => Self::Response,
            0x03 => Self::Body,
            0x04 => Self::Abort,
            0x05 => Self::Window,
            0x06 => Self::Refused,
            0x07 => Self::Log,
            0x08 => Self::Note,
            0x10 => Self::Ready,
            0x11 => Self::Heartbeat,
            0x12 => Self::Drain,
            0x13 => Self::Return,
            0x80.. => Self::Ignorable,
            _ => return None,
        })
    }

    /// The name in the specification.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Request => "REQUEST",
            Self::Response => "RESPONSE",
            Self::Body => "BODY",
            Self::Abort => "ABORT",
            Self::Window => "WINDOW",
            Self::Refused => "REFUSED",
            Self::Log => "LOG",
            Self::Note => "NOTE",
            Self::Ready => "READY",
            Self::Heartbeat => "HEARTBEAT",
            Self::Drain => "DRAIN",
            Self::Return => "RETURN",
            Self::Ignorable => "ignorable",
        }
    }
}

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The type.
    pub kind: Kind,
    /// Flags, by type; unknown ones are ignored.
    pub flags: u8,
    /// The request it is about; 0 = none.
    pub id: u16,
    /// Bytes of payload that follow.
    pub length: usize,
}

impl Header {
    /// Reads the header at the start of `input`; `None` if it is not whole yet.
    ///
    /// Fails on a type that must not occur and on a payload over `limit` bytes (or the smaller limit of ignorable
    /// frames and notes), even before the whole header is there if its first byte shows that no frame begins here.
    pub fn decode(input: &[u8], limit: usize) -> Result<Option<Self>, Error> {
        let Some(&code) = input.first() else { return Ok(None) };
        let Some(kind) = Kind::from_code(code) else {
            return Err(Error::not_a_frame(input));
        };
        let Some(&[_, flags, id0, id1, l0, l1, l2, l3]) = input.first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_be_bytes([l0, l1, l2, l3])).unwrap_or(usize::MAX);
        let limit = if kind == Kind::Ignorable {
            limit.min(IGNORABLE_LIMIT)
        } else if kind == Kind::Note {
            limit.min(NOTE_LIMIT)
        } else {
            limit.min(PAYLOAD_LIMIT)
        };
        if length > limit {
            return Err(Error::frame_too_long(kind, length, limit, input));
        }
        let id = u16::from_be_bytes([id0, id1]);
        Ok(Some(Self {
            kind,
            flags,
            id,
            length,
        }))
    }

    /// The eight bytes.
    #[must_use]
    pub fn encode(self) -> [u8; HEADER] {
        debug_assert!(self.length <= PAYLOAD_LIMIT, "senders split longer bodies");
        let [id0, id1] = self.id.to_be_bytes();
        let [l0, l1, l2, l3] = u32::try_from(self.length).unwrap_or(u32::MAX).to_be_bytes();
        [self.kind.code(), self.flags, id0, id1, l0, l1, l2, l3]
    }
}

/// Appends a frame without payload.
pub(super) fn put_empty(kind: Kind, id: u16, out: &mut Vec<u8>) {
    let header = Header {
        kind,
        flags: 0,
        id,
        length: 0,
    };
    out.extend_from_slice(&header.encode());
}

/// Appends a frame of a type whose payload leads with a counted block: REQUEST and RESPONSE, and, should the body be
/// too long for one frame, the rest of it in BODY frames.
pub(super) fn put_block(kind: Kind, id: u16, block: &[u8], body: &[u8], flags: u8, out: &mut Vec<u8>) {
    put_block_within(PAYLOAD_LIMIT, kind, id, block, body, flags, out);
}

/// The same for payloads of at most `limit` bytes.
pub(super) fn put_block_within(
    limit: usize,
    kind: Kind,
    id: u16,
    block: &[u8],
    body: &[u8],
    flags: u8,
    out: &mut Vec<u8>,
) {
    let room = limit.saturating_sub(4).saturating_sub(block.len());
    let (here, rest) = body.split_at(body.len().min(room));
    let flags_here = if rest.is_empty() { flags } else { flags & !flag::END };
    let header = Header {
        kind,
        flags: flags_here,
        id,
        length: 4 + block.len() + here.len(),
    };
    out.reserve(HEADER + header.length);
    out.extend_from_slice(&header.encode());
    out.extend_from_slice(&u32::try_from(block.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(block);
    out.extend_from_slice(here);
    if !rest.is_empty() {
        put_body_within(limit, id, rest, flags & flag::END != 0, out);
    }
}

/// Appends body bytes: one BODY frame, or several if there are more than fit in one. Nothing if `data` is empty and
/// `end` is not set.
pub(super) fn put_body(id: u16, data: &[u8], end: bool, out: &mut Vec<u8>) {
    put_body_within(PAYLOAD_LIMIT, id, data, end, out);
}

fn put_body_within(limit: usize, id: u16, data: &[u8], end: bool, out: &mut Vec<u8>) {
    if data.is_empty() && !end {
        return;
    }
    let mut rest = data;
    loop {
        let (here, after) = rest.split_at(rest.len().min(limit));
        let flags = if end && after.is_empty() { flag::END } else { 0 };
        let header = Header {
            kind: Kind::Body,
            flags,
            id,
            length: here.len(),
        };
        out.reserve(HEADER + here.len());
        out.extend_from_slice(&header.encode());
        out.extend_from_slice(here);
        if after.is_empty() {
            return;
        }
        rest = after;
    }
}

/// Appends an ABORT frame without a reason.
pub(super) fn put_abort(id: u16, flags: u8, out: &mut Vec<u8>) {
    let header = Header {
        kind: Kind::Abort,
        flags,
        id,
        length: 0,
    };
    out.extend_from_slice(&header.encode());
}

/// Appends a WINDOW frame.
pub(super) fn put_window(id: u16, bytes: u32, out: &mut Vec<u8>) {
    let header = Header {
        kind: Kind::Window,
        flags: 0,
        id,
        length: 4,
    };
    out.extend_from_slice(&header.encode());
    out.extend_from_slice(&bytes.to_be_bytes());
}

/// Appends a RETURN frame.
pub(super) fn put_return(offset: u64, out: &mut Vec<u8>) {
    let header = Header {
        kind: Kind::Return,
        flags: 0,
        id: 0,
        length: OFFSET,
    };
    out.extend_from_slice(&header.encode());
    out.extend_from_slice(&offset.to_be_bytes());
}

/// Appends a place in a file.
pub(super) fn put_place(offset: u64, length: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(&offset.to_be_bytes());
    out.extend_from_slice(&length.to_be_bytes());
}

/// Reads a place in a file: offset and length; `None` if it is not whole, or lies beyond what files can have.
pub(super) fn place(input: &[u8]) -> Option<(u64, u64)> {
    let (offset, rest) = input.split_first_chunk()?;
    let (offset, length) = (u64::from_be_bytes(*offset), u64::from_be_bytes(*rest.first_chunk()?));
    let end = offset.checked_add(length)?;
    i64::try_from(end).is_ok().then_some((offset, length))
}

/// The first four bytes as a number; `None` if there are fewer.
pub(super) fn leading_u32(input: &[u8]) -> Option<u32> {
    input.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}
