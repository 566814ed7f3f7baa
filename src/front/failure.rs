//! When a worker or a client lets a request down: retry, answer, abort, overdue.

use super::event_loop::Front;
use super::exchange::{Exchange, Place, Stage};
use super::link::{Down, Link};
use super::pull::LOOK;
use super::spool::Spool;
use super::tokens::Key;
use super::workers::{Route, State, Worker};
use crate::base::level::Level;
use crate::config::{OnAbort, Program};
use crate::control::{Protocol, ToArbiter};
use crate::logging::escape;
use crate::pipe::{FrontConn, worker};
use std::time::{Duration, Instant};

/// Time in which a worker that was told to take no more requests from the queue may still have taken one.
const LAST_CATCH: Duration = Duration::from_millis(50);

/// Workers that may refuse a request before it is answered 503.
const REFUSALS: u8 = 8;

/// A page that has printed a head that is wrong ends by itself within this time, or its client is answered without it.
const BAD_HEAD_GRACE: Duration = Duration::from_secs(2);

/// A worker that ends requests when told to has said so by then, or is stuck.
const ABORT_GRACE: Duration = Duration::from_secs(10);

impl Front {
    /// The request goes to the head of the queue as if for the first time.
    pub(super) fn try_again(&mut self, key: Key, exchange: &mut Exchange) {
        if exchange.client.is_none() {
            exchange.place = Place::Finished;
            return;
        }
        exchange.reset_response();
        exchange.place = Place::Waiting;
        exchange.queued = self.now;
        self.exchange_timers.set(key.place(), None);
        self.put_back(key, exchange);
    }

    /// A worker would not run the request: another may, a few times over.
    pub(super) fn refused(&mut self, key: Key, exchange: &mut Exchange, worker: Key) {
        if !exchange.is_whole() {
            return self.blame(exchange, 502, "it refused the request when part of it had been sent");
        }
        // Whatever it says, a request that it has begun to answer was run. Nor may two answers follow one another.
        if exchange.stage != Stage::Awaiting || exchange.redirect {
            return self.blame(exchange, 502, "it refused the request when it had begun to answer it");
        }
        // Each slot of a worker that leaves may catch one more request from the queue. It stops then, so that this ends.
        let is_leaving = self.workers.get(worker).is_some_and(|worker| worker.is_overdue);
        exchange.refusals += u8::from(!is_leaving);
        if exchange.refusals > REFUSALS {
            self.blame(exchange, 503, "worker after worker refused it");
        } else {
            self.try_again(key, exchange);
        }
    }

    pub(super) fn put_back(&mut self, key: Key, exchange: &mut Exchange) {
        if let Some(pool) = self.pools.get_mut(exchange.pool) {
            pool.dispatch.put_back(key.index, self.now);
            pool.dirty = true;
        }
        if self.refuses_all(exchange.pool) {
            self.fail_later.push((key, 503));
        }
    }

    /// A request's worker is gone. `not_run`: it cannot have reached the app.
    pub(super) fn worker_lost(&mut self, key: Key, exchange: &mut Exchange, not_run: bool, down: &Down) {
        if exchange.bad_head.is_some() {
            // The page has run and is told what is wrong with it, whatever became of its worker.
            return self.blame_head(exchange);
        }
        let untouched = exchange.stage != Stage::Committed && exchange.is_whole();
        if not_run && untouched {
            self.say(
                Level::Info,
                Some(exchange),
                format_args!("no worker has read the request yet: sent again"),
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
        let is_usual = matches!(status, 404 | 431 | 503);
        let level = if is_usual || exchange.client.is_none() {
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
            404 => "there is nothing here",
            403 => "this may not be run",
            _ => "the application failed to answer",
        };
        self.fail(exchange, status, detail);
    }

    /// A page has printed a head that is wrong. What follows is no sign of life that counts.
    pub(super) fn head_is_bad(&mut self, exchange: &mut Exchange, why: String) {
        exchange.bad_head = Some(why);
        self.exchange_timers.set(exchange.slot, Some(self.now + BAD_HEAD_GRACE));
    }

    /// Fails a request whose page has printed a head that is wrong, in the words that CGI scripts get.
    pub(super) fn blame_head(&mut self, exchange: &mut Exchange) {
        if exchange.ended {
            // It was answered while its page went on.
            return;
        }
        let why = exchange.bad_head.clone().unwrap_or_default();
        self.blame_script(exchange, &why);
    }

    /// Fails a request whose script is to blame, by its name.
    pub(super) fn blame_script(&mut self, exchange: &mut Exchange, why: &str) {
        let script = escape::cut(self.script_of(exchange), 1024).to_string();
        let text = if script.is_empty() {
            why.to_owned()
        } else {
            format!("{script}: {why}")
        };
        self.blame(exchange, 502, &text);
    }

    /// As [`blame_head`](Self::blame_head), while the page goes on, perhaps for ever. From then on it is one whose client
    /// has left.
    fn blame_head_early(&mut self, exchange: &mut Exchange) {
        let (place, link) = (exchange.place, exchange.link);
        self.blame_head(exchange);
        (exchange.place, exchange.link) = (place, link);
        self.exchange_timers.set(exchange.slot, self.deadline(exchange));
    }

    /// Nobody waits for this exchange any more.
    pub(super) fn client_left(&mut self, key: Key) {
        let Some(mut exchange) = self.exchanges.take(key) else {
            return;
        };
        match exchange.place {
            Place::Receiving | Place::Finished => exchange.place = Place::Finished,
            // Dropped when its worker's turn comes, which is this one's end.
            Place::Placed => {}
            Place::Waiting => {
                if let Some(pool) = self.pools.get_mut(exchange.pool) {
                    pool.dispatch.cancel(key.index);
                }
                exchange.place = Place::Finished;
            }
            Place::Assigned | Place::Pulled => self.abort(key, &mut exchange),
        }
        exchange.spool = Spool::default();
        if exchange.blocked {
            // Its worker's clock stood still for the client's sake.
            self.unblock(&mut exchange);
        }
        self.settle(key, exchange);
    }

    /// Tells a worker that its answer is not wanted. A request that may change something runs to its end; its answer
    /// is thrown away.
    pub(super) fn abort(&mut self, key: Key, exchange: &mut Exchange) {
        let runner = exchange.worker.or_else(|| self.runner(exchange));
        let Some(worker_key) = runner else {
            // Nobody has taken it yet: look again soon.
            if exchange.place == Place::Pulled {
                self.exchange_timers.set(key.place(), Some(self.now + LOOK));
            }
            return;
        };
        let Some(worker) = self.workers.get(worker_key) else {
            return;
        };
        let stream_cut = exchange.streams && !exchange.body_ended;
        // Whoever has the whole answer has not left before the end; but of HEAD that holds from the head on, and an app
        // that answers for ever must learn that nobody listens.
        let is_complete = exchange.is_fulfilled && (!exchange.head.is_head() || worker.aborts());
        let is_ended = self.is_unwanted(exchange) && !is_complete;
        exchange.aborted = true;
        if !is_ended && !stream_cut {
            return;
        }
        if worker.protocol == Protocol::Pipe {
            if worker.pulls() && !worker.flows() {
                // It never reads its channel before it is told to drain.
                return;
            }
            let Some(channel) = worker.channel else { return };
            let wire = exchange.wire;
            if worker.aborts() {
                let script = escape::cut(self.script_of(exchange), 1024).to_string();
                let text = format!("is ended: its client has left, {script}");
                self.say_request(Level::Info, exchange, &text);
            }
            if let Some(link) = self.links.get_mut(channel) {
                link.feeding.retain(|fed| *fed != key);
                link.send_frame(|out| FrontConn::abort(wire, false, out));
                self.dirty_links.push(channel);
            }
            return;
        }
        if stream_cut && worker.is_ours() {
            return self.end_cut_body(key, exchange, worker_key);
        }
        if stream_cut {
            self.say_cut_body(
                exchange,
                "its connection is closed, and the server may take the part for the whole",
            );
        }
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

    /// The rest of a body will never come. A FastCGI app takes the end of its connection for the end of the body, so that
    /// stays open until the worker is gone.
    fn end_cut_body(&mut self, key: Key, exchange: &mut Exchange, worker_key: Key) {
        self.say_cut_body(exchange, "its worker is ended, which would take the part for the whole");
        let link = exchange.link;
        if let Some(worker) = self.workers.get_mut(worker_key) {
            worker.has_cut_body = true;
        }
        self.release(exchange, worker_key, None);
        if let Some(link) = link.and_then(|link| self.links.get_mut(link)) {
            link.leave_open();
        }
        self.exchange_timers.set(key.place(), None);
        // Those that it has beside this one end first.
        self.retire(worker_key);
    }

    fn say_cut_body(&self, exchange: &Exchange, outcome: &str) {
        let count = exchange.body.len();
        let text = format!("is broken off: its body ended after {count} bytes, before it was whole; {outcome}");
        self.say_request(Level::Warning, exchange, &text);
    }

    /// True for a request that shall end when its client has left. A change is not broken off half way; but a WSGI app
    /// finds at its next piece of the body that nobody listens, as under Gunicorn: streams are answers to POST, too.
    pub(super) fn is_unwanted(&self, exchange: &Exchange) -> bool {
        let Some(pool) = self.pools.get(exchange.pool) else {
            return exchange.head.is_safe();
        };
        match pool.config.scripts.on_abort {
            OnAbort::Auto => exchange.head.is_safe() || pool.is_wsgi,
            OnAbort::Ignore => false,
            OnAbort::Close | OnAbort::Term => true,
        }
    }

    /// True for a request that shall end when its client has sent FIN: its worker can end it, or that is wished for.
    pub(super) fn ends_with_client(&self, exchange: &Exchange) -> bool {
        let ends = self.pools.get(exchange.pool).is_some_and(|pool| {
            let wish = pool.config.scripts.on_abort;
            pool.aborts || matches!(wish, OnAbort::Close | OnAbort::Term)
        });
        ends && self.is_unwanted(exchange)
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
            Place::Assigned if exchange.bad_head.is_some() && !exchange.ended => self.blame_head_early(&mut exchange),
            Place::Assigned => {
                let total = self.pools.get(exchange.pool).and_then(|pool| pool.config.total_timeout);
                let is_over = total.is_some_and(|limit| exchange.dispatched + limit <= self.now);
                if !is_over && self.held_overdue(&mut exchange) {
                    self.settle(key, exchange);
                    return;
                }
                // Time the client takes does not count against the worker.
                let held_up = |link: Key| self.links.get(link).is_some_and(Link::is_paused);
                if !is_over && (exchange.blocked || exchange.link.is_some_and(held_up)) {
                    self.exchange_timers
                        .set(key.place(), Some(self.now + Duration::from_secs(1)));
                } else if let Some(worker) = exchange.worker {
                    self.overdue(&mut exchange, worker);
                }
            }
            Place::Pulled => self.pulled_overdue(key, &mut exchange),
            Place::Receiving | Place::Waiting | Place::Placed | Place::Finished => {}
        }
        self.settle(key, exchange);
    }

    /// Answers 504 and has the worker ended.
    pub(super) fn overdue(&mut self, exchange: &mut Exchange, worker_key: Key) {
        let age = self.now - exchange.dispatched;
        let has_board = exchange.place == Place::Assigned || exchange.seen_running;
        if has_board && !exchange.overdue && self.workers.get(worker_key).is_some_and(Worker::aborts) {
            return self.end_request(exchange, worker_key, age);
        }
        let details = self.describe_request(exchange);
        let link = exchange.link.filter(|_| exchange.wire == 0);
        let stream_cut = exchange.streams && !exchange.body_ended;
        if exchange.wire != 0
            && let Some(worker) = self.workers.get_mut(worker_key)
        {
            // The number stays the request's as long as the worker may name it.
            worker.given_up.push(std::mem::take(&mut exchange.wire));
        }
        self.release(exchange, worker_key, None);
        self.fail(exchange, 504, "the application took too long to answer");
        if let Some(link_key) = link {
            let is_ours = self.workers.get(worker_key).is_some_and(Worker::is_ours);
            if let Some(link) = self.links.get_mut(link_key) {
                link.leave_open();
            }
            // Else the app would take the part of the body that it has for the whole until it is ended.
            if !stream_cut || !is_ours {
                self.drop_link(link_key);
            }
        }
        if let Some(worker) = self.workers.get(worker_key) {
            exchange.pid = worker.pid;
        }
        let text = format!("{details} is overdue: it ran {:.1} s", age.as_secs_f64());
        self.end_overdue(worker_key, text);
    }

    /// Has a worker ended that let a request wait for too long, once the arbiter has said what it is doing. One that has
    /// several requests at once may finish the others first.
    pub(super) fn end_overdue(&mut self, key: Key, text: String) {
        let Some(worker) = self.workers.get_mut(key) else {
            return;
        };
        let is_told = worker.is_overdue || worker.state == State::Condemned;
        if is_told || matches!(worker.route, Route::Upstream(_)) {
            return self.say_worker(Level::Critical, key, format_args!("{text}"));
        }
        worker.is_overdue = true;
        worker.report = Some(text);
        let (id, has_several) = (worker.id, worker.slots > 1);
        if has_several {
            self.stop_giving(key);
            self.worker_timers.set(key.place(), Some(self.now + LAST_CATCH));
        } else {
            worker.state = State::Condemned;
            self.withhold(key);
        }
        self.send_control(&ToArbiter::Overdue { worker: id });
    }

    /// Answers 504 and has the worker end this request alone. What it still says about it is taken by an exchange without
    /// a client, which has the number, the slot and the place in the books.
    fn end_request(&mut self, exchange: &mut Exchange, worker_key: Key, age: Duration) {
        let Some(worker) = self.workers.get(worker_key) else {
            return;
        };
        let (channel, wire) = (worker.channel, exchange.wire);
        let pid = worker.process_of(wire).unwrap_or(exchange.pid.max(worker.pid));
        exchange.pid = pid;
        let details = self.describe_request(exchange);
        let script = self.script_of(exchange);
        let script = escape::cut(script, 1024);
        let seconds = age.as_secs_f64();
        let text = format_args!("SCRIPT TIMEOUT (pid:{pid}) {details} {script} ran {seconds:.1} s");
        self.say_worker(Level::Critical, worker_key, text);
        if let Some(link) = channel.and_then(|channel| self.links.get_mut(channel)) {
            link.send_frame(|out| FrontConn::abort(wire, true, out));
            self.dirty_links.extend(channel);
        }
        let until = Some(self.now + ABORT_GRACE);
        exchange.overdue = true;
        exchange.aborted = true;
        if exchange.client.is_none() {
            self.exchange_timers.set(exchange.slot, until);
            return;
        }
        let mut rest = Box::new(Exchange::new(exchange.started));
        rest.client_ip = exchange.client_ip;
        rest.pool = exchange.pool;
        rest.id = exchange.id;
        rest.head = exchange.head.clone();
        rest.place = std::mem::replace(&mut exchange.place, Place::Finished);
        rest.worker = exchange.worker;
        rest.link = exchange.link.take();
        rest.wire = std::mem::take(&mut exchange.wire);
        rest.pulled = std::mem::take(&mut exchange.pulled);
        rest.seen_running = true;
        rest.dispatched = exchange.dispatched;
        rest.body_ended = true;
        rest.redirect = std::mem::take(&mut exchange.redirect);
        if exchange.stage != Stage::Awaiting {
            rest.stage = Stage::Committed;
        }
        rest.credit = std::mem::take(&mut exchange.credit);
        rest.pid = pid;
        rest.aborted = true;
        rest.overdue = true;
        if std::mem::take(&mut exchange.blocked) {
            self.resume_links.extend(rest.link);
        }
        self.give_credit(&mut rest);
        let pool = rest.pool;
        let key = self.add_exchange(rest);
        self.exchange_timers.set(key.place(), until);
        if let Some(pool) = self.pools.get_mut(pool) {
            pool.reassign_wire(wire, key);
        }
        self.fail(exchange, 504, "the application took too long to answer");
    }

    /// A line about a response that is not as long as its head says.
    pub(super) fn say_length(&self, exchange: &Exchange, what: &str) {
        let script = escape::cut(self.script_of(exchange), 1024).to_string();
        let of = if script.is_empty() { "" } else { " of " };
        self.say_request(
            Level::Warning,
            exchange,
            &format!("has a response{of}{script} that is {what}"),
        );
    }

    /// The script that a request is for: what its variables name, else the pool's program.
    fn script_of<'e>(&'e self, exchange: &'e Exchange) -> &'e [u8] {
        let mut variables = worker::variables(&exchange.block);
        let named = variables.find(|(name, _)| *name == b"SCRIPT_FILENAME");
        let program = || match self.pools.get(exchange.pool).map(|pool| &pool.config.program) {
            Some(Program::Exec(words)) => words.first().map_or(&[][..], |word| word.as_bytes()),
            _ => &[],
        };
        named.map_or_else(program, |(_, value)| value)
    }

    /// The worker has sent a part of the response: its clock starts over (docs/decisions/0002-timeout-counts-silence.md).
    pub(super) fn worker_spoke(&mut self, exchange: &Exchange) {
        // While a response is held for its client, the timer tells how much longer; the worker's clock stands still.
        let has_bad_head = exchange.bad_head.is_some() && !exchange.ended;
        if exchange.overdue || exchange.held_since.is_some() || has_bad_head {
            return;
        }
        self.exchange_timers.set(exchange.slot, self.deadline(exchange));
    }

    /// When a request that its worker is silent about from now on is overdue.
    pub(super) fn deadline(&self, exchange: &Exchange) -> Option<Instant> {
        self.deadline_of_silence_since(exchange, self.now)
    }

    /// When a request that its worker has been silent about since then is overdue. `total_timeout` counts from its
    /// dispatch, whatever is sent of its response.
    pub(super) fn deadline_of_silence_since(&self, exchange: &Exchange, since: Instant) -> Option<Instant> {
        let limits = &self.pools.get(exchange.pool)?.config;
        let silence = limits.timeout.map(|limit| since + limit);
        let total = limits.total_timeout.map(|limit| exchange.dispatched + limit);
        silence.into_iter().chain(total).min()
    }
}
