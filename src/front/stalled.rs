//! Workers that hang outside of any request: they are silent though they have nothing to do, or do not come back from
//! a request they have answered.
//!
//! A worker that hangs in a request is found by the request's deadline (failure.rs, pull.rs). Only workers that take
//! their requests from the queue can hang elsewhere unnoticed: therefore they have a beat. To any other the front gives
//! its next request, which then has a deadline.

use super::event_loop::Front;
use super::exchange::Place;
use super::tokens::Key;
use super::workers::{State, Worker};
use crate::sys::board::Board;
use crate::sys::process_state;
use std::time::{Duration, Instant};

/// A request that was answered and that its worker is busy with all the same: it closes what the app has returned, or
/// calls a hook.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lingering {
    /// Its number, which nobody else gets as long as the worker's board names it.
    pub(super) wire: u16,
    since: Instant,
}

/// What was last seen of a worker that waits for requests.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pulse {
    beat: u64,
    served: u64,
    /// How many looks in a row have seen no change. Not a time: while the whole machine stands still, nobody looks.
    silent: u32,
}

/// When we looked at the boards ourselves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Looks {
    last: Instant,
    /// How many in a row were not late.
    in_time: u32,
}

impl Looks {
    pub(super) fn new(now: Instant) -> Self {
        Self { last: now, in_time: 0 }
    }

    fn note(&mut self, now: Instant, interval: Duration) {
        let is_late = now - self.last >= 2 * interval;
        self.in_time = if is_late { 0 } else { self.in_time.saturating_add(1) };
        self.last = now;
    }
}

/// The least time that a worker may hang before it is blamed. A beat comes once a second; and numbers may come round
/// within one, so that two looks could see two requests that linger.
const LEAST: Duration = Duration::from_secs(2);

impl Worker {
    /// Looks for a sign of life since the last look. How many looks have found none?
    fn feel_pulse(&mut self) -> u32 {
        let beat = self.board.as_ref().map_or(0, Board::beat);
        let (before, served) = (self.pulse, self.served);
        let is_silent = (before.beat, before.served) == (beat, served) && !self.is_full() && self.state == State::Ready;
        let silent = if is_silent { before.silent.saturating_add(1) } else { 0 };
        self.pulse = Pulse { beat, served, silent };
        silent
    }

    /// The numbers on its board.
    fn wires(&self) -> impl Iterator<Item = u16> + '_ {
        let slots = 0..usize::from(self.slots);
        let cells = self
            .board
            .iter()
            .flat_map(move |board| slots.clone().map(|slot| board.running(slot)));
        // The upper half is a process; numbers of ours have 16 bits.
        let wires = cells.filter_map(|cell| u16::try_from(cell & u64::from(u32::MAX)).ok());
        wires.filter(|wire| *wire != 0)
    }
}

impl Front {
    /// Finds workers that were answered long ago and are not done, and those that give no sign of life. To be called
    /// once per `interval`.
    pub(super) fn look_at_boards(&mut self, interval: Duration) {
        self.looks.note(self.now, interval);
        let keys: Vec<Key> = self.workers.keys().collect();
        for key in keys {
            self.look_at_lingering(key);
            self.look_at_pulse(key, interval);
        }
    }

    fn look_at_lingering(&mut self, key: Key) {
        let Some(worker) = self.workers.get_mut(key) else {
            return;
        };
        if !worker.pulls() || !matches!(worker.state, State::Ready | State::Retiring) {
            return;
        }
        let Some(pool) = self.pools.get_mut(worker.pool) else {
            return;
        };
        let named: Vec<u16> = worker.wires().collect();
        worker.lingering.retain(|request| {
            let stays = named.contains(&request.wire);
            if !stays {
                pool.free_wire(request.wire);
            }
            stays
        });
        for wire in named {
            if pool.by_wire(wire).is_none() {
                pool.keep_wire(wire);
                let since = self.now;
                worker.lingering.push(Lingering { wire, since });
            }
        }
        let Some(limit) = pool.config.timeout.map(|limit| limit.max(LEAST)) else {
            return;
        };
        let is_over = |request: &Lingering| self.now - request.since >= limit;
        if worker.lingering.iter().any(is_over) {
            // From now on it has nothing in hand by them.
            let wires = worker.lingering.drain(..).map(|request| request.wire);
            worker.given_up.extend(wires);
            let text = format!("was still busy {:.1} s after it had answered", limit.as_secs_f64());
            self.end_overdue(key, text);
        }
    }

    fn look_at_pulse(&mut self, key: Key, interval: Duration) {
        let Some(worker) = self.workers.get_mut(key) else {
            return;
        };
        if !worker.pulls() {
            return;
        }
        let (silent, pool) = (worker.feel_pulse(), worker.pool);
        let timeout = self.pools.get(pool).and_then(|pool| pool.config.timeout);
        let Some(limit) = timeout.map(|limit| limit.max(LEAST)) else {
            return;
        };
        if interval * silent >= limit {
            let text = format!("took nothing and gave no sign of life for {:.1} s", limit.as_secs_f64());
            self.end_overdue(key, text);
            self.let_others_take(pool);
        }
    }

    /// A worker that took nothing is being ended. What waits in the socket was not run by anyone, and goes to another,
    /// who has the whole time.
    fn let_others_take(&mut self, pool_index: usize) {
        let pulled: Vec<Key> = self
            .pools
            .get(pool_index)
            .map(|pool| pool.exchanges().collect())
            .unwrap_or_default();
        for key in pulled {
            if let Some(other) = self.exchanges.get_mut(key)
                && other.place == Place::Pulled
                && !other.seen_running
            {
                other.queued = self.now;
            }
        }
        self.take_back.push(pool_index);
    }

    /// True if a worker of this pool gave no sign of life when it was last looked at. If we were held up ourselves, we
    /// cannot know before we have looked twice.
    pub(super) fn is_anyone_silent(&self, pool: usize) -> bool {
        if self.looks.in_time < 2 {
            return true;
        }
        let mut workers = self.workers.keys().filter_map(|key| self.workers.get(key));
        workers.any(|worker| worker.pool == pool && worker.pulse.silent > 0)
    }

    /// True if a worker runs something, or is not done with what it has answered.
    pub(super) fn is_any_board_busy(&self) -> bool {
        let mut workers = self.workers.keys().filter_map(|key| self.workers.get(key));
        workers.any(|worker| worker.state != State::Condemned && worker.board_busy())
    }

    /// True if a worker with a free slot is on the processor or stopped: it may hold a message it has not named yet.
    pub(super) fn is_anyone_taking(&self, pool: usize) -> bool {
        self.workers
            .keys()
            .filter_map(|key| self.workers.get(key))
            .any(|worker| {
                worker.pool == pool && worker.pulls() && !worker.is_full() && !process_state::is_sleeping(worker.pid)
            })
    }
}
