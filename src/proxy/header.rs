//! Which version a connection begins with, and what its header says.

use super::error::Error;
use super::{v1, v2};
use std::net::SocketAddr;

/// Which versions are read; the start of another is taken for that of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// The text form.
    pub v1: bool,
    /// The binary form.
    pub v2: bool,
}

/// What a header says about the connection behind the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// TCP over IPv4.
    Tcp4,
    /// TCP over IPv6.
    Tcp6,
    /// Version 1: the proxy does not know, or may not say.
    Unknown,
    /// Version 2: the proxy speaks for itself, as in a health check.
    Local,
    /// Version 2: the proxy does not say.
    Unspec,
    /// Version 2: a unix socket, whose paths mean nothing here.
    Unix,
}

impl Kind {
    /// The word for it, as in version 1 and as Gunicorn names it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp4 => "TCP4",
            Self::Tcp6 => "TCP6",
            Self::Unknown => "UNKNOWN",
            Self::Local => "LOCAL",
            Self::Unspec => "UNSPEC",
            Self::Unix => "UNIX",
        }
    }
}

/// Both ends of the connection that the proxy took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The client.
    pub source: SocketAddr,
    /// What the client connected to.
    pub destination: SocketAddr,
}

/// A whole header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The kind of connection.
    pub kind: Kind,
    /// Its ends; `None` where the peer of our own connection stays the client.
    pub addresses: Option<Addresses>,
}

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Not enough bytes to say.
    NeedData,
    /// A header.
    Header(Header),
    /// No header: all bytes belong to a request.
    Absent,
}

/// Reads the header at the start of one connection.
///
/// Nothing is kept between steps, so it can be shared by connections.
#[derive(Clone, Copy, Debug)]
pub struct Reader {
    versions: Versions,
    limit: usize,
}

impl Reader {
    /// A reader of these versions, and of at most `limit` bytes of a version 2 header; a version 1 line has its own
    /// limit of 107 bytes (§2.1).
    #[must_use]
    pub fn new(versions: Versions, limit: usize) -> Self {
        Self { versions, limit }
    }

    /// Reads on: bytes used, and what they meant.
    ///
    /// `input` must start with the connection's first byte every time, with more behind what was there before.
    /// Nothing is used before the header is whole.
    ///
    /// # Errors
    /// The bytes begin as a header and are none; the connection must be answered with [`Error::status`] and closed.
    pub fn step(&self, input: &[u8]) -> Result<(usize, Event), Error> {
        let v1 = Start::of(input, v1::PREFIX, self.versions.v1);
        let v2 = Start::of(input, v2::SIGNATURE, self.versions.v2);
        let found = match (v1, v2) {
            (Start::Whole, _) => v1::read(input)?,
            (_, Start::Whole) => v2::read(input, self.limit)?,
            (Start::Part, _) | (_, Start::Part) => None,
            (Start::Other, Start::Other) => return Ok((0, Event::Absent)),
        };
        Ok(found.map_or((0, Event::NeedData), |(used, header)| (used, Event::Header(header))))
    }

    /// True if `input` begins with a header's mark, so that whatever follows, it is no request.
    #[must_use]
    pub fn has_begun(&self, input: &[u8]) -> bool {
        Start::of(input, v1::PREFIX, self.versions.v1) == Start::Whole
            || Start::of(input, v2::SIGNATURE, self.versions.v2) == Start::Whole
    }
}

/// How the first bytes compare with a version's mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    Whole,
    Part,
    Other,
}

impl Start {
    fn of(input: &[u8], mark: &[u8], is_read: bool) -> Self {
        if !is_read {
            Self::Other
        } else if input.starts_with(mark) {
            Self::Whole
        } else if mark.starts_with(input) {
            Self::Part
        } else {
            Self::Other
        }
    }
}
