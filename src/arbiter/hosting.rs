//! The arbiter's dealings with the hosts of its generations: what they say, how they end, which hooks they run when.
//!
//! A host that ends without being told cannot be replaced within its generation, since what it shared with its workers
//! is gone: the next generation is started, as by HUP, and the workers of this one serve until it is ready.

use super::Arbiter;
use super::host::{Host, Said};
use super::reap::cause;
use crate::base::ids::WorkerId;
use crate::base::level::Level;
use crate::logging::{Logger, NONE};
use crate::plan::arbiter::{Asked, Death, Input};
use crate::plan::generation::GenerationId;
use crate::plan::worker::{Step, Why};
use crate::sys::process::{self, End};
use crate::sys::{clock, signals};
use std::time::{Duration, Instant};

/// Time for `on_exit`, after which the arbiter ends without it.
const LAST_HOOK: Duration = Duration::from_secs(10);

/// Hands lines to a host; those that it cannot take are written here.
pub(super) fn pass_lines(log: &Logger, mut host: Option<&mut Host>, lines: Vec<(Level, String)>) {
    for (level, text) in lines {
        if !host.as_mut().is_some_and(|host| host.log(level, &text)) {
            log.write(level, &NONE, format_args!("{text}"));
        }
    }
}

/// Exits that nobody has claimed are remembered while a host may still name them, so many at most.
const UNCLAIMED_LIMIT: usize = 1024;

/// Signals that the server's process means for the arbiter when it sends them to itself.
const SIGNALS: [i32; 9] = [
    signals::HUP,
    signals::INT,
    signals::QUIT,
    signals::TERM,
    signals::TTIN,
    signals::TTOU,
    signals::USR1,
    signals::USR2,
    signals::WINCH,
];

impl Arbiter {
    /// The host of the newest generation that serves or will.
    pub(super) fn newest_host(&mut self) -> Option<&mut Host> {
        let mut newest = self.generations.values_mut().rev();
        newest.find_map(|generation| generation.host.as_mut())
    }

    /// Lines of ours are written by the logger that the configuration sets up, if it sets up one.
    pub(super) fn relay_lines(&mut self) {
        let lines = self.log.take_diverted();
        if lines.is_empty() {
            return;
        }
        let log = self.log.clone();
        let mut generations = self.generations.values_mut().rev();
        let newest = generations.find_map(|generation| generation.host.as_mut());
        pass_lines(&log, newest.or(self.last_host.as_mut()), lines);
    }

    /// Takes everything a generation's host said.
    pub(super) fn hear_host(&mut self, id: GenerationId) {
        let Some(host) = self.generations.get_mut(&id).and_then(|one| one.host.as_mut()) else {
            return;
        };
        let pid = host.pid();
        let (said, error) = host.hear();
        if let Some(error) = error {
            self.log.error(&NONE, format_args!("Python host (pid:{pid}) {error}"));
            host.kill(Why::Faulty);
        }
        for one in said {
            self.host_said(one);
        }
    }

    fn host_said(&mut self, said: Said) {
        match said {
            Said::Evaluated(_) | Said::Done => {}
            Said::Forked(worker, pid) => self.forked(worker, pid),
            Said::Failed { request, error, .. } => {
                let line = format_args!("{} failed: {error}", request.words());
                self.log.error(&NONE, line);
                if let super::host::Request::Fork(worker) = request {
                    self.not_forked(worker);
                }
            }
            Said::Command { command, pid } => self.command(&command, pid),
        }
    }

    /// A hook called a method of the server, or sent it a signal.
    pub(super) fn command(&mut self, command: &str, pid: i32) {
        if let Some(number) = SIGNALS.iter().find(|number| signals::name(**number) == command) {
            return self.take_signal(*number);
        }
        let asked = match command {
            "reload" => Asked::Reload,
            "stop" => Asked::Stop,
            "ttin" => Asked::MoreWorkers,
            "ttou" => Asked::FewerWorkers,
            "kill_worker" => {
                // Only processes that we know to be ours, whatever a hook may have computed.
                if self.workers.values().any(|worker| pid > 0 && worker.pid == pid)
                    && let Err(error) = process::signal(pid, signals::TERM)
                {
                    self.log
                        .error(&NONE, format_args!("cannot stop worker (pid:{pid}): {error}"));
                }
                return;
            }
            _ => {
                return self
                    .log
                    .warning(&NONE, format_args!("A hook asked for what is not known"));
            }
        };
        self.inputs.push_back(Input::Asked(asked));
    }

    /// A worker has a process now.
    fn forked(&mut self, id: WorkerId, pid: i32) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        worker.pid = pid;
        process::wait_when_woken(pid);
        // Its host is in none: the app that it has imported is not this worker's alone.
        let entered = worker.group.as_ref().map(|group| group.take(pid));
        if let Some(Err(error)) = entered {
            let line =
                format_args!("cannot put it into its control group, and memory_max and such do not bind it: {error}");
            self.log.error(&worker.context(), line);
        }
        let sent = worker.sent;
        self.introduce_worker(id);
        if let Some((number, _)) = sent {
            // It was given up before it was there.
            let _ = process::signal_group(pid, number);
            let _ = process::signal(pid, number);
        }
        if let Some(place) = self.unclaimed.iter().position(|(ended, _)| *ended == pid) {
            let (_, end) = self.unclaimed.swap_remove(place);
            self.worker_ended(id, end);
        }
    }

    fn not_forked(&mut self, id: WorkerId) {
        if let Some(worker) = self.workers.remove(&id) {
            self.release_group(worker.group, None);
            let death = Death::NotStarted;
            self.inputs.push_back(Input::WorkerGone { worker: id, death });
        }
    }

    /// Remembers how a process ended that a host may yet name as a worker. True if it may.
    pub(super) fn may_be_claimed(&mut self, pid: i32, end: End) -> bool {
        let is_forking = |host: &Host| host.unforked().next().is_some();
        let hosts = self.generations.values().filter_map(|one| one.host.as_ref());
        let may = hosts.into_iter().any(is_forking);
        if may && self.unclaimed.len() < UNCLAIMED_LIMIT {
            self.unclaimed.push((pid, end));
        } else if !may {
            self.unclaimed.clear();
        }
        may
    }

    /// If `pid` was a host, its generation goes on without it.
    pub(super) fn host_ended(&mut self, pid: i32, end: End) -> bool {
        if self.loading.as_ref().is_some_and(|loading| loading.is_of(pid)) {
            self.loading_failed(&format!("The Python host {}.", cause(end, None, None)));
            return true;
        }
        let is_it = |host: &Host| host.pid() == pid;
        let found = self
            .generations
            .iter()
            .find(|(_, one)| one.host.as_ref().is_some_and(is_it));
        let Some(id) = found.map(|(id, _)| *id) else {
            if let Some(host) = self.last_host.take_if(|host| is_it(host)) {
                let words = cause(end, host.sent, None);
                self.log
                    .critical(&NONE, format_args!("Python host (pid:{pid}) {words}"));
                return true;
            }
            // One that was told to leave.
            return self.leaving_hosts.remove(&pid).is_some();
        };
        // What it said before its end counts.
        self.hear_host(id);
        let host = self.generations.get_mut(&id).and_then(|one| one.host.take());
        let words = cause(end, host.and_then(|host| host.sent), None);
        self.log
            .critical(&NONE, format_args!("Python host (pid:{pid}) {words}"));
        let lost = self
            .workers
            .iter()
            .filter(|(_, worker)| worker.generation == id && worker.pid == 0);
        for worker in lost.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.not_forked(worker);
        }
        self.inputs.push_back(Input::Asked(Asked::Reload));
        true
    }

    /// Everything of a generation is gone, but for its host. The last one still has `on_exit` to run.
    pub(super) fn forget(&mut self, id: GenerationId) {
        let Some(mut generation) = self.generations.remove(&id) else {
            return;
        };
        self.settle_groups();
        let Some(host) = generation.host.take() else {
            return;
        };
        if self.generations.is_empty() && self.last_host.is_none() {
            self.last_host = Some(host);
        } else {
            self.dismiss(host);
        }
    }

    /// Lets a host end by itself, after what it was asked. Its answers need a reader's end that is open.
    pub(super) fn dismiss(&mut self, host: Host) {
        host.end_asking();
        self.leaving_hosts.insert(host.pid(), host);
    }

    /// Runs `on_exit`, and lets the host end by itself.
    pub(super) fn say_farewell(&mut self) {
        let newest = self.generations.values_mut().rev().find_map(|one| one.host.take());
        let Some(mut host) = newest.or_else(|| self.last_host.take()) else {
            return;
        };
        if let Some(text) = last_hook(&mut host, "on_exit") {
            self.log.error(&NONE, format_args!("{text}"));
        }
        host.finish();
    }

    /// Runs a hook of the newest host and waits for it, because nothing can go on before it is done.
    /// The reason of a failure is the answer.
    pub(super) fn run_last_hook(&mut self, name: &'static str) -> Option<String> {
        let failure = last_hook(self.newest_host()?, name);
        // Workers that it has forked meanwhile.
        let ids: Vec<_> = self.generations.keys().copied().collect();
        ids.into_iter().for_each(|id| self.hear_host(id));
        failure
    }

    /// Tells the newest host that the number of workers wanted has changed.
    pub(super) fn workers_changed(&mut self, new: usize) {
        let old = self.wanted.replace(new);
        if let Some(host) = self.newest_host() {
            // Without descriptors nothing is copied, so nothing can fail.
            let _ = host.workers_changed(new, old);
        }
    }

    /// Has `child_exit` run for a worker that was reaped, but not after the codes of a failed boot.
    pub(super) fn tell_host_of_exit(&mut self, id: WorkerId, generation: GenerationId, pid: i32, end: End) {
        let code = match end {
            End::Code(code) => code,
            End::Signal { number, .. } => -number,
        };
        if let Some(host) = self.generations.get_mut(&generation).and_then(|one| one.host.as_mut()) {
            let _ = host.child_exit(id, pid, code);
        }
    }

    /// Mentions what takes a host long; says when to look again.
    pub(super) fn watch_hosts(&mut self, now: Instant) -> Option<Instant> {
        let loading = self.loading.as_mut().and_then(super::loading::Loading::host_mut);
        let hosts = self.generations.values_mut().filter_map(|one| one.host.as_mut());
        let mut next: Option<Instant> = None;
        for host in hosts.chain(loading) {
            if let Some(doing) = host.slowness(now) {
                let seconds = super::host::SLOW.as_secs();
                let line = format_args!("Python host (pid:{}): {doing} has taken {seconds} s so far", host.pid());
                self.log.warning(&NONE, line);
            }
            next = next.into_iter().chain(host.slow_at()).min();
        }
        next
    }

    /// A step of the end of a worker that its host has not forked: it is signalled as soon as it is there.
    pub(super) fn step_unforked(&mut self, id: WorkerId, step: Step, why: Why) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        let number = match step {
            Step::TellRetire | Step::RepeatStop => return,
            Step::SendFinish | Step::SendStop | Step::SendAbort => signals::TERM,
            Step::SendKill => signals::KILL,
        };
        worker.sent = Some((number, why));
        worker.channel = None;
        let generation = worker.generation;
        if step == Step::SendKill {
            self.kill_host_of(generation, why);
        }
    }

    /// Kills the host that does not fork a worker it was asked for.
    fn kill_host_of(&mut self, generation: GenerationId, why: Why) {
        if let Some(host) = self.generations.get_mut(&generation).and_then(|one| one.host.as_mut()) {
            let line = format_args!("Python host (pid:{}) does not start a worker and is killed", host.pid());
            self.log.critical(&NONE, line);
            host.kill(why);
        }
    }

    /// When the arbiter must look at what is being loaded.
    pub(super) fn loading_deadline(&self) -> Option<Instant> {
        self.loading.as_ref().and_then(super::loading::Loading::until)
    }

    /// Gives up what takes too long to load.
    pub(super) fn check_loading(&mut self) {
        if self.loading_deadline().is_some_and(|until| until <= clock::now()) {
            self.loading_failed("Python took longer than boot_timeout to prepare the new generation.");
        }
    }
}

/// A host that is busy with something that never ends has had its chance after a while.
fn last_hook(host: &mut Host, name: &'static str) -> Option<String> {
    let asked = host.hook(name).map_err(|error| error.to_string());
    let done = asked.map(|()| host.wait_for_all(Some(LAST_HOOK), None));
    match done {
        Ok(Ok(())) => None,
        Ok(Err(stopped)) => stopped.text().map(str::to_owned),
        Err(text) => Some(text),
    }
}
