//! A reload in the generation that serves: pools that have changed are replaced, the others and the front stay.
//!
//! Pools that join come up beside those that serve. When all their workers are ready and the front has read the new
//! configuration, it is told to route by that one. Pools that no request leads to any more have the time of a draining
//! generation, and their workers go when the front has no request left that one of them may have to serve.

use super::{Action, Plan, Verdict};
use crate::base::ids::{PoolId, WorkerId};
use crate::plan::arbiter::events::pool_id;
use crate::plan::generation::{Change, FrontId, GenerationId, Pending, Phase};
use crate::plan::pacing::mix;
use crate::plan::pool::{Pool, Standing};
use crate::plan::worker::{Event, KILL_AFTER, State, Why};
use std::time::Instant;

impl Plan {
    pub(super) fn changed(&mut self, change: Change, out: &mut Vec<Action>) {
        self.is_loading = false;
        if self.stop.is_some() {
            return;
        }
        self.seed = mix(self.seed);
        let seed = self.seed;
        let Some(generation) = self.find_generation(change.generation) else {
            return self.want_reload(out);
        };
        if generation.phase != Phase::Serving {
            // It ended while the change was loaded, so there is nothing that could go on.
            return self.want_reload(out);
        }
        for (pool, policy) in &change.joining {
            let place = usize::from(pool.0);
            while generation.pools.len() <= place {
                generation.pools.push(Pool::free());
            }
            if let Some(pool) = generation.pools.get_mut(place) {
                debug_assert_eq!(pool.standing, Standing::Free);
                *pool = Pool::new(*policy, seed.wrapping_add(u64::try_from(place).unwrap_or(0)));
                pool.standing = Standing::Joining;
            }
        }
        generation.change = Some(Pending {
            leaving: change.leaving,
            prepared: None,
        });
        self.changes = self.changes.saturating_add(1);
        out.push(Action::BeginChange(change.generation));
    }

    pub(super) fn change_prepared(&mut self, front: FrontId) {
        let found = self.find_front(front).map(|(generation, _)| generation);
        let generation = found.and_then(|id| self.find_generation(id));
        if let Some(change) = generation.and_then(|generation| generation.change.as_mut()) {
            change.prepared = Some(front);
        }
    }

    pub(super) fn change_refused(&mut self, now: Instant, front: FrontId, out: &mut Vec<Action>) {
        if let Some((generation, _)) = self.find_front(front) {
            self.drop_change(now, generation, Verdict::FrontFailed, out);
        }
    }

    /// The front needs no worker of a pool that leaves any more; `is_unused`: nothing of it at all.
    pub(super) fn pool_drained(
        &mut self,
        now: Instant,
        front: FrontId,
        pool: PoolId,
        is_unused: bool,
        out: &mut Vec<Action>,
    ) {
        let found = self.find_front(front).map(|(generation, _)| generation);
        let generation = found.and_then(|id| self.find_generation(id));
        let Some(pool) = generation.and_then(|one| one.pools.get_mut(usize::from(pool.0))) else {
            return;
        };
        match pool.standing {
            Standing::Leaving { .. } => {
                pool.is_unused = is_unused;
                for worker in pool.close() {
                    self.retire(now, worker, Why::Replaced, out);
                }
            }
            Standing::Left => pool.is_unused |= is_unused,
            Standing::Serving | Standing::Joining | Standing::Free => {}
        }
    }

    /// What joins is taken down, and what serves goes on as it was.
    pub(super) fn drop_change(&mut self, now: Instant, id: GenerationId, verdict: Verdict, out: &mut Vec<Action>) {
        let Some(generation) = self.find_generation(id) else {
            return;
        };
        if generation.change.take().is_none() {
            return;
        }
        let mut workers = Vec::new();
        for pool in &mut generation.pools {
            if pool.standing == Standing::Joining {
                workers.extend(pool.close());
                // No request has ever led there.
                pool.is_unused = true;
            }
        }
        out.push(Action::DropChange(id));
        out.push(Action::ReloadFailed(verdict));
        self.stop_all(now, &workers, Why::Replaced, out);
    }

    /// The front has died, and with it all requests of pools that leave. The next one knows nothing of them.
    pub(super) fn release_pools(&mut self, now: Instant, id: GenerationId, out: &mut Vec<Action>) {
        let Some(generation) = self.find_generation(id) else {
            return;
        };
        if let Some(change) = &mut generation.change {
            change.prepared = None;
        }
        let mut workers = Vec::new();
        for pool in &mut generation.pools {
            match pool.standing {
                Standing::Leaving { .. } => {
                    workers.extend(pool.close());
                    pool.is_unused = true;
                }
                Standing::Left => pool.is_unused = true,
                Standing::Serving | Standing::Joining | Standing::Free => {}
            }
        }
        self.stop_all(now, &workers, Why::FrontDied, out);
    }

    pub(super) fn settle_change(&mut self, now: Instant, id: GenerationId, out: &mut Vec<Action>) {
        self.change_if_ready(now, id, out);
        let Self {
            generations, workers, ..
        } = self;
        let Some(generation) = generations.iter_mut().find(|generation| generation.id == id) else {
            return;
        };
        let mut late = Vec::new();
        for (place, pool) in generation.pools.iter_mut().enumerate() {
            match pool.standing {
                Standing::Leaving { until } if until <= now => late.extend(pool.close()),
                Standing::Left if pool.is_unused => {
                    let is_there = |worker: &super::Worker| worker.generation == id && worker.pool == place;
                    if !workers.values().any(is_there) {
                        *pool = Pool::free();
                        out.push(Action::FreePool {
                            generation: id,
                            pool: pool_id(place),
                        });
                    }
                }
                Standing::Leaving { .. } | Standing::Left | Standing::Serving | Standing::Joining | Standing::Free => {}
            }
        }
        self.stop_all(now, &late, Why::Replaced, out);
    }

    fn change_if_ready(&mut self, now: Instant, id: GenerationId, out: &mut Vec<Action>) {
        let is_ready = |worker: WorkerId| {
            let worker = self.workers.get(&worker);
            worker.is_some_and(|worker| matches!(worker.state, State::Ready { .. }))
        };
        let Some(generation) = self.generations.iter_mut().find(|generation| generation.id == id) else {
            return;
        };
        let Some(front) = generation.can_change(is_ready) else {
            return;
        };
        let Some(change) = generation.change.take() else {
            return;
        };
        let until = now + generation.grace;
        for pool in &mut generation.pools {
            if pool.standing == Standing::Joining {
                pool.standing = Standing::Serving;
            }
        }
        for pool in change.leaving {
            if let Some(pool) = generation.pools.get_mut(usize::from(pool.0)) {
                pool.standing = Standing::Leaving { until };
            }
        }
        out.push(Action::Change {
            front,
            generation: id,
            grace: generation.grace,
        });
    }

    fn stop_all(&mut self, now: Instant, workers: &[WorkerId], why: Why, out: &mut Vec<Action>) {
        let until = now + KILL_AFTER;
        for worker in workers {
            self.step(now, *worker, Event::Stop { until }, Some(why), out);
        }
    }
}
