//! Messages on their way to a daemon: kept while it is away, sent in batches, dropped and counted past a limit.
//!
//! Nothing here ever waits, and no failure ends anything. Never here: what the messages say.

use crate::sys::remote::Remote;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Time between attempts to connect.
const RETRY: Duration = Duration::from_secs(1);

/// Complaints about one daemon are this far apart.
const COMPLAINT_PAUSE: Duration = Duration::from_secs(600);

/// Where messages go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Udp(SocketAddr),
    Tcp(SocketAddr),
    UnixDatagram(PathBuf),
    UnixStream(PathBuf),
    /// Datagrams if the socket takes them, else a stream.
    Unix(PathBuf),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Udp(address) => write!(f, "udp://{address}"),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
            Self::UnixDatagram(path) | Self::UnixStream(path) | Self::Unix(path) => {
                write!(f, "unix://{}", path.display())
            }
        }
    }
}

#[derive(Debug)]
enum Link {
    Datagrams(Remote),
    Stream(Remote),
}

/// The messages for one daemon.
#[derive(Debug)]
pub(super) struct Outlet {
    target: Target,
    /// What the messages are, for complaints.
    what: &'static str,
    link: Option<Link>,
    next_attempt: Option<Instant>,
    /// The messages that wait, one behind the other.
    bytes: Vec<u8>,
    /// Where each of them ends.
    ends: Vec<usize>,
    /// How many of them are done.
    done: usize,
    /// Bytes of a stream that are done, which may lie within a message.
    sent: usize,
    limit: usize,
    dropped: u64,
    failure: Option<io::Error>,
    next_complaint: Option<Instant>,
}

impl Outlet {
    /// Nothing is opened before something is sent. At most `limit` bytes wait.
    pub(super) fn new(target: Target, what: &'static str, limit: usize) -> Self {
        Self {
            target,
            what,
            link: None,
            next_attempt: None,
            bytes: Vec::new(),
            ends: Vec::new(),
            done: 0,
            sent: 0,
            limit,
            dropped: 0,
            failure: None,
            next_complaint: None,
        }
    }

    /// Takes the message that `render` appends, unless too much waits already.
    pub(super) fn push(&mut self, render: impl FnOnce(&mut Vec<u8>)) {
        let before = self.bytes.len();
        if before >= self.limit {
            self.dropped += 1;
            return;
        }
        render(&mut self.bytes);
        if self.bytes.len() > self.limit {
            self.bytes.truncate(before);
            self.dropped += 1;
        } else {
            self.ends.push(self.bytes.len());
        }
    }

    /// Sends what the daemon takes without waiting.
    pub(super) fn flush(&mut self, now: Instant) {
        while self.done < self.ends.len() {
            let Some(link) = self.connected(now) else { break };
            let sent = match link {
                Link::Datagrams(remote) => self.send_datagrams(&remote).map(|()| Link::Datagrams(remote)),
                Link::Stream(remote) => self.send_stream(&remote).map(|()| Link::Stream(remote)),
            };
            match sent {
                Ok(link) => {
                    self.link = Some(link);
                    break;
                }
                // The daemon may have been started anew: the next turn of this loop connects again, if it is time.
                Err(error) => self.lose(error),
            }
        }
        self.compact();
    }

    /// The link, in the caller's hands; a new one if it is time.
    fn connected(&mut self, now: Instant) -> Option<Link> {
        if self.link.is_some() {
            return self.link.take();
        }
        if self.next_attempt.is_some_and(|at| now < at) {
            return None;
        }
        self.next_attempt = Some(now + RETRY);
        let datagrams = |remote| Some(Link::Datagrams(remote));
        let stream = |remote| Some(Link::Stream(remote));
        let link = match &self.target {
            Target::Udp(address) => Remote::udp(*address).map(datagrams),
            Target::Tcp(address) => Remote::tcp(*address).map(stream),
            Target::UnixDatagram(path) => Remote::unix_datagram(path).map(datagrams),
            Target::UnixStream(path) => Remote::unix_stream(path).map(stream),
            Target::Unix(path) => match Remote::unix_datagram(path) {
                Ok(remote) => Ok(datagrams(remote)),
                Err(_) => Remote::unix_stream(path).map(stream),
            },
        };
        link.unwrap_or_else(|error| {
            self.failure = Some(error);
            None
        })
    }

    fn send_datagrams(&mut self, remote: &Remote) -> io::Result<()> {
        let mut was_refused = false;
        while self.done < self.ends.len() {
            let mut start = self.start_of(self.done);
            let ends = self.ends.get(self.done..).unwrap_or_default();
            let parts = ends.iter().take(64).map(|end| {
                let part = self.bytes.get(start..*end).unwrap_or_default();
                start = *end;
                part
            });
            let parts: Vec<&[u8]> = parts.collect();
            match remote.send_datagrams(&parts) {
                Ok(count) => {
                    self.done += count.max(1);
                    was_refused = false;
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::OutOfMemory => return Ok(()),
                    // UDP's answer to an earlier datagram; this one was not sent and gets a second chance.
                    io::ErrorKind::ConnectionRefused if self.is_udp() && !was_refused => {
                        was_refused = true;
                        self.failure = Some(error);
                    }
                    _ if self.is_udp() || !is_about_the_link(&error) => {
                        self.failure = Some(error);
                        self.done += 1;
                        self.dropped += 1;
                        was_refused = false;
                    }
                    _ => return Err(error),
                },
            }
        }
        Ok(())
    }

    fn send_stream(&mut self, remote: &Remote) -> io::Result<()> {
        if let Some(error) = remote.end() {
            return Err(error);
        }
        while self.sent < self.bytes.len() {
            match remote.send(self.bytes.get(self.sent..).unwrap_or_default()) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        self.done = self.ends.partition_point(|end| *end <= self.sent);
        Ok(())
    }

    /// A link broke: what it had begun to send is lost, the rest is for the next one.
    fn lose(&mut self, error: io::Error) {
        self.failure = Some(error);
        if self.sent > self.start_of(self.done) {
            self.done += 1;
            self.dropped += 1;
        }
        self.sent = self.start_of(self.done);
    }

    /// Where a message begins.
    fn start_of(&self, place: usize) -> usize {
        let before = place.checked_sub(1).and_then(|before| self.ends.get(before));
        before.copied().unwrap_or(0)
    }

    fn is_udp(&self) -> bool {
        matches!(self.target, Target::Udp(_))
    }

    /// Gives back what is done.
    fn compact(&mut self) {
        if self.done == self.ends.len() {
            self.bytes.clear();
            self.ends.clear();
            (self.done, self.sent) = (0, 0);
            return;
        }
        let start = self.start_of(self.done);
        if start > self.bytes.len() / 2 {
            self.bytes.drain(..start);
            self.ends.drain(..self.done);
            self.ends.iter_mut().for_each(|end| *end -= start);
            self.sent = self.sent.saturating_sub(start);
            self.done = 0;
        }
    }

    /// What went wrong, for the error log: now and then, not every time.
    pub(super) fn complaint(&mut self, now: Instant) -> Option<String> {
        if (self.failure.is_none() && self.dropped == 0) || self.next_complaint.is_some_and(|at| now < at) {
            return None;
        }
        self.next_complaint = Some(now + COMPLAINT_PAUSE);
        let (what, target) = (self.what, &self.target);
        let reason = match self.failure.take() {
            Some(error) => error.to_string(),
            None => "it takes them too slowly".to_owned(),
        };
        let dropped = match std::mem::take(&mut self.dropped) {
            0 => String::new(),
            count => format!("; {count} were dropped"),
        };
        Some(format!("cannot send {what} to {target}: {reason}{dropped}"))
    }
}

/// True if a failure is about the daemon's socket, not about the one message.
fn is_about_the_link(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::NotConnected
            | io::ErrorKind::NotFound
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::PermissionDenied
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock;
    use std::io::Read;
    use std::net::{TcpListener, UdpSocket};
    use std::os::unix::net::{UnixDatagram, UnixListener};
    use std::path::Path;

    fn push(outlet: &mut Outlet, text: &str) {
        outlet.push(|out| out.extend_from_slice(text.as_bytes()));
    }

    fn receive(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 64];
        let count = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..count]).into_owned()
    }

    fn outlet(target: Target) -> Outlet {
        Outlet::new(target, "lines", 1000)
    }

    #[test]
    fn messages_wait_for_a_daemon_that_is_away_and_reach_its_successor() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        for target in [Target::UnixDatagram(path.clone()), Target::Unix(path.clone())] {
            let (mut outlet, start) = (outlet(target), clock::now());
            push(&mut outlet, "one");
            outlet.flush(start);
            assert!(
                outlet
                    .complaint(start)
                    .unwrap()
                    .starts_with("cannot send lines to unix://")
            );
            let first = UnixDatagram::bind(&path).unwrap();
            outlet.flush(start);
            assert_eq!(outlet.ends.len(), 1, "attempts have a pace");
            let second_time = start + RETRY;
            outlet.flush(second_time);
            assert_eq!(receive(&first), "one");
            drop(first);
            std::fs::remove_file(&path).unwrap();
            let second = UnixDatagram::bind(&path).unwrap();
            push(&mut outlet, "two");
            push(&mut outlet, "three");
            outlet.flush(second_time + RETRY);
            assert_eq!(
                (receive(&second), receive(&second)),
                ("two".to_owned(), "three".to_owned())
            );
            assert_eq!(
                outlet.complaint(second_time),
                None,
                "one complaint is enough for a while"
            );
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn what_a_slow_daemon_does_not_take_waits_up_to_a_limit_and_is_counted_beyond() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let server = UnixDatagram::bind(&path).unwrap();
        let (mut outlet, now) = (outlet(Target::UnixDatagram(path)), clock::now());
        for number in 0..2000 {
            push(&mut outlet, &format!("{number:03}"));
            outlet.flush(now);
        }
        let complaint = outlet.complaint(now).unwrap();
        assert!(complaint.contains("it takes them too slowly; "), "{complaint}");
        let mut expected = 0;
        while outlet.done < outlet.ends.len() || expected == 0 {
            assert_eq!(receive(&server), format!("{expected:03}"));
            expected += 1;
            outlet.flush(now);
        }
        assert!(expected > 10);
    }

    fn accept_and_read(server: &UnixListener, count: usize) -> (std::os::unix::net::UnixStream, String) {
        let (mut stream, _) = server.accept().unwrap();
        let mut buffer = vec![0; count];
        stream.read_exact(&mut buffer).unwrap();
        (stream, String::from_utf8(buffer).unwrap())
    }

    #[test]
    fn a_stream_starts_over_with_a_whole_message() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let server = UnixListener::bind(&path).unwrap();
        let (mut outlet, now) = (Outlet::new(Target::Unix(path.clone()), "lines", 4 << 20), clock::now());
        push(&mut outlet, "one.");
        outlet.flush(now);
        let (stream, text) = accept_and_read(&server, 4);
        assert_eq!(text, "one.");
        // More than the socket takes: the message that is cut is lost, the next is not.
        push(&mut outlet, &"x".repeat(2 << 20));
        push(&mut outlet, "last.");
        outlet.flush(now);
        assert!(outlet.sent > 0 && outlet.done == 0);
        drop((stream, server));
        std::fs::remove_file(&path).unwrap();
        let server = UnixListener::bind(&path).unwrap();
        outlet.flush(now + RETRY);
        assert_eq!(accept_and_read(&server, 5).1, "last.");
        assert!(outlet.complaint(now).unwrap().ends_with("; 1 were dropped"));
    }

    #[test]
    fn tcp_sends_once_the_connection_stands_and_udp_whether_anyone_listens_or_not() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let (mut tcp, now) = (outlet(Target::Tcp(server.local_addr().unwrap())), clock::now());
        push(&mut tcp, "one.");
        tcp.flush(now);
        let (mut stream, _) = server.accept().unwrap();
        while tcp.done < tcp.ends.len() {
            tcp.flush(now);
        }
        let mut buffer = [0; 4];
        stream.read_exact(&mut buffer).unwrap();
        assert_eq!(&buffer, b"one.");
        let address = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut udp = outlet(Target::Udp(address));
        for _ in 0..100 {
            push(&mut udp, "anything");
            udp.flush(now);
        }
        assert!(
            udp.ends.is_empty(),
            "nothing is kept for a daemon of which nothing is known"
        );
        assert!(
            udp.complaint(now)
                .unwrap()
                .starts_with(&format!("cannot send lines to udp://{address}: "))
        );
        let missing = Target::UnixStream(Path::new("/nonexistent/log").to_owned());
        assert_eq!(missing.to_string(), "unix:///nonexistent/log");
    }
}
