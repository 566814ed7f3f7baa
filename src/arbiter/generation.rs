//! One configuration in use, with what was opened for it.

use super::host::Host;
use super::listeners::Listener;
use super::spawn::{self, Queue};
use crate::config::{AccessLog, Config, Loaded, Pool, Program, Reloader};
use crate::control::Protocol;
use crate::plan::generation::Terms;
use crate::plan::pool::Policy;
use crate::sys::privilege::Identity;
use crate::sys::socket;
use std::error::Error;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

/// A configuration and its resources.
#[derive(Debug)]
pub(super) struct Generation {
    pub(super) config: Config,
    /// What its fronts read.
    pub(super) text: String,
    /// Who its fronts and workers are; `None` = who we are.
    pub(super) identity: Option<Identity>,
    /// Empty once it drains.
    pub(super) listeners: Vec<Rc<Listener>>,
    pub(super) access_log: Option<OwnedFd>,
    pub(super) pools: Vec<PoolState>,
    /// Nobody asked for the control socket it has.
    pub(super) has_usual_control_socket: bool,
    /// Its workers are forked by a host.
    pub(super) has_host: bool,
    /// That host, while it lives.
    pub(super) host: Option<Host>,
}

/// What the arbiter keeps for a pool.
#[derive(Debug)]
pub(super) struct PoolState {
    pub(super) queue: Option<Queue>,
    /// Who its workers become.
    pub(super) identity: Option<Identity>,
    /// How its workers are spoken to, as far as is known.
    pub(super) protocol: Protocol,
    /// Its worker runs CGI scripts: as configured, or as was found out.
    pub(super) is_cgi: bool,
    /// What to do about workers that do not become ready was said: once is enough.
    pub(super) is_advised: bool,
    /// Why its last worker that failed to start did so.
    pub(super) failure: String,
    /// What its Python workers read that no host forks, once one was started.
    pub(super) bundle: Option<OwnedFd>,
}

impl Generation {
    /// Opens what a configuration needs, listeners aside. The reason for a failure is for the user.
    pub(super) fn prepare(loaded: Loaded) -> Result<Self, String> {
        let has_usual_control_socket = loaded.origins.is_default("control_socket");
        let Loaded {
            config,
            text,
            wants_host,
            ..
        } = loaded;
        let process = &config.process;
        let identity =
            Identity::resolve(process.user, process.group, process.initgroups).map_err(|error| chain(&error))?;
        let owner = owner_of(identity.as_ref());
        let access_log = open_access_log(&config.logs.accesslog, owner)?;
        let pools = config.pools.iter().map(PoolState::new).collect::<Result<_, _>>()?;
        Ok(Self {
            text,
            identity,
            listeners: Vec::new(),
            access_log,
            pools,
            has_usual_control_socket,
            config,
            has_host: wants_host,
            host: None,
        })
    }

    /// What a plan needs to know of it.
    pub(super) fn terms(&self) -> Terms {
        let size = |pool: &Pool, state: &PoolState, workers: u32| match &pool.program {
            // One process runs all scripts; `workers` of them at once.
            _ if state.is_cgi => usize::from(workers > 0),
            Program::Exec(_) | Program::Wsgi(_) | Program::Scripts => usize::try_from(workers).unwrap_or(usize::MAX),
            Program::Connect(_) => 0,
        };
        let policies = self.config.pools.iter().zip(&self.pools).map(|(pool, state)| Policy {
            workers: size(pool, state, pool.workers_min),
            most: size(pool, state, pool.workers),
            boot_timeout: pool.boot_timeout,
            is_probing: state.protocol == Protocol::Auto,
            // `reload`, and hooks that set `worker.alive`.
            may_leave: matches!(pool.program, Program::Wsgi(_)),
            is_vital: self.config.pools.len() == 1,
            is_single: state.is_cgi,
        });
        Terms {
            pools: policies.collect(),
            grace: self.config.process.graceful_timeout,
            most_workers: self.config.process.max_workers.unwrap_or(usize::MAX),
        }
    }

    /// Makes what the workers of a pool read that are started without a host.
    pub(super) fn make_bundle(&mut self, place: usize, reloader: &Reloader) -> io::Result<()> {
        let is_forked = self.is_forked(place);
        if let (Some(pool), Some(state)) = (self.config.pools.get(place), self.pools.get_mut(place))
            && let Program::Wsgi(wsgi) = &pool.program
            && state.bundle.is_none()
            && !is_forked
        {
            let config = super::python::configuration(&self.config, pool, wsgi, reloader);
            state.bundle = Some(super::python::bundle("worker", &config)?);
        }
        Ok(())
    }

    /// Whether the host forks the workers of a pool: it has one app, that of the unnamed pool.
    pub(super) fn is_forked(&self, place: usize) -> bool {
        self.has_host && place == 0 && self.config.unnamed_pool().is_some()
    }

    /// User and group of what its fronts must reach.
    pub(super) fn owner(&self) -> Option<(u32, u32)> {
        owner_of(self.identity.as_ref())
    }

    /// The access log, as a descriptor to pass on.
    pub(super) fn access_log(&self) -> Option<BorrowedFd<'_>> {
        self.access_log.as_ref().map(AsFd::as_fd)
    }

    /// What the banner says it runs.
    pub(super) fn runs(&self) -> String {
        let name = |program: &Program| match program {
            Program::Exec(words) => words.first().cloned().unwrap_or_default(),
            Program::Connect(_) => "connect".to_owned(),
            Program::Scripts => "cgi".to_owned(),
            Program::Wsgi(wsgi) => wsgi.worker_class.name().to_owned(),
        };
        match &self.config.pools[..] {
            [pool] => name(&pool.program),
            // There may be hundreds.
            pools => format!("{} pools", pools.len()),
        }
    }
}

impl PoolState {
    fn new(pool: &Pool) -> Result<Self, String> {
        let rights = &pool.rights;
        let identity = Identity::resolve(rights.user, rights.group, rights.initgroups);
        let identity = identity.map_err(|error| format!("pool {}: {}", pool.name, chain(&error)))?;
        let failed = |error: io::Error| format!("cannot make a pool's queue: {error}");
        let protocol = spawn::protocol_of(pool);
        let is_cgi = spawn::is_cgi(pool);
        let queue = if spawn::has_queue(pool, protocol, is_cgi) {
            let (send, receive) = socket::packet_pair().map_err(failed)?;
            // What does not fit waits in the front; this only makes that rare.
            socket::enlarge_send_buffer(&send, QUEUE_BUFFER);
            Some(Queue { send, receive })
        } else {
            None
        };
        Ok(Self {
            queue,
            identity: Identity::with_groups(identity, &rights.groups),
            protocol,
            is_cgi,
            is_advised: false,
            failure: String::new(),
            bundle: None,
        })
    }
}

/// Bytes of requests that may wait in a pool's queue socket, in the kernel's count of them, if it grants as much.
const QUEUE_BUFFER: usize = 1024 * 1024;

/// Opens a log file for appending.
pub(super) fn open_log(path: &Path, owner: Option<(u32, u32)>) -> Result<OwnedFd, String> {
    let failed = |error: io::Error| format!("cannot open log file {}: {error}", path.display());
    let mut options = File::options();
    options.append(true);
    match options.clone().create_new(true).open(path) {
        Ok(file) => {
            // Only one that was just made here: another may be a link to anything.
            if let Some((user, group)) = owner {
                std::os::unix::fs::fchown(&file, Some(user), Some(group)).map_err(failed)?;
            }
            Ok(file.into())
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            options.create(true).open(path).map(OwnedFd::from).map_err(failed)
        }
        Err(error) => Err(failed(error)),
    }
}

pub(super) fn open_access_log(log: &AccessLog, owner: Option<(u32, u32)>) -> Result<Option<OwnedFd>, String> {
    match log {
        AccessLog::Off => Ok(None),
        AccessLog::File(path) => open_log(path, owner).map(Some),
        AccessLog::Stdout => {
            let copy = std::io::stdout().as_fd().try_clone_to_owned();
            copy.map(Some)
                .map_err(|error| format!("cannot log to standard output: {error}"))
        }
    }
}

fn owner_of(identity: Option<&Identity>) -> Option<(u32, u32)> {
    identity.map(|identity| (identity.uid(), identity.gid()))
}

/// An error with its causes, on one line.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
