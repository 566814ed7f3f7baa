//! What each event changes at once. What follows from the new state is in `settle`.

use super::{ATTEMPTS, Action, Asked, Death, Note, Plan, Stop, Verdict};
use crate::base::ids::{PoolId, WorkerId};
use crate::plan::generation::{Front, FrontId, Generation, GenerationId, Phase, Terms};
use crate::plan::pacing::{Health, mix};
use crate::plan::pool::{Pool, Standing};
use crate::plan::worker::{Event, KILL_AFTER, State, Why};
use std::time::{Duration, Instant};

impl Plan {
    pub(super) fn add_generation(&mut self, terms: &Terms) -> GenerationId {
        self.last_generation += 1;
        self.seed = mix(self.seed);
        let id = GenerationId(self.last_generation);
        self.generations.push(Generation::new(id, terms, self.seed));
        id
    }

    pub(super) fn find_front(&mut self, id: FrontId) -> Option<(GenerationId, &mut Front)> {
        self.generations.iter_mut().find_map(|generation| {
            let front = generation.front.as_mut()?;
            (front.id == id).then_some((generation.id, front))
        })
    }

    pub(super) fn find_generation(&mut self, id: GenerationId) -> Option<&mut Generation> {
        self.generations.iter_mut().find(|generation| generation.id == id)
    }

    pub(super) fn pool_of(&mut self, worker: WorkerId) -> Option<&mut Pool> {
        let worker = *self.workers.get(&worker)?;
        self.find_generation(worker.generation)?.pools.get_mut(worker.pool)
    }

    pub(super) fn asked(&mut self, now: Instant, asked: Asked, out: &mut Vec<Action>) {
        if let Some(stop) = self.stop {
            // Nothing else has a meaning once the end has begun.
            if asked == Asked::Interrupt && !stop.is_quick {
                self.quicken(now, out);
            }
            return;
        }
        match asked {
            Asked::Stop | Asked::Interrupt => self.begin_stop(now, 0, None, out),
            Asked::Reload => {
                self.parked = self.parked.map(|_| 0);
                self.want_reload(out);
            }
            Asked::MoreWorkers => match self.parked {
                None => self.scale(now, true, out),
                Some(count) => {
                    self.parked = Some(count.saturating_add(1));
                    self.want_reload(out);
                }
            },
            Asked::FewerWorkers => self.scale(now, false, out),
            Asked::Park => self.park(now, out),
        }
    }

    pub(super) fn want_reload(&mut self, out: &mut Vec<Action>) {
        self.wants_reload = true;
        if !self.can_load() {
            out.push(Action::Note(Note::ReloadWaits));
        }
    }

    pub(super) fn loaded(&mut self, mut terms: Terms, out: &mut Vec<Action>) {
        self.is_loading = false;
        if self.stop.is_some() {
            return;
        }
        if let Some(count @ 1..) = self.parked {
            let spawning = terms
                .pools
                .iter_mut()
                .filter(|pool| pool.workers > 0 && !pool.is_elastic() && !pool.is_single);
            spawning.for_each(|pool| (pool.workers, pool.most) = (count, count));
        }
        let id = self.add_generation(&terms);
        out.push(Action::Begin(id));
    }

    /// One worker more or fewer in every pool of one size that has workers, never fewer than one.
    fn scale(&mut self, now: Instant, is_more: bool, out: &mut Vec<Action>) {
        let mut surplus = Vec::new();
        for generation in self.generations.iter_mut().filter(|one| one.is_staying()) {
            let most = generation.most_workers;
            let mut room = most.saturating_sub(generation.pools.iter().map(Pool::wanted).sum());
            for (index, pool) in generation.pools.iter_mut().enumerate() {
                let before = pool.wanted();
                if before == 0 || !pool.is_staying() || pool.policy().is_elastic() {
                    continue;
                }
                if pool.policy().is_single {
                    out.push(Action::Note(Note::NotScaled { pool: pool_id(index) }));
                    continue;
                }
                if is_more && room == 0 {
                    let pool = pool_id(index);
                    out.push(Action::Note(Note::NoRoom { pool, most }));
                    continue;
                }
                if is_more {
                    room -= 1;
                    pool.grow_to(before.saturating_add(1));
                } else if before > 1 {
                    let is_ready = |id| {
                        self.workers
                            .get(&id)
                            .is_some_and(|worker| matches!(worker.state, State::Ready { .. }))
                    };
                    surplus.extend(pool.shrink(is_ready));
                }
                out.push(Action::Note(Note::Scaled {
                    pool: pool_id(index),
                    wanted: pool.wanted(),
                }));
            }
        }
        for worker in surplus {
            self.retire(now, worker, Why::Scaled, out);
        }
    }

    fn park(&mut self, now: Instant, out: &mut Vec<Action>) {
        self.parked = Some(0);
        self.wants_reload = false;
        self.end_all(now, None, out);
    }

    /// Begins the end of everything; `verdict` says why, unless it was asked for.
    pub(super) fn begin_stop(&mut self, now: Instant, code: u8, verdict: Option<Verdict>, out: &mut Vec<Action>) {
        if self.stop.is_some() {
            return;
        }
        let grace = self.generations.iter().map(|generation| generation.grace).max();
        let until = now + grace.unwrap_or(Duration::ZERO);
        self.stop = Some(Stop {
            code,
            verdict,
            until,
            is_quick: false,
        });
        self.wants_reload = false;
        out.push(Action::CloseListeners);
        self.end_all(now, Some(until), out);
    }

    /// What serves drains, what is starting is dismissed, what drains has until `limit` at most.
    fn end_all(&mut self, now: Instant, limit: Option<Instant>, out: &mut Vec<Action>) {
        for generation in &mut self.generations {
            if generation.change.take().is_some() {
                out.push(Action::DropChange(generation.id));
            }
            match generation.phase {
                Phase::Starting => generation.phase = Phase::Dismissed,
                Phase::Serving => drain(now, generation, out),
                Phase::Draining { until } => {
                    let until = limit.map_or(until, |limit| until.min(limit));
                    generation.phase = Phase::Draining { until };
                }
                Phase::Cut { .. } | Phase::Dismissed => {}
            }
        }
    }

    fn quicken(&mut self, now: Instant, out: &mut Vec<Action>) {
        out.push(Action::Note(Note::QuickShutdown));
        let until = now + KILL_AFTER;
        if let Some(stop) = &mut self.stop {
            stop.is_quick = true;
            stop.until = stop.until.min(until);
        }
        for generation in &mut self.generations {
            if let Phase::Draining { until: before } = generation.phase {
                generation.phase = Phase::Cut {
                    until: until.min(before + KILL_AFTER),
                };
                if let Some(front) = generation.front.filter(|front| !front.is_killed) {
                    out.push(Action::Drain {
                        front: front.id,
                        grace: Duration::ZERO,
                    });
                }
            }
        }
    }

    pub(super) fn front_configured(&mut self, now: Instant, id: FrontId, out: &mut Vec<Action>) {
        let Some((generation, front)) = self.find_front(id) else {
            return;
        };
        front.heard = now;
        front.up = front.up.or(Some(now));
        let Some(generation) = self.find_generation(generation) else {
            return;
        };
        // A front that replaces a dead one serves at once; a first front waits for its generation.
        if generation.phase == Phase::Serving {
            out.push(Action::Serve(id));
        }
    }

    pub(super) fn front_gone(&mut self, now: Instant, id: FrontId, busy: &[WorkerId], out: &mut Vec<Action>) {
        let Some((generation, front)) = self.find_front(id) else {
            return;
        };
        let health = front
            .up
            .map_or(Health::Never, |up| Health::Up(now.saturating_duration_since(up)));
        let Some(found) = self.find_generation(generation) else {
            return;
        };
        found.front = None;
        let is_starting = found.phase == Phase::Starting;
        let is_staying = found.is_staying();
        if is_staying {
            let wait = found.pacing.failed(health);
            let failures = found.pacing.failures();
            found.resume = Some(now + wait);
            out.push(Action::Note(Note::FrontRetry { wait, failures }));
            if is_starting && failures >= ATTEMPTS {
                self.give_up(now, generation, Verdict::FrontFailed, out);
            }
        }
        if is_staying {
            // Else all of them are stopped, with the time that they have.
            self.release_workers(now, generation, busy, out);
        }
        self.release_pools(now, generation, out);
    }

    /// Workers whose requests died with the front leave, and so do those that only the front could call drained.
    fn release_workers(&mut self, now: Instant, generation: GenerationId, busy: &[WorkerId], out: &mut Vec<Action>) {
        let until = now + KILL_AFTER;
        let leaves = |id: &WorkerId, state: State| {
            matches!(state, State::Retiring { .. } | State::Overdue { .. }) || (state.is_staying() && busy.contains(id))
        };
        let theirs = self.workers.iter().filter(|(_, one)| one.generation == generation);
        let leaving: Vec<_> = theirs
            .filter(|(id, worker)| leaves(id, worker.state))
            .map(|(id, _)| *id)
            .collect();
        for worker in leaving {
            self.step(now, worker, Event::Stop { until }, Some(Why::FrontDied), out);
        }
    }

    pub(super) fn worker_ready(&mut self, now: Instant, id: WorkerId, out: &mut Vec<Action>) {
        let is_booting = |worker: &super::Worker| matches!(worker.state, State::Booting { .. });
        if !self.workers.get(&id).is_some_and(is_booting) {
            return;
        }
        self.step(now, id, Event::Ready, None, out);
        let predecessor = self.pool_of(id).and_then(|pool| pool.ready(id));
        if let Some(predecessor) = predecessor {
            self.retire(now, predecessor, Why::Spent, out);
        }
    }

    /// A worker whose replacement need not wait for its end.
    pub(super) fn worker_failed(
        &mut self,
        now: Instant,
        worker: WorkerId,
        event: Event,
        why: Why,
        out: &mut Vec<Action>,
    ) {
        self.step(now, worker, event, Some(why), out);
    }

    pub(super) fn worker_gone(&mut self, now: Instant, id: WorkerId, death: Death, out: &mut Vec<Action>) {
        let may_leave = self.pool_of(id).is_some_and(|pool| pool.policy().may_leave);
        let Some(worker) = self.workers.remove(&id) else {
            return;
        };
        if !worker.state.is_staying() {
            return;
        }
        let pool = self
            .find_generation(worker.generation)
            .and_then(|one| one.pools.get_mut(worker.pool));
        if death == Death::NotAWorker
            && let Some(pool) = pool.filter(|pool| pool.policy().is_probing)
        {
            for other in pool.shrink_to_one(id) {
                self.retire(now, other, Why::Scaled, out);
            }
            return self.vacate(now, id, worker, None, out);
        }
        if matches!(worker.state, State::Booting { .. }) {
            let (verdict, is_final) = match death {
                Death::Code(4) => (Verdict::AppFailedToLoad, true),
                Death::Code(3) | Death::Impossible => (Verdict::WorkerFailedToBoot, true),
                Death::Code(_) | Death::Signal | Death::NotStarted | Death::NotAWorker => {
                    (Verdict::WorkerFailedToBoot, false)
                }
            };
            let by_itself = !matches!(death, Death::Signal | Death::NotStarted);
            self.boot_failed(now, worker, (verdict, is_final), by_itself, out);
        }
        let has_left = may_leave && death == Death::Code(0) && matches!(worker.state, State::Ready { .. });
        let failed = (!has_left).then(|| health(now, &worker, worker.state));
        self.vacate(now, id, worker, failed, out);
    }

    /// Lets a worker finish what it has; it has lost its place already or loses it here.
    pub(super) fn retire(&mut self, now: Instant, id: WorkerId, why: Why, out: &mut Vec<Action>) {
        let Some(worker) = self.workers.get(&id) else {
            return;
        };
        let generation = worker.generation;
        let Some(generation) = self.find_generation(generation) else {
            return;
        };
        let until = now + generation.grace;
        let has_front = generation.front.is_some_and(|front| !front.is_killed);
        let event = if has_front {
            Event::Retire { until }
        } else {
            Event::Stop {
                until: now + KILL_AFTER,
            }
        };
        self.step(now, id, event, Some(why), out);
    }

    /// Moves one worker through its table and says what to do about it.
    pub(super) fn step(&mut self, now: Instant, id: WorkerId, event: Event, why: Option<Why>, out: &mut Vec<Action>) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        let before = worker.state;
        let (after, step) = before.next(event, now);
        worker.state = after;
        if after != before {
            worker.why = why.unwrap_or(worker.why);
        }
        let worker = *worker;
        if let Some(step) = step {
            let why = worker.why;
            out.push(Action::Worker { worker: id, step, why });
        }
        if before.is_staying() && !after.is_staying() {
            self.dismissed += 1;
            if worker.why.is_failure() && matches!(before, State::Booting { .. }) {
                let verdict = Verdict::WorkerFailedToBoot;
                // Silence of a program of which nobody knows what it speaks: more of it says no more.
                let is_probing = self.pool_of(id).is_some_and(|pool| pool.policy().is_probing);
                let is_final = is_probing && worker.why == Why::BootTimeout;
                self.boot_failed(now, worker, (verdict, is_final), true, out);
            }
            // An overdue worker came up and ran for its whole `timeout`: that is no crash loop, and its replacement
            // starts at once however often it happens.
            let is_crash = worker.why.is_failure() && worker.why != Why::Overdue;
            let failed = is_crash.then(|| health(now, &worker, before));
            self.vacate(now, id, worker, failed, out);
        }
    }

    fn vacate(
        &mut self,
        now: Instant,
        id: WorkerId,
        worker: super::Worker,
        failed: Option<Health>,
        out: &mut Vec<Action>,
    ) {
        let Some(generation) = self.find_generation(worker.generation) else {
            return;
        };
        let is_staying = generation.is_staying();
        let Some(pool) = generation.pools.get_mut(worker.pool) else {
            return;
        };
        let outcome = pool.vacate(id, now, failed);
        if let Some((wait, failures)) = outcome.filter(|(wait, _)| is_staying && !wait.is_zero()) {
            let pool = pool_id(worker.pool);
            out.push(Action::Note(Note::WorkerRetry { pool, wait, failures }));
        }
    }

    /// Counts a worker that was never ready, and gives its generation up when that is hopeless: at once for a lasting
    /// cause, after some attempts otherwise. A first generation that has ready workers in the pool goes on without.
    fn boot_failed(
        &mut self,
        now: Instant,
        worker: super::Worker,
        (verdict, is_final): (Verdict, bool),
        by_itself: bool,
        out: &mut Vec<Action>,
    ) {
        let is_reload = self.has_served;
        let Some(generation) = self.find_generation(worker.generation) else {
            return;
        };
        let Some(pool) = generation.pools.get_mut(worker.pool) else {
            return;
        };
        let is_vital = pool.policy().is_vital;
        pool.boot_failed(now, by_itself);
        let is_hopeless = (is_vital || is_reload) && (is_final || pool.boot_failures >= ATTEMPTS);
        if generation.phase == Phase::Serving {
            if pool.standing == Standing::Joining && is_hopeless {
                self.drop_change(now, worker.generation, verdict, out);
            }
            return;
        }
        if generation.phase == Phase::Starting && is_hopeless && (is_reload || !pool.has_been_ready) {
            self.give_up(now, worker.generation, verdict, out);
        }
    }

    fn give_up(&mut self, now: Instant, id: GenerationId, verdict: Verdict, out: &mut Vec<Action>) {
        let has_served = self.has_served;
        let Some(generation) = self.find_generation(id) else {
            return;
        };
        generation.phase = Phase::Dismissed;
        if has_served {
            out.push(Action::ReloadFailed(verdict));
        } else {
            self.begin_stop(now, verdict.exit_code(), Some(verdict), out);
        }
    }
}

/// Lets a serving generation finish.
pub(super) fn drain(now: Instant, generation: &mut Generation, out: &mut Vec<Action>) {
    let grace = generation.grace;
    generation.phase = Phase::Draining { until: now + grace };
    if let Some(front) = generation.front.filter(|front| !front.is_killed) {
        out.push(Action::Drain { front: front.id, grace });
    }
}

fn health(now: Instant, worker: &super::Worker, state: State) -> Health {
    match state {
        State::Ready { .. } if worker.has_served => Health::Served,
        State::Ready { since } => Health::Up(now.saturating_duration_since(since)),
        State::Booting { .. } => Health::Never,
        State::Retiring { .. }
        | State::Overdue { .. }
        | State::Stopping { .. }
        | State::Aborting { .. }
        | State::Killed => Health::Up(Duration::ZERO),
    }
}

pub(super) fn pool_id(index: usize) -> PoolId {
    PoolId(u16::try_from(index).unwrap_or(u16::MAX))
}
