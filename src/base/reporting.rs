//! Where metrics and log lines are reported besides the files: what `config` reads and `logging` acts on.

use std::net::SocketAddr;
use std::path::PathBuf;

/// Where metrics go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statsd {
    /// The daemon.
    pub host: StatsdHost,
    /// Text before every name, empty or ending in a dot.
    pub prefix: String,
    /// DogStatsD tags, comma-separated; empty = none.
    pub tags: String,
    /// Report the backlog of listeners.
    pub backlog_metric: bool,
}

/// Where a statsd daemon listens for datagrams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StatsdHost {
    /// `HOST:PORT`
    Udp(SocketAddr),
    /// `unix://PATH`
    Unix(PathBuf),
}

/// Where logs go besides the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Syslog {
    /// The daemon.
    pub address: SyslogAddress,
    /// What stands between `gunicorn.` and `.error` in a tag.
    pub prefix: String,
    /// The number of the facility, 0 to 23.
    pub facility: u8,
    /// Access lines stay out of it.
    pub no_access: bool,
}

/// Where a syslog daemon listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyslogAddress {
    /// `udp://HOST:PORT`
    Udp(SocketAddr),
    /// `tcp://HOST:PORT`
    Tcp(SocketAddr),
    /// `unix://PATH`, `unix://PATH#dgram`, `unix://PATH#stream`
    Unix(PathBuf, SyslogSocket),
}

/// The type of a syslog daemon's unix socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyslogSocket {
    /// Datagrams.
    Datagram,
    /// A stream.
    Stream,
    /// Datagrams if the socket takes them, else a stream.
    Either,
}
