//! What comes in: messages of fronts, output of workers that are not ready, and the end of children.

use super::Arbiter;
use super::cgroups::memory_words;
use super::reap::{MEMORY_KILL, cause, level};
use super::spawn::{WorkerProcess, protocol_of};
use super::{facts, output};
use crate::base::ids::WorkerId;
use crate::base::level::Level;
use crate::base::units;
use crate::config::{Pool, Program};
use crate::control::{Protocol, Ready, ToArbiter, ToFront};
use crate::logging::{Logger, NONE, escape};
use crate::plan::arbiter::{Death, Input};
use crate::plan::generation::FrontId;
use crate::plan::worker::Why;
use crate::sys::process::{self, End};
use crate::sys::signals::KILL;
use crate::sys::{clock, poll, process_state};
use std::os::fd::AsFd;
use std::time::Duration;

/// A killed process that waits for a disk may take longer than this to end, but not us.
const LAST_LOOK: Duration = Duration::from_secs(1);

impl WorkerProcess {
    /// Logs what it has printed since.
    fn log_output(&mut self, log: &Logger) {
        let mut printed = std::mem::take(&mut self.printed);
        printed.read(&self.output, |line, is_cgi| self.log_line(log, line, is_cgi));
        self.printed = printed;
    }

    /// Logs a last line without an end.
    fn log_rest(&mut self, log: &Logger) {
        let mut printed = std::mem::take(&mut self.printed);
        printed.flush(|line, is_cgi| self.log_line(log, line, is_cgi));
        self.printed = printed;
    }

    fn log_line(&self, log: &Logger, line: &[u8], is_cgi: bool) {
        if self.is_raw {
            return log.app_output(self.pid, line);
        }
        let line = line.trim_ascii_end();
        if line.is_empty() {
            return;
        }
        let line = escape::cut(line, output::LINE);
        if is_cgi && self.ready.is_none() && self.protocol == Protocol::Auto {
            // Nobody has asked for this response: it shows that the program is a script.
            return log.debug(&self.context(), format_args!("Printed on trial: {line}"));
        }
        log.info(&self.context(), format_args!("{line}"));
    }
}

impl Arbiter {
    /// Takes everything a front said.
    pub(super) fn hear(&mut self, id: FrontId) {
        let Some(front) = self.fronts.get_mut(&id) else {
            return;
        };
        front.channel.flush();
        let (messages, error) = front.channel.receive();
        if let Some(error) = error {
            self.log
                .error(&NONE, format_args!("Front (pid:{}): {error}", front.pid));
            self.kill_front(id);
        }
        for message in messages {
            self.heard(id, message);
        }
    }

    fn heard(&mut self, id: FrontId, message: ToArbiter) {
        let input = match message {
            ToArbiter::Configured => Input::FrontConfigured(id),
            ToArbiter::Heartbeat => Input::FrontHeard(id),
            ToArbiter::Finished => {
                self.log.debug(&NONE, format_args!("The front has finished"));
                Input::FrontHeard(id)
            }
            ToArbiter::Refused { reason } => {
                self.log.error(&NONE, format_args!("The front cannot start: {reason}"));
                Input::FrontHeard(id)
            }
            ToArbiter::Prepared => Input::ChangePrepared(id),
            ToArbiter::Unprepared { reason } => {
                let line = format_args!("The front cannot use the new configuration: {reason}");
                self.log.error(&NONE, line);
                Input::ChangeRefused(id)
            }
            ToArbiter::PoolDrained { pool } => Input::PoolDrained { front: id, pool },
            ToArbiter::PoolUnused { pool } => Input::PoolUnused { front: id, pool },
            ToArbiter::WorkerReady { worker, ready } => {
                self.worker_is_ready(worker, ready);
                Input::WorkerReady(worker)
            }
            ToArbiter::Drained { worker } => Input::WorkerDrained(worker),
            ToArbiter::Overdue { worker } => {
                self.explain_overdue(worker);
                let ready = self.workers.get(&worker).and_then(|worker| worker.ready);
                if ready.is_some_and(|ready| ready.slots > 1) {
                    Input::WorkerOverdueAmongOthers(worker)
                } else {
                    Input::WorkerOverdue(worker)
                }
            }
            ToArbiter::Faulty { worker, reason } => {
                if let Some(process) = self.workers.get(&worker) {
                    let (context, pid) = (process.context(), process.pid);
                    self.log
                        .error(&context, format_args!("Worker (pid:{pid}) is replaced: {reason}"));
                }
                Input::WorkerFaulty(worker)
            }
            ToArbiter::Demand { pool, workers } => Input::Demand {
                front: id,
                pool,
                workers: usize::try_from(workers).unwrap_or(usize::MAX),
            },
            ToArbiter::Yielded { worker } => {
                if let Some(process) = self.workers.get(&worker) {
                    let text = format_args!("Worker (pid:{}) makes room for another pool", process.pid);
                    self.log.info(&process.context(), text);
                }
                Input::WorkerYielded(worker)
            }
            ToArbiter::CutBody { worker } => Input::WorkerCutBody(worker),
            ToArbiter::Served { worker } => Input::WorkerServed(worker),
            ToArbiter::Spent { worker } => {
                if let Some(process) = self.workers.get(&worker) {
                    let text = format_args!("Autorestarting worker after current request.");
                    self.log.info(&process.context(), text);
                }
                Input::WorkerSpent(worker)
            }
        };
        self.inputs.push_back(input);
    }

    /// Tells the front what an overdue worker is doing, before anything disturbs it. The front's line says the rest.
    fn explain_overdue(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get(&id) else {
            return;
        };
        let has_several = worker.ready.is_some_and(|ready| ready.slots > 1);
        let text = facts::doing(worker.pid, has_several);
        self.log
            .critical(&NONE, format_args!("WORKER TIMEOUT (pid:{})", worker.pid));
        self.tell_front_of(id, &ToFront::Facts { worker: id, text });
    }

    /// Sends a message without descriptors to the front of a worker's generation.
    pub(super) fn tell_front_of(&mut self, worker: WorkerId, message: &ToFront) {
        let Some(generation) = self.workers.get(&worker).map(|worker| worker.generation) else {
            return;
        };
        let mut fronts = self.fronts.values_mut();
        if let Some(front) = fronts.find(|front| front.generation == generation) {
            // Nothing is copied without descriptors, so nothing can fail.
            let _ = front.channel.send(message, &[]);
        }
    }

    /// The front reads its output from here on, and its pool's protocol is known.
    fn worker_is_ready(&mut self, id: WorkerId, ready: Ready) {
        self.read_output(id);
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        if worker.ready.is_some() {
            return;
        }
        worker.ready = Some(ready);
        worker.protocol = ready.protocol;
        let log = &self.log;
        worker.log_rest(log);
        log.debug(
            &worker.context(),
            format_args!("Worker is ready, slots={}", ready.slots),
        );
        let generation = self.generations.get_mut(&worker.generation);
        let pool = generation.and_then(|one| one.pools.get_mut(usize::from(worker.pool.0)));
        if let Some(pool) = pool.filter(|pool| pool.protocol == Protocol::Auto) {
            pool.protocol = ready.protocol;
            let spoken = match ready.protocol {
                Protocol::Pipe => "the pipe protocol",
                Protocol::FastCgi | Protocol::Auto => "FastCGI",
            };
            log.info(&NONE, format_args!("Found out that the app speaks {spoken}"));
        }
        self.hand_over_output(id);
    }

    /// Gives the read end of a ready worker's output to its front.
    pub(super) fn hand_over_output(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get(&id) else {
            return;
        };
        let mut fronts = self.fronts.values_mut();
        if let Some(front) = fronts.find(|front| front.generation == worker.generation) {
            let sent = front
                .channel
                .send(&ToFront::Output { worker: id }, &[worker.output.as_fd()]);
            if let Err(error) = sent {
                let line = format_args!("cannot hand over its output: {error}");
                self.log.error(&worker.context(), line);
            }
        }
    }

    /// Whether the arbiter reads what a worker prints: until it is ready, and after its front has gone.
    pub(super) fn is_read_by_us(&self, worker: &WorkerProcess) -> bool {
        let mut fronts = self.fronts.values();
        let has_reader = worker.ready.is_some() && fronts.any(|front| front.generation == worker.generation);
        !has_reader && !worker.printed.is_closed
    }

    /// Reads and logs what a worker printed.
    pub(super) fn read_output(&mut self, id: WorkerId) {
        let is_ours = self.workers.get(&id).is_some_and(|worker| self.is_read_by_us(worker));
        if let Some(worker) = self.workers.get_mut(&id)
            && is_ours
        {
            worker.log_output(&self.log);
        }
    }

    /// Reaps every child that has ended: workers, fronts, and whoever was orphaned onto us, silently.
    pub(super) fn reap_all(&mut self) {
        loop {
            let pid = match process::ended_child() {
                Ok(Some(pid)) => pid,
                Ok(None) => return self.groups.sweep(),
                Err(error) => return self.log.error(&NONE, format_args!("cannot wait for children: {error}")),
            };
            let worker = self
                .workers
                .iter()
                .find(|(_, worker)| worker.pid == pid)
                .map(|(id, _)| *id);
            let front = self
                .fronts
                .iter()
                .find(|(_, front)| front.pid == pid)
                .map(|(id, _)| *id);
            if self.workers.values().any(|worker| worker.pid == pid && worker.is_cgi) {
                self.end_scripts(pid);
            }
            if worker.is_some() || front.is_some() {
                // Its number cannot be anybody else's until it is reaped, so this reaches its own leftovers only.
                let _ = process::signal_group(pid, KILL);
            }
            let end = match process::reap(pid) {
                Ok(end) => end,
                Err(error) => return self.log.error(&NONE, format_args!("cannot reap {pid}: {error}")),
            };
            match (worker, front) {
                (Some(worker), _) => self.worker_ended(worker, end),
                (None, Some(front)) => self.front_ended(front, end),
                (None, None) if self.successor == Some(pid) => self.successor_ended(end),
                (None, None) if self.host_ended(pid, end) => {}
                (None, None) if self.may_be_claimed(pid, end) => {}
                (None, None) => self.log.debug(&NONE, format_args!("Reaped {pid}, not one of ours")),
            }
        }
    }

    /// A runner has ended and was not reaped yet. Its scripts have process groups of their own in its session, and none of
    /// them is left if it could end as it should.
    fn end_scripts(&mut self, runner: i32) {
        let left = process_state::members(|group, session| session == runner && group != runner);
        let groups: std::collections::BTreeSet<i32> = left.iter().map(|member| member.group).collect();
        for group in groups {
            let line = format_args!("Killed process group {group}, which a runner of scripts (pid:{runner}) left");
            self.log.warning(&NONE, line);
            if let Err(error) = process::signal_group(group, KILL) {
                self.log
                    .error(&NONE, format_args!("cannot kill process group {group}: {error}"));
            }
            self.killed.push(group);
        }
    }

    /// Waits until what workers left running, which was killed, is gone: nothing of us shall be found after our end.
    pub(super) fn wait_for_killed(&mut self) {
        let until = clock::now() + LAST_LOOK;
        loop {
            // Orphans become our children, so that their end is a signal too.
            while let Ok(Some(_)) = self.signals.arrived() {}
            self.reap_all();
            self.killed.retain(|group| process::is_group_alive(*group));
            self.groups.sweep();
            let left = until.saturating_duration_since(clock::now());
            let is_clear = self.killed.is_empty() && self.groups.is_clear();
            if is_clear || left.is_zero() {
                return;
            }
            if poll::wait(&[(self.signals.as_fd(), false)], Some(left)).is_err() {
                return;
            }
        }
    }

    pub(super) fn worker_ended(&mut self, id: WorkerId, end: End) {
        self.read_output(id);
        let memory_kill = self.memory_kills.has_risen();
        let is_on_trial = self.is_on_trial(id);
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        let log = &self.log;
        worker.log_rest(log);
        let memory_kill = match self.groups.memory_kill(&worker.pool_name) {
            Some(limit) => Some(memory_words(limit)),
            None => memory_kill.then(|| MEMORY_KILL.to_owned()),
        };
        let words = cause(end, worker.sent, memory_kill.as_deref());
        if process::is_group_alive(worker.pid) {
            let line = format_args!("Killed what worker (pid:{}) left running", worker.pid);
            log.info(&worker.context(), line);
            self.killed.retain(|group| process::is_group_alive(*group));
            self.killed.push(worker.pid);
        }
        let death = death(worker, end, is_on_trial);
        if death == Death::NotAWorker {
            let line = format_args!("Worker (pid:{}) {words} after a CGI response", worker.pid);
            log.debug(&worker.context(), line);
        } else {
            report(log, worker, end, &words);
        }
        if worker.ready.is_none() && worker.sent.is_none_or(|(_, why)| why.is_failure()) {
            let generation = self.generations.get(&worker.generation);
            let pool = generation.and_then(|one| one.config.pools.get(usize::from(worker.pool.0)));
            self.boot_cause = pool.and_then(|pool| boot_cause(worker, pool, end, &words));
        }
        let mut death = death;
        if worker.ready.is_none() {
            let failure = format!("a worker {words} before it was ready; {}", worker.printed.quote());
            let generation = self.generations.get_mut(&worker.generation);
            if let Some(pool) = generation.and_then(|one| one.pools.get_mut(usize::from(worker.pool.0))) {
                pool.failure = failure;
            }
        }
        if death == Death::NotAWorker {
            death = self.run_as_cgi(id);
        } else if worker.ready.is_none() && worker.sent.is_none() {
            self.advise(id);
        }
        let message = ToFront::Exited {
            worker: id,
            cause: words,
        };
        self.tell_front_of(id, &message);
        if let Some(worker) = self.workers.remove(&id) {
            if let Some(path) = &worker.path {
                self.runtime_dir.remove(path);
            }
            let place = usize::from(worker.pool.0);
            let generation = self.generations.get(&worker.generation);
            let pool = generation.and_then(|one| one.config.pools.get(place)).cloned();
            self.release_group(worker.group, pool.as_ref());
            self.tell_host_of_exit(id, worker.generation, worker.pid, end);
        }
        self.inputs.push_back(Input::WorkerGone { worker: id, death });
    }

    /// Whether a worker may yet turn out to be a CGI script. Though another was ready before: a script that accepts is
    /// taken for a FastCGI app, and then none of its pool ever gets ready again.
    fn is_on_trial(&self, id: WorkerId) -> bool {
        let Some(worker) = self.workers.get(&id) else {
            return false;
        };
        if worker.protocol == Protocol::Auto {
            return true;
        }
        let generation = self.generations.get(&worker.generation);
        let config = generation.and_then(|one| one.config.pools.get(usize::from(worker.pool.0)));
        let is_ready = |other: &WorkerProcess| {
            (other.generation, other.pool) == (worker.generation, worker.pool) && other.ready.is_some()
        };
        !worker.is_cgi
            && config.is_some_and(|pool| protocol_of(pool) == Protocol::Auto)
            && !self.workers.values().any(is_ready)
    }

    /// A program on trial turned out to be a CGI script: from now on a runner starts it for each request.
    fn run_as_cgi(&mut self, id: WorkerId) -> Death {
        let Some(worker) = self.workers.get(&id) else {
            return Death::NotAWorker;
        };
        let generation = self.generations.get_mut(&worker.generation);
        let Some(generation) = generation else {
            return Death::NotAWorker;
        };
        let place = usize::from(worker.pool.0);
        let (Some(pool), Some(config)) = (generation.pools.get_mut(place), generation.config.pools.get(place)) else {
            return Death::NotAWorker;
        };
        if pool.is_cgi {
            return Death::NotAWorker;
        }
        if config.stream_request || pool.queue.is_none() {
            if !std::mem::replace(&mut pool.is_advised, true) {
                self.log.error(&NONE, format_args!("{STREAM_ADVICE}"));
            }
            return Death::Impossible;
        }
        pool.is_cgi = true;
        pool.protocol = Protocol::Pipe;
        let (name, slots) = (&config.name, config.script_slots());
        let line = format_args!(
            "Found out that the app is a CGI script: it is started for each request, {slots} at once (pool {name})"
        );
        self.log.info(&NONE, line);
        Death::NotAWorker
    }

    /// Says once per pool what to do about a worker that did not become ready.
    pub(super) fn advise(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get(&id) else {
            return;
        };
        let generation = self.generations.get_mut(&worker.generation);
        let pool = generation.and_then(|one| one.pools.get_mut(usize::from(worker.pool.0)));
        let Some(pool) = pool.filter(|pool| !pool.is_advised) else {
            return;
        };
        if pool.protocol == Protocol::Auto {
            self.log.error(&NONE, format_args!("{PROTOCOL_ADVICE}"));
            pool.is_advised = true;
        }
    }

    fn front_ended(&mut self, id: FrontId, end: End) {
        // What it said before its end counts.
        self.hear(id);
        let Some(front) = self.fronts.remove(&id) else {
            return;
        };
        let words = match end {
            End::Signal { number: KILL, .. } if front.sent_kill => {
                "was killed by SIGKILL (sent by the arbiter)".to_owned()
            }
            _ => cause(end, None, self.memory_kills.has_risen().then_some(MEMORY_KILL)),
        };
        let line = format!("Front (pid:{}) {words}", front.pid);
        match end {
            End::Code(0) => self.log.debug(&NONE, format_args!("{line}")),
            _ if front.sent_kill => self.log.info(&NONE, format_args!("{line}")),
            _ => self.log.error(&NONE, format_args!("{line}")),
        }
        let theirs = self
            .workers
            .iter()
            .filter(|(_, worker)| worker.generation == front.generation);
        let busy = theirs.filter(|(_, worker)| worker.board.is_busy());
        self.inputs.push_back(Input::FrontGone {
            front: id,
            busy: busy.map(|(id, _)| *id).collect(),
        });
    }
}

fn death(worker: &WorkerProcess, end: End, is_on_trial: bool) -> Death {
    match end {
        // Without a request in its environment it may well end with an error.
        End::Code(_)
            if worker.ready.is_none() && worker.sent.is_none() && is_on_trial && worker.printed.is_cgi_response() =>
        {
            Death::NotAWorker
        }
        End::Code(code) => Death::Code(code),
        End::Signal { .. } => Death::Signal,
    }
}

/// Why a worker of a WSGI app did not get ready, on one line, for the end of the log. What is known from outside says
/// more than the last line of the stacks that Python has printed about it.
fn boot_cause(worker: &WorkerProcess, pool: &Pool, end: End, words: &str) -> Option<String> {
    let Program::Wsgi(wsgi) = &pool.program else {
        return worker.printed.last_line();
    };
    let call = worker.printed.innermost_call();
    let place = |what: &str| call.map(|call| format!("{what} {call}")).unwrap_or_default();
    match (end, worker.sent) {
        (_, Some((_, Why::BootTimeout))) => {
            let time = pool.boot_timeout.map(units::duration_text).unwrap_or_default();
            let place = place("; it was at");
            Some(format!("The app was not ready within {time} (boot_timeout){place}"))
        }
        (End::Signal { .. }, None) => Some(format!("The worker {words} before it was ready{}", place(", at"))),
        _ => {
            let nothing = || format!("{} {words} and printed nothing", wsgi.python.display());
            Some(worker.printed.last_line().unwrap_or_else(nothing))
        }
    }
}

/// Logs the end of a worker.
fn report(log: &Logger, worker: &WorkerProcess, end: End, words: &str) {
    let (pid, context) = (worker.pid, worker.context());
    let level = level(end, worker.sent);
    let is_news = worker.sent.is_some_and(|(_, why)| why.is_failure());
    let is_asked = match (end, worker.sent) {
        (End::Signal { number, .. }, Some((ours, _))) => number == ours,
        _ => false,
    };
    let is_told = worker.sent.is_some() || worker.channel.is_none();
    if worker.is_raw && end == End::Code(0) && is_told {
        // It has said so itself.
        return;
    }
    if worker.is_raw && !is_news && !is_asked {
        // Gunicorn's words; what a failed worker printed stands in the log already.
        log.log(level, &NONE, format_args!("Worker (pid:{pid}) {words}."));
    } else if worker.ready.is_none() && worker.sent.is_none() && !worker.is_raw {
        let printed = worker.printed.quote();
        let line = format_args!("Worker (pid:{pid}) {words} before it was ready; {printed}");
        log.error(&context, line);
    } else if is_news {
        let line = format_args!("Worker (pid:{pid}) {words}");
        log.log(level.max(Level::Warning), &context, line);
    } else if end == End::Code(0) || (is_asked && level == Level::Info) {
        log.info(&NONE, format_args!("Worker exiting (pid: {pid})"));
    } else {
        log.log(level, &context, format_args!("Worker (pid:{pid}) {words}"));
    }
}

/// What to do about a CGI script that is to get requests as they arrive.
const STREAM_ADVICE: &str = "The app is a CGI script, and those get requests that are whole: \
    leave `stream_request` out, or let it serve FastCGI on descriptor 0 or the pipe protocol on descriptor 3 in a loop";

/// What to do about a program of which nobody knows what it speaks.
const PROTOCOL_ADVICE: &str = "It neither accepted a connection on descriptor 0 (FastCGI) nor said ready \
    on descriptor 3 (pipe protocol). If it speaks one of them otherwise, say which: --protocol fastcgi or \
    --protocol pipe; if it is a CGI script, say --protocol cgi; if it speaks none, let it speak one \
    (docs/protocols/pipe.md); \
    if it only needs more time, raise boot_timeout";
