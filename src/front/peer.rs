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
        let written = match address {
            // Made for every request: several times as fast as the formatting machinery.
            IpAddr::V4(address) => {
                let mut digits = itoa::Buffer::new();
                let parts = address.octets().into_iter().enumerate().try_for_each(|(place, octet)| {
                    let dot: &[u8] = if place == 0 { b"" } else { b"." };
                    rest.write_all(dot)?;
                    rest.write_all(digits.format(octet).as_bytes())
                });
                parts.map_or(0, |()| room - rest.len())
            }
            IpAddr::V6(address) => write!(rest, "{address}").map_or(0, |()| room - rest.len()),
        };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_as_the_library_writes_them() {
        for text in [
            "0.0.0.0",
            "127.0.0.1",
            "255.255.255.255",
            "10.20.3.100",
            "::1",
            "2001:db8::ff",
        ] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(AddressText::default().of(address), text);
        }
    }
}
