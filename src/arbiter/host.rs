//! The Python host: one process that evaluates a `gunicorn.conf.py`, runs the hooks of the arbiter's side, and forks
//! workers that share what it has imported.
//!
//! Both sides speak JSON, one object a packet; the host answers in the order it was asked. A worker that it forks is
//! orphaned at once, so that it becomes a child of the arbiter, which is a subreaper.
//! Never here: what a hook does, which generation a host belongs to, whether another one is started.

use super::packets::Packets;
use super::start::Stopped;
use crate::base::ids::WorkerId;
use crate::base::level::Level;
use crate::config::Evaluated;
use crate::plan::worker::Why;
use crate::sys::launch::{Launch, LaunchError, launch};
use crate::sys::signals::{self, Signals};
use crate::sys::{clock, poll, process, socket};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// A request that takes longer is mentioned in the log.
pub(super) const SLOW: Duration = Duration::from_secs(5);

/// With so many requests before it, a line is not worth waiting for.
const LINES_BEHIND: usize = 256;

/// Characters of a line at most.
const LINE: usize = 8192;

/// Time for a host to run what is registered for its exit.
const FAREWELL: Duration = Duration::from_secs(2);

/// What a host was asked and has not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// Evaluate the configuration file; asked by starting it.
    Evaluate,
    /// Take the whole configuration.
    Configure,
    /// Import the app.
    Preload,
    /// Run a hook.
    Hook(&'static str),
    /// Fork a worker.
    Fork(WorkerId),
    /// Run `child_exit`.
    ChildExit(i32),
    /// Take an error log that was opened, or opened again.
    Reopen,
    /// Log a line of the arbiter's.
    Log,
}

impl Request {
    /// For log lines.
    pub(super) fn words(&self) -> String {
        match self {
            Self::Evaluate => "the configuration file".to_owned(),
            Self::Configure => "the configuration".to_owned(),
            Self::Preload => "importing the app".to_owned(),
            Self::Hook(name) => format!("the hook {name}"),
            Self::Fork(_) => "starting a worker (pre_fork)".to_owned(),
            Self::ChildExit(_) => "the hook child_exit".to_owned(),
            Self::Reopen => "opening the logs again".to_owned(),
            Self::Log => "writing the log".to_owned(),
        }
    }
}

/// What a host says.
#[derive(Debug)]
pub(super) enum Said {
    /// What the configuration file holds.
    Evaluated(Box<Evaluated>),
    /// The oldest request was done.
    Done,
    /// The worker asked for is this process.
    Forked(WorkerId, i32),
    /// The request failed; the details are in the log already.
    Failed {
        /// Which.
        request: Request,
        /// Why, on one line.
        error: String,
        /// The exit code that Gunicorn would end with.
        exit: u8,
    },
    /// A hook wants something of the arbiter.
    Command {
        /// What; a signal by its name.
        command: String,
        /// The process it is about, if any.
        pid: i32,
    },
}

/// A running host.
#[derive(Debug)]
pub struct Host {
    pid: i32,
    packets: Packets,
    /// Oldest first.
    asked: VecDeque<Request>,
    /// What it said and nobody has taken yet.
    said: VecDeque<Said>,
    /// What hooks of the start asked for, which can be done when there is an arbiter.
    commands: VecDeque<Said>,
    /// When the oldest request became the oldest.
    since: Instant,
    is_slow_told: bool,
    /// The signal that it was sent, and why.
    pub(super) sent: Option<(i32, Why)>,
    /// The free attributes of its `server`, for the host after it. Never looked into.
    pub(super) luggage: Option<String>,
}

/// What a host is started with.
#[derive(Debug)]
pub(super) struct Start<'a> {
    /// The interpreter.
    pub(super) python: &'a Path,
    /// The whole environment.
    pub(super) env: &'a [(String, String)],
    /// The directory the arbiter was started in.
    pub(super) directory: &'a Path,
    /// The command line of the arbiter.
    pub(super) argv: &'a [String],
    /// `file:...`, `python:...`, or nothing to evaluate.
    pub(super) conf: Option<&'a str>,
}

impl Host {
    /// Starts a host. Its first answer is [`Said::Evaluated`].
    pub(super) fn start(start: &Start<'_>) -> Result<Self, String> {
        let config = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "argv": start.argv,
            "start": start.directory,
            "conf": start.conf,
        });
        let failed = |error: io::Error| format!("cannot make the descriptors of a Python host: {error}");
        let bundle = super::python::bundle("host", &config).map_err(failed)?;
        let (ours, theirs) = socket::packet_pair().map_err(failed)?;
        let null = File::open("/dev/null").map_err(failed)?;
        let (stdout, stderr) = (io::stdout(), io::stderr());
        let mut env: Vec<(OsString, OsString)> = start
            .env
            .iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        env.push(("RGUNICORN_HOST_FD".into(), "3".into()));
        env.push(("RGUNICORN_SHIM_FD".into(), "6".into()));
        let pid = launch(&Launch {
            program: start.python.into(),
            args: super::python::arguments(start.python),
            env,
            directory: start.directory.to_owned(),
            descriptors: vec![
                (0, null.as_fd()),
                (1, stdout.as_fd()),
                (2, stderr.as_fd()),
                (3, theirs.as_fd()),
                (6, bundle.as_fd()),
            ],
            ..Launch::default()
        })
        .map_err(|error: LaunchError| super::generation::chain(&error))?;
        Ok(Self {
            pid,
            packets: Packets::new(ours).map_err(failed)?,
            asked: VecDeque::from([Request::Evaluate]),
            said: VecDeque::new(),
            commands: VecDeque::new(),
            since: clock::now(),
            is_slow_told: false,
            sent: None,
            luggage: None,
        })
    }

    /// Its process.
    pub(super) fn pid(&self) -> i32 {
        self.pid
    }

    fn ask(&mut self, request: Request, message: &Value, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        if self.asked.is_empty() {
            self.since = clock::now();
            self.is_slow_told = false;
        }
        self.asked.push_back(request);
        self.packets.send(message.to_string().into_bytes(), descriptors)
    }

    /// Tells it the whole configuration.
    pub(super) fn configure(&mut self, config: &Value) -> io::Result<()> {
        self.ask(Request::Configure, &json!({"type": "configure", "config": config}), &[])
    }

    /// Has the app imported.
    pub(super) fn preload(&mut self) -> io::Result<()> {
        self.ask(Request::Preload, &json!({"type": "preload"}), &[])
    }

    /// Has a hook run that takes no more than the server.
    pub(super) fn hook(&mut self, name: &'static str) -> io::Result<()> {
        let message = json!({"type": "hook", "name": name});
        self.ask(Request::Hook(name), &message, &[])
    }

    /// Has `nworkers_changed` run.
    pub(super) fn workers_changed(&mut self, new: usize, old: Option<usize>) -> io::Result<()> {
        let name = "nworkers_changed";
        let message = json!({"type": "hook", "name": name, "new": new, "old": old});
        self.ask(Request::Hook(name), &message, &[])
    }

    /// Has a worker forked. Descriptors: channel, queue, board, standard error.
    pub(super) fn fork(&mut self, worker: WorkerId, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let message = json!({"type": "fork", "worker": worker.0, "age": worker.0});
        self.ask(Request::Fork(worker), &message, descriptors)
    }

    /// Tells it that a worker was reaped, so that `child_exit` runs. A worker that a signal killed has its negative
    /// number as code.
    pub(super) fn child_exit(&mut self, worker: WorkerId, pid: i32, code: i32) -> io::Result<()> {
        let message = json!({"type": "child_exit", "worker": worker.0, "pid": pid, "code": code});
        self.ask(Request::ChildExit(pid), &message, &[])
    }

    /// Has a line of the arbiter's written by the logger that the configuration sets up. False if that cannot be.
    pub(super) fn log(&mut self, level: Level, text: &str) -> bool {
        if !self.is_open() || self.asked.len() >= LINES_BEHIND {
            return false;
        }
        let text: String = text.chars().take(LINE).collect();
        let message = json!({"type": "log", "level": level.as_str().to_ascii_lowercase(), "text": text});
        self.ask(Request::Log, &message, &[]).is_ok()
    }

    /// Gives it the error log: a file that was opened, or opened again.
    pub(super) fn reopen(&mut self, error_log: BorrowedFd<'_>) -> io::Result<()> {
        self.ask(Request::Reopen, &json!({"type": "reopen"}), &[error_log])
    }

    /// Everything that it has said; an error ends the conversation.
    pub(super) fn hear(&mut self) -> (VecDeque<Said>, Option<String>) {
        let heard = self.listen();
        let mut said = std::mem::take(&mut self.commands);
        said.append(&mut self.said);
        (said, heard.err())
    }

    fn listen(&mut self) -> Result<(), String> {
        self.packets.flush();
        let mut buffer = Vec::new();
        loop {
            let packet = self.packets.receive(&mut buffer).map_err(|error| error.to_string())?;
            let Some(packet) = packet else {
                return Ok(());
            };
            match self.understand(packet) {
                Ok(one) => self.said.push_back(one),
                Err(error) => {
                    self.packets.close();
                    return Err(error);
                }
            }
        }
    }

    fn understand(&mut self, packet: &[u8]) -> Result<Said, String> {
        let message: Value =
            serde_json::from_slice(packet).map_err(|error| format!("said what is no JSON: {error}"))?;
        let text = |key: &str| message.get(key).and_then(Value::as_str).unwrap_or_default();
        let number = |key: &str| message.get(key).and_then(Value::as_i64).unwrap_or(0);
        let pid = i32::try_from(number("pid")).unwrap_or(0);
        if text("type") == "command" {
            let command = text("command").to_owned();
            return Ok(Said::Command { command, pid });
        }
        if let Some(luggage) = message.get("luggage").and_then(Value::as_str) {
            self.luggage = Some(luggage.to_owned());
        }
        let request = self.asked.pop_front().ok_or("answered what nobody asked")?;
        self.since = clock::now();
        self.is_slow_told = false;
        match (text("type"), request) {
            ("failed", request) => Ok(Said::Failed {
                request,
                error: text("error").to_owned(),
                exit: u8::try_from(number("exit")).unwrap_or(1).max(1),
            }),
            ("evaluated", Request::Evaluate) => Ok(Said::Evaluated(Box::new(super::evaluation::evaluated(&message)?))),
            ("forked", Request::Fork(worker)) if pid > 1 => Ok(Said::Forked(worker, pid)),
            (
                "done",
                Request::Configure
                | Request::Preload
                | Request::Hook(_)
                | Request::ChildExit(_)
                | Request::Reopen
                | Request::Log,
            ) => Ok(Said::Done),
            (kind, request) => Err(format!("answered {} with {kind:?}", request.words())),
        }
    }

    /// Waits for the next answer, at a start when nothing else can go on. A signal that asks for the end ends it.
    pub(super) fn wait(&mut self, limit: Option<Duration>, mut signals: Option<&mut Signals>) -> Result<Said, Stopped> {
        let until = limit.map(|limit| clock::now() + limit);
        loop {
            let heard = self.listen();
            while let Some(one) = self.said.pop_front() {
                if !matches!(one, Said::Command { .. }) {
                    return Ok(one);
                }
                self.commands.push_back(one);
            }
            let doing = self.asked.front().map(Request::words).unwrap_or_default();
            if let Err(error) = heard {
                return Err(Stopped::Refused(format!("the Python host {error}")));
            }
            if !self.packets.is_open() {
                let end = match process::reap(self.pid) {
                    Ok(end) => super::reap::cause(end, self.sent, None),
                    Err(_) => "is gone".to_owned(),
                };
                return Err(Stopped::Refused(format!(
                    "Python {end} during {doing}; what it printed stands above"
                )));
            }
            let left = until.map(|until| until.saturating_duration_since(clock::now()));
            if left.is_some_and(|left| left.is_zero()) {
                self.kill(Why::BootTimeout);
                return Err(Stopped::Refused(format!(
                    "{doing} took longer than boot_timeout and was given up"
                )));
            }
            let mut set = vec![(self.packets.as_fd(), self.packets.is_waiting())];
            set.extend(signals.as_ref().map(|signals| (signals.as_fd(), false)));
            if let Err(error) = poll::wait(&set, left) {
                return Err(Stopped::Refused(format!("cannot wait for events: {error}")));
            }
            while let Some(Ok(Some(number))) = signals.as_mut().map(|signals| signals.arrived()) {
                if matches!(number, signals::TERM | signals::INT | signals::QUIT) {
                    return Err(Stopped::Asked);
                }
            }
        }
    }

    /// Waits until everything asked was done. The first failure is the answer.
    pub(super) fn wait_for_all(
        &mut self,
        limit: Option<Duration>,
        mut signals: Option<&mut Signals>,
    ) -> Result<(), Stopped> {
        let mut forked = VecDeque::new();
        let mut result = Ok(());
        while result.is_ok() && (!self.asked.is_empty() || !self.said.is_empty()) {
            match self.wait(limit, signals.as_deref_mut()) {
                Ok(Said::Failed { request, error, exit }) => {
                    let text = format!("{} failed: {error}", request.words());
                    result = Err(Stopped::Failed { text, exit });
                }
                // Asked for before; to be taken by `hear`.
                Ok(one @ Said::Forked(..)) => forked.push_back(one),
                Ok(_) => {}
                Err(stopped) => result = Err(stopped),
            }
        }
        self.said.extend(forked);
        result
    }

    /// Lets it end by itself, running what is registered for its exit, and reaps it.
    pub(super) fn finish(mut self) {
        let until = clock::now() + FAREWELL;
        if socket::end_writing(&self.packets).is_ok() {
            // Its end of the socket closes when it is gone; workers that it forked have closed theirs.
            let left = until.saturating_duration_since(clock::now());
            let _ = poll::wait(&[(self.packets.as_fd(), false)], Some(left));
        }
        self.kill(Why::Shutdown);
        let _ = process::reap(self.pid);
    }

    /// Tells it that nothing more will be asked.
    pub(super) fn end_asking(&self) {
        // A host that is gone already needs no telling.
        let _ = socket::end_writing(&self.packets);
    }

    /// Ends it at once.
    pub(super) fn kill(&mut self, why: Why) {
        self.sent = Some((signals::KILL, why));
        // What it forked has left its group; it may be gone, and then there is nothing to do.
        let _ = process::signal_group(self.pid, signals::KILL);
    }

    /// When its slowness is to be mentioned.
    pub(super) fn slow_at(&self) -> Option<Instant> {
        (!self.asked.is_empty() && !self.is_slow_told).then(|| self.since + SLOW)
    }

    /// What it has been doing for too long, once.
    pub(super) fn slowness(&mut self, now: Instant) -> Option<String> {
        if self.slow_at().is_none_or(|at| at > now) {
            return None;
        }
        self.is_slow_told = true;
        self.asked.front().map(Request::words)
    }

    /// The workers it was asked to fork and has not.
    pub(super) fn unforked(&self) -> impl Iterator<Item = WorkerId> {
        self.asked.iter().filter_map(|request| match request {
            Request::Fork(worker) => Some(*worker),
            Request::Evaluate
            | Request::Configure
            | Request::Preload
            | Request::Hook(_)
            | Request::ChildExit(_)
            | Request::Reopen
            | Request::Log => None,
        })
    }

    /// Whether it has nothing to answer.
    pub(super) fn is_idle(&self) -> bool {
        self.asked.is_empty()
    }

    /// Whether there is any use in waiting for it.
    pub(super) fn is_open(&self) -> bool {
        self.packets.is_open()
    }

    /// Whether something waits to be sent to it.
    pub(super) fn is_waiting(&self) -> bool {
        self.packets.is_waiting()
    }
}

impl AsFd for Host {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.packets.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> (Host, std::os::fd::OwnedFd) {
        let (ours, theirs) = socket::packet_pair().unwrap();
        let host = Host {
            pid: 0,
            packets: Packets::new(ours).unwrap(),
            asked: VecDeque::new(),
            said: VecDeque::new(),
            commands: VecDeque::new(),
            since: clock::now(),
            is_slow_told: false,
            sent: None,
            luggage: None,
        };
        (host, theirs)
    }

    fn say(theirs: &std::os::fd::OwnedFd, text: &str) {
        socket::send_packet(theirs, text.as_bytes(), &[]).unwrap();
    }

    #[test]
    fn answers_belong_to_the_oldest_question() {
        let (mut host, theirs) = host();
        host.hook("on_starting").unwrap();
        host.fork(WorkerId(7), &[]).unwrap();
        assert_eq!(host.unforked().collect::<Vec<_>>(), [WorkerId(7)]);
        say(&theirs, r#"{"type":"command","command":"reload"}"#);
        say(&theirs, r#"{"type":"done","of":"hook"}"#);
        say(&theirs, r#"{"type":"forked","worker":7,"pid":4242}"#);
        let (said, error) = host.hear();
        assert!(error.is_none() && host.is_idle());
        assert!(matches!(&said[0], Said::Command { command, .. } if command == "reload"));
        assert!(matches!(&said[1], Said::Done));
        assert!(matches!(&said[2], Said::Forked(WorkerId(7), 4242)));
    }

    #[test]
    fn nonsense_ends_the_conversation() {
        for text in ["", "{", "{}", r#"{"type":"done"}"#] {
            let (mut host, theirs) = host();
            if text.is_empty() {
                drop(theirs);
            } else {
                say(&theirs, text);
            }
            let (said, error) = host.hear();
            assert!(said.is_empty() && !host.is_open(), "{text}");
            assert_eq!(error.is_none(), text.is_empty(), "{text}");
        }
        let (mut host, theirs) = host();
        host.fork(WorkerId(1), &[]).unwrap();
        say(&theirs, r#"{"type":"forked","pid":-1}"#);
        assert!(host.hear().1.is_some_and(|error| error.contains("pre_fork")));
    }
}
