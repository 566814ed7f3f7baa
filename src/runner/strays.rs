//! Processes that scripts leave: named in the log, and ended, now or when the runner ends.

use super::output::Errors;
use crate::logging::escape;
use crate::pipe::frame::level;
use crate::sys::process_state::{self, members};
use crate::sys::signals::{self, Signals};
use crate::sys::{clock, poll, process};
use std::os::fd::AsFd;
use std::time::Duration;

/// More than this are counted only.
const NAMED: usize = 10;

/// Time for what is left to end by itself when it is asked to, and to end when it is killed.
const GRACE: Duration = Duration::from_secs(1);

/// A script has exited, and something lives on in its process group.
pub(super) fn of_script(group: i32, kills: bool, errors: &Errors, out: &mut Vec<u8>) {
    // Before they are killed, or they would have no names any more.
    let left = members(|of, _| of == group);
    if kills {
        // The group exists, so its number cannot be another's.
        let _ = process::signal_group(group, signals::KILL);
    }
    let what = if kills {
        ", which was killed"
    } else {
        ", which lives on"
    };
    for member in left.iter().take(NAMED) {
        let command = escape::cut(&member.command, 128);
        let text = format!("it left process {} ({command}){what}", member.pid);
        errors.say(level::INFO, &text, out);
    }
    if left.len() > NAMED {
        let more = left.len() - NAMED;
        errors.say(level::INFO, &format!("it left {more} more processes{what}"), out);
    }
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
