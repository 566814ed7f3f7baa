//! What is spoken with a client: HTTP/1 by browsers and proxies, or FastCGI by web servers. One face for both.
//!
//! Never here: sockets, and what a request asks for (request.rs, inbound.rs).

use super::inbound::Inbound;
use crate::base::message::{BodyLength, RequestHead, ResponseHead};
use crate::fastcgi::server::OUTPUT_LIMIT;
use crate::http1::conn::{Common, Conn};

/// A client's side of its requests and responses.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "HTTP is the rule, and clients are boxed already"
)]
pub(super) enum Conversation {
    Http1(Conn),
    FastCgi(Box<Inbound>),
}

impl Conversation {
    /// HTTP/1, if that is spoken.
    pub(super) fn http1(&mut self) -> Option<&mut Conn> {
        match self {
            Self::Http1(conn) => Some(conn),
            Self::FastCgi(_) => None,
        }
    }

    /// FastCGI, if that is spoken.
    pub(super) fn fastcgi(&mut self) -> Option<&mut Inbound> {
        match self {
            Self::Http1(_) => None,
            Self::FastCgi(inbound) => Some(inbound),
        }
    }

    /// True if the client is a web server that speaks FastCGI.
    pub(super) fn is_fastcgi(&self) -> bool {
        matches!(self, Self::FastCgi(_))
    }

    /// The head of the request that is being read, to be swapped for another.
    pub(super) fn head_mut(&mut self) -> &mut RequestHead {
        match self {
            Self::Http1(conn) => conn.head_mut(),
            Self::FastCgi(inbound) => &mut inbound.head,
        }
    }

    /// The length of the request's body, as far as it is known.
    pub(super) fn body_length(&self) -> BodyLength {
        match self {
            Self::Http1(conn) => conn.body_length(),
            Self::FastCgi(inbound) => inbound.body_length(),
        }
    }

    /// True if nothing of a next request has come.
    pub(super) fn at_request_start(&self) -> bool {
        match self {
            Self::Http1(conn) => conn.at_request_start(),
            Self::FastCgi(inbound) => !inbound.conn.is_active(),
        }
    }

    /// True if the client may say something while it waits for its response: a web server may abort it, until it is
    /// over or the next request has come.
    pub(super) fn may_interrupt(&self) -> bool {
        match self {
            Self::Http1(_) => false,
            Self::FastCgi(inbound) => inbound.conn.is_active() && !inbound.conn.is_early(),
        }
    }

    /// This exchange is the connection's last.
    pub(super) fn close_after(&mut self) {
        match self {
            Self::Http1(conn) => conn.close_after(),
            Self::FastCgi(inbound) => inbound.close_after(),
        }
    }

    /// The request is answered before it was read to its end. FastCGI has ids: the rest is known for what it is.
    pub(super) fn leave_unread(&mut self) {
        if let Self::Http1(conn) = self
            && conn.is_reading()
        {
            conn.close_after();
        }
    }

    /// Passes an interim response on. FastCGI has none.
    pub(super) fn send_interim(&mut self, head: &ResponseHead, out: &mut Vec<u8>) {
        if let Self::Http1(conn) = self {
            conn.send_interim(head, out);
        }
    }

    /// Writes the head of the response.
    pub(super) fn send_head(
        &mut self,
        head: &ResponseHead,
        length: BodyLength,
        common: &Common<'_>,
        out: &mut Vec<u8>,
    ) {
        match self {
            Self::Http1(conn) => conn.send_head(head, length, common, out),
            Self::FastCgi(inbound) => inbound.send_head(head, length, common.request_id, out),
        }
    }

    /// Writes body bytes.
    pub(super) fn send_data(&mut self, data: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Http1(conn) => conn.send_data(data, out),
            Self::FastCgi(inbound) => inbound.send_data(data, out),
        }
    }

    /// The most bytes that may stand between `begin_data` and `end_data`.
    pub(super) fn stretch(&self) -> usize {
        match self {
            Self::Http1(_) => usize::MAX,
            Self::FastCgi(_) => OUTPUT_LIMIT,
        }
    }

    /// Writes what must precede `length` body bytes, at most a [`stretch`](Self::stretch), that the caller sends by
    /// itself, and says how many of them are wanted.
    #[must_use = "only as many bytes as returned may be sent"]
    pub(super) fn begin_data(&mut self, length: u64, out: &mut Vec<u8>) -> u64 {
        match self {
            Self::Http1(conn) => conn.begin_data(length, out),
            Self::FastCgi(inbound) => inbound.begin_data(length, out),
        }
    }

    /// Writes what must follow these bytes.
    pub(super) fn end_data(&mut self, allowed: u64, out: &mut Vec<u8>) {
        match self {
            Self::Http1(conn) => conn.end_data(allowed, out),
            Self::FastCgi(inbound) => inbound.end_data(out),
        }
    }

    /// Ends the response. False if it is shorter than was announced: the connection must be cut.
    #[must_use = "a short response must end with its connection"]
    pub(super) fn send_end(&mut self, out: &mut Vec<u8>) -> bool {
        match self {
            Self::Http1(conn) => conn.send_end(out),
            Self::FastCgi(inbound) => inbound.send_end(out),
        }
    }

    /// True if the app's body is longer than was announced: the rest of it was dropped.
    pub(super) fn has_surplus(&self) -> bool {
        match self {
            Self::Http1(conn) => conn.has_surplus(),
            Self::FastCgi(inbound) => inbound.has_surplus(),
        }
    }

    /// True if all of the response that its head announces was encoded, and the app has not gone on beyond.
    pub(super) fn is_fulfilled(&self) -> bool {
        match self {
            Self::Http1(conn) => conn.is_fulfilled(),
            Self::FastCgi(inbound) => inbound.is_fulfilled(),
        }
    }

    /// Body bytes sent in this response.
    pub(super) fn body_sent(&self) -> u64 {
        match self {
            Self::Http1(conn) => conn.body_sent(),
            Self::FastCgi(inbound) => inbound.body_sent(),
        }
    }

    /// Starts over for the next request. False if the connection must close instead.
    pub(super) fn next_request(&mut self) -> bool {
        match self {
            Self::Http1(conn) => conn.next_request(),
            Self::FastCgi(inbound) => inbound.next_request(),
        }
    }
}
