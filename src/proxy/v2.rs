//! Version 2, the binary header: signature, version and command, family, length, addresses, TLVs (§2.2).

use super::error::Error;
use super::header::{Addresses, Header, Kind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// What a header begins with: no request of any protocol does (§2.2).
pub(super) const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Bytes before the addresses.
const FIXED: usize = 16;

/// Bytes of two unix addresses.
const UNIX: usize = 216;

/// The header and its length, if it is whole.
pub(super) fn read(input: &[u8], limit: usize) -> Result<Option<(usize, Header)>, Error> {
    let Some(&[command, family, high, low]) = input.get(SIGNATURE.len()..FIXED).and_then(|four| four.first_chunk())
    else {
        // What has come is judged at once, so that nobody waits for the rest of a header that is wrong.
        return check_start(input).map(|()| None);
    };
    check_start(input)?;
    let length = FIXED + usize::from(u16::from_be_bytes([high, low]));
    if length > limit {
        return Err(Error::TooLong);
    }
    let Some(rest) = input.get(FIXED..length) else {
        return Ok(None);
    };
    // §2.2: with LOCAL, family and addresses are ignored; the TLVs behind the addresses are skipped.
    let header = if command & 0xf == 0 {
        plain(Kind::Local)
    } else {
        addresses(family, rest)?
    };
    Ok(Some((length, header)))
}

/// Version and command, as soon as their byte is there.
fn check_start(input: &[u8]) -> Result<(), Error> {
    match input.get(SIGNATURE.len()) {
        Some(byte) if byte >> 4 != 2 => Err(Error::Version),
        Some(byte) if byte & 0xf > 1 => Err(Error::Command),
        _ => Ok(()),
    }
}

fn plain(kind: Kind) -> Header {
    Header { kind, addresses: None }
}

/// The addresses of a PROXY command.
fn addresses(family: u8, rest: &[u8]) -> Result<Header, Error> {
    const STREAM: u8 = 1;
    match (family >> 4, family & 0xf) {
        (0, 0 | STREAM) => Ok(plain(Kind::Unspec)),
        (1, STREAM) => {
            let (source, rest) = rest.split_first_chunk::<4>().ok_or(Error::Short)?;
            let (destination, rest) = rest.split_first_chunk::<4>().ok_or(Error::Short)?;
            let (source_port, destination_port) = ports(rest)?;
            Ok(Header {
                kind: Kind::Tcp4,
                addresses: Some(Addresses {
                    source: SocketAddr::new(Ipv4Addr::from(*source).into(), source_port),
                    destination: SocketAddr::new(Ipv4Addr::from(*destination).into(), destination_port),
                }),
            })
        }
        (2, STREAM) => {
            let (source, rest) = rest.split_first_chunk::<16>().ok_or(Error::Short)?;
            let (destination, rest) = rest.split_first_chunk::<16>().ok_or(Error::Short)?;
            let (source_port, destination_port) = ports(rest)?;
            Ok(Header {
                kind: Kind::Tcp6,
                addresses: Some(Addresses {
                    source: SocketAddr::new(Ipv6Addr::from(*source).into(), source_port),
                    destination: SocketAddr::new(Ipv6Addr::from(*destination).into(), destination_port),
                }),
            })
        }
        (3, STREAM) if rest.len() >= UNIX => Ok(plain(Kind::Unix)),
        (3, STREAM) => Err(Error::Short),
        // Datagrams carry no HTTP/1, and other families are to be rejected (§2.2).
        _ => Err(Error::Family),
    }
}

fn ports(rest: &[u8]) -> Result<(u16, u16), Error> {
    let four: &[u8; 4] = rest.first_chunk().ok_or(Error::Short)?;
    let [a, b, c, d] = *four;
    Ok((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
}
