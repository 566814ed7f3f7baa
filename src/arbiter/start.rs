//! From a checked configuration to a running arbiter: what is opened, in which order, and what is said when it fails.

use super::cgroups::Groups;
use super::generation::{Generation, chain, open_access_log, open_log};
use super::host::Host;
use super::hosting::pass_lines;
use super::interpreter::{ADVICE, Interpreters};
use super::listeners::{self, BindError, Inherited, Listener};
use super::metrics::{self, Metrics};
use super::pidfile::{self, Pidfile};
use super::runtime_dir::RuntimeDir;
use super::upgrade::{self, Heritage, Origin};
use super::{Arbiter, Watchdog, facts};
use crate::base::exit::Exit;
use crate::config::{Bind, Config, Loaded, Origins, Reloader};
use crate::logging::{Flush, Logger, NONE};
use crate::plan::arbiter::Plan;
use crate::sys::notify::{Notifier, passed_descriptors, watchdog_interval};
use crate::sys::signals::{self, Signals};
use crate::sys::{clock, fd, poll, process, title};
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

/// How often an address in use is tried, a second apart: its holder may be leaving.
const ATTEMPTS: u32 = 5;

/// Why no arbiter runs.
pub(super) enum Stopped {
    /// A signal asked for it during the start.
    Asked,
    /// Something was refused; the text is for the user.
    Refused(String),
    /// The user's Python code failed, and said why itself.
    Failed {
        /// What failed.
        text: String,
        /// The exit code.
        exit: u8,
    },
}

impl Stopped {
    /// What is to be said about it.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Asked => None,
            Self::Refused(text) | Self::Failed { text, .. } => Some(text),
        }
    }

    /// How the process ends.
    pub(super) fn exit(&self) -> ExitCode {
        match self {
            Self::Asked => Exit::Ok.into(),
            Self::Refused(_) => Exit::Config.into(),
            Self::Failed { exit, .. } => (*exit).into(),
        }
    }
}

impl From<String> for Stopped {
    fn from(text: String) -> Self {
        Self::Refused(text)
    }
}

/// Makes an arbiter that has bound its listeners and has not started anything.
pub(super) fn start(reloader: Reloader, loaded: Loaded, host: Option<Host>) -> Result<Arbiter, Stopped> {
    let refused = |what: &str, error: std::io::Error| Stopped::Refused(format!("{what}: {error}"));
    let origin = Origin::note(&reloader.start);
    let heritage = Heritage::take(env(upgrade::PREDECESSOR).as_deref(), env(upgrade::LISTENERS).as_deref())?;
    let (predecessor, mut inherited) = (heritage.predecessor, heritage.sockets);
    let (origins, warnings) = (loaded.origins.clone(), loaded.warnings.clone());
    let mut generation = Generation::prepare(loaded)?;
    let mut interpreters = Interpreters::default();
    if host.is_none() {
        let checked = generation.check_interpreter(&reloader, &mut interpreters);
        checked.map_err(|reason| format!("{reason}\n  {}\n  {ADVICE}", origins.of("python", 0)))?;
    }
    let process = generation.config.process.clone();
    let mut groups = Groups::default();
    groups.enable(&generation.config)?;
    open_error_log(&generation)?;
    let pidfile = process.pidfile.as_deref();
    let pidfile = pidfile.map(|path| upgrade::numbered(path, predecessor));
    if let Some(path) = &pidfile {
        pidfile::check(path, own_pid()).map_err(|error| chain(&error))?;
    }
    let mut signals = Signals::take_over().map_err(|error| refused("cannot take over signals", error))?;
    let mut log = Logger::new(generation.config.logs.loglevel, Flush::EachLine);
    log.set_relay(metrics::relay(&generation.config.logs));
    // A daemon becomes another process, and its host must be that one's child.
    let host = host.filter(|_| generation.has_host && !process.daemon);
    if generation.has_host && !process.daemon {
        process::become_subreaper().map_err(|error| refused("cannot become a subreaper", error))?;
        prepare_host(&mut generation, host, &reloader, &mut signals)?;
    }
    log.divert(generation.logs_by_app());
    generation.list_settings(&log);
    log.info(&NONE, format_args!("Starting rgunicorn {}", env!("CARGO_PKG_VERSION")));
    for warning in &warnings {
        log.warning(&NONE, format_args!("{warning}"));
    }
    // Gunicorn says nothing of it, so neither do we where we take its place.
    if process::own_user() == 0 && generation.owner().is_none() && !generation.is_wsgi() {
        let who = "whatever has no user of its own runs as root, and what reads requests, too";
        log.info(&NONE, format_args!("No user is set: {who}; set `user`"));
    }
    pass_lines(&log, generation.host.as_mut(), log.take_diverted());
    // What goes wrong while the start can still fail is for whoever has typed the command.
    log.divert(false);
    run_hook(&mut generation, "on_starting", &mut signals)?;
    let passed = passed_by_systemd();
    let binds = listeners::wanted(&generation.config, &passed);
    let listeners = bind(&binds, &generation, &mut inherited, &origins, &log, &mut signals)?;
    if process.daemon && !heritage.is_successor {
        // After binding, so that a refusal is still seen where the command was typed.
        process::detach().map_err(|error| refused("cannot detach", error))?;
        detach_descriptors(&generation.config).map_err(|error| refused("cannot detach", error))?;
        log = Logger::new(generation.config.logs.loglevel, Flush::EachLine);
        log.set_relay(metrics::relay(&generation.config.logs));
        // Standard output may have become another.
        generation.access_log = open_access_log(&generation.config.logs.accesslog, generation.owner())?;
    }
    let pidfile = pidfile.map(|path| Pidfile::create(&path, own_pid()));
    let pidfile = pidfile.transpose().map_err(|error| chain(&error))?;
    process::become_subreaper().map_err(|error| refused("cannot become a subreaper", error))?;
    let seed = fastrand::u64(..);
    let parent = &process.runtime_dir;
    let runtime_dir = RuntimeDir::create(parent, std::process::id(), seed, generation.owner()).map_err(|error| {
        let what = format!("cannot make a runtime directory in {}", parent.display());
        let advice = "set runtime_dir to a directory that this user may write to";
        Stopped::Refused(format!("{what}: {error}\n  {advice}"))
    })?;
    if let (Some(error), Some(pool)) = (runtime_dir.refusal(), generation.config.pool_of_front()) {
        let line = format_args!(
            "{} cannot have a group of its own ({error}): scripts of the pool {pool}, which has the front's user, can \
             reach the workers of all pools",
            runtime_dir.path().display()
        );
        log.warning(&NONE, line);
    }
    let null = File::options().read(true).write(true).open("/dev/null");
    title::set_name("rgunicorn");
    upgrade::show_title(&process.proc_name, generation.is_wsgi(), predecessor);
    log.divert(generation.logs_by_app());
    announce(&log, &listeners, &generation);
    if generation.has_host && process.daemon {
        let host = evaluate_again(&reloader)?;
        prepare_host(&mut generation, host, &reloader, &mut signals)?;
        run_hook(&mut generation, "on_starting", &mut signals)?;
    }
    pass_lines(&log, generation.host.as_mut(), log.take_diverted());
    run_hook(&mut generation, "when_ready", &mut signals)?;
    let plan = Plan::new(&generation.terms(), seed);
    generation.listeners.clone_from(&listeners);
    let interval = watchdog_interval(
        std::process::id(),
        env("WATCHDOG_PID").as_deref(),
        env("WATCHDOG_USEC").as_deref(),
    );
    // The older master speaks for the service as long as it lives.
    let manager = env("NOTIFY_SOCKET").filter(|_| predecessor.is_none());
    if predecessor.is_none() {
        listeners.iter().for_each(|listener| listener.share(false));
    }
    let mut arbiter = Arbiter {
        reloader,
        plan,
        log,
        signals,
        notifier: Notifier::connect(manager.as_deref()).unwrap_or_default(),
        watchdog: interval.map(|interval| Watchdog {
            interval,
            next: clock::now(),
        }),
        is_wsgi: generation.is_wsgi(),
        wanted: Some(generation.wanted()),
        metrics: Metrics::new(&generation.config.logs),
        generations: BTreeMap::from([(Plan::FIRST, generation)]),
        loading: None,
        pending: None,
        changing: None,
        fronts: BTreeMap::new(),
        workers: BTreeMap::new(),
        listeners,
        passed,
        runtime_dir,
        groups,
        pidfile,
        control: None,
        started: clock::now(),
        looked: clock::now(),
        origin,
        successor: None,
        predecessor,
        memory_kills: facts::MemoryKills::find(),
        interpreters,
        null: null.map_err(|error| refused("cannot open /dev/null", error))?,
        is_daemon: process.daemon,
        leaving_hosts: BTreeMap::new(),
        last_host: None,
        unclaimed: Vec::new(),
        killed: Vec::new(),
        boot_cause: None,
        is_interrupted: false,
        inputs: VecDeque::new(),
        exit: None,
    };
    arbiter.open_control_socket();
    Ok(arbiter)
}

/// Gives the first generation its host, and has it do what comes before everything else: the count of workers is
/// announced, and the app imported if that is wanted.
fn prepare_host(
    generation: &mut Generation,
    host: Option<Host>,
    reloader: &Reloader,
    signals: &mut Signals,
) -> Result<(), Stopped> {
    let broken = |error: std::io::Error| Stopped::Refused(format!("cannot speak to the Python host: {error}"));
    let mut host = match host {
        Some(host) => host,
        None => generation.start_host(reloader)?,
    };
    generation.give_error_log(&mut host)?;
    if let Some(config) = generation.python(reloader) {
        host.configure(&config).map_err(broken)?;
    }
    host.workers_changed(generation.wanted(), None).map_err(broken)?;
    if generation.preloads() {
        host.preload().map_err(broken)?;
    }
    host.wait_for_all(None, Some(signals))?;
    generation.host = Some(host);
    Ok(())
}

/// Runs a hook of the start and waits for it.
fn run_hook(generation: &mut Generation, name: &'static str, signals: &mut Signals) -> Result<(), Stopped> {
    let Some(host) = &mut generation.host else {
        return Ok(());
    };
    let broken = |error: std::io::Error| Stopped::Refused(format!("cannot speak to the Python host: {error}"));
    host.hook(name).map_err(broken)?;
    host.wait_for_all(None, Some(signals))
}

/// The host of a daemon: the one that said that it shall be a daemon was another process's child.
fn evaluate_again(reloader: &Reloader) -> Result<Option<Host>, Stopped> {
    let request = reloader.conf().map_err(|problems| problems.to_string())?;
    let Some(request) = request else {
        return Ok(None);
    };
    let (_, host) = super::evaluate(&request, reloader).map_err(|problem| problem.to_string())?;
    Ok(Some(host))
}

fn env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

pub(super) fn own_pid() -> i32 {
    i32::try_from(std::process::id()).unwrap_or(0)
}

fn passed_by_systemd() -> Vec<Bind> {
    let pid = std::process::id();
    let numbers = passed_descriptors(pid, env("LISTEN_PID").as_deref(), env("LISTEN_FDS").as_deref());
    numbers.into_iter().map(Bind::Fd).collect()
}

/// The lines that scripts wait for.
pub(super) fn announce(log: &Logger, listeners: &[Rc<Listener>], generation: &Generation) {
    log.info(
        &NONE,
        format_args!("Listening at: {} ({})", listeners::names(listeners), own_pid()),
    );
    log.info(&NONE, format_args!("Using worker: {}", generation.runs()));
    let limit = std::fs::read_to_string("/proc/sys/net/core/somaxconn");
    let limit: Option<i32> = limit.ok().and_then(|text| text.trim().parse().ok());
    let backlog = generation.config.backlog;
    if let Some(limit) = limit.filter(|limit| *limit < backlog) {
        log.info(
            &NONE,
            format_args!("The kernel cuts the backlog of {backlog} to {limit} (net.core.somaxconn)"),
        );
    }
}

/// Makes the error log descriptor 2, so that everything that is printed there ends up in it.
pub(super) fn open_error_log(generation: &Generation) -> Result<(), String> {
    let Some(path) = &generation.config.logs.errorlog else {
        return Ok(());
    };
    let file = open_log(path, generation.owner())?;
    fd::replace_standard(2, &file).map_err(|error| format!("cannot log to {}: {error}", path.display()))
}

/// The same later, when lines may still wait for the old one. Gives the file, for fronts.
pub(super) fn replace_error_log(log: &Logger, path: &Path, owner: Option<(u32, u32)>) -> Result<OwnedFd, String> {
    let file = open_log(path, owner)?;
    let replaced = log.replace(&file);
    replaced.map_err(|error| format!("cannot log to {}: {error}", path.display()))?;
    Ok(file)
}

fn bind(
    binds: &[Bind],
    generation: &Generation,
    inherited: &mut Inherited,
    origins: &Origins,
    log: &Logger,
    signals: &mut Signals,
) -> Result<Vec<Rc<Listener>>, Stopped> {
    let mut attempt = 1;
    loop {
        let error = match listeners::open(binds, &generation.config, &[], inherited, generation.owner()) {
            Ok(listeners) => return Ok(listeners),
            Err(error) => error,
        };
        let Some(line) = error.in_use() else {
            return Err(Stopped::Refused(complaint(&error, origins)));
        };
        log.error(&NONE, format_args!("{line}"));
        if attempt == ATTEMPTS {
            return Err(Stopped::Refused(complaint(&error, origins)));
        }
        log.error(&NONE, format_args!("Retrying in 1 second."));
        attempt += 1;
        if is_stopped_within(signals, Duration::from_secs(1)) {
            return Err(Stopped::Asked);
        }
    }
}

/// What failed, where it was set, what to do.
pub(super) fn complaint(error: &BindError, origins: &Origins) -> String {
    let origin = match error.index {
        Some(index) => origins.of("bind", index),
        None => "set in a [[listener]] with protocol fastcgi".to_owned(),
    };
    format!("{error}\n  {origin}\n  {}", error.advice())
}

fn is_stopped_within(signals: &mut Signals, time: Duration) -> bool {
    let until = clock::now() + time;
    loop {
        let left = until.saturating_duration_since(clock::now());
        if left.is_zero() || poll::wait(&[(signals.as_fd(), false)], Some(left)).is_err() {
            return false;
        }
        while let Ok(Some(number)) = signals.arrived() {
            if matches!(number, signals::TERM | signals::INT | signals::QUIT) {
                return true;
            }
        }
    }
}

/// Lets go of the terminal: a daemon keeps standard output and error only where it was told to, and no terminal ever.
fn detach_descriptors(config: &Config) -> std::io::Result<()> {
    use std::io::IsTerminal;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    fd::replace_standard(0, &null)?;
    let keeps = config.process.enable_stdio_inheritance;
    if !keeps || std::io::stdout().is_terminal() {
        fd::replace_standard(1, &null)?;
    }
    let has_log = config.logs.errorlog.is_some();
    if !has_log && (!keeps || std::io::stderr().is_terminal()) {
        fd::replace_standard(2, &null)?;
    }
    Ok(())
}
