//! Finding out whether a FastCGI worker accepts connections, without giving it a request.
//!
//! A connection with a GET_VALUES record on it is accepted and read only by an app that is in its accept loop. An answer
//! says so; so does closing the connection, as php-cgi does after its answer; and for apps that do neither, the kernel
//! says when the bytes were read. The connection is closed at once, since an app that serves one at a time would wait
//! on it.

use super::event_loop::Front;
use super::tokens::{Key, Kind};
use super::workers::{Route, State};
use crate::base::level::Level;
use crate::config::{OnAbort, Upstream};
use crate::control::{Protocol, Ready};
use crate::fastcgi;
use crate::sys::socket;
use mio::Interest;
use mio::net::UnixStream;
use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

/// The longest pause between two looks.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// An upstream is tried again after 0.1 s, then after twice as long each time, up to 30 s.
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// Time for a worker to notice that its client has left, where `on_abort = term` ends it then.
const ABORT_GRACE: Duration = Duration::from_secs(2);

/// A connection that nobody has accepted yet.
#[derive(Debug)]
pub(super) struct Probe {
    stream: UnixStream,
}

/// What has become of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It waits.
    Open,
    /// Somebody has read the record.
    Accepted,
    /// It went with the socket it waited at, or was closed unread.
    Lost,
}

impl Probe {
    /// Looks. The end of a program that never accepts empties the socket too, as if all had been read: only the error
    /// tells, which is there before the bytes are gone, so it is asked for behind them. It is told once.
    fn fate(&mut self) -> Fate {
        let is_read = socket::unread_by_peer(&self.stream).is_ok_and(|unread| unread == 0);
        match self.stream.read(&mut [0; 512]) {
            // The answer is not needed: that there is one is the answer. So is a close without an error.
            Ok(_) => Fate::Accepted,
            Err(error) if error.kind() == ErrorKind::WouldBlock && is_read => Fate::Accepted,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Fate::Open,
            Err(_) => Fate::Lost,
        }
    }
}

impl Front {
    /// Starts or goes on looking whether a worker accepts.
    pub(super) fn probe(&mut self, key: Key) {
        let Some(worker) = self.workers.get_mut(key) else {
            return;
        };
        let Route::Socket(path) = &worker.route else { return };
        if let Some(probe) = &mut worker.probe {
            match probe.fate() {
                Fate::Accepted => return self.probe_accepted(key),
                // The next look is a new one.
                Fate::Lost => worker.probe = None,
                Fate::Open => {}
            }
        } else {
            match UnixStream::connect(path) {
                Ok(mut stream) => {
                    let mut record = Vec::new();
                    fastcgi::get_values(&mut record);
                    let token = key.token(Kind::Probe);
                    let registered = self.poll.registry().register(&mut stream, token, Interest::READABLE);
                    if registered.is_ok() && stream.write(&record).is_ok() {
                        worker.probe = Some(Probe { stream });
                    }
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    let text = format!("cannot be reached any more: somebody has removed {}", path.display());
                    return self.fault(key, &text);
                }
                Err(_) => {}
            }
        }
        worker.pause = (worker.pause * 2).min(LONGEST_PAUSE);
        let (pause, since, state, pool) = (worker.pause, worker.since, worker.state, worker.pool);
        let config = self.pools.get(pool).map(|pool| &pool.config);
        let limit = config.and_then(|config| config.timeout);
        let ends_with_client = config.is_some_and(|config| config.scripts.on_abort == OnAbort::Term);
        let silence = self.now - since;
        if state == State::Suspect && ends_with_client && silence > ABORT_GRACE {
            self.fault(
                key,
                "goes on with a request whose connection is closed (on_abort = term)",
            );
            return;
        }
        if state == State::Suspect && limit.is_some_and(|limit| silence > limit) {
            self.fault(key, "does not accept connections any more");
            return;
        }
        self.worker_timers.set(key.place(), Some(self.now + pause));
    }

    /// The poll said something about a probe.
    pub(super) fn probe_event(&mut self, key: Key) {
        let Some(probe) = self.workers.get_mut(key).and_then(|worker| worker.probe.as_mut()) else {
            return;
        };
        match probe.fate() {
            Fate::Accepted => self.probe_accepted(key),
            // The worker died, or is one that closes what it cannot use. The next look tells.
            Fate::Lost => self.drop_probe(key),
            Fate::Open => {}
        }
    }

    fn drop_probe(&mut self, key: Key) {
        let Some(worker) = self.workers.get_mut(key) else {
            return;
        };
        if let Some(mut probe) = worker.probe.take() {
            // Closing the socket ends its registration too.
            let _ = self.poll.registry().deregister(&mut probe.stream);
        }
    }

    fn probe_accepted(&mut self, key: Key) {
        self.drop_probe(key);
        let Some(worker) = self.workers.get_mut(key) else {
            return;
        };
        self.worker_timers.set(key.place(), None);
        let tell = worker.state == State::Booting;
        if !tell && worker.state != State::Suspect {
            return;
        }
        // A worker that was tried both ways has no use for its channel.
        let channel = worker.channel.take();
        let slots = self.pools.get(worker.pool).map_or(1, |pool| pool.config.threads);
        if let Some(channel) = channel {
            self.drop_link(channel);
        }
        let ready = Ready {
            protocol: Protocol::FastCgi,
            slots,
            flags: 0,
        };
        self.worker_ready(key, ready, tell);
    }

    /// A worker said READY on its channel.
    pub(super) fn pipe_ready(&mut self, key: Key, slots: u16, flags: u8) {
        let Some(worker) = self.workers.get(key) else { return };
        if worker.state != State::Booting {
            return;
        }
        self.drop_probe(key);
        self.worker_timers.set(key.place(), None);
        let ready = Ready {
            protocol: Protocol::Pipe,
            slots,
            flags,
        };
        self.worker_ready(key, ready, true);
    }

    /// A worker let a connection go: no requests for it until it has accepted another.
    pub(super) fn suspect(&mut self, key: Key) {
        let Some(worker) = self.workers.get_mut(key) else {
            return;
        };
        if worker.state != State::Ready || !matches!(worker.route, Route::Socket(_)) {
            return;
        }
        worker.state = State::Suspect;
        worker.since = self.now;
        worker.pause = Duration::from_millis(1);
        let idle = std::mem::take(&mut worker.idle_links);
        self.withhold(key);
        for link in idle {
            self.drop_link(link);
        }
        self.worker_timers.set(key.place(), Some(self.now));
    }

    /// A worker could not be connected to.
    pub(super) fn unreachable(&mut self, key: Key, error: &std::io::Error) {
        let Some(worker) = self.workers.get(key) else { return };
        match &worker.route {
            Route::Socket(_) => self.suspect(key),
            Route::Channel => self.channel_closed(key),
            Route::Upstream(upstream) => {
                let name = upstream_name(upstream);
                self.say(Level::Warning, None, format_args!("cannot connect to {name}: {error}"));
                self.upstream_down(key);
            }
        }
    }

    /// An upstream cannot be reached: it rests, and without any other the waiting requests are answered.
    pub(super) fn upstream_down(&mut self, key: Key) {
        let Some(worker) = self.workers.get_mut(key) else {
            return;
        };
        if worker.state == State::Unreachable {
            return;
        }
        worker.state = State::Unreachable;
        worker.pause = (worker.pause * 2).clamp(FIRST_RETRY, LONGEST_RETRY);
        let (pause, pool_index) = (worker.pause, worker.pool);
        self.worker_timers.set(key.place(), Some(self.now + pause));
        self.withhold(key);
        let Some(pool) = self.pools.get_mut(pool_index) else {
            return;
        };
        if pool.dispatch.has_workers() {
            return;
        }
        let waiting: Vec<u32> = pool.dispatch.drain().collect();
        for request in waiting {
            let Some(key) = self.exchanges.key_at(request as usize) else {
                continue;
            };
            self.fail_later.push((key, 502));
        }
    }

    /// A worker's timer has come.
    pub(super) fn worker_due(&mut self, key: Key) {
        let Some(worker) = self.workers.get_mut(key) else {
            return;
        };
        let is_pipe = worker.protocol == Protocol::Pipe;
        match (worker.state, &worker.route) {
            (State::Suspect, _) if is_pipe => self.fault(key, "closed its channel and lives on"),
            (State::Booting, Route::Socket(_)) => self.probe(key),
            (State::Suspect, Route::Socket(_)) => self.probe(key),
            (State::Suspect, Route::Channel) => self.fault(key, "closed its channel and lives on"),
            (State::Retiring, _) => self.check_drained(key),
            (State::Unreachable, Route::Upstream(_)) => {
                worker.state = State::Ready;
                let (pool, slots) = (worker.pool, worker.slots);
                if let Some(pool) = self.pools.get_mut(pool) {
                    pool.dispatch.add(key.index, slots, false);
                    pool.dirty = true;
                }
            }
            _ => {}
        }
    }

    /// Tells the arbiter about a worker that was handed over ready.
    pub(super) fn greet(&mut self, key: Key, ready: Option<Ready>) {
        if let Some(ready) = ready {
            self.worker_ready(key, ready, false);
            return;
        }
        if self
            .workers
            .get(key)
            .is_some_and(|worker| matches!(worker.route, Route::Socket(_)))
        {
            self.probe(key);
        }
    }
}

/// An upstream as configured.
pub(super) fn upstream_name(upstream: &Upstream) -> String {
    match upstream {
        Upstream::Unix(path) => format!("unix:{}", path.display()),
        Upstream::Tcp(address) => format!("tcp:{address}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn what_nobody_has_read_was_not_accepted() {
        let path = std::env::temp_dir().join(format!("rgunicorn-probe-{}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        let start = || {
            let mut stream = UnixStream::connect(&path).unwrap();
            assert_eq!(stream.write(b"12345678").unwrap(), 8);
            Probe { stream }
        };
        let read = |stream: &mut std::os::unix::net::UnixStream| stream.read_exact(&mut [0; 8]).unwrap();
        let mut probe = start();
        assert_eq!(probe.fate(), Fate::Open);
        let (mut stream, _) = listener.accept().unwrap();
        assert_eq!(probe.fate(), Fate::Open);
        read(&mut stream);
        assert_eq!(probe.fate(), Fate::Accepted);
        drop(stream);
        assert_eq!(probe.fate(), Fate::Accepted, "closed behind the record");
        let mut answered = start();
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"answer").unwrap();
        assert_eq!(answered.fate(), Fate::Accepted);
        let mut closed = start();
        drop(listener.accept().unwrap());
        assert_eq!(closed.fate(), Fate::Lost);
        // As by a program that prints and ends.
        let mut never = start();
        drop(listener);
        assert!(socket::unread_by_peer(&never.stream).is_ok_and(|unread| unread == 0));
        assert_eq!(never.fate(), Fate::Lost);
        std::fs::remove_file(path).unwrap();
    }
}
