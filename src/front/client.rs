//! One client connection: its socket, its HTTP/1 conversation, its buffers, and when it closes.

use super::conversation::Conversation;
use super::event_loop::Front;
use super::exchange::{Place, Stage};
use super::peer::Peer;
use super::spool::OutBuffer;
use super::tokens::Key;
use crate::http1::conn::Event;
use crate::sys::socket;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// Bytes read from or written to one client in one turn of the loop.
pub(super) const TURN: usize = 256 * 1024;

/// Bytes and time for what a client still sends after the last response; closing at once would reset the connection
/// and could destroy the response on its way.
const LINGER_BYTES: usize = 16 * 1024 * 1024;
const LINGER_TIME: Duration = Duration::from_secs(2);

/// Buffers larger than this are not kept, nor more of them than this.
pub(super) const KEEP: usize = 64 * 1024;
const SPARES: usize = 256;

/// A client's socket.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    pub(super) fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(into),
            Self::Unix(stream) => stream.read(into),
        }
    }

    pub(super) fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(from),
            Self::Unix(stream) => stream.write(from),
        }
    }

    /// As `write`; `more`: other bytes follow at once.
    pub(super) fn send(&self, from: &[u8], more: bool) -> io::Result<usize> {
        socket::send_stream(self, from, more)
    }

    pub(super) fn shutdown_write(&self) {
        // A connection that is already gone needs no FIN.
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
        };
    }

    /// What the poll is to tell about it. TCP says that there is room only after there was none. A unix socket says so
    /// whenever its other end has read anything, which would wake us for nothing with each request.
    pub(super) fn interest(&self, is_full: bool) -> Interest {
        match self {
            Self::Unix(_) if !is_full => Interest::READABLE,
            Self::Unix(_) | Self::Tcp(_) => Interest::READABLE | Interest::WRITABLE,
        }
    }

    /// Has the poll tell when a full socket takes more. `watched` is whether it does so already.
    pub(super) fn watch_room(
        &mut self,
        watched: &mut bool,
        is_full: bool,
        registry: &Registry,
        token: Token,
    ) -> io::Result<()> {
        if matches!(self, Self::Tcp(_)) || *watched == is_full {
            return Ok(());
        }
        *watched = is_full;
        let interest = self.interest(is_full);
        registry.reregister(self.source(), token, interest)
    }

    pub(super) fn source(&mut self) -> &mut dyn mio::event::Source {
        match self {
            Self::Tcp(stream) => stream,
            Self::Unix(stream) => stream,
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing of a next request has come.
    Idle,
    /// Part of a head has come.
    Head,
    /// A body is coming.
    Body,
    /// The request is complete and the response is not.
    Answering,
    /// The last response is out; what still comes is thrown away.
    Lingering,
}

/// One client connection.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) stream: Stream,
    pub(super) conn: Conversation,
    /// Bytes read and not yet understood.
    input: Vec<u8>,
    pub(super) out: OutBuffer,
    /// After `out`, the first part of the exchange's spool goes out.
    pub(super) sends_part: bool,
    pub(super) peer: Peer,
    /// The first bytes may be a PROXY header.
    pub(super) awaits_proxy: bool,
    /// The address this connection is counted under.
    pub(super) counted: Option<IpAddr>,
    pub(super) exchange: Option<Key>,
    pub(super) phase: Phase,
    readable: bool,
    pub(super) writable: bool,
    pub(super) watches_room: bool,
    /// The client has sent FIN, and it was read.
    eof: bool,
    /// The poll says that the client has sent FIN, which may not have been read yet.
    pub(super) half_closed: bool,
    /// The socket is full, and the clock of `send_timeout` runs.
    pub(super) stalled: bool,
    /// Close once `out` is sent.
    pub(super) close: bool,
    /// A request was served on this connection.
    served: bool,
    lingered: usize,
}

impl Client {
    pub(super) fn new(stream: Stream, peer: Peer, conn: Conversation) -> Self {
        Self {
            stream,
            conn,
            input: Vec::new(),
            out: OutBuffer::default(),
            sends_part: false,
            peer,
            awaits_proxy: false,
            counted: None,
            exchange: None,
            phase: Phase::Idle,
            readable: true,
            writable: true,
            watches_room: false,
            eof: false,
            half_closed: false,
            stalled: false,
            close: false,
            served: false,
            lingered: 0,
        }
    }

    /// True if the socket must take more before anything else happens.
    pub(super) fn has_unsent(&self) -> bool {
        !self.out.is_empty() || self.sends_part
    }

    /// True if the connection can be closed without losing anything.
    pub(super) fn is_idle(&self) -> bool {
        self.phase == Phase::Idle && self.out.is_empty() && self.exchange.is_none()
    }
}

/// What becomes of a connection after some work on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Keep,
    Close,
}

impl Front {
    /// The poll said something about a client.
    pub(super) fn client_event(&mut self, key: Key, event: &mio::event::Event) {
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            client.readable = true;
        }
        client.half_closed |= event.is_read_closed();
        let gone = client.half_closed;
        if event.is_writable() {
            client.writable = true;
            if client.has_unsent() {
                self.dirty_clients.push(key);
            }
        }
        let answering = client.phase == Phase::Answering;
        self.read_client(key);
        if answering && (event.is_error() || event.is_write_closed()) {
            // Closed both ways: nobody will ever read the answer.
            if let Some(client) = self.clients.take(key) {
                self.close_client(key, client);
            }
        } else if gone {
            self.client_half_closed(key);
        }
    }

    /// Reads what a client has sent, within this turn's budget.
    pub(super) fn read_client(&mut self, key: Key) {
        let Some(mut client) = self.clients.take(key) else {
            return;
        };
        match self.read_turn(key, &mut client) {
            Next::Keep => self.clients.put(key, client),
            Next::Close => self.close_client(key, client),
        }
    }

    /// False while a client must wait: for its answer, or for a worker that is slower than its upload.
    fn may_read(&self, client: &Client) -> bool {
        let exchange = client.exchange.and_then(|key| self.exchanges.get(key));
        match client.phase {
            Phase::Answering => client.conn.may_interrupt(),
            Phase::Body => exchange.is_none_or(|exchange| {
                let waiting = exchange.body.len().saturating_sub(exchange.body_passed);
                !exchange.streams || waiting < self.config.http.body_buffer as u64
            }),
            Phase::Idle | Phase::Head | Phase::Lingering => true,
        }
    }

    fn read_turn(&mut self, key: Key, client: &mut Client) -> Next {
        let mut budget = TURN;
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut next = Next::Keep;
        while client.readable && next == Next::Keep {
            if !self.may_read(client) {
                break;
            }
            if budget == 0 {
                self.resume_clients.push(key);
                break;
            }
            match client.stream.read(&mut scratch) {
                Ok(0) => {
                    client.readable = false;
                    client.eof = true;
                    next = self.client_eof(client);
                }
                Ok(count) => {
                    budget = budget.saturating_sub(count);
                    // A short read of a stream means that nothing is left but its end; asking again would only say
                    // WouldBlock.
                    client.readable = count == scratch.len() || client.half_closed;
                    next = self.client_bytes(key, client, scratch.get(..count).unwrap_or_default());
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => client.readable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => next = Next::Close,
            }
        }
        self.scratch = scratch;
        next
    }

    fn client_eof(&mut self, client: &mut Client) -> Next {
        match client.phase {
            Phase::Idle | Phase::Lingering => Next::Close,
            // Truncated: nothing of it reaches an app.
            Phase::Head | Phase::Body => Next::Close,
            Phase::Answering => Next::Keep,
        }
    }

    /// The client sent FIN. A request nobody has started is dropped, as nginx does; a running one goes on, unless its
    /// worker can end it and nothing is lost by that, or `on_abort` asks for it: most who send FIN have left, and a script
    /// costs more than an answer to one who has not.
    fn client_half_closed(&mut self, key: Key) {
        let Some(client) = self.clients.get(key) else { return };
        let Some(exchange) = client.exchange.and_then(|key| self.exchanges.get(key)) else {
            return;
        };
        // Its FIN may have come with the request, so that this turn is still to give that out.
        let is_given = matches!(exchange.place, Place::Placed | Place::Assigned | Place::Pulled);
        let is_running = is_given && !exchange.ended;
        let is_dropped = is_running && self.ends_with_client(exchange);
        if (exchange.place == Place::Waiting || is_dropped)
            && let Some(client) = self.clients.take(key)
        {
            self.close_client(key, client);
        }
    }

    fn client_bytes(&mut self, key: Key, client: &mut Client, bytes: &[u8]) -> Next {
        if client.phase == Phase::Lingering {
            client.lingered += bytes.len();
            // A web server may be sending a large body, and closes when it has seen the end.
            return if client.lingered > LINGER_BYTES && !client.conn.is_fastcgi() {
                Next::Close
            } else {
                Next::Keep
            };
        }
        if client.input.is_empty() {
            let (used, next) = self.advance(key, client, bytes);
            client.input.extend_from_slice(bytes.get(used..).unwrap_or_default());
            return next;
        }
        client.input.extend_from_slice(bytes);
        self.advance_input(key, client)
    }

    /// Works on bytes that were read earlier.
    fn advance_input(&mut self, key: Key, client: &mut Client) -> Next {
        let mut input = std::mem::take(&mut client.input);
        let (used, next) = self.advance(key, client, &input);
        if used >= input.len() {
            input.clear();
            self.keep_buffer(input);
        } else {
            input.drain(..used);
            client.input = input;
        }
        next
    }

    /// Keeps an empty buffer for the next response, unless it has grown large or there are many.
    fn keep_buffer(&mut self, buffer: Vec<u8>) {
        if (1..=KEEP).contains(&buffer.capacity()) && self.spare_buffers.len() < SPARES {
            self.spare_buffers.push(buffer);
        }
    }

    /// Feeds the conversation until it needs more bytes or a request is complete.
    fn advance(&mut self, key: Key, client: &mut Client, bytes: &[u8]) -> (usize, Next) {
        let mut used = 0;
        if client.awaits_proxy {
            match self.read_proxy(key, client, bytes) {
                Ok(Some(length)) => used = length,
                Ok(None) => return (0, Next::Keep),
                Err(next) => return (bytes.len(), next),
            }
        }
        if client.conn.is_fastcgi() {
            return self.advance_fastcgi(key, client, bytes);
        }
        if client.phase == Phase::Idle && client.conn.head_mut().bytes.capacity() == 0 {
            *client.conn.head_mut() = self.spare_heads.pop().unwrap_or_default();
        }
        loop {
            let rest = bytes.get(used..).unwrap_or_default();
            let Some(conn) = client.conn.http1() else {
                return (used, Next::Close);
            };
            match conn.step(&self.policy, rest) {
                Ok((count, Event::NeedData)) => {
                    used += count;
                    self.awaits_more(key, client, bytes.len() > used);
                    return (used, Next::Keep);
                }
                Ok((count, Event::Head)) => {
                    used += count;
                    if let Err(next) = self.request_head(key, client) {
                        return (used, next);
                    }
                }
                Ok((count, Event::Data(data))) => {
                    used += count;
                    if let Err(next) = self.request_data(key, client, data) {
                        return (used, next);
                    }
                }
                Ok((count, Event::End)) => {
                    used += count;
                    return (used, self.request_end(key, client));
                }
                Err(error) => {
                    return (
                        bytes.len(),
                        self.refuse(key, client, error.status(), &error.to_string()),
                    );
                }
            }
        }
    }

    /// Sets the deadline for what the client owes next.
    pub(super) fn awaits_more(&mut self, key: Key, client: &mut Client, partial: bool) {
        let http = &self.config.http;
        let limit = match client.phase {
            Phase::Idle | Phase::Head if client.conn.at_request_start() && !partial => {
                client.phase = Phase::Idle;
                if client.served {
                    return self.await_next(key, client);
                } else {
                    http.header_timeout
                }
            }
            Phase::Idle => {
                client.phase = Phase::Head;
                http.header_timeout
            }
            // The head's deadline stands: a byte now and then does not move it.
            Phase::Head | Phase::Answering | Phase::Lingering => return,
            Phase::Body => http.body_timeout,
        };
        self.client_timers.set(key.place(), limit.map(|limit| self.now + limit));
    }

    /// The response is out: one access line, then the next request or the end.
    pub(super) fn conclude(&mut self, key: Key, client: &mut Client, exchange_key: Key) -> Next {
        client.exchange = None;
        client.served = true;
        let Some(mut exchange) = self.exchanges.take(exchange_key) else {
            return Next::Close;
        };
        let status = exchange.response.status;
        self.log_access(client.peer, &exchange, status, client.conn.body_sent());
        let cut = exchange.cut;
        exchange.client = None;
        if exchange.place == Place::Finished {
            self.exchanges.free(exchange_key);
            self.retire_exchange(exchange);
        } else {
            // It was given up while its worker was still at it.
            self.exchanges.put(exchange_key, exchange);
            self.client_left(exchange_key);
        }
        if cut {
            return Next::Close;
        }
        if !client.conn.next_request() || client.eof {
            return self.linger(key, client);
        }
        client.phase = Phase::Idle;
        if client.out.is_empty() {
            let buffer = std::mem::take(&mut client.out.bytes);
            self.keep_buffer(buffer);
        }
        if client.input.is_empty() {
            self.await_next(key, client);
        }
        // What came meanwhile is in the socket, and the poll will not say so again.
        if client.readable {
            self.resume_clients.push(key);
        }
        if client.input.is_empty() {
            return Next::Keep;
        }
        self.advance_input(key, client)
    }

    /// Sets the deadline for the next request. Web servers have none: they keep connections to send on them at any time,
    /// and one that is closed at that moment costs a request.
    fn await_next(&mut self, key: Key, client: &Client) {
        let limit = self.config.http.keepalive.filter(|_| !client.conn.is_fastcgi());
        self.client_timers.set(key.place(), limit.map(|limit| self.now + limit));
    }

    /// Sends FIN and waits a little for the client to do the same.
    pub(super) fn linger(&mut self, key: Key, client: &mut Client) -> Next {
        client.stream.shutdown_write();
        if client.eof {
            return Next::Close;
        }
        client.phase = Phase::Lingering;
        client.close = false;
        client.input = Vec::new();
        self.client_timers.set(key.place(), Some(self.now + LINGER_TIME));
        // Whether the client closes first is only known by reading.
        client.readable = true;
        self.resume_clients.push(key);
        Next::Keep
    }

    /// A client's deadline has come.
    pub(super) fn client_overdue(&mut self, key: Key) {
        let Some(mut client) = self.clients.take(key) else {
            return;
        };
        let next = match client.phase {
            _ if client.has_unsent() => Next::Close,
            Phase::Idle if client.served => Next::Close,
            Phase::Lingering => Next::Close,
            // Nothing was sent at all: a connection kept in reserve by a browser, closed without a word.
            Phase::Idle => Next::Close,
            Phase::Head => self.refuse(key, &mut client, 408, "the request head took too long"),
            // We do not read: it is the worker that is slow.
            Phase::Body if !self.may_read(&client) => {
                let limit = self.config.http.body_timeout;
                self.client_timers.set(key.place(), limit.map(|limit| self.now + limit));
                Next::Keep
            }
            Phase::Body => self.refuse(key, &mut client, 408, "the request body took too long"),
            Phase::Answering => Next::Keep,
        };
        match next {
            Next::Keep => self.clients.put(key, client),
            Next::Close => self.close_client(key, client),
        }
    }

    /// Forgets a connection; what it was waiting for is dropped, let go on, or told.
    pub(super) fn close_client(&mut self, key: Key, mut client: Box<Client>) {
        let _ = self.poll.registry().deregister(client.stream.source());
        self.client_timers.set(key.place(), None);
        self.clients.free(key);
        if let Some(address) = client.counted {
            self.count_address(address, false);
        }
        let Some(exchange_key) = client.exchange else { return };
        let Some(mut exchange) = self.exchanges.take(exchange_key) else {
            return;
        };
        let complete = exchange.ended && exchange.stage == Stage::Committed && exchange.end_sent;
        // All that the head announced was sent, though the worker may not be done.
        exchange.is_fulfilled = client.conn.is_fulfilled() && !client.has_unsent() && exchange.spool.is_empty();
        let status = if complete || exchange.is_fulfilled {
            exchange.response.status
        } else {
            499
        };
        self.log_access(client.peer, &exchange, status, client.conn.body_sent());
        exchange.client = None;
        self.exchanges.put(exchange_key, exchange);
        self.client_left(exchange_key);
    }

    /// Closes a connection that is between requests.
    pub(super) fn close_idle(&mut self, key: Key) {
        if self.clients.get(key).is_some_and(Client::is_idle)
            && let Some(client) = self.clients.take(key)
        {
            self.close_client(key, client);
        }
    }
}
