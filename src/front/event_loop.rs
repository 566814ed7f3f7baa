//! The front's loop: poll, hand each event to its owner, run timers, give out work, flush.
//!
//! A turn has two halves. First every socket that has something is read and understood; nothing is written. Then
//! requests are given out, and links and clients flushed, so that what one turn has gathered leaves in few writes.
//! Never here: what any of the bytes mean.

use super::accept::Listener;
use super::by_app::Directories;
use super::change;
use super::change::Changes;
use super::client::Client;
use super::control::Control;
use super::demand::OUTAGE;
use super::exchange::{Exchange, Place};
use super::link::Link;
use super::output::Output;
use super::report::Pressure;
use super::routing::{Sites, Tables};
use super::scripts::{self, AllowedRoots};
use super::stalled::Looks;
use super::tokens::{Key, Kind, Slots};
use super::workers::{Pool, Worker};
use crate::base::ids::{PoolId, WorkerId};
use crate::base::level::Level;
use crate::base::message::{RequestHead, ResponseHead};
use crate::config::{self, Config};
use crate::control::ToArbiter;
use crate::files;
use crate::http1::{self, forwarded};
use crate::logging::{Logger, access};
use crate::plan::dispatch::Verdict;
use crate::plan::timers::Timers;
use crate::proxy;
use crate::sys::{clock, process, signals};
use mio::{Events, Poll};
use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Bytes read at once.
const SCRATCH: usize = 128 * 1024;

/// Time between proofs that the loop turns.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Time between looks whether the workers are done with what they have answered, when nothing else is left.
const BOARD_LOOK: Duration = Duration::from_millis(10);

/// Time until a log that did not take all its lines is tried again.
const LOG_RETRY: Duration = Duration::from_millis(100);

/// The end is near.
#[derive(Clone, Copy, Debug)]
pub(super) struct Drain {
    /// When what is left is cut.
    pub(super) until: Instant,
    /// When connections without a request are closed.
    pub(super) idle_until: Instant,
}

/// Everything the front has.
#[derive(Debug)]
pub(super) struct Front {
    pub(super) poll: Poll,
    /// The time of this turn.
    pub(super) now: Instant,
    /// The value of the Date field.
    pub(super) date: String,
    date_second: u64,
    /// Without its pools and sites, which have places of their own.
    pub(super) config: Config,
    pub(super) policy: http1::policy::Policy,
    pub(super) forward: forwarded::ForwardPolicy,
    /// Reads PROXY headers, if connections may begin with them.
    pub(super) proxy: Option<proxy::Reader>,
    pub(super) control: Control,
    pub(super) listeners: Vec<Listener>,
    pub(super) accepting: bool,
    pub(super) accept_pause: Option<Instant>,
    pub(super) clients: Slots<Client>,
    pub(super) exchanges: Slots<Exchange>,
    pub(super) links: Slots<Link>,
    pub(super) workers: Slots<Worker>,
    pub(super) worker_keys: HashMap<WorkerId, Key>,
    pub(super) outputs: Slots<Output>,
    pub(super) pools: Vec<Pool>,
    pub(super) sites: Tables,
    /// The configuration that is to follow, and what is left of earlier ones.
    pub(super) changes: Changes,
    /// Where the scripts lie that web servers may name, by listener.
    pub(super) allowed_roots: Vec<AllowedRoots>,
    /// Directories that apps name files in, and those of error pages.
    pub(super) directories: Directories,
    /// The memory of an answer with a file.
    pub(super) file_answer: files::Answer,
    /// Requests that are whole and that we answer ourselves.
    pub(super) own_answers: Vec<Key>,
    pub(super) client_timers: Timers,
    pub(super) exchange_timers: Timers,
    pub(super) worker_timers: Timers,
    /// By the places of pools: when to look how many workers they need.
    pub(super) demand_timers: Timers,
    /// Workers that were asked for and that the arbiter has no room for.
    pub(super) crowded: u32,
    /// Requests the plan has placed and nobody has sent yet.
    pub(super) assignments: Vec<(Key, Verdict)>,
    pub(super) fail_later: Vec<(Key, u16)>,
    pub(super) dirty_clients: Vec<Key>,
    pub(super) dirty_links: Vec<Key>,
    pub(super) resume_clients: Vec<Key>,
    /// Clients that would take more than one turn allows.
    pub(super) resume_sends: Vec<Key>,
    pub(super) resume_links: Vec<Key>,
    pub(super) resume_outputs: Vec<Key>,
    pub(super) more_to_accept: Vec<usize>,
    pub(super) take_back: Vec<usize>,
    pub(super) per_address: HashMap<IpAddr, u32>,
    /// Exchanges touched by the link that is being read.
    pub(super) touched: Vec<Key>,
    pub(super) scratch: Vec<u8>,
    pub(super) scratch_head: ResponseHead,
    /// The decoded path of the request at hand.
    pub(super) path: Vec<u8>,
    /// A message for a pull queue.
    pub(super) message: Vec<u8>,
    pub(super) spare_buffers: Vec<Vec<u8>>,
    pub(super) spare_heads: Vec<RequestHead>,
    #[expect(
        clippy::vec_box,
        reason = "boxes move between here and the slots without copying exchanges"
    )]
    pub(super) spare_exchanges: Vec<Box<Exchange>>,
    pub(super) log: Logger,
    pub(super) access: Option<access::AccessWriter>,
    pub(super) pressure: Pressure,
    pub(super) hints: Pressure,
    pub(super) drain: Option<Drain>,
    pub(super) random: fastrand::Rng,
    next_heartbeat: Instant,
    pub(super) looks: Looks,
}

impl Front {
    pub(super) fn new(
        mut config: Config,
        numbers: Vec<PoolId>,
        control: Control,
        log: Logger,
        access: Option<access::AccessWriter>,
    ) -> io::Result<Self> {
        let now = clock::now();
        let poll = Poll::new()?;
        control.register(poll.registry())?;
        let arbiter = control.arbiter()?;
        let changes = Changes::new(&mut config, numbers);
        let sites = Sites::new(std::mem::take(&mut config.sites), changes.numbers(), arbiter);
        let mut pools = Vec::new();
        change::add_pools(&mut pools, &mut config, changes.numbers(), now);
        let mut front = Self {
            poll,
            now,
            date: String::new(),
            date_second: 0,
            policy: policy(&config.http),
            forward: forward_policy(&config.http),
            proxy: super::proxied::reader(config.http.proxy_protocol),
            control,
            listeners: Vec::new(),
            accepting: false,
            accept_pause: None,
            clients: Slots::new(),
            exchanges: Slots::new(),
            links: Slots::new(),
            workers: Slots::new(),
            worker_keys: HashMap::new(),
            outputs: Slots::new(),
            pools,
            sites: Tables::new(sites),
            changes,
            allowed_roots: scripts::allowed_roots(&config, arbiter),
            own_answers: Vec::new(),
            directories: Directories::new(arbiter),
            file_answer: files::Answer::default(),
            client_timers: Timers::new(Duration::from_millis(20)),
            exchange_timers: Timers::new(Duration::from_millis(10)),
            worker_timers: Timers::new(Duration::from_millis(1)),
            demand_timers: Timers::new(Duration::from_millis(10)),
            crowded: 0,
            assignments: Vec::new(),
            fail_later: Vec::new(),
            dirty_clients: Vec::new(),
            dirty_links: Vec::new(),
            resume_clients: Vec::new(),
            resume_sends: Vec::new(),
            resume_links: Vec::new(),
            resume_outputs: Vec::new(),
            more_to_accept: Vec::new(),
            take_back: Vec::new(),
            per_address: HashMap::new(),
            config,
            touched: Vec::new(),
            scratch: vec![0; SCRATCH],
            scratch_head: ResponseHead::default(),
            path: Vec::new(),
            message: Vec::new(),
            spare_buffers: Vec::new(),
            spare_heads: Vec::new(),
            spare_exchanges: Vec::new(),
            log,
            access,
            pressure: Pressure::default(),
            hints: Pressure::default(),
            drain: None,
            random: fastrand::Rng::new(),
            next_heartbeat: now,
            looks: Looks::new(now),
        };
        for pool in 0..front.pools.len() {
            front.add_upstreams(pool);
        }
        Ok(front)
    }

    /// Turns until the front has drained (`Ok`) or its arbiter is gone (`Err`).
    pub(super) fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        loop {
            let wait = self.wait();
            match self.poll.poll(&mut events, wait) {
                Err(error) if error.kind() == ErrorKind::Interrupted => events.clear(),
                result => result?,
            }
            self.read_clock();
            for event in &events {
                self.event(event)?;
            }
            self.resume();
            self.run_timers();
            self.act();
            self.flush_access();
            self.log.flush();
            if self.has_drained() {
                self.send_control(&ToArbiter::Finished);
                return Ok(());
            }
        }
    }

    /// The arbiter is gone: ends every worker's process group, since what a worker has forked does not see the end of
    /// the arbiter by itself.
    pub(super) fn abandon(&self) {
        let workers = self.workers.keys().filter_map(|key| self.workers.get(key));
        // Those that end their requests themselves do so when their channel ends, which is now, and better than we could.
        for worker in workers.filter(|worker| worker.pid > 1 && !worker.aborts()) {
            // A group of another user is left to its own parent-death signals.
            let _ = process::signal_group(worker.pid, signals::KILL);
        }
    }

    fn event(&mut self, event: &mio::event::Event) -> io::Result<()> {
        let Some((kind, key)) = Key::from_token(event.token()) else {
            return Ok(());
        };
        match kind {
            Kind::Client => self.client_event(key, event),
            Kind::Link => self.link_event(key, event),
            Kind::Listener => self.accept(key.place()),
            Kind::Control => self.read_control()?,
            Kind::Output => self.read_output(key),
            Kind::Probe => self.probe_event(key),
            Kind::Queue => {
                if let Some(pool) = self.pools.get_mut(key.place()) {
                    pool.dirty = true;
                    if let Some(queue) = &mut pool.queue {
                        queue.unblock(self.poll.registry());
                    }
                }
            }
        }
        Ok(())
    }

    /// Goes on with what did not fit into an earlier turn.
    fn resume(&mut self) {
        self.dirty_clients.append(&mut self.resume_sends);
        for key in std::mem::take(&mut self.resume_links) {
            self.resume_link(key);
        }
        for key in std::mem::take(&mut self.resume_clients) {
            self.read_client(key);
        }
        for key in std::mem::take(&mut self.resume_outputs) {
            self.read_output(key);
        }
        for index in std::mem::take(&mut self.more_to_accept) {
            if self.accept_pause.is_some_and(|until| self.now < until) {
                self.more_to_accept.push(index);
            } else {
                self.accept(index);
            }
        }
    }

    fn read_clock(&mut self) {
        self.now = clock::now();
        let wall = clock::wall();
        let second = wall.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if second != self.date_second {
            self.date_second = second;
            self.date = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(second));
        }
    }

    fn flush_access(&mut self) {
        let Some(access) = &mut self.access else { return };
        access.flush();
        let failure = access.take_failure();
        let dropped = if access.has_waiting() { 0 } else { access.take_dropped() };
        if dropped > 0 {
            let text = "access lines were dropped, because the log could not be written or its reader was too slow";
            self.say(Level::Warning, None, format_args!("{dropped} {text}"));
        }
        if let Some(error) = failure {
            let text = "the access log cannot be written, and its lines are dropped until it can";
            self.say(Level::Error, None, format_args!("{text}: {error}"));
        }
    }

    /// How long the poll may sleep.
    fn wait(&self) -> Option<Duration> {
        let resumed = [
            &self.resume_clients,
            &self.resume_sends,
            &self.resume_links,
            &self.resume_outputs,
        ];
        if resumed.iter().any(|list| !list.is_empty())
            || (self.accept_pause.is_none() && !self.more_to_accept.is_empty())
        {
            return Some(Duration::ZERO);
        }
        let tables = [
            &self.client_timers,
            &self.exchange_timers,
            &self.worker_timers,
            &self.demand_timers,
        ];
        let timers = tables.into_iter().filter_map(|timers| timers.next());
        let queues = self.pools.iter().filter_map(|pool| pool.dispatch.next_deadline());
        let drain = self.drain.map(|drain| {
            if self.clients.len() == 0 {
                // Slots clear their cells without telling anyone.
                self.now + BOARD_LOOK
            } else if drain.idle_until > self.now {
                drain.idle_until
            } else {
                drain.until
            }
        });
        // A log whose reader was slow is written again soon, even if nothing else happens.
        let has_waiting = self.log.has_waiting() || self.access.as_ref().is_some_and(access::AccessWriter::has_waiting);
        let logs = has_waiting.then(|| self.now + LOG_RETRY);
        let next = timers
            .chain(queues)
            .chain(logs)
            .chain(self.accept_pause)
            .chain(self.changes.next_look())
            .chain(drain)
            .fold(self.next_heartbeat, Instant::min);
        let now = clock::now();
        // Rounded up, since the poll counts in milliseconds and would otherwise turn in place until the time has come.
        Some(next.saturating_duration_since(now) + Duration::from_micros(900))
    }

    fn run_timers(&mut self) {
        if self.now >= self.next_heartbeat {
            self.next_heartbeat = self.now + HEARTBEAT;
            self.send_control(&ToArbiter::Heartbeat);
            self.rescue();
            self.look_at_boards(HEARTBEAT);
            self.look_at_outputs();
            self.make_room();
        }
        let mut due = Vec::new();
        self.client_timers.expired(self.now, &mut due);
        for place in due.drain(..) {
            if let Some(key) = self.clients.key_at(place) {
                self.client_overdue(key);
            }
        }
        self.exchange_timers.expired(self.now, &mut due);
        for place in due.drain(..) {
            if let Some(key) = self.exchanges.key_at(place) {
                self.exchange_overdue(key);
            }
        }
        self.worker_timers.expired(self.now, &mut due);
        for place in due.drain(..) {
            if let Some(key) = self.workers.key_at(place) {
                self.worker_due(key);
            }
        }
        self.demand_timers.expired(self.now, &mut due);
        for place in due.drain(..) {
            self.look_at_demand(place);
        }
        if !self.take_back.is_empty() {
            self.rescue();
        }
        self.look_at_changes();
        // After the rescue, so that what has waited too long in a socket is not pushed again.
        self.expire_queues();
        if let Some(drain) = self.drain
            && self.now >= drain.idle_until
        {
            let keys: Vec<Key> = self.clients.keys().collect();
            for key in keys {
                self.close_idle(key);
            }
        }
    }

    fn expire_queues(&mut self) {
        let mut expired = Vec::new();
        for pool in &mut self.pools {
            if pool.dispatch.next_deadline().is_some_and(|at| at <= self.now) {
                pool.dispatch.expire(self.now, &mut expired);
            }
        }
        for request in expired {
            if let Some(key) = self.exchanges.key_at(request as usize) {
                self.fail_later.push((key, 503));
            }
        }
    }

    /// Gives out requests and flushes, until nothing is left to do.
    fn act(&mut self) {
        loop {
            let mut idle = true;
            for (key, status) in std::mem::take(&mut self.fail_later) {
                idle = false;
                self.fail_waiting(key, status);
            }
            for key in std::mem::take(&mut self.own_answers) {
                idle = false;
                self.answer_own(key);
            }
            for place in 0..self.assignments.len() {
                idle = false;
                if let Some((key, verdict)) = self.assignments.get(place).copied() {
                    self.place(key, verdict);
                }
            }
            self.assignments.clear();
            for pool in 0..self.pools.len() {
                if self.pools.get(pool).is_some_and(|pool| pool.dirty) {
                    self.dispatch(pool);
                }
            }
            let mut links = std::mem::take(&mut self.dirty_links);
            links.dedup();
            for key in links.drain(..) {
                idle = false;
                self.flush_link(key);
            }
            if self.dirty_links.is_empty() {
                self.dirty_links = links;
            }
            let mut clients = std::mem::take(&mut self.dirty_clients);
            clients.dedup();
            let spent = self.flush_clients(&mut clients);
            if self.dirty_clients.is_empty() {
                self.dirty_clients = clients;
            }
            if idle && !spent {
                return;
            }
        }
    }

    fn flush_clients(&mut self, clients: &mut Vec<Key>) -> bool {
        let any = !clients.is_empty();
        for key in clients.drain(..) {
            self.flush_client(key);
        }
        any
    }

    fn fail_waiting(&mut self, key: Key, status: u16) {
        let Some(mut exchange) = self.exchanges.take(key) else {
            return;
        };
        if exchange.place == Place::Waiting {
            let pool = self.pools.get_mut(exchange.pool);
            // What has waited too long was taken out already.
            pool.map(|pool| pool.dispatch.cancel(key.index));
            let why = if self.refuses_all(exchange.pool) && status == 503 {
                OUTAGE
            } else if self.changes.has_left(exchange.pool) {
                "its pool was replaced or removed by a reload, and no worker came free in time (graceful_timeout)"
            } else if status == 503 {
                "no worker came free in time (queue_timeout)"
            } else {
                "no server can be reached"
            };
            self.blame(&mut exchange, status, why);
        }
        self.settle(key, exchange);
    }

    fn has_drained(&mut self) -> bool {
        let Some(drain) = self.drain else { return false };
        let is_served = self.clients.len() == 0 && self.exchanges.len() == 0;
        if is_served && !self.is_any_board_busy() {
            return true;
        }
        if self.now < drain.until {
            return false;
        }
        if self.exchanges.len() > 0 {
            let left = self.exchanges.len();
            self.say(
                Level::Warning,
                None,
                format_args!("{left} requests were cut at the end of graceful_timeout"),
            );
            self.log.flush();
        }
        true
    }
}

fn policy(http: &config::Http) -> http1::policy::Policy {
    http1::policy::Policy {
        limits: http1::policy::Limits {
            request_line: http.limit_request_line,
            fields: http.limit_request_fields,
            field_size: http.limit_request_field_size,
            body: http.limit_request_body,
        },
        rules: http1::policy::Rules {
            permit_obsolete_folding: http.permit_obsolete_folding,
            strip_header_spaces: http.strip_header_spaces,
            permit_unconventional_http_method: http.permit_unconventional_http_method,
            permit_unconventional_http_version: http.permit_unconventional_http_version,
            casefold_http_method: http.casefold_http_method,
        },
    }
}

fn forward_policy(http: &config::Http) -> forwarded::ForwardPolicy {
    forwarded::ForwardPolicy {
        header_map: match http.header_map {
            config::HeaderMap::Drop => forwarded::HeaderMapKind::Drop,
            config::HeaderMap::Refuse => forwarded::HeaderMapKind::Refuse,
            config::HeaderMap::Dangerous => forwarded::HeaderMapKind::Dangerous,
        },
        forwarder_headers: http.forwarder_headers.clone(),
        secure_scheme_headers: http.secure_scheme_headers.clone(),
        script_name: http.script_name.clone(),
    }
}
