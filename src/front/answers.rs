//! What workers say: the events of both protocols, joined to their exchanges.

use super::event_loop::Front;
use super::exchange::{Exchange, Place, Stage};
use super::link::{Link, Wire, describe};
use super::tokens::Key;
use super::workers::{State, Worker};
use crate::base::level::Level;
use crate::base::message::ResponseHead;
use crate::cgi::response::{self, Parser};
use crate::control::ToArbiter;
use crate::fastcgi;
use crate::logging::escape;
use crate::pipe::{self, FrontConn, frame};
use crate::sys::copy;
use std::collections::VecDeque;
use std::fs::File;

/// What a worker is told when it has sent body bytes.
pub(super) enum Reply {
    Nothing,
    /// It may send so many more.
    Credit(u32),
    /// Nobody wants the response any more.
    Abort,
}

impl Reply {
    /// Appends the frame that says it; false if there is nothing to say.
    pub(super) fn encode(self, id: u16, out: &mut Vec<u8>) -> bool {
        match self {
            Self::Nothing => return false,
            Self::Credit(bytes) => FrontConn::window(id, bytes, out),
            Self::Abort => FrontConn::abort(id, false, out),
        }
        true
    }
}

impl Front {
    pub(super) fn fastcgi_events(
        &mut self,
        key: Key,
        link: &mut Link,
        bytes: &[u8],
        touched: &mut Vec<Key>,
    ) -> Result<usize, String> {
        let Wire::FastCgi { conn, parser } = &mut link.wire else {
            return Ok(bytes.len());
        };
        let mut used = 0;
        loop {
            let rest = bytes.get(used..).unwrap_or_default();
            let (count, event) = conn.step(rest).map_err(|error| describe(&error, rest))?;
            used += count;
            match event {
                fastcgi::Event::NeedData => return Ok(used),
                fastcgi::Event::Stdout(data) => {
                    let Some(exchange_key) = link.exchange else { continue };
                    let Some(mut exchange) = self.exchanges.take(exchange_key) else {
                        continue;
                    };
                    self.stdout_data(parser, &mut exchange, data);
                    self.exchanges.put(exchange_key, exchange);
                    touch(touched, exchange_key);
                }
                fastcgi::Event::Stderr(text) => {
                    self.worker_text(link.worker, link.exchange, text, &mut link.allowance);
                }
                fastcgi::Event::End { app_status, status } => {
                    self.worker_text_end(link.worker, link.exchange, &mut link.allowance);
                    let Some(exchange_key) = link.exchange.take() else {
                        continue;
                    };
                    link.used = true;
                    link.feeding.clear();
                    // Bytes of STDIN the app did not read would be taken for the next request: a new connection then.
                    link.finished = !conn.is_reusable() || !link.out.is_empty();
                    let reusable = (!link.finished).then_some(key);
                    self.fastcgi_end(reusable, link.worker, exchange_key, parser, app_status, status);
                }
                fastcgi::Event::Values(_) | fastcgi::Event::Unknown(_) => {}
            }
        }
    }

    /// Passes on what a page has printed. A head that is wrong is the page's doing, not the worker's: the rest is read
    /// for the end of the request, as it is for CGI scripts, and the connection serves on, unless the end is long in
    /// coming.
    fn stdout_data(&mut self, parser: &mut Parser, exchange: &mut Exchange, data: &[u8]) {
        self.worker_spoke(exchange);
        if exchange.redirect || exchange.bad_head.is_some() {
            return;
        }
        let mut data = data;
        while exchange.stage == Stage::Awaiting && !data.is_empty() {
            let (used, event) = match parser.step(data, &mut exchange.response) {
                Ok(step) => step,
                Err(error) => {
                    return self.head_is_bad(exchange, error.to_string());
                }
            };
            data = data.get(used..).unwrap_or_default();
            if let response::Event::Head(kind) = event {
                if kind == response::Kind::LocalRedirect {
                    exchange.redirect = true;
                    return;
                }
                if exchange.response.status < 200 {
                    parser.reset();
                }
                self.response_head(exchange);
            }
        }
        if !data.is_empty() {
            self.response_data(exchange, data, false);
        }
    }

    fn fastcgi_end(
        &mut self,
        reusable: Option<Key>,
        worker: Key,
        exchange_key: Key,
        parser: &Parser,
        app_status: u32,
        status: fastcgi::ProtocolStatus,
    ) {
        let Some(mut exchange) = self.exchanges.take(exchange_key) else {
            return;
        };
        self.release(&mut exchange, worker, reusable);
        match status {
            // It was run, whatever the status says.
            _ if exchange.bad_head.is_some() => self.blame_head(&mut exchange),
            fastcgi::ProtocolStatus::Complete if exchange.redirect => self.redirect(exchange_key, &mut exchange),
            fastcgi::ProtocolStatus::Complete if exchange.stage == Stage::Awaiting => {
                exchange.bad_head = Some(if parser.has_begun() {
                    parser.eof().to_string()
                } else {
                    "it ended the request without a response head".to_owned()
                });
                self.blame_head(&mut exchange);
            }
            fastcgi::ProtocolStatus::Complete => {
                self.has_served(worker);
                if app_status != 0 {
                    self.say(
                        Level::Info,
                        Some(&exchange),
                        format_args!("the app ended with status {app_status}"),
                    );
                }
                self.response_end(&mut exchange);
            }
            fastcgi::ProtocolStatus::UnknownRole => {
                self.blame(&mut exchange, 500, "it does not serve the Responder role");
            }
            // Neither was run: another worker, or the same a little later, may have it.
            fastcgi::ProtocolStatus::Overloaded | fastcgi::ProtocolStatus::CantMultiplex => {
                self.refused(exchange_key, &mut exchange, worker);
            }
        }
        self.settle(exchange_key, exchange);
    }

    pub(super) fn pipe_events(
        &mut self,
        key: Key,
        link: &mut Link,
        bytes: &[u8],
        touched: &mut Vec<Key>,
    ) -> Result<usize, String> {
        let Wire::Pipe(conn) = &mut link.wire else {
            return Ok(bytes.len());
        };
        let mut head = std::mem::take(&mut self.scratch_head);
        let mut used = 0;
        let result = loop {
            let rest = bytes.get(used..).unwrap_or_default();
            let (count, event) = match conn.step(rest, &mut head) {
                Ok(step) => step,
                Err(error) => break Err(describe(&error, rest)),
            };
            used += count;
            match event {
                pipe::Event::NeedData => break Ok(used),
                pipe::Event::Ready { slots, flags } => self.pipe_ready(link.worker, slots, flags),
                pipe::Event::Heartbeat => {}
                pipe::Event::Log { id, level, text } => {
                    let exchange = self.by_wire(link.worker, id);
                    self.worker_log(link.worker, exchange, level, text);
                }
                pipe::Event::Head { id, .. }
                | pipe::Event::Data { id, .. }
                | pipe::Event::Note { id, .. }
                | pipe::Event::File { id, .. }
                | pipe::Event::End { id }
                | pipe::Event::Aborted { id, .. }
                | pipe::Event::Refused { id }
                    if !self.may_answer(link.worker, id) =>
                {
                    break Err(format!(
                        "expected an answer to a request it has, found one to request {id}"
                    ));
                }
                pipe::Event::Head { id, length, redirect } => {
                    if let Some(exchange_key) = self.pipe_head(key, link.worker, (id, length, redirect), &mut head) {
                        touch(touched, exchange_key);
                    }
                }
                pipe::Event::Data { id, data } => {
                    let last = used == bytes.len();
                    let reply = self.pipe_data(link.worker, id, (data, last), touched);
                    if reply.encode(id, &mut link.out.bytes) {
                        link.last_request = None;
                        self.dirty_links.push(key);
                    }
                }
                pipe::Event::Note { id, pairs } => self.pipe_note(link.worker, id, pairs),
                pipe::Event::File {
                    id,
                    offset,
                    length,
                    shared,
                } => match link.fds.pop_front() {
                    Some(Some(file)) if shared => {
                        break link.begin_stretch(id, &file, offset, length).map(|()| used);
                    }
                    Some(Some(file)) => {
                        if !copy::is_readable_file(&file).unwrap_or(false) {
                            break Err("expected the descriptor of a regular file open for reading".to_owned());
                        }
                        self.pipe_file(link.worker, id, Some((file.into(), offset, length)), touched);
                    }
                    Some(None) => self.pipe_file(link.worker, id, None, touched),
                    None => break Err(format!("expected a descriptor beside a frame about request {id}")),
                },
                pipe::Event::End { id } => {
                    link.used = true;
                    self.stop_feeding(link.worker, id, &mut link.feeding);
                    self.pipe_end(link.worker, id);
                    self.answered_too_late(link.worker, id);
                }
                pipe::Event::Aborted { id, status, reason } => {
                    self.stop_feeding(link.worker, id, &mut link.feeding);
                    self.pipe_aborted(link.worker, id, status, reason);
                    self.answered_too_late(link.worker, id);
                }
                pipe::Event::Refused { id } => {
                    self.stop_feeding(link.worker, id, &mut link.feeding);
                    self.pipe_refused(link.worker, id);
                    self.answered_too_late(link.worker, id);
                }
                pipe::Event::Window { id, bytes } => {
                    if let Some(exchange) = self
                        .by_wire(link.worker, id)
                        .and_then(|key| self.exchanges.get_mut(key))
                    {
                        exchange.window = exchange.window.saturating_add(u64::from(bytes));
                        self.dirty_links.push(key);
                    }
                }
            }
        };
        self.scratch_head = head;
        result
    }

    /// No more of a request's body goes over this link: the worker is through with it, and another may get it.
    fn stop_feeding(&self, worker: Key, id: u16, feeding: &mut VecDeque<Key>) {
        if !feeding.is_empty()
            && let Some(key) = self.by_wire(worker, id)
        {
            feeding.retain(|fed| *fed != key);
        }
    }

    /// True if the worker has this request, or may have had it before it was given up: an overdue one, or one that
    /// seemed lost between the pull queue and a board.
    fn may_answer(&self, worker: Key, id: u16) -> bool {
        let gave_up =
            |worker: &Worker| worker.pulls() || worker.state == State::Condemned || worker.given_up.contains(&id);
        self.by_wire(worker, id).is_some() || self.workers.get(worker).is_some_and(gave_up)
    }

    fn pipe_head(
        &mut self,
        link: Key,
        worker: Key,
        (id, length, redirect): (u16, Option<usize>, bool),
        head: &mut ResponseHead,
    ) -> Option<Key> {
        let exchange_key = self.by_wire(worker, id)?;
        let mut exchange = self.exchanges.take(exchange_key)?;
        if exchange.place == Place::Pulled {
            self.bind(&mut exchange, worker, link);
        }
        std::mem::swap(&mut exchange.response, head);
        self.worker_spoke(&exchange);
        if let Some(pid) = noted_process(&exchange.notes) {
            exchange.pid = pid;
        }
        exchange.redirect = redirect;
        if redirect {
            self.exchanges.put(exchange_key, exchange);
            return Some(exchange_key);
        }
        // A worker may leave out the body of an answer to HEAD, whose length is then not this.
        let length = length.filter(|length| *length > 0 || !exchange.head.is_head());
        exchange.length = length.map(|length| length as u64);
        self.response_head(&mut exchange);
        self.exchanges.put(exchange_key, exchange);
        Some(exchange_key)
    }

    /// Passes body bytes on (`last`: nothing that was read is behind them), and says what the worker is to be told.
    pub(super) fn pipe_data(
        &mut self,
        worker: Key,
        id: u16,
        (data, last): (&[u8], bool),
        touched: &mut Vec<Key>,
    ) -> Reply {
        let Some(exchange_key) = self.by_wire(worker, id) else {
            return Reply::Nothing;
        };
        let Some(mut exchange) = self.exchanges.take(exchange_key) else {
            return Reply::Nothing;
        };
        self.worker_spoke(&exchange);
        self.response_data(&mut exchange, data, last);
        let mut reply = Reply::Nothing;
        // Said only to one that is sending, and once: its next look finds it, so that nothing gathers in the socket.
        let looks = self.workers.get(worker).is_some_and(Worker::looks);
        if exchange.client.is_none() && !exchange.told && looks && self.is_unwanted(&exchange) {
            exchange.told = true;
            reply = Reply::Abort;
        }
        if self.workers.get(worker).is_some_and(Worker::flows) {
            exchange.credit = exchange
                .credit
                .saturating_add(u32::try_from(data.len()).unwrap_or(u32::MAX));
            if exchange.credit >= frame::WINDOW / 4 && !exchange.blocked {
                reply = Reply::Credit(std::mem::take(&mut exchange.credit));
            }
        }
        self.exchanges.put(exchange_key, exchange);
        touch(touched, exchange_key);
        reply
    }

    /// Keeps variables for the access log, as far as they are bearable.
    fn pipe_note(&mut self, worker: Key, id: u16, pairs: &[u8]) {
        let exchange = self.by_wire(worker, id).and_then(|key| self.exchanges.get_mut(key));
        if let Some(exchange) = exchange
            && exchange.notes.len() + pairs.len() <= frame::NOTE_LIMIT
        {
            exchange.notes.extend_from_slice(pairs);
        }
    }

    /// A part of the body is in a file; `None` if its descriptor was lost on the way, for want of a free number.
    fn pipe_file(&mut self, worker: Key, id: u16, file: Option<(File, u64, u64)>, touched: &mut Vec<Key>) {
        let Some(exchange_key) = self.by_wire(worker, id) else {
            return;
        };
        let Some(mut exchange) = self.exchanges.take(exchange_key) else {
            return;
        };
        self.worker_spoke(&exchange);
        match file {
            Some((file, offset, length)) => self.response_file(&mut exchange, file, offset, length),
            None => self.break_off(
                &mut exchange,
                "a file of the response could not be received: too many open files",
            ),
        }
        self.exchanges.put(exchange_key, exchange);
        touch(touched, exchange_key);
    }

    fn pipe_end(&mut self, worker: Key, id: u16) {
        let Some(exchange_key) = self.by_wire(worker, id) else {
            return;
        };
        let Some(mut exchange) = self.exchanges.take(exchange_key) else {
            return;
        };
        self.release(&mut exchange, worker, None);
        self.has_served(worker);
        if exchange.redirect {
            self.redirect(exchange_key, &mut exchange);
        } else {
            self.response_end(&mut exchange);
        }
        self.settle(exchange_key, exchange);
    }

    /// A worker has answered a request to its end. Should it die one day, that was no failure to come up.
    fn has_served(&mut self, key: Key) {
        let worker = self.workers.get_mut(key).filter(|worker| worker.is_ours());
        if let Some(worker) = worker
            && !std::mem::replace(&mut worker.has_served, true)
        {
            let worker = worker.id;
            self.send_control(&ToArbiter::Served { worker });
        }
    }

    fn pipe_refused(&mut self, worker: Key, id: u16) {
        let Some(exchange_key) = self.by_wire(worker, id) else {
            return;
        };
        let Some(mut exchange) = self.exchanges.take(exchange_key) else {
            return;
        };
        self.release(&mut exchange, worker, None);
        self.refused(exchange_key, &mut exchange, worker);
        self.settle(exchange_key, exchange);
    }

    fn pipe_aborted(&mut self, worker: Key, id: u16, status: Option<u16>, reason: &[u8]) {
        let Some(exchange_key) = self.by_wire(worker, id) else {
            return;
        };
        let Some(mut exchange) = self.exchanges.take(exchange_key) else {
            return;
        };
        let was_unwanted = exchange.client.is_none();
        self.release(&mut exchange, worker, None);
        if was_unwanted && reason.is_empty() {
            // As it was asked to.
            exchange.ended = true;
        } else if reason.is_empty() {
            self.blame(&mut exchange, status.unwrap_or(502), "it gave the response up");
        } else {
            let reason = escape::printable(reason);
            self.blame(&mut exchange, status.unwrap_or(502), &reason);
        }
        self.settle(exchange_key, exchange);
    }
}

/// The process that a worker has named in its notes about a request.
fn noted_process(notes: &[u8]) -> Option<i32> {
    if notes.is_empty() {
        return None;
    }
    let (_, value) = pipe::worker::variables(notes).find(|(name, _)| *name == b"SCRIPT_PID")?;
    std::str::from_utf8(value).ok()?.parse().ok().filter(|pid| *pid > 0)
}

/// Adds an exchange to the list of those that the bytes at hand were about.
fn touch(touched: &mut Vec<Key>, exchange: Key) {
    if touched.last() != Some(&exchange) {
        touched.push(exchange);
    }
}
