//! Version 1, the line of text: `PROXY TCP4 192.0.2.1 198.51.100.1 56324 443` and CRLF (§2.1).

use super::error::Error;
use super::header::{Addresses, Header, Kind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// What a line begins with.
pub(super) const PREFIX: &[u8] = b"PROXY ";

/// Bytes of the longest line, CRLF included (§2.1).
const LIMIT: usize = 107;

/// The header and its length, if it is whole.
pub(super) fn read(input: &[u8]) -> Result<Option<(usize, Header)>, Error> {
    let start = input.get(..LIMIT).unwrap_or(input);
    let Some(end) = memchr::memchr(b'\n', start) else {
        return if input.len() < LIMIT {
            Ok(None)
        } else {
            Err(Error::LineTooLong)
        };
    };
    let line = start.get(..end).and_then(|line| line.strip_suffix(b"\r"));
    let header = line.and_then(read_line).ok_or(Error::Line)?;
    Ok(Some((end + 1, header)))
}

fn read_line(line: &[u8]) -> Option<Header> {
    // Also what keeps other controls, a second CR and non-ASCII out.
    if !line.iter().all(|byte| (b' '..=b'~').contains(byte)) {
        return None;
    }
    let text = std::str::from_utf8(line).ok()?;
    let mut words = text.split(' ').skip(1);
    let kind = match words.next()? {
        // §2.1: whatever comes after it must be ignored.
        "UNKNOWN" => {
            return Some(Header {
                kind: Kind::Unknown,
                addresses: None,
            });
        }
        "TCP4" => Kind::Tcp4,
        "TCP6" => Kind::Tcp6,
        _ => return None,
    };
    let mut next_address = || {
        let word = words.next()?;
        if kind == Kind::Tcp4 {
            Ipv4Addr::from_str(word).map(IpAddr::V4).ok()
        } else {
            Ipv6Addr::from_str(word).map(IpAddr::V6).ok()
        }
    };
    let (source, destination) = (next_address()?, next_address()?);
    let mut next_port = || port(words.next()?);
    let addresses = Addresses {
        source: SocketAddr::new(source, next_port()?),
        destination: SocketAddr::new(destination, next_port()?),
    };
    words.next().is_none().then_some(Header {
        kind,
        addresses: Some(addresses),
    })
}

/// 0 to 65535 without leading zeros: they would be octal to others (§2.1).
fn port(word: &str) -> Option<u16> {
    let is_plain = word.bytes().all(|byte| byte.is_ascii_digit()) && (word == "0" || !word.starts_with('0'));
    if is_plain { word.parse().ok() } else { None }
}
