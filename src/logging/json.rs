//! Access log lines as JSON objects: the same keys in the same order in every line, `null` for what is not known.

use super::access::{Record, variable};
use super::{escape, time};
use crate::base::message::RequestHead;
use crate::sys::clock;
use std::io::Write;

/// Appends one object, without a line end.
pub(super) fn render(record: &Record<'_>, out: &mut Vec<u8>) {
    let head = record.head;
    let field = |name: &str| head.and_then(|head| head.field(name));
    let filled = |text: &'static str| Some(text.as_bytes());
    out.extend_from_slice(b"{\"time\":\"");
    time::push_json_time(clock::local(record.time), out);
    out.push(b'"');
    text(
        b"client",
        Some(record.remote_addr.as_bytes()).filter(|addr| !addr.is_empty()),
        out,
    );
    text(b"method", head.map(RequestHead::method), out);
    text(b"target", head.map(RequestHead::target), out);
    text(b"protocol", head.and_then(|head| filled(head.version.as_str())), out);
    text(b"host", field("Host"), out);
    number(b"status", u64::from(record.status), out);
    number(b"bytes", record.bytes, out);
    // Writing to a vector does not fail.
    let (seconds, micros) = (record.elapsed.as_secs(), record.elapsed.subsec_micros());
    let _ = write!(out, ",\"seconds\":{seconds}.{micros:06}");
    text(b"referer", field("Referer"), out);
    text(b"user_agent", field("User-Agent"), out);
    text(b"user", variable(record.block, "REMOTE_USER"), out);
    text(b"request_id", Some(record.request_id).filter(|id| !id.is_empty()), out);
    match u64::try_from(record.pid) {
        Ok(pid) if pid > 0 => number(b"pid", pid, out),
        _ => text(b"pid", None, out),
    }
    out.push(b'}');
}

fn key(name: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name);
    out.extend_from_slice(b"\":");
}

fn text(name: &[u8], value: Option<&[u8]>, out: &mut Vec<u8>) {
    key(name, out);
    match value {
        Some(value) => escape::push_json(value, out),
        None => out.extend_from_slice(b"null"),
    }
}

fn number(name: &[u8], value: u64, out: &mut Vec<u8>) {
    key(name, out);
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}
