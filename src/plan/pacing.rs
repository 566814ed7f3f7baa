//! How long to wait before something that failed is tried again.
//!
//! Never here: the clock, a source of randomness (the seed is passed in).

use std::time::Duration;

/// The wait before the second retry; it doubles from here.
const FIRST: Duration = Duration::from_millis(100);

/// No wait is longer.
const LONGEST: Duration = Duration::from_secs(30);

/// Nor is one after the failure of something that had come up: what it is tried for works, and one request that breaks
/// it must not keep it from all others.
const LONGEST_UP: Duration = Duration::from_millis(500);

/// Nor is one where the cause may be mended at any moment by somebody who looks on.
const LONGEST_WATCHED: Duration = Duration::from_secs(1);

/// Whatever was well for this long has recovered: its next failure counts as the first.
pub const HEALTHY: Duration = Duration::from_secs(10);

/// How well something was before it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It never came up.
    Never,
    /// It was up for so long.
    Up(Duration),
    /// It has done well what it is there for.
    Served,
}

/// Consecutive failures of one thing and the wait they cost: none, 0.1 s, 0.2 s, and so on to 30 s, or to 0.5 s if it
/// had come up, or to 1 s if it is watched. Whatever has served starts the count again.
#[derive(Clone, Debug)]
pub struct Pacing {
    failures: u32,
    seed: u64,
    longest: Duration,
}

impl Pacing {
    /// No failures yet. Different seeds spread waits that would otherwise coincide.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            failures: 0,
            seed,
            longest: LONGEST,
        }
    }

    /// The same for what somebody works on: no wait is much longer than they would like to look at.
    #[must_use]
    pub fn watched(seed: u64) -> Self {
        Self {
            longest: LONGEST_WATCHED,
            ..Self::new(seed)
        }
    }

    /// Counts a failure; returns the wait before the next attempt, up to a fifth shorter than the nominal one.
    pub fn failed(&mut self, health: Health) -> Duration {
        let longest = match health {
            Health::Never => self.longest,
            Health::Served => {
                self.failures = 0;
                LONGEST_UP
            }
            Health::Up(time) => {
                if time >= HEALTHY {
                    self.failures = 0;
                }
                LONGEST_UP
            }
        };
        self.failures = self.failures.saturating_add(1);
        let Some(doublings) = self.failures.checked_sub(2) else {
            return Duration::ZERO;
        };
        let nominal = FIRST.saturating_mul(1 << doublings.min(16)).min(longest);
        self.seed = mix(self.seed);
        let share = u32::try_from(self.seed % 200).unwrap_or(0);
        nominal - nominal * share / 1000
    }

    /// Consecutive failures so far.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

/// The next number of a small generator (SplitMix64): good enough to spread waits, no use for secrets.
#[must_use]
pub fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waits are at most the nominal one and at least four fifths of it.
    fn close(wait: Duration, nominal_ms: u64) {
        let nominal = Duration::from_millis(nominal_ms);
        assert!(wait <= nominal && wait >= nominal * 4 / 5, "{wait:?} for {nominal:?}");
    }

    #[test]
    fn the_first_retry_is_at_once_then_waits_double_to_their_limit() {
        for seed in 0..50 {
            let mut pacing = Pacing::new(seed);
            assert_eq!(pacing.failed(Health::Never), Duration::ZERO);
            for nominal in [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000] {
                close(pacing.failed(Health::Never), nominal);
            }
        }
    }

    #[test]
    fn what_is_watched_never_waits_long() {
        let mut pacing = Pacing::watched(5);
        assert_eq!(pacing.failed(Health::Never), Duration::ZERO);
        for nominal in [100, 200, 400, 800, 1000, 1000, 1000] {
            close(pacing.failed(Health::Never), nominal);
        }
        close(pacing.failed(Health::Up(Duration::ZERO)), 500);
    }

    #[test]
    fn health_starts_the_count_again_and_less_does_not() {
        let mut pacing = Pacing::new(1);
        pacing.failed(Health::Never);
        pacing.failed(Health::Never);
        close(pacing.failed(Health::Up(HEALTHY - Duration::from_millis(1))), 200);
        assert_eq!(pacing.failed(Health::Up(HEALTHY)), Duration::ZERO);
        assert_eq!(pacing.failures(), 1);
    }

    #[test]
    fn what_has_served_is_tried_again_at_once_however_often_it_fails() {
        let mut pacing = Pacing::new(5);
        for _ in 0..4 {
            pacing.failed(Health::Up(Duration::ZERO));
        }
        for _ in 0..4 {
            assert_eq!(pacing.failed(Health::Served), Duration::ZERO);
            assert_eq!(pacing.failures(), 1);
        }
        close(pacing.failed(Health::Up(Duration::ZERO)), 100);
    }

    #[test]
    fn what_had_come_up_is_soon_tried_again() {
        let mut pacing = Pacing::new(3);
        let up = Health::Up(Duration::ZERO);
        assert_eq!(pacing.failed(up), Duration::ZERO);
        for nominal in [100, 200, 400, 500, 500, 500] {
            close(pacing.failed(up), nominal);
        }
        // One that then never comes up waits as long as it has failed.
        close(pacing.failed(Health::Never), 6400);
    }

    #[test]
    fn endless_failures_never_overflow() {
        let mut pacing = Pacing::new(7);
        pacing.failures = u32::MAX - 1;
        close(pacing.failed(Health::Never), 30_000);
        close(pacing.failed(Health::Never), 30_000);
    }
}
