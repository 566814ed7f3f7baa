//! The whole tree: signals, exits, what fronts say, and deadlines -> who is started, told, stopped and killed.
//!
//! Never here: pids, descriptors, configuration texts, the clock.

mod change;
mod events;
mod settle;
#[cfg(test)]
mod tests;

use super::generation::{Change, FrontId, Generation, GenerationId, Phase, Terms};
use super::pool::Pool;
use super::worker::{Event, KILL_AFTER, State, Step, Why};
use crate::base::ids::{PoolId, WorkerId};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Generations that may finish their requests at the same time; a further reload waits for one to end.
const DRAINING_LIMIT: usize = 4;

/// Failed starts of one kind after which a generation that never served is given up.
const ATTEMPTS: u32 = 3;

/// What stays unreaped this long after everything was killed is left behind.
const LEAVE_BEHIND: Duration = Duration::from_secs(10);

/// What users ask by signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// TERM: stop, finishing what runs.
    Stop,
    /// INT, QUIT: the same; quickly when said during a stop.
    Interrupt,
    /// HUP.
    Reload,
    /// TTIN.
    MoreWorkers,
    /// TTOU.
    FewerWorkers,
    /// WINCH while daemonized: no workers until HUP or TTIN.
    Park,
}

/// How a worker ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// It exited with this code.
    Code(i32),
    /// A signal killed it.
    Signal,
    /// It could not be started for a reason that another try may not meet.
    NotStarted,
    /// It could not be started and never will be: no such program, or no permission.
    Impossible,
    /// It is not a worker: it answered like a plain CGI program and left. From now on one worker of ours takes all
    /// requests of its pool and starts the program for each.
    NotAWorker,
}

/// Lines about the limit of all workers are this far apart.
const COMPLAINT_PAUSE: Duration = Duration::from_secs(60);

/// What happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Nothing but time.
    Tick,
    /// A signal came.
    Asked(Asked),
    /// The configuration asked for by `Action::Load` is good and its listeners are bound.
    Loaded(Terms),
    /// The same, where it can take the place of the one that serves without a new generation.
    Changed(Change),
    /// It is not; the reasons were logged.
    LoadRefused,
    /// A front has read the configuration of a change.
    ChangePrepared(FrontId),
    /// A front cannot read it.
    ChangeRefused(FrontId),
    /// A front has no request any more for which a pool that leaves needs a worker.
    PoolDrained {
        /// Who says so.
        front: FrontId,
        /// The pool.
        pool: PoolId,
    },
    /// Nor one that refers to it otherwise.
    PoolUnused {
        /// Who says so.
        front: FrontId,
        /// The pool.
        pool: PoolId,
    },
    /// A front applied its configuration.
    FrontConfigured(FrontId),
    /// A front gave a sign of life.
    FrontHeard(FrontId),
    /// A front ended, or could not be started.
    FrontGone {
        /// The front.
        front: FrontId,
        /// Workers of its generation that had requests in hand.
        busy: Vec<WorkerId>,
    },
    /// A front found a worker ready.
    WorkerReady(WorkerId),
    /// A retiring worker's last request ended.
    WorkerDrained(WorkerId),
    /// A worker passed a request's deadline.
    WorkerOverdue(WorkerId),
    /// The same for one that takes several requests at once.
    WorkerOverdueAmongOthers(WorkerId),
    /// A worker broke its protocol.
    WorkerFaulty(WorkerId),
    /// A worker has a request whose body will never be whole.
    WorkerCutBody(WorkerId),
    /// A worker has answered a request to its end, its first.
    WorkerServed(WorkerId),
    /// A worker served its share.
    WorkerSpent(WorkerId),
    /// Somebody asked for a worker to be replaced.
    WorkerDismissed(WorkerId),
    /// A worker of an elastic pool is stopped for another pool that needs its room.
    WorkerYielded(WorkerId),
    /// The requests of a pool ask for so many workers.
    Demand {
        /// Who says so.
        front: FrontId,
        /// The pool.
        pool: PoolId,
        /// How many.
        workers: usize,
    },
    /// A worker was reaped, or could not be started.
    WorkerGone {
        /// The worker.
        worker: WorkerId,
        /// How it ended.
        death: Death,
    },
}

/// Why a generation is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Gunicorn's exit code 3.
    WorkerFailedToBoot,
    /// Gunicorn's exit code 4.
    AppFailedToLoad,
    /// The front did not come up.
    FrontFailed,
}

impl Verdict {
    /// The process exit code, when there is nothing else to serve.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::WorkerFailedToBoot => 3,
            Self::AppFailedToLoad => 4,
            Self::FrontFailed => 1,
        }
    }

    /// For the log, in Gunicorn's words where it has some.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::WorkerFailedToBoot => "Worker failed to boot.",
            Self::AppFailedToLoad => "App failed to load.",
            Self::FrontFailed => "Front failed to start.",
        }
    }
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// The configuration last loaded is that of this generation from now on.
    Begin(GenerationId),
    /// Start a front and make it known to the workers listed, which stay from an earlier front.
    SpawnFront {
        /// Its number.
        front: FrontId,
        /// Its generation.
        generation: GenerationId,
        /// Workers it takes over.
        keep: Vec<WorkerId>,
    },
    /// Start a worker and make it known to the front.
    SpawnWorker {
        /// Its number, also its age.
        worker: WorkerId,
        /// Its generation.
        generation: GenerationId,
        /// Its pool.
        pool: PoolId,
    },
    /// The front may accept.
    Serve(FrontId),
    /// A generation serves from now on.
    Promoted(GenerationId),
    /// The front shall finish; none of its listeners is needed any more. Zero = cut what runs.
    Drain {
        /// The front.
        front: FrontId,
        /// Time to finish.
        grace: Duration,
    },
    /// Kill a front.
    KillFront(FrontId),
    /// Do a step of a worker's end.
    Worker {
        /// The worker.
        worker: WorkerId,
        /// What to do.
        step: Step,
        /// Why.
        why: Why,
    },
    /// Tell a front for how many workers there is no room; 0 = for all that are wanted.
    Crowded {
        /// The front.
        front: FrontId,
        /// How many.
        workers: usize,
    },
    /// Tell a front that a pool cannot start: its requests need not wait.
    PoolDown {
        /// The front.
        front: FrontId,
        /// The pool.
        pool: PoolId,
        /// Until the next try.
        wait: Duration,
    },
    /// Tell a front that this is over, or not known any more.
    PoolUp {
        /// The front.
        front: FrontId,
        /// The pool.
        pool: PoolId,
    },
    /// Everything of a generation is gone.
    Forget(GenerationId),
    /// Read the configuration again; answered by `Loaded`, `Changed` or `LoadRefused`.
    Load,
    /// The change last loaded is that of this generation: its pools join, and its front is to read the configuration.
    BeginChange(GenerationId),
    /// The front routes by the new configuration from now on, and it is that of the generation. Pools that leave have
    /// some time.
    Change {
        /// The front.
        front: FrontId,
        /// The generation.
        generation: GenerationId,
        /// Time for pools that leave.
        grace: Duration,
    },
    /// The change is given up.
    DropChange(GenerationId),
    /// Nothing of a pool is left: its number can be another's.
    FreePool {
        /// Its generation.
        generation: GenerationId,
        /// The pool.
        pool: PoolId,
    },
    /// The new configuration does not come up; the old one goes on.
    ReloadFailed(Verdict),
    /// Stop listening: the stop has begun.
    CloseListeners,
    /// All is done.
    Exit {
        /// The exit code.
        code: u8,
        /// Why, unless somebody asked for it.
        verdict: Option<Verdict>,
    },
    /// Something to tell the user.
    Note(Note),
}

/// Decisions worth a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// A place stays empty for a while.
    WorkerRetry {
        /// The pool.
        pool: PoolId,
        /// How long.
        wait: Duration,
        /// Failures in a row.
        failures: u32,
    },
    /// A front is started again later.
    FrontRetry {
        /// When.
        wait: Duration,
        /// Failures in a row.
        failures: u32,
    },
    /// A front is killed because it was silent.
    FrontSilent,
    /// A front is killed because it did not finish in time.
    FrontSlow,
    /// A reload waits for another one to end.
    ReloadWaits,
    /// A stop became a quick one.
    QuickShutdown,
    /// Workers wanted now, after a signal.
    Scaled {
        /// The pool.
        pool: PoolId,
        /// How many.
        wanted: usize,
    },
    /// TTIN and TTOU mean nothing to a pool that one process serves.
    NotScaled {
        /// The pool.
        pool: PoolId,
    },
    /// TTIN asks for more workers than there may be in all.
    NoRoom {
        /// The pool.
        pool: PoolId,
        /// How many there may be.
        most: usize,
    },
    /// Requests wait for workers that there is no room for.
    Crowded {
        /// How many.
        workers: usize,
        /// How many there may be in all.
        most: usize,
    },
    /// A pool cannot start.
    PoolDown {
        /// The generation.
        generation: GenerationId,
        /// The pool.
        pool: PoolId,
        /// Until the next try.
        wait: Duration,
    },
    /// A pool that could not start has a worker that is ready.
    PoolUp {
        /// The pool.
        pool: PoolId,
    },
    /// The stop ends although processes could not be reaped.
    LeftBehind {
        /// How many.
        processes: usize,
    },
}

/// What happened so far, for those who ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Workers wanted now.
    pub wanted: usize,
    /// Workers spawned.
    pub spawned: u32,
    /// Workers that were made to leave.
    pub dismissed: u64,
    /// Reloads whose configuration was good.
    pub reloads: u32,
}

#[derive(Clone, Copy, Debug)]
struct Stop {
    code: u8,
    verdict: Option<Verdict>,
    until: Instant,
    is_quick: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Worker {
    pub(super) generation: GenerationId,
    pub(super) pool: usize,
    pub(super) state: State,
    /// It has answered a request to its end.
    has_served: bool,
    why: Why,
}

/// The plan for one arbiter.
#[derive(Debug)]
pub struct Plan {
    pub(super) generations: Vec<Generation>,
    pub(super) workers: BTreeMap<WorkerId, Worker>,
    last_generation: u32,
    last_front: u32,
    last_worker: u32,
    /// Workers that were made to leave so far.
    dismissed: u64,
    /// Changes that were begun.
    changes: u32,
    seed: u64,
    has_served: bool,
    is_loading: bool,
    wants_reload: bool,
    /// Parked by WINCH, and how many workers TTIN asked for since.
    parked: Option<usize>,
    stop: Option<Stop>,
    is_over: bool,
}

impl Plan {
    /// The number of the first generation.
    pub const FIRST: GenerationId = GenerationId(1);

    /// A plan whose first generation follows `terms`; the first `handle` starts it.
    #[must_use]
    pub fn new(terms: &Terms, seed: u64) -> Self {
        let mut plan = Self {
            generations: Vec::new(),
            workers: BTreeMap::new(),
            last_generation: 0,
            last_front: 0,
            last_worker: 0,
            dismissed: 0,
            changes: 0,
            seed,
            has_served: false,
            is_loading: false,
            wants_reload: false,
            parked: None,
            stop: None,
            is_over: false,
        };
        plan.add_generation(terms);
        plan
    }

    /// Takes one event and appends what is to be done, in order. `Input::Tick` is harmless at any time.
    pub fn handle(&mut self, now: Instant, input: Input, out: &mut Vec<Action>) {
        if self.is_over {
            return;
        }
        match input {
            Input::Tick => {}
            Input::Asked(asked) => self.asked(now, asked, out),
            Input::Loaded(terms) => self.loaded(terms, out),
            Input::Changed(change) => self.changed(change, out),
            Input::ChangePrepared(front) => self.change_prepared(front),
            Input::ChangeRefused(front) => self.change_refused(now, front, out),
            Input::PoolDrained { front, pool } => self.pool_drained(now, front, pool, false, out),
            Input::PoolUnused { front, pool } => self.pool_drained(now, front, pool, true, out),
            Input::LoadRefused => self.is_loading = false,
            Input::FrontConfigured(front) => self.front_configured(now, front, out),
            Input::FrontHeard(front) => {
                if let Some((_, front)) = self.find_front(front) {
                    front.heard = now;
                }
            }
            Input::FrontGone { front, busy } => self.front_gone(now, front, &busy, out),
            Input::WorkerReady(worker) => self.worker_ready(now, worker, out),
            Input::WorkerDrained(worker) => self.step(now, worker, Event::Drained, None, out),
            Input::WorkerOverdue(worker) => self.worker_failed(now, worker, Event::Overdue, Why::Overdue, out),
            Input::WorkerOverdueAmongOthers(worker) => {
                let grace = self.workers.get(&worker).map(|worker| worker.generation);
                let grace = grace.and_then(|id| self.find_generation(id)).map(|one| one.grace);
                let until = now + grace.unwrap_or(Duration::ZERO);
                self.worker_failed(now, worker, Event::OverdueAmongOthers { until }, Why::Overdue, out);
            }
            Input::WorkerFaulty(worker) => {
                let until = now + KILL_AFTER;
                self.worker_failed(now, worker, Event::Stop { until }, Why::Faulty, out);
            }
            Input::WorkerCutBody(worker) => self.worker_failed(now, worker, Event::Kill, Why::CutBody, out),
            Input::WorkerServed(worker) => {
                if let Some(worker) = self.workers.get_mut(&worker) {
                    worker.has_served = true;
                }
            }
            Input::WorkerSpent(worker) => {
                if let Some(pool) = self.pool_of(worker) {
                    pool.spent(worker);
                }
            }
            Input::WorkerYielded(worker) => {
                let held = self.pool_of(worker).map(|pool| pool.give_up(worker));
                // One whose place stays is replaced there, as its front gives it nothing more.
                let leaving = held.filter(|held| !held.is_empty()).unwrap_or_else(|| vec![worker]);
                for worker in leaving {
                    self.retire(now, worker, Why::Idle, out);
                }
            }
            Input::WorkerDismissed(worker) => self.retire(now, worker, Why::Dismissed, out),
            Input::Demand { front, pool, workers } => {
                let found = self.find_front(front).map(|(generation, _)| generation);
                let generation = found.and_then(|id| self.find_generation(id));
                if let Some(pool) = generation.and_then(|one| one.pools.get_mut(usize::from(pool.0))) {
                    pool.ask(workers);
                }
            }
            Input::WorkerGone { worker, death } => self.worker_gone(now, worker, death, out),
        }
        self.settle(now, out);
    }

    /// What happened so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let newest = self.generations.iter().rev().find(|generation| generation.is_staying());
        let wanted = |generation: &Generation| {
            let pools = generation.pools.iter().filter(|pool| pool.is_staying());
            pools.map(Pool::wanted).sum()
        };
        Counts {
            wanted: newest.map_or(0, wanted),
            spawned: self.last_worker,
            dismissed: self.dismissed,
            reloads: self.last_generation.saturating_sub(1) + self.changes,
        }
    }

    /// The generation that serves, if one does: the one that a change can be made in.
    #[must_use]
    pub fn serving(&self) -> Option<GenerationId> {
        let serves = |generation: &&Generation| generation.phase == Phase::Serving;
        self.generations.iter().find(serves).map(|generation| generation.id)
    }

    /// When `handle` must be called with `Input::Tick` at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.is_over {
            return None;
        }
        let workers = self.workers.values().filter_map(|worker| worker.state.deadline());
        let generations = self.generations.iter().filter_map(Generation::next_deadline);
        let end = self.stop.map(|stop| stop.until + LEAVE_BEHIND);
        workers.chain(generations).chain(end).min()
    }
}
