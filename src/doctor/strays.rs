//! Processes that a trial leaves: they become children of this process as soon as their parents end, and are killed.
//!
//! Never here: the script itself, which `trial.rs` kills and reaps first.

use crate::sys::process_state::children;
use crate::sys::{clock, poll, process, signals};
use std::io;
use std::time::Duration;

/// Time for what is left to end when it is killed.
const GRACE: Duration = Duration::from_secs(1);
/// How often it is looked whether it has ended.
const PAUSE: Duration = Duration::from_millis(2);

/// Finds what a trial leaves.
#[derive(Debug)]
pub(super) struct Strays {
    /// Children that whoever became us by exec has started: not ours to end.
    earlier: Vec<i32>,
}

impl Strays {
    /// Call before the trial begins.
    pub(super) fn new() -> io::Result<Self> {
        process::become_subreaper()?;
        Ok(Self { earlier: children() })
    }

    /// Kills and reaps all descendants that the trial has left. Returns those that are there nonetheless.
    pub(super) fn end_all(&self) -> io::Result<Vec<i32>> {
        let until = clock::now() + GRACE;
        loop {
            while let Some(pid) = process::ended_child()? {
                process::reap(pid)?;
            }
            let mut left = children();
            left.retain(|pid| !self.earlier.contains(pid));
            let now = clock::now();
            if left.is_empty() || now >= until {
                return Ok(left);
            }
            for pid in left {
                // Not reaped, so the number is still its own. One that may not be killed is among those returned.
                let _ = process::signal(pid, signals::KILL);
                let _ = process::signal_group(pid, signals::KILL);
            }
            poll::wait(&[], Some(PAUSE.min(until - now)))?;
        }
    }
}
