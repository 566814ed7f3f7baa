//! Workers that have had their share of time or memory: replaced, their successors first.
//!
//! Never here: requests as a share, which fronts count.

use super::Arbiter;
use crate::base::ids::WorkerId;
use crate::config::Pool;
use crate::plan::arbiter::Input;
use crate::plan::pacing::mix;
use crate::sys::{clock, process_state};
use std::time::{Duration, Instant};

/// Time between looks at workers. Memory that grows faster is what `memory_max` is for.
const LOOK: Duration = Duration::from_secs(1);

impl Arbiter {
    /// When workers must be looked at; `None` if no pool has such a limit.
    pub(super) fn next_look(&self) -> Option<Instant> {
        let mut pools = self
            .generations
            .values()
            .flat_map(|generation| &generation.config.pools);
        pools.any(is_limited).then(|| self.looked + LOOK)
    }

    /// Has workers replaced that are too old or too large by now.
    pub(super) fn look_at_shares(&mut self) {
        let now = clock::now();
        if self.next_look().is_none_or(|next| next > now) {
            return;
        }
        self.looked = now;
        self.look_at_memory();
        let mut spent: Vec<WorkerId> = Vec::new();
        for (id, worker) in &mut self.workers {
            let generation = self.generations.get(&worker.generation);
            let pool = generation.and_then(|one| one.config.pools.get(usize::from(worker.pool.0)));
            let Some(pool) = pool.filter(|_| worker.pid != 0 && worker.ready.is_some() && !worker.is_spent) else {
                continue;
            };
            let Some(reason) = excess(pool, *id, now - worker.since, worker.pid) else {
                continue;
            };
            worker.is_spent = true;
            let line = format_args!("Worker (pid:{}) is replaced: {reason}", worker.pid);
            self.log.info(&worker.context(), line);
            spent.push(*id);
        }
        self.inputs.extend(spent.into_iter().map(Input::WorkerSpent));
    }
}

fn is_limited(pool: &Pool) -> bool {
    pool.max_lifetime.is_some() || pool.max_memory.is_some() || pool.rights.memory_max.is_some()
}

/// What a worker has had too much of, in words.
fn excess(pool: &Pool, id: WorkerId, age: Duration, pid: i32) -> Option<String> {
    if let Some(limit) = pool.max_lifetime.filter(|limit| age >= *limit + jitter(*limit, id)) {
        return Some(format!("it is older than max_lifetime, {} s", limit.as_secs()));
    }
    let limit = pool.max_memory?;
    let has = process_state::resident(pid).filter(|has| *has > limit)?;
    Some(format!(
        "its memory, {has} bytes, is more than max_memory, {limit} bytes"
    ))
}

/// Up to a tenth more, so that workers that began together do not end together.
fn jitter(limit: Duration, id: WorkerId) -> Duration {
    let part = u32::try_from(mix(u64::from(id.0)) % 1000).unwrap_or(0);
    limit / 10 * part / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_that_began_together_end_apart_and_not_much_later() {
        let hour = Duration::from_secs(3600);
        let ends: std::collections::BTreeSet<_> = (0..20).map(|id| jitter(hour, WorkerId(id))).collect();
        assert!(ends.len() > 10, "{ends:?}");
        assert!(ends.iter().all(|more| *more <= hour / 10), "{ends:?}");
    }
}
