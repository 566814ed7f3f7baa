//! A request on its way in: from its head to its pool's queue, or to an answer of our own.

use super::client::{Client, KEEP, Next, Phase};
use super::event_loop::Front;
use super::exchange::{Exchange, Place, Stage};
use super::peer::{AddressText, Peer};
use super::spool::Spool;
use super::tokens::Key;
use super::workers::Pool;
use crate::base::SERVER_SOFTWARE;
use crate::base::ids::RequestId;
use crate::base::level::Level;
use crate::base::message::BodyLength;
use crate::cgi::{environ, vars};
use crate::http1;
use crate::logging::escape;
use crate::plan::dispatch::Verdict;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;

impl Front {
    /// A request head is complete.
    pub(super) fn request_head(&mut self, key: Key, client: &mut Client) -> Result<(), Next> {
        let Some(conn) = client.conn.http1() else {
            return Err(Next::Close);
        };
        let forwarded = match http1::forwarded::apply(conn.head_mut(), client.peer.trusted, &self.forward) {
            Ok(forwarded) => forwarded,
            Err(error) => {
                let reason = error.to_string();
                if error == http1::error::Error::ScriptName {
                    // Who set up the place can only mend it knowing both; the client is not told.
                    let place = http1::forwarded::missed_place(conn.head(), client.peer.trusted, &self.forward);
                    let (path, place) = (escape::cut(conn.head().path(), 64), escape::cut(place, 64));
                    let told = format!("path \"{path}\" does not begin with SCRIPT_NAME \"{place}\"");
                    self.log_invalid(client.peer, error.status(), &told);
                    return Err(self.refuse_quietly(key, client, error.status(), &reason));
                }
                return Err(self.refuse(key, client, error.status(), &reason));
            }
        };
        if let Some(name) = forwarded.dropped {
            let name = conn.head().text(name).to_vec();
            let why = "its name has an underscore: let it send a hyphen, or name it in forwarder_headers";
            self.hint_dropped(client.peer, &name, why);
        }
        let mut exchange = self.fresh_exchange();
        std::mem::swap(client.conn.head_mut(), &mut exchange.head);
        exchange.client = Some(key);
        exchange.client_ip = client.peer.address.map(|address| address.ip());
        exchange.https = forwarded.https;
        exchange.mounted = forwarded.mounted;
        let given = exchange.head.field("x-request-id").filter(|_| client.peer.trusted);
        exchange.id = given
            .and_then(RequestId::from_peer)
            .unwrap_or_else(|| RequestId::from_seed(self.random.u64(..)));
        exchange.pool = self.sites.usual_pool();
        let routed = self.route(&mut exchange);
        if routed.is_err() {
            let host = exchange.head.host.map(|span| exchange.head.text(span));
            exchange.site = self.sites.find(host);
        }
        let has_body = client.conn.body_length() != BodyLength::None;
        let pool = self.pools.get(exchange.pool).filter(|_| exchange.own.is_none());
        let is_known = matches!(client.conn.body_length(), BodyLength::Known(_));
        let streams = |pool: &Pool| {
            exchange.wants_stream.unwrap_or(pool.config.stream_request) && (is_known || pool.takes_chunks)
        };
        exchange.streams = has_body && pool.is_some_and(streams);
        let full = exchange.own.is_none() && self.refuses(exchange.pool);
        let is_own = exchange.own.is_some();
        client.phase = Phase::Body;
        let exchange_key = self.add_exchange(exchange);
        client.exchange = Some(exchange_key);
        if let Err(error) = routed {
            return Err(self.refuse(key, client, error.status(), &error.to_string()));
        }
        let sends = has_body && client.conn.body_length() != BodyLength::Known(0);
        if is_own && sends {
            // Nobody reads it, so the client need not send it.
            client.conn.close_after();
            return Err(self.request_end(key, client));
        }
        if full {
            // Refused before its body is read: a client that waits for 100 Continue need not send it.
            return Err(self.answer_full(key, client));
        }
        if let Some(conn) = client.conn.http1()
            && conn.wants_continue()
        {
            conn.send_continue(&mut client.out.bytes);
            self.dirty_clients.push(key);
        }
        if self
            .exchanges
            .get(exchange_key)
            .is_some_and(|exchange| exchange.streams)
        {
            let chunked = client.conn.body_length() == BodyLength::Chunked;
            let length = if let BodyLength::Known(length) = client.conn.body_length() {
                Some(length)
            } else {
                None
            };
            return self.enqueue(key, client, exchange_key, length.filter(|_| !chunked));
        }
        Ok(())
    }

    /// Body bytes arrived.
    pub(super) fn request_data(&mut self, key: Key, client: &mut Client, data: &[u8]) -> Result<(), Next> {
        let Some(exchange) = client.exchange.and_then(|key| self.exchanges.get_mut(key)) else {
            return Ok(());
        };
        let http = &self.config.http;
        if let Err(error) = exchange.body.push(data, http.body_buffer, &http.tmp_upload_dir) {
            // A disk that is full passes.
            let is_full = matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
            let status = if is_full { 503 } else { 500 };
            let directory = http.tmp_upload_dir.display();
            let text = format!("failed ({status}): cannot spool a request body in {directory}: {error}");
            if let Some(exchange) = client.exchange.and_then(|key| self.exchanges.get(key)) {
                self.say_request(Level::Error, exchange, &text);
            }
            return Err(self.answer_error(key, client, status, "the request body could not be stored"));
        }
        if exchange.streams
            && let Some(link) = exchange.link
        {
            self.dirty_links.push(link);
        }
        Ok(())
    }

    /// A request is complete: it enters the queue.
    pub(super) fn request_end(&mut self, key: Key, client: &mut Client) -> Next {
        client.phase = Phase::Answering;
        self.client_timers.set(key.place(), None);
        let Some(exchange_key) = client.exchange else {
            return Next::Keep;
        };
        let Some(exchange) = self.exchanges.get_mut(exchange_key) else {
            return Next::Keep;
        };
        exchange.body_ended = true;
        if exchange.streams {
            self.dirty_links.extend(exchange.link);
            return Next::Keep;
        }
        if exchange.own.is_some() {
            self.own_answers.push(exchange_key);
            return Next::Keep;
        }
        let has_body = client.conn.body_length() != BodyLength::None;
        let length = has_body.then_some(exchange.body.len());
        match self.enqueue(key, client, exchange_key, length) {
            Ok(()) => Next::Keep,
            Err(next) => next,
        }
    }

    /// A request that is whole, or is passed on as it comes, enters the queue. `length` = its body's, if there is one.
    pub(super) fn enqueue(
        &mut self,
        key: Key,
        client: &mut Client,
        exchange_key: Key,
        length: Option<u64>,
    ) -> Result<(), Next> {
        let Some(mut exchange) = self.exchanges.take(exchange_key) else {
            return Ok(());
        };
        if client.conn.is_fastcgi() {
            Self::finish_block(&mut exchange, length);
        } else if let Err(error) = self.write_block(&mut exchange, client.peer, length) {
            self.exchanges.put(exchange_key, exchange);
            return Err(self.refuse(key, client, error.status(), &error.to_string()));
        }
        exchange.queued = self.now;
        let verdict = self
            .pools
            .get_mut(exchange.pool)
            .map(|pool| pool.dispatch.arrive(exchange_key.index, self.now));
        let pool = exchange.pool;
        exchange.place = match verdict {
            Some(Verdict::Assign(_) | Verdict::Push(_)) => Place::Placed,
            Some(Verdict::Wait) => Place::Waiting,
            Some(Verdict::Full) | None => Place::Receiving,
        };
        self.exchanges.put(exchange_key, exchange);
        self.look_at_demand(pool);
        match verdict {
            Some(Verdict::Assign(_) | Verdict::Push(_)) => {
                self.assignments.extend(verdict.map(|verdict| (exchange_key, verdict)));
                Ok(())
            }
            Some(Verdict::Wait) => {
                if self.refuses_all(pool) {
                    self.fail_later.push((exchange_key, 503));
                }
                Ok(())
            }
            Some(Verdict::Full) | None => Err(self.answer_full(key, client)),
        }
    }

    pub(super) fn write_block(
        &mut self,
        exchange: &mut Exchange,
        from: Peer,
        content_length: Option<u64>,
    ) -> Result<(), vars::PathError> {
        let pool = self.pools.get(exchange.pool);
        let is_wsgi = pool.is_some_and(|pool| pool.is_wsgi);
        let params = pool.map_or(&[][..], |pool| &pool.config.params);
        let (mut remote, mut server) = (AddressText::default(), AddressText::default());
        let mut reached = AddressText::default();
        self.path.clear();
        // A local redirect may lead out of the place that the app is mounted at.
        let place = http1::forwarded::mounted(&exchange.head, exchange.mounted, &self.forward).unwrap_or(0);
        let (place, rest) = exchange.head.path().split_at_checked(place).unwrap_or_default();
        vars::decode_path(place, &mut self.path)?;
        let split = self.path.len().max(exchange.mount);
        vars::decode_path(rest, &mut self.path)?;
        let site = self.sites.get(exchange.site);
        let root = site.and_then(|site| site.root.as_deref());
        let document_root = root.map(|root| root.as_os_str().as_bytes());
        let script = match &exchange.script {
            Some(script) => vars::Script {
                script_name: &script.script_name,
                path_info: &script.path_info,
                script_filename: Some(&script.file),
                document_root,
                path_translated: None,
            },
            None => {
                let (script_name, path_info) = self.path.split_at_checked(split).unwrap_or_default();
                vars::Script {
                    script_name,
                    path_info,
                    script_filename: None,
                    document_root,
                    path_translated: None,
                }
            }
        };
        let peer = vars::Peer {
            remote_addr: from.address.map_or("", |address| remote.of(address.ip())),
            remote_port: from.address.map(|address| address.port()),
            server_addr: from.local.map_or("", |address| server.of(address.ip())),
            server_port: from.local.map(|address| address.port()),
            proxied: from.proxied.map(|proxied| vars::Proxied {
                protocol: proxied.kind.as_str(),
                destination: proxied.destination.map(|to| (reached.of(to.ip()), to.port())),
            }),
        };
        let request_id = exchange.id.as_bytes();
        if is_wsgi {
            let context = environ::Context {
                peer,
                https: exchange.https,
                content_length,
                script_name: script.script_name,
                path_info: script.path_info,
                request_id,
                server_software: SERVER_SOFTWARE,
                params,
            };
            environ::write_environ(&exchange.head, &context, &mut exchange.block);
            return Ok(());
        }
        let context = vars::Context {
            peer,
            https: exchange.https,
            content_length,
            script,
            pass_auth: pool.is_none_or(|pool| pool.config.passes_auth()),
            request_id,
            server_software: SERVER_SOFTWARE,
            params,
        };
        if let Some(name) = vars::write_block(&exchange.head, &context, &mut exchange.block)
            && from.trusted
        {
            let why = "its name has more than letters, digits and hyphens: let it send such a name";
            self.hint_dropped(from, name, why);
        }
        Ok(())
    }

    fn answer_full(&mut self, key: Key, client: &mut Client) -> Next {
        if let Some((key, exchange)) = client.exchange.and_then(|key| Some((key, self.exchanges.take(key)?))) {
            self.note_refusal(&exchange);
            self.exchanges.put(key, exchange);
        }
        self.answer_error(key, client, 503, "the server is busy")
    }

    /// Answers the current exchange with an error page of ours; the connection closes unless the request was read.
    fn answer_error(&mut self, key: Key, client: &mut Client, status: u16, detail: &str) -> Next {
        client.conn.leave_unread();
        client.phase = Phase::Answering;
        let Some(exchange_key) = client.exchange else {
            return Next::Close;
        };
        match self.exchanges.get(exchange_key) {
            // A streamed request that was answered before it was whole: what is left of the answer goes out, or is cut.
            Some(exchange) if exchange.stage == Stage::Committed => {
                return if exchange.ended { Next::Keep } else { Next::Close };
            }
            Some(exchange) if exchange.place != Place::Receiving => self.answer_apart(key, client, exchange_key),
            _ => {}
        }
        self.client_timers.set(key.place(), None);
        let Some(exchange_key) = client.exchange else {
            return Next::Close;
        };
        let Some(mut exchange) = self.exchanges.take(exchange_key) else {
            return Next::Close;
        };
        // `fail` needs the client; it is in our hands.
        exchange.client = None;
        exchange.place = Place::Finished;
        exchange.ended = true;
        exchange.stage = Stage::Committed;
        self.encode_error(client, &mut exchange, status, detail);
        exchange.client = Some(key);
        self.exchanges.put(exchange_key, exchange);
        self.dirty_clients.push(key);
        Next::Keep
    }

    /// Gives the client of a streamed request an exchange of its own for the error page; the worker's is let go.
    fn answer_apart(&mut self, key: Key, client: &mut Client, exchange_key: Key) {
        let Some(exchange) = self.exchanges.get_mut(exchange_key) else {
            return;
        };
        let mut apart = Box::new(Exchange::new(exchange.started));
        apart.head = exchange.head.clone();
        apart.id = exchange.id;
        apart.client_ip = exchange.client_ip;
        apart.site = exchange.site;
        apart.pid = exchange.pid;
        apart.client = Some(key);
        exchange.client = None;
        self.client_left(exchange_key);
        client.exchange = Some(self.add_exchange(apart));
    }

    /// Our page, which goes out at once, or the head of the site's, which the client takes as it can.
    fn encode_error(&mut self, client: &mut Client, exchange: &mut Exchange, status: u16, detail: &str) {
        exchange.spool = Spool::default();
        let mut page = std::mem::take(&mut exchange.held);
        http1::response::error_page(status, detail, &mut exchange.response, &mut page);
        exchange.held = page;
        if status == 503 {
            let wait = self.retry_after(exchange.pool);
            exchange.response.push(b"Retry-After", wait.as_bytes());
        }
        self.put_page(exchange, status);
        let common = http1::response::Common {
            server: &self.config.http.server_header,
            date: &self.date,
            request_id: Some(exchange.id.as_bytes()),
        };
        let length = BodyLength::Known(exchange.held.len() as u64 + exchange.spool.len());
        let out = &mut client.out.bytes;
        client.conn.send_head(&exchange.response, length, &common, out);
        client.conn.send_data(&exchange.held, out);
        exchange.held.clear();
        exchange.end_sent = exchange.spool.is_empty();
        if exchange.end_sent {
            // The page has just the length that was announced.
            let _ = client.conn.send_end(out);
        }
    }

    /// Answers a malformed request and closes. Nothing of it reaches an app.
    pub(super) fn refuse(&mut self, key: Key, client: &mut Client, status: u16, reason: &str) -> Next {
        self.log_invalid(client.peer, status, reason);
        self.refuse_quietly(key, client, status, reason)
    }

    /// The same without a line in the error log.
    pub(super) fn refuse_quietly(&mut self, key: Key, client: &mut Client, status: u16, reason: &str) -> Next {
        client.conn.close_after();
        if client.exchange.is_some() {
            return self.answer_error(key, client, status, reason);
        }
        let mut exchange = self.fresh_exchange();
        exchange.id = RequestId::from_seed(self.random.u64(..));
        exchange.site = self.sites.find(None);
        std::mem::swap(client.conn.head_mut(), &mut exchange.head);
        client.exchange = Some(self.add_exchange(exchange));
        self.answer_error(key, client, status, reason)
    }

    /// An exchange about which nothing is known.
    pub(super) fn fresh_exchange(&mut self) -> Box<Exchange> {
        let spare = self.spare_exchanges.pop();
        let mut exchange = spare.unwrap_or_else(|| Box::new(Exchange::new(self.now)));
        exchange.renew(self.now);
        exchange.site = self.sites.first();
        exchange
    }

    pub(super) fn add_exchange(&mut self, exchange: Box<Exchange>) -> Key {
        let key = self.exchanges.insert(exchange);
        if let Some(exchange) = self.exchanges.get_mut(key) {
            exchange.slot = key.place();
        }
        key
    }

    /// Keeps an exchange's memory for the next one.
    pub(super) fn retire_exchange(&mut self, mut exchange: Box<Exchange>) {
        if self.spare_exchanges.len() < 256 {
            let mut head = std::mem::take(&mut exchange.head);
            head.clear();
            if self.spare_heads.len() < 256 && head.bytes.capacity() <= KEEP {
                self.spare_heads.push(head);
            }
            exchange.renew(self.now);
            self.spare_exchanges.push(exchange);
        }
    }
}
