//! The control socket: a unix socket whose clients ask for things, without ever making the arbiter wait.
//!
//! Whoever may open the file may ask for everything, so its permissions are what protects it.
//! Never here: what a request means (`commands`), how it is written (`command`).

use crate::command::{Frames, REQUEST_LIMIT, Request, encode};
use crate::sys::listen;
use serde_json::Value;
use std::fs::DirBuilder;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Clients at the same time; more wait in the kernel.
const CLIENTS: usize = 16;

/// Time without a request after which a client is cut off, as in Gunicorn.
const IDLE: Duration = Duration::from_secs(300);

/// How long nobody is accepted after that failed.
const REST: Duration = Duration::from_secs(1);

/// A socket that is ours until dropped.
#[derive(Debug)]
pub(super) struct ControlSocket {
    path: PathBuf,
    mode: u32,
    identity: (u64, u64),
    listener: UnixListener,
    clients: Vec<Client>,
    /// Nobody is accepted before then: descriptors are short.
    rests_until: Option<Instant>,
}

#[derive(Debug)]
struct Client {
    stream: UnixStream,
    input: Frames,
    /// What the stream had no room for.
    output: Vec<u8>,
    until: Instant,
    is_over: bool,
}

/// Which client asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asker(usize);

impl ControlSocket {
    /// Binds it. Its directory is made if it is missing; what the dead left is replaced, what lives is not.
    pub(super) fn open(path: &Path, mode: u32) -> io::Result<Self> {
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        }
        make_room(path)?;
        let socket = listen::unix_with_mode(path, i32::try_from(CLIENTS).unwrap_or(i32::MAX), mode)?;
        let listener = UnixListener::from(socket);
        listener.set_nonblocking(true)?;
        Ok(Self {
            path: path.to_owned(),
            mode,
            identity: identity(path)?,
            listener,
            clients: Vec::new(),
            rests_until: None,
        })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is where and how it is wanted.
    pub(super) fn is_as(&self, path: &Path, mode: u32) -> bool {
        self.path == path && self.mode == mode
    }

    /// Moves it, without disturbing its clients.
    pub(super) fn rename(&mut self, path: &Path) -> io::Result<()> {
        make_room(path)?;
        std::fs::rename(&self.path, path)?;
        path.clone_into(&mut self.path);
        Ok(())
    }

    /// What to wait for, and whether for writing too: clients first, in order.
    pub(super) fn watched(&self) -> impl Iterator<Item = (BorrowedFd<'_>, bool)> {
        let clients = self.clients.iter();
        let accepts = self.clients.len() < CLIENTS && self.rests_until.is_none();
        let listener = accepts.then_some((self.listener.as_fd(), false));
        clients
            .map(|client| (client.stream.as_fd(), !client.output.is_empty()))
            .chain(listener)
    }

    /// When the next client is cut off, or may come again.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let idle = self.clients.iter().map(|client| client.until);
        idle.chain(self.rests_until).min()
    }

    /// Takes what arrived; `ready` says it of what `watched` gave. Ask for the requests next.
    pub(super) fn turn(&mut self, now: Instant, ready: &[bool]) {
        let watched = self.clients.len();
        self.rests_until = self.rests_until.filter(|until| *until > now);
        for (client, is_ready) in self.clients.iter_mut().zip(ready) {
            if *is_ready {
                client.write();
                client.read(now);
            }
        }
        if ready.get(watched) == Some(&true) {
            self.accept(now);
        }
        self.clients.retain(|client| !client.is_over && client.until > now);
    }

    fn accept(&mut self, now: Instant) {
        while self.clients.len() < CLIENTS {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.rests_until = Some(now + REST);
                    return;
                }
            };
            if stream.set_nonblocking(true).is_err() {
                continue;
            }
            self.clients.push(Client {
                stream,
                input: Frames::new(REQUEST_LIMIT),
                output: Vec::new(),
                until: now + IDLE,
                is_over: false,
            });
        }
    }

    /// The next request whose asker has taken all earlier answers.
    pub(super) fn next_request(&mut self) -> Option<(Asker, Request)> {
        for (index, client) in self.clients.iter_mut().enumerate() {
            if client.is_over || !client.output.is_empty() {
                continue;
            }
            match client.input.next_message() {
                Ok(None) => {}
                Ok(Some(message)) => match Request::read(&message) {
                    Some(request) => return Some((Asker(index), request)),
                    None => client.is_over = true,
                },
                // Nothing after it can be understood.
                Err(_) => client.is_over = true,
            }
        }
        self.clients.retain(|client| !client.is_over);
        None
    }

    /// Answers a request.
    pub(super) fn answer(&mut self, asker: Asker, answer: &Value) {
        if let Some(client) = self.clients.get_mut(asker.0) {
            client.output.extend(encode(answer));
            client.write();
        }
    }
}

impl Client {
    fn read(&mut self, now: Instant) {
        let mut buffer = [0; 4096];
        // One that sends on and on without taking answers has as much waiting as a request may be long.
        while self.input.waiting() <= REQUEST_LIMIT {
            match self.stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => {
                    self.until = now + IDLE;
                    self.input.push(buffer.get(..length).unwrap_or_default());
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => break,
            }
        }
        self.is_over = true;
    }

    fn write(&mut self) {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(length) => drop(self.output.drain(..length)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.is_over = true;
                    return;
                }
            }
        }
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Removes what the dead left at `path`. What lives, and what is no socket, is an error.
fn make_room(path: &Path) -> io::Result<()> {
    let Ok(meta) = std::fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !meta.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "what is there is not a socket",
        ));
    }
    if listen::is_answered(path) {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process serves it"));
    }
    std::fs::remove_file(path)
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let meta = std::fs::symlink_metadata(path)?;
    Ok((meta.dev(), meta.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{request, success};
    use crate::sys::{clock, poll};
    use serde_json::json;
    use std::os::unix::fs::PermissionsExt;

    /// Turns until a request has come, or the clients are as many as that.
    fn turn(socket: &mut ControlSocket, clients: Option<usize>) -> Option<(Asker, Request)> {
        loop {
            let set: Vec<_> = socket.watched().collect();
            let ready = poll::wait(&set, Some(Duration::from_secs(30))).unwrap();
            drop(set);
            assert!(ready.contains(&true), "nothing happened");
            socket.turn(clock::now(), &ready);
            let request = socket.next_request();
            if request.is_some() || clients == Some(socket.clients.len()) {
                return request;
            }
        }
    }

    fn place() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("made/server.ctl");
        (dir, path)
    }

    #[test]
    fn it_is_private_and_leaves_nothing_behind() {
        let (_dir, path) = place();
        for mode in [0o600, 0o660] {
            let socket = ControlSocket::open(&path, mode).unwrap();
            let bits = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!((bits(&path), bits(path.parent().unwrap())), (mode, 0o700));
            drop(socket);
            assert!(!path.exists());
        }
    }

    #[test]
    fn the_living_keep_their_socket_and_files_that_are_none_are_left_alone() {
        let (_dir, path) = place();
        let socket = ControlSocket::open(&path, 0o600).unwrap();
        let error = ControlSocket::open(&path, 0o600).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        // The dead leave theirs.
        let left = path.with_file_name("left");
        std::fs::rename(&path, &left).unwrap();
        drop(socket);
        assert!(left.exists());
        let mut socket = ControlSocket::open(&left, 0o600).unwrap();
        std::fs::write(&path, "precious").unwrap();
        assert_eq!(socket.rename(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        std::fs::remove_file(&path).unwrap();
        socket.rename(&path).unwrap();
        drop(socket);
        assert!(!path.exists() && !left.exists());
    }

    #[test]
    fn requests_are_answered_in_order_however_they_arrive() {
        let (_dir, path) = place();
        let mut socket = ControlSocket::open(&path, 0o600).unwrap();
        let mut client = UnixStream::connect(&path).unwrap();
        let bytes = [encode(&request(1, "help")), encode(&request(2, "reload"))].concat();
        client.write_all(&bytes).unwrap();
        let (asker, first) = turn(&mut socket, None).unwrap();
        socket.answer(asker, &success(&first.id, &json!({})));
        let (asker, second) = socket.next_request().unwrap();
        socket.answer(asker, &success(&second.id, &json!({})));
        assert_eq!((first.id, second.id), (json!(1), json!(2)));
        let mut answers = Frames::new(1000);
        let mut buffer = [0; 1000];
        while answers.waiting() < 2 * encode(&success(&json!(1), &json!({}))).len() {
            let length = client.read(&mut buffer).unwrap();
            answers.push(&buffer[..length]);
        }
        assert_eq!(answers.next_message().unwrap().unwrap()["id"], 1);
        assert_eq!(answers.next_message().unwrap().unwrap()["id"], 2);
        drop(client);
        assert!(turn(&mut socket, Some(0)).is_none());
    }

    #[test]
    fn clients_that_misbehave_are_cut_off() {
        let (_dir, path) = place();
        let mut socket = ControlSocket::open(&path, 0o600).unwrap();
        let cases: [&[u8]; 4] = [
            b"GET / HTTP/1.1\r\n\r\n",
            b"\0\0\0\x01{",
            b"\0\0\0\x02[]",
            b"\0\x01\0\x01",
        ];
        for bytes in cases {
            let mut client = UnixStream::connect(&path).unwrap();
            client.write_all(bytes).unwrap();
            client.shutdown(std::net::Shutdown::Write).unwrap();
            assert!(turn(&mut socket, Some(0)).is_none());
            assert_eq!(client.read(&mut [0; 8]).unwrap_or(0), 0);
        }
    }

    #[test]
    fn idle_clients_leave_and_too_many_wait() {
        let (_dir, path) = place();
        let mut socket = ControlSocket::open(&path, 0o600).unwrap();
        let clients: Vec<_> = (0..=CLIENTS).map(|_| UnixStream::connect(&path).unwrap()).collect();
        assert!(turn(&mut socket, Some(CLIENTS)).is_none());
        assert_eq!(socket.watched().count(), CLIENTS);
        let late = socket.next_deadline().unwrap();
        socket.turn(late, &[]);
        assert_eq!(socket.clients.len(), 0);
        assert!(turn(&mut socket, Some(1)).is_none());
        drop(clients);
    }
}
