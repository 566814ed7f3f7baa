//! Why a PROXY header was refused.
//!
//! The texts are fixed: none repeats a sender's bytes, so each may be shown to it and logged as it is.

use crate::base::fault::Fault;

/// A header that cannot be believed; the connection closes after the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A version 1 line that is not six words with single blanks and CRLF, or a malformed address or port in it.
    #[error("invalid PROXY line")]
    Line,
    /// A version 1 line without its end within 107 bytes.
    #[error("PROXY line too long")]
    LineTooLong,
    /// The binary signature with a version other than 2.
    #[error("invalid PROXY header version")]
    Version,
    /// A command other than LOCAL and PROXY.
    #[error("invalid PROXY header command")]
    Command,
    /// An address family or transport that no HTTP connection has.
    #[error("invalid PROXY header address family")]
    Family,
    /// Fewer bytes than the addresses of the family take.
    #[error("PROXY header too short")]
    Short,
    /// More bytes than the limit.
    #[error("PROXY header too long")]
    TooLong,
}

impl Error {
    /// Who is to blame: always the sender.
    #[must_use]
    pub fn fault(&self) -> Fault {
        Fault::Client
    }

    /// The status that says so.
    #[must_use]
    pub fn status(&self) -> u16 {
        400
    }
}
