//! The places of one pool: who fills them, who succeeds whom, and when an empty one may be filled again.
//!
//! A place holds one worker, and a second one only while that one's successor boots. A worker that leaves for whatever
//! reason gives up its place at once, so its replacement does not wait for its end.
//! Never here: the states of workers (`worker`), processes, the clock.

use super::pacing::{HEALTHY, Health, Pacing, mix};
use crate::base::ids::WorkerId;
use std::time::{Duration, Instant};

/// What a plan needs to know of a pool's settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Workers wanted at first; 0 for a pool of servers that others run.
    pub workers: usize,
    /// Workers that requests may ask for; as many as `workers` if the pool has one size.
    pub most: usize,
    /// Time to become ready; `None` = no end.
    pub boot_timeout: Option<Duration>,
    /// Its protocol is not known yet, so a worker that never becomes ready may never have been one.
    pub is_probing: bool,
    /// A ready worker that exits with code 0 did so on purpose, and is replaced at once however often.
    pub may_leave: bool,
    /// Without it there is nothing to serve. A pool among several may fail, and the others go on.
    pub is_vital: bool,
    /// One process serves all its requests, however many at once.
    pub is_single: bool,
    /// Its files are edited while it runs, so that what fails may work a moment later.
    pub is_watched: bool,
}

impl Policy {
    /// Whether its size follows its requests.
    #[must_use]
    pub fn is_elastic(self) -> bool {
        self.most > self.workers
    }
}

/// What a pool is to its generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Requests lead to it.
    Serving,
    /// It comes up beside the others and serves with the next configuration.
    Joining,
    /// No new request leads to it; those that it has may end.
    Leaving {
        /// When its time is over.
        until: Instant,
    },
    /// Its workers are on their way out.
    Left,
    /// Nothing is left of it: its number can be another pool's.
    Free,
}

/// One pool of one generation.
#[derive(Debug)]
pub struct Pool {
    /// What it is to its generation.
    pub standing: Standing,
    /// The front has no request of its any more, and will not have one.
    pub is_unused: bool,
    policy: Policy,
    places: Vec<Place>,
    seed: u64,
    /// Workers that its requests asked for, if its size follows them.
    asked: usize,
    /// A worker of it has been ready.
    pub has_been_ready: bool,
    /// Workers that ended before they were ready.
    pub boot_failures: u32,
    /// The same since one was ready, as far as they say something about the pool.
    failures_in_a_row: u32,
    /// When it last had a worker that was ready.
    well: Option<Instant>,
    /// It cannot start.
    is_down: bool,
    /// When the next try is made, as far as that was said.
    told: Option<Option<Instant>>,
}

/// What has changed about whether a pool can start at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outage {
    /// It cannot.
    Lasts {
        /// When it is tried again; `None` = now.
        next: Option<Instant>,
        /// It could until now.
        begins: bool,
    },
    /// It has a worker that is ready; or none is needed, and whether one would start is not known.
    Over {
        /// A worker of it is ready.
        is_ready: bool,
    },
}

/// Failures to boot in a row, in each place of a pool, after which the pool cannot start.
const HOPELESS: u32 = 2;

#[derive(Debug)]
struct Place {
    current: Option<WorkerId>,
    /// The current one is to be replaced once its successor is ready.
    is_spent: bool,
    successor: Option<WorkerId>,
    pacing: Pacing,
    /// Not filled before then.
    resume: Option<Instant>,
}

impl Pool {
    /// A pool with empty places.
    #[must_use]
    pub fn new(policy: Policy, seed: u64) -> Self {
        let mut pool = Self {
            standing: Standing::Serving,
            is_unused: false,
            policy,
            places: Vec::new(),
            seed,
            asked: policy.workers,
            has_been_ready: false,
            boot_failures: 0,
            failures_in_a_row: 0,
            well: None,
            is_down: false,
            told: None,
        };
        pool.grow_to(policy.workers);
        pool
    }

    /// A number that is nobody's.
    #[must_use]
    pub fn free() -> Self {
        let policy = Policy {
            workers: 0,
            most: 0,
            boot_timeout: None,
            is_probing: false,
            may_leave: false,
            is_vital: false,
            is_single: false,
            is_watched: false,
        };
        let mut pool = Self::new(policy, 0);
        pool.standing = Standing::Free;
        pool
    }

    /// Whether requests lead to it, or soon will.
    #[must_use]
    pub fn is_staying(&self) -> bool {
        matches!(self.standing, Standing::Serving | Standing::Joining)
    }

    /// It wants no workers from now on. Returns those that have places.
    pub fn close(&mut self) -> Vec<WorkerId> {
        self.standing = Standing::Left;
        (self.policy.workers, self.policy.most, self.asked) = (0, 0, 0);
        let before = std::mem::take(&mut self.places);
        let held = before
            .iter()
            .flat_map(|place| place.current.into_iter().chain(place.successor));
        held.collect()
    }

    /// Its settings.
    #[must_use]
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// Workers wanted now.
    #[must_use]
    pub fn wanted(&self) -> usize {
        self.places.len()
    }

    /// Its requests ask for so many workers.
    pub fn ask(&mut self, workers: usize) {
        if self.policy.is_elastic() {
            self.asked = workers.clamp(self.policy.workers, self.policy.most);
        }
    }

    /// Workers it should have more.
    #[must_use]
    pub fn shortage(&self) -> usize {
        if self.policy.is_elastic() {
            self.asked.saturating_sub(self.wanted())
        } else {
            0
        }
    }

    /// Workers it should have fewer.
    #[must_use]
    pub fn surplus(&self) -> usize {
        if self.policy.is_elastic() {
            self.wanted().saturating_sub(self.asked)
        } else {
            0
        }
    }

    /// Places that nobody holds.
    #[must_use]
    pub fn empty_places(&self) -> usize {
        self.places.iter().filter(|place| place.current.is_none()).count()
    }

    /// A worker is wanted elsewhere: its place goes, if the pool can be smaller. Returns who held it.
    pub fn give_up(&mut self, worker: WorkerId) -> Vec<WorkerId> {
        let place = self.places.iter().position(|place| place.current == Some(worker));
        let Some(place) = place.filter(|_| self.wanted() > self.policy.workers) else {
            return Vec::new();
        };
        let place = self.places.remove(place);
        self.asked = self.asked.min(self.wanted()).max(self.policy.workers);
        place.current.into_iter().chain(place.successor).collect()
    }

    /// A worker ended before it was ready. `by_itself`: nobody killed it. Who kills workers of a pool that is well kills
    /// some that boot, too, and that says nothing about the next one.
    pub fn boot_failed(&mut self, now: Instant, by_itself: bool) {
        self.boot_failures = self.boot_failures.saturating_add(1);
        let was_well = self.well.is_some_and(|well| well + HEALTHY > now);
        if by_itself || !was_well {
            self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        }
    }

    /// Whether the pool can start at all, if that has changed since it was asked last. Once it cannot, that stays so
    /// until a worker is ready, however many are tried meanwhile.
    pub fn outage(&mut self, now: Instant, is_ready: impl Fn(WorkerId) -> bool) -> Option<Outage> {
        let has_ready = self.places.iter().filter_map(|place| place.current).any(is_ready);
        if has_ready {
            self.well = Some(now);
        }
        if self.is_down && (has_ready || self.places.is_empty()) {
            (self.is_down, self.told) = (false, None);
            return Some(Outage::Over { is_ready: has_ready });
        }
        let is_hopeless = |place: &Place| place.pacing.failures() >= HOPELESS;
        let begins = !self.is_down
            && !has_ready
            && self.failures_in_a_row >= HOPELESS
            && !self.places.is_empty()
            && self.places.iter().all(is_hopeless);
        self.is_down |= begins;
        let next = self.places.iter().filter_map(|place| place.resume).min();
        // A try that is being made is no news.
        let is_news = self.told.is_none_or(|told| next.is_some() && told != next);
        if !self.is_down || !is_news {
            return None;
        }
        self.told = Some(next);
        Some(Outage::Lasts { next, begins })
    }

    /// Whoever was told of an outage is gone.
    pub fn tell_again(&mut self) {
        self.told = None;
    }

    /// Whether it has begun to serve, or need not before its first request. Nobody waits for one of several that has
    /// failed to boot.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.wanted() == 0 || self.has_been_ready || (!self.policy.is_vital && self.boot_failures > 0)
    }

    /// Adds places until there are `wanted`.
    pub fn grow_to(&mut self, wanted: usize) {
        while self.places.len() < wanted {
            self.seed = mix(self.seed);
            let pacing = if self.policy.is_watched {
                Pacing::watched(self.seed)
            } else {
                Pacing::new(self.seed)
            };
            self.places.push(Place {
                current: None,
                is_spent: false,
                successor: None,
                pacing,
                resume: None,
            });
        }
    }

    /// Removes one place and returns the workers that held it: an empty one if there is one, else one whose worker is
    /// not ready, else that of the oldest worker, so that nothing that serves leaves before something that does not.
    pub fn shrink(&mut self, is_ready: impl Fn(WorkerId) -> bool) -> Vec<WorkerId> {
        let rank = |place: &Place| match place.current {
            None => (0, 0),
            Some(worker) if !is_ready(worker) => (1, worker.0),
            Some(worker) => (2, worker.0),
        };
        let victim = (0..self.places.len()).min_by_key(|index| self.places.get(*index).map(rank));
        let Some(victim) = victim else {
            return Vec::new();
        };
        let place = self.places.remove(victim);
        place.current.into_iter().chain(place.successor).collect()
    }

    /// One worker serves the whole pool from now on, of another kind than those there are: `worker` has its only place
    /// until it is vacated. Returns all others.
    pub fn shrink_to_one(&mut self, worker: WorkerId) -> Vec<WorkerId> {
        self.policy.workers = self.policy.workers.min(1);
        self.policy.most = self.policy.most.min(1);
        self.asked = 1;
        self.policy.is_probing = false;
        self.policy.is_single = true;
        let before = std::mem::take(&mut self.places);
        self.grow_to(1);
        if let Some(place) = self.places.first_mut() {
            place.current = Some(worker);
        }
        let held = before
            .iter()
            .flat_map(|place| place.current.into_iter().chain(place.successor));
        held.filter(|other| *other != worker).collect()
    }

    /// Fills what may be filled now: empty places, and at most one successor at a time for a spent worker.
    pub fn fill(&mut self, now: Instant, mut spawn: impl FnMut() -> WorkerId) {
        let mut may_succeed = self.places.iter().all(|place| place.successor.is_none());
        for place in &mut self.places {
            if place.resume.is_some_and(|resume| resume > now) {
                continue;
            }
            place.resume = None;
            if place.current.is_none() {
                place.current = Some(spawn());
                place.is_spent = false;
            } else if place.is_spent && place.successor.is_none() && may_succeed {
                place.successor = Some(spawn());
                may_succeed = false;
            }
        }
    }

    /// When a place that waits may be filled.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let waits = |place: &&Place| place.current.is_none() || (place.is_spent && place.successor.is_none());
        self.places.iter().filter(waits).filter_map(|place| place.resume).min()
    }

    /// A worker became ready; returns the one it succeeds, which has lost its place and is to be retired.
    pub fn ready(&mut self, worker: WorkerId) -> Option<WorkerId> {
        self.has_been_ready = true;
        self.failures_in_a_row = 0;
        let place = self.places.iter_mut().find(|place| place.successor == Some(worker))?;
        place.successor = None;
        place.is_spent = false;
        place.current.replace(worker)
    }

    /// A worker served its share: it keeps its place until its successor is ready.
    pub fn spent(&mut self, worker: WorkerId) {
        if let Some(place) = self.places.iter_mut().find(|place| place.current == Some(worker)) {
            place.is_spent = true;
        }
    }

    /// A worker leaves its place, if it has one. `failed` = it did so unplanned; then
    /// returns how long the place stays empty and after how many failures in a row.
    pub fn vacate(&mut self, worker: WorkerId, now: Instant, failed: Option<Health>) -> Option<(Duration, u32)> {
        let holds = |place: &&mut Place| place.current == Some(worker) || place.successor == Some(worker);
        let place = self.places.iter_mut().find(holds)?;
        if place.successor == Some(worker) {
            place.successor = None;
        } else {
            place.current = place.successor.take();
            place.is_spent = false;
        }
        let wait = place.pacing.failed(failed?);
        place.resume = Some(now + wait);
        Some((wait, place.pacing.failures()))
    }

    /// Whether every place is held by a worker that is ready.
    #[must_use]
    pub fn is_complete(&self, is_ready: impl Fn(WorkerId) -> bool) -> bool {
        self.places.iter().all(|place| place.current.is_some_and(&is_ready))
    }

    /// The workers of each place, for invariants.
    #[cfg(test)]
    pub(crate) fn held(&self) -> impl Iterator<Item = Vec<WorkerId>> {
        self.places
            .iter()
            .map(|place| place.current.into_iter().chain(place.successor).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::origin;

    fn pool(workers: usize) -> (Pool, impl FnMut() -> WorkerId) {
        let policy = Policy {
            workers,
            boot_timeout: None,
            most: workers,
            is_probing: false,
            may_leave: false,
            is_vital: true,
            is_single: false,
            is_watched: false,
        };
        let mut count = 0;
        let spawn = move || {
            count += 1;
            WorkerId(count)
        };
        (Pool::new(policy, 1), spawn)
    }

    fn held(pool: &Pool) -> Vec<Vec<u32>> {
        let numbers = |place: Vec<WorkerId>| place.iter().map(|worker| worker.0).collect();
        pool.held().map(numbers).collect()
    }

    #[test]
    fn spent_workers_are_succeeded_one_at_a_time_and_keep_serving_until_then() {
        let now = origin();
        let (mut pool, mut spawn) = pool(3);
        pool.fill(now, &mut spawn);
        pool.spent(WorkerId(1));
        pool.spent(WorkerId(3));
        pool.fill(now, &mut spawn);
        pool.fill(now, &mut spawn);
        assert_eq!(held(&pool), [vec![1, 4], vec![2], vec![3]]);
        assert_eq!(pool.ready(WorkerId(4)), Some(WorkerId(1)));
        pool.fill(now, &mut spawn);
        assert_eq!(held(&pool), [vec![4], vec![2], vec![3, 5]]);
    }

    #[test]
    fn a_successor_takes_over_from_a_worker_that_dies_early() {
        let now = origin();
        let (mut pool, mut spawn) = pool(1);
        pool.fill(now, &mut spawn);
        pool.spent(WorkerId(1));
        pool.fill(now, &mut spawn);
        pool.vacate(WorkerId(1), now, Some(Health::Never));
        assert_eq!(held(&pool), [vec![2]]);
        assert_eq!(pool.ready(WorkerId(2)), None);
    }

    #[test]
    fn a_successor_that_fails_is_tried_again_and_the_old_worker_stays() {
        let now = origin();
        let (mut pool, mut spawn) = pool(1);
        pool.fill(now, &mut spawn);
        pool.spent(WorkerId(1));
        pool.fill(now, &mut spawn);
        assert_eq!(
            pool.vacate(WorkerId(2), now, Some(Health::Never)),
            Some((Duration::ZERO, 1))
        );
        pool.fill(now, &mut spawn);
        let (wait, failures) = pool.vacate(WorkerId(3), now, Some(Health::Never)).unwrap();
        assert_eq!(failures, 2);
        pool.fill(now, &mut spawn);
        assert_eq!(held(&pool), [vec![1]]);
        assert_eq!(pool.next_deadline(), Some(now + wait));
        pool.fill(now + wait, &mut spawn);
        assert_eq!(held(&pool), [vec![1, 4]]);
    }

    #[test]
    fn one_crashing_place_does_not_hold_up_the_others() {
        let now = origin();
        let (mut pool, mut spawn) = pool(2);
        pool.fill(now, &mut spawn);
        for _ in 0..5 {
            let worker = WorkerId(held(&pool)[0][0]);
            pool.vacate(worker, now, Some(Health::Never));
            pool.fill(now + Duration::from_secs(60), &mut spawn);
        }
        pool.vacate(WorkerId(2), now, Some(Health::Never));
        pool.fill(now, &mut spawn);
        assert_eq!(held(&pool)[1].len(), 1);
    }

    #[test]
    fn fewer_places_cost_idle_ones_first_and_then_the_oldest() {
        let now = origin();
        let (mut pool, mut spawn) = pool(4);
        pool.fill(now, &mut spawn);
        pool.vacate(WorkerId(4), now, None);
        let is_ready = |worker: WorkerId| worker.0 != 3;
        assert_eq!(pool.shrink(is_ready), []);
        assert_eq!(pool.shrink(is_ready), [WorkerId(3)]);
        assert_eq!(pool.shrink(is_ready), [WorkerId(1)]);
        assert_eq!((pool.wanted(), held(&pool)), (1, vec![vec![2]]));
    }
}
