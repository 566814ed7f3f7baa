//! A seeded world of processes that misbehave, a virtual clock, and claims that must hold after every step.
//!
//! A failure prints its seed; `run(seed)` repeats it exactly.

use super::arbiter::{Action, Asked, Death, Input, Plan};
use super::generation::{Change, FrontId, GenerationId, Phase, Terms};
use super::pacing::mix;
use super::pool::{Policy, Standing};
use super::worker::{State, Step};
use crate::base::ids::{PoolId, WorkerId};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

const GRACE: Duration = Duration::from_secs(5);

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = mix(self.0);
        self.0 % limit
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn within(&mut self, milliseconds: u64) -> Duration {
        Duration::from_millis(self.below(milliseconds) + 1)
    }
}

/// How a world treats its arbiter.
#[derive(Clone, Copy)]
struct Mood {
    /// Workers that fail to boot, in percent.
    bad_boots: u64,
    /// Processes that do not do what they are told, in percent.
    stubborn: u64,
    /// Events of misfortune per second of virtual time, in percent.
    trouble: u64,
}

/// A worker process as the world knows it.
struct Process {
    generation: GenerationId,
    is_ready: bool,
    /// Signals it was sent, in order.
    told: Vec<Step>,
}

struct World {
    seed: u64,
    random: Random,
    mood: Mood,
    now: Instant,
    plan: Plan,
    /// What will happen, by time and order.
    future: BTreeMap<(Instant, u64), Input>,
    order: u64,
    workers: BTreeMap<WorkerId, Process>,
    fronts: BTreeMap<FrontId, (GenerationId, bool)>,
    /// Everything that was ever started, to see that nothing is started twice or forgotten alive.
    born: BTreeSet<WorkerId>,
    serving: Option<GenerationId>,
    exit: Option<u8>,
    loads: usize,
    changes: usize,
}

impl World {
    fn new(seed: u64, mood: Mood) -> Self {
        let mut random = Random(seed);
        let now = super::origin();
        let terms = terms(&mut random);
        Self {
            seed,
            random,
            mood,
            now,
            plan: Plan::new(&terms, seed),
            future: BTreeMap::new(),
            order: 0,
            workers: BTreeMap::new(),
            fronts: BTreeMap::new(),
            born: BTreeSet::new(),
            serving: None,
            exit: None,
            loads: 0,
            changes: 0,
        }
    }

    fn soon(&mut self, wait: Duration, input: Input) {
        self.order += 1;
        self.future.insert((self.now + wait, self.order), input);
    }

    /// Gives the plan one event at the present time and lives through what it orders.
    fn give(&mut self, input: Input) {
        if !self.take_from_world(&input) {
            return;
        }
        let ready_before = self.ready_count();
        let is_planned = matches!(input, Input::WorkerReady(_) | Input::WorkerSpent(_) | Input::Tick);
        let mut actions = Vec::new();
        let shown = input.clone();
        self.plan.handle(self.now, input, &mut actions);
        for action in &actions {
            self.obey(action);
        }
        self.check(&shown);
        let is_changed = actions.iter().any(|action| matches!(action, Action::Change { .. }));
        if is_planned && !is_changed && self.exit.is_none() {
            self.check_capacity(ready_before);
        }
    }

    /// What the event means for the world itself; false if it can no longer happen.
    fn take_from_world(&mut self, input: &Input) -> bool {
        match input {
            Input::WorkerGone { worker, .. } => self.workers.remove(worker).is_some(),
            Input::FrontGone { front, .. } => self.fronts.remove(front).is_some(),
            Input::WorkerReady(worker) => {
                let front_is_there = self.front_of(*worker).is_some();
                self.workers.get_mut(worker).is_some_and(|process| {
                    process.is_ready |= front_is_there;
                    front_is_there
                })
            }
            Input::WorkerDrained(worker)
            | Input::WorkerOverdue(worker)
            | Input::WorkerOverdueAmongOthers(worker)
            | Input::WorkerFaulty(worker)
            | Input::WorkerCutBody(worker)
            | Input::WorkerYielded(worker)
            | Input::WorkerServed(worker)
            | Input::WorkerSpent(worker) => self.front_of(*worker).is_some(),
            Input::FrontConfigured(front) | Input::FrontHeard(front) | Input::Demand { front, .. } => {
                self.fronts.contains_key(front)
            }
            Input::WorkerDismissed(_) | Input::Tick => true,
            Input::ChangePrepared(front)
            | Input::ChangeRefused(front)
            | Input::PoolDrained { front, .. }
            | Input::PoolUnused { front, .. } => self.fronts.contains_key(front),
            Input::Asked(_) | Input::Loaded(_) | Input::Changed(_) | Input::LoadRefused => true,
        }
    }

    fn front_of(&self, worker: WorkerId) -> Option<FrontId> {
        let generation = self.workers.get(&worker)?.generation;
        let mut fronts = self.fronts.iter();
        fronts.find(|(_, (theirs, _))| *theirs == generation).map(|(id, _)| *id)
    }

    fn obey(&mut self, action: &Action) {
        match *action {
            Action::SpawnFront { front, generation, .. } => self.start_front(front, generation),
            Action::SpawnWorker { worker, generation, .. } => self.start_worker(worker, generation),
            Action::Drain { front, grace } if !self.random.chance(self.mood.stubborn) => {
                let limit = u64::try_from(grace.as_millis()).unwrap().max(2) * 11 / 10;
                let wait = self.random.within(limit);
                self.soon(
                    wait,
                    Input::FrontGone {
                        front,
                        busy: Vec::new(),
                    },
                );
            }
            Action::KillFront(front) => {
                let wait = self.random.within(50);
                self.soon(
                    wait,
                    Input::FrontGone {
                        front,
                        busy: Vec::new(),
                    },
                );
            }
            Action::Worker { worker, step, .. } => self.tell(worker, step),
            Action::Load => {
                self.loads += 1;
                let serving = self.plan.serving().filter(|_| self.random.chance(60));
                let input = match serving {
                    _ if self.random.chance(20) => Input::LoadRefused,
                    Some(generation) => Input::Changed(self.change(generation)),
                    None => Input::Loaded(terms(&mut self.random)),
                };
                self.soon(Duration::ZERO, input);
            }
            Action::BeginChange(id) => {
                let fronts = self.fronts.iter().filter(|(_, (theirs, _))| *theirs == id);
                let fronts: Vec<_> = fronts.map(|(front, _)| *front).collect();
                fronts.into_iter().for_each(|front| self.read(front));
            }
            Action::Change { front, generation, .. } => {
                self.changes += 1;
                let plan = self.plan.generations.iter().find(|one| one.id == generation);
                let pools = plan.iter().flat_map(|one| one.pools.iter().enumerate());
                let leaving = pools.filter(|(_, pool)| matches!(pool.standing, Standing::Leaving { .. }));
                let leaving: Vec<_> = leaving.map(|(place, _)| place).collect();
                for place in leaving {
                    let wait = self.random.within(8000);
                    let pool = PoolId(u16::try_from(place).unwrap());
                    self.soon(wait, Input::PoolDrained { front, pool });
                    let wait = wait + self.random.within(2000);
                    self.soon(wait, Input::PoolUnused { front, pool });
                }
            }
            Action::FreePool { generation, pool } => {
                let place = usize::from(pool.0);
                let mut workers = self.plan.workers.values();
                let left = workers.any(|worker| worker.generation == generation && worker.pool == place);
                assert!(!left, "seed {}: {pool:?} is free with live workers", self.seed);
            }
            Action::Promoted(id) => self.serving = Some(id),
            Action::Forget(id) => {
                let alive = self.workers.values().filter(|process| process.generation == id).count();
                assert_eq!(alive, 0, "seed {}: {id:?} forgotten with live workers", self.seed);
            }
            Action::Exit { code, .. } => {
                assert_eq!(self.exit, None, "seed {}: two exits", self.seed);
                self.exit = Some(code);
            }
            Action::Serve(front) => {
                let known = self.fronts.get(&front);
                assert!(known.is_some(), "seed {}: {front:?} serves after its end", self.seed);
            }
            Action::Begin(_)
            | Action::Drain { .. }
            | Action::DropChange(_)
            | Action::ReloadFailed(_)
            | Action::CloseListeners
            | Action::Crowded { .. }
            | Action::PoolDown { .. }
            | Action::PoolUp { .. }
            | Action::Note(_) => {}
        }
    }

    fn start_front(&mut self, front: FrontId, generation: GenerationId) {
        let same = self.fronts.values().filter(|(theirs, _)| *theirs == generation).count();
        assert_eq!(same, 0, "seed {}: two fronts in {generation:?}", self.seed);
        self.fronts.insert(front, (generation, true));
        let wait = self.random.within(200);
        if self.random.chance(self.mood.bad_boots / 4) {
            self.soon(
                wait,
                Input::FrontGone {
                    front,
                    busy: Vec::new(),
                },
            );
        } else {
            self.soon(wait, Input::FrontConfigured(front));
            let plan = self.plan.generations.iter().find(|one| one.id == generation);
            if plan.is_some_and(|one| one.change.is_some()) {
                self.read(front);
            }
        }
    }

    /// A front reads the configuration of a change.
    fn read(&mut self, front: FrontId) {
        let wait = Duration::from_millis(200) + self.random.within(100);
        let input = if self.random.chance(5) {
            Input::ChangeRefused(front)
        } else {
            Input::ChangePrepared(front)
        };
        self.soon(wait, input);
    }

    /// Some pools leave, and others come, in places that are nobody's.
    fn change(&mut self, generation: GenerationId) -> Change {
        let plan = self.plan.generations.iter().find(|one| one.id == generation).unwrap();
        let standings: Vec<_> = plan.pools.iter().map(|pool| pool.standing).collect();
        let is_free = |place: &usize| standings.get(*place).is_none_or(|standing| *standing == Standing::Free);
        let number = |place: usize| PoolId(u16::try_from(place).unwrap());
        let free: Vec<_> = (0..).filter(is_free).take(2).map(number).collect();
        let serving = |place: &usize| standings[*place] == Standing::Serving;
        let serving: Vec<_> = (0..standings.len()).filter(serving).map(number).collect();
        Change {
            generation,
            joining: free
                .into_iter()
                .filter(|_| self.random.chance(50))
                .zip(terms(&mut Random(self.seed)).pools)
                .collect(),
            leaving: serving.into_iter().filter(|_| self.random.chance(30)).collect(),
        }
    }

    fn start_worker(&mut self, worker: WorkerId, generation: GenerationId) {
        assert!(self.born.insert(worker), "seed {}: {worker:?} started twice", self.seed);
        let process = Process {
            generation,
            is_ready: false,
            told: Vec::new(),
        };
        self.workers.insert(worker, process);
        let wait = self.random.within(1500);
        if !self.random.chance(self.mood.bad_boots) {
            self.soon(wait, Input::WorkerReady(worker));
            return;
        }
        let death = match self.random.below(8) {
            0 => Death::Code(3),
            1 => Death::Code(4),
            2 => Death::NotStarted,
            3 => Death::Impossible,
            4 => Death::NotAWorker,
            5 => Death::Signal,
            6 => Death::Code(0),
            // It hangs: only its deadline ends it.
            _ => return,
        };
        self.soon(wait, Input::WorkerGone { worker, death });
    }

    fn tell(&mut self, worker: WorkerId, step: Step) {
        let seed = self.seed;
        let stubborn = self.random.chance(self.mood.stubborn);
        let Some(process) = self.workers.get_mut(&worker) else {
            panic!("seed {seed}: {step:?} to {worker:?}, which is gone");
        };
        // The ladder: never a step back, and none twice but a repeated stop.
        let rank = |step: &Step| match step {
            Step::TellRetire => 0,
            Step::SendFinish => 1,
            Step::SendStop => 2,
            Step::RepeatStop => 3,
            Step::SendAbort => 4,
            Step::SendKill => 5,
        };
        let last = process.told.last();
        assert!(
            match (last, step) {
                (last, Step::RepeatStop) => matches!(last, Some(Step::SendStop | Step::RepeatStop)),
                (last, step) => last.is_none_or(|last| rank(last) < rank(&step)),
            },
            "seed {seed}: {step:?} after {:?} for {worker:?}",
            process.told
        );
        process.told.push(step);
        let (wait, death) = match step {
            Step::TellRetire | Step::SendFinish => {
                if !stubborn {
                    let wait = self.random.within(3000);
                    self.soon(wait, Input::WorkerDrained(worker));
                }
                return;
            }
            Step::SendStop | Step::RepeatStop => (self.random.within(1000), Death::Code(0)),
            Step::SendAbort => (self.random.within(1000), Death::Signal),
            Step::SendKill => (self.random.within(100), Death::Signal),
        };
        if step == Step::SendKill || !stubborn {
            self.soon(wait, Input::WorkerGone { worker, death });
        }
    }

    /// Misfortune and signals.
    fn trouble(&mut self) {
        let ids: Vec<_> = self.workers.keys().copied().collect();
        let count = u64::try_from(ids.len()).unwrap();
        let worker = if count == 0 {
            None
        } else {
            Some(ids[usize::try_from(self.random.below(count)).unwrap()])
        };
        let front = self.fronts.keys().next().copied();
        let input = match (self.random.below(16), worker, front) {
            (0, Some(worker), _) => Input::WorkerGone {
                worker,
                death: Death::Signal,
            },
            (1, Some(worker), _) if self.random.chance(50) => Input::WorkerOverdue(worker),
            (1, Some(worker), _) => Input::WorkerOverdueAmongOthers(worker),
            (2, Some(worker), _) if self.random.chance(50) => Input::WorkerCutBody(worker),
            (2, Some(worker), _) => Input::WorkerFaulty(worker),
            (3, Some(worker), _) if self.random.chance(50) => Input::WorkerServed(worker),
            (3 | 4, Some(worker), _) => Input::WorkerSpent(worker),
            (5, Some(worker), Some(front)) => Input::FrontGone {
                front,
                busy: vec![worker],
            },
            (6, _, Some(front)) => {
                if let Some((_, talks)) = self.fronts.get_mut(&front) {
                    *talks = false;
                }
                return;
            }
            (7, ..) => Input::Asked(Asked::MoreWorkers),
            (8, ..) => Input::Asked(Asked::FewerWorkers),
            (12, Some(worker), _) => Input::WorkerDismissed(worker),
            (15, Some(worker), _) => Input::WorkerYielded(worker),
            (13 | 14, _, Some(front)) => Input::Demand {
                front,
                pool: PoolId(u16::try_from(self.random.below(3)).unwrap()),
                workers: usize::try_from(self.random.below(12)).unwrap(),
            },
            (9, ..) if self.random.chance(10) => Input::Asked(Asked::Park),
            (_, Some(worker), _) if self.random.chance(30) => Input::WorkerDrained(worker),
            _ => Input::Asked(Asked::Reload),
        };
        self.give(input);
    }

    /// Lets the next thing happen that is due before `until`; false when nothing is left before it.
    fn turn(&mut self, until: Instant) -> bool {
        let event = self.future.keys().next().copied();
        let deadline = self.plan.next_deadline();
        let times = [event.map(|(time, _)| time), deadline];
        let Some(next) = times.into_iter().flatten().min().filter(|next| *next <= until) else {
            self.now = until;
            return false;
        };
        self.now = self.now.max(next);
        match event.filter(|(time, _)| *time <= self.now) {
            Some(key) => {
                let input = self.future.remove(&key).unwrap();
                self.give(input);
            }
            None => {
                self.give(Input::Tick);
                let after = self.plan.next_deadline();
                assert!(
                    after.is_none_or(|after| after > self.now) || self.exit.is_some(),
                    "seed {}: a deadline stays due, so the arbiter would spin",
                    self.seed
                );
            }
        }
        true
    }

    fn second(&mut self) {
        let until = self.now + Duration::from_secs(1);
        let mut turns = 0;
        while self.exit.is_none() && self.turn(until) {
            turns += 1;
            assert!(turns < 10_000, "seed {}: too much happens in a second", self.seed);
        }
        let talking: Vec<_> = self
            .fronts
            .iter()
            .filter(|(_, (_, talks))| *talks)
            .map(|(id, _)| *id)
            .collect();
        for front in talking {
            self.give(Input::FrontHeard(front));
        }
    }

    /// Workers that serve now: none once their generation drains, or their pool.
    fn ready_count(&self) -> usize {
        let serving = self.plan.generations.iter().find(|one| one.phase == Phase::Serving);
        self.ready_in(serving.map(|one| one.id))
    }

    fn ready_in(&self, generation: Option<GenerationId>) -> usize {
        let plan = self.plan.generations.iter().find(|one| Some(one.id) == generation);
        let serves = |place: usize| {
            let pool = plan.and_then(|one| one.pools.get(place));
            pool.is_some_and(|pool| pool.standing == Standing::Serving)
        };
        let is_ready =
            |worker: &&super::arbiter::Worker| matches!(worker.state, State::Ready { .. }) && serves(worker.pool);
        let theirs = self
            .plan
            .workers
            .values()
            .filter(|worker| Some(worker.generation) == generation);
        theirs.filter(is_ready).count()
    }

    /// A planned retirement happens only once its replacement is ready.
    fn check_capacity(&self, before: usize) {
        let now = self.ready_in(self.serving);
        let serving = self.plan.generations.iter().find(|one| Some(one.id) == self.serving);
        let Some(serving) = serving.filter(|one| one.phase == Phase::Serving) else {
            return;
        };
        let pools = serving.pools.iter().filter(|pool| pool.standing == Standing::Serving);
        let wanted: usize = pools.map(super::pool::Pool::wanted).sum();
        assert!(
            now >= before.min(wanted),
            "seed {}: {before} ready workers became {now} of {wanted} by plan",
            self.seed
        );
    }

    fn check(&self, input: &Input) {
        let seed = self.seed;
        if self.exit.is_some() {
            return;
        }
        let serving = self.plan.generations.iter().filter(|one| one.phase == Phase::Serving);
        assert!(
            serving.count() <= 1,
            "seed {seed}: two generations serve after {input:?}"
        );
        let starting = self.plan.generations.iter().filter(|one| one.phase == Phase::Starting);
        assert!(
            starting.count() <= 1,
            "seed {seed}: two generations start after {input:?}"
        );
        let alive: Vec<_> = self.workers.keys().collect();
        let known: Vec<_> = self.plan.workers.keys().collect();
        assert_eq!(
            alive, known,
            "seed {seed}: the plan lost sight of a process after {input:?}"
        );
        for generation in &self.plan.generations {
            for pool in &generation.pools {
                let (wanted, policy) = (pool.wanted(), pool.policy());
                let is_bound = wanted >= policy.workers && wanted <= policy.most;
                assert!(
                    is_bound || !policy.is_elastic(),
                    "seed {seed}: {wanted} places in a pool of {policy:?} after {input:?}"
                );
                let held: Vec<_> = pool.held().collect();
                let successors: usize = held.iter().map(|place| place.len().saturating_sub(1)).sum();
                assert!(successors <= 1, "seed {seed}: more surge than planned: {held:?}");
                for worker in held.iter().flatten() {
                    let state = self.plan.workers.get(worker).map(|worker| worker.state);
                    assert!(
                        state.is_some_and(State::is_staying),
                        "seed {seed}: a place is held by {worker:?} in {state:?} after {input:?}"
                    );
                }
            }
            let least: usize = generation.pools.iter().map(|pool| pool.policy().workers).sum();
            let wanted: usize = generation.pools.iter().map(super::pool::Pool::wanted).sum();
            // Signals have no regard for what is there already, and pools that join none for those that leave.
            let is_scaled = generation.pools.iter().any(|pool| !pool.policy().is_elastic());
            let is_changed = self.plan.counts().reloads > 0;
            assert!(
                is_scaled || is_changed || wanted <= generation.most_workers.max(least),
                "seed {seed}: {wanted} places where there may be {} after {input:?}",
                generation.most_workers
            );
            let staying = self
                .plan
                .workers
                .values()
                .filter(|worker| worker.generation == generation.id);
            let staying = staying.filter(|worker| worker.state.is_staying()).count();
            let held: usize = generation
                .pools
                .iter()
                .flat_map(|pool| pool.held())
                .map(|place| place.len())
                .sum();
            assert!(
                staying == held || !generation.is_staying(),
                "seed {seed}: {staying} workers stay in {held} places after {input:?}"
            );
        }
    }
}

fn terms(random: &mut Random) -> Terms {
    let pools = random.below(2) + 1;
    let policy = |random: &mut Random| {
        let workers = usize::try_from(random.below(5)).unwrap();
        let more = if random.chance(50) { random.below(4) } else { 0 };
        Policy {
            workers,
            most: workers + usize::try_from(more).unwrap(),
            boot_timeout: Some(Duration::from_secs(3)),
            is_probing: random.chance(50),
            may_leave: random.chance(50),
            is_vital: random.chance(70),
            is_single: random.chance(10),
            is_watched: random.chance(20),
        }
    };
    Terms {
        pools: (0..pools).map(|_| policy(random)).collect(),
        grace: GRACE,
        most_workers: if random.chance(50) { 5 } else { usize::MAX },
    }
}

/// One life: a start, troubled times, and a stop that must end.
fn run(seed: u64) -> World {
    let mut random = Random(mix(seed ^ 0xfeed));
    let mood = Mood {
        bad_boots: [0, 10, 50][usize::try_from(random.below(3)).unwrap()],
        stubborn: [0, 20, 100][usize::try_from(random.below(3)).unwrap()],
        trouble: [0, 50, 100][usize::try_from(random.below(3)).unwrap()],
    };
    let mut world = World::new(seed, mood);
    world.give(Input::Tick);
    for _ in 0..60 {
        world.second();
        while world.exit.is_none() && world.random.chance(world.mood.trouble / 2) {
            world.trouble();
        }
    }
    if world.exit.is_some() {
        return world;
    }
    world.give(Input::Asked(Asked::Stop));
    if world.random.chance(30) {
        world.second();
        world.give(Input::Asked(Asked::Interrupt));
    }
    let limit = world.now + GRACE + Duration::from_secs(11);
    while world.exit.is_none() {
        world.second();
        assert!(world.now <= limit, "seed {seed}: the stop does not end");
    }
    assert_eq!(world.exit, Some(0), "seed {seed}");
    assert!(
        world.workers.is_empty() && world.fronts.is_empty(),
        "seed {seed}: left alive"
    );
    world
}

#[test]
fn whatever_happens_the_claims_hold() {
    let (mut served, mut halted, mut loads, mut changes) = (0, 0, 0, 0);
    for seed in 0..2000 {
        let world = run(seed);
        served += usize::from(world.serving.is_some());
        halted += usize::from(matches!(world.exit, Some(1 | 3 | 4)));
        loads += world.loads;
        changes += world.changes;
    }
    // The worlds are neither all fine nor all hopeless.
    assert!(
        served > 1000 && halted > 100 && loads > 1000 && changes > 1000,
        "{served} {halted} {loads} {changes}"
    );
}
