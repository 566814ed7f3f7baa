//! What a front or a worker is started with: program, environment, descriptors, user.
//!
//! Never here: whether and when to start one (`plan`).

use super::control::Channel;
use super::host::Host;
use super::output::Output;
use super::runtime_dir::RuntimeDir;
use crate::base::ids::{PoolId, WorkerId};
use crate::config::{Pool, Process, Program, RunnerOrder, WorkerProtocol};
use crate::control::{Protocol, Ready};
use crate::logging::{Context, NONE};
use crate::plan::generation::GenerationId;
use crate::plan::worker::Why;
use crate::sys::board::{self, Board};
use crate::sys::cgroup::Group;
use crate::sys::launch::{Launch, LaunchError, Stage, launch};
use crate::sys::privilege::Identity;
use crate::sys::process::{self, set_umask};
use crate::sys::{account, clock, fd, listen, socket};
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Connections that may wait at a FastCGI worker: more than a front ever opens to one.
const WORKER_BACKLOG: i32 = 511;

/// This program, for who runs it again.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// Variables that speak to the arbiter, not to apps.
const OURS: [&str; 8] = [
    super::upgrade::PREDECESSOR,
    super::upgrade::LISTENERS,
    "NOTIFY_SOCKET",
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
];

/// The pull queue of a pool: sending end, receiving end. Kept so that it outlives a front.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) send: OwnedFd,
    pub(super) receive: OwnedFd,
}

/// A running front.
#[derive(Debug)]
pub(super) struct FrontProcess {
    pub(super) generation: GenerationId,
    pub(super) pid: i32,
    pub(super) channel: Channel,
    /// It may receive workers: it has been sent its configuration.
    pub(super) sent_kill: bool,
}

/// A running worker.
#[derive(Debug)]
pub(super) struct WorkerProcess {
    pub(super) generation: GenerationId,
    pub(super) pool: PoolId,
    /// 0 while a host has not forked it yet.
    pub(super) pid: i32,
    /// Its number, also its age.
    pub(super) id: WorkerId,
    /// For log lines.
    pub(super) pool_name: String,
    pub(super) protocol: Protocol,
    pub(super) path: Option<PathBuf>,
    pub(super) board: Board,
    pub(super) board_file: OwnedFd,
    /// The front's end of its channel; let go when the worker shall leave, so that it sees the end of it.
    pub(super) channel: Option<OwnedFd>,
    pub(super) output: File,
    pub(super) printed: Output,
    /// What it prints goes to the error log as it is: its lines have Gunicorn's form already.
    pub(super) is_raw: bool,
    /// It runs CGI scripts.
    pub(super) is_cgi: bool,
    pub(super) ready: Option<Ready>,
    /// When it was started.
    pub(super) since: Instant,
    /// It is being replaced because of its age or its memory.
    pub(super) is_spent: bool,
    /// Its control group, if its pool has limits.
    pub(super) group: Option<Group>,
    /// The last signal we sent, and why.
    pub(super) sent: Option<(i32, Why)>,
}

impl WorkerProcess {
    /// How every log line names it.
    pub(super) fn context(&self) -> Context<'_> {
        Context {
            pool: Some(&self.pool_name),
            worker: Some(self.id),
            age: Some(self.id.0),
            pid: (self.pid != 0).then_some(self.pid),
            ..NONE
        }
    }
}

/// Why a worker could not be started.
#[derive(Debug, thiserror::Error)]
pub(super) enum SpawnError {
    /// Its sockets, pipes or board could not be made.
    #[error("cannot make the worker's descriptors: {0}")]
    Resources(#[from] io::Error),
    /// The process could not be launched.
    #[error("{error}{who}: {source}{advice}", who = as_whom(.error, *.user), source = .error.source,
        advice = advice(.error, *.user))]
    Launch {
        /// Why.
        error: LaunchError,
        /// The user whose rights it had.
        user: u32,
    },
}

/// Directories and programs are reached with the rights of one user, who may be another than the one who looks.
fn as_whom(error: &LaunchError, user: u32) -> String {
    match error.stage {
        Stage::Directory | Stage::Execute => format!(" as user {}", account::user_name(user)),
        _ => String::new(),
    }
}

/// What finds out why a program may not be executed: a directory above it, its bits, its mount.
fn advice(error: &LaunchError, user: u32) -> String {
    let is_forbidden = error.stage == Stage::Execute && error.source.kind() == io::ErrorKind::PermissionDenied;
    // Not for the runner, which is this program.
    if !is_forbidden || error.subject == Path::new(OWN_PROGRAM) {
        return String::new();
    }
    let (file, user) = (error.subject.display(), account::user_name(user));
    format!("; rgunicorn --doctor {file} -u {user} says why")
}

impl SpawnError {
    /// Whether another try cannot go better.
    pub(super) fn is_lasting(&self) -> bool {
        match self {
            Self::Resources(_) => false,
            Self::Launch { error, .. } => error.stage == Stage::Execute && !error.is_passing(),
        }
    }
}

/// How a pool is spoken to, before anything is found out: by its settings, else by the name of its program.
pub(super) fn protocol_of(pool: &Pool) -> Protocol {
    match pool.protocol {
        WorkerProtocol::FastCgi => Protocol::FastCgi,
        // The runner is a pipe worker.
        WorkerProtocol::Pipe | WorkerProtocol::Cgi => Protocol::Pipe,
        WorkerProtocol::Auto if pool.pipe_stdio => Protocol::Pipe,
        WorkerProtocol::Auto => match &pool.program {
            Program::Exec(words) if is_fastcgi_name(words) => Protocol::FastCgi,
            Program::Exec(_) => Protocol::Auto,
            Program::Connect(_) => Protocol::FastCgi,
            Program::Wsgi(_) | Program::Scripts => Protocol::Pipe,
        },
    }
}

fn is_fastcgi_name(words: &[String]) -> bool {
    let program = words.first().map(Path::new).and_then(Path::file_name);
    program.and_then(|name| name.to_str()).is_some_and(|name| {
        let extension = Path::new(name).extension();
        name.starts_with("php-cgi") || extension.is_some_and(|extension| extension == "fcgi")
    })
}

/// Whether a pool runs CGI scripts, by its settings.
pub(super) fn is_cgi(pool: &Pool) -> bool {
    pool.protocol == WorkerProtocol::Cgi || pool.program == Program::Scripts
}

/// Whether a pool has a pull queue. Its front gets it before any worker, so a program that may turn out to be a CGI
/// script has one in any case.
pub(super) fn has_queue(pool: &Pool, protocol: Protocol, is_cgi: bool) -> bool {
    protocol == Protocol::Auto || may_pull(pool, protocol, is_cgi)
}

/// Whether workers of a pool may be handed its pull queue. A request in there is whole, so streamed ones never are.
pub(super) fn may_pull(pool: &Pool, protocol: Protocol, is_cgi: bool) -> bool {
    let is_ours = is_cgi || matches!(pool.program, Program::Wsgi(_));
    is_ours || (pool.pull && !pool.stream_request && protocol != Protocol::FastCgi)
}

/// Everything a worker's start needs besides its number.
#[derive(Debug)]
pub(super) struct Order<'a> {
    pub(super) worker: WorkerId,
    pub(super) generation: GenerationId,
    pub(super) pool_id: PoolId,
    pub(super) pool: &'a Pool,
    pub(super) protocol: Protocol,
    /// It is a runner of CGI scripts.
    pub(super) is_cgi: bool,
    pub(super) queue: Option<&'a Queue>,
    pub(super) directory: &'a RuntimeDir,
    pub(super) identity: Option<&'a Identity>,
    /// The control group that is made for it.
    pub(super) group: Option<&'a Group>,
    pub(super) null: BorrowedFd<'a>,
    /// What a Python worker prints to standard output goes where its errors go.
    pub(super) captures_output: bool,
    /// What a Python worker without a host reads.
    pub(super) bundle: Option<BorrowedFd<'a>>,
}

impl Order<'_> {
    fn entrance(&self) -> Result<Option<OwnedFd>, LaunchError> {
        let entrance = self.group.map(Group::entrance).transpose();
        entrance.map_err(|source| LaunchError {
            stage: Stage::Group,
            subject: PathBuf::new(),
            source,
        })
    }
}

/// Starts a worker, or has it forked by `host`; then it has no pid yet.
pub(super) fn worker(order: &Order<'_>, host: Option<&mut Host>) -> Result<WorkerProcess, SpawnError> {
    let board_file = board::create()?;
    let (output, printing) = fd::pipe()?;
    fd::set_nonblocking(&output, true)?;
    let listener = match order.protocol {
        Protocol::Pipe => None,
        Protocol::Auto | Protocol::FastCgi => Some(worker_listener(order)?),
    };
    let channel = match order.protocol {
        Protocol::FastCgi => None,
        Protocol::Auto | Protocol::Pipe => Some(socket::stream_pair()?),
    };
    let theirs = Theirs {
        listener: listener.as_ref().map(|(socket, _)| socket.as_fd()),
        channel: channel.as_ref().map(|(_, theirs)| theirs.as_fd()),
        queue: order.queue.map(|queue| queue.receive.as_fd()),
        board: board_file.as_fd(),
        printing: printing.as_fd(),
    };
    let pid = match host {
        Some(host) => fork(order, &theirs, host).map(|()| 0)?,
        None => {
            let launched = execute(order, &theirs);
            launched.map_err(|error| {
                if let Some((_, path)) = &listener {
                    order.directory.remove(path);
                }
                let user = order.identity.map_or_else(process::own_user, Identity::uid);
                SpawnError::Launch { error, user }
            })?
        }
    };
    // A runner only hands on what others work at, as the front does, and has to be quick about it.
    if pid != 0 && !order.is_cgi {
        process::wait_when_woken(pid);
    }
    Ok(WorkerProcess {
        generation: order.generation,
        pool: order.pool_id,
        pid,
        id: order.worker,
        pool_name: order.pool.name.clone(),
        protocol: order.protocol,
        path: listener.map(|(_, path)| path),
        board: Board::map(&board_file)?,
        board_file,
        channel: channel.map(|(ours, _)| ours),
        output: File::from(output),
        printed: Output::default(),
        is_raw: matches!(order.pool.program, Program::Wsgi(_)),
        is_cgi: order.is_cgi,
        ready: None,
        since: clock::now(),
        is_spent: false,
        group: order.group.cloned(),
        sent: None,
    })
}

fn execute(order: &Order<'_>, theirs: &Theirs<'_>) -> Result<i32, LaunchError> {
    if order.is_cgi {
        return runner(order, theirs);
    }
    let args: Vec<OsString> = match &order.pool.program {
        Program::Exec(words) => words.iter().map(OsString::from).collect(),
        Program::Wsgi(wsgi) => super::python::arguments(&wsgi.python),
        // Nothing is started for servers that others run.
        Program::Connect(_) | Program::Scripts => Vec::new(),
    };
    let stdout = io::stdout();
    let mut descriptors = descriptors(order.pool, theirs, order.null);
    let mut env = environment(order.pool, order.protocol, order.queue.is_some());
    if let Some(bundle) = order.bundle {
        // Its standard output is ours, as under Gunicorn.
        if !order.captures_output {
            descriptors.retain(|(number, _)| *number != 1);
            descriptors.push((1, stdout.as_fd()));
        }
        descriptors.push((super::python::BUNDLE_FD, bundle));
        env.push(("RGUNICORN_SHIM_FD".into(), super::python::BUNDLE_FD.to_string().into()));
        env.push(("RGUNICORN_AGE".into(), order.worker.0.to_string().into()));
    }
    let rights = &order.pool.rights;
    let entrance = order.entrance()?;
    let group = entrance.as_ref().map(AsFd::as_fd);
    launch(&Launch {
        program: args.first().cloned().unwrap_or_default(),
        args,
        env,
        directory: order.pool.chdir.clone(),
        descriptors,
        identity: order.identity,
        group,
        umask: rights.umask,
        nice: rights.nice,
        chroot: rights.chroot.clone(),
        no_new_privileges: rights.no_new_privileges,
        own_session: false,
        many_descriptors: false,
    })
}

/// Starts a runner: this program again, in a session of its own, by which what its scripts leave can be found.
fn runner(order: &Order<'_>, theirs: &Theirs<'_>) -> Result<i32, LaunchError> {
    // What it does not know as its own it passes on to scripts.
    let mut env = environment(order.pool, Protocol::Pipe, order.queue.is_some());
    let told = RunnerOrder::of(order.pool).encode();
    env.push((crate::config::RUNNER_VARIABLE.into(), told.into()));
    let rights = &order.pool.rights;
    let entrance = order.entrance()?;
    let group = entrance.as_ref().map(AsFd::as_fd);
    launch(&Launch {
        program: OWN_PROGRAM.into(),
        args: vec![title("runner", &order.pool.name).into(), "__runner".into()],
        env,
        directory: order.pool.chdir.clone(),
        descriptors: descriptors(order.pool, theirs, order.null),
        identity: order.identity,
        group,
        umask: rights.umask,
        nice: rights.nice,
        chroot: None,
        no_new_privileges: rights.no_new_privileges,
        own_session: true,
        many_descriptors: false,
    })
}

/// Everything else a forked worker has from its host.
fn fork(order: &Order<'_>, theirs: &Theirs<'_>, host: &mut Host) -> io::Result<()> {
    let (Some(channel), Some(queue)) = (theirs.channel, theirs.queue) else {
        return Err(io::ErrorKind::Unsupported.into());
    };
    host.fork(order.worker, &[channel, queue, theirs.board, theirs.printing])
}

/// Its listening socket. Everybody may connect who can reach it, which the directory restricts. Where that belongs to the
/// front's user, nothing in it may be named to a call that root makes and that would follow a link.
fn worker_listener(order: &Order<'_>) -> io::Result<(OwnedFd, PathBuf)> {
    let path = order.directory.path().join(format!("w{}.sock", order.worker.0));
    let before = set_umask(0);
    let socket = listen::unix(&path, WORKER_BACKLOG);
    set_umask(before);
    Ok((socket?, path))
}

/// What a worker's descriptors refer to.
struct Theirs<'a> {
    listener: Option<BorrowedFd<'a>>,
    channel: Option<BorrowedFd<'a>>,
    queue: Option<BorrowedFd<'a>>,
    board: BorrowedFd<'a>,
    printing: BorrowedFd<'a>,
}

/// FastCGI on 0, the pipe protocol on 3 to 5, both while nobody knows; 1 and 2 are for printing.
fn descriptors<'a>(pool: &Pool, theirs: &Theirs<'a>, null: BorrowedFd<'a>) -> Vec<(i32, BorrowedFd<'a>)> {
    let mut list = Vec::with_capacity(7);
    match theirs.channel {
        Some(channel) if pool.pipe_stdio => {
            list.extend([(0, channel), (1, channel), (2, theirs.printing)]);
        }
        _ => {
            let input = theirs.listener.unwrap_or(null);
            list.extend([(0, input), (1, theirs.printing), (2, theirs.printing)]);
            list.extend(theirs.channel.map(|channel| (3, channel)));
        }
    }
    if theirs.channel.is_some() {
        list.extend(theirs.queue.map(|queue| (4, queue)));
        list.push((5, theirs.board));
    }
    list
}

fn environment(pool: &Pool, protocol: Protocol, has_queue: bool) -> Vec<(OsString, OsString)> {
    let theirs = pool.env.iter().filter(|(name, _)| !OURS.contains(&name.as_str()));
    let mut env: Vec<(OsString, OsString)> = theirs.map(|(name, value)| (name.into(), value.into())).collect();
    let has = |name: &str| pool.env.iter().any(|(known, _)| known == name);
    if protocol != Protocol::Pipe {
        // Recycling and concurrency are ours: php-cgi must neither fork nor leave by itself.
        for name in ["PHP_FCGI_CHILDREN", "PHP_FCGI_MAX_REQUESTS"] {
            if !has(name) {
                env.push((name.into(), "0".into()));
            }
        }
    }
    if protocol != Protocol::FastCgi {
        let channel = if pool.pipe_stdio { "0" } else { "3" };
        env.push(("RGUNICORN_FD".into(), channel.into()));
        if has_queue {
            env.push(("RGUNICORN_QUEUE_FD".into(), "4".into()));
        }
        env.push(("RGUNICORN_BOARD_FD".into(), "5".into()));
        env.push(("RGUNICORN_SLOTS".into(), pool.threads.to_string().into()));
    }
    env
}

/// Starts a front: this program again, unprivileged, with its control channel on descriptor 3 and our standard error.
pub(super) fn front(
    generation: GenerationId,
    process: &Process,
    identity: Option<&Identity>,
    null: BorrowedFd<'_>,
) -> Result<FrontProcess, SpawnError> {
    let (ours, theirs) = socket::packet_pair()?;
    let errors = std::io::stderr();
    // The time zone for its log lines; nothing else of our environment is its business.
    let kept = ["TZ", "RUST_BACKTRACE"];
    let env = kept
        .iter()
        .filter_map(|name| Some((OsString::from(name), std::env::var_os(name)?)));
    let pid = launch(&Launch {
        program: OWN_PROGRAM.into(),
        args: vec![title("front", &process.proc_name).into(), "__front".into()],
        env: env.collect(),
        directory: "/".into(),
        descriptors: vec![(0, null), (1, null), (2, errors.as_fd()), (3, theirs.as_fd())],
        identity,
        group: None,
        umask: Some(0o077),
        nice: None,
        chroot: None,
        no_new_privileges: true,
        own_session: false,
        many_descriptors: true,
    })
    .map_err(|error| SpawnError::Launch {
        error,
        user: identity.map_or_else(process::own_user, Identity::uid),
    })?;
    Ok(FrontProcess {
        generation,
        pid,
        channel: Channel::new(ours)?,
        sent_kill: false,
    })
}

/// What `ps` shows for one of our processes.
pub(super) fn title(role: &str, name: &str) -> String {
    if name.is_empty() {
        return format!("rgunicorn: {role}");
    }
    format!("rgunicorn: {role} [{name}]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_can_only_mean_fastcgi() {
        let case = |word: &str| is_fastcgi_name(&[word.to_owned()]);
        assert!(case("php-cgi") && case("/usr/bin/php-cgi8.2") && case("./site.fcgi"));
        assert!(!case("php") && !case("./app.py") && !case("fcgi") && !case("./a.fcgi/app"));
        assert!(!is_fastcgi_name(&[]));
    }

    #[test]
    fn titles_name_the_role_and_the_service() {
        assert_eq!(title("arbiter", ""), "rgunicorn: arbiter");
        assert_eq!(title("front", "shop"), "rgunicorn: front [shop]");
    }
}
