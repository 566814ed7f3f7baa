//! Error log and access log: rendering is pure, writing never waits.
//!
//! - [`Logger`]: the error log, lines in Gunicorn's form, always on descriptor 2
//! - [`access`]: the access log
//! - [`escape`]: outside bytes made printable
//! - [`relay`]: syslog and statsd, which are told of both
//!
//! Never here: what is worth logging.

pub mod access;
mod basic;
pub mod escape;
mod json;
mod outlet;
mod percent;
pub mod relay;
pub mod sink;
pub mod statsd;
mod syslog;
pub mod time;

use crate::base::ids::WorkerId;
use crate::base::level::Level;
use crate::sys::{clock, output};
use relay::Relay;
use sink::Sink;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::Duration;

/// Bytes of error log lines that may wait for a slow reader.
const BUFFER_LIMIT: usize = 256 * 1024;

/// What a line is about, as far as it is known. Printed after the message in one fixed order:
/// `pool=api worker=3 age=17 pid=4242 request=4f1c client=192.0.2.1`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Context<'a> {
    /// The pool's name.
    pub pool: Option<&'a str>,
    /// The worker.
    pub worker: Option<WorkerId>,
    /// The worker's age: its place in the order of spawning.
    pub age: Option<u32>,
    /// The worker's process.
    pub pid: Option<i32>,
    /// The request's identifier, printable.
    pub request: Option<&'a [u8]>,
    /// The client's address.
    pub client: Option<&'a str>,
}

/// No context.
pub const NONE: Context<'static> = Context {
    pool: None,
    worker: None,
    age: None,
    pid: None,
    request: None,
    client: None,
};

impl fmt::Display for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(pool) = self.pool {
            write!(f, " pool={pool}")?;
        }
        if let Some(worker) = self.worker {
            write!(f, " worker={}", worker.0)?;
        }
        if let Some(age) = self.age {
            write!(f, " age={age}")?;
        }
        if let Some(pid) = self.pid {
            write!(f, " pid={pid}")?;
        }
        if let Some(request) = self.request {
            write!(f, " request={}", escape::cut(request, 64))?;
        }
        if let Some(client) = self.client {
            write!(f, " client={}", if client.is_empty() { "unix" } else { client })?;
        }
        Ok(())
    }
}

/// When lines go from memory to descriptor 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// As each line is logged.
    EachLine,
    /// When [`Logger::flush`] is called.
    OnDemand,
}

/// The error log of one process. Clones share one buffer; it is for one thread.
///
/// Lines are kept in memory (256 KiB) and written to descriptor 2 as it takes them, so a stuck reader never stops the
/// caller; lines that do not fit are dropped, counted, and the count is logged when there is room again.
#[derive(Clone, Debug)]
pub struct Logger {
    shared: Rc<Shared>,
}

#[derive(Debug)]
struct Shared {
    level: Cell<Level>,
    pid: u32,
    flush: Flush,
    sink: RefCell<Sink>,
    relay: RefCell<Option<Relay>>,
    /// Lines that somebody else shall write; `None` if this log does.
    diverted: RefCell<Option<Vec<(Level, String)>>>,
}

impl Logger {
    /// A log of this process that keeps lines of at least `level`.
    #[must_use]
    pub fn new(level: Level, flush: Flush) -> Self {
        Self {
            shared: Rc::new(Shared {
                level: Cell::new(level),
                pid: std::process::id(),
                flush,
                sink: RefCell::new(Sink::new(BUFFER_LIMIT)),
                relay: RefCell::new(None),
                diverted: RefCell::new(None),
            }),
        }
    }

    /// Changes the threshold, after a reload.
    pub fn set_level(&self, level: Level) {
        self.shared.level.set(level);
    }

    /// Tells these daemons, too, from now on; what waits for earlier ones is sent as far as they take it.
    pub fn set_relay(&self, relay: Option<Relay>) {
        self.flush();
        *self.shared.relay.borrow_mut() = relay;
    }

    /// From now on, keeps lines for [`Self::take_diverted`] instead of writing them, or no longer does.
    pub fn divert(&self, on: bool) {
        if on == self.shared.diverted.borrow().is_some() {
            return;
        }
        for (level, text) in self.take_diverted() {
            self.write(level, &NONE, format_args!("{text}"));
        }
        *self.shared.diverted.borrow_mut() = on.then(Vec::new);
    }

    /// The lines that somebody else shall write, each with its context.
    #[must_use]
    pub fn take_diverted(&self) -> Vec<(Level, String)> {
        self.shared
            .diverted
            .borrow_mut()
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default()
    }

    /// Does something with the daemons, if there are any.
    fn relay(&self, act: impl FnOnce(&mut Relay)) {
        if let Some(relay) = self.shared.relay.borrow_mut().as_mut() {
            act(relay);
        }
    }

    /// True if there are daemons.
    #[must_use]
    pub fn has_relay(&self) -> bool {
        self.shared.relay.borrow().is_some()
    }

    /// True if syslog is told of access lines.
    #[must_use]
    pub fn relays_access(&self) -> bool {
        self.shared.relay.borrow().as_ref().is_some_and(Relay::takes_access)
    }

    /// An access line, without its end, of process `pid`, for syslog.
    pub fn relay_access(&self, pid: i32, line: &[u8]) {
        let own = i32::try_from(self.shared.pid).unwrap_or(0);
        let pid = if pid == 0 { own } else { pid };
        self.relay(|relay| relay.access_line(pid, line));
    }

    /// A response has ended: the metrics of requests.
    pub fn count_response(&self, status: u16, elapsed: Duration) {
        self.relay(|relay| relay.response(status, elapsed));
    }

    /// The value of a metric now: one of the names in [`statsd`].
    pub fn gauge(&self, name: &str, value: u64) {
        self.relay(|relay| relay.gauge(name, value));
    }

    /// One of many values of a metric: one of the names in [`statsd`].
    pub fn histogram(&self, name: &str, value: u64) {
        self.relay(|relay| relay.histogram(name, value));
    }

    /// True if lines of this level are kept; for callers whose message costs something to prepare.
    #[must_use]
    pub fn keeps(&self, level: Level) -> bool {
        level >= self.shared.level.get()
    }

    /// Per request.
    pub fn debug(&self, context: &Context<'_>, message: fmt::Arguments<'_>) {
        self.log(Level::Debug, context, message);
    }

    /// Lifecycle.
    pub fn info(&self, context: &Context<'_>, message: fmt::Arguments<'_>) {
        self.log(Level::Info, context, message);
    }

    /// We coped.
    pub fn warning(&self, context: &Context<'_>, message: fmt::Arguments<'_>) {
        self.log(Level::Warning, context, message);
    }

    /// Someone must act.
    pub fn error(&self, context: &Context<'_>, message: fmt::Arguments<'_>) {
        self.log(Level::Error, context, message);
    }

    /// The service is at stake.
    pub fn critical(&self, context: &Context<'_>, message: fmt::Arguments<'_>) {
        self.log(Level::Critical, context, message);
    }

    /// One line of this level. Outside bytes in the message must have gone through [`escape::cut`].
    pub fn log(&self, level: Level, context: &Context<'_>, message: fmt::Arguments<'_>) {
        let kept = self.keeps(level);
        self.relay(|relay| {
            relay.line(level, kept, self.shared.pid, |out| push_message(context, message, out));
        });
        if !kept {
            return;
        }
        if let Some(diverted) = self.shared.diverted.borrow_mut().as_mut() {
            let mut text = Vec::new();
            push_message(context, message, &mut text);
            diverted.push((level, String::from_utf8_lossy(&text).into_owned()));
            return;
        }
        self.write(level, context, message);
    }

    /// One line into this log, whatever its level, and whoever else shall write lines.
    pub fn write(&self, level: Level, context: &Context<'_>, message: fmt::Arguments<'_>) {
        let time = clock::local(clock::wall());
        let pid = self.shared.pid;
        let push = |out: &mut Vec<u8>| render(time, pid, level, context, message, out);
        self.shared.sink.borrow_mut().push(push);
        if self.shared.flush == Flush::EachLine {
            self.write_out();
        }
    }

    /// A line that process `pid` of an app wrote to its standard error or output, as it is; a missing line end is added.
    pub fn app_output(&self, pid: i32, bytes: &[u8]) {
        self.relay(|relay| relay.app_line(pid, bytes));
        self.shared.sink.borrow_mut().push(|out| {
            out.extend_from_slice(bytes);
            if !bytes.ends_with(b"\n") {
                out.push(b'\n');
            }
        });
        if self.shared.flush == Flush::EachLine {
            self.write_out();
        }
    }

    /// Writes what descriptor 2 and the daemons take without waiting. Call it once per turn of an event loop, and before
    /// exit.
    pub fn flush(&self) {
        self.relay(Relay::settle);
        self.write_out();
    }

    fn write_out(&self) {
        self.flush_relay();
        let stderr = io::stderr();
        let mut sink = self.shared.sink.borrow_mut();
        sink.write_to(stderr.as_fd());
        if sink.waiting() > 0 {
            return;
        }
        let dropped = sink.take_dropped();
        if dropped > 0 {
            let time = clock::local(clock::wall());
            let message = format_args!("{dropped} lines of this log were dropped, because its reader was too slow");
            sink.push(|out| render(time, self.shared.pid, Level::Warning, &NONE, message, out));
            sink.write_to(stderr.as_fd());
        }
    }

    fn flush_relay(&self) {
        self.relay(|relay| {
            let now = clock::now();
            relay.flush(now);
            if let Some(complaint) = relay.complaint(now) {
                let time = clock::local(clock::wall());
                let push = |out: &mut Vec<u8>| {
                    render(
                        time,
                        self.shared.pid,
                        Level::Warning,
                        &NONE,
                        format_args!("{complaint}"),
                        out,
                    );
                };
                self.shared.sink.borrow_mut().push(push);
            }
        });
    }

    /// True if lines still wait, so that an idle loop knows to come back.
    #[must_use]
    pub fn has_waiting(&self) -> bool {
        self.shared.sink.borrow().waiting() > 0
    }

    /// Writes what waits to the old file as far as it goes, then makes `fd` descriptor 2.
    pub fn replace(&self, fd: impl AsFd) -> io::Result<()> {
        self.flush();
        output::replace_stderr(fd)
    }
}

/// One line in Gunicorn's form: `[2026-11-20 09:09:28 +0000] [pid] [LEVEL] message pool=api worker=3`.
///
/// The context follows the first line of the message. Further lines (tracebacks) are indented, so that none can pass
/// for a line of ours; control characters are replaced by `?`.
pub fn render(
    time: clock::LocalTime,
    pid: u32,
    level: Level,
    context: &Context<'_>,
    message: fmt::Arguments<'_>,
    out: &mut Vec<u8>,
) {
    time::push_log_time(time, out);
    // Writing to a vector does not fail.
    let _ = write!(out, " [{pid}] [{}] ", level.as_str());
    push_message(context, message, out);
    out.push(b'\n');
}

/// A message with its context, made safe.
fn push_message(context: &Context<'_>, message: fmt::Arguments<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    let _ = write!(out, "{message}");
    while out.len() > start && out.ends_with(b"\n") {
        out.pop();
    }
    for byte in out.iter_mut().skip(start) {
        if byte.is_ascii_control() && !b"\n\t".contains(byte) {
            *byte = b'?';
        }
    }
    let rest = memchr::memchr(b'\n', out.get(start..).unwrap_or_default()).map(|at| out.split_off(start + at));
    let _ = write!(out, "{context}");
    for line in rest.iter().flat_map(|rest| rest.split(|byte| *byte == b'\n').skip(1)) {
        out.extend_from_slice(b"\n  ");
        out.extend_from_slice(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock::LocalTime;

    const TIME: LocalTime = LocalTime {
        year: 2026,
        month: 11,
        day: 20,
        hour: 9,
        minute: 9,
        second: 28,
        offset: -210,
    };

    fn line(context: &Context<'_>, message: fmt::Arguments<'_>) -> String {
        let mut out = b"before\n".to_vec();
        render(TIME, 42, Level::Warning, context, message, &mut out);
        let text = String::from_utf8(out).unwrap();
        text.strip_prefix("before\n").unwrap().to_owned()
    }

    #[test]
    fn lines_have_gunicorns_form_and_one_order_of_context() {
        let context = Context {
            pool: Some("api"),
            worker: Some(WorkerId(3)),
            age: Some(17),
            pid: Some(4242),
            request: Some(b"4f1c"),
            client: Some("192.0.2.1"),
        };
        assert_eq!(
            line(&context, format_args!("it is {}", "late")),
            "[2026-11-20 09:09:28 -0330] [42] [WARNING] it is late \
             pool=api worker=3 age=17 pid=4242 request=4f1c client=192.0.2.1\n"
        );
        assert_eq!(
            line(&NONE, format_args!("x")),
            "[2026-11-20 09:09:28 -0330] [42] [WARNING] x\n"
        );
        let unix = Context {
            client: Some(""),
            request: Some(b"a\nb"),
            ..NONE
        };
        assert!(line(&unix, format_args!("x")).ends_with(" x request=a\\x0ab client=unix\n"));
    }

    #[test]
    fn further_lines_are_indented_and_controls_replaced() {
        let context = Context { pid: Some(7), ..NONE };
        assert_eq!(
            line(&context, format_args!("Traceback\r\n[2026\x1b\n\n")),
            "[2026-11-20 09:09:28 -0330] [42] [WARNING] Traceback? pid=7\n  [2026?\n"
        );
        assert!(line(&context, format_args!("")).ends_with("[WARNING]  pid=7\n"));
    }

    #[test]
    fn json_and_access_times() {
        let mut out = Vec::new();
        time::push_json_time(TIME, &mut out);
        time::push_access_time(TIME, &mut out);
        time::push_access_time(
            LocalTime {
                offset: 330,
                month: 1,
                ..TIME
            },
            &mut out,
        );
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "2026-11-20T09:09:28-03:30[20/Nov/2026:09:09:28 -0330][20/Jan/2026:09:09:28 +0530]"
        );
    }

    #[test]
    fn the_threshold_can_change() {
        let log = Logger::new(Level::Warning, Flush::OnDemand);
        let other = log.clone();
        log.info(&NONE, format_args!("dropped"));
        assert!(!log.has_waiting());
        other.set_level(Level::Debug);
        log.debug(&NONE, format_args!("kept"));
        assert!(other.has_waiting(), "clones share one buffer");
    }
}
