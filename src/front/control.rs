//! The front's end of the control channel: workers come and go, drain, reopen, heartbeat.

use super::event_loop::{Drain, Front};
use super::pull::Queue;
use super::tokens::{Key, Kind};
use super::workers::{Route, Worker};
use crate::base::ids::WorkerId;
use crate::base::level::Level;
use crate::config::{Program, Upstream};
use crate::control::{Protocol, Ready, ToArbiter, ToFront, codec};
use crate::sys::board::Board;
use crate::sys::{fd, socket};
use mio::Interest;
use mio::net::UnixStream;
use mio::unix::SourceFd;
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

/// The channel to the arbiter.
#[derive(Debug)]
pub(super) struct Control {
    socket: OwnedFd,
    /// Packets the socket had no room for.
    unsent: VecDeque<Vec<u8>>,
    buffer: Vec<u8>,
}

impl Control {
    pub(super) fn new(socket: OwnedFd) -> io::Result<Self> {
        fd::set_nonblocking(&socket, true)?;
        Ok(Self {
            socket,
            unsent: VecDeque::new(),
            buffer: vec![0; socket::PACKET_LIMIT],
        })
    }

    /// The user of the arbiter.
    pub(super) fn arbiter(&self) -> io::Result<u32> {
        socket::maker(&self.socket)
    }

    pub(super) fn register(&self, registry: &mio::Registry) -> io::Result<()> {
        let token = Key::fixed(0).token(Kind::Control);
        let interest = Interest::READABLE | Interest::WRITABLE;
        registry.register(&mut SourceFd(&self.socket.as_raw_fd()), token, interest)
    }

    /// The next message with its descriptors; `None` if there is none now. The arbiter's end is an error.
    pub(super) fn receive(&mut self) -> io::Result<Option<(ToFront, VecDeque<OwnedFd>)>> {
        let mut fds = Vec::new();
        let count = match socket::receive_packet(&self.socket, &mut self.buffer, &mut fds) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        };
        let packet = self.buffer.get(..count).unwrap_or_default();
        let message: ToFront = codec::decode(packet).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        if fds.len() != codec::fds(&message) {
            return Err(io::Error::new(
                ErrorKind::InvalidData,
                "a control message without its descriptors",
            ));
        }
        Ok(Some((message, fds.into())))
    }

    /// Sends a message, or keeps it until there is room.
    pub(super) fn send(&mut self, message: &ToArbiter) {
        self.unsent.push_back(codec::encode(message));
        self.flush();
    }

    pub(super) fn flush(&mut self) {
        while let Some(packet) = self.unsent.front() {
            match socket::send_packet(&self.socket, packet, &[]) {
                Ok(()) => drop(self.unsent.pop_front()),
                // When the arbiter is gone, the next receive says so.
                Err(_) => return,
            }
        }
    }
}

impl Front {
    pub(super) fn send_control(&mut self, message: &ToArbiter) {
        self.control.send(message);
    }

    /// Takes every message that has come. An error means that the front must end.
    pub(super) fn read_control(&mut self) -> io::Result<()> {
        self.control.flush();
        while let Some((message, fds)) = self.control.receive()? {
            self.obey(message, fds)?;
        }
        Ok(())
    }

    fn obey(&mut self, message: ToFront, mut fds: VecDeque<OwnedFd>) -> io::Result<()> {
        let mut next = || fds.pop_front().ok_or_else(|| io::Error::from(ErrorKind::InvalidData));
        match message {
            ToFront::Configure { .. } => {
                return Err(io::Error::new(ErrorKind::InvalidData, "a second configuration"));
            }
            ToFront::Listener { fastcgi } => self.add_listener(next()?, fastcgi.map(usize::from))?,
            ToFront::Queue { pool } => {
                let queue = Queue::new(next()?, next()?)?;
                if let Some(pool) = self.pools.get_mut(usize::from(pool.0)) {
                    pool.queue = Some(queue);
                }
                self.take_back(usize::from(pool.0));
            }
            ToFront::Worker {
                pool,
                worker,
                age,
                pid,
                protocol,
                path,
                channel,
                ready,
            } => {
                let board = Board::map(next()?)?;
                let channel = if channel { Some(next()?) } else { None };
                let route = if path.is_empty() {
                    Route::Channel
                } else {
                    Route::Socket(path.into())
                };
                let mut entry = Worker::new(worker, usize::from(pool.0), route, self.now);
                entry.age = age;
                entry.pid = pid;
                entry.protocol = protocol;
                entry.board = Some(board);
                self.add_worker(entry, channel, ready)?;
            }
            ToFront::Output { worker } => {
                let pipe = next()?;
                if let Some(key) = self.worker_keys.get(&worker).copied() {
                    self.add_output(key, pipe)?;
                }
            }
            ToFront::Retire { worker } => {
                if let Some(key) = self.worker_keys.get(&worker).copied() {
                    self.retire(key);
                }
            }
            ToFront::Exited { worker, cause } => {
                if let Some(key) = self.worker_keys.get(&worker).copied() {
                    self.exited(key, &cause);
                }
            }
            ToFront::Facts { worker, text } => {
                if let Some(key) = self.worker_keys.get(&worker).copied() {
                    self.facts(key, &text);
                }
            }
            ToFront::Crowded { workers } => self.crowded(workers),
            ToFront::PoolDown { pool, retry_ms } => {
                self.pool_down(usize::from(pool.0), Duration::from_millis(retry_ms));
            }
            ToFront::PoolUp { pool } => self.pool_up(usize::from(pool.0)),
            ToFront::Prepare { numbers } => self.prepare(next()?, numbers),
            ToFront::Change { grace_ms } => self.change(Duration::from_millis(grace_ms))?,
            ToFront::Discard => self.changes.discard(),
            ToFront::FreePool { pool } => self.free_pool(usize::from(pool.0)),
            ToFront::Serve => self.serve()?,
            ToFront::Drain { grace_ms } => self.drain(Duration::from_millis(grace_ms)),
            ToFront::Reopen { error_log, access_log } => {
                if error_log {
                    crate::sys::output::replace_stderr(next()?)?;
                }
                if access_log && let Some(access) = &mut self.access {
                    access.replace(next()?);
                }
            }
        }
        Ok(())
    }

    fn add_worker(&mut self, worker: Worker, channel: Option<OwnedFd>, ready: Option<Ready>) -> io::Result<()> {
        let id = worker.id;
        let key = self.workers.insert(Box::new(worker));
        self.worker_keys.insert(id, key);
        if let Some(channel) = channel {
            fd::set_nonblocking(&channel, true)?;
            let stream = UnixStream::from_std(channel.into());
            let link = self.add_channel(key, stream, ready.is_some())?;
            if let Some(worker) = self.workers.get_mut(key) {
                worker.channel = Some(link);
            }
        }
        self.greet(key, ready);
        Ok(())
    }

    /// Makes workers of the servers that a pool connects to.
    pub(super) fn add_upstreams(&mut self, pool: usize) {
        let Some(config) = self.pools.get(pool).map(|pool| &pool.config) else {
            return;
        };
        let Program::Connect(upstreams) = &config.program else {
            return;
        };
        let (upstreams, slots): (Vec<Upstream>, u32) = (upstreams.clone(), config.workers);
        // The first named is the last added, hence the first given requests.
        for (place, upstream) in upstreams.into_iter().enumerate().rev() {
            let id = WorkerId(u32::MAX - u32::try_from(place).unwrap_or(0));
            let worker = Worker::new(id, pool, Route::Upstream(upstream), self.now);
            let key = self.workers.insert(Box::new(worker));
            let ready = Ready {
                protocol: Protocol::FastCgi,
                slots: u16::try_from(slots).unwrap_or(u16::MAX),
                flags: 0,
            };
            self.worker_ready(key, ready, false);
        }
    }

    /// The arbiter says what an overdue worker was doing.
    fn facts(&mut self, key: Key, text: &str) {
        let report = self.workers.get_mut(key).and_then(|worker| worker.report.take());
        if let Some(report) = report {
            self.say_worker(Level::Critical, key, format_args!("{report}; its process: {text}"));
        }
    }

    /// Stops accepting and ends once everything is served or `grace` has passed.
    fn drain(&mut self, grace: Duration) {
        self.stop_accepting();
        self.drain = Some(Drain {
            until: self.now + grace,
            idle_until: self.now + grace.min(Duration::from_secs(1)),
        });
    }
}
