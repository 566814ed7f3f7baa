//! A deadline table: one deadline per key, cheap to set and to stop.
//!
//! Setting is one store. Expiry scans the table, at most once per grain, so a table of ten thousand keys whose deadlines
//! move with every request costs nothing per request and little when one comes due. A deadline is noticed up to one
//! grain late, never early. Never here: reading the clock.

use std::time::{Duration, Instant};

/// Deadlines by small integer key.
#[derive(Debug)]
pub struct Timers {
    deadlines: Vec<Option<Instant>>,
    /// No deadline lies before this one; some may have moved away since.
    earliest: Option<Instant>,
    grain: Duration,
}

impl Timers {
    /// An empty table that scans at most once per `grain`.
    #[must_use]
    pub fn new(grain: Duration) -> Self {
        Self {
            deadlines: Vec::new(),
            earliest: None,
            grain,
        }
    }

    /// Sets, moves or (with `None`) stops the deadline of `key`.
    pub fn set(&mut self, key: usize, deadline: Option<Instant>) {
        if key >= self.deadlines.len() {
            if deadline.is_none() {
                return;
            }
            self.deadlines.resize(key + 1, None);
        }
        if let Some(place) = self.deadlines.get_mut(key) {
            *place = deadline;
        }
        if let Some(at) = deadline
            && self.earliest.is_none_or(|earliest| at < earliest)
        {
            self.earliest = Some(at);
        }
    }

    /// When to call `expired` next; may be too early, which is harmless.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.earliest
    }

    /// Moves the keys whose deadline has come into `due` and stops them.
    pub fn expired(&mut self, now: Instant, due: &mut Vec<usize>) {
        if self.earliest.is_none_or(|earliest| earliest > now) {
            return;
        }
        let mut next: Option<Instant> = None;
        for (key, place) in self.deadlines.iter_mut().enumerate() {
            match *place {
                Some(at) if at <= now => {
                    *place = None;
                    due.push(key);
                }
                Some(at) => next = Some(next.map_or(at, |other| other.min(at))),
                None => {}
            }
        }
        self.earliest = next.map(|at| at.max(now + self.grain));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_moved_deadline_fires_once_at_its_last_place() {
        let start = crate::sys::clock::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut timers = Timers::new(Duration::from_millis(10));
        let mut due = Vec::new();
        timers.set(3, Some(at(5)));
        timers.set(3, Some(at(50)));
        timers.set(1, Some(at(20)));
        timers.set(0, Some(at(20)));
        timers.set(0, None);
        timers.expired(at(6), &mut due);
        assert!(due.is_empty());
        timers.expired(at(20), &mut due);
        assert_eq!(due, [1]);
        timers.expired(at(49), &mut due);
        assert_eq!(due, [1]);
        timers.expired(at(60), &mut due);
        assert_eq!(due, [1, 3]);
        assert_eq!(timers.next(), None);
    }

    proptest! {
        #[test]
        fn every_deadline_fires_within_a_grain_and_never_early(
            ops in prop::collection::vec((0usize..8, prop::option::of(0u64..200)), 1..60),
        ) {
            let start = crate::sys::clock::now();
            let grain = Duration::from_millis(7);
            let mut timers = Timers::new(grain);
            let mut model: [Option<Instant>; 8] = [None; 8];
            let mut now = start;
            for (key, after) in ops {
                let deadline = after.map(|ms| now + Duration::from_millis(ms));
                timers.set(key, deadline);
                model[key] = deadline;
                now += Duration::from_millis(3);
                let mut due = Vec::new();
                timers.expired(now, &mut due);
                for key in due {
                    let at = model[key].take();
                    prop_assert!(at.is_some_and(|at| at <= now));
                }
                prop_assert!(model.iter().flatten().all(|at| *at + grain > now));
            }
        }
    }
}
