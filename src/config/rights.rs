//! What the workers of a pool may do and take: user, groups, priority, limits.
//!
//! Never here: applying any of it.

use super::identity::{self, Identity};
use super::kind::{Value, shown_text};
use super::load::CheckController;
use super::resolve::{Resolver, join};
use super::{Program, Rights};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

/// Most percent of one CPU that `cpu_max` takes: a thousand CPUs.
const CPU_LIMIT: u32 = 100_000;

/// No process is smaller: 1 MiB.
const LEAST_MEMORY: u64 = 1 << 20;

/// What to do where limits by control group cannot be applied.
const GROUPS_ADVICE: &str = "in a systemd service, set Delegate=yes and DelegateSubgroup=supervisor; \
    elsewhere, start as root in a group of its own whose controllers are those of cgroup v2; or leave the limit out";

/// Which controllers of control groups cannot be used, and why. The answer holds for all pools of a load, so each is
/// asked about once: to find it, the control group and the processes in it are looked at.
#[derive(Debug)]
pub(super) struct Controllers {
    check: CheckController,
    answers: RefCell<BTreeMap<&'static str, Result<(), String>>>,
}

impl Controllers {
    pub(super) fn new(check: CheckController) -> Self {
        Self {
            check,
            answers: RefCell::default(),
        }
    }

    fn check(&self, controller: &'static str) -> Result<(), String> {
        let mut answers = self.answers.borrow_mut();
        answers
            .entry(controller)
            .or_insert_with(|| (self.check)(controller))
            .clone()
    }
}

impl Resolver<'_> {
    /// User and group, by the settings of these names.
    pub(super) fn identity(&mut self) -> Identity {
        let (user, group) = (
            self.values.text("user").to_owned(),
            self.values.text("group").to_owned(),
        );
        let (identity, refusals) = Identity::find(&user, &group, self.may_switch());
        for (name, why, advice) in refusals {
            self.refuse(name, 0, &why, advice);
        }
        identity
    }

    fn may_switch(&self) -> bool {
        !self.around.look || identity::is_root()
    }

    /// The rights of a pool's workers, but for `umask`, which only a pool's table sets.
    pub(super) fn rights(&mut self, program: &Program) -> Rights {
        let Identity { user, group } = self.identity();
        Rights {
            user,
            group,
            initgroups: self.values.flag("initgroups"),
            groups: self.groups(),
            umask: None,
            nice: self.nice(),
            chroot: self.chroot(program),
            no_new_privileges: self.values.flag("no_new_privileges"),
            check_owner: self.values.flag("check_owner"),
            memory_max: self.memory("memory_max"),
            cpu_max: self.cpu_max(),
            pids_max: Some(self.values.number("pids_max")).filter(|count| *count > 0),
        }
    }

    /// That the kernel will let us apply the limits by control group: what cannot be applied would bind nobody.
    pub(super) fn check_limits(&mut self) {
        if !self.around.look {
            return;
        }
        let (memory, pids) = (self.values.number("memory_max"), self.values.number("pids_max"));
        let limits = [
            ("memory_max", "memory", memory > 0),
            ("cpu_max", "cpu", !self.values.text("cpu_max").trim().is_empty()),
            ("pids_max", "pids", pids > 0),
        ];
        for (name, controller, _) in limits.into_iter().filter(|(.., is_set)| *is_set) {
            if let Err(why) = self.around.controllers.check(controller) {
                let why = format!("cannot be applied: {why}");
                self.refuse(name, 0, &why, GROUPS_ADVICE);
            }
        }
    }

    /// A limit of memory, in bytes. One that every process exceeds was meant with a unit.
    pub(super) fn memory(&mut self, name: &str) -> Option<u64> {
        let bytes = self.values.number(name);
        if (1..LEAST_MEMORY).contains(&bytes) {
            let why = format!("is {bytes} bytes, which every process exceeds");
            self.refuse(name, 0, &why, "write a unit, for example \"64m\"");
        }
        Some(bytes).filter(|bytes| *bytes > 0)
    }

    fn groups(&mut self) -> Vec<u32> {
        let mut found = Vec::new();
        for (place, name) in self.values.list("groups").to_vec().iter().enumerate() {
            match identity::find_group(name) {
                Ok(gid) => found.extend(gid),
                Err((_, why, advice)) => self.refuse("groups", place, &why, advice),
            }
        }
        if !found.is_empty() && !self.may_switch() {
            self.refuse(
                "groups",
                0,
                "are set, but only root can set them",
                "start as root, or leave it out",
            );
        }
        found
    }

    fn nice(&mut self) -> Option<i32> {
        let text = self.values.text("nice").trim().to_owned();
        if text.is_empty() {
            return None;
        }
        let Some(nice) = text.parse().ok().filter(|nice| (-20..=19).contains(nice)) else {
            let why = format!("must be a whole number from -20 to 19, but not {}", shown_text(&text));
            self.refuse("nice", 0, &why, "");
            return None;
        };
        if nice < 0 && !self.may_switch() {
            let why = format!("is {nice}, but only root can raise the priority");
            self.refuse("nice", 0, &why, "start as root, or choose 0 to 19");
        }
        Some(nice)
    }

    fn chroot(&mut self, program: &Program) -> Option<std::path::PathBuf> {
        if self.values.text("chroot").is_empty() {
            return None;
        }
        let path = self.directory("chroot", std::path::Path::new("/"), false);
        if !matches!(program, Program::Exec(_)) || self.values.text("protocol") == "cgi" {
            let why = "needs a program of its own in `exec`, which is not plain CGI";
            let advice = "what runs scripts and WSGI apps would not find its own files there";
            self.refuse("chroot", 0, why, advice);
        }
        if !self.may_switch() {
            let why = format!("is {}, but only root can change the root directory", path.display());
            self.refuse("chroot", 0, &why, "start as root, or leave it out");
        }
        Some(path)
    }

    /// Checks a program that is within `chroot`.
    pub(super) fn check_in_chroot(&mut self, program: &str) {
        let Some(inside) = program.strip_prefix('/') else {
            let why = format!(
                "must be an absolute path with `chroot`, but not {}",
                shown_text(program)
            );
            self.refuse("exec", 0, &why, "it is a path within `chroot`");
            return;
        };
        let path = join(self.around.start, self.values.text("chroot")).join(inside);
        let runs = |meta: std::fs::Metadata| meta.is_file() && meta.permissions().mode() & 0o111 != 0;
        if self.around.look && !path.metadata().is_ok_and(runs) {
            let why = format!("is {program} in `chroot`, but {} is no program", path.display());
            self.refuse("exec", 0, &why, "it is a path within `chroot`");
        }
    }

    /// CPU time in percent of one CPU: `150%`, or `1.5` CPUs.
    fn cpu_max(&mut self) -> Option<u32> {
        let text = self.values.text("cpu_max").trim().to_owned();
        if text.is_empty() {
            return None;
        }
        let percent = match text.strip_suffix('%') {
            Some(number) => number.trim().parse().ok(),
            None => cpus(&text),
        };
        let percent = percent.filter(|percent| (1..=CPU_LIMIT).contains(percent));
        match percent {
            Some(percent) => self.values.replace("cpu_max", Value::Text(format!("{percent}%"))),
            None => {
                let why = format!(
                    "must be a percentage of one CPU such as \"150%\", or a number of CPUs such as \"1.5\", but not {}",
                    shown_text(&text)
                );
                self.refuse("cpu_max", 0, &why, "");
            }
        }
        percent
    }
}

/// A number of CPUs with at most two decimals, in percent.
fn cpus(text: &str) -> Option<u32> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || part.len() > 2 || !digits(whole) || !digits(part) {
        return None;
    }
    let part: u32 = format!("{part:0<2}").parse().ok()?;
    whole.parse::<u32>().ok()?.checked_mul(100)?.checked_add(part)
}

#[cfg(test)]
mod tests {
    use super::cpus;

    #[test]
    fn cpus_are_counted_in_percent() {
        for (text, expected) in [
            ("2", Some(200)),
            ("1.5", Some(150)),
            ("0.05", Some(5)),
            ("3.", Some(300)),
            ("", None),
            (".5", None),
            ("1.505", None),
            ("-1", None),
            ("+1", None),
            ("1e2", None),
            ("99999999999", None),
            ("4294967295", None),
        ] {
            assert_eq!(cpus(text), expected, "{text:?}");
        }
    }
}
