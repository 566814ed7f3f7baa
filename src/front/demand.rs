//! What pools ask of the arbiter: more or fewer workers, room for them; and pools of which none starts.
//!
//! Never here: how many are needed and who can be spared (`plan`).

use super::event_loop::Front;
use super::exchange::Exchange;
use super::tokens::Key;
use super::workers::{Route, State, Worker};
use crate::base::ids::PoolId;
use crate::base::level::Level;
use crate::control::ToArbiter;
use crate::plan::room::{self, Member, Standing};
use std::time::{Duration, Instant};

/// What the log says about requests of a pool that cannot start. The arbiter has said once, and loudly, why that is so.
pub(super) const OUTAGE: &str = "its pool cannot start";

/// Of a pool that cannot start.
#[derive(Debug)]
pub(super) struct Outage {
    /// When it is tried again.
    next: Instant,
}

impl Front {
    /// Asks for more or fewer workers of a pool, if its size follows its requests.
    pub(super) fn look_at_demand(&mut self, place: usize) {
        let Some(pool) = self.pools.get_mut(place) else { return };
        let Some(demand) = &mut pool.demand else { return };
        let load = pool.dispatch.load();
        let asked = demand.handle(self.now, load);
        self.demand_timers.set(place, demand.next_deadline(load));
        if let Some(workers) = asked {
            self.send_control(&ToArbiter::Demand {
                pool: PoolId(u16::try_from(place).unwrap_or(u16::MAX)),
                workers: u32::try_from(workers).unwrap_or(u32::MAX),
            });
        }
        self.make_room();
    }

    /// The arbiter has no room for so many workers that were asked for.
    pub(super) fn crowded(&mut self, workers: u32) {
        self.crowded = workers;
        self.make_room();
    }

    /// Lets workers go that others need more, while there are such. To be called whenever one may have come free.
    pub(super) fn make_room(&mut self) {
        while self.crowded > 0 {
            let Some((key, pool)) = self.spared() else { return };
            let Some(id) = self.workers.get(key).map(|worker| worker.id) else {
                return;
            };
            self.crowded -= 1;
            if let Some(demand) = self.pools.get_mut(pool).and_then(|pool| pool.demand.as_mut()) {
                demand.give_up();
                // Whatever waits for it, or comes meanwhile, asks anew.
                self.demand_timers.set(pool, Some(self.now));
            }
            self.send_control(&ToArbiter::Yielded { worker: id });
            // It is told to leave when the arbiter says so: one that left before would be taken for one that failed.
            if let Some(worker) = self.workers.get_mut(key) {
                worker.state = State::Retiring;
            }
            self.withhold(key);
        }
    }

    /// The worker that can be spared best, and its pool.
    fn spared(&self) -> Option<(Key, usize)> {
        let mut standings: Vec<Standing> = vec![Standing::default(); self.pools.len()];
        let (mut members, mut keys) = (Vec::new(), Vec::new());
        for key in self.workers.keys() {
            let Some(worker) = self.workers.get(key) else { continue };
            let is_leaving = matches!(worker.state, State::Retiring | State::Condemned | State::Suspect);
            let pool = self.pools.get(worker.pool);
            let is_elastic = pool.is_some_and(|pool| pool.demand.is_some());
            if is_leaving || !is_elastic || matches!(worker.route, Route::Upstream(_)) {
                continue;
            }
            if let Some(standing) = standings.get_mut(worker.pool) {
                standing.workers += 1;
            }
            if worker.state == State::Ready {
                members.push(Member {
                    pool: worker.pool,
                    is_idle: is_idle(worker),
                    active: worker.active,
                });
                keys.push((key, worker.pool));
            }
        }
        for (standing, pool) in standings.iter_mut().zip(&self.pools) {
            let Some(demand) = &pool.demand else { continue };
            let load = pool.dispatch.load();
            standing.least = demand.least();
            standing.waits = load.since;
            standing.is_short = demand.asked() > standing.workers;
        }
        let place = room::spared(self.now, &standings, &members)?;
        keys.get(place).copied()
    }

    /// A pool cannot start: nothing of it waits any longer.
    pub(super) fn pool_down(&mut self, place: usize, retry: Duration) {
        let next = self.now + retry;
        let Some(pool) = self.pools.get_mut(place) else { return };
        pool.outage = Some(Outage { next });
        // Nobody is there to take what the workers before have left in the socket.
        self.take_back(place);
        let Some(pool) = self.pools.get_mut(place) else { return };
        let waiting: Vec<u32> = pool.dispatch.drain().collect();
        let keys = waiting
            .into_iter()
            .filter_map(|request| self.exchanges.key_at(request as usize));
        self.fail_later.extend(keys.map(|key| (key, 503)));
    }

    /// It has a worker again, or may have one: requests wait for it.
    pub(super) fn pool_up(&mut self, place: usize) {
        if let Some(pool) = self.pools.get_mut(place) {
            pool.outage = None;
        }
    }

    /// A request finds no place in the queue of its pool.
    pub(super) fn note_refusal(&mut self, exchange: &Exchange) {
        if self.refuses_all(exchange.pool) {
            self.say_request(Level::Info, exchange, &format!("failed (503): {OUTAGE}"));
        } else {
            self.pressed("the queue is full (max_queue)");
        }
    }

    /// True if requests of a pool are refused before they have entered its queue.
    pub(super) fn refuses(&self, pool: usize) -> bool {
        self.refuses_all(pool) || self.pools.get(pool).is_some_and(|pool| pool.dispatch.is_full())
    }

    /// True if the pool cannot start. What is in its queue fails.
    pub(super) fn refuses_all(&self, pool: usize) -> bool {
        self.pools.get(pool).is_some_and(|pool| pool.outage.is_some())
    }

    /// The Retry-After of a 503: when the pool is tried again, else soon.
    pub(super) fn retry_after(&self, pool: usize) -> String {
        let outage = self.pools.get(pool).and_then(|pool| pool.outage.as_ref());
        let wait = outage.map_or(Duration::ZERO, |outage| outage.next.saturating_duration_since(self.now));
        let seconds = wait.as_millis().div_ceil(1000).max(1);
        seconds.to_string()
    }
}

fn is_idle(worker: &Worker) -> bool {
    worker.in_flight == 0 && !worker.board_busy()
}
