//! Listening sockets: bound once, kept across reloads and front restarts so that the kernel's backlog survives.

use crate::config::{Bind, Config};
use crate::sys::listen::{self, Bound};
use crate::sys::process::set_umask;
use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// A bound listener. Its unix socket file is removed with it, unless somebody else has put another one there.
#[derive(Debug)]
pub(super) struct Listener {
    bind: Bind,
    socket: OwnedFd,
    bound: Bound,
    /// What is spoken there: FastCGI by web servers, or HTTP. A reload may change it.
    is_fastcgi: Cell<bool>,
    file: Option<SocketFile>,
}

#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
    /// Another master serves it too.
    is_shared: Cell<bool>,
}

/// Listening sockets that another master of ours handed over.
#[derive(Debug, Default)]
pub(super) struct Inherited {
    sockets: Vec<Handed>,
}

#[derive(Debug)]
struct Handed {
    number: RawFd,
    bound: Bound,
    socket: OwnedFd,
    is_taken: bool,
}

impl Inherited {
    /// Adopts one, which must be a listening socket.
    pub(super) fn add(&mut self, number: RawFd) -> io::Result<()> {
        let socket = crate::sys::fd::adopt(number)?;
        let bound = listen::bound(&socket)?;
        self.sockets.push(Handed {
            number,
            bound,
            socket,
            is_taken: false,
        });
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sockets.is_empty()
    }

    /// A copy of the one that is bound as asked for, if nobody has it yet. `binds` = all that is asked for.
    fn take(&mut self, bind: &Bind, binds: &[Bind]) -> io::Result<Option<OwnedFd>> {
        let is_named = |address| binds.contains(&Bind::Tcp(address));
        let is_it = |handed: &&mut Handed| match (bind, &handed.bound) {
            (Bind::Fd(wanted), _) => *wanted == handed.number,
            // Whatever port the system chose then.
            (Bind::Tcp(wanted), Bound::Tcp(has)) if wanted.port() == 0 => wanted.ip() == has.ip() && !is_named(*has),
            (Bind::Tcp(wanted), Bound::Tcp(has)) => wanted == has,
            // Without its file nobody finds it any more.
            (Bind::Unix(wanted), Bound::Unix(has)) => wanted == has && identity(wanted).is_ok(),
            _ => false,
        };
        let free = self.sockets.iter_mut().filter(|handed| !handed.is_taken);
        let Some(handed) = free.into_iter().find(is_it) else {
            return Ok(None);
        };
        handed.is_taken = true;
        handed.socket.try_clone().map(Some)
    }
}

/// Why a listener cannot be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {}: {}", shown(.bind), reason(.source))]
pub(super) struct BindError {
    /// Its place in `bind`; `None` = it is a `[[listener]]` that speaks FastCGI.
    pub(super) index: Option<usize>,
    /// What was to be bound.
    bind: Bind,
    /// What the system said.
    pub(super) source: io::Error,
}

impl BindError {
    /// Gunicorn's line for an address that somebody else has, which may be leaving; `None` for other reasons.
    pub(super) fn in_use(&self) -> Option<String> {
        let address = match &self.bind {
            Bind::Tcp(address) => format!("('{}', {})", address.ip(), address.port()),
            Bind::Unix(path) => path.display().to_string(),
            Bind::Fd(_) => return None,
        };
        (self.source.kind() == io::ErrorKind::AddrInUse).then(|| format!("Connection in use: {address}"))
    }

    /// What to do about it.
    pub(super) fn advice(&self) -> &'static str {
        match self.source.kind() {
            io::ErrorKind::AddrInUse => "stop the process that has it, or choose another address",
            io::ErrorKind::PermissionDenied => {
                "start as root with `user` set, grant CAP_NET_BIND_SERVICE, or choose a port above 1023"
            }
            io::ErrorKind::AddrNotAvailable => "choose an address that this machine has",
            io::ErrorKind::AlreadyExists => "remove it if nobody needs it, or choose another path",
            _ => "choose another address",
        }
    }
}

/// As users write it.
pub(super) fn shown(bind: &Bind) -> String {
    match bind {
        Bind::Tcp(address) => address.to_string(),
        Bind::Unix(path) => format!("unix:{}", path.display()),
        Bind::Fd(number) => format!("fd://{number}"),
    }
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "address already in use".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::AddrNotAvailable => "no such address on this machine".to_owned(),
        io::ErrorKind::AlreadyExists => "what is there is not a socket".to_owned(),
        _ => error.to_string(),
    }
}

/// Where to listen: for HTTP at what systemd has passed or else what `bind` says, then for FastCGI.
pub(super) fn wanted(config: &Config, passed: &[Bind]) -> Vec<Bind> {
    let fastcgi = || config.fastcgi.iter().map(|listener| &listener.bind);
    let free = passed.iter().filter(|bind| !fastcgi().any(|other| other == *bind));
    let http = if passed.is_empty() { &config.bind[..] } else { &[] };
    http.iter().chain(free).chain(fastcgi()).cloned().collect()
}

/// Binds all of `binds`, keeping those of `existing` and of `inherited` that are bound the same way. All or nothing.
pub(super) fn open(
    binds: &[Bind],
    config: &Config,
    existing: &[Rc<Listener>],
    inherited: &mut Inherited,
    owner: Option<(u32, u32)>,
) -> Result<Vec<Rc<Listener>>, BindError> {
    let mut opened = Vec::with_capacity(binds.len());
    inherited.sockets.iter_mut().for_each(|handed| handed.is_taken = false);
    let http = binds.len().saturating_sub(config.fastcgi.len());
    for (index, bind) in binds.iter().enumerate() {
        // Port 0 may be asked for more than once.
        let is_free = |listener: &Rc<Listener>| !opened.iter().any(|other| Rc::ptr_eq(other, listener));
        let same = |listener: &&Rc<Listener>| listener.bind == *bind && is_free(listener);
        if let Some(listener) = existing.iter().find(same) {
            listener.is_fastcgi.set(index >= http);
            opened.push(Rc::clone(listener));
            continue;
        }
        let listener = match inherited.take(bind, binds) {
            Ok(Some(socket)) => Listener::adopt(bind, socket, config),
            Ok(None) => {
                let fastcgi = index.checked_sub(http).and_then(|place| config.fastcgi.get(place));
                let umask = fastcgi.map_or(config.process.umask, |listener| !listener.mode & 0o777);
                Listener::open(bind, config, umask, owner)
            }
            Err(error) => Err(error),
        };
        let listener = listener.map_err(|source| BindError {
            index: (index < http).then_some(index),
            bind: bind.clone(),
            source,
        })?;
        listener.is_fastcgi.set(index >= http);
        opened.push(Rc::new(listener));
    }
    Ok(opened)
}

impl Listener {
    fn open(bind: &Bind, config: &Config, umask: u32, owner: Option<(u32, u32)>) -> io::Result<Self> {
        let (socket, file) = match bind {
            Bind::Tcp(address) => (listen::tcp(*address, config.backlog, config.reuse_port)?, None),
            Bind::Unix(path) => {
                let (socket, file) = open_unix(path, config.backlog, umask, owner)?;
                (socket, Some(file))
            }
            Bind::Fd(number) => (crate::sys::fd::adopt(*number)?, None),
        };
        Self::new(bind, socket, file)
    }

    /// Takes over what another master listens on.
    fn adopt(bind: &Bind, socket: OwnedFd, config: &Config) -> io::Result<Self> {
        listen::set_backlog(&socket, config.backlog)?;
        let file = match bind {
            Bind::Unix(path) => Some(SocketFile {
                path: path.clone(),
                identity: identity(path)?,
                is_shared: Cell::new(true),
            }),
            Bind::Tcp(_) | Bind::Fd(_) => None,
        };
        Self::new(bind, socket, file)
    }

    fn new(bind: &Bind, socket: OwnedFd, file: Option<SocketFile>) -> io::Result<Self> {
        let bound = listen::bound(&socket)?;
        crate::sys::fd::set_cloexec(&socket, true)?;
        crate::sys::fd::set_nonblocking(&socket, true)?;
        Ok(Self {
            bind: bind.clone(),
            socket,
            bound,
            is_fastcgi: Cell::new(false),
            file,
        })
    }

    /// `http://127.0.0.1:8000` with the real port, `unix:/run/x.sock`, `fastcgi://127.0.0.1:9000`, `fastcgi:unix:/x`.
    pub(super) fn name(&self) -> String {
        let is_fastcgi = self.is_fastcgi.get();
        let place = match &self.bound {
            Bound::Tcp(address) if is_fastcgi => format!("//{address}"),
            Bound::Tcp(address) => format!("http://{address}"),
            Bound::Unix(path) => format!("unix:{}", path.display()),
            Bound::Other => shown(&self.bind),
        };
        if is_fastcgi { format!("fastcgi:{place}") } else { place }
    }

    /// What it was bound by.
    pub(super) fn bind(&self) -> &Bind {
        &self.bind
    }

    /// Whether another master serves it too, so that its file must stay.
    pub(super) fn share(&self, is_shared: bool) {
        if let Some(file) = &self.file {
            file.is_shared.set(is_shared);
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let Some(file) = &self.file else {
            return;
        };
        if !file.is_shared.get() && identity(&file.path).is_ok_and(|identity| identity == file.identity) {
            let _ = std::fs::remove_file(&file.path);
        }
    }
}

fn open_unix(path: &Path, backlog: i32, umask: u32, owner: Option<(u32, u32)>) -> io::Result<(OwnedFd, SocketFile)> {
    if let Ok(meta) = std::fs::symlink_metadata(path) {
        // Only what the dead left is removed, and never a file that is no socket.
        if !meta.file_type().is_socket() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if listen::is_answered(path) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        std::fs::remove_file(path)?;
    }
    let before = set_umask(umask);
    let socket = listen::unix(path, backlog);
    set_umask(before);
    let socket = socket?;
    if let Some((user, group)) = owner {
        std::os::unix::fs::lchown(path, Some(user), Some(group))?;
    }
    let file = SocketFile {
        path: path.to_owned(),
        identity: identity(path)?,
        is_shared: Cell::new(false),
    };
    Ok((socket, file))
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let meta = std::fs::symlink_metadata(path)?;
    Ok((meta.dev(), meta.ino()))
}

/// The names, as the banner lists them.
pub(super) fn names(listeners: &[Rc<Listener>]) -> String {
    let names: Vec<_> = listeners.iter().map(|listener| listener.name()).collect();
    names.join(",")
}
