//! Another configuration in the same front: pools join, requests that come from then on are routed anew, and pools that
//! leave finish what they have.
//!
//! Pools keep their numbers as long as anything refers to them, and so do the tables of sites; a request on its way
//! never learns that anything has changed. Never here: which pools stay and which leave (the arbiter says so).

use super::event_loop::Front;
use super::exchange::Place;
use super::routing::Sites;
use super::tokens::Key;
use super::workers::{Pool, Route};
use crate::base::ids::PoolId;
use crate::config::{self, Config, FastCgiListener};
use crate::control::ToArbiter;
use crate::sys::memory;
use std::collections::HashSet;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// Time until it is looked for the first time whether something still refers to what has left, and the longest between
/// such looks.
const FIRST_LOOK: Duration = Duration::from_millis(5);
const LONGEST_LOOK: Duration = Duration::from_millis(250);

/// The configuration that is to follow, and what is left of earlier ones.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// The numbers of the pools, in the order of the configuration.
    numbers: Vec<PoolId>,
    next: Option<Next>,
    leaving: Vec<Leaving>,
    look: Option<Instant>,
    pause: Duration,
}

/// A configuration that was read and does not count yet.
#[derive(Debug)]
struct Next {
    sites: Sites,
    fastcgi: Vec<FastCgiListener>,
    numbers: Vec<PoolId>,
}

/// A pool that no new request is routed to.
#[derive(Clone, Copy, Debug)]
struct Leaving {
    pool: PoolId,
    /// When requests that wait in it are refused.
    until: Instant,
    /// No request needs a worker of it any more; clients may still read responses.
    is_drained: bool,
}

impl Changes {
    /// What a front begins with. Without numbers, pools are numbered in their order.
    pub(super) fn new(config: &mut Config, numbers: Vec<PoolId>) -> Self {
        let numbers = if numbers.is_empty() { in_order(config) } else { numbers };
        number_listeners(&mut config.fastcgi, &numbers);
        Self {
            numbers,
            ..Self::default()
        }
    }

    pub(super) fn numbers(&self) -> &[PoolId] {
        &self.numbers
    }

    /// When it must be looked at what has left.
    pub(super) fn next_look(&self) -> Option<Instant> {
        self.look
    }

    pub(super) fn discard(&mut self) {
        self.next = None;
    }

    /// Whether a pool has no place in the configuration any more.
    pub(super) fn has_left(&self, place: usize) -> bool {
        self.leaving.iter().any(|leaving| usize::from(leaving.pool.0) == place)
    }

    /// Whether a number is that of a pool that exists.
    fn has(&self, pool: PoolId) -> bool {
        self.numbers.contains(&pool) || self.leaving.iter().any(|leaving| leaving.pool == pool)
    }
}

fn in_order(config: &Config) -> Vec<PoolId> {
    let count = u16::try_from(config.pools.len()).unwrap_or(u16::MAX);
    (0..count).map(PoolId).collect()
}

fn number_listeners(listeners: &mut [FastCgiListener], numbers: &[PoolId]) {
    for pool in listeners.iter_mut().filter_map(|listener| listener.pool.as_mut()) {
        *pool = numbers.get(*pool).map_or(usize::MAX, |id| usize::from(id.0));
    }
}

/// Puts the pools of a configuration in the places of their numbers.
pub(super) fn add_pools(pools: &mut Vec<Pool>, config: &mut Config, numbers: &[PoolId], now: Instant) {
    for (pool, number) in std::mem::take(&mut config.pools).into_iter().zip(numbers) {
        add_pool(pools, pool, *number, now);
    }
}

fn add_pool(pools: &mut Vec<Pool>, config: config::Pool, number: PoolId, now: Instant) {
    let place = usize::from(number.0);
    while pools.len() <= place {
        pools.push(Pool::new(config::Pool::nothing(""), now));
    }
    if let Some(pool) = pools.get_mut(place) {
        *pool = Pool::new(config, now);
    }
}

impl Front {
    /// Reads the configuration that is to follow, and makes room for its new pools.
    pub(super) fn prepare(&mut self, text: OwnedFd, numbers: Vec<PoolId>) {
        let answer = match self.read_next(text, numbers) {
            Ok(()) => ToArbiter::Prepared,
            Err(error) => ToArbiter::Unprepared {
                reason: error.to_string(),
            },
        };
        self.send_control(&answer);
    }

    fn read_next(&mut self, text: OwnedFd, numbers: Vec<PoolId>) -> io::Result<()> {
        let mut config = super::read_config(text)?;
        let arbiter = self.control.arbiter()?;
        if config.pools.len() != numbers.len() {
            let text = format!("{} pools with {} numbers", config.pools.len(), numbers.len());
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let known: HashSet<PoolId> = numbers.iter().copied().filter(|pool| self.changes.has(*pool)).collect();
        for (pool, number) in std::mem::take(&mut config.pools).into_iter().zip(&numbers) {
            if !known.contains(number) {
                add_pool(&mut self.pools, pool, *number, self.now);
                self.add_upstreams(usize::from(number.0));
            }
        }
        number_listeners(&mut config.fastcgi, &numbers);
        self.changes.next = Some(Next {
            sites: Sites::new(config.sites, &numbers, arbiter),
            fastcgi: config.fastcgi,
            numbers,
        });
        Ok(())
    }

    /// Routes by the configuration that was prepared.
    ///
    /// Without one this front would not do what its arbiter thinks it does, so it ends, and another takes its place.
    pub(super) fn change(&mut self, grace: Duration) -> io::Result<()> {
        let Some(next) = self.changes.next.take() else {
            let text = "a change without a configuration";
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        };
        let until = self.now + grace;
        let stays: HashSet<PoolId> = next.numbers.iter().copied().collect();
        let changes = &mut self.changes;
        let before = std::mem::replace(&mut changes.numbers, next.numbers);
        let leaving = before.into_iter().filter(|pool| !stays.contains(pool));
        changes.leaving.extend(leaving.map(|pool| Leaving {
            pool,
            until,
            is_drained: false,
        }));
        (changes.look, changes.pause) = (Some(self.now), FIRST_LOOK);
        self.sites.replace(next.sites);
        self.config.fastcgi = next.fastcgi;
        memory::trim();
        Ok(())
    }

    /// Finds out which of what has left nobody refers to any more.
    pub(super) fn look_at_changes(&mut self) {
        if self.changes.look.is_none_or(|look| look > self.now) {
            return;
        }
        let (mut pools, mut working) = (HashSet::new(), HashSet::new());
        let mut tables = HashSet::new();
        let late = self.changes.leaving.iter().filter(|leaving| leaving.until <= self.now);
        let late: HashSet<usize> = late.map(|leaving| usize::from(leaving.pool.0)).collect();
        let mut refused = Vec::new();
        for key in self.exchanges.keys() {
            let Some(exchange) = self.exchanges.get(key) else {
                continue;
            };
            pools.insert(exchange.pool);
            if exchange.place != Place::Finished {
                working.insert(exchange.pool);
            }
            tables.insert(exchange.site.table);
            if exchange.place == Place::Waiting && late.contains(&exchange.pool) {
                refused.push((key, exchange.pool));
            }
        }
        for (key, pool) in refused {
            if let Some(pool) = self.pools.get_mut(pool)
                && pool.dispatch.cancel(key.index)
            {
                self.fail_later.push((key, 503));
            }
        }
        let changes = &mut self.changes;
        let (busy, done): (Vec<_>, Vec<_>) = std::mem::take(&mut changes.leaving)
            .into_iter()
            .partition(|leaving| pools.contains(&usize::from(leaving.pool.0)));
        changes.leaving = busy;
        let mut drained = Vec::new();
        for leaving in &mut changes.leaving {
            if !leaving.is_drained && !working.contains(&usize::from(leaving.pool.0)) {
                leaving.is_drained = true;
                drained.push(leaving.pool);
            }
        }
        let has_tables = self.sites.keep(|table| tables.contains(&table));
        let is_over = changes.leaving.is_empty() && !has_tables;
        changes.look = (!is_over).then(|| self.now + changes.pause);
        changes.pause = (changes.pause * 2).min(LONGEST_LOOK);
        for pool in drained {
            self.send_control(&ToArbiter::PoolDrained { pool });
        }
        for Leaving { pool, .. } in done {
            self.send_control(&ToArbiter::PoolUnused { pool });
        }
    }

    /// Nothing is left of a pool: forgets it.
    pub(super) fn free_pool(&mut self, place: usize) {
        let is_upstream = |key: &Key| {
            let worker = self.workers.get(*key);
            worker.is_some_and(|worker| worker.pool == place && matches!(worker.route, Route::Upstream(_)))
        };
        // Servers that others run are nobody's process, so no end of theirs is reported.
        let upstreams: Vec<Key> = self.workers.keys().filter(is_upstream).collect();
        for key in upstreams {
            self.stop_giving(key);
            self.exited(key, "");
        }
        self.demand_timers.set(place, None);
        if let Some(pool) = self.pools.get_mut(place) {
            if let Some(queue) = &mut pool.queue {
                queue.unblock(self.poll.registry());
            }
            *pool = Pool::new(config::Pool::nothing(""), self.now);
        }
    }
}
