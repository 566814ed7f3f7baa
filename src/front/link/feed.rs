//! What goes to a worker: requests, and their bodies as far as it takes them.
//!
//! Never here: which worker gets a request (assign.rs).

use super::{KEEP, LOW_WATER, Link, Wire};
use crate::base::level::Level;
use crate::front::event_loop::Front;
use crate::front::exchange::{Exchange, Place};
use crate::front::tokens::{Key, Kind};
use crate::pipe::FrontConn;
use std::io::ErrorKind;

impl Front {
    /// Starts a request on a link; its out-buffer is written at the end of the turn.
    pub(in crate::front) fn start_request(
        &mut self,
        key: Key,
        exchange_key: Key,
        exchange: &mut Exchange,
    ) -> Result<(), String> {
        let Some(link) = self.links.get_mut(key) else {
            return Err("its connection is gone".to_owned());
        };
        link.last_request = None;
        link.newest = Some(exchange_key);
        link.touched = !link.out.is_empty();
        let memory = exchange.body.in_memory().filter(|_| !exchange.streams);
        let whole = exchange.body_ended && memory.is_some();
        match &mut link.wire {
            Wire::FastCgi { conn, parser } => {
                parser.reset();
                link.exchange = Some(exchange_key);
                conn.begin(&exchange.block, true, &mut link.out.bytes)
                    .map_err(|error| error.to_string())?;
                if let Some(body) = memory {
                    if !body.is_empty() {
                        conn.send_stdin(body, &mut link.out.bytes);
                    }
                    if whole {
                        conn.end_stdin(&mut link.out.bytes);
                    }
                }
            }
            Wire::Pipe(_) => {
                let window = usize::try_from(exchange.window).unwrap_or(usize::MAX);
                let body = memory
                    .filter(|body| body.len() <= window.min(LOW_WATER * 4))
                    .unwrap_or_default();
                let whole = whole && body.len() as u64 == exchange.body.len();
                FrontConn::request(exchange.wire, &exchange.block, body, whole, &mut link.out.bytes);
                exchange.body_passed = body.len() as u64;
                exchange.window -= body.len() as u64;
                if !whole {
                    link.feeding.push_back(exchange_key);
                }
                if whole {
                    link.last_request = Some(exchange_key);
                }
                self.dirty_links.push(key);
                return Ok(());
            }
        }
        if whole {
            exchange.body_passed = exchange.body.len();
            link.last_request = Some(exchange_key);
        } else {
            link.feeding.push_back(exchange_key);
        }
        self.dirty_links.push(key);
        Ok(())
    }

    /// Writes what waits for a worker and encodes more body while it takes it.
    pub(in crate::front) fn flush_link(&mut self, key: Key) {
        let Some(mut link) = self.links.take(key) else { return };
        loop {
            while link.writable && !link.out.is_empty() {
                match link.stream.write(link.out.rest()) {
                    Ok(count) => {
                        link.touched = true;
                        link.writable = count == link.out.len();
                        link.out.advance(count, KEEP);
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => link.writable = false,
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => {
                        link.fail(error);
                        break;
                    }
                }
            }
            if link.out.len() > LOW_WATER || !self.feed(&mut link) {
                break;
            }
        }
        let (registry, token) = (self.poll.registry(), key.token(Kind::Link));
        let watched = link
            .stream
            .watch_room(&mut link.watches_room, !link.writable, registry, token);
        if let Err(error) = watched {
            // Its requests would wait for ever.
            link.fail(error);
            link.finished = true;
        }
        let broken = link.readable;
        self.links.put(key, link);
        if broken {
            self.read_link(key);
        }
    }

    /// Encodes the next part of a body; false if there is nothing to encode now.
    fn feed(&mut self, link: &mut Link) -> bool {
        for _ in 0..link.feeding.len() {
            let Some(exchange_key) = link.feeding.pop_front() else {
                return false;
            };
            let Some(mut exchange) = self.exchanges.take(exchange_key) else {
                continue;
            };
            let fed = self.feed_one(link, exchange_key, &mut exchange);
            self.exchanges.put(exchange_key, exchange);
            match fed {
                Fed::Some => {
                    link.feeding.push_back(exchange_key);
                    return true;
                }
                Fed::Nothing => link.feeding.push_back(exchange_key),
                Fed::Last => return true,
            }
        }
        false
    }

    fn feed_one(&mut self, link: &mut Link, exchange_key: Key, exchange: &mut Exchange) -> Fed {
        if exchange.place != Place::Assigned {
            return Fed::Last;
        }
        let window = usize::try_from(exchange.window).unwrap_or(usize::MAX);
        let most = self.scratch.len().min(LOW_WATER).min(window);
        let part = self.scratch.get_mut(..most).unwrap_or_default();
        let count = match exchange.body.read_at(exchange.body_passed, part) {
            Ok(count) => count,
            Err(error) => {
                let text = format!("cannot read a spooled request body: {error}");
                self.say(Level::Error, Some(exchange), format_args!("{text}"));
                return Fed::Last;
            }
        };
        let data = self.scratch.get(..count).unwrap_or_default();
        let was_full = exchange.body.len().saturating_sub(exchange.body_passed) >= self.config.http.body_buffer as u64;
        exchange.body_passed += count as u64;
        let last = exchange.body_ended && exchange.body_passed == exchange.body.len();
        if count == 0 && !last {
            return Fed::Nothing;
        }
        match &mut link.wire {
            Wire::FastCgi { conn, .. } => {
                if count > 0 {
                    conn.send_stdin(data, &mut link.out.bytes);
                }
                if last {
                    conn.end_stdin(&mut link.out.bytes);
                }
            }
            Wire::Pipe(_) => {
                exchange.window -= count as u64;
                FrontConn::body(exchange.wire, data, last, &mut link.out.bytes);
            }
        }
        if exchange.streams && was_full {
            self.resume_clients.extend(exchange.client);
        }
        if last {
            link.last_request = Some(exchange_key);
            return Fed::Last;
        }
        Fed::Some
    }
}

enum Fed {
    /// Part of the body; more may come.
    Some,
    /// No bytes are there yet, or the worker's window is closed.
    Nothing,
    /// The body's last part, or nothing more will be sent.
    Last,
}
