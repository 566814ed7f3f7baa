//! Who is at the other end of a client connection.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};

/// Who is at the other end.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Peer {
    /// `None` for unix sockets. v4-mapped addresses are v4 here.
    pub(super) address: Option<SocketAddr>,
    /// Our end.
    pub(super) local: Option<SocketAddr>,
    /// In `forwarded_allow_ips`, or over a unix socket.
    pub(super) trusted: bool,
}

/// An address as text, without a heap allocation.
#[derive(Debug)]
pub(super) struct AddressText {
    bytes: [u8; 48],
}

impl Default for AddressText {
    fn default() -> Self {
        Self { bytes: [0; 48] }
    }
}

impl AddressText {
    /// The address's text.
    pub(super) fn of(&mut self, address: IpAddr) -> &str {
        let mut rest = &mut self.bytes[..];
        let room = rest.len();
        let written = write!(rest, "{address}").map_or(0, |()| room - rest.len());
        self.bytes
            .get(..written)
            .and_then(|text| std::str::from_utf8(text).ok())
            .unwrap_or("")
    }
}

/// Unmaps v4-mapped v6 addresses.
pub(super) fn unmapped(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
