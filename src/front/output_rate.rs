//! How much of a worker's output is logged: a page that prints without end must not fill the disk.

use std::time::{Duration, Instant};

/// Bytes logged at once.
const BURST: u64 = 1024 * 1024;

/// And then in a second.
const RATE: u64 = 256 * 1024;

/// What a line has in the log besides its text, about: an empty one is not free.
const AROUND: u64 = 128;

/// What one worker may still print.
#[derive(Debug)]
pub(super) struct Rate {
    left: u64,
    since: Instant,
    dropped: u64,
}

impl Rate {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            left: BURST,
            since: now,
            dropped: 0,
        }
    }

    /// Counts a line. True if it is to be logged. Once one was not, none is until [`recovered`](Self::recovered) says so.
    pub(super) fn allows(&mut self, now: Instant, bytes: usize) -> bool {
        self.refill(now);
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        if self.dropped > 0 || self.left == 0 {
            self.dropped = self.dropped.saturating_add(bytes).max(1);
            return false;
        }
        self.left = self.left.saturating_sub(bytes.saturating_add(AROUND));
        true
    }

    /// How many bytes were dropped, if lines are logged again from now on: with a second's worth to spend, so that a
    /// flood costs one line about it in a second.
    pub(super) fn recovered(&mut self, now: Instant) -> Option<u64> {
        self.refill(now);
        if self.left < RATE { None } else { self.end() }
    }

    /// The same when nothing more will come.
    pub(super) fn end(&mut self) -> Option<u64> {
        Some(std::mem::take(&mut self.dropped)).filter(|dropped| *dropped > 0)
    }

    fn refill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.since).min(Duration::from_secs(60));
        let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        if millis > 0 {
            self.left = BURST.min(self.left.saturating_add(RATE.saturating_mul(millis) / 1000));
            self.since = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock;

    #[test]
    fn a_flood_is_cut_and_goes_on_a_second_later() {
        let start = clock::now();
        let after = |millis| start + Duration::from_millis(millis);
        let mut rate = Rate::new(start);
        let line = 1024 - 128;
        for _ in 0..1024 {
            assert!(rate.allows(start, line));
        }
        assert!(!rate.allows(start, line));
        assert_eq!(rate.recovered(start), None);
        assert!(!rate.allows(after(500), 5), "not before a second's worth is there");
        assert_eq!(rate.recovered(after(999)), None);
        assert_eq!(rate.recovered(after(1001)), Some(901));
        assert_eq!(rate.recovered(after(1001)), None, "it is said once");
        for _ in 0..257 {
            assert!(rate.allows(after(1001), line));
        }
        assert!(!rate.allows(after(1001), 3));
        assert_eq!(rate.end(), Some(3));
        assert_eq!(rate.end(), None);
    }
}
