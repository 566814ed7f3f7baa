//! What can be wrong with the other end's bytes.

use super::frame::Kind;
use crate::base::fault::Fault;

/// A breach of the pipe protocol. The channel is of no use after one: its frames can no longer be told apart.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The bytes are no frame. Most often the app printed to the channel.
    #[error("expected a frame, found \"{found}\"")]
    NotAFrame {
        /// The first bytes, escaped and cut to 64.
        found: String,
    },
    /// A payload over the limit.
    #[error("expected a {kind} frame of at most {limit} bytes, found {length} in \"{found}\"")]
    FrameTooLong {
        /// The frame's type.
        kind: &'static str,
        /// Bytes announced.
        length: usize,
        /// Bytes allowed.
        limit: usize,
        /// The first bytes, escaped and cut to 64.
        found: String,
    },
    /// A response head over the limit.
    #[error("expected a response head of at most {limit} bytes, found {length}")]
    HeadTooLong {
        /// Bytes announced.
        length: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// A frame too short for what it must hold.
    #[error("expected at least {expected} bytes in a {kind} frame, found {found}")]
    Short {
        /// The frame's type.
        kind: &'static str,
        /// Bytes needed.
        expected: usize,
        /// Bytes announced.
        found: usize,
    },
    /// A frame that has no place at this point.
    #[error("expected {expected}, found a {kind} frame about request {id}")]
    Unexpected {
        /// What would have been in place.
        expected: &'static str,
        /// The frame's type.
        kind: &'static str,
        /// The request it names; 0 = none.
        id: u16,
    },
    /// A response head or block of variables that breaks a rule.
    #[error("expected {expected}, found \"{found}\"")]
    Head {
        /// The rule.
        expected: &'static str,
        /// What broke it, escaped and cut to 64.
        found: String,
    },
    /// A frame with the flag FD whose payload names no place in a file.
    #[error("expected a place in a file, 16 bytes, at the end of a {kind} frame with a descriptor, found {found}")]
    Place {
        /// The frame's type.
        kind: &'static str,
        /// What it has there instead.
        found: String,
    },
    /// A READY frame offered no slots or more than there are.
    #[error("expected 1 to 2046 slots, found {found}")]
    Slots {
        /// The offer.
        found: u16,
    },
}

impl Error {
    /// Who is to blame: at the front's end, always the worker.
    #[must_use]
    pub fn fault(&self) -> Fault {
        Fault::Worker
    }

    #[cold]
    pub(super) fn not_a_frame(input: &[u8]) -> Self {
        Self::NotAFrame { found: escaped(input) }
    }

    #[cold]
    pub(super) fn frame_too_long(kind: Kind, length: usize, limit: usize, input: &[u8]) -> Self {
        Self::FrameTooLong {
            kind: kind.name(),
            length,
            limit,
            found: escaped(input),
        }
    }

    #[cold]
    pub(super) fn short(kind: Kind, expected: usize, found: usize) -> Self {
        Self::Short {
            kind: kind.name(),
            expected,
            found,
        }
    }

    #[cold]
    pub(super) fn unexpected(expected: &'static str, kind: Kind, id: u16) -> Self {
        Self::Unexpected {
            expected,
            kind: kind.name(),
            id,
        }
    }

    #[cold]
    pub(super) fn place(kind: Kind, found: String) -> Self {
        Self::Place {
            kind: kind.name(),
            found,
        }
    }

    #[cold]
    pub(super) fn head(expected: &'static str, found: &[u8]) -> Self {
        Self::Head {
            expected,
            found: escaped(found),
        }
    }
}

/// At most 64 of the bytes, those that are not printable ASCII escaped.
fn escaped(bytes: &[u8]) -> String {
    bytes
        .get(..bytes.len().min(64))
        .unwrap_or_default()
        .escape_ascii()
        .to_string()
}
