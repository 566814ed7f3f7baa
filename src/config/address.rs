//! Addresses as people write them: where to listen, what to connect to, whom to trust.
//!
//! Host names are resolved here, once, so that everything later is numeric.

use super::{Bind, Network, Trust, Upstream};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

/// The port of an address without one.
const DEFAULT_PORT: u16 = 8000;

/// The longest path of a unix socket: 108 bytes with its final NUL (unix(7)).
pub(super) const UNIX_PATH_LIMIT: usize = 107;

const BIND_EXAMPLE: &str = "for example 127.0.0.1:8000, :8000, [::1]:8000 or unix:/run/app.sock";
const UPSTREAM_EXAMPLE: &str = "for example unix:/run/php/fpm.sock or tcp:127.0.0.1:9000";

/// Why an address is refused, after the setting's name, and what to do.
pub(super) type Refusal = (String, &'static str);

impl Bind {
    /// Reads `HOST`, `HOST:PORT`, `:PORT`, `[V6]:PORT`, `unix:PATH` or `fd://N`; relative paths start from `start`.
    /// Nothing at all is every IPv4 address, as in Gunicorn.
    pub(super) fn parse(text: &str, start: &Path) -> Result<Self, Refusal> {
        let text = text.trim();
        if let Some(number) = text.strip_prefix("fd://") {
            let number = number.parse().ok().filter(|n| *n >= 0);
            let refusal = || (form(text, "fd://N with a descriptor number"), "for example fd://3");
            return number.map(Self::Fd).ok_or_else(refusal);
        }
        if let Some(path) = unix_path(text, start)? {
            return Ok(Self::Unix(path));
        }
        let host_and_port = text.strip_prefix("tcp://").unwrap_or(text);
        if !host_and_port.is_empty() && host_and_port.bytes().all(|b| b.is_ascii_digit()) {
            return Err((
                form(text, "an address"),
                "a port alone is written :PORT, for example :8000",
            ));
        }
        resolve(host_and_port, Some(DEFAULT_PORT), BIND_EXAMPLE).map(Self::Tcp)
    }

    /// The address as `Bind::parse` takes it.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Tcp(address) => address.to_string(),
            Self::Unix(path) => format!("unix:{}", path.display()),
            Self::Fd(number) => format!("fd://{number}"),
        }
    }
}

impl Upstream {
    /// Reads `unix:PATH` or `tcp:HOST:PORT`.
    pub(super) fn parse(text: &str, start: &Path) -> Result<Self, Refusal> {
        let text = text.trim();
        if let Some(path) = unix_path(text, start)? {
            return Ok(Self::Unix(path));
        }
        let Some(rest) = text.strip_prefix("tcp:") else {
            return Err((form(text, "unix:PATH or tcp:HOST:PORT"), UPSTREAM_EXAMPLE));
        };
        resolve(rest.strip_prefix("//").unwrap_or(rest), None, UPSTREAM_EXAMPLE).map(Self::Tcp)
    }

    /// The address as `Upstream::parse` takes it.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Tcp(address) => format!("tcp:{address}"),
            Self::Unix(path) => format!("unix:{}", path.display()),
        }
    }
}

impl Trust {
    /// Reads addresses and networks; `*` means everybody.
    pub(super) fn parse(texts: &[String]) -> Result<Self, (usize, Refusal)> {
        let mut trust = Self::default();
        for (place, text) in texts.iter().enumerate() {
            if text == "*" {
                trust.all = true;
            } else {
                trust
                    .networks
                    .push(Network::parse(text).map_err(|refusal| (place, refusal))?);
            }
        }
        Ok(trust)
    }

    /// True if `peer` is believed. IPv4-mapped IPv6 addresses count as IPv4.
    #[must_use]
    pub fn contains(&self, peer: IpAddr) -> bool {
        self.all || self.networks.iter().any(|network| network.contains(peer))
    }
}

impl Network {
    /// Reads `10.0.0.0/8`, or one address.
    fn parse(text: &str) -> Result<Self, Refusal> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(a, p)| (a, Some(p)));
        let example = "for example 10.1.2.3, 10.0.0.0/8, fd00::/8 or *";
        let wrong = || (form(text, "an address, a network or *"), example);
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => bits,
            Some(prefix) => prefix.parse().ok().filter(|p| *p <= bits).ok_or_else(wrong)?,
        };
        let network = Self { address, prefix };
        if network.masked(address) == network.masked_bits(address, bits) {
            Ok(network)
        } else {
            Err((
                format!("{text} has bits set beyond its prefix"),
                "write the network's own address, or leave the prefix out for one host",
            ))
        }
    }

    /// True if `peer` lies in it.
    #[must_use]
    pub fn contains(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        peer.is_ipv4() == self.address.is_ipv4() && self.masked(peer) == self.masked(self.address)
    }

    fn masked(&self, address: IpAddr) -> u128 {
        self.masked_bits(address, self.prefix)
    }

    /// The first `prefix` bits of an address, the others zero.
    fn masked_bits(&self, address: IpAddr, prefix: u8) -> u128 {
        let (bits, width) = match address {
            IpAddr::V4(address) => (u128::from(address.to_bits()), 32_u32),
            IpAddr::V6(address) => (address.to_bits(), 128),
        };
        let host = width.saturating_sub(u32::from(prefix));
        bits.checked_shr(host).unwrap_or(0).checked_shl(host).unwrap_or(0)
    }
}

/// "must be X, but not Y" without its beginning.
fn form(text: &str, wanted: &str) -> String {
    format!("must be {wanted}, but not {}", super::kind::shown_text(text))
}

/// The path of `unix:PATH` or `unix://PATH`, absolute; `None` if the text is no unix address.
fn unix_path(text: &str, start: &Path) -> Result<Option<PathBuf>, Refusal> {
    let Some(path) = text.strip_prefix("unix:") else {
        return Ok(None);
    };
    let path = path.strip_prefix("//").unwrap_or(path);
    if path.is_empty() {
        return Err((form(text, "unix:PATH"), "for example unix:/run/app.sock"));
    }
    let path = start.join(path);
    if path.as_os_str().len() > UNIX_PATH_LIMIT {
        let length = path.as_os_str().len();
        return Err((
            format!("is {length} bytes long as a path, but a unix socket's path has at most {UNIX_PATH_LIMIT}"),
            "choose a shorter path",
        ));
    }
    Ok(Some(path))
}

/// Resolves `HOST:PORT`, `[V6]:PORT`, `:PORT` and, with a default port, the same without port.
pub(super) fn resolve(text: &str, default_port: Option<u16>, example: &'static str) -> Result<SocketAddr, Refusal> {
    let wrong = || (form(text, "HOST:PORT"), example);
    let (host, port) = split_port(text).ok_or_else(wrong)?;
    let port = match port {
        Some(port) => port.parse().map_err(|_| wrong())?,
        None => default_port.ok_or_else(wrong)?,
    };
    if host.is_empty() {
        return Ok(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port));
    }
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(SocketAddr::new(address, port));
    }
    let unknown = |reason: String| (format!("names an unknown host, {host}: {reason}"), example);
    let found: Vec<SocketAddr> = (host, port)
        .to_socket_addrs()
        .map_err(|e| unknown(e.to_string()))?
        .collect();
    let first = found.iter().find(|address| address.is_ipv4()).or(found.first());
    first.copied().ok_or_else(|| unknown("no address".to_owned()))
}

/// True if a text has the form of an address with or without a port, whatever its host is.
pub(super) fn is_address(text: &str) -> bool {
    split_port(text).is_some_and(|(_, port)| port.is_none_or(|port| port.parse::<u16>().is_ok()))
}

/// Splits host and port. A bare IPv6 address is refused: its last group could be a port.
fn split_port(text: &str) -> Option<(&str, Option<&str>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        host.parse::<std::net::Ipv6Addr>().ok()?;
        return if rest.is_empty() {
            Some((host, None))
        } else {
            Some((host, Some(rest.strip_prefix(':')?)))
        };
    }
    match text.split_once(':') {
        None => Some((text, None)),
        Some((host, port)) if !port.contains(':') => Some((host, Some(port))),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binds() {
        let cases: &[(&str, Option<&str>)] = &[
            ("127.0.0.1:80", Some("127.0.0.1:80")),
            ("127.0.0.1", Some("127.0.0.1:8000")),
            ("tcp://127.0.0.1:80", Some("127.0.0.1:80")),
            (":9", Some("0.0.0.0:9")),
            ("localhost:0", Some("127.0.0.1:0")),
            ("[::1]:80", Some("[::1]:80")),
            ("[::1]", Some("[::1]:8000")),
            ("unix:/run/x", Some("unix:/run/x")),
            ("unix:///run/x", Some("unix:/run/x")),
            ("unix:x", Some("unix:/start/x")),
            ("fd://3", Some("fd://3")),
            ("::1", None),
            ("[::1", None),
            ("[::1]80", None),
            ("8000", None),
            ("", Some("0.0.0.0:8000")),
            ("tcp://", Some("0.0.0.0:8000")),
            ("a:b", None),
            ("127.0.0.1:65536", None),
            ("127.0.0.1:-1", None),
            ("unix:", None),
            ("fd://x", None),
            ("fd://-1", None),
        ];
        for (text, expected) in cases {
            let found = Bind::parse(text, Path::new("/start")).ok().map(|bind| bind.text());
            assert_eq!(found.as_deref(), *expected, "{text:?}");
        }
        let long = |n: usize| format!("unix:/{}", "a".repeat(n - 1));
        assert!(Bind::parse(&long(UNIX_PATH_LIMIT), Path::new("/")).is_ok());
        assert!(Bind::parse(&long(UNIX_PATH_LIMIT + 1), Path::new("/")).is_err());
    }

    #[test]
    fn upstreams() {
        let text = |text| Upstream::parse(text, Path::new("/start")).ok().map(|u| u.text());
        assert_eq!(text("tcp:127.0.0.1:9000").as_deref(), Some("tcp:127.0.0.1:9000"));
        assert_eq!(text("tcp://[::1]:9000").as_deref(), Some("tcp:[::1]:9000"));
        assert_eq!(text("unix:a").as_deref(), Some("unix:/start/a"));
        assert_eq!(text("127.0.0.1:9000"), None);
        assert_eq!(text("tcp:127.0.0.1"), None, "a port is needed");
    }

    #[test]
    fn trusted_networks() {
        let trust = |texts: &[&str]| Trust::parse(&texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>());
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let some = trust(&["10.0.0.0/8", "::1", "192.0.2.7"]).unwrap();
        for (peer, expected) in [
            ("10.255.0.1", true),
            ("11.0.0.1", false),
            ("::ffff:10.0.0.1", true),
            ("::1", true),
            ("::2", false),
            ("192.0.2.7", true),
            ("192.0.2.6", false),
        ] {
            assert_eq!(some.contains(ip(peer)), expected, "{peer}");
        }
        assert!(trust(&["*"]).unwrap().contains(ip("203.0.113.1")));
        assert!(trust(&["0.0.0.0/0"]).unwrap().contains(ip("203.0.113.1")));
        assert!(!trust(&["0.0.0.0/0"]).unwrap().contains(ip("2001:db8::1")));
        assert!(trust(&["::/0"]).unwrap().contains(ip("2001:db8::1")));
        for wrong in ["10.0.0.1/8", "10.0.0.0/33", "::/129", "x", "10.0.0.0/", ""] {
            assert!(trust(&[wrong]).is_err(), "{wrong}");
        }
    }
}
