//! Listeners: accepting within a budget, the limits on connections, and pausing when descriptors run out.

use super::client::{Client, Stream};
use super::conversation::Conversation;
use super::event_loop::Front;
use super::exchange::Exchange;
use super::inbound::Inbound;
use super::peer::{AddressText, Peer, unmapped};
use super::tokens::{Key, Kind};
use crate::base::ids::RequestId;
use crate::base::level::Level;
use crate::base::message::BodyLength;
use crate::http1;
use crate::sys::socket;
use mio::Interest;
use mio::net::{TcpListener, UnixListener};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

/// Connections accepted from one listener in one turn.
const TURN: usize = 64;

/// Bytes of variables that a web server may add to what its client has sent.
const SERVER_VARIABLES: usize = 64 * 1024;

/// How long accepting rests when the process or the machine is out of descriptors or memory.
const PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug)]
enum Socket {
    Tcp {
        socket: TcpListener,
        /// Our address, unless it listens on all and the client's side of it is wanted.
        local: Option<SocketAddr>,
    },
    Unix(UnixListener),
}

/// A listening socket, and what is spoken there.
#[derive(Debug)]
pub(super) struct Listener {
    socket: Socket,
    /// FastCGI: its place among the configuration's such listeners.
    fastcgi: Option<usize>,
}

impl Front {
    /// Takes a listening socket from the arbiter; nothing is accepted before `serve`.
    pub(super) fn add_listener(&mut self, socket: OwnedFd, fastcgi: Option<usize>) -> io::Result<()> {
        crate::sys::fd::set_nonblocking(&socket, true)?;
        let is_wsgi = self.pools.first().is_some_and(|pool| pool.is_wsgi);
        let socket = match socket::local_address(&socket)? {
            None => Socket::Unix(UnixListener::from_std(socket.into())),
            Some(address) => {
                // Accepted sockets inherit it: small responses must not wait for acknowledgements.
                socket::set_nodelay(&socket)?;
                Socket::Tcp {
                    socket: TcpListener::from_std(socket.into()),
                    // WSGI apps see the address as it was bound.
                    local: (is_wsgi || !address.ip().is_unspecified()).then_some(address),
                }
            }
        };
        self.listeners.push(Listener { socket, fastcgi });
        Ok(())
    }

    /// Starts accepting.
    pub(super) fn serve(&mut self) -> io::Result<()> {
        if std::mem::replace(&mut self.accepting, true) {
            return Ok(());
        }
        for (index, listener) in self.listeners.iter_mut().enumerate() {
            let token = Key::fixed(u32::try_from(index).unwrap_or(u32::MAX)).token(Kind::Listener);
            let registry = self.poll.registry();
            match &mut listener.socket {
                Socket::Tcp { socket, .. } => registry.register(socket, token, Interest::READABLE)?,
                Socket::Unix(socket) => registry.register(socket, token, Interest::READABLE)?,
            }
        }
        Ok(())
    }

    /// Takes what waits in the backlogs and closes our copies of the listeners.
    pub(super) fn stop_accepting(&mut self) {
        if !std::mem::replace(&mut self.accepting, false) {
            self.listeners.clear();
            return;
        }
        for index in 0..self.listeners.len() {
            for _ in 0..64 {
                self.accept_pause = None;
                self.more_to_accept.clear();
                self.accept(index);
                if self.more_to_accept.is_empty() {
                    break;
                }
            }
        }
        self.accept_pause = None;
        self.more_to_accept.clear();
        for mut listener in std::mem::take(&mut self.listeners) {
            let _ = match &mut listener.socket {
                Socket::Tcp { socket, .. } => self.poll.registry().deregister(socket),
                Socket::Unix(socket) => self.poll.registry().deregister(socket),
            };
        }
    }

    /// Accepts connections, within this turn's budget.
    pub(super) fn accept(&mut self, index: usize) {
        if self.accept_pause.is_some_and(|until| self.now < until) {
            // The poll will not say again that connections wait.
            if !self.more_to_accept.contains(&index) {
                self.more_to_accept.push(index);
            }
            return;
        }
        self.accept_pause = None;
        let fastcgi = self.listeners.get(index).and_then(|listener| listener.fastcgi);
        for _ in 0..TURN {
            match self.accept_one(index) {
                Ok((stream, peer)) => match fastcgi {
                    Some(place) => self.welcome_server(stream, peer, place),
                    None => self.welcome(stream, peer),
                },
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => return,
                    ErrorKind::Interrupted | ErrorKind::ConnectionAborted => {}
                    _ => {
                        self.pressed(&format!("cannot accept: {error}; resting for 0.1 s"));
                        self.accept_pause = Some(self.now + PAUSE);
                        self.more_to_accept.push(index);
                        return;
                    }
                },
            }
        }
        self.more_to_accept.push(index);
    }

    fn accept_one(&mut self, index: usize) -> io::Result<(Stream, Peer)> {
        match self.listeners.get(index).map(|listener| &listener.socket) {
            Some(Socket::Tcp { socket, local }) => {
                let (stream, address) = socket.accept()?;
                let local = local.or_else(|| stream.local_addr().ok());
                let address = unmapped(address);
                let peer = Peer {
                    address: Some(address),
                    local: local.map(unmapped),
                    trusted: self.config.http.forwarded_allow_ips.contains(address.ip()),
                    proxied: None,
                };
                Ok((Stream::Tcp(stream), peer))
            }
            Some(Socket::Unix(socket)) => {
                let (stream, _) = socket.accept()?;
                let peer = Peer {
                    trusted: true,
                    ..Peer::default()
                };
                Ok((Stream::Unix(stream), peer))
            }
            None => Err(ErrorKind::WouldBlock.into()),
        }
    }

    /// A web server has come to a listener that speaks FastCGI. What it says about its clients is believed, and it
    /// chooses what is run: so it must be one that may.
    fn welcome_server(&mut self, stream: Stream, peer: Peer, place: usize) {
        if !peer.trusted {
            let mut text = AddressText::default();
            let address = peer.address.map_or("", |address| text.of(address.ip()));
            self.pressed(&format!(
                "a FastCGI connection of {address} is refused: it is not in forwarded_allow_ips"
            ));
            return;
        }
        if self.clients.len() >= self.config.http.max_connections {
            self.pressed("too many connections (max_connections)");
            return;
        }
        let limit = self.policy.limits.head().saturating_add(SERVER_VARIABLES);
        let conversation = Conversation::FastCgi(Box::new(Inbound::new(place, limit)));
        self.take_in(Client::new(stream, peer, conversation));
    }

    fn welcome(&mut self, stream: Stream, peer: Peer) {
        let crowded = self.clients.len() >= self.config.http.max_connections;
        // A connection that may begin with a PROXY header is counted when it is known whose it is.
        let awaits_proxy = self.proxy.is_some();
        let is_proxy = awaits_proxy && self.may_proxy(peer);
        let counted = peer.address.map(|address| address.ip()).filter(|_| !is_proxy);
        let greedy = counted.is_some_and(|address| self.is_greedy(address));
        if crowded || greedy {
            let limit = if crowded {
                "max_connections"
            } else {
                "max_connections_per_address"
            };
            self.pressed(&format!("too many connections ({limit})"));
            self.turn_away(stream, peer);
            return;
        }
        if let Some(address) = counted {
            self.count_address(address, true);
        }
        let mut client = Client::new(stream, peer, Conversation::Http1(http1::conn::Conn::new()));
        client.awaits_proxy = awaits_proxy;
        client.counted = counted;
        self.take_in(client);
    }

    /// Registers a new connection, and reads what has come already.
    fn take_in(&mut self, client: Client) {
        let counted = client.counted;
        let key = self.clients.insert(Box::new(client));
        let Some(mut client) = self.clients.take(key) else {
            return;
        };
        let stream = match self.register_client(key, &mut client) {
            Ok(()) => {
                let limit = self.config.http.header_timeout;
                self.client_timers.set(key.place(), limit.map(|limit| self.now + limit));
                self.clients.put(key, client);
                // A request is often there already.
                self.read_client(key);
                return;
            }
            Err(error) => {
                self.say(Level::Error, None, format_args!("cannot watch a connection: {error}"));
                self.clients.free(key);
                client.stream
            }
        };
        drop(stream);
        if let Some(address) = counted {
            self.count_address(address, false);
        }
    }

    fn register_client(&mut self, key: Key, client: &mut Client) -> io::Result<()> {
        let interest = client.stream.interest(false);
        self.poll
            .registry()
            .register(client.stream.source(), key.token(Kind::Client), interest)
    }

    /// Answers 503 as far as the socket takes it at once, and closes.
    fn turn_away(&mut self, mut stream: Stream, peer: Peer) {
        let mut conn = http1::conn::Conn::new();
        conn.close_after();
        let mut exchange = Exchange::new(self.now);
        exchange.id = RequestId::from_seed(self.random.u64(..));
        let (mut page, mut out) = (Vec::new(), Vec::new());
        http1::response::error_page(503, "too many connections", &mut exchange.response, &mut page);
        exchange.response.push(b"Retry-After", b"1");
        let common = http1::response::Common {
            server: &self.config.http.server_header,
            date: &self.date,
            request_id: Some(exchange.id.as_bytes()),
        };
        let length = BodyLength::Known(page.len() as u64);
        conn.send_head(&exchange.response, length, &common, &mut out);
        conn.send_data(&page, &mut out);
        // The client is turned away whether it learns why or not. What it has sent is read, since closing a socket with
        // unread bytes resets the connection.
        let _ = stream.write(&out);
        stream.shutdown_write();
        let _ = stream.read(&mut self.scratch);
        self.log_access(peer, &exchange, 503, conn.body_sent());
    }

    /// True if so many connections from this address are open that there may not be another.
    pub(super) fn is_greedy(&self, address: IpAddr) -> bool {
        let known = self.per_address.get(&address).copied().unwrap_or(0);
        known as usize >= self.config.http.max_connections_per_address
    }

    /// Counts connections per client address, if there is a limit.
    pub(super) fn count_address(&mut self, address: IpAddr, opened: bool) {
        if self.config.http.max_connections_per_address == usize::MAX {
            return;
        }
        let count = self.per_address.entry(address).or_insert(0);
        if opened {
            *count += 1;
        } else {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.per_address.remove(&address);
            }
        }
    }
}
