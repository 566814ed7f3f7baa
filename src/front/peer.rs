//! Who is at the other end of a client connection.

use crate::proxy;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};

/// Who is at the other end.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Peer {
    /// The client: the other end of the connection, or whom its PROXY header names. `None` for unix sockets.
    /// v4-mapped addresses are v4 here.
    pub(super) address: Option<SocketAddr>,
    /// Our end.
    pub(super) local: Option<SocketAddr>,
    /// The other end is in `forwarded_allow_ips`, or a unix socket; whom a PROXY header names plays no part in this.
    pub(super) trusted: bool,
    /// What the connection's PROXY header said.
    pub(super) proxied: Option<Proxied>,
}

/// What is kept of a PROXY header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Proxied {
    /// The kind of connection.
    pub(super) kind: proxy::Kind,
    /// What the client connected to, if the header says.
    pub(super) destination: Option<SocketAddr>,
}

impl Peer {
    /// Believes a PROXY header.
    pub(super) fn apply(&mut self, header: &proxy::Header) {
        if let Some(addresses) = header.addresses {
            self.address = Some(unmapped(addresses.source));
        }
        self.proxied = Some(Proxied {
            kind: header.kind,
            destination: header.addresses.map(|addresses| unmapped(addresses.destination)),
        });
    }
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
