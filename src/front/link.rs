//! One connection to a worker: its socket, its protocol's conversation, its buffers.

mod feed;

use super::client;
use super::event_loop::Front;
use super::exchange::{Exchange, Stage};
use super::shared::Stretch;
use super::spool::OutBuffer;
use super::tokens::{Key, Kind};
use super::workers::{Route, State, Worker};
use crate::base::allowance::Allowance;
use crate::base::message::BodyLength;
use crate::cgi::response::Parser;
use crate::fastcgi;
use crate::logging::escape;
use crate::pipe::FrontConn;
use crate::sys::shared::Shared;
use crate::sys::socket;
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::rc::Rc;

/// Bytes read from one link in one turn of the loop: small enough that what a client takes at once never has to be
/// spooled.
pub(super) const TURN: usize = 128 * 1024;

/// Body bytes are encoded while less than this waits in a link's out-buffer.
const LOW_WATER: usize = 64 * 1024;

/// The longest response head, in bytes.
const HEAD_LIMIT: usize = 64 * 1024;

/// Buffers larger than this are not kept.
const KEEP: usize = 256 * 1024;

/// How a link's bytes are read.
#[derive(Debug)]
pub(super) enum Wire {
    /// One request at a time.
    FastCgi { conn: fastcgi::Conn, parser: Parser },
    /// Many requests by number.
    Pipe(FrontConn),
}

/// Why a link ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Down {
    /// The worker closed it, having read all that was sent.
    Eof,
    /// The worker closed it without having read all.
    Reset,
    /// The worker closed it before a byte of the newest request was written; older ones may have been run.
    Unwritten,
    /// We closed it.
    Ours,
    /// The worker broke the protocol; why, printable.
    Broken(String),
}

/// One connection to a worker.
#[derive(Debug)]
pub(super) struct Link {
    stream: client::Stream,
    pub(super) worker: Key,
    pub(super) wire: Wire,
    input: Vec<u8>,
    /// Descriptors that came with bytes not understood yet; `None`: one that was lost on the way.
    pub(super) fds: VecDeque<Option<OwnedFd>>,
    pub(super) out: OutBuffer,
    readable: bool,
    writable: bool,
    watches_room: bool,
    /// FastCGI: the request on it. Pipe: see the pool's table.
    pub(super) exchange: Option<Key>,
    /// FastCGI: how much of its error stream is logged.
    pub(super) allowance: Allowance,
    /// Exchanges with body bytes that did not fit yet.
    pub(super) feeding: VecDeque<Key>,
    /// Memory that the worker shares, and what a frame has named of it.
    pub(super) memory: Option<Rc<Shared>>,
    pub(super) stretch: Option<Stretch>,
    /// Not read, since a client is slower and its spool is full.
    paused: bool,
    /// The exchange whose last byte is the last byte written, if that is so.
    pub(super) last_request: Option<Key>,
    /// The request that was started last.
    newest: Option<Key>,
    /// Some byte of that one was written.
    touched: bool,
    /// Some request was served on it.
    pub(super) used: bool,
    /// It is in no state for another request.
    pub(super) finished: bool,
    /// What the system said when it failed.
    error: Option<io::Error>,
}

impl Link {
    pub(super) fn new(stream: client::Stream, worker: Key, wire: Wire) -> Self {
        Self {
            stream,
            worker,
            wire,
            input: Vec::new(),
            fds: VecDeque::new(),
            out: OutBuffer::default(),
            readable: false,
            writable: true,
            watches_room: false,
            exchange: None,
            allowance: Allowance::default(),
            feeding: VecDeque::new(),
            memory: None,
            stretch: None,
            paused: false,
            last_request: None,
            newest: None,
            touched: true,
            used: false,
            finished: false,
            error: None,
        }
    }

    /// True while it is not read for a slow client's sake.
    pub(super) fn is_paused(&self) -> bool {
        self.paused
    }

    /// It is not read until its client has caught up.
    pub(super) fn pause(&mut self) {
        self.paused = true;
    }

    /// True if something of it can be had now.
    fn has_more(&self) -> bool {
        self.readable || self.stretch.is_some()
    }

    pub(super) fn fastcgi() -> Wire {
        Wire::FastCgi {
            conn: fastcgi::Conn::new(),
            parser: Parser::for_fastcgi(HEAD_LIMIT),
        }
    }

    /// Reads what is there, into `scratch` and, through the empty `received`, into `fds`.
    fn read(&mut self, scratch: &mut [u8], received: &mut Vec<OwnedFd>) -> io::Result<usize> {
        if matches!(self.wire, Wire::FastCgi { .. }) {
            return self.stream.read(scratch);
        }
        let socket::Received { bytes, cut } = socket::receive_stream(&self.stream, scratch, received)?;
        if received.len() > 1 {
            let text = "expected one descriptor beside a frame, found more";
            return Err(io::Error::new(ErrorKind::InvalidData, text));
        }
        self.fds.extend(received.drain(..).map(Some));
        if cut {
            self.fds.push_back(None);
        }
        Ok(bytes)
    }

    /// Nothing more can be written. What the worker has sent before it went may still be there to read.
    fn fail(&mut self, error: io::Error) {
        self.error = Some(error);
        self.out.clear();
        self.feeding.clear();
        self.readable = true;
    }

    /// What is wrong with the descriptors that came, if anything, once the bytes beside them were looked at.
    fn stray_descriptors(&self) -> Option<&'static str> {
        if self.fds.is_empty() {
            return None;
        }
        let Wire::Pipe(conn) = &self.wire else { return None };
        let is_due = !conn.is_between_frames() || !self.input.is_empty();
        (!is_due || self.fds.len() > 1).then_some("expected a frame with the flag FD beside a descriptor")
    }

    /// Its request is over as far as we are concerned. What still comes is thrown away, and nothing more is sent.
    pub(super) fn leave_open(&mut self) {
        self.exchange = None;
        self.feeding.clear();
        self.out.clear();
        self.paused = false;
    }

    /// A frame about no request, or about one already answered, goes out.
    pub(super) fn send_frame(&mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        encode(&mut self.out.bytes);
        self.last_request = None;
    }
}

impl Front {
    /// Registers a link and gives it a key.
    pub(super) fn add_link(&mut self, mut link: Box<Link>) -> io::Result<Key> {
        // Registered under its key, so it must have one first.
        let placeholder = self.links.len();
        debug_assert!(placeholder < u32::MAX as usize);
        let interest = link.stream.interest(false);
        let key = self.links.insert(link);
        link = match self.links.take(key) {
            Some(link) => link,
            None => return Err(ErrorKind::NotFound.into()),
        };
        let result = self
            .poll
            .registry()
            .register(link.stream.source(), key.token(Kind::Link), interest);
        match result {
            Ok(()) => {
                self.links.put(key, link);
                Ok(key)
            }
            Err(error) => {
                self.links.free(key);
                Err(error)
            }
        }
    }

    /// The poll said something about a link.
    pub(super) fn link_event(&mut self, key: Key, event: &mio::event::Event) {
        let Some(link) = self.links.get_mut(key) else { return };
        if event.is_writable() {
            link.writable = true;
            if !link.out.is_empty() || !link.feeding.is_empty() {
                self.dirty_links.push(key);
            }
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            link.readable = true;
            self.read_link(key);
        }
    }

    /// Reads what a worker has sent, within this turn's budget. True if it stopped before the end of what is there.
    pub(super) fn read_link(&mut self, key: Key) -> bool {
        let Some(mut link) = self.links.take(key) else {
            return false;
        };
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut touched = std::mem::take(&mut self.touched);
        let flows = self.workers.get(link.worker).is_some_and(Worker::flows);
        let mut received = Vec::new();
        let mut budget = TURN;
        let mut down = None;
        while link.has_more() && !link.paused && down.is_none() && budget > 0 {
            if link.stretch.is_some() {
                match self.pass_stretch(key, &mut link, budget, &mut touched) {
                    Ok(count) => budget = budget.saturating_sub(count.max(1)),
                    Err(reason) => down = Some(Down::Broken(reason)),
                }
                continue;
            }
            match link.read(&mut scratch, &mut received) {
                Ok(0) => down = Some(Down::Eof),
                Ok(count) => {
                    budget = budget.saturating_sub(count);
                    // A read ends where a descriptor came, whatever is behind it.
                    let has_file = !link.fds.is_empty();
                    link.readable = count == scratch.len() || has_file;
                    let bytes = scratch.get(..count).unwrap_or_default();
                    if let Err(reason) = self.link_bytes(key, &mut link, bytes, &mut touched) {
                        down = Some(Down::Broken(reason));
                    } else if let Some(reason) = link.stray_descriptors() {
                        down = Some(Down::Broken(reason.to_owned()));
                    }
                    // Many files fit in one turn's bytes.
                    link.paused |= has_file && touched.last().is_some_and(|last| self.holds_back(key, *last, flows));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => link.readable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => down = Some(Down::Reset),
                Err(error) if error.kind() == ErrorKind::InvalidData => down = Some(Down::Broken(error.to_string())),
                Err(error) => {
                    link.error = Some(error);
                    down = Some(Down::Eof);
                }
            }
        }
        if link.finished && down.is_none() {
            down = Some(Down::Ours);
        }
        if !link.touched && matches!(down, Some(Down::Eof | Down::Reset)) {
            down = Some(Down::Unwritten);
        }
        self.scratch = scratch;
        // What came whole has a length by now; for the rest the head goes out with what there is, unless more will
        // never come: that can still be answered with an error.
        for exchange_key in touched.drain(..) {
            if let Some(mut exchange) = self.exchanges.take(exchange_key) {
                if exchange.stage == Stage::Held && exchange.naming.is_none() && !exchange.ended && down.is_none() {
                    self.commit(&mut exchange, BodyLength::Close);
                }
                self.exchanges.put(exchange_key, exchange);
                link.paused |= self.holds_back(key, exchange_key, flows);
            }
        }
        self.touched = touched;
        let more = link.has_more() && down.is_none();
        if more && !link.paused {
            self.resume_links.push(key);
        }
        self.links.put(key, link);
        if let Some(down) = down {
            self.link_down(key, &down);
        }
        more
    }

    /// True if a link should not be read before the client of this exchange has caught up.
    fn holds_back(&self, link: Key, exchange: Key, flows: bool) -> bool {
        self.exchanges.get(exchange).is_some_and(|exchange| {
            // If its end has come, it would not say when to go on. A worker that counts what it sends stops by itself,
            // and its other requests go on; but files do not count.
            exchange.blocked && exchange.link == Some(link) && (!flows || exchange.spool.is_crowded())
        })
    }

    /// Lets a worker that counts what it sends go on with a response.
    pub(super) fn give_credit(&mut self, exchange: &mut Exchange) {
        let credit = std::mem::take(&mut exchange.credit);
        let wire = exchange.wire;
        if let Some(key) = exchange.link
            && credit > 0
            && wire != 0
            && let Some(link) = self.links.get_mut(key)
        {
            link.send_frame(|out| FrontConn::window(wire, credit, out));
            self.dirty_links.push(key);
        }
    }

    /// A client has caught up: its link may be read again.
    pub(super) fn resume_link(&mut self, key: Key) {
        if let Some(link) = self.links.get_mut(key) {
            link.paused = false;
            self.read_link(key);
        }
    }

    /// Reads what a dead worker has sent, then ends the link.
    pub(super) fn drain_link(&mut self, key: Key) {
        while let Some(link) = self.links.get_mut(key) {
            link.paused = false;
            link.readable = true;
            let before = self.resume_links.len();
            let more = self.read_link(key);
            self.resume_links.truncate(before);
            if !more {
                break;
            }
        }
        if self.links.get(key).is_some() {
            self.link_down(key, &Down::Eof);
        }
    }

    pub(super) fn link_bytes(
        &mut self,
        key: Key,
        link: &mut Link,
        bytes: &[u8],
        touched: &mut Vec<Key>,
    ) -> Result<(), String> {
        if link.input.is_empty() {
            let used = self.link_events(key, link, bytes, touched)?;
            link.input.extend_from_slice(bytes.get(used..).unwrap_or_default());
            return Ok(());
        }
        link.input.extend_from_slice(bytes);
        let mut input = std::mem::take(&mut link.input);
        let used = self.link_events(key, link, &input, touched)?;
        input.drain(..used);
        link.input = input;
        Ok(())
    }

    fn link_events(
        &mut self,
        key: Key,
        link: &mut Link,
        bytes: &[u8],
        touched: &mut Vec<Key>,
    ) -> Result<usize, String> {
        if matches!(link.wire, Wire::Pipe(_)) {
            self.pipe_events(key, link, bytes, touched)
        } else {
            self.fastcgi_events(key, link, bytes, touched)
        }
    }

    /// A link ended: what becomes of its requests, and of its worker.
    pub(super) fn link_down(&mut self, key: Key, down: &Down) {
        let Some(mut link) = self.links.free(key) else { return };
        let _ = self.poll.registry().deregister(link.stream.source());
        let worker_key = link.worker;
        if let Down::Broken(reason) = down {
            let text = format!("broke its protocol: {reason}");
            self.fault(worker_key, &text);
            if let Some(worker) = self.workers.get_mut(worker_key) {
                worker.is_cut = true;
            }
        }
        self.worker_text_end(worker_key, link.exchange, &mut link.allowance);
        let is_pipe = matches!(link.wire, Wire::Pipe(_));
        let flows = self.workers.get(worker_key).is_some_and(Worker::flows);
        let mut lost: Vec<Key> = link.exchange.into_iter().collect();
        if is_pipe {
            lost = self.exchanges_on(key);
        }
        for exchange_key in lost {
            let Some(mut exchange) = self.exchanges.take(exchange_key) else {
                continue;
            };
            let not_run = match down {
                Down::Unwritten => link.newest == Some(exchange_key),
                // The pipe protocol's loops read a whole request before they act: the last request sent was not
                // read to its end.
                // A worker with FLOW may act before.
                Down::Reset => {
                    is_pipe && !flows && link.last_request == Some(exchange_key) && exchange.stage == Stage::Awaiting
                }
                Down::Eof | Down::Ours | Down::Broken(_) => false,
            };
            self.release(&mut exchange, worker_key, None);
            self.worker_lost(exchange_key, &mut exchange, not_run, down);
            self.settle(exchange_key, exchange);
        }
        let Some(worker) = self.workers.get_mut(worker_key) else {
            return;
        };
        worker.idle_links.retain(|other| *other != key);
        worker.open_links = worker.open_links.saturating_sub(usize::from(!is_pipe));
        if is_pipe && worker.channel == Some(key) {
            worker.channel = None;
            self.channel_closed(worker_key);
        } else if link.exchange.is_some() && *down != Down::Ours && matches!(worker.state, State::Ready) {
            match worker.route {
                // It may be dying, or only have closed one connection: find out before it gets another request.
                Route::Socket(_) => self.suspect(worker_key),
                Route::Upstream(_) if *down == Down::Unwritten && !link.used => {
                    let error = link.error.unwrap_or_else(|| ErrorKind::ConnectionReset.into());
                    self.unreachable(worker_key, &error);
                }
                Route::Upstream(_) | Route::Channel => {}
            }
        }
    }
}

pub(super) fn describe(error: &dyn std::fmt::Display, bytes: &[u8]) -> String {
    let text = error.to_string();
    if text.contains('"') {
        return text;
    }
    format!("{text}; its bytes begin \"{}\"", escape::cut(bytes, 64))
}
