//! Variables that a web server gives us by FastCGI become a request head, and the variables of our worker; RFC 3875 §4.1.
//!
//! What the web server says is believed, as php-fpm believes it: it has decided what the request means.
//! Never here: records, and whether a script may be run.

use crate::base::message::{Field, RequestHead, Span, Version};
use std::collections::HashMap;

/// Why variables cannot be passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GivenError {
    /// A NUL in a name or value: it would end it early.
    #[error("expected variables without NUL, found one in a variable")]
    Nul,
    /// REQUEST_METHOD.
    #[error("expected a token as REQUEST_METHOD, found something else")]
    Method,
    /// CONTENT_LENGTH.
    #[error("expected CONTENT_LENGTH to be empty or a number below 2^64, found something else")]
    ContentLength,
    /// All together.
    #[error("expected variables of less than 4 GiB, found more")]
    TooLong,
}

impl GivenError {
    /// The status for the client: 400.
    #[must_use]
    pub fn status(&self) -> u16 {
        400
    }
}

/// Variables as they were given; of two with the same name the later one.
#[derive(Clone, Debug)]
pub struct Given<'a> {
    /// In their order.
    list: Vec<(&'a [u8], &'a [u8])>,
    /// Where each name stands.
    places: HashMap<&'a [u8], usize>,
}

impl<'a> Given<'a> {
    /// Takes all variables.
    ///
    /// # Errors
    /// [`GivenError::Nul`].
    pub fn new(variables: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Result<Self, GivenError> {
        let (mut list, mut places) = (Vec::with_capacity(48), HashMap::with_capacity(48));
        for (name, value) in variables.filter(|(name, _)| !name.is_empty()) {
            if memchr::memchr(0, name).is_some() || memchr::memchr(0, value).is_some() {
                return Err(GivenError::Nul);
            }
            places.insert(name, list.len());
            list.push((name, value));
        }
        Ok(Self { list, places })
    }

    /// A variable; `None` if it was not given.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        let place = self.places.get(name.as_bytes())?;
        self.list.get(*place).map(|(_, value)| *value)
    }

    /// A variable; empty if it was not given, which means the same (RFC 3875 §4.1).
    #[must_use]
    pub fn text(&self, name: &str) -> &'a [u8] {
        self.get(name).unwrap_or_default()
    }

    /// Names and values, each name once.
    fn pairs(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let list = self.list.iter().enumerate();
        let last = list.filter(|(place, (name, _))| self.places.get(name) == Some(place));
        last.map(|(_, pair)| *pair)
    }

    /// The length of the body; `None` if it is not known, or there is no body.
    ///
    /// # Errors
    /// [`GivenError::ContentLength`].
    pub fn content_length(&self) -> Result<Option<u64>, GivenError> {
        let digits = self.text("CONTENT_LENGTH");
        if digits.is_empty() {
            return Ok(None);
        }
        if !digits.iter().all(u8::is_ascii_digit) {
            return Err(GivenError::ContentLength);
        }
        let length = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
        length.map(Some).ok_or(GivenError::ContentLength)
    }

    /// Makes the head of the request that the variables describe, for logs and for the front's own decisions.
    ///
    /// # Errors
    /// [`GivenError::Method`], [`GivenError::TooLong`].
    pub fn read_head(&self, head: &mut RequestHead) -> Result<(), GivenError> {
        head.clear();
        let method = match self.text("REQUEST_METHOD") {
            [] => b"GET",
            method => method,
        };
        if !method.iter().all(|byte| byte.is_ascii_graphic()) {
            return Err(GivenError::Method);
        }
        let mut writer = Writer { head };
        writer.head.method = writer.store(&[method])?;
        let target = match self.text("REQUEST_URI") {
            [] => {
                let (path, info) = (self.text("SCRIPT_NAME"), self.text("PATH_INFO"));
                let query = self.text("QUERY_STRING");
                let mark: &[u8] = if query.is_empty() { b"" } else { b"?" };
                writer.store(&[path, info, mark, query])?
            }
            target => writer.store(&[target])?,
        };
        writer.head.target = target;
        writer.head.path = target;
        if let Some(mark) = memchr::memchr(b'?', target.of(&writer.head.bytes)) {
            let mark = u32::try_from(mark).map_err(|_| GivenError::TooLong)?;
            writer.head.path.len = mark;
            writer.head.query = Some(Span {
                start: target.start + mark + 1,
                len: target.len - mark - 1,
            });
        }
        let host = match self.text("HTTP_HOST") {
            [] => self.text("SERVER_NAME"),
            host => host,
        };
        writer.head.host = match host {
            [] => None,
            host => Some(writer.store(&[host])?),
        };
        writer.head.version = if self.text("SERVER_PROTOCOL") == b"HTTP/1.0" {
            Version::Http10
        } else {
            Version::Http11
        };
        for (name, value) in self.pairs() {
            match (name, name.strip_prefix(b"HTTP_")) {
                (_, Some(field)) => writer.field(field, value)?,
                (b"CONTENT_TYPE" | b"CONTENT_LENGTH", _) if !value.is_empty() => writer.field(name, value)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Appends the variables to `block` as `NAME\0VALUE\0`: each name once, those of `ours` and then `params` instead of
    /// what was given under the same names.
    ///
    /// HTTP_PROXY is left out (CVE-2016-5385: many HTTP clients take it for a setting), an empty CONTENT_TYPE, which web
    /// servers send without a body, and CONTENT_LENGTH, which the caller adds when the body is whole.
    pub fn write_block(&self, ours: &[(&str, &[u8])], params: &[(String, String)], block: &mut Vec<u8>) {
        let is_param = |name: &[u8]| params.iter().any(|(param, _)| param.as_bytes() == name);
        let is_ours = |name: &[u8]| ours.iter().any(|(own, _)| own.as_bytes() == name);
        let is_left_out = |name: &[u8]| matches!(name, b"HTTP_PROXY" | b"CONTENT_LENGTH");
        let is_nothing = |name: &[u8], value: &[u8]| name == b"CONTENT_TYPE" && value.is_empty();
        let given = self
            .pairs()
            .filter(|(name, value)| !is_left_out(name) && !is_nothing(name, value) && !is_ours(name));
        let ours = ours.iter().map(|(name, value)| (name.as_bytes(), *value));
        for (name, value) in given.chain(ours).filter(|(name, _)| !is_param(name)) {
            push(name, value, block);
        }
        for (place, (name, value)) in params.iter().enumerate() {
            let is_replaced = params.iter().skip(place + 1).any(|(later, _)| later == name);
            if !name.is_empty() && !is_replaced && !name.contains('\0') && !value.contains('\0') {
                push(name.as_bytes(), value.as_bytes(), block);
            }
        }
    }
}

/// Appends one variable to a block.
pub fn push(name: &[u8], value: &[u8], block: &mut Vec<u8>) {
    for text in [name, value] {
        block.extend_from_slice(text);
        block.push(0);
    }
}

struct Writer<'a> {
    head: &'a mut RequestHead,
}

impl Writer<'_> {
    fn store(&mut self, parts: &[&[u8]]) -> Result<Span, GivenError> {
        let bytes = &mut self.head.bytes;
        let start = bytes.len();
        for part in parts {
            bytes.extend_from_slice(part);
        }
        let number = |length: usize| u32::try_from(length).map_err(|_| GivenError::TooLong);
        Ok(Span {
            start: number(start)?,
            len: number(bytes.len() - start)?,
        })
    }

    /// `ACCEPT_LANGUAGE` was the field `accept-language`.
    fn field(&mut self, variable: &[u8], value: &[u8]) -> Result<(), GivenError> {
        let start = self.head.bytes.len();
        let name = self.store(&[variable])?;
        for byte in self.head.bytes.get_mut(start..).unwrap_or_default() {
            *byte = if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
        }
        let value = self.store(&[value])?;
        self.head.fields.push(Field { name, value });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn given<'a>(pairs: &'a [(&'a str, &'a str)]) -> Given<'a> {
        Given::new(pairs.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()))).unwrap()
    }

    fn head(pairs: &[(&str, &str)]) -> RequestHead {
        let mut head = RequestHead::default();
        given(pairs).read_head(&mut head).unwrap();
        head
    }

    fn block(pairs: &[(&str, &str)], ours: &[(&str, &[u8])], params: &[(&str, &str)]) -> String {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let params: Vec<_> = params.iter().map(owned).collect();
        let mut out = Vec::new();
        given(pairs).write_block(ours, &params, &mut out);
        String::from_utf8(out).unwrap().replace('\0', " ")
    }

    #[test]
    fn variables_make_a_head() {
        let head = head(&[
            ("REQUEST_METHOD", "POST"),
            ("REQUEST_URI", "/a%20b/x?q=1&r"),
            ("SERVER_PROTOCOL", "HTTP/1.0"),
            ("SERVER_NAME", "other"),
            ("HTTP_HOST", "shop.example"),
            ("HTTP_USER_AGENT", "curl"),
            ("CONTENT_TYPE", "text/plain"),
        ]);
        assert_eq!((head.method(), head.target()), (&b"POST"[..], &b"/a%20b/x?q=1&r"[..]));
        assert_eq!((head.path(), head.query()), (&b"/a%20b/x"[..], &b"q=1&r"[..]));
        assert_eq!(head.version, Version::Http10);
        assert_eq!(head.host.map(|host| head.text(host)), Some(&b"shop.example"[..]));
        assert_eq!(head.field("User-Agent"), Some(&b"curl"[..]));
        assert_eq!(head.field("content-type"), Some(&b"text/plain"[..]));
    }

    #[test]
    fn a_head_can_be_made_of_little() {
        let head = head(&[("SCRIPT_NAME", "/x.cgi"), ("PATH_INFO", "/y"), ("SERVER_NAME", "a")]);
        assert_eq!((head.method(), head.target()), (&b"GET"[..], &b"/x.cgi/y"[..]));
        assert_eq!((head.query, head.version), (None, Version::Http11));
        assert_eq!(head.host.map(|host| head.text(host)), Some(&b"a"[..]));
        let head = super::tests::head(&[("SCRIPT_NAME", "/x"), ("QUERY_STRING", "q")]);
        assert_eq!((head.target(), head.query()), (&b"/x?q"[..], &b"q"[..]));
        assert_eq!(super::tests::head(&[]).target(), b"");
    }

    #[test]
    fn what_cannot_be_passed_on_is_refused() {
        for (name, value) in [(&b"A\0B"[..], &b"x"[..]), (b"A", b"x\0")] {
            let list = [(name, value)];
            assert_eq!(Given::new(list.into_iter()).unwrap_err(), GivenError::Nul);
        }
        for method in ["GET /", "A\r\n", "\u{e4}"] {
            let pairs = [("REQUEST_METHOD", method)];
            let result = given(&pairs).read_head(&mut RequestHead::default());
            assert_eq!(result, Err(GivenError::Method));
        }
        let length = |text| given(&[("CONTENT_LENGTH", text)]).content_length();
        let rows = [
            ("", Ok(None)),
            ("0", Ok(Some(0))),
            ("17", Ok(Some(17))),
            ("18446744073709551615", Ok(Some(u64::MAX))),
            ("18446744073709551616", Err(GivenError::ContentLength)),
            ("-1", Err(GivenError::ContentLength)),
            ("+1", Err(GivenError::ContentLength)),
            (" 1", Err(GivenError::ContentLength)),
        ];
        for (text, expected) in rows {
            assert_eq!(length(text), expected, "{text:?}");
        }
        assert_eq!(given(&[]).content_length(), Ok(None));
    }

    #[test]
    fn a_block_has_each_name_once_and_nothing_that_must_not_pass() {
        let pairs = [
            ("A", "1"),
            ("HTTP_PROXY", "http://evil"),
            ("SERVER_SOFTWARE", "nginx/1"),
            ("A", "2"),
            ("", "nameless"),
            ("CONTENT_LENGTH", "7"),
            ("B", "theirs"),
            ("C", "theirs"),
            ("CONTENT_TYPE", ""),
        ];
        let text = block(
            &pairs,
            &[("B", b"ours"), ("D", b"ours")],
            &[("C", "set"), ("D", "old"), ("D", "set")],
        );
        assert_eq!(text, "SERVER_SOFTWARE nginx/1 A 2 B ours C set D set ");
        assert_eq!(block(&[("CONTENT_TYPE", "a/b")], &[], &[]), "CONTENT_TYPE a/b ");
    }

    proptest! {
        #[test]
        fn any_variables_give_a_head_whose_spans_lie_within(
            list in prop::collection::vec(
                (prop::sample::select(vec!["REQUEST_URI", "REQUEST_METHOD", "HTTP_HOST", "HTTP_", "SCRIPT_NAME", "X"]),
                 "[ -~]{0,12}"),
                0..8,
            ),
        ) {
            let pairs: Vec<(&str, &str)> = list.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let mut head = RequestHead::default();
            if given(&pairs).read_head(&mut head).is_ok() {
                prop_assert!(head.target().starts_with(head.path()) && head.target().ends_with(head.query()));
                let uri = pairs.iter().rev().find(|(name, value)| *name == "REQUEST_URI" && !value.is_empty());
                let is_last = pairs.iter().rev().find(|(name, _)| *name == "REQUEST_URI");
                if let (Some((_, uri)), true) = (uri, uri == is_last) {
                    prop_assert_eq!(head.target(), uri.as_bytes());
                }
            }
        }
    }
}
