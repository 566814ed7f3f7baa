//! Request heads: the request line and what the fields say about the message (RFC 9112 §3, §5; RFC 9110 §7.2, §10.1.1).
//!
//! A head is read line by line as it arrives, and copied once when it is whole.
//! Never here: sockets, decoding of paths, and bodies.

use super::error::Error;
use super::fields::{Fields, Line, Lines, span};
use super::framing;
use super::policy::{Limits, Policy, Rules};
use super::syntax;
use crate::base::message::{BodyLength, RequestHead, Span, Version};

/// How far a head was read.
#[derive(Debug, Default)]
pub(super) struct HeadReader {
    lines: Lines,
    fields: Fields,
    /// A folded field was seen, so values must be joined.
    folded: bool,
}

/// What a head says about its message and its connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// The client wants to send more requests on this connection.
    pub(super) persistent: bool,
    /// The client waits for `100 Continue` before its body.
    pub(super) expects_continue: bool,
    /// The body.
    pub(super) body: BodyLength,
}

impl HeadReader {
    /// Reads as much of a head as has arrived; gives the head's length in bytes once it is whole.
    ///
    /// `input` must start with the head's first byte every time. `head` must be empty the first time.
    pub(super) fn step(
        &mut self,
        policy: &Policy,
        input: &[u8],
        head: &mut RequestHead,
    ) -> Result<Option<usize>, Error> {
        if self.lines.position() == 0 {
            let limit = policy.limits.request_line;
            let Some((_, line)) = self.lines.step(input, limit, Error::RequestLineTooLong)? else {
                return Ok(None);
            };
            request_line(policy.rules, line, head)?;
        }
        loop {
            match self.fields.step(policy, &mut self.lines, input)? {
                Line::Partial => return Ok(None),
                Line::Field(field) => head.fields.push(field),
                Line::Folded(more) => {
                    self.folded = true;
                    if let Some(field) = head.fields.last_mut() {
                        field.value.len = (more.start + more.len).saturating_sub(field.value.start);
                    }
                }
                Line::End => {
                    let length = self.lines.position();
                    self.finish(policy.rules, input.get(..length).unwrap_or_default(), head)?;
                    return Ok(Some(length));
                }
            }
        }
    }

    /// Bytes of whole lines that were read.
    pub(super) fn seen(&self) -> usize {
        self.lines.position()
    }

    /// Copies the head's bytes and puts right what could not be a plain span of them.
    fn finish(&self, rules: Rules, bytes: &[u8], head: &mut RequestHead) -> Result<(), Error> {
        head.bytes.extend_from_slice(bytes);
        if rules.casefold_http_method
            && let Some(method) = head.bytes.get_mut(..head.method.len as usize)
        {
            method.make_ascii_uppercase();
        }
        if head.path.len == 0 {
            // RFC 9112 §3.2.1 and §3.2.4: an absolute target without a path means `/`, or `*` with OPTIONS.
            let path: &[u8] = if head.method() == b"OPTIONS" && head.query.is_none() {
                b"*"
            } else {
                b"/"
            };
            head.path = append(head, path)?;
        }
        if self.folded {
            unfold(head)?;
        }
        Ok(())
    }
}

fn append(head: &mut RequestHead, text: &[u8]) -> Result<Span, Error> {
    let place = span(head.bytes.len(), text.len())?;
    head.bytes.extend_from_slice(text);
    Ok(place)
}

/// Joins the parts of folded values by one blank each, behind the head's own bytes (RFC 9112 §5.2).
fn unfold(head: &mut RequestHead) -> Result<(), Error> {
    let RequestHead { bytes, fields, .. } = head;
    for field in fields {
        let raw = field.value.of(bytes);
        if memchr::memchr(b'\n', raw).is_none() {
            continue;
        }
        let mut joined = Vec::with_capacity(raw.len());
        for part in raw.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii) {
            if !joined.is_empty() && !part.is_empty() {
                joined.push(b' ');
            }
            joined.extend_from_slice(part);
        }
        field.value = span(bytes.len(), joined.len())?;
        bytes.extend_from_slice(&joined);
    }
    Ok(())
}

/// Reads `method SP target SP version`, split at the first two blanks (RFC 9112 §3).
fn request_line(rules: Rules, line: &[u8], head: &mut RequestHead) -> Result<(), Error> {
    let (method, rest) = split_at_blank(line)?;
    let (target, version) = split_at_blank(rest)?;
    check_method(rules, method)?;
    head.method = span(0, method.len())?;
    head.version = read_version(rules, version)?;
    head.target = span(method.len() + 1, target.len())?;
    if method == b"CONNECT" || (rules.casefold_http_method && method.eq_ignore_ascii_case(b"CONNECT")) {
        return Err(Error::MethodNotImplemented);
    }
    let is_options = if rules.casefold_http_method {
        method.eq_ignore_ascii_case(b"OPTIONS")
    } else {
        method == b"OPTIONS"
    };
    read_target(head.target.start as usize, target, is_options, head)
}

fn split_at_blank(text: &[u8]) -> Result<(&[u8], &[u8]), Error> {
    let blank = memchr::memchr(b' ', text).ok_or(Error::RequestLine)?;
    let (before, after) = text.split_at_checked(blank).unwrap_or_default();
    Ok((before, after.get(1..).unwrap_or_default()))
}

fn check_method(rules: Rules, method: &[u8]) -> Result<(), Error> {
    let conventional = || {
        let odd = |b: &u8| *b == b'#' || (b.is_ascii_lowercase() && !rules.casefold_http_method);
        (3..=20).contains(&method.len()) && !method.iter().any(odd)
    };
    if syntax::is_token(method) && (rules.permit_unconventional_http_method || conventional()) {
        Ok(())
    } else {
        Err(Error::Method)
    }
}

fn read_version(rules: Rules, version: &[u8]) -> Result<Version, Error> {
    match version {
        b"HTTP/1.1" => Ok(Version::Http11),
        b"HTTP/1.0" => Ok(Version::Http10),
        [b'H', b'T', b'T', b'P', b'/', major @ b'0'..=b'9', b'.', b'0'..=b'9'] => match major {
            // RFC 9110 §2.5: a higher minor version is read as the highest we know.
            b'1' => Ok(Version::Http11),
            _ if !rules.permit_unconventional_http_version => Err(Error::VersionUnsupported),
            b'0' => Ok(Version::Http10),
            _ => Ok(Version::Http11),
        },
        _ => Err(Error::Version),
    }
}

/// Splits a target that stands at `start` into host, path and query (RFC 9112 §3.2).
fn read_target(start: usize, target: &[u8], is_options: bool, head: &mut RequestHead) -> Result<(), Error> {
    if !syntax::is_target_text(target) {
        return Err(Error::Target);
    }
    let before_path = match target {
        // RFC 9112 §3.2.1: origin-form.
        [b'/', ..] => 0,
        // RFC 9112 §3.2.4: asterisk-form.
        b"*" if is_options => {
            head.path = head.target;
            return Ok(());
        }
        // RFC 9112 §3.2.2: absolute-form.
        _ => {
            let colon = memchr::memchr(b':', target).ok_or(Error::Target)?;
            let (scheme, rest) = target.split_at_checked(colon).unwrap_or_default();
            let [b':', b'/', b'/', rest @ ..] = rest else {
                return Err(Error::Target);
            };
            let end = memchr::memchr3(b'/', b'?', b'#', rest).unwrap_or(rest.len());
            let authority = rest.get(..end).unwrap_or_default();
            if !syntax::is_scheme(scheme) || !syntax::is_authority(authority) {
                return Err(Error::Target);
            }
            head.host = Some(span(start + colon + 3, end)?);
            colon + 3 + end
        }
    };
    let relative = target.get(before_path..).unwrap_or_default();
    // A fragment never belongs in a target; as in Gunicorn it is cut off rather than refused.
    let end = memchr::memchr(b'#', relative).unwrap_or(relative.len());
    let relative = relative.get(..end).unwrap_or_default();
    let path_len = memchr::memchr(b'?', relative).unwrap_or(relative.len());
    let start = start + before_path;
    head.path = span(start, path_len)?;
    if path_len < relative.len() {
        head.query = Some(span(start + path_len + 1, relative.len() - path_len - 1)?);
    }
    Ok(())
}

/// Learns from the fields of a whole head what the connection must know, and refuses contradictions.
pub(super) fn interpret(limits: &Limits, head: &mut RequestHead) -> Result<Facts, Error> {
    let mut seen = framing::RequestFields::default();
    let mut host = None;
    let mut has_type = false;
    let (mut close, mut keep_alive, mut expects_continue) = (false, false, false);
    for (place, field) in head.fields.iter().enumerate() {
        let name = field.name.of(&head.bytes);
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        let value = || field.value.of(&head.bytes);
        match name.len() {
            4 if is("host") => {
                if host.replace(place).is_some() {
                    return Err(Error::HostRepeated);
                }
                // RFC 9110 §7.2: Host may be empty if the target has no authority.
                if !value().is_empty() && !syntax::is_authority(value()) {
                    return Err(Error::Host);
                }
            }
            6 if is("expect") => {
                if !value().eq_ignore_ascii_case(b"100-continue") {
                    return Err(Error::Expectation);
                }
                // RFC 9110 §10.1.1: HTTP/1.0 clients cannot mean it.
                expects_continue = head.version == Version::Http11;
            }
            10 if is("connection") => {
                for option in syntax::list(value()) {
                    close |= option.eq_ignore_ascii_case(b"close");
                    keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            12 if is("content-type") => {
                if has_type {
                    return Err(Error::ContentTypeRepeated);
                }
                has_type = true;
            }
            14 if is("content-length") => seen.content_length(value())?,
            17 if is("transfer-encoding") => seen.transfer_encoding(value())?,
            _ => {}
        }
    }
    settle_host(host, head)?;
    let body = seen.body(head.version, limits.body)?;
    Ok(Facts {
        // RFC 9112 §9.3.
        persistent: !close && (keep_alive || head.version == Version::Http11),
        expects_continue: expects_continue && !matches!(body, BodyLength::None | BodyLength::Known(0)),
        body,
    })
}

/// Makes the head's host and its Host field say the same (RFC 9112 §3.2.2: an absolute target overrides the field).
fn settle_host(place: Option<usize>, head: &mut RequestHead) -> Result<(), Error> {
    let Some(field) = place.and_then(|place| head.fields.get_mut(place)) else {
        // RFC 9112 §3.2: HTTP/1.1 without Host is 400, whatever the target.
        return match head.version {
            Version::Http11 => Err(Error::HostMissing),
            Version::Http10 => Ok(()),
        };
    };
    match head.host {
        Some(authority) => field.value = authority,
        None if field.value.len > 0 => head.host = Some(field.value),
        None => {}
    }
    Ok(())
}
