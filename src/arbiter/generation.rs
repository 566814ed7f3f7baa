//! One configuration in use, with what was opened for it.

use super::changing::Next;
use super::host::Host;
use super::listeners::Listener;
use super::spawn::{self, Queue};
use crate::base::ids::PoolId;
use crate::config::{AccessLog, Config, Files, Loaded, Origins, Pool, Process, Program, Reloader};
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
    /// Where its settings were set.
    pub(super) origins: Origins,
    /// What the files that it includes say.
    pub(super) files: Files,
    /// The numbers of the pools of `text`, in their order: their places in `pools` and `config.pools`, which also have
    /// pools that leave or are gone.
    pub(super) numbers: Vec<PoolId>,
    /// The configuration that is to follow.
    pub(super) next: Option<Next>,
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
    /// There is no pool of this number.
    pub(super) is_free: bool,
}

impl Generation {
    /// Opens what a configuration needs, listeners aside. The reason for a failure is for the user.
    pub(super) fn prepare(loaded: Loaded) -> Result<Self, String> {
        let has_usual_control_socket = loaded.origins.is_default("control_socket");
        let Loaded {
            config,
            text,
            wants_host,
            origins,
            files,
            ..
        } = loaded;
        let process = &config.process;
        let identity =
            Identity::resolve(process.user, process.group, process.initgroups).map_err(|error| chain(&error))?;
        let owner = owner_of(identity.as_ref());
        let access_log = open_access_log(&config.logs.accesslog, owner)?;
        let state = |pool| PoolState::new(pool, identity_of(pool)?);
        let pools = config.pools.iter().map(state).collect::<Result<Vec<_>, _>>()?;
        let count = u16::try_from(pools.len()).map_err(|_| "there are too many pools".to_owned())?;
        Ok(Self {
            text,
            origins,
            files,
            numbers: (0..count).map(PoolId).collect(),
            next: None,
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
        let is_only = self.config.pools.len() == 1;
        let pools = self.config.pools.iter().zip(&self.pools);
        let policies = pools.map(|(pool, state)| policy(pool, state, is_only, &self.config.process));
        Terms {
            pools: policies.collect(),
            grace: self.config.process.graceful_timeout,
            most_workers: self.config.process.max_workers.unwrap_or(usize::MAX),
        }
    }

    /// The pools of its configuration, in their order.
    pub(super) fn numbered(&self) -> impl Iterator<Item = (PoolId, &Pool)> {
        let pool = |number: &PoolId| Some((*number, self.config.pools.get(usize::from(number.0))?));
        self.numbers.iter().filter_map(pool)
    }

    /// The numbers of its pools, unless they are numbered in their order.
    pub(super) fn numbers_to_send(&self) -> Vec<PoolId> {
        let is_in_order = (0..).zip(&self.numbers).all(|(place, number)| number.0 == place);
        if is_in_order { Vec::new() } else { self.numbers.clone() }
    }

    /// Numbers that a pool can have, lowest first.
    pub(super) fn free_numbers(&self) -> impl Iterator<Item = PoolId> {
        let is_free = |number: &u16| self.pools.get(usize::from(*number)).is_none_or(|state| state.is_free);
        (0..u16::MAX).filter(is_free).map(PoolId)
    }

    /// Gives a free number to a pool.
    pub(super) fn put_pool(&mut self, number: PoolId, pool: Pool, state: PoolState) {
        let place = usize::from(number.0);
        while self.pools.len() <= place {
            self.pools.push(PoolState::free());
            self.config.pools.push(Pool::nothing(""));
        }
        if let (Some(old), Some(old_state)) = (self.config.pools.get_mut(place), self.pools.get_mut(place)) {
            (*old, *old_state) = (pool, state);
        }
    }

    /// Nothing is left of a pool.
    pub(super) fn free_pool(&mut self, number: PoolId) {
        self.put_pool(number, Pool::nothing(""), PoolState::free());
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

/// What a plan needs to know of a pool. Without `is_vital` one of several may fail.
pub(super) fn policy(pool: &Pool, state: &PoolState, is_vital: bool, process: &Process) -> Policy {
    let size = |workers: u32| match &pool.program {
        // One process runs all scripts; `workers` of them at once.
        _ if state.is_cgi => usize::from(workers > 0),
        Program::Exec(_) | Program::Wsgi(_) | Program::Scripts => usize::try_from(workers).unwrap_or(usize::MAX),
        Program::Connect(_) => 0,
    };
    Policy {
        workers: size(pool.workers_min),
        most: size(pool.workers),
        boot_timeout: pool.boot_timeout,
        is_probing: state.protocol == Protocol::Auto,
        // `reload`, and hooks that set `worker.alive`.
        may_leave: matches!(pool.program, Program::Wsgi(_)),
        is_vital,
        is_single: state.is_cgi,
        is_watched: process.reload.is_some() && matches!(pool.program, Program::Wsgi(_)),
    }
}

/// Who the workers of a pool become.
pub(super) fn identity_of(pool: &Pool) -> Result<Option<Identity>, String> {
    let rights = &pool.rights;
    let identity = Identity::resolve(rights.user, rights.group, rights.initgroups);
    let identity = identity.map_err(|error| format!("pool {}: {}", pool.name, chain(&error)))?;
    Ok(Identity::with_groups(identity, &rights.groups))
}

impl PoolState {
    /// Nobody's.
    fn free() -> Self {
        Self {
            queue: None,
            identity: None,
            protocol: Protocol::FastCgi,
            is_cgi: false,
            is_advised: true,
            failure: String::new(),
            bundle: None,
            is_free: true,
        }
    }

    pub(super) fn new(pool: &Pool, identity: Option<Identity>) -> Result<Self, String> {
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
            identity,
            protocol,
            is_cgi,
            is_advised: false,
            failure: String::new(),
            bundle: None,
            is_free: false,
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
