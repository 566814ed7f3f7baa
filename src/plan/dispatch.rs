//! Which request goes to which worker, and which waits, in one pool.
//!
//! Workers that are assigned to get requests in LIFO order, so that warm ones stay warm, and the least busy first when
//! they serve several at once. Workers that pull take requests themselves from the pool's queue socket; here only the
//! number of requests in there or running is kept, so that the socket never holds more than the free slots and a small
//! lookahead. The rest waits here, where expiry and departure are exact.
//!
//! Never here: sockets, the clock, what a request contains.

use super::demand::Load;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A request, as its owner numbers them.
pub type Request = u32;

/// A worker, as its owner numbers them: small integers.
pub type Worker = u32;

/// Limits of one pool's queue.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Requests that may wait.
    pub max_queue: usize,
    /// How long they may wait; `None` = for ever.
    pub queue_timeout: Option<Duration>,
    /// Requests pushed beyond the slots of pulling workers while requests are fast.
    pub lookahead: u16,
}

/// What becomes of an arriving request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Hand it to this worker now.
    Assign(Worker),
    /// Put it into the pull queue now. `true`: a slot is free for it, so it starts at once.
    Push(bool),
    /// It waits.
    Wait,
    /// The queue is full.
    Full,
}

#[derive(Debug)]
struct Slots {
    total: u16,
    busy: u16,
    pulls: bool,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    request: Request,
    since: Instant,
}

/// The plan of one pool.
#[derive(Debug)]
pub struct Dispatch {
    policy: Policy,
    queue: VecDeque<Waiting>,
    workers: Vec<Option<Slots>>,
    /// Assigned-to workers with a free slot; the last came free last.
    idle: Vec<Worker>,
    pull_slots: usize,
    pulled: usize,
    /// Moving average of pulled requests' time from push to end, in microseconds.
    service: u64,
}

impl Dispatch {
    /// An empty pool.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            queue: VecDeque::new(),
            workers: Vec::new(),
            idle: Vec::new(),
            pull_slots: 0,
            pulled: 0,
            service: 0,
        }
    }

    /// A worker may be given requests: up to `slots` at once, or it pulls them.
    pub fn add(&mut self, worker: Worker, slots: u16, pulls: bool) {
        self.remove(worker);
        let place = worker as usize;
        if place >= self.workers.len() {
            self.workers.resize_with(place + 1, || None);
        }
        let total = slots.max(1);
        if let Some(entry) = self.workers.get_mut(place) {
            *entry = Some(Slots { total, busy: 0, pulls });
        }
        if pulls {
            self.pull_slots += usize::from(total);
        } else {
            self.idle.push(worker);
        }
    }

    /// The worker gets no more requests. The owner says what becomes of those it has; that they end need not be told.
    pub fn remove(&mut self, worker: Worker) {
        let Some(slots) = self.workers.get_mut(worker as usize).and_then(Option::take) else {
            return;
        };
        if slots.pulls {
            self.pull_slots -= usize::from(slots.total);
        } else {
            self.idle.retain(|other| *other != worker);
        }
    }

    /// A request arrives and is assigned, pushed, queued or refused.
    pub fn arrive(&mut self, request: Request, now: Instant) -> Verdict {
        if self.queue.is_empty()
            && let Some(verdict) = self.place()
        {
            return verdict;
        }
        if self.queue.len() >= self.policy.max_queue {
            return Verdict::Full;
        }
        self.queue.push_back(Waiting { request, since: now });
        Verdict::Wait
    }

    /// True if a request arriving now would be refused.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.queue.len() >= self.policy.max_queue && !self.queue.is_empty()
    }

    /// Takes the first waiting request if a worker can have it. Call until `None`.
    pub fn next_ready(&mut self) -> Option<(Request, Instant, Verdict)> {
        let first = *self.queue.front()?;
        let verdict = self.place()?;
        self.queue.pop_front();
        Some((first.request, first.since, verdict))
    }

    fn place(&mut self) -> Option<Verdict> {
        if self.pulled < self.pull_slots + self.lookahead() {
            self.pulled += 1;
            return Some(Verdict::Push(self.pulled <= self.pull_slots));
        }
        let mut best: Option<(usize, u16)> = None;
        for (place, worker) in self.idle.iter().enumerate().rev() {
            let busy = self.busy(*worker);
            if best.is_none_or(|(_, least)| busy < least) {
                best = Some((place, busy));
            }
            if busy == 0 {
                break;
            }
        }
        let (place, _) = best?;
        let worker = *self.idle.get(place)?;
        let slots = self.workers.get_mut(worker as usize)?.as_mut()?;
        slots.busy += 1;
        if slots.busy >= slots.total {
            self.idle.remove(place);
        }
        Some(Verdict::Assign(worker))
    }

    /// How many requests may be in the socket beyond the slots: none without pulling workers, few when they are slow,
    /// since then a wake-up costs little and a request in the socket cannot be taken back as exactly.
    fn lookahead(&self) -> usize {
        if self.pull_slots == 0 {
            return 0;
        }
        let most = u64::from(self.policy.lookahead);
        let fit = most * 1000 / self.service.max(1);
        usize::try_from(fit.min(most)).unwrap_or(0)
    }

    /// Requests the worker has been assigned and not finished.
    #[must_use]
    pub fn busy(&self, worker: Worker) -> u16 {
        self.workers
            .get(worker as usize)
            .and_then(Option::as_ref)
            .map_or(0, |slots| slots.busy)
    }

    /// An assigned request ended, or left the worker.
    pub fn release(&mut self, worker: Worker) {
        let Some(slots) = self.workers.get_mut(worker as usize).and_then(Option::as_mut) else {
            return;
        };
        let was_full = slots.busy >= slots.total;
        slots.busy = slots.busy.saturating_sub(1);
        if was_full && !slots.pulls {
            self.idle.push(worker);
        }
    }

    /// A pulled request ended, was taken back, or died with its worker. `took`: from push to end, if it ended.
    pub fn release_pulled(&mut self, took: Option<Duration>) {
        self.pulled = self.pulled.saturating_sub(1);
        if let Some(took) = took {
            let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).min(60_000_000);
            self.service = (self.service * 15 + micros) / 16;
        }
    }

    /// One of the worker's slots is taken by a request it was assigned before it was added again.
    pub fn occupy(&mut self, worker: Worker) {
        if let Some(slots) = self.workers.get_mut(worker as usize).and_then(Option::as_mut) {
            slots.busy += 1;
            if slots.busy >= slots.total {
                self.idle.retain(|other| *other != worker);
            }
        }
    }

    /// Puts a request back before all that wait. It ages from `since`, or with the first of those if that is older:
    /// the queue stays in the order of expiry.
    pub fn put_back(&mut self, request: Request, since: Instant) {
        let since = self.queue.front().map_or(since, |first| first.since.min(since));
        self.queue.push_front(Waiting { request, since });
    }

    /// Drops a waiting request; false if it does not wait.
    pub fn cancel(&mut self, request: Request) -> bool {
        let found = self.queue.iter().position(|waiting| waiting.request == request);
        found.and_then(|place| self.queue.remove(place)).is_some()
    }

    /// When the first waiting request expires.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let first = self.queue.front()?;
        self.policy.queue_timeout.map(|limit| first.since + limit)
    }

    /// Takes out the requests that have waited too long.
    pub fn expire(&mut self, now: Instant, expired: &mut Vec<Request>) {
        let Some(limit) = self.policy.queue_timeout else { return };
        while let Some(first) = self.queue.front()
            && first.since + limit <= now
        {
            expired.push(first.request);
            self.queue.pop_front();
        }
    }

    /// Takes out every waiting request.
    pub fn drain(&mut self) -> impl Iterator<Item = Request> + '_ {
        self.queue.drain(..).map(|waiting| waiting.request)
    }

    /// What the requests do at this moment.
    #[must_use]
    pub fn load(&self) -> Load {
        let assigned = self.workers.iter().flatten().map(|slots| usize::from(slots.busy));
        let taken = self.pulled.min(self.pull_slots);
        Load {
            running: assigned.sum::<usize>() + taken,
            waiting: self.queue.len() + (self.pulled - taken),
            since: self.queue.front().map(|first| first.since),
        }
    }

    /// Requests that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Pulled requests, in the socket or running.
    #[must_use]
    pub fn pulled(&self) -> usize {
        self.pulled
    }

    /// True if some worker may be given requests.
    #[must_use]
    pub fn has_workers(&self) -> bool {
        self.workers.iter().any(Option::is_some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn policy(max_queue: usize) -> Policy {
        Policy {
            max_queue,
            queue_timeout: Some(Duration::from_secs(30)),
            lookahead: 8,
        }
    }

    #[test]
    fn the_worker_that_came_free_last_is_first() {
        let now = crate::sys::clock::now();
        let mut plan = Dispatch::new(policy(1));
        plan.add(0, 1, false);
        plan.add(1, 1, false);
        assert_eq!(plan.arrive(10, now), Verdict::Assign(1));
        assert_eq!(plan.arrive(11, now), Verdict::Assign(0));
        assert_eq!(plan.arrive(12, now), Verdict::Wait);
        assert_eq!(plan.arrive(13, now), Verdict::Full);
        plan.release(1);
        assert_eq!(plan.next_ready(), Some((12, now, Verdict::Assign(1))));
        assert_eq!(plan.next_ready(), None);
    }

    #[test]
    fn slots_spread_over_workers_before_they_stack_up() {
        let now = crate::sys::clock::now();
        let mut plan = Dispatch::new(policy(0));
        plan.add(0, 2, false);
        plan.add(1, 2, false);
        let given: Vec<_> = (0..5).map(|request| plan.arrive(request, now)).collect();
        let mut workers: Vec<_> = given
            .iter()
            .filter_map(|verdict| {
                if let Verdict::Assign(worker) = verdict {
                    Some(*worker)
                } else {
                    None
                }
            })
            .collect();
        assert_ne!(workers[0], workers[1]);
        assert_eq!(given[4], Verdict::Full);
        workers.sort_unstable();
        assert_eq!(workers, [0, 0, 1, 1]);
    }

    #[test]
    fn slow_requests_end_the_lookahead() {
        let now = crate::sys::clock::now();
        let mut plan = Dispatch::new(policy(100));
        plan.add(0, 1, true);
        let pushed = (0..20)
            .filter(|request| matches!(plan.arrive(*request, now), Verdict::Push(_)))
            .count();
        assert_eq!(pushed, 9);
        for _ in 0..9 {
            plan.release_pulled(Some(Duration::from_millis(200)));
        }
        let next: Vec<_> = std::iter::from_fn(|| plan.next_ready())
            .map(|(_, _, verdict)| verdict)
            .collect();
        assert_eq!(next, [Verdict::Push(true)]);
    }

    #[test]
    fn waiting_requests_expire_in_order_and_can_leave() {
        let start = crate::sys::clock::now();
        let mut plan = Dispatch::new(policy(10));
        for request in 0..3 {
            assert_eq!(
                plan.arrive(request, start + Duration::from_secs(u64::from(request))),
                Verdict::Wait
            );
        }
        assert!(plan.cancel(1));
        assert!(!plan.cancel(1));
        let mut expired = Vec::new();
        plan.expire(start + Duration::from_secs(30), &mut expired);
        assert_eq!(expired, [0]);
        assert_eq!(plan.next_deadline(), Some(start + Duration::from_secs(32)));
    }

    /// A virtual pool driven by a seeded generator; the invariants are checked after every step.
    #[test]
    fn simulation_no_request_is_lost_or_given_twice() {
        for seed in 0..200 {
            simulate(seed);
        }
    }

    fn simulate(seed: u64) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut now = crate::sys::clock::now();
        let limit = random.usize(0..6);
        let mut plan = Dispatch::new(policy(limit));
        let mut slots: HashMap<Worker, (u16, bool)> = HashMap::new();
        // Where each live request is: None = waiting, Some(None) = pulled, Some(Some(worker)) = assigned.
        let mut requests: HashMap<Request, Option<Option<Worker>>> = HashMap::new();
        let mut made = 0;
        for _ in 0..400 {
            now += Duration::from_millis(random.u64(0..3000));
            match random.u8(0..10) {
                0 => {
                    let (worker, total, pulls) = (random.u32(0..5), random.u16(1..4), random.bool());
                    if let std::collections::hash_map::Entry::Vacant(entry) = slots.entry(worker) {
                        plan.add(worker, total, pulls);
                        entry.insert((total, pulls));
                    }
                }
                1 => {
                    if let Some(worker) = pick(&mut random, slots.keys().copied().collect()) {
                        plan.remove(worker);
                        slots.remove(&worker);
                        requests.retain(|_, place| *place != Some(Some(worker)));
                    }
                }
                2..=5 => {
                    made += 1;
                    match plan.arrive(made, now) {
                        Verdict::Assign(worker) => drop(requests.insert(made, Some(Some(worker)))),
                        Verdict::Push(_) => drop(requests.insert(made, Some(None))),
                        Verdict::Wait => drop(requests.insert(made, None)),
                        Verdict::Full => {}
                    }
                }
                6 => {
                    let mut expired = Vec::new();
                    plan.expire(now, &mut expired);
                    for request in expired {
                        assert_eq!(requests.remove(&request), Some(None), "seed {seed}");
                    }
                }
                7 => {
                    if let Some(request) = pick(&mut random, requests.keys().copied().collect()) {
                        let waits = requests[&request].is_none();
                        assert_eq!(plan.cancel(request), waits, "seed {seed}");
                        if waits {
                            requests.remove(&request);
                        }
                    }
                }
                _ => {
                    let running = requests
                        .iter()
                        .filter(|(_, place)| place.is_some())
                        .map(|(request, _)| *request);
                    if let Some(request) = pick(&mut random, running.collect()) {
                        match requests.remove(&request).flatten() {
                            Some(Some(worker)) => plan.release(worker),
                            _ if random.bool() => plan.release_pulled(Some(Duration::from_micros(random.u64(1..9000)))),
                            _ => {
                                plan.release_pulled(None);
                                plan.put_back(request, now);
                                requests.insert(request, None);
                            }
                        }
                    }
                }
            }
            while let Some((request, _, verdict)) = plan.next_ready() {
                let place = match verdict {
                    Verdict::Assign(worker) => Some(worker),
                    _ => None,
                };
                assert_eq!(requests.insert(request, Some(place)), Some(None), "seed {seed}");
            }
            check(&plan, &slots, &requests, limit, seed);
        }
    }

    fn check(
        plan: &Dispatch,
        slots: &HashMap<Worker, (u16, bool)>,
        requests: &HashMap<Request, Option<Option<Worker>>>,
        limit: usize,
        seed: u64,
    ) {
        let waiting = requests.values().filter(|place| place.is_none()).count();
        let pulled = requests.values().filter(|place| **place == Some(None)).count();
        assert_eq!((plan.waiting(), plan.pulled()), (waiting, pulled), "seed {seed}");
        let mut free = false;
        for (worker, (total, pulls)) in slots {
            let busy = requests.values().filter(|place| **place == Some(Some(*worker))).count();
            assert_eq!(usize::from(plan.busy(*worker)), busy, "seed {seed}");
            assert!(
                busy <= usize::from(*total),
                "seed {seed}: worker {worker} has more than its slots"
            );
            free |= !pulls && busy < usize::from(*total);
        }
        assert!(
            waiting == 0 || !free,
            "seed {seed}: a request waits beside a free worker"
        );
        assert!(waiting <= limit + 400, "seed {seed}");
    }

    fn pick(random: &mut fastrand::Rng, mut from: Vec<u32>) -> Option<u32> {
        from.sort_unstable();
        (!from.is_empty()).then(|| from[random.usize(0..from.len())])
    }
}
