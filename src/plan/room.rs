//! Who makes room when there may be no more workers in all and a pool waits for one.
//!
//! Never here: how many a pool needs (`demand`), who gets the room (`arbiter`).

use std::time::{Duration, Instant};

/// A worker that was idle for less may be needed again at once: another pool that has workers already waits that long.
const QUIET: Duration = Duration::from_secs(1);

/// A pool without any worker waits this long for an idle one before the only worker of another pool leaves for it.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is known of a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Workers that it keeps in any case.
    pub least: usize,
    /// Workers that it has, those that leave not counted.
    pub workers: usize,
    /// Since when its first request waits for a worker.
    pub waits: Option<Instant>,
    /// It has asked for more workers than it has.
    pub is_short: bool,
}

/// A worker of a pool whose size follows its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its pool's place among the standings.
    pub pool: usize,
    /// It has no request.
    pub is_idle: bool,
    /// When it last ended one.
    pub active: Instant,
}

/// The member that is to leave now, if any, by its place. An idle one of a pool in which nothing waits; for a pool that
/// has no worker at all also one of the pool that has the most, which finishes its request first, so that no crowd keeps
/// others out for good.
#[must_use]
pub fn spared(now: Instant, pools: &[Standing], members: &[Member]) -> Option<usize> {
    let in_want = || pools.iter().filter(|pool| pool.is_short && pool.waits.is_some());
    in_want().next()?;
    let bare = in_want().filter(|pool| pool.workers == 0);
    let bare = bare.filter_map(|pool| pool.waits).min();
    let of = |member: &Member| pools.get(member.pool).copied().unwrap_or_default();
    let can_leave = |member: &Member| of(member).workers > of(member).least;
    let is_spare = |member: &Member| {
        let is_quiet = bare.is_some() || member.active + QUIET <= now;
        member.is_idle && is_quiet && of(member).waits.is_none() && can_leave(member)
    };
    let numbered = || members.iter().enumerate();
    let idle = numbered().filter(|(_, member)| is_spare(member));
    if let Some((place, _)) = idle.min_by_key(|(_, member)| member.active) {
        return Some(place);
    }
    let is_late = bare? + PATIENCE <= now;
    // One that is idle while requests wait is just about to take one.
    let is_busy = |member: &Member| !member.is_idle && (of(member).workers > 1 || is_late);
    let busy = numbered().filter(|(_, member)| can_leave(member) && is_busy(member));
    // Of those the one that ended a request last: its requests are short, as far as anybody knows.
    busy.max_by_key(|(_, member)| (of(member).workers, member.active))
        .map(|(place, _)| place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::origin;

    const SECOND: Duration = Duration::from_secs(1);

    fn quiet(workers: usize) -> Standing {
        Standing {
            workers,
            ..Standing::default()
        }
    }

    fn short(workers: usize, since: Instant) -> Standing {
        Standing {
            workers,
            waits: Some(since),
            is_short: true,
            ..Standing::default()
        }
    }

    fn member(pool: usize, is_idle: bool, active: Instant) -> Member {
        Member { pool, is_idle, active }
    }

    #[test]
    fn nobody_leaves_unless_requests_wait_for_a_worker() {
        let now = origin();
        let idle = [member(0, true, now)];
        assert_eq!(spared(now + 9 * SECOND, &[quiet(1), quiet(0)], &idle), None);
        // It has asked, but the request has gone; or it waits, but the pool may have no more.
        let gone = Standing {
            waits: None,
            ..short(0, now)
        };
        let full = Standing {
            is_short: false,
            ..short(0, now)
        };
        assert_eq!(spared(now, &[quiet(1), gone], &idle), None);
        assert_eq!(spared(now, &[quiet(1), full], &idle), None);
        assert_eq!(spared(now, &[quiet(1), short(0, now)], &idle), Some(0));
    }

    #[test]
    fn the_one_that_was_idle_longest_leaves_first() {
        let now = origin() + 9 * SECOND;
        let members = [
            member(0, true, now - SECOND),
            member(1, true, now - 3 * SECOND),
            member(1, false, now - 4 * SECOND),
        ];
        let pools = [quiet(1), quiet(2), short(0, now)];
        assert_eq!(spared(now, &pools, &members), Some(1));
        // A pool keeps what it must have.
        let kept = Standing { least: 2, ..quiet(2) };
        assert_eq!(spared(now, &[quiet(1), kept, short(0, now)], &members), Some(0));
        // And what its own requests wait for.
        assert_eq!(
            spared(now, &[quiet(1), short(2, now), short(0, now)], &members),
            Some(0)
        );
    }

    #[test]
    fn a_pool_that_has_workers_gets_only_what_was_idle_for_a_while() {
        let now = origin() + 9 * SECOND;
        let pools = [quiet(1), short(1, now - 5 * SECOND)];
        assert_eq!(spared(now, &pools, &[member(0, true, now)]), None);
        assert_eq!(spared(now, &pools, &[member(0, true, now - SECOND)]), Some(0));
        assert_eq!(spared(now, &pools, &[member(0, false, now - 5 * SECOND)]), None);
    }

    #[test]
    fn a_crowd_keeps_nobody_out_for_good() {
        let now = origin() + 9 * SECOND;
        let busy = [
            member(0, false, now - SECOND),
            member(0, false, now),
            member(1, false, now),
        ];
        let pools = |since| [short(2, now - 5 * SECOND), quiet(1), short(0, since)];
        assert_eq!(spared(now, &pools(now), &busy), Some(1));
        // The only worker of a pool leaves for one that has none when that has waited long enough.
        let single = [quiet(1), short(0, now)];
        assert_eq!(spared(now, &single, &[member(0, false, now)]), None);
        let later = now + PATIENCE;
        assert_eq!(spared(later, &single, &[member(0, false, now)]), Some(0));
        // But not before it has served what it was started for.
        let fresh = [short(1, now), short(0, now)];
        assert_eq!(spared(later, &fresh, &[member(0, true, later)]), None);
    }
}
