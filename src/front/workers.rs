//! The workers of the pools as the front sees them: which are ready, what each has in hand, and what becomes of a
//! request when its worker lets it down.

use super::demand::Outage;
use super::event_loop::Front;
use super::probe::Probe;
use super::pull::Queue;
use super::stalled::{Lingering, Pulse};
use super::tokens::Key;
use crate::base::ids::WorkerId;
use crate::base::level::Level;
use crate::config::{self, Upstream, WorkerProtocol};
use crate::control::{Protocol, Ready, ToArbiter};
use crate::pipe::{FrontConn, frame};
use crate::plan::demand::{self, Demand};
use crate::plan::dispatch::{self, Dispatch};
use crate::sys::board::Board;
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
    /// When it became ready, or ended a request.
    pub(super) active: Instant,
    /// Requests after which it is spent; 0 = never.
    pub(super) share: u64,
    /// Its channel was given up with answers in it that were not read.
    pub(super) is_cut: bool,
    /// The last sign of life it gave while it waits for requests.
    pub(super) pulse: Pulse,
    pub(super) probe: Option<Probe>,
    /// Time until the next probe or the next try of an upstream.
    pub(super) pause: Duration,
    /// Probing since.
    pub(super) since: Instant,
    pub(super) output: Option<Key>,
    /// `Drained` was sent.
    pub(super) drained: bool,
    /// `Served` was sent.
    pub(super) has_served: bool,
    /// One of its requests has a body that was cut: it is killed when it has no other.
    pub(super) has_cut_body: bool,
    /// A request of its has passed the deadline. It gets nothing more and is ended when its other requests are.
    pub(super) is_overdue: bool,
    /// The numbers of its overdue requests. They were answered, but its board may still name them.
    pub(super) given_up: Vec<u16>,
    /// What it has answered and is still busy with.
    pub(super) lingering: Vec<Lingering>,
    /// What to log about an overdue request once the arbiter has said what the worker was doing.
    pub(super) report: Option<String>,
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
            active: now,
            share: 0,
            is_cut: false,
            pulse: Pulse::default(),
            probe: None,
            pause: Duration::from_millis(2),
            since: now,
            output: None,
            drained: false,
            has_served: false,
            has_cut_body: false,
            is_overdue: false,
            given_up: Vec::new(),
            lingering: Vec::new(),
            report: None,
        }
    }

    /// True if we have started it, and can end it.
    pub(super) fn is_ours(&self) -> bool {
        !matches!(self.route, Route::Upstream(_))
    }

    /// True if it counts the bytes it is sent.
    pub(super) fn flows(&self) -> bool {
        self.protocol == Protocol::Pipe && self.flags & frame::ready::FLOW != 0
    }

    /// True if it looks for ABORT between the frames of a response, and else not.
    pub(super) fn looks(&self) -> bool {
        self.protocol == Protocol::Pipe && !self.flows() && self.flags & frame::ready::LOOKS != 0
    }

    /// True if it takes requests from the pull queue.
    pub(super) fn pulls(&self) -> bool {
        self.protocol == Protocol::Pipe && self.flags & frame::ready::PULL != 0
    }

    /// True if it ends one request when told to, so that it need not be ended itself.
    pub(super) fn aborts(&self) -> bool {
        self.flows() && self.flags & frame::ready::ABORTS != 0
    }

    /// True if its board says that some slot runs something that somebody waits for.
    pub(super) fn board_busy(&self) -> bool {
        let is_given_up = |id: u64| self.given_up.iter().any(|wire| u64::from(*wire) == id);
        let counts = |id: u64| id != 0 && !is_given_up(id);
        let running = |board: &Board| (0..usize::from(self.slots)).any(|slot| counts(board.running(slot)));
        self.pulls() && self.board.as_ref().is_some_and(running)
    }

    /// True if it may have more than one request in hand, as far as can be told.
    pub(super) fn is_shared(&self) -> bool {
        let running = |board: &Board| {
            let slots = 0..usize::from(self.slots);
            slots.filter(|slot| board.running(*slot) != 0).nth(1).is_some()
        };
        self.slots > 1 && (self.in_flight > 1 || self.board.as_ref().is_some_and(running))
    }

    /// True if every slot runs something, by its board.
    pub(super) fn is_full(&self) -> bool {
        let full = |board: &Board| (0..usize::from(self.slots)).all(|slot| board.running(slot) != 0);
        self.board.as_ref().is_some_and(full)
    }

    /// True if its board says that some slot runs this request.
    pub(super) fn runs(&self, wire: u16) -> bool {
        self.pulls() && self.cell(wire).is_some()
    }

    /// The process that its board names for this request, if that is another than the worker.
    pub(super) fn process_of(&self, wire: u16) -> Option<i32> {
        let pid = i32::try_from(self.cell(wire)? >> 32).ok()?;
        (pid > 0).then_some(pid)
    }

    /// The cell with this request's number in its lower half.
    fn cell(&self, wire: u16) -> Option<u64> {
        let board = self.board.as_ref()?;
        let mut cells = (0..usize::from(self.slots)).map(|slot| board.running(slot));
        cells.find(|cell| cell & u64::from(u32::MAX) == u64::from(wire))
    }

    /// Moves the count of requests in its hands, here and on its board.
    pub(super) fn count(&mut self, by: i32) {
        self.in_flight = self.in_flight.saturating_add_signed(by);
        if let Some(board) = &self.board {
            board.set_in_flight(u64::from(self.in_flight));
        }
    }
}

/// How long workers are kept that nothing needs, unless it is configured.
const IDLE: Duration = Duration::from_secs(60);

/// One pool.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) config: config::Pool,
    /// It runs a WSGI app by our own shim: requests carry the environ of PEP 3333, and output goes to the log as it is.
    pub(super) is_wsgi: bool,
    pub(super) dispatch: Dispatch,
    /// How many workers it needs, if its size follows its requests.
    pub(super) demand: Option<Demand>,
    /// None of its workers starts.
    pub(super) outage: Option<Outage>,
    pub(super) queue: Option<Queue>,
    /// Exchanges by wire number, for the pipe protocol.
    wires: Vec<Option<Key>>,
    next_wire: u16,
    /// Its workers end single requests when told to.
    pub(super) aborts: bool,
    /// Its workers need not know how long a body is: they are told its end. FastCGI apps want CONTENT_LENGTH.
    pub(super) takes_chunks: bool,
    /// Work may be waiting for a worker that has come free.
    pub(super) dirty: bool,
}

/// Wire numbers in use at once; numbers come round again only after all others, so that a worker's board cannot name
/// a new request by an old one's number.
const WIRES: u16 = 0x3fff;

impl Pool {
    pub(super) fn new(config: config::Pool, now: Instant) -> Self {
        let size = |workers: u32| usize::try_from(workers).unwrap_or(usize::MAX);
        let is_cgi = config.protocol == WorkerProtocol::Cgi;
        // One process runs all scripts; `workers` of them at once.
        let processes = |workers: u32| {
            if is_cgi {
                usize::from(workers > 0)
            } else {
                size(workers)
            }
        };
        let demand = Demand::new(
            demand::Policy {
                min: processes(config.workers_min),
                max: processes(config.workers),
                slots: if is_cgi {
                    size(config.workers)
                } else {
                    usize::from(config.threads)
                },
                idle: config.idle.unwrap_or(IDLE),
            },
            now,
        );
        let policy = dispatch::Policy {
            max_queue: config.max_queue,
            queue_timeout: config.queue_timeout,
            // What waits in the socket does not say since when.
            lookahead: if demand.is_some() { 0 } else { config.lookahead },
        };
        Self {
            is_wsgi: matches!(config.program, config::Program::Wsgi(_)),
            takes_chunks: config.protocol == WorkerProtocol::Pipe,
            config,
            dispatch: Dispatch::new(policy),
            demand,
            outage: None,
            queue: None,
            wires: Vec::new(),
            next_wire: 0,
            aborts: false,
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

    /// Nobody gets this number until it is freed.
    pub(super) fn keep_wire(&mut self, wire: u16) {
        self.reassign_wire(wire, Key::NOBODY);
    }

    /// From now on the number means another exchange.
    pub(super) fn reassign_wire(&mut self, wire: u16, exchange: Key) {
        if let Some(place) = self.wires.get_mut(usize::from(wire)) {
            *place = Some(exchange);
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
    /// A worker may have requests from now on.
    pub(super) fn worker_ready(&mut self, key: Key, ready: Ready, tell: bool) {
        let Some(worker) = self.workers.get_mut(key) else {
            return;
        };
        worker.protocol = ready.protocol;
        worker.slots = ready.slots;
        worker.flags = ready.flags;
        worker.state = State::Ready;
        worker.active = self.now;
        let (id, pulls) = (worker.id, worker.pulls());
        // What gives each request a process of its own does not wear out.
        let is_worn = !worker.aborts();
        let in_flight = worker.in_flight;
        let is_pipe = worker.protocol == Protocol::Pipe;
        if let Some(pool) = self.pools.get_mut(worker.pool) {
            pool.dispatch.add(key.index, ready.slots, pulls && pool.queue.is_some());
            for _ in 0..in_flight {
                pool.dispatch.occupy(key.index);
            }
            pool.dirty = true;
            pool.aborts = !is_worn;
            pool.takes_chunks = is_pipe;
            if worker.share == 0 && pool.config.max_requests > 0 && is_worn {
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
        let id = worker.id;
        self.withhold(key);
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
        if worker.state == State::Booting && matches!(worker.route, Route::Socket(_)) {
            // It may be an app that speaks FastCGI and closes what it does not know: the probe goes on.
            return;
        }
        if matches!(worker.state, State::Ready | State::Booting) {
            worker.state = State::Suspect;
            self.withhold(key);
        }
        self.worker_timers
            .set(key.place(), Some(self.now + Duration::from_millis(500)));
    }

    /// Stops giving a worker requests; `Drained` follows when its last one has ended.
    pub(super) fn retire(&mut self, key: Key) {
        self.stop_giving(key);
        self.check_drained(key);
    }

    /// Gives a worker no more requests, and tells it to take none.
    pub(super) fn stop_giving(&mut self, key: Key) {
        let Some(worker) = self.workers.get_mut(key) else {
            return;
        };
        if worker.state == State::Condemned {
            return;
        }
        worker.state = State::Retiring;
        worker.probe = None;
        let (channel, idle) = (worker.channel, std::mem::take(&mut worker.idle_links));
        let is_pipe = worker.protocol == Protocol::Pipe;
        self.withhold(key);
        if let Some(link) = channel.filter(|_| is_pipe).and_then(|key| self.links.get_mut(key)) {
            link.send_frame(FrontConn::drain);
            self.dirty_links.extend(channel);
        }
        for link in idle {
            self.drop_link(link);
        }
    }

    /// An overdue request was answered by its worker after all. Nobody waits for it, but its number is free again.
    pub(super) fn answered_too_late(&mut self, key: Key, wire: u16) {
        let Some(worker) = self.workers.get_mut(key) else {
            return;
        };
        if let Some(place) = worker.given_up.iter().position(|given_up| *given_up == wire) {
            worker.given_up.swap_remove(place);
            if let Some(pool) = self.pools.get_mut(worker.pool) {
                pool.free_wire(wire);
            }
        }
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
            let (id, has_cut_body) = (worker.id, worker.has_cut_body);
            self.send_control(&if has_cut_body {
                ToArbiter::CutBody { worker: id }
            } else {
                ToArbiter::Drained { worker: id }
            });
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
        self.withhold(key);
        if let Some(pool) = self.pools.get_mut(pool_index) {
            pool.dirty = true;
        }
        self.settle_pulled_after_death(key, pool_index);
        self.worker_timers.set(key.place(), None);
        if let Some(worker) = self.workers.free(key) {
            if let Some(pool) = self.pools.get_mut(pool_index) {
                let lingering = worker.lingering.iter().map(|request| request.wire);
                let wires = worker.given_up.iter().copied().chain(lingering);
                wires.for_each(|wire| pool.free_wire(wire));
            }
            self.worker_keys.remove(&worker.id);
        }
    }

    fn link_worker(&self, link: Key) -> Option<Key> {
        self.links.get(link).map(|link| link.worker)
    }
}
