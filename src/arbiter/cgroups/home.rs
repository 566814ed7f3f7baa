//! The group that ours are made in: found, cleared of what was left there, and made to give the controllers that limits
//! need.
//!
//! Never here: pools, workers and their limits.

use crate::sys::cgroup::{self, Group};
use crate::sys::process_state;
use std::io;

/// Where arbiter and fronts are; systemd's own name for it (`DelegateSubgroup=`).
const SUPERVISOR: &str = "supervisor";

/// The names of our groups begin with this.
const OWN: &str = "rgunicorn-";

/// Processes that are on their way into our group may keep it from being emptied at the first try.
const MOVES: usize = 3;

/// The group that ours are made in.
#[derive(Debug)]
pub(super) struct Home {
    base: Group,
    /// Controllers that we have given to the groups below it.
    given: Vec<&'static str>,
    /// We have moved to the supervisor's group ourselves.
    has_moved: bool,
    /// This arbiter's, once there is one.
    own: Option<Group>,
}

impl Home {
    /// Finds it, and clears it of what those before us have left there.
    pub(super) fn prepare() -> Result<Self, String> {
        let home = Self::find()?;
        remove_old(&home.base);
        Ok(home)
    }

    fn find() -> Result<Self, String> {
        let found = cgroup::own().map_err(|error| format!("cannot find our control group: {error}"))?;
        let Some(own) = found else {
            return Err("no tree of cgroup v2 is mounted".to_owned());
        };
        // An arbiter that follows another one is there already.
        let base = own.above(SUPERVISOR).unwrap_or(own);
        Ok(Self::at(base))
    }

    pub(super) fn at(base: Group) -> Self {
        Self {
            base,
            given: Vec::new(),
            has_moved: false,
            own: None,
        }
    }

    /// Has the groups below the base get a controller.
    pub(super) fn enable(&mut self, controller: &'static str) -> Result<(), String> {
        if self.given.contains(&controller) {
            return Ok(());
        }
        if !self.has_given(controller)? {
            self.delegate(controller)?;
        }
        // What is allowed once the controllers are there.
        let shown = self.base.path().display();
        let trial = self.base.make(&format!("{OWN}{}", std::process::id()));
        trial
            .and_then(|trial| trial.remove())
            .map_err(|error| format!("cannot make control groups in {shown}: {error}"))?;
        self.given.push(controller);
        Ok(())
    }

    /// This arbiter's group, with the controllers that pools need.
    pub(super) fn own(&mut self) -> io::Result<Group> {
        let own = match &self.own {
            Some(own) => own.clone(),
            None => self.base.make(&format!("{OWN}{}", std::process::id()))?,
        };
        let has = own.delegated()?;
        for controller in self.given.iter().filter(|given| !has.iter().any(|one| one == *given)) {
            own.delegate(controller, true)?;
        }
        self.own = Some(own.clone());
        Ok(own)
    }

    /// Removes what was made in it: the arbiter ends. The supervisor's group is left to whoever is in it.
    pub(super) fn end(self, is_alone: bool) {
        if let Some(own) = &self.own {
            let _ = own.remove();
        }
        if !is_alone || !self.has_moved {
            return;
        }
        // As it was before us, where nobody else needs it otherwise.
        for controller in &self.given {
            let _ = self.base.delegate(controller, false);
        }
        let own = i32::try_from(std::process::id()).unwrap_or(0);
        if self.base.take(own).is_ok() {
            let _ = self.base.make(SUPERVISOR).and_then(|supervisor| supervisor.remove());
        }
    }

    /// True if the groups below the base get the controller already. The base must have it itself.
    fn has_given(&self, controller: &str) -> Result<bool, String> {
        let shown = self.base.path().display();
        let unreadable = |error: io::Error| format!("cannot read the control group {shown}: {error}");
        let offered = self.base.controllers().map_err(unreadable)?;
        if !offered.iter().any(|one| one == controller) {
            let list = if offered.is_empty() {
                "none".to_owned()
            } else {
                offered.join(", ")
            };
            return Err(format!(
                "the control group {shown} has no {controller} controller; those it has: {list}"
            ));
        }
        let given = self.base.delegated().map_err(unreadable)?;
        Ok(given.iter().any(|one| one == controller))
    }

    /// Why a controller could not be enabled, as far as that is seen without trying.
    fn check(&self, controller: &str) -> Result<(), String> {
        let shown = self.base.path().display();
        let unchangeable = |error| format!("cannot make control groups in {shown}: {error}");
        self.base.check_writable().map_err(unchangeable)?;
        if self.has_given(controller)? || self.base.is_topmost() {
            return Ok(());
        }
        let own = i32::try_from(std::process::id()).unwrap_or(0);
        let others = self.base.members().unwrap_or_default();
        match others.into_iter().find(|pid| *pid != own && !is_descendant(*pid, own)) {
            None => Ok(()),
            Some(pid) => Err(foreign_processes(&self.base, pid)),
        }
    }

    fn delegate(&mut self, controller: &str) -> Result<(), String> {
        let shown = self.base.path().display().to_string();
        for _ in 0..MOVES {
            match self.base.delegate(controller, true) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {}
                Err(error) => return Err(format!("cannot change the control group {shown}: {error}")),
            }
            self.move_away()
                .map_err(|error| format!("cannot move to a group below {shown}: {error}"))?;
        }
        let others = self.base.members().unwrap_or_default();
        Err(foreign_processes(&self.base, others.first().copied().unwrap_or(0)))
    }

    /// A group whose groups have controllers has no processes of its own: we move, with all that we have started.
    fn move_away(&mut self) -> io::Result<()> {
        let supervisor = self.base.make(SUPERVISOR)?;
        let own = i32::try_from(std::process::id()).unwrap_or(0);
        for pid in self.base.members()? {
            if pid == own || is_descendant(pid, own) {
                supervisor.take(pid)?;
                self.has_moved = true;
            }
        }
        Ok(())
    }
}

/// Says why limits that need a controller cannot be applied, as far as that is seen without changing anything.
pub fn check_controller(controller: &str) -> Result<(), String> {
    Home::find()?.check(controller)
}

fn foreign_processes(base: &Group, pid: i32) -> String {
    let shown = base.path().display();
    format!("the control group {shown} has processes that are not ours, the first of them pid {pid}")
}

/// What arbiters before us have left, who were killed.
fn remove_old(base: &Group) {
    for group in base.below().unwrap_or_default() {
        let name = group.path().file_name().and_then(|name| name.to_str());
        let pid = name.and_then(|name| name.strip_prefix(OWN)?.parse::<i32>().ok());
        if pid.is_some_and(|pid| process_state::parent(pid).is_none()) {
            remove_all(&group);
        }
    }
}

fn remove_all(group: &Group) {
    for below in group.below().unwrap_or_default() {
        remove_all(&below);
    }
    let _ = group.remove();
}

fn is_descendant(pid: i32, of: i32) -> bool {
    let mut next = Some(pid);
    // Longer chains there are not, unless one changes while it is followed.
    for _ in 0..64 {
        next = next.and_then(process_state::parent);
        if next == Some(of) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::cgroup::tests::Trial;

    #[test]
    fn a_limit_without_its_controller_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("cgroup.controllers"), "cpu pids\n").unwrap();
        std::fs::write(dir.path().join("cgroup.subtree_control"), "pids\n").unwrap();
        let mut home = Home::at(Group::at(dir.path().to_owned()));
        let why = home.enable("memory").unwrap_err();
        assert!(
            why.ends_with("has no memory controller; those it has: cpu, pids"),
            "{why}"
        );
        home.enable("cpu").unwrap();
        let given = std::fs::read_to_string(dir.path().join("cgroup.subtree_control")).unwrap();
        assert!(given.starts_with("+cpu"));
        home.enable("pids").unwrap();
        assert_eq!(home.given, ["cpu", "pids"]);
    }

    #[test]
    fn groups_of_arbiters_that_were_killed_are_removed() {
        let trial = Trial::new("old");
        let old = trial.0.make(&format!("{OWN}999999999")).unwrap();
        old.make("pool-a").unwrap().make("worker-1").unwrap();
        let own = trial.0.make(&format!("{OWN}{}", std::process::id())).unwrap();
        let other = trial.0.make("other").unwrap();
        remove_old(&trial.0);
        let mut left = trial.0.below().unwrap();
        left.sort_by_key(|group| group.path().to_owned());
        let mut expected = [own, other];
        expected.sort_by_key(|group| group.path().to_owned());
        assert_eq!(left, expected);
    }
}
