//! Metrics for a statsd daemon: every name and unit, and the datagrams, one per metric as Gunicorn sends them.
//!
//! A datagram over loopback took about 11 us where it was measured, so they are given to the kernel in batches, and
//! what is counted several times between two flushes, which is one turn of a loop, is sent once with the sum.
//!
//! | metric | type | unit | when |
//! |---|---|---|---|
//! | `gunicorn.requests` | counter | responses | each response |
//! | `gunicorn.request.duration` | timer | milliseconds | each response |
//! | `gunicorn.request.status.NNN` | counter | responses | each response |
//! | `gunicorn.workers` | gauge | processes | when the number changes, and every 10 s |
//! | `gunicorn.backlog` | histogram | connections | once a second, with `enable_backlog_metric` |
//! | `gunicorn.log.LEVEL` | counter | lines | each line of level warning, error or critical |
//! | `gunicorn.log.exception` | counter | lines | each line of level error of an app with a traceback, instead |
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
const DURATION: &str = "gunicorn.request.duration";

/// Bytes of metrics that may wait for a daemon that is away: some seconds' worth, since old metrics are of no use.
const LIMIT: usize = 256 * 1024;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counter {
    Requests,
    Status(u16),
    Critical,
    Exception,
    Error,
    Warning,
}

impl Counter {
    /// For lines of a level.
    fn of_lines(level: Level) -> Option<Self> {
        match level {
            Level::Critical => Some(Self::Critical),
            Level::Error => Some(Self::Error),
            Level::Warning => Some(Self::Warning),
            Level::Info | Level::Debug => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Requests => "gunicorn.requests",
            Self::Status(_) => "gunicorn.request.status.",
            Self::Critical => "gunicorn.log.critical",
            Self::Exception => "gunicorn.log.exception",
            Self::Error => "gunicorn.log.error",
            Self::Warning => "gunicorn.log.warning",
        }
    }
}

/// The metrics of one process.
#[derive(Debug)]
pub(super) struct Statsd {
    prefix: String,
    /// What ends each datagram: empty, or the tags.
    end: String,
    /// Counted and not sent yet.
    counts: Vec<(Counter, u64)>,
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
            counts: Vec::new(),
            outlet: Outlet::new(target, "metrics", LIMIT),
        }
    }

    /// A response has ended.
    pub(super) fn response(&mut self, status: u16, elapsed: Duration) {
        self.send(DURATION, "", |out| push_milliseconds(elapsed, out), b"|ms");
        self.count(Counter::Requests);
        self.count(Counter::Status(status));
    }

    /// A line was logged, or would have been at a lower threshold.
    pub(super) fn line(&mut self, level: Level) {
        if let Some(counter) = Counter::of_lines(level) {
            self.count(counter);
        }
    }

    /// A line of level error was logged with a traceback.
    pub(super) fn exception(&mut self) {
        self.count(Counter::Exception);
    }

    /// The value of something now.
    pub(super) fn gauge(&mut self, name: &str, value: u64) {
        self.send(name, "", |out| push_number(value, out), b"|g");
    }

    /// One of many values whose distribution counts.
    pub(super) fn histogram(&mut self, name: &str, value: u64) {
        self.send(name, "", |out| push_number(value, out), b"|h");
    }

    fn count(&mut self, counter: Counter) {
        match self.counts.iter_mut().find(|(found, _)| *found == counter) {
            Some((_, count)) => *count += 1,
            None => self.counts.push((counter, 1)),
        }
    }

    fn send(&mut self, name: &str, more: &str, render: impl FnOnce(&mut Vec<u8>), kind: &[u8]) {
        let Self {
            prefix, end, outlet, ..
        } = self;
        outlet.push(|out| {
            for text in [prefix, name, more, ":"] {
                out.extend_from_slice(text.as_bytes());
            }
            render(out);
            out.extend_from_slice(kind);
            out.extend_from_slice(end.as_bytes());
        });
    }

    pub(super) fn flush(&mut self, now: Instant) {
        let mut counts = std::mem::take(&mut self.counts);
        for (counter, count) in counts.drain(..) {
            let mut digits = itoa::Buffer::new();
            let more = match counter {
                Counter::Status(status) => digits.format(status),
                _ => "",
            };
            self.send(counter.name(), more, |out| push_number(count, out), b"|c|@1.0");
        }
        self.counts = counts;
        self.outlet.flush(now);
    }

    pub(super) fn complaint(&mut self, now: Instant) -> Option<String> {
        self.outlet.complaint(now)
    }
}

fn push_number(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
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
        statsd.flush(crate::sys::clock::now());
        statsd.gauge("end", 0);
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
            statsd.flush(crate::sys::clock::now());
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
    fn what_happens_several_times_in_a_turn_is_sent_as_a_sum() {
        let found = received("", "", |statsd| {
            for status in [200, 404, 200] {
                statsd.response(status, Duration::from_millis(1));
            }
        });
        assert_eq!(
            found,
            [
                "gunicorn.request.duration:1.0|ms",
                "gunicorn.request.duration:1.0|ms",
                "gunicorn.request.duration:1.0|ms",
                "gunicorn.requests:3|c|@1.0",
                "gunicorn.request.status.200:2|c|@1.0",
                "gunicorn.request.status.404:1|c|@1.0",
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
