//! Processes that scripts leave: named in the log, and ended, now or when the runner ends.

use super::output::Errors;
use crate::logging::escape;
use crate::pipe::frame::level;
use crate::sys::process_state::{self, Member, members};
use crate::sys::signals::{self, Signals};
use crate::sys::{clock, poll, process};
use std::os::fd::AsFd;
use std::time::Duration;

/// More than this are counted only.
const NAMED: usize = 10;

/// Time for what is left to end by itself when it is asked to, and to end when it is killed.
const GRACE: Duration = Duration::from_secs(1);

/// What a script that lives has started and that has left its group, but not the session, which is ours.
pub(super) fn outside(script: i32) -> Vec<Member> {
    let session = own_pid();
    let all = members(|_, of| of == session);
    let mut outside = process_state::descendants(script, all);
    outside.retain(|member| member.group != script);
    outside
}

/// A script has exited, and something lives on in its process group, or may live on of what was seen `outside` of it.
/// Returns what was killed.
pub(super) fn of_script(
    group: i32,
    outside: &[Member],
    kills: bool,
    errors: &Errors,
    out: &mut Vec<u8>,
) -> Vec<Member> {
    // Before they are killed, or they would have no names any more.
    let mut left = members(|of, _| of == group);
    left.extend(outside.iter().filter(|seen| seen.is_still_there()).cloned());
    if kills {
        // If the group exists, its number cannot be another's.
        let _ = process::signal_group(group, signals::KILL);
        for member in left.iter().filter(|member| member.group != group) {
            let _ = process::signal(member.pid, signals::KILL);
        }
    }
    name(&left, kills, |text| errors.say(level::INFO, text, out));
    left.retain(|_| kills);
    left
}

/// Says of each of them that a script left it.
fn name(left: &[Member], killed: bool, mut say: impl FnMut(&str)) {
    let what = if killed {
        ", which was killed"
    } else {
        ", which lives on"
    };
    for member in left.iter().take(NAMED) {
        let command = escape::cut(&member.command, 128);
        say(&format!("it left process {} ({command}){what}", member.pid));
    }
    if left.len() > NAMED {
        let more = left.len() - NAMED;
        say(&format!("it left {more} more processes{what}"));
    }
}

/// We lead our session, which scripts and what they start are in, unless they leave it.
fn own_pid() -> i32 {
    std::process::id().cast_signed()
}

/// An orphan outside the groups of scripts.
#[derive(Debug)]
struct Orphan {
    pid: i32,
    /// Scripts that still run and may have started it.
    owners: Vec<i32>,
}

/// Finds what scripts have left outside their groups. It became our child when its parent ended, and nothing says whose
/// it was: a script that runs may have it of a child that has ended. So it is left alone as long as one does that ran
/// when it was first seen.
#[derive(Debug, Default)]
pub(super) struct Orphans {
    seen: Vec<Orphan>,
    /// Was sent SIGKILL, which takes a moment.
    killed: Vec<i32>,
}

impl Orphans {
    /// A child of ours was reaped.
    pub(super) fn reaped(&mut self, pid: i32) {
        self.seen.retain(|orphan| orphan.pid != pid);
        self.killed.retain(|killed| *killed != pid);
        for orphan in &mut self.seen {
            orphan.owners.retain(|owner| *owner != pid);
        }
    }

    /// These were killed elsewhere.
    pub(super) fn note_killed(&mut self, killed: &[Member]) {
        self.killed.extend(killed.iter().map(|member| member.pid));
    }

    /// A script has ended: kills what it must have left, of these `children`, while the scripts `running` run. Returns
    /// what was killed that only this script can have started, and what another may have.
    pub(super) fn kill(&mut self, children: &[i32], running: &[i32]) -> (Vec<Member>, Vec<Member>) {
        let session = own_pid();
        let is_loose = |group: i32, of: i32| of == session && !running.contains(&group);
        let (mut certain, mut others) = (Vec::new(), Vec::new());
        for pid in children.iter().filter(|pid| !running.contains(pid)) {
            if self.killed.contains(pid) {
                continue;
            }
            let Some(member) = process_state::member(*pid, is_loose) else {
                continue;
            };
            let known = self.seen.iter().find(|orphan| orphan.pid == *pid);
            let (is_new, is_owned) =
                known.map_or((true, !running.is_empty()), |orphan| (false, !orphan.owners.is_empty()));
            if is_owned {
                if is_new {
                    let (pid, owners) = (*pid, running.to_vec());
                    self.seen.push(Orphan { pid, owners });
                }
                continue;
            }
            let all = members(|_, of| of == session);
            // Those who have ended meanwhile are reaped by others than us, if their parents live.
            self.killed
                .retain(|killed| all.iter().any(|member| member.pid == *killed));
            let mut left = process_state::descendants(*pid, all);
            left.push(member);
            for member in &left {
                let _ = process::signal(member.pid, signals::KILL);
            }
            self.note_killed(&left);
            if is_new { &mut certain } else { &mut others }.extend(left);
        }
        (certain, others)
    }
}

/// Names what was killed.
pub(super) fn name_killed(left: &[Member], say: impl FnMut(&str)) {
    name(left, true, say);
}

/// Ends all descendants of this process: they become its children as soon as their parents end. `gently`: they are
/// asked first.
pub(super) fn end_all(signals: &mut Signals, gently: bool) {
    let steps: &[i32] = if gently {
        &[signals::TERM, signals::KILL]
    } else {
        &[signals::KILL]
    };
    for number in steps {
        let until = clock::now() + GRACE;
        loop {
            let children = process_state::children();
            if children.is_empty() {
                return;
            }
            for child in children {
                // Not reaped, so the number is still its own. Scripts lead groups; members of others are signalled alone.
                let _ = process::signal(child, *number);
                let _ = process::signal_group(child, *number);
            }
            let left = until.saturating_duration_since(clock::now());
            if left.is_zero() || poll::wait(&[(signals.as_fd(), false)], Some(left)).is_err() {
                break;
            }
            while let Ok(Some(_)) = signals.arrived() {}
            while let Ok(Some(pid)) = process::ended_child() {
                let _ = process::reap(pid);
            }
        }
    }
}
