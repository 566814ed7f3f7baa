//! A request head becomes the variables a script sees; RFC 3875 §4.1, and what nginx, Apache and PHP made customary.
//!
//! The result is a block `NAME\0VALUE\0...` with every name once.
//! Never here: which script a path names (`plan::route`), who may be believed (`http1::forwarded`).

use super::joined::{maps_to, same_variable, variable_byte, write_fields};
use crate::base::message::RequestHead;
use std::cell::Cell;

pub use super::path::{PathError, decode_path};

/// So many names in Connection are heeded. Nobody honest has more, and each costs a comparison per field.
const LISTED_LIMIT: usize = 16;

/// Both ends of the client's connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct Peer<'a> {
    /// The client's address; empty on a unix socket. Brackets, zone and the IPv4-mapped prefix are taken off.
    pub remote_addr: &'a str,
    /// The client's port.
    pub remote_port: Option<u16>,
    /// Our address; empty, or a path, on a unix socket.
    pub server_addr: &'a str,
    /// Our port; `None` on a unix socket.
    pub server_port: Option<u16>,
    /// What a PROXY header said about the client's connection.
    pub proxied: Option<Proxied<'a>>,
}

/// A connection that a proxy in front of us took, as its PROXY header tells.
#[derive(Clone, Copy, Debug)]
pub struct Proxied<'a> {
    /// `TCP4`, `TCP6`, `UNKNOWN`, `LOCAL`, `UNSPEC` or `UNIX`, for PROXY_PROTOCOL.
    pub protocol: &'a str,
    /// What the client connected to, for PROXY_ADDR and PROXY_PORT.
    pub destination: Option<(&'a str, u16)>,
}

/// The script that a path was resolved to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Script<'a> {
    /// The part of the decoded path that names the script or mount point; may be empty.
    pub script_name: &'a [u8],
    /// The rest of the decoded path; empty, or begins with `/` (or is `*`).
    pub path_info: &'a [u8],
    /// The script's file.
    pub script_filename: Option<&'a [u8]>,
    /// The site's root.
    pub document_root: Option<&'a [u8]>,
    /// PATH_INFO as a file. `None` with a root: made from both, unless PATH_INFO has a `..` segment.
    pub path_translated: Option<&'a [u8]>,
}

/// What a block needs besides the request head.
#[derive(Clone, Copy, Debug, Default)]
pub struct Context<'a> {
    /// The connection.
    pub peer: Peer<'a>,
    /// True if the client used https, by TLS or by what a trusted peer says.
    pub https: bool,
    /// The length of the body after chunking was removed; `None` without a body.
    pub content_length: Option<u64>,
    /// The script.
    pub script: Script<'a>,
    /// Pass Authorization and Proxy-Authorization.
    pub pass_auth: bool,
    /// Our identifier of the request, passed as HTTP_X_REQUEST_ID whatever the peer sent; empty = none.
    pub request_id: &'a [u8],
    /// SERVER_SOFTWARE.
    pub server_software: &'a str,
    /// Variables from the configuration, added last; they replace ours of the same name.
    pub params: &'a [(String, String)],
}

/// Appends the variables of one request to `block`. Returns the name of a field that is left out because no variable says
/// it for sure.
///
/// Names with `_` must have been judged before. Those with anything else but letters, digits and `-` are left out: PHP
/// takes `.` for `_`, so that `X.Remote.User` would pass for `X-Remote-User`, and shells know no such variables.
/// Nothing is allocated once `block` has grown, unless there are more than 128 fields.
pub fn write_block<'h>(head: &'h RequestHead, context: &Context<'_>, block: &mut Vec<u8>) -> Option<&'h [u8]> {
    // Most of a block is the head's text once more; 1 KiB holds the names of the rest.
    block.reserve(head.bytes.len() + 8 * head.fields.len() + 1024);
    let mut writer = Writer {
        block,
        params: context.params,
    };
    writer.request(head, context);
    writer.script(context);
    writer.server(head, context);
    let odd = writer.fields(head, context);
    writer.params();
    odd
}

struct Writer<'a> {
    block: &'a mut Vec<u8>,
    params: &'a [(String, String)],
}

impl Writer<'_> {
    /// What the request line and the body say.
    fn request(&mut self, head: &RequestHead, context: &Context<'_>) {
        self.var("REQUEST_METHOD", &[head.method()]);
        // Always set, and never decoded: §4.1.7.
        self.var("QUERY_STRING", &[head.query()]);
        self.request_uri(head);
        self.var("SERVER_PROTOCOL", &[head.version.as_str().as_bytes()]);
        if let Some(length) = context.content_length {
            let mut digits = itoa::Buffer::new();
            self.var("CONTENT_LENGTH", &[digits.format(length).as_bytes()]);
        }
        if let Some(kind) = head.field("content-type") {
            self.var("CONTENT_TYPE", &[kind]);
        }
        if let Some(host) = head.host {
            self.var("HTTP_HOST", &[head.text(host)]);
        }
    }

    /// REQUEST_URI is path and query as sent, without the scheme and authority of an absolute target, as
    /// Apache and nginx have it. RAW_URI is the target as sent, and is there only if it differs.
    fn request_uri(&mut self, head: &RequestHead) {
        let (path, query) = (head.path(), head.query());
        let path = if path.is_empty() { b"/" } else { path };
        let mark: &[u8] = if head.query.is_some() { b"?" } else { b"" };
        self.var("REQUEST_URI", &[path, mark, query]);
        let target = head.target();
        let is_same = target.len() == path.len() + mark.len() + query.len()
            && target.starts_with(path)
            && target.ends_with(query);
        if !is_same {
            self.var("RAW_URI", &[target]);
        }
    }

    fn script(&mut self, context: &Context<'_>) {
        let script = &context.script;
        self.var("SCRIPT_NAME", &[script.script_name]);
        self.var("PATH_INFO", &[script.path_info]);
        self.var("DOCUMENT_URI", &[script.script_name, script.path_info]);
        if let Some(root) = script.document_root {
            self.var("DOCUMENT_ROOT", &[root]);
        }
        if let Some(file) = script.script_filename {
            self.var("SCRIPT_FILENAME", &[file]);
        }
        // §4.1.6: unset when PATH_INFO is empty.
        if script.path_info.is_empty() {
            return;
        }
        match (script.path_translated, script.document_root) {
            (Some(path), _) => self.var("PATH_TRANSLATED", &[path]),
            (None, Some(root)) if may_translate(script.path_info) => {
                let root = root.strip_suffix(b"/").unwrap_or(root);
                self.var("PATH_TRANSLATED", &[root, script.path_info]);
            }
            (None, _) => {}
        }
    }

    fn server(&mut self, head: &RequestHead, context: &Context<'_>) {
        let peer = &context.peer;
        let mut digits = itoa::Buffer::new();
        self.var("GATEWAY_INTERFACE", &[b"CGI/1.1"]);
        self.var("SERVER_SOFTWARE", &[context.server_software.as_bytes()]);

        let host = head.host.map(|span| head.text(span)).unwrap_or_default();
        let (name, port) = split_host(host);
        let server_addr = plain_address(peer.server_addr);
        let is_network = !server_addr.is_empty() && !server_addr.contains('/');
        match name {
            [] if !is_network => self.var("SERVER_NAME", &[b"localhost"]),
            [] if server_addr.contains(':') => {
                self.var("SERVER_NAME", &[b"[", server_addr.as_bytes(), b"]"]);
            }
            [] => self.var("SERVER_NAME", &[server_addr.as_bytes()]),
            name => self.var("SERVER_NAME", &[name]),
        }
        match (peer.server_port, port, context.https) {
            (Some(port), _, _) => self.var("SERVER_PORT", &[digits.format(port).as_bytes()]),
            (None, Some(port), _) => self.var("SERVER_PORT", &[port]),
            (None, None, true) => self.var("SERVER_PORT", &[b"443"]),
            (None, None, false) => self.var("SERVER_PORT", &[b"80"]),
        }
        if is_network {
            self.var("SERVER_ADDR", &[server_addr.as_bytes()]);
        }
        let remote_addr = plain_address(peer.remote_addr);
        self.var("REMOTE_ADDR", &[remote_addr.as_bytes()]);
        if let Some(port) = peer.remote_port {
            self.var("REMOTE_PORT", &[digits.format(port).as_bytes()]);
        }
        if let Some(proxied) = peer.proxied {
            self.var("PROXY_PROTOCOL", &[proxied.protocol.as_bytes()]);
            if let Some((address, port)) = proxied.destination {
                self.var("PROXY_ADDR", &[address.as_bytes()]);
                self.var("PROXY_PORT", &[digits.format(port).as_bytes()]);
            }
        }
        if context.https {
            self.var("REQUEST_SCHEME", &[b"https"]);
            self.var("HTTPS", &[b"on"]);
        } else {
            self.var("REQUEST_SCHEME", &[b"http"]);
        }
        // php-cgi refuses to run without it: its guard against being called directly.
        self.var("REDIRECT_STATUS", &[b"200"]);
        if !context.request_id.is_empty() {
            self.var("HTTP_X_REQUEST_ID", &[context.request_id]);
        }
    }

    /// The header fields: §4.1.18. Repeated ones become one variable. Returns the first that no variable says for sure.
    fn fields<'h>(&mut self, head: &'h RequestHead, context: &Context<'_>) -> Option<&'h [u8]> {
        let listed = Listed::read(head);
        let odd = Cell::new(None);
        let is_passed = |name: &'h [u8]| {
            if !is_plain(name) {
                odd.set(odd.get().or(Some(name)));
                return false;
            }
            is_passed(name, context.pass_auth) && !listed.has(name)
        };
        let params = self.params;
        write_fields(
            head,
            is_passed,
            |name, block| open_field(name, params, block),
            self.block,
        );
        odd.get()
    }

    /// The configured variables; of two with the same name the later one.
    fn params(&mut self) {
        let params = self.params;
        for (place, (name, value)) in params.iter().enumerate() {
            let is_replaced = params.iter().skip(place + 1).any(|(later, _)| later == name);
            // A NUL would break the block; the configuration refuses it.
            let is_whole = !name.is_empty() && !name.contains('\0') && !value.contains('\0');
            if is_whole && !is_replaced {
                self.block.extend_from_slice(name.as_bytes());
                self.block.push(0);
                self.block.extend_from_slice(value.as_bytes());
                self.block.push(0);
            }
        }
    }

    /// One variable whose value is made of `parts`, unless a param replaces it.
    fn var(&mut self, name: &str, parts: &[&[u8]]) {
        if self.params.iter().any(|(param, _)| param == name) {
            return;
        }
        self.block.extend_from_slice(name.as_bytes());
        self.block.push(0);
        for part in parts {
            self.block.extend_from_slice(part);
        }
        self.block.push(0);
    }
}

/// Writes the variable's name for a field, and says what separates its values; `None` if a param replaces it.
fn open_field(name: &[u8], params: &[(String, String)], block: &mut Vec<u8>) -> Option<&'static [u8]> {
    let is_replaced = params.iter().any(|(param, _)| {
        let suffix = param.as_bytes().strip_prefix(b"HTTP_");
        suffix.is_some_and(|suffix| maps_to(name, suffix))
    });
    if is_replaced {
        return None;
    }
    block.extend_from_slice(b"HTTP_");
    block.extend(name.iter().copied().map(variable_byte));
    block.push(0);
    if maps_to(name, b"COOKIE") {
        Some(b"; ")
    } else {
        Some(b", ")
    }
}

/// True for the names that variables tell apart.
fn is_plain(name: &[u8]) -> bool {
    name.iter()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// True for fields that become `HTTP_` variables. Compared as variables, so that `Content_Length` is no way around.
fn is_passed(name: &[u8], pass_auth: bool) -> bool {
    match name.len() {
        // Given from the target's authority or the Host field, whichever rules: RFC 9112 §3.2.2.
        4 => !maps_to(name, b"HOST"),
        // CVE-2016-5385: HTTP_PROXY is a setting of many HTTP clients.
        5 => !maps_to(name, b"PROXY"),
        // Answered by us.
        6 => !maps_to(name, b"EXPECT"),
        7 => !maps_to(name, b"TRAILER"),
        // Given as CONTENT_TYPE; ours replaces the peer's.
        12 => !maps_to(name, b"CONTENT_TYPE") && !maps_to(name, b"X_REQUEST_ID"),
        13 => pass_auth || !maps_to(name, b"AUTHORIZATION"),
        // Given as CONTENT_LENGTH.
        14 => !maps_to(name, b"CONTENT_LENGTH"),
        // The body is passed on decoded.
        17 => !maps_to(name, b"TRANSFER_ENCODING"),
        19 => pass_auth || !maps_to(name, b"PROXY_AUTHORIZATION"),
        _ => true,
    }
}

/// The fields that Connection names, which are for us alone: RFC 9110 §7.6.1.
struct Listed<'a> {
    names: [&'a [u8]; LISTED_LIMIT],
    count: usize,
}

impl<'a> Listed<'a> {
    /// Fields meant for the script stay, or a client could strip from its request what a proxy in front added.
    const END_TO_END: [&'static [u8]; 8] = [
        b"CONNECTION",
        b"COOKIE",
        b"AUTHORIZATION",
        b"CACHE_CONTROL",
        b"FORWARDED",
        b"ORIGIN",
        b"VIA",
        b"X_REAL_IP",
    ];

    fn read(head: &'a RequestHead) -> Self {
        let names = head
            .fields()
            .filter(|(name, _)| maps_to(name, b"CONNECTION"))
            .flat_map(|(_, value)| value.split(|byte| *byte == b','))
            .map(<[u8]>::trim_ascii)
            .filter(|name| !name.is_empty() && !Self::is_end_to_end(name));
        let mut listed = Self {
            names: [&[]; LISTED_LIMIT],
            count: 0,
        };
        for (place, name) in listed.names.iter_mut().zip(names) {
            *place = name;
            listed.count += 1;
        }
        listed
    }

    fn is_end_to_end(name: &[u8]) -> bool {
        let is_forwarded = name.get(..12).is_some_and(|start| maps_to(start, b"X_FORWARDED_"));
        is_forwarded || Self::END_TO_END.iter().any(|kept| maps_to(name, kept))
    }

    fn has(&self, name: &[u8]) -> bool {
        self.names
            .iter()
            .take(self.count)
            .any(|listed| same_variable(listed, name))
    }
}

/// Host and port of a Host field: the host without port, IPv6 in brackets; the port if it is digits.
pub(super) fn split_host(host: &[u8]) -> (&[u8], Option<&[u8]>) {
    let end = if host.first() == Some(&b'[') {
        memchr::memchr(b']', host).map_or(host.len(), |bracket| bracket + 1)
    } else {
        memchr::memchr(b':', host).unwrap_or(host.len())
    };
    let (name, rest) = host.split_at_checked(end).unwrap_or((host, &[]));
    let port = rest
        .strip_prefix(b":")
        .filter(|port| !port.is_empty() && port.iter().all(u8::is_ascii_digit));
    (name, port)
}

/// An address without brackets, zone and IPv4-mapped prefix.
fn plain_address(address: &str) -> &str {
    let address = address.strip_prefix('[').unwrap_or(address);
    let address = address.strip_suffix(']').unwrap_or(address);
    let address = address.split_once('%').map_or(address, |(plain, _)| plain);
    match address.get(..7) {
        Some(prefix) if prefix.eq_ignore_ascii_case("::ffff:") => address
            .get(7..)
            .filter(|mapped| mapped.contains('.'))
            .unwrap_or(address),
        _ => address,
    }
}

/// True if a path can be put under a root: it begins with `/` and has no `..` segment to climb out with.
fn may_translate(path: &[u8]) -> bool {
    path.first() == Some(&b'/') && !path.split(|byte| *byte == b'/').any(|part| part == b"..")
}

#[cfg(test)]
mod tests;
