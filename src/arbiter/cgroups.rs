//! The control groups of pools with limits: what they may take together, and what is left when a worker has ended.
//!
//! ```text
//! our group                    delegated by systemd, or where we were started
//!   |-- supervisor             arbiter and fronts: a group with groups below it has no processes of its own
//!   `-- rgunicorn-PID          one per arbiter, so that two of them during an upgrade do not get into each other's way
//!         `-- pool-NAME        has the limits
//!               `-- worker-N   one per worker, by which what it leaves can be found
//! ```
//!
//! Nothing of that is made unless a pool has a limit. Never here: when workers are started and killed.

mod home;

use super::Arbiter;
use crate::base::ids::WorkerId;
use crate::config::{Config, Pool, Rights, Strays};
use crate::logging::NONE;
use crate::sys::cgroup::Group;
use crate::sys::clock;
use home::Home;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::time::{Duration, Instant};

pub use home::check_controller;

/// The period of `cpu.max` in microseconds: that of the kernel.
const PERIOD: u64 = 100_000;

/// A worker that ends so shortly after a kill for want of memory was the one, whoever saw the count first.
const SHORTLY: Duration = Duration::from_secs(2);

/// The groups of this arbiter.
#[derive(Debug, Default)]
pub(super) struct Groups {
    home: Option<Home>,
    /// By the names of pools.
    pools: BTreeMap<String, PoolGroup>,
    /// Those of workers that have ended, as long as something is in them.
    leaving: Vec<Group>,
}

#[derive(Debug)]
struct PoolGroup {
    group: Group,
    limits: Limits,
    /// Processes killed for want of memory so far, and when that was last seen to have risen.
    kills: u64,
    risen: Option<Instant>,
}

/// What a pool may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Limits {
    memory: Option<u64>,
    cpu: Option<u32>,
    pids: Option<u64>,
}

impl Limits {
    fn of(rights: &Rights) -> Self {
        Self {
            memory: rights.memory_max,
            cpu: rights.cpu_max,
            pids: rights.pids_max,
        }
    }

    fn is_none(self) -> bool {
        self == Self::default()
    }

    /// Which setting needs which controller.
    fn needs(self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let needs = [
            self.memory.map(|_| ("memory_max", "memory")),
            self.cpu.map(|_| ("cpu_max", "cpu")),
            self.pids.map(|_| ("pids_max", "pids")),
        ];
        needs.into_iter().flatten()
    }

    /// Writes them. What another configuration has limited and this one does not is unlimited again.
    fn apply(self, before: Self, group: &Group) -> io::Result<()> {
        let max = |value: Option<u64>| value.map_or_else(|| "max".to_owned(), |value| value.to_string());
        if self.memory != before.memory {
            // Else the group would swap before it is stopped.
            if group.has("memory.swap.max") {
                let swap = if self.memory.is_some() { "0" } else { "max" };
                group.set("memory.swap.max", swap)?;
            }
            group.set("memory.max", &max(self.memory))?;
        }
        if self.cpu != before.cpu {
            let quota = self.cpu.map(|percent| u64::from(percent) * PERIOD / 100);
            group.set("cpu.max", &format!("{} {PERIOD}", max(quota)))?;
        }
        if self.pids != before.pids {
            group.set("pids.max", &max(self.pids))?;
        }
        Ok(())
    }
}

impl Groups {
    /// Makes ready for the limits of a configuration, if it has any. What [`check_controller`] can see is in order: it
    /// was asked when the configuration was loaded. The reason for a failure is for the user.
    pub(super) fn enable(&mut self, config: &Config) -> Result<(), String> {
        for pool in &config.pools {
            for (setting, controller) in Limits::of(&pool.rights).needs() {
                let home = match &mut self.home {
                    Some(home) => Ok(home),
                    home @ None => Home::prepare().map(|found| home.insert(found)),
                };
                home.and_then(|home| home.enable(controller))
                    .map_err(|why| format!("{setting} of pool {} cannot be applied: {why}", pool.name))?;
            }
        }
        Ok(())
    }

    /// The group for a new worker; `None` if its pool has no limits.
    pub(super) fn make(&mut self, pool: &Pool, worker: WorkerId) -> io::Result<Option<Group>> {
        let limits = Limits::of(&pool.rights);
        if limits.is_none() {
            return Ok(None);
        }
        let own = self.own()?;
        if !self.pools.contains_key(&pool.name) {
            let group = own.make(&format!("pool-{}", file_name(&pool.name)))?;
            limits.apply(Limits::default(), &group)?;
            let kills = group.count("memory.events", "oom_kill").unwrap_or(0);
            let made = PoolGroup {
                group,
                limits,
                kills,
                risen: None,
            };
            self.pools.insert(pool.name.clone(), made);
        }
        let Some(pool) = self.pools.get(&pool.name) else {
            return Ok(None);
        };
        pool.group.make(&format!("worker-{}", worker.0)).map(Some)
    }

    /// This arbiter's group, with the controllers that pools need.
    fn own(&mut self) -> io::Result<Group> {
        self.home.as_mut().ok_or(io::ErrorKind::NotFound)?.own()
    }

    /// A worker has ended: what it has left running is killed, unless that is wanted.
    pub(super) fn release(&mut self, group: Group, keeps: bool) -> io::Result<()> {
        let killed = if keeps { Ok(()) } else { group.kill() };
        self.leaving.push(group);
        self.sweep();
        killed
    }

    /// Removes the groups that have become empty.
    pub(super) fn sweep(&mut self) {
        self.leaving.retain(|group| group.remove().is_err());
    }

    /// True if nothing is left of workers that have ended.
    pub(super) fn is_clear(&self) -> bool {
        self.leaving.is_empty()
    }

    /// Gives the groups the limits of the pools that serve now; those of other pools go.
    fn settle(&mut self, serving: &BTreeMap<&str, Limits>) -> Result<(), String> {
        let mut failures = String::new();
        self.pools.retain(|name, pool| {
            let wanted = serving.get(name.as_str()).copied();
            let limits = wanted.unwrap_or_default();
            match limits.apply(pool.limits, &pool.group) {
                Ok(()) => pool.limits = limits,
                Err(error) => {
                    let _ = write!(failures, "cannot change the limits of pool {name}: {error}; ");
                }
            }
            wanted.is_some() || pool.group.remove().is_err()
        });
        if failures.is_empty() { Ok(()) } else { Err(failures) }
    }

    /// Whether the kernel has just killed a process of a pool because of its `memory_max`, which is given then.
    pub(super) fn memory_kill(&mut self, pool: &str) -> Option<u64> {
        let pool = self.pools.get_mut(pool)?;
        pool.look();
        let is_it = pool.risen.is_some_and(|risen| clock::now() - risen < SHORTLY);
        pool.limits.memory.filter(|_| is_it)
    }

    /// Removes everything that is empty: the arbiter ends. The supervisor's group is left to whoever is in it.
    pub(super) fn end(&mut self, is_alone: bool) {
        self.sweep();
        for (_, pool) in std::mem::take(&mut self.pools) {
            let _ = pool.group.remove();
        }
        if let Some(home) = self.home.take() {
            home.end(is_alone);
        }
    }
}

impl PoolGroup {
    /// True if the count of killed processes has risen since it was looked at last.
    fn look(&mut self) -> bool {
        let now = self.group.count("memory.events", "oom_kill").unwrap_or(self.kills);
        let has_risen = now > self.kills;
        if has_risen {
            self.risen = Some(clock::now());
        }
        self.kills = now;
        has_risen
    }
}

/// A pool's name as that of a directory: other bytes than these have a meaning there, or may have.
fn file_name(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.' {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "_{byte:02x}");
        }
    }
    text
}

impl Arbiter {
    /// The group of a worker that has ended, or was never there.
    pub(super) fn release_group(&mut self, group: Option<Group>, pool: Option<&Pool>) {
        let Some(group) = group else { return };
        let keeps = pool.is_some_and(|pool| pool.scripts.strays == Strays::Keep);
        if let Err(error) = self.groups.release(group, keeps) {
            let line = format_args!("cannot kill what a worker has left in its control group: {error}");
            self.log.error(&NONE, line);
        }
    }

    /// Applies the limits of the configuration that is served.
    pub(super) fn settle_groups(&mut self) {
        let Some(generation) = self.generations.values().next_back() else {
            return;
        };
        // One that leaves may have the name of one that has taken its place.
        let limits = |(_, pool): (_, &'_ Pool)| (pool.name.clone(), Limits::of(&pool.rights));
        let serving: BTreeMap<String, Limits> = generation.numbered().map(limits).collect();
        let serving = serving.iter().map(|(name, limits)| (name.as_str(), *limits)).collect();
        if let Err(failures) = self.groups.settle(&serving) {
            self.log.error(&NONE, format_args!("{failures}"));
        }
    }

    /// Says when processes were killed because of `memory_max` whose end nobody else has seen.
    pub(super) fn look_at_memory(&mut self) {
        for (name, pool) in &mut self.groups.pools {
            if let Some(limit) = pool.limits.memory.filter(|_| pool.look()) {
                let line = format_args!("The kernel killed a process of pool {name}: {}", memory_words(limit));
                self.log.error(&NONE, line);
            }
        }
    }
}

/// Why a process of a pool was killed.
pub(super) fn memory_words(limit: u64) -> String {
    format!("out of memory: the pool has reached its memory_max, {limit} bytes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::cgroup::tests::{Trial, shell};
    use std::path::Path;

    fn read(group: &Path, name: &str) -> String {
        std::fs::read_to_string(group.join(name)).unwrap()
    }

    #[test]
    fn limits_are_written_as_the_kernel_takes_them() {
        let dir = tempfile::tempdir().unwrap();
        let group = Group::at(dir.path().to_owned());
        for name in ["memory.max", "memory.swap.max", "cpu.max", "pids.max"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let limits = Limits {
            memory: Some(1 << 20),
            cpu: Some(150),
            pids: Some(50),
        };
        limits.apply(Limits::default(), &group).unwrap();
        let shown = ["memory.max", "memory.swap.max", "cpu.max", "pids.max"].map(|name| read(dir.path(), name));
        assert_eq!(shown, ["1048576", "0", "150000 100000", "50"]);
        // What has not changed is not written again; what is gone is unlimited.
        for name in ["memory.max", "memory.swap.max", "cpu.max", "pids.max"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let fewer = Limits {
            memory: None,
            cpu: None,
            ..limits
        };
        fewer.apply(limits, &group).unwrap();
        let shown = ["memory.max", "memory.swap.max", "cpu.max", "pids.max"].map(|name| read(dir.path(), name));
        assert_eq!(shown, ["max", "max", "max 100000", ""]);
        let needs: Vec<_> = limits.needs().collect();
        assert_eq!(
            needs,
            [("memory_max", "memory"), ("cpu_max", "cpu"), ("pids_max", "pids")]
        );
    }

    /// Groups in a group of the test, with pools that have no controllers: this machine may have none to give.
    fn groups(trial: &Trial) -> Groups {
        Groups {
            home: Some(Home::at(trial.0.clone())),
            ..Groups::default()
        }
    }

    #[test]
    fn workers_have_groups_of_their_own_which_go_with_them() {
        let trial = Trial::new("pools");
        let mut groups = groups(&trial);
        let own = groups.own().unwrap();
        let pool = PoolGroup {
            group: own.make("pool-shop").unwrap(),
            limits: Limits::default(),
            kills: 0,
            risen: None,
        };
        let leaf = pool.group.make("worker-7").unwrap();
        let kept = pool.group.make("worker-8").unwrap();
        groups.pools.insert("shop".to_owned(), pool);
        let pids = [
            shell("setsid sleep 1000 & wait", &leaf),
            shell("exec sleep 1000", &kept),
        ];
        groups.release(leaf.clone(), false).unwrap();
        groups.release(kept.clone(), true).unwrap();
        crate::sys::process::reap(pids[0]).unwrap();
        for _ in 0..2000 {
            groups.sweep();
            if groups.leaving == std::slice::from_ref(&kept) {
                break;
            }
            let _ = crate::sys::poll::wait(&[], Some(Duration::from_millis(5)));
        }
        // What was to be kept is still there, and so are the groups above it.
        assert_eq!(groups.leaving, std::slice::from_ref(&kept));
        assert_eq!(kept.members().unwrap(), [pids[1]]);
        kept.kill().unwrap();
        crate::sys::process::reap(pids[1]).unwrap();
        for _ in 0..2000 {
            groups.sweep();
            if groups.is_clear() {
                break;
            }
            let _ = crate::sys::poll::wait(&[], Some(Duration::from_millis(5)));
        }
        groups.end(true);
        assert_eq!(trial.0.below().unwrap(), []);
    }

    #[test]
    fn names_of_pools_become_names_of_directories() {
        for (name, expected) in [
            ("php.alice", "php.alice"),
            ("a/b", "a_2fb"),
            ("..", ".."),
            ("a_b", "a_5fb"),
        ] {
            assert_eq!(file_name(name), expected);
        }
    }
}
