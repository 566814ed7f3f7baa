//! What the state and the time demand, whatever the event was.

use super::events::{drain, pool_id};
use super::{Action, COMPLAINT_PAUSE, DRAINING_LIMIT, LEAVE_BEHIND, Note, Plan, Worker};
use crate::base::ids::WorkerId;
use crate::plan::generation::{Front, FrontId, Generation, GenerationId, Phase, SILENCE};
use crate::plan::pool::{Outage, Pool, Standing};
use crate::plan::worker::{Event, KILL_AFTER, State, Why};
use std::time::{Duration, Instant};

impl Plan {
    pub(super) fn settle(&mut self, now: Instant, out: &mut Vec<Action>) {
        self.settle_workers(now, out);
        self.settle_sizes(now, out);
        let ids: Vec<_> = self.generations.iter().map(|generation| generation.id).collect();
        for id in &ids {
            self.settle_front(now, *id, out);
            self.settle_phase(now, *id, out);
        }
        self.settle_outages(now, out);
        self.forget_empty(out);
        if self.can_load() && self.wants_reload {
            self.wants_reload = false;
            self.is_loading = true;
            out.push(Action::Load);
        }
        self.settle_stop(now, out);
    }

    /// A reload is made ready one at a time, and not while too many earlier ones still finish.
    pub(super) fn can_load(&self) -> bool {
        let is_starting = |generation: &Generation| generation.phase == Phase::Starting;
        let leaving = self.generations.iter().filter(|generation| !generation.is_staying());
        let changes =
            |generation: &Generation| generation.change.is_some() || generation.unfinished_changes() >= DRAINING_LIMIT;
        self.stop.is_none()
            && !self.is_loading
            && !self.generations.iter().any(is_starting)
            && !self.generations.iter().any(changes)
            && leaving.count() < DRAINING_LIMIT
    }

    fn settle_workers(&mut self, now: Instant, out: &mut Vec<Action>) {
        let is_due = |worker: &Worker| worker.state.deadline().is_some_and(|deadline| deadline <= now);
        let due = self.workers.iter().filter(|(_, worker)| is_due(worker));
        let due: Vec<_> = due.map(|(id, worker)| (*id, worker.state)).collect();
        for (id, state) in due {
            let why = matches!(state, State::Booting { .. }).then_some(Why::BootTimeout);
            self.step(now, id, Event::Tick, why, out);
        }
    }

    /// Elastic pools get the size that their requests ask for, as far as there may be more workers: first those that
    /// have none, then one more for each in turn. One that leaves makes room when it has gone. A front that hears that
    /// there is no room says which worker can be spared.
    fn settle_sizes(&mut self, now: Instant, out: &mut Vec<Action>) {
        let workers = &self.workers;
        let is_ready = |id| {
            let worker: Option<&Worker> = workers.get(&id);
            worker.is_some_and(|worker| matches!(worker.state, State::Ready { .. }))
        };
        let mut surplus = Vec::new();
        for generation in self.generations.iter_mut().filter(|one| one.is_staying()) {
            for pool in &mut generation.pools {
                for _ in 0..pool.surplus() {
                    surplus.extend(pool.shrink(is_ready));
                }
            }
            let wanted: usize = generation.pools.iter().map(Pool::wanted).sum();
            let empty: usize = generation.pools.iter().map(Pool::empty_places).sum();
            let alive = workers
                .values()
                .filter(|worker| worker.generation == generation.id)
                .count();
            let mut room = generation.most_workers.saturating_sub(alive + empty);
            let mut short: Vec<_> = generation.pools.iter_mut().filter(|pool| pool.shortage() > 0).collect();
            short.sort_by_key(|pool| pool.wanted() > 0);
            while room > 0 && !short.is_empty() {
                short.retain_mut(|pool| {
                    if room > 0 {
                        room -= 1;
                        pool.grow_to(pool.wanted() + 1);
                    }
                    pool.shortage() > 0
                });
            }
            let short: usize = generation.pools.iter().map(Pool::shortage).sum();
            let leaving = (alive + empty).saturating_sub(wanted);
            crowd(now, generation, short.saturating_sub(leaving), out);
        }
        for worker in surplus {
            self.retire(now, worker, Why::Idle, out);
        }
    }

    /// Tells fronts which pools cannot start. A generation that has not served yet has no requests, and may be given up.
    fn settle_outages(&mut self, now: Instant, out: &mut Vec<Action>) {
        let workers = &self.workers;
        let is_ready = |id: WorkerId| {
            let worker = workers.get(&id);
            worker.is_some_and(|worker| matches!(worker.state, State::Ready { .. }))
        };
        for generation in self.generations.iter_mut().filter(|one| one.phase == Phase::Serving) {
            let Some(front) = generation.front.map(|front| front.id) else {
                continue;
            };
            let id = generation.id;
            let serving = |pool: &(usize, &mut Pool)| pool.1.standing == Standing::Serving;
            for (index, place) in generation.pools.iter_mut().enumerate().filter(serving) {
                let pool = pool_id(index);
                match place.outage(now, is_ready) {
                    None => {}
                    Some(Outage::Lasts { next, begins }) => {
                        let wait = next.map_or(Duration::ZERO, |next| next.saturating_duration_since(now));
                        out.push(Action::PoolDown { front, pool, wait });
                        if begins {
                            out.push(Action::Note(Note::PoolDown {
                                generation: id,
                                pool,
                                wait,
                            }));
                        }
                    }
                    Some(Outage::Over { is_ready }) => {
                        out.push(Action::PoolUp { front, pool });
                        out.extend(is_ready.then_some(Action::Note(Note::PoolUp { pool })));
                    }
                }
            }
        }
    }

    fn settle_front(&mut self, now: Instant, id: GenerationId, out: &mut Vec<Action>) {
        let next = self.last_front + 1;
        let Some(generation) = self.generations.iter_mut().find(|generation| generation.id == id) else {
            return;
        };
        if let Some(front) = &mut generation.front {
            if !front.is_killed && front.heard + SILENCE <= now {
                front.is_killed = true;
                out.push(Action::Note(Note::FrontSilent));
                out.push(Action::KillFront(front.id));
            }
            return;
        }
        if !generation.is_staying() || generation.resume.is_some_and(|resume| resume > now) {
            return;
        }
        let front = FrontId(next);
        generation.front = Some(Front {
            id: front,
            up: None,
            heard: now,
            is_killed: false,
        });
        // It knows of nothing yet.
        generation.crowded = 0;
        generation.pools.iter_mut().for_each(Pool::tell_again);
        self.last_front = next;
        let stays = |worker: &Worker| worker.generation == id && worker.state.is_staying();
        let kept = self.workers.iter().filter(|(_, worker)| stays(worker));
        out.push(Action::SpawnFront {
            front,
            generation: id,
            keep: kept.map(|(id, _)| *id).collect(),
        });
    }

    fn settle_phase(&mut self, now: Instant, id: GenerationId, out: &mut Vec<Action>) {
        let Some(generation) = self.find_generation(id) else {
            return;
        };
        let has_front = generation.front.is_some();
        match generation.phase {
            Phase::Starting => {
                self.fill(now, id, out);
                self.promote_if_ready(now, id, out);
            }
            Phase::Serving => {
                self.fill(now, id, out);
                self.settle_change(now, id, out);
            }
            Phase::Draining { until } if until <= now => {
                let until = now + KILL_AFTER;
                generation.phase = Phase::Cut { until };
                self.stop_workers(now, id, until, out);
            }
            Phase::Draining { until } => {
                // Without a front nothing can be running any more.
                if !has_front {
                    self.stop_workers(now, id, until.max(now + KILL_AFTER), out);
                }
            }
            Phase::Cut { until } => {
                self.stop_workers(now, id, until, out);
                if until <= now {
                    self.kill_front(id, Some(Note::FrontSlow), out);
                }
            }
            Phase::Dismissed => {
                self.stop_workers(now, id, now + KILL_AFTER, out);
                self.kill_front(id, None, out);
            }
        }
    }

    fn fill(&mut self, now: Instant, id: GenerationId, out: &mut Vec<Action>) {
        let Self {
            generations,
            workers,
            last_worker,
            ..
        } = self;
        let Some(generation) = generations.iter_mut().find(|generation| generation.id == id) else {
            return;
        };
        for (index, pool) in generation.pools.iter_mut().enumerate() {
            let until = pool.policy().boot_timeout.map(|timeout| now + timeout);
            pool.fill(now, || {
                *last_worker += 1;
                let worker = WorkerId(*last_worker);
                let record = Worker {
                    generation: id,
                    pool: index,
                    state: State::Booting { until },
                    has_served: false,
                    why: Why::Shutdown,
                };
                workers.insert(worker, record);
                out.push(Action::SpawnWorker {
                    worker,
                    generation: id,
                    pool: pool_id(index),
                });
                worker
            });
        }
    }

    fn promote_if_ready(&mut self, now: Instant, id: GenerationId, out: &mut Vec<Action>) {
        let is_ready = |worker: WorkerId| {
            let worker = self.workers.get(&worker);
            worker.is_some_and(|worker| matches!(worker.state, State::Ready { .. }))
        };
        let is_first = !self.generations.iter().any(|one| one.phase == Phase::Serving);
        let can_serve = |generation: &&mut Generation| generation.id == id && generation.can_serve(is_first, is_ready);
        let Some(generation) = self.generations.iter_mut().find(can_serve) else {
            return;
        };
        let Some(front) = generation.front else {
            return;
        };
        generation.phase = Phase::Serving;
        self.has_served = true;
        self.parked = None;
        // The new front accepts before the old one stops, so that there is no moment without anyone.
        out.push(Action::Serve(front.id));
        out.push(Action::Promoted(id));
        let others = self.generations.iter_mut().filter(|generation| generation.id != id);
        for generation in others.filter(|generation| generation.phase == Phase::Serving) {
            drain(now, generation, out);
        }
    }

    fn stop_workers(&mut self, now: Instant, id: GenerationId, until: Instant, out: &mut Vec<Action>) {
        let why = match (self.stop, self.parked) {
            (Some(_), _) => Why::Shutdown,
            (None, Some(_)) => Why::Scaled,
            (None, None) => Why::Replaced,
        };
        let theirs = self.workers.iter().filter(|(_, worker)| worker.generation == id);
        let theirs: Vec<_> = theirs.map(|(worker, _)| *worker).collect();
        for worker in theirs {
            self.step(now, worker, Event::Stop { until }, Some(why), out);
        }
    }

    fn kill_front(&mut self, id: GenerationId, note: Option<Note>, out: &mut Vec<Action>) {
        let front = self
            .find_generation(id)
            .and_then(|generation| generation.front.as_mut());
        if let Some(front) = front.filter(|front| !front.is_killed) {
            front.is_killed = true;
            out.extend(note.map(Action::Note));
            out.push(Action::KillFront(front.id));
        }
    }

    fn forget_empty(&mut self, out: &mut Vec<Action>) {
        let workers = &self.workers;
        self.generations.retain(|generation| {
            let has_workers = workers.values().any(|worker| worker.generation == generation.id);
            let is_needed = generation.is_staying() || generation.front.is_some() || has_workers;
            if !is_needed {
                out.push(Action::Forget(generation.id));
            }
            is_needed
        });
    }

    fn settle_stop(&mut self, now: Instant, out: &mut Vec<Action>) {
        let Some(stop) = self.stop else {
            return;
        };
        let is_late = stop.until + LEAVE_BEHIND <= now;
        if !self.generations.is_empty() && !is_late {
            return;
        }
        if is_late {
            let fronts = self.generations.iter().filter(|generation| generation.front.is_some());
            let processes = fronts.count() + self.workers.len();
            out.push(Action::Note(Note::LeftBehind { processes }));
        }
        self.is_over = true;
        out.push(Action::Exit {
            code: stop.code,
            verdict: stop.verdict,
        });
    }
}

/// Tells a front for how many workers there is no room, when that has changed, and the user from time to time.
fn crowd(now: Instant, generation: &mut Generation, workers: usize, out: &mut Vec<Action>) {
    let Some(front) = generation.front.filter(|front| !front.is_killed) else {
        return;
    };
    if generation.crowded == workers {
        return;
    }
    generation.crowded = workers;
    out.push(Action::Crowded {
        front: front.id,
        workers,
    });
    let is_due = generation.complained.is_none_or(|last| last + COMPLAINT_PAUSE <= now);
    if workers > 0 && is_due {
        generation.complained = Some(now);
        let most = generation.most_workers;
        out.push(Action::Note(Note::Crowded { workers, most }));
    }
}
