//! The pull queue of a pool: pushing, taking back, and finding out what a dead worker was running.
//!
//! A pushed request is tied to no worker until one has taken it. When a worker dies, its board names what it may have
//! run; a request that is in no board, was not answered, and is no longer in the socket was never run
//! (docs/protocols/pipe.md).

use super::event_loop::Front;
use super::exchange::{Exchange, Place};
use super::link::Down;
use super::tokens::{Key, Kind};
use super::workers::State;
use crate::base::level::Level;
use crate::pipe::{FrontConn, frame};
use crate::sys::{fd, socket};
use mio::unix::SourceFd;
use mio::{Interest, Registry};
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

/// Time between looks at a request that waits in the socket, and at one that may be lost.
pub(super) const LOOK: Duration = Duration::from_millis(50);

/// How long a request must be in no board and no socket before it counts as lost: a live worker that has just received
/// it needs far less to say so on its board.
const LOST_AFTER: Duration = Duration::from_millis(250);

/// Both ends of a pool's queue.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) sender: OwnedFd,
    receiver: OwnedFd,
    /// The socket is full; the poll will say when it is not.
    pub(super) blocked: bool,
}

impl Queue {
    /// Makes both ends non-blocking for us. Workers share the receiving end's file description, so that one is left as
    /// it is and read with a flag.
    pub(super) fn new(sender: OwnedFd, receiver: OwnedFd) -> io::Result<Self> {
        fd::set_nonblocking(&sender, true)?;
        Ok(Self {
            sender,
            receiver,
            blocked: false,
        })
    }

    /// Asks the poll for the moment when the socket has room. Not before it is needed: each message that a worker takes
    /// makes room, and would wake the front.
    fn block(&mut self, registry: &Registry, pool: u32) -> io::Result<()> {
        if std::mem::replace(&mut self.blocked, true) {
            return Ok(());
        }
        let token = Key::fixed(pool).token(Kind::Queue);
        registry.register(&mut SourceFd(&self.sender.as_raw_fd()), token, Interest::WRITABLE)
    }

    /// The socket has room. True if that is news.
    pub(super) fn unblock(&mut self, registry: &Registry) -> bool {
        let was_blocked = std::mem::take(&mut self.blocked);
        if was_blocked {
            let _ = registry.deregister(&mut SourceFd(&self.sender.as_raw_fd()));
        }
        was_blocked
    }
}

impl Front {
    /// Puts a request into its pool's queue. `starts`: a slot is free, so its clock starts now.
    pub(super) fn push(&mut self, key: Key, starts: bool) {
        let Some(mut exchange) = self.exchanges.take(key) else {
            return;
        };
        self.push_exchange(key, &mut exchange, starts);
        self.settle(key, exchange);
    }

    fn push_exchange(&mut self, key: Key, exchange: &mut Exchange, starts: bool) {
        let Some(pool) = self.pools.get_mut(exchange.pool) else {
            return;
        };
        let Some(wire) = pool.allocate_wire(key) else {
            pool.dispatch.release_pulled(None);
            exchange.place = Place::Finished;
            self.blame(exchange, 503, "all request numbers are in use");
            return;
        };
        let sent = match &pool.queue {
            Some(queue) if queue.blocked => Err(ErrorKind::WouldBlock.into()),
            Some(queue) => send(queue, wire, exchange, &mut self.message),
            None => Err(ErrorKind::NotConnected.into()),
        };
        if let Err(error) = sent {
            pool.free_wire(wire);
            pool.dispatch.release_pulled(None);
            if error.kind() == ErrorKind::WouldBlock {
                pool.dispatch.put_back(key.index, exchange.queued);
                exchange.place = Place::Waiting;
                let number = u32::try_from(exchange.pool).unwrap_or(u32::MAX);
                let asked = pool
                    .queue
                    .as_mut()
                    .map(|queue| queue.block(self.poll.registry(), number));
                if let Some(Err(error)) = asked {
                    self.say(Level::Error, None, format_args!("cannot watch the queue: {error}"));
                }
            } else {
                exchange.place = Place::Finished;
                self.blame(exchange, 500, &format!("it could not be queued: {error}"));
            }
            return;
        }
        exchange.place = Place::Pulled;
        exchange.pulled = true;
        exchange.wire = wire;
        exchange.seen_running = starts;
        exchange.missing_since = None;
        exchange.dispatched = self.now;
        exchange.window = u64::MAX;
        let look = if starts {
            self.deadline(exchange)
        } else {
            Some(self.now + LOOK)
        };
        self.exchange_timers.set(key.place(), look);
    }

    /// The time to look at a pulled request has come: is it running, waiting, or lost?
    pub(super) fn pulled_overdue(&mut self, key: Key, exchange: &mut Exchange) {
        if let Some(worker) = self.runner(exchange) {
            exchange.missing_since = None;
            if !exchange.seen_running {
                // It waited in the socket; its clock starts when it is first seen to run.
                exchange.seen_running = true;
                exchange.dispatched = self.now;
            }
            // A pulled request is one that nothing was heard of yet.
            let end = self.deadline_of_silence_since(exchange, exchange.dispatched);
            if end.is_some_and(|end| end <= self.now) {
                self.overdue(exchange, worker);
                return;
            }
            self.exchange_timers.set(key.place(), end);
            if exchange.client.is_none() && !exchange.aborted {
                // It left before a worker had taken the request.
                self.abort(key, exchange);
            }
            return;
        }
        let missing = exchange.missing_since.map(|since| self.now - since);
        if missing.is_some_and(|time| time >= LOST_AFTER) && !self.is_anyone_taking(exchange.pool) {
            self.withdraw(exchange);
            if exchange.may_have_run {
                exchange.place = Place::Finished;
                self.worker_lost(
                    key,
                    exchange,
                    false,
                    &Down::Broken("its answers could not be read".to_owned()),
                );
                return;
            }
            self.say(
                Level::Info,
                Some(exchange),
                format_args!("the worker left before it ran the request: sent again"),
            );
            self.try_again(key, exchange);
            return;
        }
        exchange.seen_running = false;
        self.exchange_timers.set(key.place(), Some(self.now + LOOK));
        if missing.is_some_and(|time| time < LOST_AFTER) {
            // It may well have gone with a worker: so far nobody else is to blame.
            return;
        }
        let queue_limit = self.pools.get(exchange.pool).and_then(|pool| pool.config.queue_timeout);
        let is_late = queue_limit.is_some_and(|limit| self.now - exchange.queued >= limit);
        // A worker that is silent may have the request, or be why it waits. It speaks soon, or is ended.
        if is_late && exchange.missing_since.is_none() && !self.is_anyone_silent(exchange.pool) {
            self.take_back.push(exchange.pool);
        }
    }

    /// A pulled request leaves the books of its pool.
    fn withdraw(&mut self, exchange: &mut Exchange) {
        let Some(pool) = self.pools.get_mut(exchange.pool) else {
            return;
        };
        if exchange.wire != 0 {
            pool.free_wire(std::mem::take(&mut exchange.wire));
        }
        pool.dispatch.release_pulled(None);
        pool.dirty = true;
        exchange.pulled = false;
    }

    /// Takes everything out of a pool's queue socket and puts it back at the head of the queue, oldest first.
    pub(super) fn take_back(&mut self, pool_index: usize) {
        let mut taken = Vec::new();
        let mut fds = Vec::new();
        let mut scratch = std::mem::take(&mut self.scratch);
        while let Some(queue) = self.pools.get(pool_index).and_then(|pool| pool.queue.as_ref()) {
            fds.clear();
            match socket::try_receive_packet(&queue.receiver, &mut scratch, &mut fds) {
                Ok(0) => break,
                Ok(count) => {
                    let header = scratch.get(..count).unwrap_or_default();
                    if let Ok(Some(header)) = frame::Header::decode(header, frame::PAYLOAD_LIMIT) {
                        taken.push(header.id);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => {
                    self.say(
                        Level::Error,
                        None,
                        format_args!("cannot take requests back from the queue: {error}"),
                    );
                    break;
                }
            }
        }
        self.scratch = scratch;
        for wire in taken.into_iter().rev() {
            let Some(key) = self.pools.get(pool_index).and_then(|pool| pool.by_wire(wire)) else {
                continue;
            };
            let Some(mut exchange) = self.exchanges.take(key) else {
                continue;
            };
            if exchange.place == Place::Pulled {
                let queued = exchange.queued;
                self.withdraw(&mut exchange);
                self.exchange_timers.set(key.place(), None);
                exchange.place = Place::Finished;
                if exchange.client.is_some() {
                    exchange.reset_response();
                    exchange.place = Place::Waiting;
                    if let Some(pool) = self.pools.get_mut(pool_index) {
                        pool.dispatch.put_back(key.index, queued);
                    }
                }
            }
            self.settle(key, exchange);
        }
    }

    /// Sorts out the pulled requests of a pool one of whose workers has just been reaped.
    pub(super) fn settle_pulled_after_death(&mut self, dead: Key, pool_index: usize) {
        let Some(pool) = self.pools.get(pool_index) else { return };
        if pool.queue.is_none() {
            return;
        }
        let pulled: Vec<Key> = pool.exchanges().collect();
        self.take_back(pool_index);
        for key in pulled {
            let Some(mut exchange) = self.exchanges.take(key) else {
                continue;
            };
            if exchange.place == Place::Pulled {
                if self.workers.get(dead).is_some_and(|worker| worker.runs(exchange.wire)) {
                    self.withdraw(&mut exchange);
                    exchange.place = Place::Finished;
                    self.exchange_timers.set(key.place(), None);
                    // For the log.
                    exchange.worker = Some(dead);
                    self.worker_lost(key, &mut exchange, false, &Down::Eof);
                    exchange.worker = None;
                } else if self.runner(&exchange).is_none() {
                    exchange.missing_since.get_or_insert(self.now);
                    exchange.may_have_run |= self.workers.get(dead).is_some_and(|worker| worker.is_cut);
                    self.exchange_timers.set(key.place(), Some(self.now + LOOK));
                }
            }
            self.settle(key, exchange);
        }
    }

    /// Takes requests back from pools in which nobody is left to take them.
    pub(super) fn rescue(&mut self) {
        for pool in 0..self.pools.len() {
            let Some(entry) = self.pools.get_mut(pool) else {
                continue;
            };
            if let Some(queue) = &mut entry.queue {
                // Should the poll's word that there is room have been lost, the next try finds out.
                entry.dirty |= queue.unblock(self.poll.registry());
            }
            let stranded = entry.dispatch.pulled() > 0;
            let served = self
                .workers
                .keys()
                .filter_map(|key| self.workers.get(key))
                .any(|worker| worker.pool == pool && worker.pulls() && worker.state != State::Condemned);
            if stranded && !served {
                self.take_back(pool);
            }
        }
        for pool in std::mem::take(&mut self.take_back) {
            self.take_back(pool);
        }
    }
}

/// Sends one request as one message; what does not fit travels in a descriptor.
fn send(queue: &Queue, wire: u16, exchange: &Exchange, message: &mut Vec<u8>) -> io::Result<()> {
    message.clear();
    let memory = exchange.body.in_memory();
    FrontConn::request_message(
        wire,
        &exchange.block,
        memory.unwrap_or_default(),
        memory.is_none(),
        message,
    );
    let spilled = FrontConn::spill(message, frame::MESSAGE_LIMIT);
    let file = if spilled.is_empty() {
        exchange.body.file().map(File::try_clone).transpose()?
    } else {
        let mut file = File::from(fd::memory_file("rgunicorn-request")?);
        file.write_all(&spilled)?;
        let mut offset = 0;
        let mut part = [0; 16 * 1024];
        // A head this large beside a body in a file is rare enough for a copy.
        while memory.is_none() {
            let count = exchange.body.read_at(offset, &mut part)?;
            if count == 0 {
                break;
            }
            file.write_all(part.get(..count).unwrap_or_default())?;
            offset += count as u64;
        }
        Some(file)
    };
    match &file {
        Some(file) => socket::send_packet(&queue.sender, message, &[file.as_fd()]),
        None => socket::send_packet(&queue.sender, message, &[]),
    }
}
