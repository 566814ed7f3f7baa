//! Doing what the plan says.

use super::generation::open_access_log;
use super::metrics::{self, Metrics};
use super::start::{announce, own_pid, replace_error_log};
use super::{Arbiter, generation, listeners, pidfile, spawn, upgrade};
use crate::base::ids::{PoolId, WorkerId};
use crate::control::{Protocol, ToFront};
use crate::logging::{Context, NONE};
use crate::plan::arbiter::{Action, Death, Input, Note, Verdict};
use crate::plan::generation::{FrontId, GenerationId};
use crate::plan::worker::{Step, Why};
use crate::sys::privilege::Identity;
use crate::sys::{fd, memory, process, signals};
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

impl Arbiter {
    pub(super) fn perform(&mut self, action: Action) {
        match action {
            Action::Begin(id) => self.begin(id),
            Action::SpawnFront {
                front,
                generation,
                keep,
            } => self.spawn_front(front, generation, &keep),
            Action::SpawnWorker {
                worker,
                generation,
                pool,
            } => self.spawn_worker(worker, generation, pool),
            Action::Serve(front) => self.tell_front(front, &ToFront::Serve),
            Action::Promoted(id) => self.promoted(id),
            Action::Drain { front, grace } => self.drain(front, grace),
            Action::KillFront(front) => self.kill_front(front),
            Action::Worker { worker, step, why } => self.step_worker(worker, step, why),
            Action::Crowded { front, workers } => {
                let workers = u32::try_from(workers).unwrap_or(u32::MAX);
                self.tell_front(front, &ToFront::Crowded { workers });
            }
            Action::PoolDown { front, pool, wait } => {
                let retry_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
                self.tell_front(front, &ToFront::PoolDown { pool, retry_ms });
            }
            Action::PoolUp { front, pool } => self.tell_front(front, &ToFront::PoolUp { pool }),
            Action::Forget(id) => self.forget(id),
            Action::Load => self.load(),
            Action::BeginChange(id) => self.begin_change(id),
            Action::Change {
                front,
                generation,
                grace,
            } => self.change(front, generation, grace),
            Action::DropChange(id) => self.drop_change(id),
            Action::FreePool { generation, pool } => self.free_pool(generation, pool),
            Action::ReloadFailed(verdict) => self.reload_failed(verdict.reason()),
            Action::CloseListeners => {
                self.announce_stop();
                self.pending = None;
                self.changing = None;
                self.listeners.clear();
                for generation in self.generations.values_mut() {
                    generation.listeners.clear();
                }
            }
            Action::Exit { code, verdict } => self.end(code, verdict),
            Action::Note(note) => self.note(note),
        }
    }

    fn end(&mut self, code: u8, verdict: Option<Verdict>) {
        self.wait_for_killed();
        self.groups.end(self.successor.is_none() && self.predecessor.is_none());
        let name = self.master_name();
        match verdict {
            None => self.log.info(&NONE, format_args!("Shutting down: {name}")),
            Some(verdict) => {
                self.log.error(&NONE, format_args!("Shutting down: {name}"));
                self.log.error(&NONE, format_args!("Reason: {}", verdict.reason()));
                let cause = self.boot_cause.take().filter(|_| verdict != Verdict::FrontFailed);
                if let Some(cause) = cause.filter(|_| self.is_wsgi) {
                    self.log.error(&NONE, format_args!("{cause}"));
                }
            }
        }
        self.pidfile = None;
        self.relay_lines();
        self.log.divert(false);
        self.say_farewell();
        self.exit = Some(code);
    }

    fn note(&mut self, note: Note) {
        let seconds = |wait: Duration| format!("{:.1} s", wait.as_secs_f64());
        match note {
            Note::WorkerRetry { pool, wait, failures } => {
                let times = if failures == 1 { "time" } else { "times" };
                self.log.warning(
                    &NONE,
                    format_args!(
                        "A worker of pool {} failed {failures} {times} in a row; the next one starts in {}",
                        self.pool_name(pool),
                        seconds(wait)
                    ),
                );
            }
            Note::FrontRetry { wait, failures } if wait.is_zero() => {
                self.log
                    .debug(&NONE, format_args!("Starting another front (failures: {failures})"));
            }
            Note::FrontRetry { wait, failures } => self.log.warning(
                &NONE,
                format_args!(
                    "The front failed {failures} times in a row; the next one starts in {}",
                    seconds(wait)
                ),
            ),
            Note::FrontSilent => self.log.critical(
                &NONE,
                format_args!("The front gave no sign of life for 30 s and is killed"),
            ),
            Note::FrontSlow => self
                .log
                .warning(&NONE, format_args!("The front did not finish in time and is killed")),
            Note::ReloadWaits => self
                .log
                .info(&NONE, format_args!("The reload waits for an earlier one to end")),
            Note::QuickShutdown => self.log.info(&NONE, format_args!("Quick shutdown requested")),
            Note::Scaled { pool, wanted } => {
                let name = self.pool_name(pool);
                self.log
                    .info(&NONE, format_args!("Workers wanted in pool {name}: {wanted}"));
                self.workers_changed(wanted);
            }
            Note::NotScaled { pool } => {
                let name = self.pool_name(pool);
                let line = "one process runs all its scripts, and `workers` says how many at once";
                self.log
                    .info(&NONE, format_args!("TTIN and TTOU do not change pool {name}: {line}"));
            }
            Note::NoRoom { pool, most } => {
                let name = self.pool_name(pool);
                let line = format_args!("No more workers in pool {name}: max_workers allows {most} in all");
                self.log.warning(&NONE, line);
            }
            Note::Crowded { workers, most } => {
                let what = if workers == 1 {
                    "1 more is"
                } else {
                    &format!("{workers} more are")
                };
                let line = format_args!(
                    "All {most} workers that max_workers allows are there, and {what} wanted: requests wait until others are idle"
                );
                self.log.warning(&NONE, line);
            }
            Note::PoolDown { generation, pool, wait } => {
                let (name, why) = (self.pool_name(pool), self.failure_of(generation, pool));
                let wait = seconds(wait);
                let line = format_args!(
                    "Pool {name} cannot start, and its requests are answered 503: {why}; it is tried again in {wait}, and then ever less often"
                );
                self.log.error(&NONE, line);
            }
            Note::PoolUp { pool } => {
                let name = self.pool_name(pool);
                self.log.info(&NONE, format_args!("Pool {name} has started after all"));
            }
            Note::LeftBehind { processes } => self.log.error(
                &NONE,
                format_args!("{processes} processes were killed but did not end; leaving them behind"),
            ),
        }
    }

    /// Why a worker of a pool could not be started, the last time.
    fn failure_of(&self, generation: GenerationId, pool: PoolId) -> &str {
        let generation = self.generations.get(&generation);
        let pool = generation.and_then(|one| one.pools.get(usize::from(pool.0)));
        pool.map_or("", |pool| pool.failure.as_str())
    }

    fn pool_name(&self, pool: PoolId) -> &str {
        let mut newest = self.generations.values().rev();
        let pool = newest.find_map(|generation| generation.config.pools.get(usize::from(pool.0)));
        pool.map_or("?", |pool| pool.name.as_str())
    }

    /// The pending configuration becomes a generation's.
    fn begin(&mut self, id: GenerationId) {
        let Some(generation) = self.pending.take() else {
            return;
        };
        self.generations.insert(id, generation);
    }

    fn spawn_front(&mut self, id: FrontId, generation_id: GenerationId, keep: &[WorkerId]) {
        let Some(generation) = self.generations.get(&generation_id) else {
            return;
        };
        let process = &generation.config.process;
        let groups = self.runtime_dir.groups();
        let identity = generation.identity.clone();
        let identity = identity.and_then(|identity| Identity::with_groups(Some(identity), &groups));
        match spawn::front(generation_id, process, identity.as_ref(), self.null.as_fd()) {
            Ok(front) => {
                self.log
                    .debug(&NONE, format_args!("Booting front with pid: {}", front.pid));
                self.fronts.insert(id, front);
                if let Err(error) = self.introduce_generation(id, generation_id) {
                    self.log
                        .error(&NONE, format_args!("cannot configure the front: {error}"));
                    return self.kill_front(id);
                }
                for worker in keep {
                    self.introduce_worker(*worker);
                }
                // Reading a configuration has taken several times what is kept of it.
                memory::trim();
            }
            Err(error) => {
                self.log.error(&NONE, format_args!("cannot start the front: {error}"));
                self.inputs.push_back(Input::FrontGone {
                    front: id,
                    busy: Vec::new(),
                });
            }
        }
    }

    /// Sends a new front everything but workers.
    fn introduce_generation(&mut self, id: FrontId, generation: GenerationId) -> io::Result<()> {
        let (Some(front), Some(generation)) = (self.fronts.get_mut(&id), self.generations.get(&generation)) else {
            return Ok(());
        };
        let text = memory_file(&generation.text)?;
        let access_log = generation.access_log();
        let message = ToFront::Configure {
            access_log: access_log.is_some(),
            numbers: generation.numbers_to_send(),
        };
        let descriptors: Vec<_> = std::iter::once(text.as_fd()).chain(access_log).collect();
        front.channel.send(&message, &descriptors)?;
        let http = generation
            .listeners
            .len()
            .saturating_sub(generation.config.fastcgi.len());
        for (place, listener) in generation.listeners.iter().enumerate() {
            let fastcgi = place.checked_sub(http).and_then(|place| u16::try_from(place).ok());
            let message = ToFront::Listener { fastcgi };
            front.channel.send(&message, &[listener.as_fd()])?;
        }
        for pool in generation.numbers.iter().copied() {
            let state = generation.pools.get(usize::from(pool.0));
            if let Some(queue) = state.and_then(|state| state.queue.as_ref()) {
                let ends = [queue.send.as_fd(), queue.receive.as_fd()];
                front.channel.send(&ToFront::Queue { pool }, &ends)?;
            }
        }
        self.introduce_next(id)
    }

    fn spawn_worker(&mut self, id: WorkerId, generation_id: GenerationId, pool_id: PoolId) {
        self.keep_runtime_dir();
        let place = usize::from(pool_id.0);
        let Some(generation) = self.generations.get_mut(&generation_id) else {
            return;
        };
        let Ok(()) = generation.make_bundle(place, &self.reloader).inspect_err(|error| {
            self.log
                .error(&NONE, format_args!("cannot make what Python workers read: {error}"));
        }) else {
            let death = Death::NotStarted;
            return self.inputs.push_back(Input::WorkerGone { worker: id, death });
        };
        let is_forked = generation.is_forked(place);
        if is_forked && generation.host.is_none() {
            // It ended, and a new generation is on its way.
            let death = Death::NotStarted;
            return self.inputs.push_back(Input::WorkerGone { worker: id, death });
        }
        let (Some(pool), Some(state)) = (generation.config.pools.get(place), generation.pools.get(place)) else {
            return;
        };
        let queue = state.queue.as_ref();
        let group = match self.groups.make(pool, id) {
            Ok(group) => group,
            Err(error) => {
                let line = format_args!(
                    "cannot make a control group for a worker of pool {}: {error}",
                    pool.name
                );
                self.log.error(&NONE, line);
                let death = Death::NotStarted;
                return self.inputs.push_back(Input::WorkerGone { worker: id, death });
            }
        };
        let order = spawn::Order {
            worker: id,
            generation: generation_id,
            pool_id,
            pool,
            protocol: state.protocol,
            is_cgi: state.is_cgi,
            queue: queue.filter(|_| spawn::may_pull(pool, state.protocol, state.is_cgi)),
            directory: &self.runtime_dir,
            identity: state.identity.as_ref(),
            group: group.as_ref(),
            null: self.null.as_fd(),
            captures_output: generation.config.logs.capture_output,
            bundle: state.bundle.as_ref().map(AsFd::as_fd),
        };
        match spawn::worker(&order, generation.host.as_mut().filter(|_| is_forked)) {
            Ok(worker) if worker.pid == 0 => drop(self.workers.insert(id, worker)),
            Ok(worker) => {
                // The line as Gunicorn writes it: scripts look for it whole.
                if !worker.is_raw {
                    let line = format_args!("Booting worker with pid: {}", worker.pid);
                    self.log.info(&NONE, line);
                }
                self.workers.insert(id, worker);
                self.introduce_worker(id);
            }
            Err(error) => {
                let context = Context {
                    pool: Some(&pool.name),
                    worker: Some(id),
                    age: Some(id.0),
                    ..NONE
                };
                self.log.error(&context, format_args!("cannot start a worker: {error}"));
                let failure = format!("cannot start a worker: {error}");
                let death = if error.is_lasting() {
                    Death::Impossible
                } else {
                    Death::NotStarted
                };
                self.inputs.push_back(Input::WorkerGone { worker: id, death });
                let generation = self.generations.get_mut(&generation_id);
                if let Some(pool) = generation.and_then(|one| one.pools.get_mut(place)) {
                    pool.failure = failure;
                }
                self.release_group(group, None);
            }
        }
    }

    /// Makes a worker known to the front of its generation, if there is one.
    pub(super) fn introduce_worker(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get(&id).filter(|worker| worker.pid != 0) else {
            return;
        };
        let mut fronts = self.fronts.values_mut();
        let Some(front) = fronts.find(|front| front.generation == worker.generation) else {
            return;
        };
        let channel = worker.channel.as_ref().filter(|_| worker.protocol != Protocol::FastCgi);
        let path = worker.path.as_ref().filter(|_| worker.protocol != Protocol::Pipe);
        let message = ToFront::Worker {
            pool: worker.pool,
            worker: id,
            age: id.0,
            pid: worker.pid,
            protocol: worker.protocol,
            path: path.map(|path| path.display().to_string()).unwrap_or_default(),
            channel: channel.is_some(),
            ready: worker.ready,
        };
        let descriptors: Vec<BorrowedFd<'_>> = std::iter::once(worker.board_file.as_fd())
            .chain(channel.map(AsFd::as_fd))
            .collect();
        if let Err(error) = front.channel.send(&message, &descriptors) {
            let line = format_args!("cannot make it known to the front: {error}");
            self.log.error(&worker.context(), line);
        }
        if worker.ready.is_some() {
            self.hand_over_output(id);
        }
    }

    /// Sends a message without descriptors to a front.
    pub(super) fn tell_front(&mut self, id: FrontId, message: &ToFront) {
        if let Some(front) = self.fronts.get_mut(&id) {
            // Nothing is copied without descriptors, so nothing can fail.
            let _ = front.channel.send(message, &[]);
        }
    }

    fn drain(&mut self, id: FrontId, grace: Duration) {
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        self.tell_front(id, &ToFront::Drain { grace_ms });
        let generation = self.fronts.get(&id).map(|front| front.generation);
        if let Some(generation) = generation.and_then(|id| self.generations.get_mut(&id)) {
            generation.listeners.clear();
        }
    }

    pub(super) fn kill_front(&mut self, id: FrontId) {
        if let Some(front) = self.fronts.get_mut(&id) {
            front.sent_kill = true;
            if let Err(error) = process::signal_group(front.pid, signals::KILL) {
                self.log.error(
                    &NONE,
                    format_args!("cannot kill the front (pid:{}): {error}", front.pid),
                );
            }
        }
    }

    fn step_worker(&mut self, id: WorkerId, step: Step, why: Why) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        let stop_signal = || {
            let generation = self.generations.get(&worker.generation)?;
            let pool = generation.config.pools.get(usize::from(worker.pool.0))?;
            let is_quit = self.is_interrupted && why == Why::Shutdown && worker.is_raw;
            Some(match pool.stop_signal {
                _ if is_quit => signals::QUIT,
                // The setting is for programs of others.
                _ if worker.is_cgi => signals::TERM,
                signal => signal,
            })
        };
        let pid = worker.pid;
        if pid == 0 {
            return self.step_unforked(id, step, why);
        }
        let (number, sent) = match step {
            Step::TellRetire => return self.tell_front_of(id, &ToFront::Retire { worker: id }),
            // Ours does so on TERM, and goes on as long as a request runs. Others know nothing of it but the front's DRAIN.
            Step::SendFinish if !worker.is_raw => return,
            Step::SendFinish => {
                let line = format_args!("Worker (pid:{pid}) finishes its other requests before it is aborted");
                self.log.info(&worker.context(), line);
                (signals::TERM, process::signal(pid, signals::TERM))
            }
            // Python code acts on a signal between two of its instructions, and php-cgi when its accept(2) is interrupted.
            // A signal that comes just before the wait for a request is not acted on before the next request, which a
            // worker that leaves never gets. Other programs may take a second signal for a stronger one.
            Step::RepeatStop if worker.board.is_busy() => return,
            Step::RepeatStop if !worker.is_raw && worker.protocol != Protocol::FastCgi => return,
            Step::SendStop | Step::RepeatStop => {
                let number = stop_signal().unwrap_or(signals::TERM);
                (number, process::signal(pid, number))
            }
            Step::SendAbort => (signals::ABRT, process::signal(pid, signals::ABRT)),
            Step::SendKill => (signals::KILL, process::signal_group(pid, signals::KILL)),
        };
        let name = signals::name(number);
        let context = worker.context();
        self.log.debug(&context, format_args!("Sent {name}: {}", why.words()));
        if let Err(error) = sent {
            self.log.error(&context, format_args!("cannot send {name}: {error}"));
        }
        if why == Why::BootTimeout && step == Step::SendAbort {
            let printed = worker.printed.quote();
            let line = format_args!("Worker (pid:{pid}) was not ready in time; {printed}");
            self.log.error(&context, line);
        }
        worker.sent = Some((number, why));
        // A worker that ignores its signal may still notice that nobody speaks to it any more.
        worker.channel = None;
        if why == Why::BootTimeout && step == Step::SendAbort {
            self.advise(id);
        }
    }

    pub(super) fn reload_failed(&self, reason: &str) {
        self.log.error(
            &NONE,
            format_args!("Reload failed, the old generation goes on. Reason: {reason}"),
        );
        self.notifier.send("READY=1\nSTATUS=Reload failed");
    }

    /// A generation serves: what the arbiter itself takes from its configuration applies now.
    fn promoted(&mut self, id: GenerationId) {
        let Some(generation) = self.generations.get(&id) else {
            return;
        };
        self.is_wsgi = generation.is_wsgi();
        self.reloader.good.clone_from(&generation.files);
        let before = listeners::names(&self.listeners);
        self.listeners.clone_from(&generation.listeners);
        if id != crate::plan::arbiter::Plan::FIRST {
            self.log.set_level(generation.config.logs.loglevel);
            self.log.set_relay(metrics::relay(&generation.config.logs));
            self.log.divert(generation.logs_by_app());
            self.metrics = Metrics::new(&generation.config.logs);
            if let Some(path) = &generation.config.logs.errorlog
                && let Err(reason) = replace_error_log(&self.log, path, generation.owner())
            {
                self.log.error(&NONE, format_args!("{reason}"));
            }
            if before != listeners::names(&self.listeners) {
                announce(&self.log, &self.listeners, generation);
            }
            let wanted = generation.config.process.pidfile.as_deref();
            let wanted = wanted.map(|path| upgrade::numbered(path, self.predecessor));
            self.move_pidfile(wanted.as_deref());
            self.open_control_socket();
        }
        self.settle_groups();
        // After WINCH the last host has outlived its generation; from now on `on_exit` is this one's.
        if let Some(host) = self.last_host.take() {
            self.dismiss(host);
        }
        let pid = own_pid();
        self.notifier.send(&format!("READY=1\nMAINPID={pid}\nSTATUS=Serving"));
    }

    fn move_pidfile(&mut self, wanted: Option<&std::path::Path>) {
        if self.pidfile.as_ref().map(pidfile::Pidfile::path) == wanted {
            return;
        }
        let Some(path) = wanted else {
            self.pidfile = None;
            return;
        };
        match pidfile::Pidfile::create(path, own_pid()) {
            Ok(pidfile) => self.pidfile = Some(pidfile),
            Err(error) => self.log.error(&NONE, format_args!("{}", generation::chain(&error))),
        }
    }

    /// Opens log files anew after they were renamed, and hands them to every front. `for_workers`: those may have log
    /// files of their own.
    pub(super) fn reopen_logs(&mut self, for_workers: bool) {
        for (id, generation) in &mut self.generations {
            let mut error_log: Option<OwnedFd> = None;
            if let Some(path) = &generation.config.logs.errorlog {
                let opened = replace_error_log(&self.log, path, generation.owner());
                match opened {
                    Ok(file) => error_log = Some(file),
                    Err(reason) => self.log.error(&NONE, format_args!("{reason}")),
                }
            }
            let mut is_new = false;
            match open_access_log(&generation.config.logs.accesslog, generation.owner()) {
                Ok(file) => {
                    is_new = file.is_some();
                    generation.access_log = file;
                }
                Err(reason) => self.log.error(&NONE, format_args!("{reason}")),
            }
            if let (Some(file), Some(host)) = (&error_log, &mut generation.host)
                && let Err(error) = host.reopen(file.as_fd())
            {
                self.log
                    .error(&NONE, format_args!("cannot hand over the error log: {error}"));
            }
            let access_log = generation.access_log().filter(|_| is_new);
            let message = ToFront::Reopen {
                error_log: error_log.is_some(),
                access_log: access_log.is_some(),
            };
            let descriptors: Vec<_> = error_log.iter().map(AsFd::as_fd).chain(access_log).collect();
            // Loggers of their own may write to files, too.
            let theirs = self.workers.values().filter(|worker| worker.generation == *id);
            for worker in theirs.filter(|worker| for_workers && worker.is_raw && worker.ready.is_some()) {
                if let Err(error) = process::signal(worker.pid, signals::USR1) {
                    let line = format_args!("cannot send USR1: {error}");
                    self.log.error(&worker.context(), line);
                }
            }
            for front in self.fronts.values_mut().filter(|front| front.generation == *id) {
                if let Err(error) = front.channel.send(&message, &descriptors) {
                    self.log
                        .error(&NONE, format_args!("cannot hand over log files: {error}"));
                }
            }
        }
    }
}

/// A text in a file that is nowhere.
pub(super) fn memory_file(text: &str) -> io::Result<File> {
    let mut file = File::from(fd::memory_file("rgunicorn-configuration")?);
    file.write_all(text.as_bytes())?;
    file.rewind()?;
    Ok(file)
}
