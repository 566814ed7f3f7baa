//! Metrics for a statsd daemon: every name and unit, and the datagrams, one per metric as Gunicorn sends them.
//!
//! | metric | type | unit | when |
//! |---|---|---|---|
//! | `gunicorn.requests` | counter | responses | each response |
//! | `gunicorn.request.duration` | timer | milliseconds | each response |
//! | `gunicorn.request.status.NNN` | counter | responses | each response |
//! | `gunicorn.workers` | gauge | processes | when the number changes, and every 10 s |
//! | `gunicorn.backlog` | histogram | connections | once a second, with `enable_backlog_metric` |
//! | `gunicorn.log.LEVEL` | counter | lines | each line of level warning, error or critical |
//!
//! Never here: sockets (`outlet`), and when something is worth counting.

use super::outlet::{Outlet, Target};
use crate::base::level::Level;
use crate::base::reporting::{self, StatsdHost};
use std::io::Write;
use std::time::{Duration, Instant};

/// Processes of apps.
pub const WORKERS: &str = "gunicorn.workers";
/// Connections that wait to be accepted.
pub const BACKLOG: &str = "gunicorn.backlog";
const REQUESTS: &str = "gunicorn.requests";
const DURATION: &str = "gunicorn.request.duration";
const STATUS: &str = "gunicorn.request.status.";

/// Bytes of metrics that may wait for a daemon that is away: some seconds' worth, since old metrics are of no use.
const LIMIT: usize = 256 * 1024;

/// The counter of lines of a level.
fn log_counter(level: Level) -> Option<&'static str> {
    match level {
        Level::Critical => Some("gunicorn.log.critical"),
        Level::Error => Some("gunicorn.log.error"),
        Level::Warning => Some("gunicorn.log.warning"),
        Level::Info | Level::Debug => None,
    }
}

/// The metrics of one process.
#[derive(Debug)]
pub(super) struct Statsd {
    prefix: String,
    /// What ends each datagram: empty, or the tags.
    end: String,
    outlet: Outlet,
}

impl Statsd {
    pub(super) fn new(settings: &reporting::Statsd) -> Self {
        let target = match &settings.host {
            StatsdHost::Udp(address) => Target::Udp(*address),
            StatsdHost::Unix(path) => Target::UnixDatagram(path.clone()),
        };
        let tags = &settings.tags;
        Self {
            prefix: settings.prefix.clone(),
            end: if tags.is_empty() {
                String::new()
            } else {
                format!("|#{tags}")
            },
            outlet: Outlet::new(target, "metrics", LIMIT),
        }
    }

    /// A response has ended.
    pub(super) fn response(&mut self, status: u16, elapsed: Duration) {
        let mut digits = itoa::Buffer::new();
        self.send(DURATION, "", &[], |out| push_milliseconds(elapsed, out), b"|ms");
        self.count(REQUESTS, "");
        self.count(STATUS, digits.format(status));
    }

    /// A line was logged, or would have been at a lower threshold.
    pub(super) fn line(&mut self, level: Level) {
        if let Some(name) = log_counter(level) {
            self.count(name, "");
        }
    }

    /// The value of something now.
    pub(super) fn gauge(&mut self, name: &str, value: u64) {
        self.send(name, "", itoa::Buffer::new().format(value).as_bytes(), |_| (), b"|g");
    }

    /// One of many values whose distribution counts.
    pub(super) fn histogram(&mut self, name: &str, value: u64) {
        self.send(name, "", itoa::Buffer::new().format(value).as_bytes(), |_| (), b"|h");
    }

    fn count(&mut self, name: &str, more: &str) {
        self.send(name, more, b"1", |_| (), b"|c|@1.0");
    }

    fn send(&mut self, name: &str, more: &str, value: &[u8], render: impl FnOnce(&mut Vec<u8>), kind: &[u8]) {
        let Self { prefix, end, outlet } = self;
        outlet.push(|out| {
            for text in [prefix.as_bytes(), name.as_bytes(), more.as_bytes(), b":", value] {
                out.extend_from_slice(text);
            }
            render(out);
            out.extend_from_slice(kind);
            out.extend_from_slice(end.as_bytes());
        });
    }

    pub(super) fn flush(&mut self, now: Instant) {
        self.outlet.flush(now);
    }

    pub(super) fn complaint(&mut self, now: Instant) -> Option<String> {
        self.outlet.complaint(now)
    }
}

/// Milliseconds with as many decimals as they need, at least one: `12.5`, `3.0`, as Python writes floats.
fn push_milliseconds(elapsed: Duration, out: &mut Vec<u8>) {
    let decimals = elapsed.subsec_micros() % 1000;
    // Writing to a vector does not fail.
    let _ = write!(out, "{}.{decimals:03}", elapsed.as_millis());
    while out.ends_with(b"0") && !out.ends_with(b".0") {
        out.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    fn received(tags: &str, prefix: &str, act: impl FnOnce(&mut Statsd)) -> Vec<String> {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut statsd = Statsd::new(&reporting::Statsd {
            host: StatsdHost::Udp(server.local_addr().unwrap()),
            prefix: prefix.to_owned(),
            tags: tags.to_owned(),
            backlog_metric: false,
        });
        act(&mut statsd);
        statsd.count("end", "");
        statsd.flush(crate::sys::clock::now());
        let mut found = Vec::new();
        let mut buffer = [0; 200];
        loop {
            let count = server.recv(&mut buffer).unwrap();
            let text = String::from_utf8(buffer[..count].to_vec()).unwrap();
            if text.contains("end:") {
                return found;
            }
            found.push(text);
        }
    }

    #[test]
    fn metrics_have_gunicorns_names_and_form() {
        let found = received("", "", |statsd| {
            statsd.response(404, Duration::from_micros(12_500));
            statsd.gauge(WORKERS, 3);
            statsd.histogram(BACKLOG, 0);
            for level in Level::ALL {
                statsd.line(level);
            }
        });
        assert_eq!(
            found,
            [
                "gunicorn.request.duration:12.5|ms",
                "gunicorn.requests:1|c|@1.0",
                "gunicorn.request.status.404:1|c|@1.0",
                "gunicorn.workers:3|g",
                "gunicorn.backlog:0|h",
                "gunicorn.log.warning:1|c|@1.0",
                "gunicorn.log.error:1|c|@1.0",
                "gunicorn.log.critical:1|c|@1.0",
            ]
        );
    }

    #[test]
    fn a_prefix_comes_first_and_tags_come_last() {
        let found = received("env:prod,team:a", "shop.", |statsd| statsd.gauge(WORKERS, 1));
        assert_eq!(found, ["shop.gunicorn.workers:1|g|#env:prod,team:a"]);
    }

    #[test]
    fn milliseconds_read_as_python_writes_them() {
        for (micros, expected) in [
            (0, "0.0"),
            (1, "0.001"),
            (10, "0.01"),
            (3000, "3.0"),
            (1_234_567, "1234.567"),
            (100_100, "100.1"),
        ] {
            let mut out = Vec::new();
            push_milliseconds(Duration::from_micros(micros), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}
