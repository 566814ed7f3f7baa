//! One script that runs: its pipes, its end and what is answered then, and the ladder of signals for one that nobody
//! waits for.

use super::output::{Errors, Response};
use crate::pipe::{WorkerConn, frame};
use crate::sys::process::{self, End};
use crate::sys::process_state::Member;
use crate::sys::signals;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Time between SIGTERM and SIGKILL.
const TERM_GRACE: Duration = Duration::from_secs(2);

/// Time after SIGKILL in which a process ends, unless the kernel itself holds it.
const KILL_GRACE: Duration = Duration::from_secs(2);

/// A script whose output cannot be used is answered for at its end, since how it ended is worth a word; or, if it goes
/// on, after this.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Time for such a script to end by itself once it was answered for.
const BAD_GRACE: Duration = Duration::from_secs(2);

/// The read end of a pipe that a script writes to.
#[derive(Debug)]
pub(super) struct Pipe {
    file: Option<File>,
    /// There may be something to read.
    readable: bool,
}

impl Pipe {
    pub(super) fn new(end: OwnedFd) -> Self {
        Self {
            file: Some(end.into()),
            readable: true,
        }
    }

    /// The poll says that there is something.
    pub(super) fn wake(&mut self) {
        self.readable = true;
    }

    pub(super) fn close(&mut self) {
        self.file = None;
    }

    /// True if reading it now may give something.
    pub(super) fn may_read(&self) -> bool {
        self.readable && self.file.is_some()
    }

    /// Reads once. 0 = nothing is there now, or ever again; which of them `is_closed` says.
    pub(super) fn read(&mut self, into: &mut [u8]) -> usize {
        let Some(file) = &mut self.file else { return 0 };
        loop {
            match file.read(into) {
                Ok(0) => break,
                Ok(count) => return count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.readable = false;
                    return 0;
                }
                Err(_) => break,
            }
        }
        self.file = None;
        0
    }
}

/// What was asked of a script that nobody waits for any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Abort {
    /// Its output is not read any more.
    Closed,
    /// It was answered for, as its output cannot be used. It gets SIGTERM then.
    Answered { until: Instant },
    /// It was sent SIGTERM, and gets SIGKILL then.
    Termed { until: Instant },
    /// It was sent SIGKILL, and is left to itself then.
    Killed { until: Instant },
}

/// One script that runs.
#[derive(Debug)]
pub(super) struct Run {
    /// Its request; 0 once that was answered while it went on.
    pub(super) id: u16,
    /// Its pid, which is its process group, too.
    pub(super) pid: i32,
    pub(super) stdout: Pipe,
    pub(super) stderr: Pipe,
    pub(super) response: Response,
    pub(super) errors: Errors,
    /// Its file.
    pub(super) script: Vec<u8>,
    /// How it ended.
    pub(super) end: Option<End>,
    pub(super) abort: Option<Abort>,
    /// It may be ended for want of anybody who waits for it (`on_abort`).
    pub(super) is_mortal: bool,
    /// What it had outside its group when it was signalled.
    pub(super) outside: Vec<Member>,
}

impl Run {
    /// True once nothing more will come of it.
    pub(super) fn is_over(&self) -> bool {
        let drained = !self.stdout.may_read() && !self.stderr.may_read();
        self.end.is_some() && (self.abort.is_some() || drained)
    }

    /// When something is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let ladder = match self.abort {
            Some(Abort::Answered { until } | Abort::Termed { until } | Abort::Killed { until }) => Some(until),
            Some(Abort::Closed) => None,
            None => self.patience(),
        };
        ladder.into_iter().chain(self.response.deadline()).min()
    }

    /// How long its end is waited for though its output cannot be used.
    fn patience(&self) -> Option<Instant> {
        let waits = self.is_mortal && self.end.is_none() && self.abort.is_none();
        let since = self.response.bad_since().filter(|_| waits);
        since.map(|since| since + LAST_WORDS)
    }

    /// Answers for a script that goes on though its output cannot be used. True if it did that now.
    pub(super) fn answer_early(&mut self, now: Instant, out: &mut Vec<u8>) -> bool {
        if self.patience().is_none_or(|until| until > now) {
            return false;
        }
        let why = self.response.fault().unwrap_or_default();
        let text = self.errors.about(&format!("{why}; it goes on, and is ended"));
        WorkerConn::give_up(self.id, 502, &text, out);
        self.id = 0;
        let until = now + BAD_GRACE;
        self.abort = Some(Abort::Answered { until });
        true
    }

    /// What its file has to do with an end without a word, with the codes of shells and env(1) for what they cannot run.
    pub(super) fn hint(&self) -> Option<&'static str> {
        let is_missing = matches!(self.end, Some(End::Code(126 | 127)));
        let script = Path::new(OsStr::from_bytes(&self.script));
        (is_missing && self.response.is_silent())
            .then(|| super::diagnose::first_line_hint(script))
            .flatten()
    }

    /// Completes its response, or says why there is none.
    pub(super) fn answer(&mut self, out: &mut Vec<u8>) {
        let words = match self.end {
            Some(End::Signal { number, core }) => {
                let core = if core { " (core dumped)" } else { "" };
                Some(format!("it was killed by {}{core}", signals::name(number)))
            }
            Some(End::Code(code)) if code != 0 => Some(format!("it exited with code {code}")),
            Some(End::Code(_)) | None => None,
        };
        let is_killed = matches!(self.end, Some(End::Signal { .. }));
        let fault = match words {
            Some(words) if is_killed => {
                let place = if self.response.has_head() {
                    " in the middle of its response"
                } else {
                    " before its header was complete"
                };
                Some(words + place)
            }
            Some(words) if self.response.has_head() => {
                self.errors.say(frame::level::INFO, &words, out);
                None
            }
            Some(words) if self.response.is_silent() => Some(words + " and printed nothing"),
            Some(words) => {
                let what = self.response.fault().map(str::to_owned);
                Some(what.map_or_else(
                    || words.clone() + " before its header was complete",
                    |what| format!("{words}; {what}"),
                ))
            }
            None => None,
        };
        let fault = match fault {
            Some(fault) => Err(fault),
            None => self.response.complete(out),
        };
        if let Err(mut why) = fault {
            if let Some(hint) = self.hint() {
                why.push_str("; ");
                why.push_str(hint);
            }
            WorkerConn::give_up(self.id, 502, &self.errors.about(&why), out);
        }
    }

    /// Nobody waits for it: closes its output, or ends it and its group.
    pub(super) fn give_up(&mut self, now: Instant, by_signal: bool) {
        if self.end.is_some() {
            // Only its output was left.
            self.abort = Some(Abort::Closed);
            return;
        }
        match self.abort {
            None | Some(Abort::Closed | Abort::Answered { .. }) if by_signal => {
                self.signal(signals::TERM);
                let until = now + TERM_GRACE;
                self.abort = Some(Abort::Termed { until });
            }
            None => {
                self.stdout.close();
                self.abort = Some(Abort::Closed);
            }
            Some(_) => {}
        }
    }

    /// Climbs the ladder. False if it is at its top: the kernel holds the process.
    pub(super) fn climb(&mut self, now: Instant) -> bool {
        match self.abort {
            Some(Abort::Answered { until }) if until <= now => {
                self.give_up(now, true);
                true
            }
            Some(Abort::Termed { until }) if until <= now => {
                self.signal(signals::KILL);
                let until = now + KILL_GRACE;
                self.abort = Some(Abort::Killed { until });
                true
            }
            Some(Abort::Killed { until }) => until > now,
            _ => true,
        }
    }

    /// Signals its process group, and its descendants outside of it. Its leader was not reaped, so the group cannot be
    /// another's.
    fn signal(&mut self, number: i32) {
        // Looked for first: once the script has ended, nothing says that they were its own.
        self.outside.extend(super::strays::outside(self.pid));
        self.outside.sort_unstable_by_key(|member| member.pid);
        self.outside.dedup_by_key(|member| member.pid);
        // A script that changed its user is left to its own devices.
        let _ = process::signal_group(self.pid, number);
        for member in self.outside.iter().filter(|member| member.is_still_there()) {
            let _ = process::signal(member.pid, number);
        }
    }
}
