//! A reload in the generation that serves: which of its pools stay, which join and which leave, and the configuration
//! that follows its own.
//!
//! A pool is the same one if its name, all its settings and its user are. Never here: when the front routes anew, and
//! when workers leave (`plan`).

use super::generation::{Generation, PoolState};
use super::interpreter::Interpreters;
use super::perform::memory_file;
use super::{Arbiter, generation};
use crate::base::ids::PoolId;
use crate::config::{Config, FastCgiListener, Files, Loaded, Origins, Pool, Reloader, Renew, UNNAMED};
use crate::control::{ToFront, codec};
use crate::logging::NONE;
use crate::plan::arbiter::Input;
use crate::plan::generation::{Change, FrontId, GenerationId};
use crate::sys::memory;
use crate::sys::privilege::Identity;
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

/// Names of pools in one line of the log; there may be hundreds.
const NAMES: usize = 8;

/// A configuration that is to follow that of a generation.
#[derive(Debug)]
pub(super) struct Next {
    generation: GenerationId,
    config: Config,
    text: String,
    origins: Origins,
    files: Files,
    /// The numbers of its pools, in their order.
    numbers: Vec<PoolId>,
    /// The pools that join; they are the generation's once it has begun to change.
    joining: Vec<(PoolId, Pool, PoolState)>,
    joins: Vec<PoolId>,
    leaves: Vec<PoolId>,
    summary: String,
}

/// Why a configuration needs a whole new generation.
#[derive(Debug, PartialEq, Eq)]
enum Whole {
    /// That is so for every reload of it.
    Always,
    /// Because of this.
    Because(String),
}

/// What a reload does to the pools.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sorted {
    /// By place in the new configuration: the number it has already.
    kept: Vec<Option<PoolId>>,
    /// Numbers of pools that leave.
    leaving: Vec<PoolId>,
    new: Vec<String>,
    renewed: Vec<String>,
    gone: Vec<String>,
}

impl Arbiter {
    /// Begins a change if this configuration can follow the one that serves without a new generation; gives it back if it
    /// cannot.
    pub(super) fn begin_change_to(&mut self, loaded: Loaded) -> Result<Option<Loaded>, Vec<String>> {
        let Some((id, generation)) = self
            .plan
            .serving()
            .and_then(|id| Some((id, self.generations.get(&id)?)))
        else {
            return Ok(Some(loaded));
        };
        match needs_whole(generation, &loaded) {
            None => {}
            Some(Whole::Always) => return Ok(Some(loaded)),
            Some(Whole::Because(reason)) => {
                let line = format_args!("All workers and the front are replaced: {reason}");
                self.log.info(&NONE, line);
                return Ok(Some(loaded));
            }
        }
        let limits = self.groups.enable(&loaded.config);
        limits.map_err(|reason| vec![reason])?;
        let next = prepare(id, generation, loaded, &self.reloader, &mut self.interpreters);
        let next = next.map_err(|reason| vec![reason])?;
        let policy = |(number, pool, state): &(PoolId, Pool, PoolState)| {
            (*number, generation::policy(pool, state, false, &next.config.process))
        };
        self.inputs.push_back(Input::Changed(Change {
            generation: id,
            joining: next.joining.iter().map(policy).collect(),
            leaving: next.leaves.clone(),
        }));
        self.changing = Some(next);
        Ok(None)
    }

    /// Pools join, and the front reads what follows.
    pub(super) fn begin_change(&mut self, id: GenerationId) {
        let Some(mut next) = self.changing.take_if(|next| next.generation == id) else {
            return;
        };
        let Some(generation) = self.generations.get_mut(&id) else {
            return;
        };
        for (number, pool, state) in next.joining.drain(..) {
            generation.put_pool(number, pool, state);
        }
        generation.next = Some(next);
        let front = self.fronts.iter().find(|(_, front)| front.generation == id);
        if let Some(front) = front.map(|(front, _)| *front)
            && let Err(error) = self.introduce_next(front)
        {
            let line = format_args!("cannot hand over the configuration: {error}");
            self.log.error(&NONE, line);
            self.inputs.push_back(Input::ChangeRefused(front));
        }
    }

    /// Has a front read the configuration that follows, if there is one, and gives it what its new pools need.
    pub(super) fn introduce_next(&mut self, id: FrontId) -> io::Result<()> {
        let Some(front) = self.fronts.get_mut(&id) else {
            return Ok(());
        };
        let Some(generation) = self.generations.get(&front.generation) else {
            return Ok(());
        };
        let Some(next) = &generation.next else {
            return Ok(());
        };
        let text = memory_file(&next.text)?;
        let numbers = next.numbers.clone();
        front.channel.send(&ToFront::Prepare { numbers }, &[text.as_fd()])?;
        for pool in next.joins.iter().copied() {
            let state = generation.pools.get(usize::from(pool.0));
            if let Some(queue) = state.and_then(|state| state.queue.as_ref()) {
                let ends = [queue.send.as_fd(), queue.receive.as_fd()];
                front.channel.send(&ToFront::Queue { pool }, &ends)?;
            }
        }
        Ok(())
    }

    /// What follows is the configuration of its generation from now on.
    pub(super) fn change(&mut self, front: FrontId, id: GenerationId, grace: Duration) {
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        self.tell_front(front, &ToFront::Change { grace_ms });
        let Some(generation) = self.generations.get_mut(&id) else {
            return;
        };
        let Some(next) = generation.next.take() else {
            return;
        };
        generation.config.sites = next.config.sites;
        generation.config.fastcgi = next.config.fastcgi;
        generation.text = next.text;
        generation.origins = next.origins;
        generation.numbers = next.numbers;
        self.reloader.good.clone_from(&next.files);
        generation.files = next.files;
        self.is_wsgi = generation.is_wsgi();
        self.settle_groups();
        memory::trim();
        self.log.info(&NONE, format_args!("Reloaded: {}", next.summary));
        // A reload opens log files anew, as a new generation does.
        self.reopen_logs(false);
        self.notifier.send("READY=1\nSTATUS=Serving");
    }

    pub(super) fn drop_change(&mut self, id: GenerationId) {
        self.changing = None;
        if let Some(generation) = self.generations.get_mut(&id) {
            generation.next = None;
        }
        let front = self.fronts.iter().find(|(_, front)| front.generation == id);
        if let Some(front) = front.map(|(front, _)| *front) {
            self.tell_front(front, &ToFront::Discard);
        }
    }

    pub(super) fn free_pool(&mut self, id: GenerationId, pool: PoolId) {
        if let Some(generation) = self.generations.get_mut(&id) {
            generation.free_pool(pool);
        }
        self.settle_groups();
        let front = self.fronts.iter().find(|(_, front)| front.generation == id);
        if let Some(front) = front.map(|(front, _)| *front) {
            self.tell_front(front, &ToFront::FreePool { pool });
        }
    }
}

/// Why `loaded` cannot follow the configuration of `generation` in place.
fn needs_whole(generation: &Generation, loaded: &Loaded) -> Option<Whole> {
    let (old, new) = (&generation.config, &loaded.config);
    let is_one_app = |pools: &mut dyn Iterator<Item = &Pool>| {
        let first = pools.next();
        first.is_some_and(|pool| pool.name == UNNAMED) && pools.next().is_none()
    };
    if generation.has_host
        || loaded.wants_host
        || is_one_app(&mut generation.numbered().map(|(_, pool)| pool))
        || is_one_app(&mut new.pools.iter())
    {
        return Some(Whole::Always);
    }
    if new.pools.len() > codec::POOLS_LIMIT || generation.pools.len() > codec::POOLS_LIMIT {
        return Some(Whole::Because(
            "there are too many pools to change single ones".to_owned(),
        ));
    }
    let name_of_old = |place: usize| {
        let number = generation.numbers.get(place)?;
        Some(old.pools.get(usize::from(number.0))?.name.as_str())
    };
    let name_of_new = |place: usize| Some(new.pools.get(place)?.name.as_str());
    let is_same = old.bind == new.bind
        && old.backlog == new.backlog
        && old.reuse_port == new.reuse_port
        && old.process == new.process
        && old.http == new.http
        && old.logs == new.logs;
    if is_same && by_name(&old.fastcgi, name_of_old) == by_name(&new.fastcgi, name_of_new) {
        return None;
    }
    let differing = generation.origins.differing(&loaded.origins);
    let why = match &differing[..] {
        [] => "a [[listener]] has changed".to_owned(),
        [one] => format!("{one} has changed"),
        several => format!("{} have changed", list(several)),
    };
    Some(Whole::Because(why))
}

/// Listeners with the names of their pools, which have other places in another configuration.
fn by_name<'n>(
    listeners: &[FastCgiListener],
    name: impl Fn(usize) -> Option<&'n str>,
) -> Vec<(FastCgiListener, Option<&'n str>)> {
    let named = listeners.iter().map(|listener| {
        let nameless = FastCgiListener {
            pool: listener.pool.map(|_| 0),
            ..listener.clone()
        };
        (nameless, listener.pool.and_then(&name))
    });
    named.collect()
}

/// Makes what the pools that join need.
fn prepare(
    id: GenerationId,
    generation: &Generation,
    loaded: Loaded,
    reloader: &Reloader,
    interpreters: &mut Interpreters,
) -> Result<Next, String> {
    let Loaded {
        mut config,
        text,
        origins,
        files,
        ..
    } = loaded;
    let identities = config.pools.iter().map(generation::identity_of);
    let identities = identities.collect::<Result<Vec<_>, _>>()?;
    let sorted = sort(generation, &config.pools, &identities);
    let mut free = generation.free_numbers();
    let (mut numbers, mut joining) = (Vec::new(), Vec::new());
    for ((pool, identity), kept) in std::mem::take(&mut config.pools)
        .into_iter()
        .zip(identities)
        .zip(&sorted.kept)
    {
        let number = match kept {
            Some(number) => *number,
            None => {
                generation.check_interpreters(std::iter::once(&pool), reloader, interpreters)?;
                let number = free.next().ok_or("there are too many pools")?;
                let state = PoolState::new(&pool, identity)?;
                joining.push((number, pool, state));
                number
            }
        };
        numbers.push(number);
    }
    Ok(Next {
        generation: id,
        config,
        text,
        origins,
        files,
        numbers,
        joins: joining.iter().map(|(number, ..)| *number).collect(),
        joining,
        summary: sorted.summary(),
        leaves: sorted.leaving,
    })
}

/// Which pools stay, by their names and settings.
fn sort(generation: &Generation, pools: &[Pool], identities: &[Option<Identity>]) -> Sorted {
    let old: HashMap<&str, (PoolId, &Pool)> = generation
        .numbered()
        .map(|(number, pool)| (pool.name.as_str(), (number, pool)))
        .collect();
    let mut sorted = Sorted::default();
    for (pool, identity) in pools.iter().zip(identities) {
        let known = old.get(pool.name.as_str());
        let is_kept = |(number, before): &&(PoolId, &Pool)| {
            let state = generation.pools.get(usize::from(number.0));
            !is_renewed(pool) && is_same(before, pool) && state.is_some_and(|state| state.identity == *identity)
        };
        let kept = known.filter(is_kept).map(|(number, _)| *number);
        if kept.is_none() {
            let names = if known.is_some() {
                &mut sorted.renewed
            } else {
                &mut sorted.new
            };
            names.push(pool.name.clone());
        }
        sorted.kept.push(kept);
    }
    let kept: BTreeSet<PoolId> = sorted.kept.iter().flatten().copied().collect();
    let names: BTreeSet<&str> = pools.iter().map(|pool| pool.name.as_str()).collect();
    for (number, pool) in generation.numbered().filter(|(number, _)| !kept.contains(number)) {
        sorted.leaving.push(number);
        if !names.contains(pool.name.as_str()) {
            sorted.gone.push(pool.name.clone());
        }
    }
    sorted
}

/// Whether a pool gets new workers although nothing of it has changed. The one without a name has Gunicorn's ways.
fn is_renewed(pool: &Pool) -> bool {
    pool.renew == Renew::All || pool.name == UNNAMED
}

/// Whether workers of the one serve the other. `renew` is about the reload itself.
fn is_same(old: &Pool, new: &Pool) -> bool {
    let as_before = |pool: &Pool| Pool {
        renew: Renew::default(),
        ..pool.clone()
    };
    old == new || as_before(old) == as_before(new)
}

impl Sorted {
    fn summary(&self) -> String {
        let kept = self.kept.iter().flatten().count();
        let pools = if kept == 1 { "pool goes" } else { "pools go" };
        let parts = [("replaced", &self.renewed), ("new", &self.new), ("removed", &self.gone)];
        let parts = parts.into_iter().filter(|(_, names)| !names.is_empty());
        let parts: String = parts
            .map(|(what, names)| format!(", {what}: {}", list(names)))
            .collect();
        format!("{kept} {pools} on untouched{parts}")
    }
}

/// Names with commas, and the number of those that are too many.
fn list<T: AsRef<str>>(names: &[T]) -> String {
    let shown: Vec<&str> = names.iter().take(NAMES).map(AsRef::as_ref).collect();
    let mut text = shown.join(", ");
    if names.len() > NAMES {
        text.push_str(&format!(" and {} more", names.len() - NAMES));
    }
    text
}
