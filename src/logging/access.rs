//! The access log: one line per request, in Gunicorn's %-format or as JSON, compiled once and rendered without
//! allocation.
//!
//! Everything that came from outside is escaped ([`super::escape`]), so a line is always one line of ASCII (JSON: of
//! UTF-8). Never here: deciding which requests are logged.

use super::percent::{self, Part, Spec};
use super::sink::Sink;
use super::{Logger, basic, escape, json, time};
use crate::base::message::{RequestHead, ResponseHead};
use crate::sys::clock;
use std::cell::Cell;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use super::percent::FormatError;

/// Bytes of access lines that may wait for a slow reader.
const BUFFER_LIMIT: usize = 1024 * 1024;

/// What is known of a request when its response has ended.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// The client's address; empty for a unix socket.
    pub remote_addr: &'a str,
    /// The request; `None` if it could not be understood.
    pub head: Option<&'a RequestHead>,
    /// The status sent.
    pub status: u16,
    /// The response's head.
    pub response: &'a ResponseHead,
    /// Body bytes sent.
    pub bytes: u64,
    /// From the head to the last write.
    pub elapsed: Duration,
    /// When the response ended.
    pub time: SystemTime,
    /// The worker's process; 0 = none served it.
    pub pid: i32,
    /// The request's identifier.
    pub request_id: &'a [u8],
    /// The response's field X-Request-Id: the same, unless the app has given its own.
    pub response_id: &'a [u8],
    /// The request variables, NAME\0VALUE\0...; may be empty.
    pub block: &'a [u8],
    /// Variables as the app left them, in the same form; they come before those of the request.
    pub notes: &'a [u8],
}

/// A compiled form of lines.
#[derive(Clone, Debug)]
pub struct AccessFormat {
    form: Form,
    clock: TimeCache,
}

#[derive(Clone, Debug)]
enum Form {
    Parts(Vec<Compiled>),
    Json,
}

#[derive(Clone, Debug)]
enum Compiled {
    Literal(String),
    Atom(Atom, Spec),
}

/// What a name in a format stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Atom {
    RemoteAddr,
    User,
    Time,
    RequestLine,
    Method,
    Path,
    Query,
    Protocol,
    Status,
    Bytes,
    BytesText,
    Seconds,
    Milliseconds,
    Microseconds,
    SecondsText,
    Pid,
    RequestField(String),
    ResponseField(String),
    /// `{x-request-id}o` and `{content-length}o`, which the front writes.
    ResponseId,
    ContentLength,
    Variable(String),
    /// `l`, and whatever is unknown.
    Dash,
}

impl Atom {
    fn of(name: &str) -> Self {
        let braced = name
            .strip_prefix('{')
            .and_then(|rest| rest.split_at_checked(rest.len().saturating_sub(2)));
        match (name, braced) {
            ("h", _) => Self::RemoteAddr,
            ("u", _) => Self::User,
            ("t", _) => Self::Time,
            ("r", _) => Self::RequestLine,
            ("m", _) => Self::Method,
            ("U", _) => Self::Path,
            ("q", _) => Self::Query,
            ("H", _) => Self::Protocol,
            ("s", _) => Self::Status,
            ("B", _) => Self::Bytes,
            ("b", _) => Self::BytesText,
            ("f", _) => Self::RequestField("Referer".to_owned()),
            ("a", _) => Self::RequestField("User-Agent".to_owned()),
            ("T", _) => Self::Seconds,
            ("M", _) => Self::Milliseconds,
            ("D", _) => Self::Microseconds,
            ("L", _) => Self::SecondsText,
            ("p", _) => Self::Pid,
            (_, Some((inner, "}i" | "}I"))) => Self::RequestField(inner.to_owned()),
            (_, Some((inner, "}o" | "}O"))) if inner.eq_ignore_ascii_case("x-request-id") => Self::ResponseId,
            (_, Some((inner, "}o" | "}O"))) if inner.eq_ignore_ascii_case("content-length") => Self::ContentLength,
            // Written by the front whatever the app says, and the same in every line.
            (_, Some((inner, "}o" | "}O")))
                if inner.eq_ignore_ascii_case("server") || inner.eq_ignore_ascii_case("date") =>
            {
                Self::Dash
            }
            (_, Some((inner, "}o" | "}O"))) => Self::ResponseField(inner.to_owned()),
            (_, Some((inner, "}e" | "}E"))) => Self::Variable(inner.to_owned()),
            _ => Self::Dash,
        }
    }

    fn is_number(&self) -> bool {
        matches!(
            self,
            Self::Bytes | Self::Seconds | Self::Milliseconds | Self::Microseconds
        )
    }
}

impl AccessFormat {
    /// Compiles a %-format. Unknown names are `-` in every line, as under Gunicorn.
    pub fn compile(format: &str) -> Result<Self, FormatError> {
        let parts = percent::compile(format, |name| Atom::of(name).is_number())?;
        let parts = parts.into_iter().map(|part| match part {
            Part::Literal(text) => Compiled::Literal(text.to_owned()),
            Part::Value { name, spec } => Compiled::Atom(Atom::of(name), spec),
        });
        Ok(Self {
            form: Form::Parts(parts.collect()),
            clock: TimeCache::default(),
        })
    }

    /// One JSON object per line.
    #[must_use]
    pub fn json() -> Self {
        Self {
            form: Form::Json,
            clock: TimeCache::default(),
        }
    }

    /// Appends one line, its end included.
    pub fn render(&self, record: &Record<'_>, out: &mut Vec<u8>) {
        match &self.form {
            Form::Json => json::render(record, out),
            Form::Parts(parts) => {
                for part in parts {
                    match part {
                        Compiled::Literal(text) => out.extend_from_slice(text.as_bytes()),
                        Compiled::Atom(atom, spec) => self.push(atom, *spec, record, out),
                    }
                }
            }
        }
        out.push(b'\n');
    }

    fn push(&self, atom: &Atom, spec: Spec, record: &Record<'_>, out: &mut Vec<u8>) {
        let elapsed = record.elapsed;
        let number = match atom {
            Atom::Bytes => record.bytes,
            Atom::Seconds => elapsed.as_secs(),
            Atom::Milliseconds => u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
            Atom::Microseconds => u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
            _ => {
                let start = out.len();
                self.push_text(atom, record, out);
                if !spec.is_plain() {
                    spec.finish_text(start, out);
                }
                return;
            }
        };
        if spec.is_plain() {
            out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
        } else {
            spec.push_number(number, out);
        }
    }

    fn push_text(&self, atom: &Atom, record: &Record<'_>, out: &mut Vec<u8>) {
        let head = record.head;
        let text = match atom {
            Atom::RemoteAddr if record.remote_addr.is_empty() => None,
            Atom::RemoteAddr => Some(record.remote_addr.as_bytes()),
            Atom::User => return push_user(record, out),
            Atom::Time => return self.clock.push(record.time, out),
            Atom::RequestLine => return push_request_line(head, out),
            Atom::Method => head.map(RequestHead::method),
            Atom::Path => variable(record.block, "PATH_INFO").or(head.map(RequestHead::path)),
            Atom::Query => head.map(RequestHead::query),
            Atom::Protocol => head.map(|head| head.version.as_str().as_bytes()),
            Atom::Status => return push_number(record.status.into(), out),
            Atom::BytesText => return push_number(record.bytes, out),
            Atom::SecondsText => return push_seconds(record.elapsed, out),
            Atom::Pid if record.pid == 0 => None,
            Atom::Pid => {
                // Writing to a vector does not fail.
                let _ = write!(out, "<{}>", record.pid);
                return;
            }
            Atom::RequestField(name) => head.and_then(|head| last(head.fields(), name)),
            Atom::ResponseId => Some(record.response_id).filter(|id| !id.is_empty()),
            Atom::ContentLength => match record.response.content_length {
                Some(length) => return push_number(length, out),
                None => None,
            },
            Atom::ResponseField(name) => last(record.response.fields(), name),
            Atom::Variable(name) => variable(record.notes, name).or_else(|| variable(record.block, name)),
            Atom::Bytes | Atom::Seconds | Atom::Milliseconds | Atom::Microseconds | Atom::Dash => None,
        };
        match text {
            Some(text) => escape::push(text, out),
            None => out.push(b'-'),
        }
    }
}

/// The value of the last field of this name, as Gunicorn's dictionary keeps it.
fn last<'a>(fields: impl Iterator<Item = (&'a [u8], &'a [u8])>, name: &str) -> Option<&'a [u8]> {
    let same = fields.filter(|(found, _)| found.eq_ignore_ascii_case(name.as_bytes()));
    same.last().map(|(_, value)| value)
}

/// A variable's value, its name in any case.
pub(super) fn variable<'a>(block: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let mut rest = block;
    let mut next = || {
        let end = memchr::memchr(0, rest)?;
        let (text, tail) = rest.split_at_checked(end)?;
        rest = tail.get(1..)?;
        Some(text)
    };
    let mut found = None;
    while let (Some(key), Some(value)) = (next(), next()) {
        if key.eq_ignore_ascii_case(name.as_bytes()) {
            found = Some(value);
        }
    }
    found
}

fn push_number(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

fn push_seconds(elapsed: Duration, out: &mut Vec<u8>) {
    let _ = write!(out, "{}.{:06}", elapsed.as_secs(), elapsed.subsec_micros());
}

fn push_request_line(head: Option<&RequestHead>, out: &mut Vec<u8>) {
    let Some(head) = head else {
        return out.push(b'-');
    };
    escape::push(head.method(), out);
    out.push(b' ');
    escape::push(head.target(), out);
    out.push(b' ');
    out.extend_from_slice(head.version.as_str().as_bytes());
}

/// The user the app or the server authenticated, else the one the client claims with HTTP Basic, else `-`.
fn push_user(record: &Record<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    if let Some(user) = variable(record.block, "REMOTE_USER") {
        escape::push(user, out);
    } else if let Some(field) = record.head.and_then(|head| head.field("Authorization")) {
        basic::push_user(field, out);
    }
    if out.len() == start {
        out.push(b'-');
    }
}

/// The text of `%(t)s`, made once a second.
#[derive(Clone, Debug, Default)]
struct TimeCache {
    made: Cell<(u64, [u8; Self::LENGTH])>,
}

impl TimeCache {
    /// Bytes of `[20/Nov/2026:09:09:30 +0000]`.
    const LENGTH: usize = 28;

    fn push(&self, time: SystemTime, out: &mut Vec<u8>) {
        let second = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let (made, text) = self.made.get();
        if made == second && made != 0 {
            return out.extend_from_slice(&text);
        }
        let start = out.len();
        time::push_access_time(clock::local(time), out);
        // Years beyond 9999 make a longer text, which is then not kept.
        if let Some(text) = out
            .get(start..)
            .and_then(|text| <[u8; Self::LENGTH]>::try_from(text).ok())
        {
            self.made.set((second, text));
        }
    }
}

/// The access log of one process: lines wait in memory (1 MiB) and are written in batches without waiting.
#[derive(Debug)]
pub struct AccessWriter {
    format: AccessFormat,
    sink: Sink,
    fd: Option<OwnedFd>,
    /// What tells syslog of each line, too.
    relay: Option<Logger>,
    line: Vec<u8>,
}

impl AccessWriter {
    /// A log that goes to `fd`, to the syslog daemon of `relay`, or to both.
    #[must_use]
    pub fn new(format: AccessFormat, fd: Option<OwnedFd>, relay: Option<Logger>) -> Self {
        Self {
            format,
            sink: Sink::new(BUFFER_LIMIT),
            fd,
            relay,
            line: Vec::new(),
        }
    }

    /// Adds a line; it is dropped and counted if 1 MiB waits.
    pub fn log(&mut self, record: &Record<'_>) {
        let Self { format, line, .. } = self;
        let Some(relay) = &self.relay else {
            return self.sink.push(|out| format.render(record, out));
        };
        line.clear();
        format.render(record, line);
        relay.relay_access(record.pid, line.trim_ascii_end());
        if self.fd.is_some() {
            self.sink.push(|out| out.extend_from_slice(line));
        }
    }

    /// Writes what the file takes without waiting. Call it once per turn of the event loop, and before exit.
    pub fn flush(&mut self) {
        if let Some(fd) = &self.fd {
            self.sink.write_to(fd.as_fd());
        }
    }

    /// True if lines still wait, so that an idle loop knows to come back.
    #[must_use]
    pub fn has_waiting(&self) -> bool {
        self.sink.waiting() > 0
    }

    /// Lines dropped since the last call, for the error log.
    pub fn take_dropped(&mut self) -> u64 {
        self.sink.take_dropped()
    }

    /// Why lines cannot be written from now on, said once, for the error log.
    pub fn take_failure(&mut self) -> Option<io::Error> {
        self.sink.take_failure()
    }

    /// Writes what waits to the old file as far as it goes, then continues with another.
    pub fn replace(&mut self, fd: OwnedFd) {
        self.flush();
        self.fd = Some(fd);
    }
}

#[cfg(test)]
mod tests;
