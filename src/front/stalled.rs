//! Workers that hang outside of any request: they take nothing though something waits, or do not come back from one
//! they have answered.
//!
//! A worker that hangs in a request is found by the request's deadline (failure.rs, pull.rs). Only workers that take
//! their requests from the queue can hang elsewhere unnoticed; to any other the front gives its next request, which
//! then has a deadline.

use super::event_loop::Front;
use super::exchange::{Exchange, Place};
use super::pull::LOOK;
use super::tokens::Key;
use super::workers::{State, Worker};
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

/// The least time that a request lingers before its worker is blamed. Numbers may come round within a second, so that
/// two looks could see two requests.
const LEAST: Duration = Duration::from_secs(2);

impl Worker {
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
    /// Finds workers that were answered long ago and are not done. To be called about once a second.
    pub(super) fn look_at_lingering(&mut self) {
        let keys: Vec<Key> = self.workers.keys().collect();
        for key in keys {
            let Some(worker) = self.workers.get_mut(key) else {
                continue;
            };
            if !worker.pulls() || !matches!(worker.state, State::Ready | State::Retiring) {
                continue;
            }
            let Some(pool) = self.pools.get_mut(worker.pool) else {
                continue;
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
                continue;
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
    }

    /// True if a worker runs something, or is not done with what it has answered.
    pub(super) fn is_any_board_busy(&self) -> bool {
        let mut workers = self.workers.keys().filter_map(|key| self.workers.get(key));
        workers.any(|worker| worker.state != State::Condemned && worker.board_busy())
    }

    /// A worker takes nothing though it could. What waits in the socket was not run by anyone, and goes to another.
    pub(super) fn end_stalled(&mut self, pool_index: usize, worker: Key, limit: Duration) {
        let text = format!("took no request for {:.1} s, though one waited", limit.as_secs_f64());
        self.end_overdue(worker, text);
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

    /// A worker that has taken nothing for `limit`, though it has a free slot and something waits for it: stopped, or
    /// held by a thread of its own. To be asked about a request that no board names, and again until the flag says that
    /// it was so at the look before: one look may come in the moment between the end of a request and the word of it.
    ///
    /// The request may also have been taken by a worker that was stopped before it could say so, or that is being killed.
    /// The others then wait for nothing, so none of them is blamed before that one is gone.
    pub(super) fn find_stalled(&mut self, exchange: &Exchange, limit: Duration) -> Option<(Key, bool)> {
        let (now, pool) = (self.now, exchange.pool);
        let keys: Vec<Key> = self.workers.keys().collect();
        let mut silent = Vec::new();
        for key in keys {
            let Some(worker) = self.workers.get_mut(key) else {
                continue;
            };
            if worker.pool != pool || !worker.pulls() || worker.state != State::Ready || worker.is_full() {
                worker.stalled = None;
                continue;
            }
            let before = worker.stalled.filter(|(served, _, seen)| {
                // Between two looks that far apart nothing may have waited.
                *served == worker.served && now - *seen < 4 * LOOK
            });
            let since = before.map_or_else(|| exchange.dispatched.max(worker.active), |(_, since, _)| since);
            worker.stalled = Some((worker.served, since, now));
            silent.push((key, worker.pid, since, before.is_some()));
        }
        let is_late = |since: Instant| now - since >= limit;
        if !silent.iter().any(|(_, _, since, _)| is_late(*since)) || self.may_be_lost_with_a_worker(pool) {
            return None;
        }
        let is_anyone_stopped = silent.iter().any(|(_, pid, ..)| process_state::is_stopped(*pid));
        silent.into_iter().find_map(|(key, pid, since, seen_before)| {
            let is_spared = is_anyone_stopped && !process_state::is_stopped(pid);
            (is_late(since) && !is_spared).then_some((key, seen_before))
        })
    }

    /// True if a worker that is on its way out may have taken a request it will never name.
    fn may_be_lost_with_a_worker(&self, pool: usize) -> bool {
        let mut workers = self.workers.keys().filter_map(|key| self.workers.get(key));
        workers.any(|worker| {
            let leaves = match worker.state {
                State::Condemned => true,
                State::Retiring => process_state::is_stopped(worker.pid),
                _ => false,
            };
            leaves && worker.pool == pool && worker.pulls()
        })
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
