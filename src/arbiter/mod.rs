//! The arbiter: owns configuration, listeners, signals and children; never sees a byte of a request.
//!
//! `start` makes one, `run` gathers what happened, asks the plan, and does what it says (`perform`).
//! Never here: a decision about who lives (`plan`), bytes of clients.

mod cgroups;
mod changing;
mod commands;
mod control;
mod control_socket;
mod evaluation;
mod facts;
mod generation;
mod host;
mod hosting;
mod interpreter;
mod listeners;
mod loading;
mod messages;
mod metrics;
mod output;
mod packets;
mod perform;
mod pidfile;
mod python;
mod reap;
mod runtime_dir;
mod shares;
mod spawn;
mod start;
mod upgrade;

use crate::base::ids::WorkerId;
use crate::config::{Bind, Loaded, Reloader};
use crate::logging::{Logger, NONE};
use crate::plan::arbiter::{Action, Asked, Input, Plan};
use crate::plan::generation::{FrontId, GenerationId};
use crate::sys::signals::{self, Signals};
use crate::sys::{clock, notify::Notifier, poll, process::End};
use generation::Generation;
use listeners::Listener;
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

pub use cgroups::check_controller;
pub use evaluation::{check_app, evaluate};
pub use host::Host;

/// Runs an arbiter until it is told to stop, starting from `loaded`; `reloader` gives later configurations, and `host`
/// has evaluated this one, if its file is Python.
///
/// The working directory and the signal mask of this process are changed, descriptor 2 becomes the error log, and with
/// `daemon` the calling process ends before this returns.
#[must_use]
pub fn main(reloader: Reloader, loaded: Loaded, host: Option<Host>) -> ExitCode {
    match start::start(reloader, loaded, host) {
        Ok(mut arbiter) => ExitCode::from(arbiter.run()),
        Err(stopped) => {
            use std::io::Write;
            if let Some(text) = stopped.text() {
                let _ = std::io::stderr().write_all(format!("rgunicorn: {text}\n").as_bytes());
            }
            stopped.exit()
        }
    }
}

/// An arbiter with everything it owns.
struct Arbiter {
    reloader: Reloader,
    plan: Plan,
    log: Logger,
    signals: Signals,
    notifier: Notifier,
    watchdog: Option<Watchdog>,
    /// Configurations in use, oldest first.
    generations: BTreeMap<GenerationId, Generation>,
    /// A reload that is not ready to begin.
    loading: Option<loading::Loading>,
    /// What the next generation will be made of.
    pending: Option<Generation>,
    /// What the generation that serves is to change to.
    changing: Option<changing::Next>,
    fronts: BTreeMap<FrontId, spawn::FrontProcess>,
    workers: BTreeMap<WorkerId, spawn::WorkerProcess>,
    /// The listeners of the generation that serves, for the next one to take over.
    listeners: Vec<Rc<Listener>>,
    /// Passed by systemd instead of `bind`.
    passed: Vec<Bind>,
    runtime_dir: runtime_dir::RuntimeDir,
    /// Control groups of pools with limits.
    groups: cgroups::Groups,
    pidfile: Option<pidfile::Pidfile>,
    control: Option<control_socket::ControlSocket>,
    started: Instant,
    /// When workers were last looked at for their age and memory.
    looked: Instant,
    /// How we were started, for the next one.
    origin: upgrade::Origin,
    /// A newer master, started by USR2.
    successor: Option<i32>,
    /// The older master that started this one, while it lives.
    predecessor: Option<i32>,
    memory_kills: facts::MemoryKills,
    interpreters: interpreter::Interpreters,
    metrics: metrics::Metrics,
    null: File,
    is_daemon: bool,
    /// Hosts that were told to leave and were not reaped yet.
    leaving_hosts: BTreeMap<i32, Host>,
    /// The host of the last generation, when all generations are gone, until another one serves.
    last_host: Option<Host>,
    /// How processes ended that a host may yet name as workers.
    unclaimed: Vec<(i32, End)>,
    /// Process groups of ended workers in which something was left, and was killed.
    killed: Vec<i32>,
    /// The last line of a worker that ended before it was ready.
    boot_cause: Option<String>,
    /// It serves a WSGI app.
    is_wsgi: bool,
    /// The stop was asked for by INT or QUIT, which Python workers are told.
    is_interrupted: bool,
    /// Workers wanted, as hooks were told last.
    wanted: Option<usize>,
    /// What happened and was not handled yet.
    inputs: VecDeque<Input>,
    exit: Option<u8>,
}

/// When systemd wants to hear from us.
struct Watchdog {
    interval: Duration,
    next: Instant,
}

impl Arbiter {
    /// Turns until all is done; returns the exit code.
    fn run(&mut self) -> u8 {
        self.inputs.push_back(Input::Tick);
        // What hooks of the start have asked for.
        let ids: Vec<_> = self.generations.keys().copied().collect();
        ids.into_iter().for_each(|id| self.hear_host(id));
        loop {
            self.decide();
            self.relay_lines();
            self.report_metrics();
            self.log.flush();
            if let Some(code) = self.exit {
                return code;
            }
            self.gather();
            self.inputs.push_back(Input::Tick);
        }
    }

    /// Lets the plan handle everything that happened, and does what it says.
    fn decide(&mut self) {
        let mut actions: Vec<Action> = Vec::new();
        while let Some(input) = self.inputs.pop_front() {
            self.plan.handle(clock::now(), input, &mut actions);
            for action in actions.drain(..) {
                self.perform(action);
            }
        }
    }

    /// Waits until something happens or is due, and notes what.
    fn gather(&mut self) {
        let now = clock::now();
        let feeding = self.watchdog.as_ref().map(|watchdog| watchdog.next);
        let idle = self.control.as_ref().and_then(|control| control.next_deadline());
        let hosts = self.watch_hosts(now).into_iter().chain(self.loading_deadline());
        let others = feeding
            .into_iter()
            .chain(idle)
            .chain(hosts)
            .chain(self.metrics.next())
            .chain(self.next_look());
        let due = self.plan.next_deadline().into_iter().chain(others).min();
        let fronts: Vec<_> = self.fronts.iter().filter(|(_, one)| one.channel.is_open()).collect();
        let printing: Vec<_> = self.workers.iter().filter(|(_, one)| self.is_read_by_us(one)).collect();
        let mut set = vec![(self.signals.as_fd(), false)];
        set.extend(
            fronts
                .iter()
                .map(|(_, one)| (one.channel.as_fd(), one.channel.is_waiting())),
        );
        set.extend(printing.iter().map(|(_, one)| (one.output.as_fd(), false)));
        let hosts = self
            .generations
            .iter()
            .filter_map(|(id, one)| Some((*id, one.host.as_ref()?)));
        let hosts: Vec<_> = hosts.filter(|(_, host)| host.is_open()).collect();
        set.extend(hosts.iter().map(|(_, host)| (host.as_fd(), host.is_waiting())));
        let loading = self.loading.as_ref().and_then(loading::Loading::host);
        let loading = loading.filter(|host| host.is_open());
        set.extend(loading.map(|host| (host.as_fd(), host.is_waiting())));
        let control_begins = set.len();
        set.extend(self.control.iter().flat_map(|control| control.watched()));
        let time = due.map(|due| due.saturating_duration_since(now));
        let mut ready = match poll::wait(&set, time) {
            Ok(ready) => ready,
            Err(error) => {
                // Without descriptors to wait for this can only fail for want of memory, and it is tried again.
                self.log.error(&NONE, format_args!("cannot wait for events: {error}"));
                let _ = poll::wait(&[], Some(Duration::from_secs(1)));
                return;
            }
        };
        let control = ready.split_off(control_begins);
        let mut ready = ready.into_iter();
        let has_signals = ready.next().unwrap_or(false);
        let fronts: Vec<_> = fronts.into_iter().map(|(id, _)| *id).collect();
        let printing: Vec<_> = printing.into_iter().map(|(id, _)| *id).collect();
        let fronts: Vec<_> = fronts.into_iter().filter(|_| ready.next().unwrap_or(false)).collect();
        let printing: Vec<_> = printing.into_iter().filter(|_| ready.next().unwrap_or(false)).collect();
        let hosts: Vec<_> = hosts.into_iter().map(|(id, _)| id).collect();
        let hosts: Vec<_> = hosts.into_iter().filter(|_| ready.next().unwrap_or(false)).collect();
        // What fronts said comes before the exits that signals announce, so that nothing they said last is lost.
        for front in fronts {
            self.hear(front);
        }
        for worker in printing {
            self.read_output(worker);
        }
        for generation in hosts {
            self.hear_host(generation);
        }
        self.hear_loading();
        self.check_loading();
        if has_signals {
            self.take_signals();
        }
        self.serve_control_socket(&control);
        self.look_after_predecessor();
        self.look_at_shares();
        self.feed_watchdog();
    }

    fn take_signals(&mut self) {
        loop {
            match self.signals.arrived() {
                Ok(Some(signals::CHLD)) => {
                    self.log.debug(&NONE, format_args!("Handling signal: chld"));
                    self.reap_all();
                }
                Ok(Some(number)) => self.take_signal(number),
                Ok(None) => return,
                Err(error) => {
                    self.log.error(&NONE, format_args!("cannot read signals: {error}"));
                    return;
                }
            }
        }
    }

    /// The table of signals; `docs/signals.md` explains it to users.
    fn take_signal(&mut self, number: i32) {
        let name = signals::name(number);
        let name = name.strip_prefix("SIG").unwrap_or(&name).to_ascii_lowercase();
        self.log.info(&NONE, format_args!("Handling signal: {name}"));
        let asked = match number {
            signals::TERM => Asked::Stop,
            signals::INT | signals::QUIT => {
                self.is_interrupted = true;
                Asked::Interrupt
            }
            signals::HUP => Asked::Reload,
            signals::TTIN => Asked::MoreWorkers,
            signals::TTOU => Asked::FewerWorkers,
            signals::WINCH if self.is_daemon => {
                self.log.info(&NONE, format_args!("graceful stop of workers"));
                Asked::Park
            }
            signals::WINCH => return self.log.debug(&NONE, format_args!("SIGWINCH ignored. Not daemonized")),
            signals::USR1 => return self.reopen_logs(true),
            signals::USR2 => return self.upgrade(),
            _ => return,
        };
        self.inputs.push_back(Input::Asked(asked));
    }

    fn feed_watchdog(&mut self) {
        let now = clock::now();
        if let Some(watchdog) = &mut self.watchdog
            && watchdog.next <= now
        {
            watchdog.next = now + watchdog.interval;
            self.notifier.send("WATCHDOG=1");
        }
    }
}
