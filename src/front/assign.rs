//! Requests into the hands of workers and out again.

use super::client::Stream;
use super::event_loop::Front;
use super::exchange::{Exchange, Place};
use super::link::{Down, Link, Wire};
use super::tokens::Key;
use super::workers::{Route, State};
use crate::config::Upstream;
use crate::control::{Protocol, ToArbiter};
use crate::pipe::{FrontConn, frame};
use crate::plan::dispatch::Verdict;
use mio::net::{TcpStream, UnixStream};
use std::io;

impl Front {
    /// Carries out what the plan decided for one request.
    pub(super) fn place(&mut self, exchange_key: Key, verdict: Verdict) {
        if verdict == Verdict::Wait {
            return;
        }
        if self
            .exchanges
            .get(exchange_key)
            .is_none_or(|exchange| exchange.client.is_none())
        {
            self.undo(exchange_key, verdict);
            return;
        }
        match verdict {
            Verdict::Assign(worker) => self.assign(exchange_key, worker),
            Verdict::Push(starts) => self.push(exchange_key, starts),
            Verdict::Wait | Verdict::Full => {}
        }
    }

    /// Hands waiting requests to workers that have come free.
    pub(super) fn dispatch(&mut self, pool_index: usize) {
        loop {
            let Some(pool) = self.pools.get_mut(pool_index) else {
                return;
            };
            pool.dirty = false;
            if pool.queue.as_ref().is_some_and(|queue| queue.blocked) {
                return;
            }
            let Some((request, _, verdict)) = pool.dispatch.next_ready() else {
                return;
            };
            if let Some(key) = self.exchanges.key_at(request as usize) {
                self.place(key, verdict);
            }
        }
    }

    fn assign(&mut self, exchange_key: Key, worker_index: u32) {
        let Some(worker_key) = self.workers.key_at(worker_index as usize) else {
            return;
        };
        let Some(mut exchange) = self.exchanges.take(exchange_key) else {
            self.unassign(worker_key);
            return;
        };
        match self.link_for(worker_key) {
            Ok(link) => self.start(exchange_key, &mut exchange, worker_key, link),
            Err(error) => {
                self.unassign(worker_key);
                exchange.place = Place::Waiting;
                self.put_back(exchange_key, &mut exchange);
                self.unreachable(worker_key, &error);
            }
        }
        self.settle(exchange_key, exchange);
    }

    /// The client left before its request was handed out.
    fn undo(&mut self, exchange_key: Key, verdict: Verdict) {
        let Some(mut exchange) = self.exchanges.take(exchange_key) else {
            return;
        };
        match verdict {
            Verdict::Assign(worker) => {
                if let Some(worker) = self.workers.key_at(worker as usize) {
                    self.unassign(worker);
                }
            }
            Verdict::Push(_) => {
                if let Some(pool) = self.pools.get_mut(exchange.pool) {
                    pool.dispatch.release_pulled(None);
                    pool.dirty = true;
                }
            }
            Verdict::Wait | Verdict::Full => {}
        }
        exchange.place = Place::Finished;
        self.settle(exchange_key, exchange);
    }

    /// The worker gets nothing more: what was given out to it in this turn and not sent goes back to the queue.
    pub(super) fn withhold(&mut self, worker_key: Key) {
        let given = Verdict::Assign(worker_key.index);
        for place in (0..self.assignments.len()).rev() {
            let Some((key, verdict)) = self.assignments.get_mut(place) else {
                continue;
            };
            if *verdict != given {
                continue;
            }
            // The entry stays, since the list may be being worked through; one that waits asks for nothing.
            *verdict = Verdict::Wait;
            let key = *key;
            let Some(mut exchange) = self.exchanges.take(key) else {
                continue;
            };
            if exchange.place == Place::Placed {
                self.try_again(key, &mut exchange);
            }
            self.settle(key, exchange);
        }
        let pool = self.workers.get(worker_key).map(|worker| worker.pool);
        if let Some(pool) = pool.and_then(|pool| self.pools.get_mut(pool)) {
            pool.dispatch.remove(worker_key.index);
        }
    }

    fn unassign(&mut self, worker_key: Key) {
        let Some(worker) = self.workers.get(worker_key) else {
            return;
        };
        if let Some(pool) = self.pools.get_mut(worker.pool) {
            pool.dispatch.release(worker_key.index);
            pool.dirty = true;
        }
    }

    fn start(&mut self, exchange_key: Key, exchange: &mut Exchange, worker_key: Key, link: Key) {
        let Some(worker) = self.workers.get_mut(worker_key) else {
            return;
        };
        worker.count(1);
        exchange.place = Place::Assigned;
        exchange.worker = Some(worker_key);
        exchange.link = Some(link);
        exchange.pid = worker.pid;
        exchange.dispatched = self.now;
        exchange.window = if worker.flows() {
            u64::from(frame::WINDOW)
        } else {
            u64::MAX
        };
        let is_pipe = worker.protocol == Protocol::Pipe;
        self.exchange_timers.set(exchange_key.place(), self.deadline(exchange));
        let Some(pool) = self.pools.get_mut(exchange.pool) else {
            return;
        };
        if is_pipe {
            match pool.allocate_wire(exchange_key) {
                Some(wire) => exchange.wire = wire,
                None => {
                    self.release(exchange, worker_key, None);
                    self.blame(exchange, 503, "all request numbers are in use");
                    return;
                }
            }
        }
        if let Err(reason) = self.start_request(link, exchange_key, exchange) {
            self.release(exchange, worker_key, None);
            self.drop_link(link);
            self.blame(exchange, 431, &format!("it cannot be expressed in FastCGI: {reason}"));
        }
    }

    /// A connection on which the worker can be given a request.
    fn link_for(&mut self, worker_key: Key) -> io::Result<Key> {
        let Some(worker) = self.workers.get_mut(worker_key) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        if let Some(channel) = worker.channel.filter(|_| worker.protocol == Protocol::Pipe) {
            return Ok(channel);
        }
        if let Some(link) = worker.idle_links.pop() {
            return Ok(link);
        }
        let stream = match &worker.route {
            Route::Socket(path) | Route::Upstream(Upstream::Unix(path)) => Stream::Unix(UnixStream::connect(path)?),
            Route::Upstream(Upstream::Tcp(address)) => {
                let stream = TcpStream::connect(*address)?;
                // Without it small records wait for acknowledgements; failing to set it costs only that.
                let _ = stream.set_nodelay(true);
                Stream::Tcp(stream)
            }
            Route::Channel => return Err(io::ErrorKind::NotConnected.into()),
        };
        worker.open_links += 1;
        self.add_link(Box::new(Link::new(stream, worker_key, Link::fastcgi())))
    }

    /// Opens a worker's channel.
    pub(super) fn add_channel(&mut self, worker: Key, stream: UnixStream, ready: bool) -> io::Result<Key> {
        let limits = crate::pipe::Limits::default();
        let conn = if ready {
            FrontConn::resumed(limits)
        } else {
            FrontConn::new(limits)
        };
        self.add_link(Box::new(Link::new(Stream::Unix(stream), worker, Wire::Pipe(conn))))
    }

    /// Closes a link that has no request on it.
    pub(super) fn drop_link(&mut self, key: Key) {
        self.link_down(key, &Down::Ours);
    }

    /// The worker has no part in the exchange any more. `reusable`: its FastCGI connection, if that may be used again.
    pub(super) fn release(&mut self, exchange: &mut Exchange, worker_key: Key, reusable: Option<Key>) {
        let held = std::mem::replace(&mut exchange.place, Place::Finished);
        exchange.link = None;
        let Some(pool) = self.pools.get_mut(exchange.pool) else {
            return;
        };
        pool.dirty = true;
        if exchange.wire != 0 {
            pool.free_wire(std::mem::take(&mut exchange.wire));
        }
        if exchange.pulled {
            pool.dispatch.release_pulled(Some(self.now - exchange.dispatched));
        } else {
            pool.dispatch.release(worker_key.index);
        }
        self.look_at_demand(exchange.pool);
        let Some(worker) = self.workers.get_mut(worker_key) else {
            return;
        };
        if held == Place::Assigned {
            worker.count(-1);
        }
        worker.served += 1;
        worker.active = self.now;
        let spent = worker.share != 0 && worker.served >= worker.share && worker.state == State::Ready;
        if spent {
            // Said once.
            worker.share = u64::MAX;
        }
        if let Some(link) = reusable {
            worker.idle_links.push(link);
        }
        let (id, retiring) = (worker.id, worker.state == State::Retiring);
        if spent {
            self.send_control(&ToArbiter::Spent { worker: id });
        }
        if retiring {
            self.check_drained(worker_key);
        }
    }

    /// Counts a pulled request into the hands of the worker that has begun to answer it.
    pub(super) fn bind(&mut self, exchange: &mut Exchange, worker_key: Key, link: Key) {
        exchange.place = Place::Assigned;
        exchange.worker = Some(worker_key);
        exchange.link = Some(link);
        exchange.missing_since = None;
        if let Some(worker) = self.workers.get_mut(worker_key) {
            worker.count(1);
            exchange.pid = worker.pid;
        }
    }

    /// Puts an exchange back in its slot, or drops it when nobody needs it any more.
    pub(super) fn settle(&mut self, key: Key, exchange: Box<Exchange>) {
        if exchange.place == Place::Finished && exchange.client.is_none() {
            self.exchange_timers.set(key.place(), None);
            self.exchanges.free(key);
            self.retire_exchange(exchange);
            return;
        }
        if exchange.place == Place::Finished {
            self.exchange_timers.set(key.place(), None);
        }
        self.exchanges.put(key, exchange);
    }

    /// The exchange of a wire number, if this worker may speak about it.
    pub(super) fn by_wire(&self, worker: Key, wire: u16) -> Option<Key> {
        let speaker = self.workers.get(worker)?;
        let key = self.pools.get(speaker.pool)?.by_wire(wire)?;
        let exchange = self.exchanges.get(key)?;
        let owns = match exchange.place {
            Place::Pulled => speaker.state != State::Condemned,
            Place::Assigned => exchange.worker == Some(worker),
            Place::Receiving | Place::Waiting | Place::Placed | Place::Finished => false,
        };
        owns.then_some(key)
    }

    /// The exchanges whose answers come over this link.
    pub(super) fn exchanges_on(&self, link: Key) -> Vec<Key> {
        let on_link = |key: &Key| {
            self.exchanges
                .get(*key)
                .is_some_and(|exchange| exchange.link == Some(link))
        };
        self.exchanges.keys().filter(on_link).collect()
    }
}
