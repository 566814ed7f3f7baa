//! Local redirects (RFC 3875 §6.2.2): the app names another path of this server, which is served in its place.

use super::event_loop::Front;
use super::exchange::Exchange;
use super::tokens::Key;
use crate::base::message::{RequestHead, Span};

/// Local redirects followed for one request; one more is taken for a loop.
const LIMIT: u8 = 10;

impl Front {
    /// Sends the request again as a GET without a body for the path in Location.
    pub(super) fn redirect(&mut self, key: Key, exchange: &mut Exchange) {
        let client = exchange.client.and_then(|key| self.clients.get(key));
        if client.is_some_and(|client| client.conn.is_fastcgi()) {
            self.pass_redirect(exchange);
            return;
        }
        exchange.redirects += 1;
        if exchange.redirects > LIMIT {
            self.blame_script(exchange, "it redirected to another path more than 10 times");
            return;
        }
        let Some(client) = exchange.client.and_then(|key| self.clients.get(key)) else {
            return;
        };
        let peer = client.peer;
        let target = exchange.response.field("location").unwrap_or_default();
        let head = redirected(&exchange.head, target);
        exchange.body.clear();
        exchange.streams = false;
        let variables = std::mem::take(&mut exchange.block);
        let original = std::mem::replace(&mut exchange.head, head);
        let routed = self.route(exchange);
        let written = routed.and_then(|()| self.write_block(exchange, peer, None));
        // The request stays what the client sent, for the log and for retries.
        let redirected = std::mem::replace(&mut exchange.head, original);
        if written.is_err() {
            // It is the old script's fault.
            exchange.block = variables;
            self.blame_script(exchange, "it redirected to a path that cannot be decoded");
            return;
        }
        if exchange.own.is_some() {
            exchange.reset_response();
            self.answer_by_ourselves(exchange, &redirected);
            return;
        }
        for (name, value) in [
            (&b"REDIRECT_URL"[..], exchange.head.path()),
            (b"REDIRECT_QUERY_STRING", exchange.head.query()),
        ] {
            for text in [name, value] {
                exchange.block.extend_from_slice(text);
                exchange.block.push(0);
            }
        }
        self.try_again(key, exchange);
    }
}

/// The head of a GET (or HEAD) for `target` with the fields that are not about a body.
fn redirected(head: &RequestHead, target: &[u8]) -> RequestHead {
    let is_head = head.is_head();
    let mut head = head.clone();
    let mut store = |text: &[u8]| {
        let span = Span {
            start: u32::try_from(head.bytes.len()).unwrap_or(u32::MAX),
            len: u32::try_from(text.len()).unwrap_or(0),
        };
        head.bytes.extend_from_slice(text);
        span
    };
    let target = target.split(|byte| *byte == b'#').next().unwrap_or_default();
    let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
    let place = store(target);
    let method = store(if is_head { b"HEAD" } else { b"GET" });
    head.method = method;
    head.target = place;
    head.path = Span {
        len: u32::try_from(path.len()).unwrap_or(0),
        ..place
    };
    head.query = (path.len() < target.len()).then(|| Span {
        start: place.start + head.path.len + 1,
        len: place.len - head.path.len - 1,
    });
    let bytes = &head.bytes;
    head.fields.retain(|field| {
        let name = field.name.of(bytes);
        let about_body = [
            "content-length",
            "content-type",
            "content-encoding",
            "transfer-encoding",
            "expect",
        ];
        !about_body
            .iter()
            .any(|other| name.eq_ignore_ascii_case(other.as_bytes()))
    });
    head
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::message::Field;

    #[test]
    fn a_redirected_head_asks_for_the_new_path_without_a_body() {
        let mut head = RequestHead::default();
        head.bytes.extend_from_slice(b"POST/old?xContent-Length5Accept*/*");
        let span = |start, len| Span { start, len };
        head.method = span(0, 4);
        head.target = span(4, 6);
        head.path = span(4, 4);
        head.query = Some(span(9, 1));
        let field = |name, value| Field { name, value };
        head.fields = vec![field(span(10, 14), span(24, 1)), field(span(25, 6), span(31, 3))];
        let new = redirected(&head, b"/new/path?a=1#top");
        assert_eq!(new.method(), b"GET");
        assert_eq!(
            (new.target(), new.path(), new.query()),
            (&b"/new/path?a=1"[..], &b"/new/path"[..], &b"a=1"[..])
        );
        let fields: Vec<_> = new.fields().collect();
        assert_eq!(fields, [(&b"Accept"[..], &b"*/*"[..])]);
        assert_eq!(redirected(&head, b"/new").query, None);
    }
}
