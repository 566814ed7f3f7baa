//! A request head becomes the environ of a WSGI app (PEP 3333), key by key as Gunicorn has it; docs/http.md lists them.
//!
//! The result is a block `NAME\0VALUE\0...` with every name once, which the Python side turns into a dictionary as it
//! is. It is made for every request, so nothing is looked up twice and nothing is allocated.
//! Never here: `wsgi.input` and the other keys whose values are objects, and who may be believed (`http1::forwarded`).

use super::joined::{maps_to, variable_byte, write_fields};
use super::vars::{Peer, split_host};
use crate::base::message::RequestHead;

/// What an environ needs besides the request head.
#[derive(Clone, Copy, Debug, Default)]
pub struct Context<'a> {
    /// The connection. The server's side is the listener's own address, as it was bound; both addresses are plain.
    pub peer: Peer<'a>,
    /// True if the client used https, by TLS or by what a trusted peer says.
    pub https: bool,
    /// The length of the body after chunking was removed; `None` without a body, or if it is not known yet.
    pub content_length: Option<u64>,
    /// The decoded path of the place the app is mounted at.
    pub script_name: &'a [u8],
    /// The rest of the decoded path.
    pub path_info: &'a [u8],
    /// Our identifier of the request, passed as HTTP_X_REQUEST_ID whatever the peer sent; empty = none.
    pub request_id: &'a [u8],
    /// SERVER_SOFTWARE.
    pub server_software: &'a str,
    /// Variables from the configuration, added last; they replace ours of the same name.
    pub params: &'a [(String, String)],
}

/// Appends the environ of one request to `block`.
///
/// Field names are mapped as they are, so names with `_` must have been judged before.
pub fn write_environ(head: &RequestHead, context: &Context<'_>, block: &mut Vec<u8>) {
    let start = block.len();
    // Most of it is the head's text once more, the target perhaps twice; 512 bytes hold the names of the rest.
    block.reserve(head.bytes.len() + 8 * head.fields.len() + context.path_info.len() + 512);
    request(head, context, block);
    server(head, context, block);
    write_fields(head, is_passed, open_field, block);
    if !context.params.is_empty() {
        replace(context.params, start, block);
    }
}

/// What the request line and the body say.
fn request(head: &RequestHead, context: &Context<'_>, block: &mut Vec<u8>) {
    let mut put = |text: &[u8]| block.extend_from_slice(text);
    put(b"REQUEST_METHOD\0");
    put(head.method());
    put(b"\0QUERY_STRING\0");
    put(head.query());
    put(b"\0RAW_URI\0");
    put(head.target());
    put(b"\0PATH_INFO\0");
    put(context.path_info);
    put(b"\0SCRIPT_NAME\0");
    put(context.script_name);
    put(b"\0SERVER_PROTOCOL\0");
    put(head.version.as_str().as_bytes());
    put(b"\0");
    if let Some(length) = context.content_length {
        put(b"CONTENT_LENGTH\0");
        put(itoa::Buffer::new().format(length).as_bytes());
        put(b"\0");
    }
    if let Some(kind) = head.field("content-type") {
        put(b"CONTENT_TYPE\0");
        put(kind);
        put(b"\0");
    }
}

/// Both ends of the connection, and ourselves.
fn server(head: &RequestHead, context: &Context<'_>, block: &mut Vec<u8>) {
    let mut put = |text: &[u8]| block.extend_from_slice(text);
    let mut digits = itoa::Buffer::new();
    let peer = &context.peer;
    put(b"SERVER_SOFTWARE\0");
    put(context.server_software.as_bytes());
    put(if context.https {
        b"\0wsgi.url_scheme\0https\0SERVER_NAME\0"
    } else {
        b"\0wsgi.url_scheme\0http\0SERVER_NAME\0".as_slice()
    });
    if let Some(port) = peer.server_port {
        put(peer.server_addr.as_bytes());
        put(b"\0SERVER_PORT\0");
        put(digits.format(port).as_bytes());
    } else {
        // A unix socket has neither; PEP 3333 wants both, and neither may be empty.
        let host = head.host.map(|span| head.text(span)).unwrap_or_default();
        let (name, port) = split_host(host);
        put(if name.is_empty() { b"localhost" } else { name });
        put(b"\0SERVER_PORT\0");
        put(port.unwrap_or(if context.https { b"443" } else { b"80" }));
    }
    put(b"\0REMOTE_ADDR\0");
    put(peer.remote_addr.as_bytes());
    if let Some(port) = peer.remote_port {
        put(b"\0REMOTE_PORT\0");
        put(digits.format(port).as_bytes());
    }
    if let Some(proxied) = peer.proxied {
        put(b"\0PROXY_PROTOCOL\0");
        put(proxied.protocol.as_bytes());
        if let Some((address, port)) = proxied.destination {
            put(b"\0PROXY_ADDR\0");
            put(address.as_bytes());
            put(b"\0PROXY_PORT\0");
            put(digits.format(port).as_bytes());
        }
    }
    if !context.request_id.is_empty() {
        put(b"\0HTTP_X_REQUEST_ID\0");
        put(context.request_id);
    }
    // An absolute target names the host; HTTP/1.0 need not name it again in a field.
    if let Some(host) = head.host.filter(|_| head.field("host").is_none()) {
        put(b"\0HTTP_HOST\0");
        put(head.text(host));
    }
    put(b"\0");
}

/// True for fields that become `HTTP_` variables: all but those we have given already, and two.
///
/// Compared as variables, so that `Content_Length` is no way around.
fn is_passed(name: &[u8]) -> bool {
    match name.len() {
        // CVE-2016-5385: HTTP_PROXY is a setting of HTTP clients that the app may start with its environ.
        5 => !maps_to(name, b"PROXY"),
        // Given as CONTENT_TYPE; ours replaces the peer's.
        12 => !maps_to(name, b"CONTENT_TYPE") && !maps_to(name, b"X_REQUEST_ID"),
        // Given as CONTENT_LENGTH.
        14 => !maps_to(name, b"CONTENT_LENGTH"),
        // The body is passed on decoded: an app that heeds this would decode it again.
        17 => !maps_to(name, b"TRANSFER_ENCODING"),
        _ => true,
    }
}

/// Writes the variable's name for a field, and says what separates its values.
fn open_field(name: &[u8], block: &mut Vec<u8>) -> Option<&'static [u8]> {
    block.extend_from_slice(b"HTTP_");
    block.extend(name.iter().copied().map(variable_byte));
    block.push(0);
    // RFC 6265 §5.4: cookies are told apart by semicolons.
    if maps_to(name, b"COOKIE") {
        Some(b"; ")
    } else {
        Some(b",")
    }
}

/// Puts the configured variables in the place of ours; of two with the same name the later one counts.
fn replace(params: &[(String, String)], start: usize, block: &mut Vec<u8>) {
    let ours = block.split_off(start);
    let mut pieces = ours.split(|byte| *byte == 0);
    while let (Some(name), Some(value)) = (pieces.next(), pieces.next()) {
        if !params.iter().any(|(param, _)| param.as_bytes() == name) {
            put_pair(name, value, block);
        }
    }
    for (place, (name, value)) in params.iter().enumerate() {
        let is_replaced = params.iter().skip(place + 1).any(|(later, _)| later == name);
        // A NUL would break the block; the configuration refuses it.
        let is_whole = !name.is_empty() && !name.contains('\0') && !value.contains('\0');
        if is_whole && !is_replaced {
            put_pair(name.as_bytes(), value.as_bytes(), block);
        }
    }
}

fn put_pair(name: &[u8], value: &[u8], block: &mut Vec<u8>) {
    for text in [name, value] {
        block.extend_from_slice(text);
        block.push(0);
    }
}

#[cfg(test)]
mod tests;
