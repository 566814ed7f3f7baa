//! One request with its response: joins a client to a worker and holds what either side is not ready for.
//!
//! Never here: socket calls. The exchange outlives its client (a running request is let go on) and its worker (a slow
//! client drains the buffers after the worker has ended).

use super::event_loop::Front;
use super::routing::{Own, Script, SitePlace};
use super::spool::{Body, Spool};
use super::tokens::Key;
use crate::base::ids::RequestId;
use crate::base::level::Level;
use crate::base::message::{BodyLength, RequestHead, ResponseHead};
use crate::files::by_app::Naming;
use crate::http1;
use std::fs::File;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Bytes of a body that are held back, in the hope that they are all and the length is known.
const HELD: usize = 64 * 1024;

/// Where a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Its body is still arriving.
    Receiving,
    /// In its pool's queue.
    Waiting,
    /// The plan has found a worker for it, which gets it at the end of the turn.
    Placed,
    /// With `worker`, over `link`.
    Assigned,
    /// In the pull queue, or taken by a worker that has not answered yet.
    Pulled,
    /// No worker has it any more; only the client is left.
    Finished,
}

/// How far its response is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// No response head yet.
    Awaiting,
    /// The head is here and nothing was sent to the client: the length may still turn out to be known.
    Held,
    /// The head went to the client.
    Committed,
}

/// One request with its response.
#[derive(Debug)]
pub(super) struct Exchange {
    /// Its own place, under which its timer runs.
    pub(super) slot: usize,
    pub(super) client: Option<Key>,
    /// The address of the client, also when that has left; `None` for one without.
    pub(super) client_ip: Option<IpAddr>,
    /// Its site.
    pub(super) site: SitePlace,
    /// What serves it, unless `own` does.
    pub(super) pool: usize,
    /// Bytes of its decoded path that are the app's SCRIPT_NAME.
    pub(super) mount: usize,
    /// The script that its path names.
    pub(super) script: Option<Box<Script>>,
    /// We answer it ourselves.
    pub(super) own: Option<Own>,
    pub(super) id: RequestId,
    pub(super) head: RequestHead,
    pub(super) https: bool,
    /// The head's SCRIPT_NAME counts.
    pub(super) mounted: bool,
    /// Request variables, `NAME\0VALUE\0`.
    pub(super) block: Vec<u8>,
    pub(super) body: Body,
    /// What its route says about that, if anything.
    pub(super) wants_stream: Option<bool>,
    /// The body is passed on as it arrives.
    pub(super) streams: bool,
    /// No more body bytes will arrive.
    pub(super) body_ended: bool,
    /// Body bytes passed to the link.
    pub(super) body_passed: u64,
    pub(super) place: Place,
    pub(super) worker: Option<Key>,
    pub(super) link: Option<Key>,
    /// Its number on the pipe protocol's wire; 0 = none.
    pub(super) wire: u16,
    /// It went through the pull queue.
    pub(super) pulled: bool,
    /// A slot was free when it was pushed, or a worker's board has named it.
    pub(super) seen_running: bool,
    /// Since when it is in no board and no socket: perhaps lost with a worker.
    pub(super) missing_since: Option<Instant>,
    /// A worker that is gone may have answered it, in what was not read of its channel.
    pub(super) may_have_run: bool,
    /// When its head was complete.
    pub(super) started: Instant,
    /// When it entered the queue, for its first try or another.
    pub(super) queued: Instant,
    /// When a worker got it, or it was pushed.
    pub(super) dispatched: Instant,
    /// The response is a local redirect: when it ends, another path is served.
    pub(super) redirect: bool,
    /// What is wrong with the head that its page has printed: the request has run, and is answered 502 at its end.
    pub(super) bad_head: Option<String>,
    /// Local redirects followed.
    pub(super) redirects: u8,
    /// Workers that would not have it.
    pub(super) refusals: u8,
    /// Workers that died while they may have been running it.
    pub(super) deaths: u8,
    pub(super) response: ResponseHead,
    /// The response names a file, which is sent in the place of its body.
    pub(super) naming: Option<Naming>,
    pub(super) stage: Stage,
    /// Bytes of the response's body, where the worker's protocol says so beside the head.
    pub(super) length: Option<u64>,
    /// Response body that came before the head was committed.
    pub(super) held: Vec<u8>,
    pub(super) spool: Spool,
    /// The client is behind: its link is not read.
    pub(super) blocked: bool,
    /// Since when it is blocked for a moment only, in the hope that the client catches up.
    pub(super) held_since: Option<Instant>,
    /// How long it was blocked that way.
    pub(super) held_for: Duration,
    /// The response is complete.
    pub(super) ended: bool,
    /// And it is the worker's, not one of ours.
    pub(super) answered: bool,
    /// The final chunk was encoded.
    pub(super) end_sent: bool,
    /// The client must see that the response is incomplete: cut the connection.
    pub(super) cut: bool,
    /// A worker that streams was told that nobody wants the response.
    pub(super) told: bool,
    /// Response bytes read and not yet credited (workers with flow control).
    pub(super) credit: u32,
    /// Body bytes the worker still takes (workers with flow control).
    pub(super) window: u64,
    /// Variables as the app left them, `NAME\0VALUE\0`, for the access log.
    pub(super) notes: Vec<u8>,
    /// Process that served it, for the access log.
    pub(super) pid: i32,
    /// Its worker was told that the answer is not wanted.
    pub(super) aborted: bool,
    /// Its client has left with all of the response that the head announced, while its worker was still at it.
    pub(super) is_fulfilled: bool,
    /// And that its deadline has passed.
    pub(super) overdue: bool,
}

impl Exchange {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            slot: 0,
            client: None,
            client_ip: None,
            site: SitePlace::default(),
            pool: 0,
            mount: 0,
            script: None,
            own: None,
            id: RequestId::from_seed(0),
            head: RequestHead::default(),
            https: false,
            mounted: false,
            block: Vec::new(),
            body: Body::default(),
            wants_stream: None,
            streams: false,
            body_ended: false,
            body_passed: 0,
            place: Place::Receiving,
            worker: None,
            link: None,
            wire: 0,
            pulled: false,
            seen_running: false,
            missing_since: None,
            may_have_run: false,
            started: now,
            queued: now,
            dispatched: now,
            redirect: false,
            bad_head: None,
            redirects: 0,
            refusals: 0,
            deaths: 0,
            response: ResponseHead::default(),
            naming: None,
            stage: Stage::Awaiting,
            length: None,
            held: Vec::new(),
            spool: Spool::default(),
            blocked: false,
            held_since: None,
            held_for: Duration::ZERO,
            ended: false,
            answered: false,
            end_sent: false,
            cut: false,
            told: false,
            credit: 0,
            window: 0,
            notes: Vec::new(),
            pid: 0,
            aborted: false,
            is_fulfilled: false,
            overdue: false,
        }
    }

    /// Makes a used exchange new again and keeps its memory, unless that has grown large.
    pub(super) fn renew(&mut self, now: Instant) {
        const KEEP: usize = 64 * 1024;
        let mut fresh = Self::new(now);
        std::mem::swap(&mut fresh.head, &mut self.head);
        std::mem::swap(&mut fresh.block, &mut self.block);
        std::mem::swap(&mut fresh.body, &mut self.body);
        std::mem::swap(&mut fresh.response, &mut self.response);
        std::mem::swap(&mut fresh.held, &mut self.held);
        fresh.head.clear();
        fresh.block.clear();
        fresh.body.clear();
        fresh.response.clear();
        fresh.held.clear();
        for buffer in [
            &mut fresh.block,
            &mut fresh.held,
            &mut fresh.head.bytes,
            &mut fresh.response.bytes,
        ] {
            if buffer.capacity() > KEEP {
                *buffer = Vec::new();
            }
        }
        *self = fresh;
    }

    /// Forgets a try that no client has seen anything of.
    pub(super) fn reset_response(&mut self) {
        self.response.clear();
        self.naming = None;
        self.held.clear();
        self.length = None;
        self.notes.clear();
        self.spool = Spool::default();
        self.stage = Stage::Awaiting;
        self.redirect = false;
        self.bad_head = None;
        self.worker = None;
        self.link = None;
        self.wire = 0;
        self.pulled = false;
        self.seen_running = false;
        self.missing_since = None;
        self.may_have_run = false;
        self.body_passed = 0;
        self.told = false;
        self.credit = 0;
        self.aborted = false;
        self.overdue = false;
    }

    /// True while the request could be sent to another worker as if for the first time.
    pub(super) fn is_whole(&self) -> bool {
        !self.streams || self.body_passed == 0
    }
}

impl Front {
    /// A response head is complete in `exchange.response`.
    pub(super) fn response_head(&mut self, exchange: &mut Exchange) {
        let status = exchange.response.status;
        if (100..200).contains(&status) {
            if let Some(client) = exchange.client.and_then(|key| self.clients.get_mut(key)) {
                // A client that takes nothing misses some: they are hints, and must not fill our memory.
                if status != 101 && client.out.len() < self.config.http.response_buffer {
                    client.conn.send_interim(&exchange.response, &mut client.out.bytes);
                }
                self.dirty_clients.extend(exchange.client);
            }
            exchange.response.clear();
            return;
        }
        exchange.stage = Stage::Held;
        exchange.naming = self.naming(exchange);
    }

    /// Response body bytes arrived from the worker; `last`: no more of them are at hand.
    pub(super) fn response_data(&mut self, exchange: &mut Exchange, data: &[u8], last: bool) {
        if exchange.cut || exchange.is_replaced() {
            return;
        }
        match exchange.stage {
            Stage::Awaiting => {}
            Stage::Held => {
                if exchange.held.len() + data.len() <= HELD && exchange.spool.is_empty() {
                    exchange.held.extend_from_slice(data);
                } else {
                    // They are many, or belong behind a file.
                    self.commit(exchange, BodyLength::Close);
                    self.forward(exchange, data, last);
                }
            }
            Stage::Committed => self.forward(exchange, data, last),
        }
    }

    /// A part of the response body is in a file. It waits there until its client takes it; the worker is not needed
    /// for that.
    pub(super) fn response_file(&mut self, exchange: &mut Exchange, file: File, offset: u64, length: u64) {
        if exchange.cut || exchange.client.is_none() || length == 0 || exchange.is_replaced() {
            return;
        }
        exchange.spool.push_file(file, offset, length);
        exchange.blocked |= exchange.spool.is_crowded();
        if exchange.stage == Stage::Committed {
            self.dirty_clients.extend(exchange.client);
        }
    }

    /// The rest of a response cannot be had, for a reason of ours: the client must see that.
    pub(super) fn break_off(&mut self, exchange: &mut Exchange, why: &str) {
        self.say(Level::Error, Some(exchange), format_args!("{why}"));
        exchange.spool = Spool::default();
        exchange.cut = true;
        exchange.ended = true;
        self.dirty_clients.extend(exchange.client);
    }

    /// The worker's response is complete.
    pub(super) fn response_end(&mut self, exchange: &mut Exchange) {
        if let Some(naming) = exchange.naming.take() {
            return self.send_named(exchange, naming);
        }
        if exchange.stage == Stage::Held && !exchange.cut {
            let length = match exchange.held.len() as u64 + exchange.spool.len() {
                0 if exchange.head.is_head() => BodyLength::Close,
                length => BodyLength::Known(length),
            };
            self.commit(exchange, length);
        }
        exchange.ended = true;
        exchange.answered = true;
        self.dirty_clients.extend(exchange.client);
    }

    /// Sends the response head; `otherwise` is the body's length unless the app or its protocol has named one.
    pub(super) fn commit(&mut self, exchange: &mut Exchange, otherwise: BodyLength) {
        exchange.stage = Stage::Committed;
        let is_given = self.given_id(exchange).is_some();
        let Some(client) = exchange.client.and_then(|key| self.clients.get_mut(key)) else {
            exchange.held.clear();
            return;
        };
        let named = exchange.response.content_length.or(exchange.length);
        let length = named.map_or(otherwise, BodyLength::Known);
        if client.out.bytes.capacity() == 0 {
            client.out.bytes = self.spare_buffers.pop().unwrap_or_default();
        }
        let keeps_alive = self.config.http.keepalive.is_some() || client.conn.is_fastcgi();
        if self.drain.is_some() || !keeps_alive {
            client.conn.close_after();
        }
        let common = http1::response::Common {
            server: &self.config.http.server_header,
            date: &self.date,
            request_id: (!is_given).then_some(exchange.id.as_bytes()),
        };
        client
            .conn
            .send_head(&exchange.response, length, &common, &mut client.out.bytes);
        self.dirty_clients.extend(exchange.client);
        if !exchange.held.is_empty() {
            let is_all = matches!(otherwise, BodyLength::Known(_));
            client.send_data(&exchange.held, is_all);
            exchange.held.clear();
        }
    }

    /// The identifier that the app gave its response. Only WSGI apps may go on doing so; for others it is replaced.
    pub(super) fn given_id<'e>(&self, exchange: &'e Exchange) -> Option<&'e [u8]> {
        let pool = self.pools.get(exchange.pool).filter(|pool| pool.is_wsgi);
        pool.and_then(|_| exchange.response.field("x-request-id"))
    }

    /// Ends an exchange with an error of ours: a page if nothing was sent yet, otherwise a cut connection.
    ///
    /// The worker's side has been dealt with by the caller.
    pub(super) fn fail(&mut self, exchange: &mut Exchange, status: u16, detail: &str) {
        exchange.place = Place::Finished;
        exchange.ended = true;
        exchange.link = None;
        if exchange.stage == Stage::Committed {
            exchange.cut = true;
            self.dirty_clients.extend(exchange.client);
            return;
        }
        exchange.held.clear();
        let mut page = std::mem::take(&mut exchange.held);
        http1::response::error_page(status, detail, &mut exchange.response, &mut page);
        if status == 503 {
            let wait = self.retry_after(exchange.pool);
            exchange.response.push(b"Retry-After", wait.as_bytes());
        }
        if !exchange.body_ended
            && let Some(client) = exchange.client.and_then(|key| self.clients.get_mut(key))
        {
            client.conn.leave_unread();
        }
        exchange.held = page;
        exchange.spool = Spool::default();
        exchange.length = None;
        self.put_page(exchange, status);
        let length = BodyLength::Known(exchange.held.len() as u64 + exchange.spool.len());
        self.commit(exchange, length);
    }
}
