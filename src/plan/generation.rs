//! One generation: a front, its pools, and how far they are.
//!
//! Never here: more than one generation (`arbiter`), processes, the clock.

use super::pacing::Pacing;
use super::pool::{Policy, Pool, Standing};
use crate::base::ids::{PoolId, WorkerId};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// A front that has not been heard of for this long is killed.
pub const SILENCE: Duration = Duration::from_secs(30);

/// A generation's number, from 1, never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GenerationId(pub u32);

/// A front's number, from 1, never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FrontId(pub u32);

/// What a plan needs to know of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Its pools, in order.
    pub pools: Vec<Policy>,
    /// Time to finish on a stop and after a reload.
    pub grace: Duration,
    /// Workers in all, beyond which no elastic pool grows; `usize::MAX` = no limit.
    pub most_workers: usize,
}

/// What a plan needs to know of a configuration that takes the place of a generation's own while it serves. Pools that it
/// does not name stay as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The generation.
    pub generation: GenerationId,
    /// Pools that come, by numbers that are nobody's: new ones, and those that take over from one that has changed.
    pub joining: Vec<(PoolId, Policy)>,
    /// Pools that no request leads to afterwards.
    pub leaving: Vec<PoolId>,
}

/// A change until it has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Pools that leave then.
    pub leaving: Vec<PoolId>,
    /// The front that has read the new configuration.
    pub prepared: Option<FrontId>,
}

/// How far a generation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Front and workers are coming up; nothing is accepted.
    Starting,
    /// Accepts.
    Serving,
    /// Accepts nothing; its front finishes what it has, then its workers leave.
    Draining {
        /// When its time is over.
        until: Instant,
    },
    /// Its time is over: what still runs is cut.
    Cut {
        /// When a front that is still there is killed.
        until: Instant,
    },
    /// Gives up without having served.
    Dismissed,
}

/// What is known of a front.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Front {
    /// Its number.
    pub id: FrontId,
    /// Since when it is configured.
    pub up: Option<Instant>,
    /// When it last gave a sign of life.
    pub heard: Instant,
    /// SIGKILL was sent.
    pub is_killed: bool,
}

/// One generation.
#[derive(Debug)]
pub struct Generation {
    /// Its number.
    pub id: GenerationId,
    /// How far it is.
    pub phase: Phase,
    /// Its front, while one exists.
    pub front: Option<Front>,
    /// How often its fronts failed.
    pub pacing: Pacing,
    /// No new front before then.
    pub resume: Option<Instant>,
    /// Its pools.
    pub pools: Vec<Pool>,
    /// The change that is being made.
    pub change: Option<Pending>,
    /// Time to finish.
    pub grace: Duration,
    /// Workers in all, beyond which no elastic pool grows.
    pub most_workers: usize,
}

impl Generation {
    /// A generation of which nothing exists yet.
    #[must_use]
    pub fn new(id: GenerationId, terms: &Terms, seed: u64) -> Self {
        let pools = terms.pools.iter().map(|policy| Pool::new(*policy, seed)).collect();
        Self {
            id,
            phase: Phase::Starting,
            front: None,
            pacing: Pacing::new(seed),
            resume: None,
            pools,
            change: None,
            grace: terms.grace,
            most_workers: terms.most_workers,
        }
    }

    /// Whether it shall have a front and workers.
    #[must_use]
    pub fn is_staying(&self) -> bool {
        matches!(self.phase, Phase::Starting | Phase::Serving)
    }

    /// Whether it can start to serve. `is_first`: nothing else serves, so one ready worker in every pool is enough;
    /// otherwise the one that serves now is only relieved by a generation whose every worker is ready.
    #[must_use]
    pub fn can_serve(&self, is_first: bool, is_ready: impl Fn(WorkerId) -> bool) -> bool {
        let is_up = self.front.is_some_and(|front| front.up.is_some());
        is_up
            && self
                .pools
                .iter()
                .all(|pool| pool.has_begun() && (is_first || pool.is_complete(&is_ready)))
    }

    /// The front that can make the change that is pending: it has read the configuration, and every pool that joins has
    /// all its workers ready.
    #[must_use]
    pub fn can_change(&self, is_ready: impl Fn(WorkerId) -> bool) -> Option<FrontId> {
        let prepared = self.change.as_ref()?.prepared?;
        let front = self.front.filter(|front| front.id == prepared && !front.is_killed)?;
        let mut joining = self.pools.iter().filter(|pool| pool.standing == Standing::Joining);
        joining.all(|pool| pool.is_complete(&is_ready)).then_some(front.id)
    }

    /// How many changes have pools that still finish their requests.
    #[must_use]
    pub fn unfinished_changes(&self) -> usize {
        let times = self.pools.iter().filter_map(|pool| match pool.standing {
            Standing::Leaving { until } => Some(until),
            Standing::Serving | Standing::Joining | Standing::Left | Standing::Free => None,
        });
        times.collect::<BTreeSet<_>>().len()
    }

    /// When it must be looked at, workers aside.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let silence = self
            .front
            .filter(|front| !front.is_killed)
            .map(|front| front.heard + SILENCE);
        let leaving = |pool: &Pool| match pool.standing {
            Standing::Leaving { until } => Some(until),
            Standing::Serving | Standing::Joining | Standing::Left | Standing::Free => None,
        };
        let places = self
            .pools
            .iter()
            .flat_map(|pool| pool.next_deadline().into_iter().chain(leaving(pool)))
            .min();
        let phase = match self.phase {
            Phase::Starting | Phase::Serving => match self.front {
                None => self.resume.into_iter().chain(places).min(),
                Some(_) => places,
            },
            Phase::Draining { until } => Some(until),
            Phase::Cut { until } => silence.map(|_| until),
            Phase::Dismissed => None,
        };
        silence.into_iter().chain(phase).min()
    }
}
