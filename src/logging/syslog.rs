//! Log lines for a syslog daemon, in the short form that Gunicorn sends: `<14>gunicorn.NAME.error: [pid] message`.
//!
//! RFC 3164 §4.1 without time and host, which the daemon adds. Never here: sockets (`outlet`).

use super::outlet::{Outlet, Target};
use crate::base::level::Level;
use crate::base::reporting::{self, SyslogAddress, SyslogSocket};
use std::time::Instant;

/// Bytes of messages that may wait for a daemon that is away.
const LIMIT: usize = 1024 * 1024;

/// Bytes of a message; the rest is cut off. Daemons take 8 KiB or less unless told otherwise.
const MESSAGE: usize = 16 * 1024;

/// RFC 3164 §4.1.1.
fn severity(level: Level) -> u8 {
    match level {
        Level::Critical => 2,
        Level::Error => 3,
        Level::Warning => 4,
        Level::Info => 6,
        Level::Debug => 7,
    }
}

/// The lines of one process.
#[derive(Debug)]
pub(super) struct Syslog {
    facility: u8,
    /// `gunicorn.NAME.`
    tag: String,
    /// TCP: see `end`.
    is_tcp: bool,
    no_access: bool,
    outlet: Outlet,
}

impl Syslog {
    pub(super) fn new(settings: &reporting::Syslog) -> Self {
        let target = match &settings.address {
            SyslogAddress::Udp(address) => Target::Udp(*address),
            SyslogAddress::Tcp(address) => Target::Tcp(*address),
            SyslogAddress::Unix(path, SyslogSocket::Datagram) => Target::UnixDatagram(path.clone()),
            SyslogAddress::Unix(path, SyslogSocket::Stream) => Target::UnixStream(path.clone()),
            SyslogAddress::Unix(path, SyslogSocket::Either) => Target::Unix(path.clone()),
        };
        Self {
            facility: settings.facility,
            tag: format!("gunicorn.{}.", settings.prefix),
            is_tcp: matches!(target, Target::Tcp(_)),
            no_access: settings.no_access,
            outlet: Outlet::new(target, "log lines to syslog", LIMIT),
        }
    }

    /// True if access lines are sent, too.
    pub(super) fn takes_access(&self) -> bool {
        !self.no_access
    }

    /// A line of the error log: what follows time and level.
    pub(super) fn error_line(&mut self, level: Level, pid: i64, render: impl FnOnce(&mut Vec<u8>)) {
        self.send("error", level, pid, render);
    }

    /// A line of the access log, without its end.
    pub(super) fn access_line(&mut self, pid: i64, line: &[u8]) {
        if !self.no_access {
            self.send("access", Level::Info, pid, |out| out.extend_from_slice(line));
        }
    }

    fn send(&mut self, log: &str, level: Level, pid: i64, render: impl FnOnce(&mut Vec<u8>)) {
        let Self {
            facility,
            tag,
            is_tcp,
            outlet,
            ..
        } = self;
        let priority = *facility * 8 + severity(level);
        outlet.push(|out| {
            let start = out.len();
            let mut digits = itoa::Buffer::new();
            out.push(b'<');
            out.extend_from_slice(digits.format(priority).as_bytes());
            out.push(b'>');
            out.extend_from_slice(tag.as_bytes());
            out.extend_from_slice(log.as_bytes());
            out.extend_from_slice(b": [");
            out.extend_from_slice(digits.format(pid).as_bytes());
            out.extend_from_slice(b"] ");
            render(out);
            cut(start + MESSAGE, out);
            if *is_tcp {
                // Daemons take a line feed for the end of a message on TCP (RFC 6587 §3.4.2), some a NUL. So a message has
                // both behind it, and none within; rsyslog writes line feeds in messages this way, too.
                let lines = out.split_off(start);
                for (place, line) in lines.split(|byte| *byte == b'\n').enumerate() {
                    out.extend_from_slice(if place == 0 { b"" } else { b"#012" });
                    out.extend_from_slice(line);
                }
                out.extend_from_slice(b"\0\n");
            } else {
                out.push(0);
            }
        });
    }

    pub(super) fn flush(&mut self, now: Instant) {
        self.outlet.flush(now);
    }

    pub(super) fn complaint(&mut self, now: Instant) -> Option<String> {
        self.outlet.complaint(now)
    }
}

/// Cuts a text, not within a character.
fn cut(mut end: usize, text: &mut Vec<u8>) {
    while text.get(end).is_some_and(|byte| byte & 0xc0 == 0x80) {
        end -= 1;
    }
    text.truncate(end);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::{SocketAddr, TcpListener, UdpSocket};

    fn syslog(address: SyslogAddress, facility: u8, no_access: bool) -> Syslog {
        Syslog::new(&reporting::Syslog {
            address,
            prefix: "shop".to_owned(),
            facility,
            no_access,
        })
    }

    fn udp(facility: u8, act: impl FnOnce(&mut Syslog)) -> Vec<String> {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut syslog = syslog(SyslogAddress::Udp(server.local_addr().unwrap()), facility, false);
        act(&mut syslog);
        syslog.error_line(Level::Info, 0, |_| ());
        syslog.flush(crate::sys::clock::now());
        let mut found = Vec::new();
        let mut buffer = [0; 20_000];
        loop {
            let count = server.recv(&mut buffer).unwrap();
            let text = String::from_utf8(buffer[..count].to_vec()).unwrap();
            if text.contains("[0]") {
                return found;
            }
            found.push(text);
        }
    }

    #[test]
    fn lines_have_priority_tag_pid_and_a_final_nul() {
        let found = udp(16, |syslog| {
            for level in Level::ALL {
                syslog.error_line(level, 42, |out| out.extend_from_slice(b"what\n  more"));
            }
            syslog.access_line(7, b"GET /");
        });
        let line = |priority: u8| format!("<{priority}>gunicorn.shop.error: [42] what\n  more\0");
        let mut expected: Vec<String> = [135, 134, 132, 131, 130].map(line).into();
        expected.push("<134>gunicorn.shop.access: [7] GET /\0".to_owned());
        assert_eq!(found, expected);
    }

    #[test]
    fn long_lines_are_cut_between_characters() {
        let found = udp(1, |syslog| syslog.access_line(7, "é".repeat(20_000).as_bytes()));
        let text = found[0].strip_suffix("é\0").expect("a whole last character");
        assert!(text.len() > MESSAGE - 10 && text.len() < MESSAGE);
    }

    #[test]
    fn over_tcp_a_message_is_one_line() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let address: SocketAddr = server.local_addr().unwrap();
        let mut syslog = syslog(SyslogAddress::Tcp(address), 1, true);
        syslog.error_line(Level::Error, 42, |out| out.extend_from_slice(b"what\n  more"));
        syslog.access_line(7, b"left out");
        assert!(!syslog.takes_access());
        syslog.error_line(Level::Error, 42, |out| out.extend_from_slice(b"next"));
        syslog.flush(crate::sys::clock::now());
        let (mut stream, _) = server.accept().unwrap();
        syslog.flush(crate::sys::clock::now());
        drop(syslog);
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert_eq!(
            text,
            "<11>gunicorn.shop.error: [42] what#012  more\0\n<11>gunicorn.shop.error: [42] next\0\n"
        );
    }
}
