//! What is told to daemons besides the files: lines to syslog, metrics to statsd.

use super::statsd::Statsd;
use super::syslog::Syslog;
use crate::base::level::Level;
use crate::base::reporting;
use std::time::{Duration, Instant};

/// The daemons of one process.
#[derive(Debug)]
pub struct Relay {
    statsd: Option<Statsd>,
    syslog: Option<Syslog>,
    /// The process whose traceback is being printed.
    traceback: Option<i32>,
    /// The process whose last line is of level error. It is counted when the next line shows what kind it is.
    failed: Option<i32>,
}

impl Relay {
    /// `None` if nothing is set. Nothing is opened yet.
    #[must_use]
    pub fn new(statsd: Option<&reporting::Statsd>, syslog: Option<&reporting::Syslog>) -> Option<Self> {
        (statsd.is_some() || syslog.is_some()).then(|| Self {
            statsd: statsd.map(Statsd::new),
            syslog: syslog.map(Syslog::new),
            traceback: None,
            failed: None,
        })
    }

    /// True if access lines are wanted.
    #[must_use]
    pub fn takes_access(&self) -> bool {
        self.syslog.as_ref().is_some_and(Syslog::takes_access)
    }

    /// A line of ours, counted whether it is `kept` or below the threshold.
    pub(super) fn line(&mut self, level: Level, kept: bool, pid: u32, render: impl FnOnce(&mut Vec<u8>)) {
        if let Some(statsd) = &mut self.statsd {
            statsd.line(level);
        }
        if let Some(syslog) = self.syslog.as_mut().filter(|_| kept) {
            syslog.error_line(level, pid.into(), render);
        }
    }

    /// A line that process `pid` of an app printed: one that Python's logger has given its form has a level.
    pub(super) fn app_line(&mut self, pid: i32, line: &[u8]) {
        let line = line.trim_ascii_end();
        if line.is_empty() {
            return;
        }
        if self.failed == Some(pid) && begins_traceback(line) {
            self.failed = None;
            if let Some(statsd) = &mut self.statsd {
                statsd.exception();
            }
        }
        self.settle();
        let (pid, level, message) = if let Some((logger, level, message)) = formatted(line) {
            if level == Level::Error {
                self.failed = Some(pid);
            } else if let Some(statsd) = &mut self.statsd {
                statsd.line(level);
            }
            self.traceback = None;
            (logger, level, message)
        } else {
            (pid, self.plain_level(pid, line), line)
        };
        if let Some(syslog) = &mut self.syslog {
            // A NUL would end the message.
            let clean = |byte: &u8| if *byte == 0 { b'?' } else { *byte };
            syslog.error_line(level, pid.into(), |out| out.extend(message.iter().map(clean)));
        }
    }

    /// No line that could belong to the last one is to come: a logger writes both at once.
    pub(super) fn settle(&mut self) {
        if self.failed.take().is_some()
            && let Some(statsd) = &mut self.statsd
        {
            statsd.line(Level::Error);
        }
    }

    /// The level of a line without a form: a traceback, from its first line to the one that names the exception, is an
    /// error, anything else information.
    fn plain_level(&mut self, pid: i32, line: &[u8]) -> Level {
        if line.starts_with(b"Traceback (most recent call last)") {
            self.traceback = Some(pid);
            return Level::Error;
        }
        if self.traceback != Some(pid) {
            return Level::Info;
        }
        if !line.starts_with(b" ") {
            self.traceback = None;
        }
        Level::Error
    }

    /// A line of the access log, without its end.
    pub(super) fn access_line(&mut self, pid: i32, line: &[u8]) {
        if let Some(syslog) = &mut self.syslog {
            syslog.access_line(pid.into(), line);
        }
    }

    pub(super) fn response(&mut self, status: u16, elapsed: Duration) {
        if let Some(statsd) = &mut self.statsd {
            statsd.response(status, elapsed);
        }
    }

    pub(super) fn gauge(&mut self, name: &str, value: u64) {
        if let Some(statsd) = &mut self.statsd {
            statsd.gauge(name, value);
        }
    }

    pub(super) fn histogram(&mut self, name: &str, value: u64) {
        if let Some(statsd) = &mut self.statsd {
            statsd.histogram(name, value);
        }
    }

    /// Sends what the daemons take without waiting.
    pub(super) fn flush(&mut self, now: Instant) {
        if let Some(statsd) = &mut self.statsd {
            statsd.flush(now);
        }
        if let Some(syslog) = &mut self.syslog {
            syslog.flush(now);
        }
    }

    /// What went wrong, for the error log.
    pub(super) fn complaint(&mut self, now: Instant) -> Option<String> {
        let statsd = self.statsd.as_mut().and_then(|statsd| statsd.complaint(now));
        statsd.or_else(|| self.syslog.as_mut().and_then(|syslog| syslog.complaint(now)))
    }
}

/// True of the first line that Python's loggers write below a message that was logged with an exception.
fn begins_traceback(line: &[u8]) -> bool {
    line.starts_with(b"Traceback (most recent call last)") || line.starts_with(b"  + Exception Group Traceback")
}

/// Process, level and message of a line `[2026-11-20 09:09:28 +0000] [pid] [LEVEL] message`.
fn formatted(line: &[u8]) -> Option<(i32, Level, &[u8])> {
    fn bracketed(text: &[u8]) -> Option<(&str, &[u8])> {
        let rest = text.strip_prefix(b"[")?;
        let (inside, rest) = rest.split_at_checked(memchr::memchr(b']', rest)?)?;
        Some((std::str::from_utf8(inside).ok()?, rest.strip_prefix(b"] ")?))
    }
    let (time, rest) = bracketed(line)?;
    let (pid, rest) = bracketed(rest)?;
    let (level, message) = bracketed(rest)?;
    let level = Level::ALL.into_iter().find(|known| known.as_str() == level)?;
    let is_time = time.len() >= 19 && time.starts_with(|letter: char| letter.is_ascii_digit());
    is_time.then_some((pid.parse().ok()?, level, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::reporting::{StatsdHost, SyslogAddress, SyslogSocket};
    use std::net::UdpSocket;
    use std::os::unix::net::UnixDatagram;

    #[test]
    fn lines_with_the_form_of_a_log_have_its_level() {
        let line = b"[2026-11-20 09:09:28 +0000] [42] [ERROR] Error handling request GET /x";
        let expected = (42, Level::Error, &b"Error handling request GET /x"[..]);
        assert_eq!(formatted(line), Some(expected));
        for line in [
            "plain",
            "[x] [42] [ERROR] y",
            "[2026-11-20 09:09:28 +0000] [42] [LOUD] y",
            "[",
            "[] [] []",
        ] {
            assert_eq!(formatted(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn what_apps_print_keeps_its_level_and_a_traceback_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let (log, metrics) = (
            UnixDatagram::bind(&path).unwrap(),
            UdpSocket::bind("127.0.0.1:0").unwrap(),
        );
        let syslog = reporting::Syslog {
            address: SyslogAddress::Unix(path, SyslogSocket::Datagram),
            prefix: "shop".to_owned(),
            facility: 1,
            no_access: false,
        };
        let statsd = reporting::Statsd {
            host: StatsdHost::Udp(metrics.local_addr().unwrap()),
            prefix: String::new(),
            tags: String::new(),
            backlog_metric: false,
        };
        let mut relay = Relay::new(Some(&statsd), Some(&syslog)).unwrap();
        for (line, expected) in [
            (
                "[2026-11-20 09:09:28 +0000] [42] [ERROR] Error handling request GET /x\n",
                "<11>gunicorn.shop.error: [42] Error handling request GET /x\0",
            ),
            (
                "Traceback (most recent call last):\n",
                "<11>gunicorn.shop.error: [42] Traceback (most recent call last):\0",
            ),
            ("  File \"x\"\n", "<11>gunicorn.shop.error: [42]   File \"x\"\0"),
            ("ValueError: no\n", "<11>gunicorn.shop.error: [42] ValueError: no\0"),
            ("printed\0\n", "<14>gunicorn.shop.error: [42] printed?\0"),
            (
                "[2026-11-20 09:09:28 +0000] [43] [INFO] hello\n",
                "<14>gunicorn.shop.error: [43] hello\0",
            ),
        ] {
            relay.app_line(42, line.as_bytes());
            relay.flush(crate::sys::clock::now());
            let mut buffer = [0; 200];
            let count = log.recv(&mut buffer).unwrap();
            assert_eq!(std::str::from_utf8(&buffer[..count]).unwrap(), expected);
        }
        let mut buffer = [0; 200];
        let count = metrics.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..count], b"gunicorn.log.exception:1|c|@1.0");
    }

    #[test]
    fn an_error_with_a_traceback_right_below_it_is_an_exception() {
        const ERROR: (i32, &str) = (42, "[2026-11-20 09:09:28 +0000] [42] [ERROR] it failed\n");
        const CRITICAL: (i32, &str) = (42, "[2026-11-20 09:09:28 +0000] [42] [CRITICAL] it failed\n");
        const INFO: (i32, &str) = (42, "[2026-11-20 09:09:28 +0000] [42] [INFO] hello\n");
        const TRACEBACK: (i32, &str) = (42, "Traceback (most recent call last):\n");
        const GROUP: (i32, &str) = (42, "  + Exception Group Traceback (most recent call last):\n");
        const PLAIN: (i32, &str) = (42, "printed\n");
        const OTHERS: (i32, &str) = (43, "Traceback (most recent call last):\n");
        for (lines, expected) in [
            (&[ERROR, TRACEBACK][..], "exception:1"),
            (&[ERROR, GROUP], "exception:1"),
            (&[ERROR, TRACEBACK, ERROR, TRACEBACK], "exception:2"),
            (&[ERROR], "error:1"),
            (&[ERROR, INFO, TRACEBACK], "error:1"),
            (&[ERROR, PLAIN, TRACEBACK], "error:1"),
            (&[ERROR, OTHERS], "error:1"),
            (&[ERROR, ERROR, TRACEBACK], "error:1 exception:1"),
            (&[CRITICAL, TRACEBACK], "critical:1"),
            (&[TRACEBACK], ""),
        ] {
            let metrics = UdpSocket::bind("127.0.0.1:0").unwrap();
            let statsd = reporting::Statsd {
                host: StatsdHost::Udp(metrics.local_addr().unwrap()),
                prefix: String::new(),
                tags: String::new(),
                backlog_metric: false,
            };
            let mut relay = Relay::new(Some(&statsd), None).unwrap();
            for (pid, line) in lines {
                relay.app_line(*pid, line.as_bytes());
            }
            relay.settle();
            relay.flush(crate::sys::clock::now());
            metrics.set_nonblocking(true).unwrap();
            let mut found = Vec::new();
            let mut buffer = [0; 200];
            while let Ok(count) = metrics.recv(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
                found.extend(
                    text.strip_prefix("gunicorn.log.")
                        .map(|rest| rest.replace("|c|@1.0", "")),
                );
            }
            assert_eq!(found.join(" "), expected, "{lines:?}");
        }
    }

    #[test]
    fn without_settings_there_is_none() {
        assert!(Relay::new(None, None).is_none());
    }
}
