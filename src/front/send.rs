//! A client's share of a response on its way out: what is encoded, then what waits in files, as fast as its socket
//! takes it.
//!
//! Never here: what stands in a response.

use super::client::{Client, KEEP, Next, Phase, TURN};
use super::event_loop::Front;
use super::exchange::{Exchange, Stage};
use super::tokens::{Key, Kind};
use crate::base::level::Level;
use crate::logging::escape;
use crate::sys::socket;
use std::io::ErrorKind;
use std::time::Duration;

/// A part of a response at least this long goes into the socket from where it is, without a copy.
const DIRECT: usize = 8 * 1024;

/// How long in all a response may wait for its client before it is spooled: this, and more by what the client has taken
/// already. One that takes its bytes faster than a file does gains nothing by the file.
const HOLD: Duration = Duration::from_millis(50);
const FAST: u64 = 256 * 1024; // Bytes a millisecond.

/// True if an error of a socket says that the other end is gone.
fn is_departure(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::BrokenPipe
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::NotConnected
            | ErrorKind::TimedOut
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::NetworkDown
    )
}

impl Client {
    /// Encodes body bytes. If no more are at hand and they are many, they go out at once, with those before them, as far
    /// as the socket takes them.
    pub(super) fn send_data(&mut self, data: &[u8], last: bool) {
        let mut rest = data;
        while rest.len() >= DIRECT && self.writable && last {
            let (part, after) = rest.split_at(rest.len().min(self.conn.stretch()));
            self.send_now(part);
            rest = after;
        }
        if !rest.is_empty() {
            self.conn.send_data(rest, &mut self.out.bytes);
        }
    }

    /// Sends body bytes as far as the socket takes them, with what is encoded before them.
    fn send_now(&mut self, data: &[u8]) {
        let length = self.conn.begin_data(data.len() as u64, &mut self.out.bytes);
        let data = usize::try_from(length)
            .ok()
            .and_then(|length| data.get(..length))
            .unwrap_or_default();
        let mut end = Vec::new();
        self.conn.end_data(length, &mut end);
        let before = self.out.len();
        let whole = before + data.len() + end.len();
        // What is wrong with the socket, if anything, shows again when the rest is sent.
        let mut sent = socket::send_parts(&self.stream, [self.out.rest(), data, &end]).unwrap_or_default();
        self.writable = sent == whole;
        self.stalled &= sent == 0;
        self.out.advance(sent.min(before), KEEP);
        sent = sent.saturating_sub(before);
        for part in [data, &end] {
            self.out.bytes.extend_from_slice(part.get(sent..).unwrap_or_default());
            sent = sent.saturating_sub(part.len());
        }
    }
}

impl Front {
    /// Writes what is ready for a client, refills from the spool, and ends the exchange when all is out.
    pub(super) fn flush_client(&mut self, key: Key) {
        let Some(mut client) = self.clients.take(key) else {
            return;
        };
        let mut next = self.flush_turn(key, &mut client);
        let (registry, token) = (self.poll.registry(), key.token(Kind::Client));
        let is_full = !client.writable;
        if let Err(error) = client
            .stream
            .watch_room(&mut client.watches_room, is_full, registry, token)
        {
            self.say(Level::Error, None, format_args!("cannot watch a connection: {error}"));
            next = Next::Close;
        }
        match next {
            Next::Keep => self.clients.put(key, client),
            Next::Close => self.close_client(key, client),
        }
    }

    fn flush_turn(&mut self, key: Key, client: &mut Client) -> Next {
        let mut budget = TURN;
        loop {
            self.refill(client);
            while client.writable && !client.out.is_empty() {
                match client.stream.send(client.out.rest(), client.sends_part) {
                    Ok(count) => {
                        // A short write means that the socket is full.
                        client.writable = count == client.out.len();
                        client.out.advance(count, KEEP);
                        budget = budget.saturating_sub(count);
                        client.stalled = false;
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => client.writable = false,
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(_) => return Next::Close,
                }
            }
            if client.sends_part && client.out.is_empty() && client.writable {
                if budget == 0 {
                    self.resume_sends.push(key);
                    return Next::Keep;
                }
                match self.send_part(client, &mut budget) {
                    Next::Keep => continue,
                    Next::Close => return Next::Close,
                }
            }
            if client.has_unsent() {
                // Only what the client takes starts the clock over, not what the app adds.
                if !std::mem::replace(&mut client.stalled, true) {
                    let limit = self.config.http.send_timeout;
                    self.client_timers.set(key.place(), limit.map(|limit| self.now + limit));
                }
                return Next::Keep;
            }
            client.stalled = false;
            if client.phase == Phase::Answering && self.config.http.send_timeout.is_some() {
                self.client_timers.set(key.place(), None);
            }
            if client.close {
                return self.linger(key, client);
            }
            let Some(exchange_key) = client.exchange else {
                return Next::Keep;
            };
            let Some(exchange) = self.exchanges.get(exchange_key) else {
                return Next::Keep;
            };
            if exchange.ended && (exchange.end_sent || exchange.cut) && exchange.spool.is_empty() {
                match self.conclude(key, client, exchange_key) {
                    // A pipelined request may have been answered already.
                    Next::Keep if !client.out.is_empty() => continue,
                    next => return next,
                }
            }
            // A worker that is held up may go on now, by way of the refill.
            let waits = !exchange.spool.is_empty() || exchange.blocked;
            if !waits || exchange.stage != Stage::Committed {
                return Next::Keep;
            }
            if budget == 0 {
                self.resume_sends.push(key);
                return Next::Keep;
            }
        }
    }

    /// Encodes what stands before the next part of the spool, or the end of the response.
    fn refill(&mut self, client: &mut Client) {
        let Some(exchange_key) = client.exchange else { return };
        let Some(mut exchange) = self.exchanges.take(exchange_key) else {
            return;
        };
        if exchange.stage == Stage::Committed {
            while client.out.is_empty()
                && !client.sends_part
                && let Some(length) = exchange.spool.begin(client.conn.stretch() as u64)
            {
                let allowed = client.conn.begin_data(length, &mut client.out.bytes);
                exchange.spool.limit(allowed);
                client.sends_part = allowed > 0;
                if allowed == 0 {
                    self.finish_part(&mut exchange);
                }
            }
            if exchange.blocked
                && client.out.len() <= self.config.http.response_buffer / 2
                && exchange.spool.has_room(self.config.http.response_spool)
            {
                self.unblock(&mut exchange);
            }
            if exchange.ended && exchange.spool.is_empty() && !exchange.end_sent && !exchange.cut {
                exchange.end_sent = true;
                exchange.cut = !client.conn.send_end(&mut client.out.bytes);
                if exchange.cut {
                    self.say_length(&exchange, "shorter than its Content-Length: it is cut");
                } else if client.conn.has_surplus() {
                    self.say_length(&exchange, "longer than its Content-Length: the rest was dropped");
                }
            }
        }
        self.exchanges.put(exchange_key, exchange);
    }

    /// The client has caught up, or the rest is spooled: its worker may go on.
    pub(super) fn unblock(&mut self, exchange: &mut Exchange) {
        exchange.blocked = false;
        if let Some(since) = exchange.held_since.take() {
            exchange.held_for += self.now - since;
        }
        // The worker's clock stood still as long as its client held it up.
        self.worker_spoke(exchange);
        self.resume_links.extend(exchange.link);
        self.give_credit(exchange);
    }

    /// Passes body bytes on to the client, or keeps them while the client is slower.
    pub(super) fn forward(&mut self, exchange: &mut Exchange, data: &[u8], last: bool) {
        let Some(client) = exchange.client.and_then(|key| self.clients.get_mut(key)) else {
            return;
        };
        self.dirty_clients.extend(exchange.client);
        if exchange.spool.is_empty() {
            let room = self.config.http.response_buffer;
            if client.out.is_empty() || client.out.len() + data.len() <= room {
                client.send_data(data, last);
                return;
            }
            if self.hold_back(exchange) {
                if let Some(client) = exchange.client.and_then(|key| self.clients.get_mut(key)) {
                    client.conn.send_data(data, &mut client.out.bytes);
                }
                return;
            }
        }
        let http = &self.config.http;
        match exchange.spool.push(data, &http.tmp_upload_dir) {
            Ok(()) => exchange.blocked |= exchange.spool.is_full(http.response_spool),
            Err(error) => {
                let text = format!("cannot spool a response in {}: {error}", http.tmp_upload_dir.display());
                self.break_off(exchange, &text);
            }
        }
    }

    /// Lets a response wait for its client, and its worker with it, if that is still allowed.
    pub(super) fn hold_back(&mut self, exchange: &mut Exchange) -> bool {
        let Some(rest) = self.hold(exchange) else {
            return false;
        };
        exchange.blocked = true;
        exchange.held_since.get_or_insert(self.now);
        self.exchange_timers.set(exchange.slot, Some(self.now + rest));
        true
    }

    /// How much longer a response may wait for its client instead of being spooled; `None` if no longer, or if others
    /// would have to wait with it.
    fn hold(&self, exchange: &Exchange) -> Option<Duration> {
        if self.config.http.response_spool == 0 {
            return Some(Duration::from_secs(1));
        }
        let worker = self.workers.get(exchange.worker?)?;
        if !worker.flows() && worker.is_shared() {
            return None;
        }
        let client = self.clients.get(exchange.client?)?;
        let allowed = HOLD + Duration::from_millis(client.conn.body_sent() / FAST);
        let held = exchange.held_for + exchange.held_since.map_or(Duration::ZERO, |since| self.now - since);
        allowed.checked_sub(held).filter(|rest| !rest.is_zero())
    }

    /// A response was held long enough: true if it was, and is spooled from now on.
    pub(super) fn held_overdue(&mut self, exchange: &mut Exchange) -> bool {
        if exchange.held_since.is_none() {
            return false;
        }
        if let Some(rest) = self.hold(exchange) {
            self.exchange_timers.set(exchange.slot, Some(self.now + rest));
        } else {
            self.unblock(exchange);
        }
        true
    }

    /// Sends of the spool's first part what the socket takes, within the budget.
    fn send_part(&mut self, client: &mut Client, budget: &mut usize) -> Next {
        let mut next = Next::Keep;
        let Some(exchange_key) = client.exchange else {
            return next;
        };
        let Some(mut exchange) = self.exchanges.take(exchange_key) else {
            return next;
        };
        let length = exchange.spool.left();
        let count = match exchange.spool.send(&client.stream, *budget) {
            // Its bytes must be read to be sent.
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                let most = self.scratch.len().min(KEEP);
                let scratch = self.scratch.get_mut(..most).unwrap_or_default();
                let count = exchange.spool.take(scratch);
                if let Ok(count) = count {
                    let bytes = self.scratch.get(..count).unwrap_or_default();
                    client.out.bytes.extend_from_slice(bytes);
                }
                count
            }
            count => count,
        };
        match count {
            Ok(count) if count > 0 || length == 0 => {
                client.stalled = false;
                *budget = budget.saturating_sub(count);
                if exchange.spool.left() == 0 {
                    client.sends_part = false;
                    client.conn.end_data(length, &mut client.out.bytes);
                    self.finish_part(&mut exchange);
                }
            }
            Ok(_) => {
                self.cut_off(&mut exchange, "a file of the response has become shorter");
                client.sends_part = false;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => client.writable = false,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if is_departure(error.kind()) => next = Next::Close,
            Err(error) => {
                let text = format!("cannot read a file of the response: {error}");
                self.cut_off(&mut exchange, &text);
                client.sends_part = false;
            }
        }
        self.exchanges.put(exchange_key, exchange);
        next
    }

    fn finish_part(&mut self, exchange: &mut Exchange) {
        if let Err(error) = exchange.spool.finish() {
            let text = format!("cannot empty a spooled response: {error}");
            self.cut_off(exchange, &text);
        }
    }

    /// Breaks a response off that is on its way to its client, in a line that names what was asked for.
    fn cut_off(&mut self, exchange: &mut Exchange, why: &str) {
        let method = escape::cut(exchange.head.method(), 64).to_string();
        let target = escape::cut(exchange.head.target(), 256).to_string();
        self.break_off(exchange, &format!("{method} {target} failed (cut): {why}"));
    }
}
