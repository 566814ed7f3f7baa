//! How many workers a pool needs, by what its requests do: more as soon as requests wait, fewer when they have not been
//! needed for a while.
//!
//! Never here: which worker gets which request (`dispatch`), starting and stopping workers (`pool`).

use std::time::{Duration, Instant};

/// A request waits this long before a worker is started for it, unless there is none at all: most pass sooner.
const PATIENCE: Duration = Duration::from_millis(10);

/// What a pool may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Workers at least.
    pub min: usize,
    /// Workers at most.
    pub max: usize,
    /// Requests at once per worker.
    pub slots: usize,
    /// Workers that were not needed for this long are stopped.
    pub idle: Duration,
}

/// What a pool's requests do at this moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Requests in the hands of workers.
    pub running: usize,
    /// Requests that wait for one.
    pub waiting: usize,
    /// Since when the first of them does.
    pub since: Option<Instant>,
}

/// The plan of one pool.
#[derive(Debug)]
pub struct Demand {
    policy: Policy,
    /// What was asked for last; unknown to a front that took the pool over.
    asked: Option<usize>,
    /// The most requests at once since `begun`.
    peak: usize,
    begun: Instant,
}

impl Demand {
    /// A pool of which nothing is known. `None` if its size is fixed.
    #[must_use]
    pub fn new(policy: Policy, now: Instant) -> Option<Self> {
        (policy.min < policy.max).then_some(Self {
            policy,
            asked: None,
            peak: 0,
            begun: now,
        })
    }

    /// Takes note of the load; workers to ask for, if that has changed. Harmless at any time.
    pub fn handle(&mut self, now: Instant, load: Load) -> Option<usize> {
        let requests = load.running + load.waiting;
        self.peak = self.peak.max(requests);
        let asked = self.asked();
        let is_pressing = load.waiting > 0 && (asked == 0 || self.has_waited(now, load));
        let needed = self.needed(requests);
        if is_pressing && needed > asked {
            return self.ask(needed);
        }
        if now < self.begun + self.policy.idle {
            return None;
        }
        let needed = self.needed(self.peak);
        (self.peak, self.begun) = (requests, now);
        // What requests still wait for is not taken back, though it may not be there yet.
        let needed = if load.waiting > 0 { needed.max(asked) } else { needed };
        if self.asked == Some(needed) {
            None
        } else {
            self.ask(needed)
        }
    }

    /// When `handle` wants to be called again, at the latest, if the load stays as it is.
    #[must_use]
    pub fn next_deadline(&self, load: Load) -> Option<Instant> {
        let asked = self.asked();
        let grows = load.waiting > 0 && self.needed(load.running + load.waiting) > asked;
        let growth = load.since.filter(|_| grows).map(|since| since + PATIENCE);
        // A pool at its least, without requests, has nothing to wait for.
        let is_still = load == Load::default() && self.peak == 0 && self.asked == Some(self.policy.min);
        let shrinking = (!is_still).then(|| self.begun + self.policy.idle);
        growth.into_iter().chain(shrinking).min()
    }

    /// Workers at least.
    #[must_use]
    pub fn least(&self) -> usize {
        self.policy.min
    }

    /// Workers asked for last.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.asked.unwrap_or(self.policy.min)
    }

    /// One of its workers leaves for another pool.
    pub fn give_up(&mut self) {
        self.asked = Some(self.asked().saturating_sub(1).max(self.policy.min));
    }

    fn has_waited(&self, now: Instant, load: Load) -> bool {
        load.since.is_some_and(|since| since + PATIENCE <= now)
    }

    fn needed(&self, requests: usize) -> usize {
        let workers = requests.div_ceil(self.policy.slots.max(1));
        workers.clamp(self.policy.min, self.policy.max)
    }

    fn ask(&mut self, workers: usize) -> Option<usize> {
        self.asked = Some(workers);
        Some(workers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::origin;

    const IDLE: Duration = Duration::from_secs(60);

    fn demand(min: usize, max: usize, slots: usize) -> Demand {
        let policy = Policy {
            min,
            max,
            slots,
            idle: IDLE,
        };
        Demand::new(policy, origin()).unwrap()
    }

    fn load(running: usize, waiting: usize, since: Instant) -> Load {
        Load {
            running,
            waiting,
            since: (waiting > 0).then_some(since),
        }
    }

    #[test]
    fn the_first_request_starts_a_worker_at_once_and_quiet_stops_it() {
        let mut demand = demand(0, 4, 1);
        let start = demand.begun;
        assert_eq!(demand.handle(start, Load::default()), None);
        assert_eq!(demand.handle(start, load(0, 1, start)), Some(1));
        assert_eq!(demand.handle(start, load(0, 1, start)), None);
        // It ran in the first window, so the worker stays for the next.
        let end = start + IDLE;
        assert_eq!(demand.next_deadline(Load::default()), Some(end));
        assert_eq!(demand.handle(end, Load::default()), None);
        assert_eq!(demand.handle(end + IDLE, Load::default()), Some(0));
        assert_eq!(demand.next_deadline(Load::default()), None);
    }

    #[test]
    fn requests_that_wait_too_long_get_as_many_workers_as_they_need() {
        let mut demand = demand(1, 4, 2);
        let start = demand.begun;
        let crowd = load(2, 3, start);
        assert_eq!(demand.handle(start, crowd), None);
        assert_eq!(demand.next_deadline(crowd), Some(start + PATIENCE));
        assert_eq!(demand.handle(start + PATIENCE, crowd), Some(3));
        assert_eq!(demand.handle(start + 2 * PATIENCE, load(2, 90, start)), Some(4));
        // No more are allowed, so there is nothing to ask for.
        assert_eq!(demand.next_deadline(load(8, 90, start)), Some(start + IDLE));
        assert_eq!(demand.handle(start + 3 * PATIENCE, load(8, 90, start)), None);
    }

    #[test]
    fn a_pool_shrinks_to_what_the_last_window_needed() {
        let mut demand = demand(1, 8, 1);
        let start = demand.begun;
        assert_eq!(demand.handle(start + PATIENCE, load(1, 7, start)), Some(8));
        assert_eq!(demand.handle(start + IDLE, load(2, 0, start)), None);
        assert_eq!(demand.handle(start + IDLE + PATIENCE, load(3, 0, start)), None);
        assert_eq!(demand.handle(start + 2 * IDLE, load(2, 0, start)), Some(3));
        assert_eq!(demand.handle(start + 3 * IDLE, load(1, 0, start)), Some(2));
        assert_eq!(demand.handle(start + 4 * IDLE, Load::default()), Some(1));
        assert_eq!(demand.next_deadline(Load::default()), None);
    }

    #[test]
    fn a_front_that_took_over_says_what_it_needs_after_one_window() {
        let mut demand = demand(1, 8, 1);
        let start = demand.begun;
        assert_eq!(demand.next_deadline(Load::default()), Some(start + IDLE));
        assert_eq!(demand.handle(start + IDLE, Load::default()), Some(1));
    }

    #[test]
    fn a_pool_of_one_size_needs_no_plan() {
        let policy = Policy {
            min: 2,
            max: 2,
            slots: 1,
            idle: IDLE,
        };
        assert!(Demand::new(policy, origin()).is_none());
    }
}
