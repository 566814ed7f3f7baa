//! Web servers that speak FastCGI with us, as with php-fpm or fcgiwrap: one connection's requests, one after another.
//!
//! Never here: records (`fastcgi::server`), what variables say (`cgi::given`), and which file may be run (scripts.rs).

use super::client::{Client, KEEP, Next, Phase};
use super::event_loop::Front;
use super::exchange::{Exchange, Place};
use super::routing::Own;
use super::tokens::Key;
use crate::base::ids::RequestId;
use crate::base::level::Level;
use crate::base::message::{BodyLength, RequestHead, ResponseHead};
use crate::cgi::given::{self, Given};
use crate::cgi::output;
use crate::fastcgi::server::{Conn, Event, Reply};
use crate::fastcgi::{self, ProtocolStatus};
use std::net::{IpAddr, SocketAddr};

/// How far the response is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Writing {
    /// No head was sent.
    #[default]
    Head,
    /// The head was sent.
    Body,
    /// The response is over.
    End,
}

/// One connection of a web server.
#[derive(Debug)]
pub(super) struct Inbound {
    pub(super) conn: Conn,
    /// The listener, by its place in the configuration.
    listener: usize,
    /// A head to be swapped for that of an exchange.
    pub(super) head: RequestHead,
    is_head: bool,
    /// CONTENT_LENGTH, if it has digits.
    announced: Option<u64>,
    /// Body bytes that have come.
    received: u64,
    /// The web server wants to use the connection again, and so do we.
    keeps: bool,
    writing: Writing,
    /// Body bytes that the announced length of the response still allows; `None` = no length was announced.
    left: Option<u64>,
    sent: u64,
    /// More was to be sent than the announced length allows.
    has_surplus: bool,
    /// The response has no body, whatever the app sends.
    is_bodiless: bool,
    /// The response's header, before it is put into a record.
    header: Vec<u8>,
    /// Answers beside the response, which wait until the record that is being sent is whole.
    replies: Vec<u8>,
    /// Bytes of such answers since the web server has last taken all that was sent.
    owed: usize,
}

impl Inbound {
    pub(super) fn new(listener: usize, params_limit: usize) -> Self {
        Self {
            conn: Conn::new(params_limit),
            listener,
            head: RequestHead::default(),
            is_head: false,
            announced: None,
            received: 0,
            keeps: false,
            writing: Writing::Head,
            left: None,
            sent: 0,
            has_surplus: false,
            is_bodiless: false,
            header: Vec::new(),
            replies: Vec::new(),
            owed: 0,
        }
    }

    pub(super) fn body_length(&self) -> BodyLength {
        match (self.announced, self.received) {
            (Some(length), _) => BodyLength::Known(length),
            (None, 0) => BodyLength::None,
            // FastCGI marks the end of a body of any length.
            (None, _) => BodyLength::Chunked,
        }
    }

    pub(super) fn close_after(&mut self) {
        self.keeps = false;
    }

    /// Writes the response's head. Responses to HEAD and with status 204 and 304 have no body, whatever is sent later.
    pub(super) fn send_head(
        &mut self,
        head: &ResponseHead,
        body: BodyLength,
        request_id: Option<&[u8]>,
        out: &mut Vec<u8>,
    ) {
        if self.writing != Writing::Head {
            debug_assert!(false, "one head per request");
            return;
        }
        self.writing = Writing::Body;
        let known = match body {
            BodyLength::None => Some(0),
            BodyLength::Known(length) => Some(length),
            BodyLength::Chunked | BodyLength::Close => None,
        };
        self.is_bodiless = self.is_head || matches!(head.status, 100..=199 | 204 | 304);
        let said = if self.is_bodiless {
            // As in HTTP: what GET would have got, or nothing.
            let would_be = known.filter(|length| *length > 0 && head.status != 304);
            self.left = None;
            head.content_length.or(would_be).filter(|_| head.status != 204)
        } else {
            self.left = known;
            known
        };
        self.header.clear();
        output::write_header(head, said, request_id, &mut self.header);
        self.conn.send_stdout(&self.header, out);
    }

    fn allow(&mut self, length: u64) -> u64 {
        if self.writing != Writing::Body || self.is_bodiless {
            return 0;
        }
        let allowed = self.left.map_or(length, |left| left.min(length));
        self.has_surplus |= allowed < length;
        self.left = self.left.map(|left| left - allowed);
        self.sent = self.sent.saturating_add(allowed);
        allowed
    }

    pub(super) fn send_data(&mut self, data: &[u8], out: &mut Vec<u8>) {
        let allowed = usize::try_from(self.allow(data.len() as u64)).unwrap_or(usize::MAX);
        self.conn.send_stdout(data.get(..allowed).unwrap_or_default(), out);
    }

    pub(super) fn begin_data(&mut self, length: u64, out: &mut Vec<u8>) -> u64 {
        let allowed = self.allow(length);
        let begun = self.conn.begin_stdout(allowed, out);
        debug_assert_eq!(allowed, begun, "a stretch fits into a record");
        begun
    }

    pub(super) fn end_data(&mut self, out: &mut Vec<u8>) {
        self.conn.end_stdout(out);
        out.append(&mut self.replies);
    }

    /// Ends the response. False if it is shorter than announced: it must not look complete then.
    pub(super) fn send_end(&mut self, out: &mut Vec<u8>) -> bool {
        let is_short = self.left.is_some_and(|left| left > 0);
        if self.writing == Writing::Body {
            self.writing = Writing::End;
            if !is_short {
                self.conn.send_end(0, ProtocolStatus::Complete, out);
            }
        }
        self.writing == Writing::End && !is_short
    }

    pub(super) fn has_surplus(&self) -> bool {
        self.has_surplus
    }

    pub(super) fn is_fulfilled(&self) -> bool {
        let is_whole = self.is_bodiless || self.left == Some(0);
        self.writing != Writing::Head && is_whole && !self.has_surplus
    }

    pub(super) fn body_sent(&self) -> u64 {
        self.sent
    }

    pub(super) fn next_request(&mut self) -> bool {
        if self.writing != Writing::End || !self.keeps || self.conn.is_active() {
            return false;
        }
        self.writing = Writing::Head;
        self.announced = None;
        self.received = 0;
        self.sent = 0;
        self.has_surplus = false;
        self.left = None;
        true
    }

    /// The request is over without a response that anybody wants.
    fn give_up(&mut self, out: &mut Vec<u8>) {
        self.writing = Writing::End;
        self.left = None;
        self.conn.send_end(0, ProtocolStatus::Complete, out);
    }
}

impl Front {
    /// Reads what a web server has sent, until it needs more or a response must go out first; says how much was used.
    pub(super) fn advance_fastcgi(&mut self, key: Key, client: &mut Client, bytes: &[u8]) -> (usize, Next) {
        let mut used = 0;
        loop {
            let Some(inbound) = client.conn.fastcgi() else {
                return (used, Next::Close);
            };
            if client.phase == Phase::Answering && !inbound.conn.is_active() {
                // What follows is the next request's, and the exchange of this one is not over.
                return (used, Next::Keep);
            }
            let rest = bytes.get(used..).unwrap_or_default();
            let (count, event) = match inbound.conn.step(rest) {
                Ok(step) => step,
                Err(error) => return (bytes.len(), self.broken_fastcgi(key, client, &error)),
            };
            used += count;
            let next = match event {
                Event::NeedData => {
                    self.awaits_more(key, client, false);
                    return (used, Next::Keep);
                }
                Event::Begin { keep } => {
                    inbound.keeps = keep;
                    client.phase = Phase::Head;
                    let limit = self.config.http.header_timeout;
                    self.client_timers.set(key.place(), limit.map(|limit| self.now + limit));
                    Next::Keep
                }
                Event::Params => self.fastcgi_params(key, client),
                Event::Stdin(data) if client.phase == Phase::Body => self.fastcgi_data(key, client, data),
                Event::End if client.phase == Phase::Body => self.fastcgi_end_of_body(key, client),
                // It was answered already.
                Event::Stdin(_) | Event::End => Next::Keep,
                Event::Abort => self.fastcgi_abort(key, client),
                Event::Reply(reply) => self.fastcgi_reply(key, client, reply),
                Event::Early => return (used, Next::Keep),
            };
            if next == Next::Close {
                return (bytes.len(), next);
            }
        }
    }

    /// What came is not FastCGI, or too much of it.
    fn broken_fastcgi(&mut self, key: Key, client: &mut Client, error: &fastcgi::Error) -> Next {
        if let fastcgi::Error::ParamsTooLong { .. } = error {
            return self.refuse(key, client, error.status(), &error.to_string());
        }
        self.log_invalid(client.peer, error.status(), &error.to_string());
        Next::Close
    }

    /// A request's variables are complete.
    fn fastcgi_params(&mut self, key: Key, client: &mut Client) -> Next {
        let Some(inbound) = client.conn.fastcgi() else {
            return Next::Close;
        };
        let mut exchange = self.fresh_exchange();
        exchange.client = Some(key);
        let read = Given::new(inbound.conn.variables()).and_then(|given| {
            given.read_head(&mut exchange.head)?;
            inbound.announced = given.content_length()?;
            Ok(given)
        });
        let given = match read {
            Ok(given) => given,
            Err(error) => {
                // What the web server says about the request cannot be trusted to be about this request only.
                self.log_invalid(client.peer, error.status(), &error.to_string());
                self.retire_exchange(exchange);
                return Next::Close;
            }
        };
        inbound.is_head = exchange.head.is_head();
        client.peer.address = address(given.text("REMOTE_ADDR"), given.text("REMOTE_PORT"));
        exchange.client_ip = client.peer.address.map(|address| address.ip());
        exchange.https = !matches!(given.text("HTTPS"), b"" | b"off");
        exchange.id = RequestId::from_peer(given.text("HTTP_X_REQUEST_ID"))
            .unwrap_or_else(|| RequestId::from_seed(self.random.u64(..)));
        self.find_named_script(&mut exchange, inbound.listener, &given);
        let length = inbound.announced;
        if length.is_some_and(|length| length > self.config.http.limit_request_body) {
            exchange.own = Some(Own::Refuse { status: 413 });
        }
        let pool = self.pools.get(exchange.pool).filter(|_| exchange.own.is_none());
        exchange.streams = length.is_some() && pool.is_some_and(|pool| pool.config.stream_request);
        if exchange.own.is_none() && self.refuses(exchange.pool) {
            self.note_refusal(&exchange);
            exchange.own = Some(Own::Refuse { status: 503 });
        }
        client.phase = Phase::Body;
        let streams = exchange.streams && exchange.own.is_none();
        exchange.streams = streams;
        let exchange_key = self.add_exchange(exchange);
        client.exchange = Some(exchange_key);
        if streams && let Err(next) = self.enqueue(key, client, exchange_key, length) {
            return next;
        }
        Next::Keep
    }

    /// A part of the body. What is refused is read to its end all the same: a web server that has not sent all of its
    /// request might take the answer for a failure.
    fn fastcgi_data(&mut self, key: Key, client: &mut Client, data: &[u8]) -> Next {
        let Some(inbound) = client.conn.fastcgi() else {
            return Next::Close;
        };
        inbound.received = inbound.received.saturating_add(data.len() as u64);
        let received = inbound.received;
        let most = inbound.announced.unwrap_or(self.config.http.limit_request_body);
        let is_announced = inbound.announced.is_some();
        let Some(exchange) = client.exchange.and_then(|key| self.exchanges.get_mut(key)) else {
            return Next::Keep;
        };
        if exchange.own.is_some() || exchange.ended {
            return Next::Keep;
        }
        if received > most {
            let status = if is_announced { 400 } else { 413 };
            if exchange.streams {
                let reason = "the request body is longer than it may be";
                return self.refuse(key, client, status, reason);
            }
            exchange.body.clear();
            exchange.own = Some(Own::Refuse { status });
            return Next::Keep;
        }
        match self.request_data(key, client, data) {
            Ok(()) => Next::Keep,
            Err(next) => next,
        }
    }

    fn fastcgi_end_of_body(&mut self, key: Key, client: &mut Client) -> Next {
        let Some(inbound) = client.conn.fastcgi() else {
            return Next::Close;
        };
        let (received, announced) = (inbound.received, inbound.announced);
        let is_other = announced.is_some_and(|announced| announced != received);
        let exchange = client.exchange.and_then(|key| self.exchanges.get(key));
        let is_served = exchange.is_some_and(|exchange| exchange.own.is_none());
        let was_refused = exchange.is_some_and(|exchange| matches!(exchange.own, Some(Own::Refuse { status: 400 })));
        if is_other && (is_served || was_refused) {
            let announced = announced.unwrap_or_default();
            let reason = format!("expected {announced} bytes of a body (CONTENT_LENGTH), found {received}");
            // Not one byte of a body that is not whole reaches an app, unless it asked to be sent them as they come.
            return self.refuse(key, client, 400, &reason);
        }
        self.request_end(key, client)
    }

    /// The web server does not want its response any more. It still gets the end of the request.
    fn fastcgi_abort(&mut self, key: Key, client: &mut Client) -> Next {
        // In the middle of a record nothing else can be said.
        if client.sends_part {
            return Next::Close;
        }
        if let Some(exchange_key) = client.exchange.take()
            && let Some(mut exchange) = self.exchanges.take(exchange_key)
        {
            self.log_access(client.peer, &exchange, 499, client.conn.body_sent());
            exchange.client = None;
            self.exchanges.put(exchange_key, exchange);
            self.client_left(exchange_key);
        }
        let Some(inbound) = client.conn.fastcgi() else {
            return Next::Close;
        };
        inbound.give_up(&mut client.out.bytes);
        self.dirty_clients.push(key);
        if inbound.next_request() {
            client.phase = Phase::Idle;
        } else {
            client.phase = Phase::Answering;
            client.close = true;
        }
        Next::Keep
    }

    fn fastcgi_reply(&mut self, key: Key, client: &mut Client, reply: Reply) -> Next {
        let most = self.config.http.max_connections.min(i32::MAX as usize);
        let is_unsent = !client.out.is_empty();
        let is_in_part = client.sends_part;
        let Some(inbound) = client.conn.fastcgi() else {
            return Next::Close;
        };
        let before = inbound.replies.len();
        reply.write(most, &mut inbound.replies);
        inbound.owed = if is_unsent || is_in_part { inbound.owed } else { 0 } + inbound.replies.len() - before;
        if inbound.owed > KEEP {
            self.log_invalid(
                client.peer,
                400,
                "expected answers to be read, found only more records to answer",
            );
            return Next::Close;
        }
        if !is_in_part {
            client.out.bytes.append(&mut inbound.replies);
        }
        if let Reply::Refused { id, status, keep } = reply {
            let text = match status {
                ProtocolStatus::CantMultiplex => "there is another on the connection",
                ProtocolStatus::UnknownRole => "it is for an authorizer or a filter, not a responder",
                ProtocolStatus::Complete | ProtocolStatus::Overloaded => "it is not run",
            };
            self.say(
                Level::Info,
                None,
                format_args!("FastCGI request {id} is refused: {text}"),
            );
            // §3.5: without KEEP_CONN the connection ends with its request.
            client.close |= !keep && !inbound.conn.is_active();
        }
        self.dirty_clients.push(key);
        Next::Keep
    }

    /// The block of a request that came by FastCGI is complete once the length of its body is known.
    pub(super) fn finish_block(exchange: &mut Exchange, length: Option<u64>) {
        // RFC 3875 §4.1.2: it is there if and only if there is a body. Web servers send it empty.
        let Some(length) = length else { return };
        let mut digits = itoa::Buffer::new();
        given::push(b"CONTENT_LENGTH", digits.format(length).as_bytes(), &mut exchange.block);
    }

    /// A local redirect goes to the web server, whose paths these are.
    pub(super) fn pass_redirect(&mut self, exchange: &mut Exchange) {
        exchange.redirect = false;
        exchange.response.status = 302;
        exchange.stage = super::exchange::Stage::Held;
        exchange.place = Place::Finished;
        self.response_end(exchange);
    }
}

/// REMOTE_ADDR and REMOTE_PORT.
fn address(host: &[u8], port: &[u8]) -> Option<SocketAddr> {
    let host: IpAddr = std::str::from_utf8(host).ok()?.parse().ok()?;
    let port = std::str::from_utf8(port).ok().and_then(|port| port.parse().ok());
    Some(SocketAddr::new(host.to_canonical(), port.unwrap_or(0)))
}
