//! What the front says in its logs: one way to name a request, a worker, a client.

use super::event_loop::Front;
use super::exchange::Exchange;
use super::peer::{AddressText, Peer};
use super::tokens::Key;
use crate::base::allowance::Allowance;
use crate::base::level::Level;
use crate::base::message::RequestHead;
use crate::logging::{Context, access, escape};
use crate::pipe::frame::level;
use std::fmt;
use std::time::{Duration, Instant};

/// Lines about one kind of pressure are this far apart; what came between is counted.
const PRESSURE_PAUSE: Duration = Duration::from_secs(1);

/// Hints about what a proxy sends are this far apart: it sends the same with every request.
const HINT_PAUSE: Duration = Duration::from_secs(60);

/// Lines about something that goes on, not one per request.
#[derive(Debug, Default)]
pub(super) struct Pressure {
    last: Option<Instant>,
    held_back: u64,
}

impl Pressure {
    /// True if a line is due; otherwise it is counted among those that were held back.
    fn is_due(&mut self, now: Instant, pause: Duration) -> bool {
        let due = self.last.is_none_or(|last| now - last >= pause);
        if due {
            self.last = Some(now);
        } else {
            self.held_back += 1;
        }
        due
    }
}

impl Front {
    /// A line about an exchange, or about nothing in particular.
    pub(super) fn say(&self, level: Level, exchange: Option<&Exchange>, message: fmt::Arguments<'_>) {
        let Some(exchange) = exchange else {
            self.log.log(level, &crate::logging::NONE, message);
            return;
        };
        let pool = self.pools.get(exchange.pool);
        let worker = exchange
            .worker
            .and_then(|key| self.workers.get(key))
            .filter(|worker| worker.pid != 0);
        let mut text = AddressText::default();
        let context = Context {
            pool: pool.map(|pool| pool.config.name.as_str()),
            worker: worker.map(|worker| worker.id),
            age: worker.map(|worker| worker.age),
            pid: worker.map(|worker| worker.pid),
            request: Some(exchange.id.as_bytes()),
            client: Some(exchange.client_ip.map_or("", |ip| text.of(ip))),
        };
        self.log.log(level, &context, message);
    }

    /// A line about what happened to a request, which names its method and target.
    pub(super) fn say_request(&self, level: Level, exchange: &Exchange, what: &str) {
        self.say_answer(level, exchange, &exchange.head, what);
    }

    /// The same for a request whose head is not with its exchange: it is being answered, or a local redirect.
    pub(super) fn say_answer(&self, level: Level, exchange: &Exchange, head: &RequestHead, what: &str) {
        let method = escape::cut(head.method(), 64);
        let target = escape::cut(head.target(), 256);
        self.say(level, Some(exchange), format_args!("{method} {target} {what}"));
    }

    /// A request in words, for lines that are written after it is gone.
    pub(super) fn describe_request(&self, exchange: &Exchange) -> String {
        let method = escape::cut(exchange.head.method(), 64);
        let target = escape::cut(exchange.head.target(), 256);
        format!("{method} {target} request={}", exchange.id)
    }

    /// A line about a worker.
    pub(super) fn say_worker(&self, level: Level, key: Key, message: fmt::Arguments<'_>) {
        let worker = self.workers.get(key);
        let pool = worker.and_then(|worker| self.pools.get(worker.pool));
        let own = worker.filter(|worker| worker.pid != 0);
        let context = Context {
            pool: pool.map(|pool| pool.config.name.as_str()),
            worker: own.map(|worker| worker.id),
            age: own.map(|worker| worker.age),
            pid: own.map(|worker| worker.pid),
            ..crate::logging::NONE
        };
        self.log.log(level, &context, message);
    }

    /// Text a FastCGI app wrote to its error stream, as far as its request may still fill the log.
    pub(super) fn worker_text(&self, worker: Key, exchange: Option<Key>, text: &[u8], allowance: &mut Allowance) {
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            if allowance.is_spent() {
                allowance.drop_bytes(line.len());
                continue;
            }
            allowance.count_bytes(line.len());
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            if !line.is_empty() {
                allowance.count_line();
                self.worker_line(Level::Info, worker, exchange, line);
            }
        }
    }

    /// Its request is over: says how much was left out.
    pub(super) fn worker_text_end(&self, worker: Key, exchange: Option<Key>, allowance: &mut Allowance) {
        if let Some(words) = allowance.end() {
            self.worker_line(Level::Warning, worker, exchange, words.as_bytes());
        }
    }

    /// A LOG frame of a pipe worker.
    pub(super) fn worker_log(&self, worker: Key, exchange: Option<Key>, severity: u8, text: &[u8]) {
        let severity = match severity {
            level::DEBUG => Level::Debug,
            level::INFO => Level::Info,
            level::WARNING => Level::Warning,
            level::ERROR => Level::Error,
            _ => Level::Critical,
        };
        for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            self.worker_line(severity, worker, exchange, line);
        }
    }

    /// One line a worker wrote, whole, with what it was serving.
    pub(super) fn worker_line(&self, level: Level, worker: Key, exchange: Option<Key>, line: &[u8]) {
        let line = escape::cut(line, 8192);
        match exchange.and_then(|key| self.exchanges.get(key)) {
            Some(exchange) => self.say(level, Some(exchange), format_args!("{line}")),
            None => self.say_worker(level, worker, format_args!("{line}")),
        }
    }

    /// A malformed request, in Gunicorn's words.
    pub(super) fn log_invalid(&self, peer: Peer, status: u16, reason: &str) {
        let mut text = AddressText::default();
        let address = peer.address.map_or("unix", |address| text.of(address.ip()));
        // Slowness is no malice.
        let level = if status == 408 { Level::Info } else { Level::Warning };
        let message = format_args!("Invalid request from ip={address}: {reason}");
        self.log.log(level, &crate::logging::NONE, message);
    }

    /// A trusted peer sends a field that does not get through: said at most once a minute.
    pub(super) fn hint_dropped(&mut self, peer: Peer, name: &[u8], why: &str) {
        if !self.hints.is_due(self.now, HINT_PAUSE) {
            return;
        }
        let mut text = AddressText::default();
        let address = peer.address.map_or("unix", |address| text.of(address.ip()));
        let name = escape::cut(name, 64);
        // Any client of a careless proxy can bring this about, so it is no warning.
        let message = format_args!("the field {name} of the trusted peer {address} is dropped, as {why}");
        self.log.log(Level::Info, &crate::logging::NONE, message);
    }

    /// A limit was reached: said at most once a second.
    pub(super) fn pressed(&mut self, what: &str) {
        if !self.pressure.is_due(self.now, PRESSURE_PAUSE) {
            return;
        }
        let held_back = std::mem::take(&mut self.pressure.held_back);
        if held_back == 0 {
            self.say(Level::Warning, None, format_args!("{what}"));
        } else {
            self.say(
                Level::Warning,
                None,
                format_args!("{what}; {held_back} more such events since the last line"),
            );
        }
    }

    /// The end of an exchange: its access line, and the metrics.
    pub(super) fn log_access(&mut self, peer: Peer, exchange: &Exchange, status: u16, bytes: u64) {
        if self.access.is_none() && !self.log.has_relay() {
            return;
        }
        let elapsed = crate::sys::clock::now() - exchange.started;
        self.log.count_response(status, elapsed);
        // Python has written the line of a response that a worker has brought to its end.
        if self.config.logs.access_by_app && exchange.answered {
            return;
        }
        if self.access.is_none() {
            return;
        }
        let response_id = self.given_id(exchange).unwrap_or_else(|| exchange.id.as_bytes());
        let Some(log) = &mut self.access else { return };
        let mut text = AddressText::default();
        // Nothing is said about a request line that was not understood: its version is a guess then.
        let parsed = exchange.head.target.len > 0;
        let record = access::Record {
            remote_addr: peer.address.map_or("", |address| text.of(address.ip())),
            head: parsed.then_some(&exchange.head),
            status,
            response: &exchange.response,
            bytes,
            elapsed,
            time: crate::sys::clock::wall(),
            pid: exchange.pid,
            request_id: exchange.id.as_bytes(),
            response_id,
            block: &exchange.block,
            notes: &exchange.notes,
        };
        log.log(&record);
    }
}
