//! The runner: a worker of ours that starts a CGI script for each request of its pool, many at once.
//!
//! To the front it is a pipe worker that pulls (docs/protocols/pipe.md). One loop waits for requests, for the front, for
//! what scripts print and for their ends; nothing in it blocks. It is a shell of its own, as it executes what others wrote.
//! Never here: HTTP, which script a path names, deadlines of requests: the front says when one has passed.

mod channel;
mod diagnose;
mod launch;
mod output;
mod request;
mod run;
mod start;
mod strays;

use crate::base::exit::Exit;
use crate::config::{OnAbort, RUNNER_VARIABLE, RunnerOrder, Strays};
use crate::pipe::{WorkerConn, frame};
use crate::sys::board::Board;
use crate::sys::process;
use crate::sys::signals::{self, Signals};
use crate::sys::{clock, fd, process_state, socket, title};
use launch::{Launched, Launchers};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use output::{Errors, Response};
use request::Request;
use run::{Abort, Pipe, Run};
use start::Common;
use std::collections::HashMap;
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use strays::Orphans;

/// Bytes read from one pipe in one turn.
const TURN: usize = 64 * 1024;

/// While so much waits for the front, no script is read: the front is slower than all of them.
const CROWDED: usize = 4 * 1024 * 1024;

const QUEUE: Token = Token(0);
const CHANNEL: Token = Token(1);
const SIGNALS: Token = Token(2);
const LAUNCHED: Token = Token(3);
/// Two tokens per slot follow: standard output, standard error.
const FIRST: usize = 4;

/// Runs the runner: the hidden role in which the arbiter starts this program.
#[must_use]
pub fn main() -> ExitCode {
    title::set_name("rgunicorn-run");
    match Runner::new().and_then(|mut runner| runner.run()) {
        Ok(()) => Exit::Ok.into(),
        Err(error) => {
            // Descriptor 2 leads to the error log.
            let _ = writeln!(io::stderr(), "the runner of CGI scripts cannot go on: {error}");
            Exit::Internal.into()
        }
    }
}

/// The longest sleep: each turn of the loop shows the front that this process lives.
const BEAT: Duration = Duration::from_secs(1);

/// A request whose script is being started.
#[derive(Clone, Copy, Debug)]
struct Starting {
    id: u16,
    /// Nobody waits for it any more; whether that is since its time is over.
    abort: Option<bool>,
}

/// The loop and all it owns.
struct Runner {
    poll: Poll,
    signals: Signals,
    channel: OwnedFd,
    queue: OwnedFd,
    board: Board,
    conn: WorkerConn,
    /// Bytes from the front that were not understood yet.
    input: Vec<u8>,
    /// Frames for the front; those before `sent` have left.
    out: Vec<u8>,
    sent: usize,
    /// The channel takes more.
    writable: bool,
    /// The queue may have a message.
    has_requests: bool,
    scripts: Arc<Common>,
    launchers: Launchers,
    strays: Strays,
    on_abort: OnAbort,
    runs: Vec<Option<Run>>,
    free: Vec<usize>,
    /// What is being started, by its slot.
    starting: HashMap<usize, Starting>,
    /// What scripts have left outside their groups.
    orphans: Orphans,
    /// Slots by the pids of their scripts.
    by_pid: HashMap<i32, usize>,
    /// A child has ended, and could not be told from one that is being started.
    reaps_again: bool,
    /// Slots with more to read than one turn allows.
    again: Vec<usize>,
    /// It takes no more requests.
    draining: bool,
    /// The front is gone.
    abandoned: bool,
    scratch: Vec<u8>,
    now: Instant,
}

impl Runner {
    fn new() -> io::Result<Self> {
        let invalid = |text: &str| io::Error::new(ErrorKind::InvalidInput, text.to_owned());
        let order = std::env::var(RUNNER_VARIABLE).ok();
        let order = order.and_then(|text| RunnerOrder::decode(&text));
        let order = order.ok_or_else(|| invalid("it was not started by rgunicorn"))?;
        let (channel, queue, board) = (fd::adopt(3)?, fd::adopt(4)?, fd::adopt(5)?);
        let signals = Signals::take_over()?;
        // The end of the channel says that the arbiter is gone, and then there are scripts to end.
        process::outlive_parent()?;
        // Scripts have our user. What passes through here, requests of others among it, is none of their business.
        process::close_to_others()?;
        // What scripts forget becomes ours when they end, and is ours to reap.
        process::become_subreaper()?;
        let scripts = Arc::new(Common::new(&order)?);
        let poll = Poll::new()?;
        let registry = poll.registry();
        let launchers = Launchers::new(&scripts, order.slots as usize, Waker::new(registry, LAUNCHED)?)?;
        registry.register(&mut SourceFd(&queue.as_raw_fd()), QUEUE, Interest::READABLE)?;
        registry.register(&mut SourceFd(&channel.as_raw_fd()), CHANNEL, Interest::READABLE)?;
        let signal_number = signals.as_fd().as_raw_fd();
        registry.register(&mut SourceFd(&signal_number), SIGNALS, Interest::READABLE)?;
        let slots = order.slots as usize;
        let mut out = Vec::new();
        let flags = frame::ready::PULL | frame::ready::FLOW | frame::ready::ABORTS;
        WorkerConn::ready(u16::try_from(slots).unwrap_or(u16::MAX), flags, &mut out);
        Ok(Self {
            poll,
            signals,
            channel,
            queue,
            board: Board::map(board)?,
            conn: WorkerConn::new(0),
            input: Vec::new(),
            out,
            sent: 0,
            writable: true,
            has_requests: true,
            scripts,
            launchers,
            strays: order.scripts.strays,
            on_abort: order.scripts.on_abort,
            runs: (0..slots).map(|_| None).collect(),
            free: (0..slots).rev().collect(),
            starting: HashMap::new(),
            orphans: Orphans::default(),
            by_pid: HashMap::new(),
            reaps_again: false,
            again: Vec::new(),
            draining: false,
            abandoned: false,
            scratch: vec![0; socket::PACKET_LIMIT],
            now: clock::now(),
        })
    }

    /// Turns until it is told to leave and has nothing more to do, or the front is gone.
    fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(256);
        loop {
            self.now = clock::now();
            self.board.count_beat();
            self.climb();
            self.take_requests()?;
            self.flush()?;
            if self.abandoned {
                self.end_everything();
                return Ok(());
            }
            if self.draining && self.free.len() == self.runs.len() && self.out.is_empty() {
                self.end_everything();
                return Ok(());
            }
            match self.poll.poll(&mut events, Some(self.wait())) {
                Err(error) if error.kind() == ErrorKind::Interrupted => events.clear(),
                result => result?,
            }
            self.now = clock::now();
            let mut touched = std::mem::take(&mut self.again);
            for event in &events {
                self.event(event, &mut touched)?;
            }
            touched.sort_unstable();
            touched.dedup();
            for slot in touched.drain(..) {
                self.pump(slot);
            }
        }
    }

    /// How long it may sleep: until something is due, and no longer than from one beat to the next.
    fn wait(&self) -> Duration {
        if !self.again.is_empty() && !self.is_crowded() {
            return Duration::ZERO;
        }
        let runs = self.runs.iter().flatten();
        let next = runs.filter_map(Run::deadline).min();
        next.map_or(BEAT, |next| next.saturating_duration_since(clock::now()).min(BEAT))
    }

    fn event(&mut self, event: &mio::event::Event, touched: &mut Vec<usize>) -> io::Result<()> {
        match event.token() {
            QUEUE => self.has_requests = true,
            CHANNEL => {
                if event.is_writable() && !std::mem::replace(&mut self.writable, true) {
                    self.watch_channel(Interest::READABLE)?;
                }
                if event.is_readable() || event.is_read_closed() || event.is_error() {
                    self.read_channel(touched)?;
                }
            }
            SIGNALS => self.take_signals(touched)?,
            LAUNCHED => {
                self.take_launched(touched);
                if self.reaps_again {
                    self.reap(touched)?;
                }
            }
            Token(number) => {
                let place = number.saturating_sub(FIRST);
                if let Some(run) = self.runs.get_mut(place / 2).and_then(Option::as_mut) {
                    let pipe = if place.is_multiple_of(2) {
                        &mut run.stdout
                    } else {
                        &mut run.stderr
                    };
                    pipe.wake();
                    touched.push(place / 2);
                }
            }
        }
        Ok(())
    }

    fn slot_of(&self, id: u16) -> Option<usize> {
        let has = |run: &Option<Run>| run.as_ref().is_some_and(|run| run.id == id);
        self.runs.iter().position(has)
    }

    /// The front wants no answer to a request any more.
    fn abort_request(&mut self, id: u16, overdue: bool, touched: &mut Vec<usize>) {
        if let Some(slot) = self.slot_of(id) {
            self.abort(slot, overdue);
            touched.push(slot);
        } else if let Some(starting) = self.starting.values_mut().find(|starting| starting.id == id) {
            starting.abort = Some(overdue | starting.abort.unwrap_or(false));
        }
    }

    fn abort(&mut self, slot: usize, overdue: bool) {
        let Some(run) = self.runs.get_mut(slot).and_then(Option::as_mut) else {
            return;
        };
        let by_signal = overdue || self.on_abort != OnAbort::Close;
        run.give_up(self.now, by_signal);
        let what = if by_signal {
            "it is sent SIGTERM"
        } else {
            "its output is closed"
        };
        let why = if overdue {
            "its time is over"
        } else {
            "its client has left"
        };
        run.errors
            .say(frame::level::DEBUG, &format!("{why}: {what}"), &mut self.out);
    }

    /// Reads signals: of children that ended, and of those who want this process to leave.
    fn take_signals(&mut self, touched: &mut Vec<usize>) -> io::Result<()> {
        while let Some(number) = self.signals.arrived()? {
            match number {
                signals::CHLD => self.reap(touched)?,
                signals::WINCH | signals::TTIN | signals::TTOU => {}
                _ => self.draining = true,
            }
        }
        Ok(())
    }

    /// Reaps every child that has ended: scripts, and what they left.
    fn reap(&mut self, touched: &mut Vec<usize>) -> io::Result<()> {
        self.reaps_again = false;
        while let Some(pid) = process::ended_child()? {
            if !self.by_pid.contains_key(&pid) {
                // In this order: it is being started until it can be taken.
                let is_starting = self.launchers.is_starting(pid);
                self.take_launched(touched);
                if is_starting && !self.by_pid.contains_key(&pid) {
                    // It wakes us when it has been.
                    self.reaps_again = true;
                    return Ok(());
                }
            }
            // One that could not be executed is reaped by whoever tried.
            let Ok(end) = process::reap(pid) else { continue };
            self.orphans.reaped(pid);
            let Some(slot) = self.by_pid.remove(&pid) else { continue };
            let Some(run) = self.runs.get_mut(slot).and_then(Option::as_mut) else {
                continue;
            };
            run.end = Some(end);
            // What it wrote before its end is in the pipes.
            run.stdout.wake();
            run.stderr.wake();
            let is_given_up = matches!(run.abort, Some(Abort::Termed { .. } | Abort::Killed { .. }));
            if process::is_group_alive(pid) || !run.outside.is_empty() {
                let kills = is_given_up || self.strays == Strays::Kill;
                let killed = strays::of_script(pid, &run.outside, kills, &run.errors, &mut self.out);
                self.orphans.note_killed(&killed);
            }
            touched.push(slot);
            if self.strays == Strays::Kill {
                self.kill_orphans(slot, touched);
            }
        }
        Ok(())
    }

    /// The script of this slot has ended: kills what it has left outside its group.
    fn kill_orphans(&mut self, slot: usize, touched: &mut Vec<usize>) {
        let children = process_state::children_of_first_thread();
        if children.is_empty() {
            return;
        }
        // In this order: those that are not being started any more can be taken.
        let mut running = self.launchers.starting();
        self.take_launched(touched);
        running.extend(self.by_pid.keys());
        let (certain, others) = self.orphans.kill(&children, &running);
        if let Some(run) = self.runs.get(slot).and_then(Option::as_ref) {
            strays::name_killed(&certain, |text| run.errors.say(frame::level::INFO, text, &mut self.out));
        }
        strays::name_killed(&others, |text| {
            let text = format!("one of the scripts that have ended: {text}");
            WorkerConn::log(0, frame::level::INFO, text.as_bytes(), &mut self.out);
        });
    }

    fn is_crowded(&self) -> bool {
        self.out.len() - self.sent > CROWDED
    }

    /// Reads what a script has printed, within this turn's budget, and ends it if that was all.
    fn pump(&mut self, slot: usize) {
        if self.is_crowded() {
            self.again.push(slot);
            return;
        }
        let Some(run) = self.runs.get_mut(slot).and_then(Option::as_mut) else {
            return;
        };
        let mut budget = TURN;
        while run.stderr.may_read() && budget > 0 {
            let most = self.scratch.len().min(budget);
            let count = run.stderr.read(self.scratch.get_mut(..most).unwrap_or_default());
            budget -= count;
            let data = self.scratch.get(..count).unwrap_or_default();
            run.errors.take(data, &mut self.out);
        }
        let mut left = TURN;
        while run.stdout.may_read() && left > 0 {
            // Of a script that nobody waits for everything is read, so that it does not wait either.
            let room = if run.abort.is_some() {
                usize::MAX
            } else {
                run.response.room()
            };
            let most = self.scratch.len().min(left).min(room);
            if most == 0 {
                break;
            }
            let count = run.stdout.read(self.scratch.get_mut(..most).unwrap_or_default());
            left -= count;
            if run.abort.is_none() {
                let data = self.scratch.get(..count).unwrap_or_default();
                run.response.take(self.now, data, &mut self.out);
            }
        }
        if run.is_over() {
            self.finish(slot);
        } else if budget == 0 || left == 0 {
            self.again.push(slot);
        }
    }

    /// Answers for a script of which nothing more will come, and frees its slot.
    fn finish(&mut self, slot: usize) {
        let Some(mut run) = self.runs.get_mut(slot).and_then(Option::take) else {
            return;
        };
        run.errors.end(&mut self.out);
        if run.id == 0 {
            // It was answered while it went on.
        } else if run.abort.is_some() {
            WorkerConn::abort(run.id, &mut self.out);
        } else {
            run.answer(&mut self.out);
        }
        self.vacate(slot);
    }

    fn vacate(&mut self, slot: usize) {
        self.board.set_running(slot, 0);
        self.free.push(slot);
        self.has_requests = true;
    }

    /// What time brings: responses that were held, answers for scripts that go on in vain, and the next step of ladders.
    fn climb(&mut self) {
        let now = self.now;
        for slot in 0..self.runs.len() {
            let Some(run) = self.runs.get_mut(slot).and_then(Option::as_mut) else {
                continue;
            };
            if run.response.deadline().is_some_and(|until| until <= now) {
                run.response.release(&mut self.out);
            }
            if run.answer_early(now, &mut self.out) {
                // The slot stays taken, but not by a request of the front's.
                self.board.set_running(slot, u64::from(run.pid.unsigned_abs()) << 32);
            }
            if !run.climb(now) {
                let text = "it does not end, though it was sent SIGKILL";
                run.errors.say(frame::level::ERROR, text, &mut self.out);
                self.by_pid.remove(&run.pid);
                self.finish(slot);
            }
        }
    }

    /// Takes requests from the queue while there are slots for them.
    fn take_requests(&mut self) -> io::Result<()> {
        let mut descriptors = Vec::new();
        while self.has_requests && !self.draining && !self.is_crowded() {
            let Some(slot) = self.free.last().copied() else {
                return Ok(());
            };
            descriptors.clear();
            match socket::try_receive_packet(&self.queue, &mut self.scratch, &mut descriptors) {
                Ok(0) => self.draining = true,
                Ok(count) => {
                    let message = self.scratch.get(..count).unwrap_or_default();
                    // The cell comes first, so that a request is never taken and in no cell.
                    if let Ok(Some(header)) = frame::Header::decode(message, frame::PAYLOAD_LIMIT) {
                        self.board.set_running(slot, u64::from(header.id));
                    }
                    match Request::read(message, descriptors.pop()) {
                        Ok(request) => self.start(slot, request),
                        Err((Some(id), error)) => {
                            let why = format!("the request could not be read: {error}");
                            WorkerConn::give_up(id, 500, why.as_bytes(), &mut self.out);
                            self.board.set_running(slot, 0);
                        }
                        Err((None, error)) => return Err(error),
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.has_requests = false,
                // Its descriptor found no number here. The request is in no cell, so the front sends it again.
                Err(error) if error.kind() == ErrorKind::InvalidData => {
                    let text = b"a request could not be received: too many open files";
                    WorkerConn::log(0, frame::level::ERROR, text, &mut self.out);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn start(&mut self, slot: usize, request: Request) {
        self.free.pop();
        let id = request.id;
        self.starting.insert(slot, Starting { id, abort: None });
        self.launchers.start(slot, request);
    }

    /// Takes over what the launchers have started.
    fn take_launched(&mut self, touched: &mut Vec<usize>) {
        while let Some(launched) = self.launchers.take() {
            let slot = launched.slot;
            let abort = self.starting.remove(&slot).and_then(|starting| starting.abort);
            self.launched(launched, abort.is_some());
            // What it prints and its end come as events.
            if let Some(overdue) = abort {
                self.abort(slot, overdue);
                touched.push(slot);
            }
        }
    }

    fn launched(&mut self, launched: Launched, is_aborted: bool) {
        let Launched { slot, request, outcome } = launched;
        let script = self.scripts.path(&request).unwrap_or(b"?").to_vec();
        let started = match outcome {
            Ok(started) => started,
            Err(_) if is_aborted => {
                WorkerConn::abort(request.id, &mut self.out);
                self.vacate(slot);
                return;
            }
            Err((status, why)) => {
                let text = [&script, &b": "[..], why.as_bytes()].concat();
                WorkerConn::give_up(request.id, status, &text, &mut self.out);
                self.vacate(slot);
                return;
            }
        };
        let pid = started.pid;
        self.board
            .set_running(slot, u64::from(request.id) | u64::from(pid.unsigned_abs()) << 32);
        let name = script.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let is_nph = name.starts_with(b"nph-");
        let method = request.variable(b"REQUEST_METHOD").unwrap_or_default();
        let is_head = method == b"HEAD";
        let is_mortal = match self.on_abort {
            OnAbort::Auto => [&b"GET"[..], b"HEAD", b"OPTIONS"].contains(&method),
            OnAbort::Close | OnAbort::Term => true,
            OnAbort::Ignore => false,
        };
        let registry = self.poll.registry();
        for (number, end) in [(0, &started.stdout), (1, &started.stderr)] {
            let token = Token(FIRST + 2 * slot + number);
            if let Err(error) = registry.register(&mut SourceFd(&end.as_raw_fd()), token, Interest::READABLE) {
                // Then its end wakes us, and what is in the pipe by then is all that is read of it.
                let text = format!("cannot watch the output of a script: {error}");
                WorkerConn::log(request.id, frame::level::ERROR, text.as_bytes(), &mut self.out);
            }
        }
        let prefix = [&script, format!("[{pid}]: ").as_bytes()].concat();
        self.by_pid.insert(pid, slot);
        let run = Run {
            id: request.id,
            pid,
            stdout: Pipe::new(started.stdout),
            stderr: Pipe::new(started.stderr),
            response: Response::new(request.id, pid, is_head, is_nph),
            errors: Errors::new(request.id, prefix),
            script,
            end: None,
            abort: None,
            is_mortal,
            outside: Vec::new(),
        };
        if let Some(place) = self.runs.get_mut(slot) {
            *place = Some(run);
        }
    }

    /// Ends every process that any script has left, and those that still run.
    fn end_everything(&mut self) {
        strays::end_all(&mut self.signals, self.strays == Strays::Keep && !self.abandoned);
    }
}
