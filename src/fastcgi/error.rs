//! What can be wrong on a FastCGI connection, and who is to blame.

use super::record::RecordType;
use crate::base::fault::Fault;

/// Why a request cannot be sent, or why what arrived is not FastCGI.
///
/// After an error of [`super::Conn::step`] the position in the stream is lost: close the connection.
/// After an error of [`super::Conn::begin`] nothing was written and the connection is as before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The first byte of a record header.
    #[error("expected a record of FastCGI version 1, found version {found}")]
    Version {
        /// The version byte that arrived.
        found: u8,
    },
    /// A record for our request id while no request is active.
    #[error("expected no record without an active request, found {found}")]
    NoRequest {
        /// The type that arrived.
        found: RecordType,
    },
    /// A record type that an application never sends, or sends only with the other kind of id.
    #[error(
        "expected STDOUT, STDERR or END_REQUEST with a request id, or a management result with id 0, found {found} with id {id}"
    )]
    Misplaced {
        /// The type that arrived.
        found: RecordType,
        /// Its request id.
        id: u16,
    },
    /// A record whose content has a fixed length of 8 bytes.
    #[error("expected 8 bytes of content in {kind}, found {found}")]
    ContentLength {
        /// The record's type.
        kind: RecordType,
        /// The content length in its header.
        found: u16,
    },
    /// The protocol status in END_REQUEST.
    #[error("expected a protocol status from 0 to 3 in END_REQUEST, found {found}")]
    Status {
        /// The byte that arrived.
        found: u8,
    },
    /// A name-value pair is cut short.
    #[error("expected a whole name-value pair, found {found} bytes of one")]
    Pair {
        /// How many bytes were left.
        found: usize,
    },
    /// The stream ended before END_REQUEST.
    #[error("expected END_REQUEST, found the end of the stream")]
    Eof,
    /// A variable too long for one record: PHP cannot read a pair that straddles records.
    #[error("expected a variable of at most {limit} bytes with its name, found {found}")]
    PairTooLong {
        /// Encoded length of the pair in bytes.
        found: usize,
        /// The longest pair that fits, in bytes.
        limit: usize,
    },
    /// The variables are not `NAME\0VALUE\0...`.
    #[error("expected a block of variables with a NUL after each name and value, found it cut short")]
    Block,
    /// A record that only an application sends, or one with the other kind of id, from a web server.
    #[error("expected a record that a web server sends, found {found} with id {id}")]
    NotForUs {
        /// The type that arrived.
        found: RecordType,
        /// Its request id.
        id: u16,
    },
    /// A web server's record out of its order: BEGIN_REQUEST, PARAMS to its end, STDIN to its end.
    #[error("expected {expected}, found {found}")]
    Order {
        /// What is due.
        expected: &'static str,
        /// The type that arrived.
        found: RecordType,
    },
    /// A web server's variables are longer than we take.
    #[error("expected at most {limit} bytes of variables, found more")]
    ParamsTooLong {
        /// The most that is taken, in bytes.
        limit: usize,
    },
    /// A request was begun before the one before it ended.
    #[error("expected an idle connection to begin a request on, found a request active")]
    Busy,
}

impl Error {
    /// Who caused it.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Version { .. }
            | Self::NoRequest { .. }
            | Self::Misplaced { .. }
            | Self::ContentLength { .. }
            | Self::Status { .. }
            | Self::Pair { .. }
            | Self::Eof => Fault::Worker,
            Self::PairTooLong { .. } | Self::NotForUs { .. } | Self::Order { .. } | Self::ParamsTooLong { .. } => {
                Fault::Client
            }
            Self::Block | Self::Busy => Fault::Gateway,
        }
    }

    /// The status a client gets if its response has not begun.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self.fault() {
            // What is answered at all is a header field too long for the protocol, or for us: RFC 6585 §5.
            Fault::Client => 431,
            Fault::Worker => 502,
            Fault::Gateway => 500,
        }
    }

    /// True if the same request may be sent on another connection, whatever its method.
    ///
    /// What arrived wrong arrived after the request was sent, so it may have been run.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Busy)
    }
}
