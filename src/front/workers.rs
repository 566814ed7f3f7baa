//! The workers of the pools as the front sees them: which are ready, what each has in hand, and what becomes of a
//! request when its worker lets it down.

use super::client::Stream;
use super::event_loop::Front;
use super::exchange::{Exchange, Place, Stage};
use super::link::{Down, Link, Wire};
use super::probe::Probe;
use super::pull::Queue;
use super::tokens::Key;
use crate::base::ids::WorkerId;
use crate::base::level::Level;
use crate::config::{self, Upstream};
use crate::control::{Protocol, Ready, ToArbiter};
use crate::pipe::{FrontConn, frame};
use crate::plan::dispatch::{self, Dispatch, Verdict};
use crate::sys::board::Board;
use mio::net::{TcpStream, UnixStream};
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How requests reach a worker.
#[derive(Debug)]
pub(super) enum Route {
    /// Its own FastCGI socket.
    Socket(PathBuf),
    /// Its channel.
    Channel,
    /// A FastCGI server that is not ours.
    Upstream(Upstream),
}

/// Where a worker is in its life, as far as the front is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Not ready yet.
    Booting,
    /// May have requests.
    Ready,
    /// It dropped a connection: it gets nothing until it accepts another.
    Suspect,
    /// An upstream that could not be reached; tried again at its timer.
    Unreachable,
    /// Gets no more requests; its last ones may still run.
    Retiring,
    /// Being killed.
    Condemned,
}

/// One worker.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) id: WorkerId,
    pub(super) pool: usize,
    pub(super) age: u32,
    pub(super) pid: i32,
    pub(super) protocol: Protocol,
    pub(super) route: Route,
    pub(super) state: State,
    pub(super) slots: u16,
    /// READY flags.
    pub(super) flags: u8,
    pub(super) board: Option<Board>,
    pub(super) channel: Option<Key>,
    pub(super) idle_links: Vec<Key>,
    pub(super) open_links: usize,
    pub(super) in_flight: u32,
    pub(super) served: u64,
    /// Requests after which it is spent; 0 = never.
    pub(super) share: u64,
    pub(super) probe: Option<Probe>,
    /// Time until the next probe or the next try of an upstream.
    pub(super) pause: Duration,
    /// Probing since.
    pub(super) since: Instant,
    pub(super) output: Option<Key>,
    /// `Drained` was sent.
    pub(super) drained: bool,
    /// What to log about an overdue request once the arbiter has said what the worker was doing.
    pub(super) report: Option<String>,
    /// The request that ran when its output was last read, for lines that arrive late.
    pub(super) last_request: Option<crate::base::ids::RequestId>,
}

impl Worker {
    pub(super) fn new(id: WorkerId, pool: usize, route: Route, now: Instant) -> Self {
        Self {
            id,
            pool,
            age: 0,
            pid: 0,
            protocol: Protocol::FastCgi,
            route,
            state: State::Booting,
            slots: 1,
            flags: 0,
            board: None,
            channel: None,
            idle_links: Vec::new(),
            open_links: 0,
            in_flight: 0,
            served: 0,
            share: 0,
            probe: None,
            pause: Duration::from_millis(2),
            since: now,
            output: None,
            drained: false,
            report: None,
            last_request: None,
        }
    }

    /// True if it counts the bytes it is sent.
    pub(super) fn flows(&self) -> bool {
        self.protocol == Protocol::Pipe && self.flags & frame::ready::FLOW != 0
    }

    /// True if it takes requests from the pull queue.
    pub(super) fn pulls(&self) -> bool {
        self.protocol == Protocol::Pipe && self.flags & frame::ready::PULL != 0
    }

    /// True if its board says that some slot runs something.
    pub(super) fn board_busy(&self) -> bool {
        let running = |board: &Board| (0..usize::from(self.slots)).any(|slot| board.running(slot) != 0);
        self.pulls() && self.board.as_ref().is_some_and(running)
    }

    /// True if every slot runs something, by its board.
    pub(super) fn is_full(&self) -> bool {
        let full = |board: &Board| (0..usize::from(self.slots)).all(|slot| board.running(slot) != 0);
        self.board.as_ref().is_some_and(full)
    }

    /// True if its board says that some slot runs this request.
    pub(super) fn runs(&self, wire: u16) -> bool {
        let runs = |board: &Board| (0..usize::from(self.slots)).any(|slot| board.running(slot) == u64::from(wire));
        self.pulls() && self.board.as_ref().is_some_and(runs)
    }

    /// Moves the count of requests in its hands, here and on its board.
    fn count(&mut self, by: i32) {
        self.in_flight = self.in_flight.saturating_add_signed(by);
        if let Some(board) = &self.board {
            board.set_in_flight(u64::from(self.in_flight));
        }
    }
}

/// One pool.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) config: config::Pool,
    pub(super) dispatch: Dispatch,
    pub(super) queue: Option<Queue>,
    /// Exchanges by wire number, for the pipe protocol.
    wires: Vec<Option<Key>>,
    next_wire: u16,
    /// Work may be waiting for a worker that has come free.
    pub(super) dirty: bool,
}

/// Wire numbers in use at once; numbers come round again only after all others, so that a worker's board cannot name
/// a new request by an old one's number.
const WIRES: u16 = 0x3fff;

impl Pool {
    pub(super) fn new(config: config::Pool) -> Self {
        let policy = dispatch::Policy {
            max_queue: config.max_queue,
            queue_timeout: config.queue_timeout,
            lookahead: config.lookahead,
        };
        Self {
            config,
            dispatch: Dispatch::new(policy),
            queue: None,
            wires: Vec::new(),
            next_wire: 0,
            dirty: false,
        }
    }

    /// A number for an exchange; `None` if all are taken.
    pub(super) fn allocate_wire(&mut self, exchange: Key) -> Option<u16> {
        for _ in 0..WIRES {
            self.next_wire = self.next_wire % WIRES + 1;
            let place = usize::from(self.next_wire);
            if place >= self.wires.len() {
                self.wires.resize((place + 1).next_power_of_two(), None);
            }
            if let Some(wire @ None) = self.wires.get_mut(place) {
                *wire = Some(exchange);
                return Some(self.next_wire);
            }
        }
        None
    }

    pub(super) fn free_wire(&mut self, wire: u16) {
        if let Some(place) = self.wires.get_mut(usize::from(wire)) {
            *place = None;
        }
    }

    /// The exchange of a number.
    pub(super) fn by_wire(&self, wire: u16) -> Option<Key> {
        *self.wires.get(usize::from(wire))?
    }

    /// The exchanges that have a number.
    pub(super) fn exchanges(&self) -> impl Iterator<Item = Key> + '_ {
        self.wires.iter().flatten().copied()
    }
}

impl Front {
    /// Carries out what the plan decided for one request.
    pub(super) fn place(&mut self, exchange_key: Key, verdict: Verdict) {
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
        let Some(pool) = self.pools.get_mut(exchange.pool) else {
            return;
        };
        let deadline = pool.config.timeout.map(|limit| self.now + limit);
        self.exchange_timers.set(exchange_key.place(), deadline);
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
        let Some(worker) = self.workers.get_mut(worker_key) else {
            return;
        };
        if held == Place::Assigned {
            worker.count(-1);
        }
        worker.last_request = Some(exchange.id);
        worker.served += 1;
        let spent = worker.share != 0 && worker.served == worker.share && worker.state == State::Ready;
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
            Place::Receiving | Place::Waiting | Place::Finished => false,
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

    /// The worker has sent a part of the response: its clock starts over (docs/decisions/0002).
    pub(super) fn worker_spoke(&mut self, exchange: &Exchange) {
        let limit = self.pools.get(exchange.pool).and_then(|pool| pool.config.timeout);
        self.exchange_timers
            .set(exchange.slot, limit.map(|limit| self.now + limit));
    }

    /// The request goes to the head of the queue as if for the first time.
    pub(super) fn try_again(&mut self, key: Key, exchange: &mut Exchange) {
        if exchange.client.is_none() {
            exchange.place = Place::Finished;
            return;
        }
        exchange.reset_response();
        exchange.place = Place::Waiting;
        self.exchange_timers.set(key.place(), None);
        self.put_back(key, exchange);
    }

    fn put_back(&mut self, key: Key, exchange: &mut Exchange) {
        if let Some(pool) = self.pools.get_mut(exchange.pool) {
            pool.dispatch.put_back(key.index, self.now);
            pool.dirty = true;
        }
    }

    /// A request's worker is gone. `not_run`: it cannot have reached the app.
    pub(super) fn worker_lost(&mut self, key: Key, exchange: &mut Exchange, not_run: bool, down: &Down) {
        let untouched = exchange.stage != Stage::Committed && exchange.is_whole();
        if not_run && untouched {
            self.say(
                Level::Info,
                Some(exchange),
                format_args!("the worker left before it read the request: sent again"),
            );
            self.try_again(key, exchange);
            return;
        }
        exchange.deaths += 1;
        // A request that has ended two workers is not tried on a third.
        if untouched && exchange.head.is_safe() && exchange.deaths < 2 && exchange.client.is_some() {
            self.say(
                Level::Info,
                Some(exchange),
                format_args!("the worker left while it ran the request: sent again"),
            );
            self.try_again(key, exchange);
            return;
        }
        let why = match down {
            Down::Broken(reason) => format!("the worker broke its protocol: {reason}"),
            Down::Ours => "its connection was closed".to_owned(),
            Down::Eof | Down::Reset | Down::Unwritten if exchange.stage == Stage::Committed => {
                "the worker left in the middle of the response".to_owned()
            }
            Down::Eof | Down::Reset | Down::Unwritten => "the worker left before it answered".to_owned(),
        };
        self.blame(exchange, 502, &why);
    }

    /// Fails a request and says why in the log.
    pub(super) fn blame(&mut self, exchange: &mut Exchange, status: u16, why: &str) {
        let level = if status == 431 || status == 503 {
            Level::Info
        } else {
            Level::Warning
        };
        let cut = exchange.stage == Stage::Committed;
        let outcome = if cut { "cut".to_owned() } else { status.to_string() };
        self.say_request(level, exchange, &format!("failed ({outcome}): {why}"));
        let detail = match status {
            504 => "the application took too long to answer",
            503 => "the server is busy",
            431 => "the request head is too large for the application",
            _ => "the application failed to answer",
        };
        self.fail(exchange, status, detail);
    }

    /// Nobody waits for this exchange any more.
    pub(super) fn client_left(&mut self, key: Key) {
        let Some(mut exchange) = self.exchanges.take(key) else {
            return;
        };
        match exchange.place {
            Place::Receiving | Place::Finished => exchange.place = Place::Finished,
            Place::Waiting => {
                if let Some(pool) = self.pools.get_mut(exchange.pool) {
                    pool.dispatch.cancel(key.index);
                }
                exchange.place = Place::Finished;
            }
            Place::Assigned | Place::Pulled => self.abort(key, &mut exchange),
        }
        exchange.spool = None;
        if std::mem::take(&mut exchange.blocked) {
            self.resume_links.extend(exchange.link);
        }
        self.settle(key, exchange);
    }

    /// Tells a worker that its answer is not wanted. A request that may change something runs to its end; its answer
    /// is thrown away.
    fn abort(&mut self, key: Key, exchange: &mut Exchange) {
        let runner = exchange.worker.or_else(|| self.runner(exchange));
        let Some(worker_key) = runner else { return };
        let Some(worker) = self.workers.get(worker_key) else {
            return;
        };
        let stream_cut = exchange.streams && !exchange.body_ended;
        if worker.protocol == Protocol::Pipe {
            if worker.pulls() && !worker.flows() {
                // It never reads its channel before it is told to drain.
                return;
            }
            let Some(channel) = worker.channel else { return };
            let wire = exchange.wire;
            if let Some(link) = self.links.get_mut(channel) {
                link.send_frame(|out| FrontConn::abort(wire, out));
                self.dirty_links.push(channel);
            }
            return;
        }
        if stream_cut || exchange.head.is_safe() || exchange.stage == Stage::Committed {
            // FastCGI apps notice that nobody listens when they write to a closed connection.
            if let Some(link) = exchange.link {
                self.release(exchange, worker_key, None);
                if let Some(link) = self.links.get_mut(link) {
                    link.exchange = None;
                }
                self.drop_link(link);
                self.suspect(worker_key);
                self.exchange_timers.set(key.place(), None);
            }
        }
    }

    /// The worker whose board names a pulled request.
    pub(super) fn runner(&self, exchange: &Exchange) -> Option<Key> {
        let runs = |key: &Key| {
            let worker = self.workers.get(*key);
            worker.is_some_and(|worker| worker.pool == exchange.pool && worker.runs(exchange.wire))
        };
        self.workers.keys().find(runs)
    }

    /// An exchange's deadline has come.
    pub(super) fn exchange_overdue(&mut self, key: Key) {
        let Some(mut exchange) = self.exchanges.take(key) else {
            return;
        };
        match exchange.place {
            Place::Assigned => {
                // Time the client takes does not count against the worker.
                if exchange.blocked {
                    self.exchange_timers
                        .set(key.place(), Some(self.now + Duration::from_secs(1)));
                } else if let Some(worker) = exchange.worker {
                    self.overdue(&mut exchange, worker);
                }
            }
            Place::Pulled => self.pulled_overdue(key, &mut exchange),
            Place::Receiving | Place::Waiting | Place::Finished => {}
        }
        self.settle(key, exchange);
    }

    /// Answers 504 and has the worker killed.
    pub(super) fn overdue(&mut self, exchange: &mut Exchange, worker_key: Key) {
        let age = self.now - exchange.dispatched;
        let details = self.describe_request(exchange);
        let link = exchange.link.filter(|_| exchange.wire == 0);
        self.release(exchange, worker_key, None);
        self.fail(exchange, 504, "the application took too long to answer");
        if let Some(link_key) = link {
            if let Some(link) = self.links.get_mut(link_key) {
                link.exchange = None;
            }
            self.drop_link(link_key);
        }
        let Some(worker) = self.workers.get_mut(worker_key) else {
            return;
        };
        let text = format!(
            "WORKER TIMEOUT (pid:{}) {details} ran {:.1} s",
            worker.pid,
            age.as_secs_f64()
        );
        if matches!(worker.route, Route::Upstream(_)) {
            self.say_worker(Level::Critical, worker_key, format_args!("{text}"));
            return;
        }
        let already = worker.state == State::Condemned;
        worker.state = State::Condemned;
        let (id, pool) = (worker.id, worker.pool);
        if already {
            self.say_worker(Level::Critical, worker_key, format_args!("{text}"));
            return;
        }
        worker.report = Some(text);
        if let Some(pool) = self.pools.get_mut(pool) {
            pool.dispatch.remove(worker_key.index);
        }
        self.send_control(&ToArbiter::Overdue { worker: id });
    }

    /// A worker may have requests from now on.
    pub(super) fn worker_ready(&mut self, key: Key, ready: Ready, tell: bool) {
        let Some(worker) = self.workers.get_mut(key) else {
            return;
        };
        worker.protocol = ready.protocol;
        worker.slots = ready.slots;
        worker.flags = ready.flags;
        worker.state = State::Ready;
        let (id, pulls) = (worker.id, worker.pulls());
        let in_flight = worker.in_flight;
        if let Some(pool) = self.pools.get_mut(worker.pool) {
            pool.dispatch.add(key.index, ready.slots, pulls && pool.queue.is_some());
            for _ in 0..in_flight {
                pool.dispatch.occupy(key.index);
            }
            pool.dirty = true;
            if worker.share == 0 && pool.config.max_requests > 0 {
                worker.share = pool.config.max_requests + self.random.u64(0..=pool.config.max_requests_jitter);
            }
        }
        if tell {
            self.send_control(&ToArbiter::WorkerReady { worker: id, ready });
        }
    }

    /// The worker broke its protocol or left its channel: it gets nothing more and is replaced.
    pub(super) fn fault(&mut self, key: Key, reason: &str) {
        let Some(worker) = self.workers.get_mut(key) else {
            return;
        };
        if matches!(worker.route, Route::Upstream(_)) {
            self.say_worker(Level::Warning, key, format_args!("{reason}"));
            return;
        }
        if worker.state == State::Condemned {
            return;
        }
        worker.state = State::Condemned;
        let (id, pool) = (worker.id, worker.pool);
        if let Some(pool) = self.pools.get_mut(pool) {
            pool.dispatch.remove(key.index);
        }
        self.send_control(&ToArbiter::Faulty {
            worker: id,
            reason: reason.to_owned(),
        });
    }

    /// A worker's channel ended. It is most likely exiting; one that lives on without it is of no use.
    pub(super) fn channel_closed(&mut self, key: Key) {
        let Some(worker) = self.workers.get_mut(key) else {
            return;
        };
        if matches!(worker.state, State::Ready | State::Booting) {
            worker.state = State::Suspect;
            if let Some(pool) = self.pools.get_mut(worker.pool) {
                pool.dispatch.remove(key.index);
            }
        }
        self.worker_timers
            .set(key.place(), Some(self.now + Duration::from_millis(500)));
    }

    /// Stops giving a worker requests; `Drained` follows when its last one has ended.
    pub(super) fn retire(&mut self, key: Key) {
        let Some(worker) = self.workers.get_mut(key) else {
            return;
        };
        if worker.state == State::Condemned {
            return;
        }
        worker.state = State::Retiring;
        worker.probe = None;
        let (channel, idle) = (worker.channel, std::mem::take(&mut worker.idle_links));
        if let Some(pool) = self.pools.get_mut(worker.pool) {
            pool.dispatch.retire(key.index);
        }
        let is_pipe = worker.protocol == Protocol::Pipe;
        if let Some(link) = channel.filter(|_| is_pipe).and_then(|key| self.links.get_mut(key)) {
            link.send_frame(FrontConn::drain);
            self.dirty_links.extend(channel);
        }
        for link in idle {
            self.drop_link(link);
        }
        self.check_drained(key);
    }

    /// Says `Drained` once a retiring worker has nothing in hand.
    pub(super) fn check_drained(&mut self, key: Key) {
        let Some(worker) = self.workers.get_mut(key) else {
            return;
        };
        if worker.state != State::Retiring || worker.drained {
            return;
        }
        if worker.in_flight == 0 && !worker.board_busy() {
            worker.drained = true;
            let id = worker.id;
            self.send_control(&ToArbiter::Drained { worker: id });
        } else if worker.pulls() {
            // A slot clears its cell without telling anyone.
            self.worker_timers
                .set(key.place(), Some(self.now + Duration::from_millis(10)));
        }
    }

    /// The arbiter has reaped a worker.
    pub(super) fn exited(&mut self, key: Key, cause: &str) {
        // What it sent before it went is still in the sockets.
        let links: Vec<Key> = self
            .links
            .keys()
            .filter(|link| self.link_worker(*link) == Some(key))
            .collect();
        for link in links {
            self.drain_link(link);
        }
        self.read_output_to_end(key);
        let Some(worker) = self.workers.get_mut(key) else {
            return;
        };
        let report = worker.report.take();
        let pool_index = worker.pool;
        worker.state = State::Condemned;
        if let Some(report) = report {
            self.say_worker(
                Level::Critical,
                key,
                format_args!("{report}; it {cause} before it could be examined"),
            );
        }
        if let Some(pool) = self.pools.get_mut(pool_index) {
            pool.dispatch.remove(key.index);
            pool.dirty = true;
        }
        self.settle_pulled_after_death(key, pool_index);
        self.worker_timers.set(key.place(), None);
        if let Some(worker) = self.workers.free(key) {
            self.worker_keys.remove(&worker.id);
        }
    }

    fn link_worker(&self, link: Key) -> Option<Key> {
        self.links.get(link).map(|link| link.worker)
    }
}
