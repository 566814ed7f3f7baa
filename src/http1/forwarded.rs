//! What a peer's own words about a request are worth: names with `_`, and fields that give the scheme.
//!
//! Never here: deciding whom to trust (the caller knows the peer).

use super::error::Error;
use crate::base::message::{RequestHead, Span};

/// What happens to field names with `_`, which CGI-style variables cannot tell from names with `-`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HeaderMapKind {
    /// The field is left out.
    #[default]
    Drop,
    /// The request is refused.
    Refuse,
    /// The field is passed on, whatever it may be taken for.
    Dangerous,
}

/// How peers' fields are read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ForwardPolicy {
    /// What happens to names with `_`.
    pub header_map: HeaderMapKind,
    /// Names with `_`, in any case, that trusted peers may send all the same; `*` = all.
    pub forwarder_headers: Vec<String>,
    /// Field names in any case, each with the exact value that means https; any other value means http.
    pub secure_scheme_headers: Vec<(String, String)>,
    /// The place the app is mounted at unless a trusted peer says otherwise; empty = the root.
    pub script_name: String,
}

/// What a trusted peer said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forwarded {
    /// The client used https.
    pub https: bool,
    /// The field SCRIPT_NAME counts: it names the place the app is mounted at ([`mounted`]).
    pub mounted: bool,
    /// The name of a field of a trusted peer that was left out, which may be a surprise.
    pub dropped: Option<Span>,
}

/// The field that says where the app is mounted.
const SCRIPT_NAME: &str = "script_name";

/// The bytes of the path, as sent, that name the place the app is mounted at; 0 without one. `None` if the path does
/// not lie below that place. `by_field`: the head's own field counts ([`Forwarded::mounted`]).
#[must_use]
pub fn mounted(head: &RequestHead, by_field: bool, policy: &ForwardPolicy) -> Option<usize> {
    let place = place(head, by_field, policy);
    let place = place.strip_suffix(b"/").unwrap_or(place);
    // `OPTIONS *` asks about the whole server.
    if place.is_empty() || head.path() == b"*" {
        return Some(0);
    }
    let rest = head.path().strip_prefix(place)?;
    let is_below = matches!(rest, [] | [b'/', ..] | [b'%', b'2', b'f' | b'F', ..]);
    is_below.then_some(place.len())
}

/// The place that a path was found not to lie below ([`Error::ScriptName`]), after [`apply`].
#[must_use]
pub fn missed_place<'a>(head: &'a RequestHead, trusted: bool, policy: &'a ForwardPolicy) -> &'a [u8] {
    let by_field = trusted && policy.lets_through(SCRIPT_NAME.as_bytes()) && head.field(SCRIPT_NAME).is_some();
    place(head, by_field, policy)
}

fn place<'a>(head: &'a RequestHead, by_field: bool, policy: &'a ForwardPolicy) -> &'a [u8] {
    if by_field {
        head.field(SCRIPT_NAME).unwrap_or_default()
    } else {
        policy.script_name.as_bytes()
    }
}

/// Applies the policy to a request: removes fields that must not get through, and learns the scheme.
///
/// # Errors
/// [`Error::Underscore`] under [`HeaderMapKind::Refuse`]; [`Error::Scheme`] if two fields of a trusted peer disagree;
/// [`Error::ScriptName`] if the path does not lie below the place that the app is mounted at.
pub fn apply(head: &mut RequestHead, trusted: bool, policy: &ForwardPolicy) -> Result<Forwarded, Error> {
    let RequestHead { bytes, fields, .. } = head;
    let (mut refused, mut has_place, mut dropped) = (false, false, None);
    fields.retain(|field| {
        let name = field.name.of(bytes);
        if memchr::memchr(b'_', name).is_none() {
            return true;
        }
        if trusted && policy.lets_through(name) {
            has_place |= name.eq_ignore_ascii_case(SCRIPT_NAME.as_bytes());
            return true;
        }
        match policy.header_map {
            HeaderMapKind::Drop => {
                dropped = dropped.or(trusted.then_some(field.name));
                false
            }
            HeaderMapKind::Refuse => {
                refused = true;
                false
            }
            HeaderMapKind::Dangerous => true,
        }
    });
    if refused {
        return Err(Error::Underscore);
    }
    let https = if trusted { policy.scheme(head)? } else { None };
    if mounted(head, has_place, policy).is_none() {
        return Err(Error::ScriptName);
    }
    Ok(Forwarded {
        https: https.unwrap_or(false),
        mounted: has_place,
        dropped,
    })
}

impl ForwardPolicy {
    fn lets_through(&self, name: &[u8]) -> bool {
        let covers = |allowed: &String| allowed == "*" || name.eq_ignore_ascii_case(allowed.as_bytes());
        self.forwarder_headers.iter().any(covers)
    }

    /// What the scheme fields agree on; `None` if there are none.
    fn scheme(&self, head: &RequestHead) -> Result<Option<bool>, Error> {
        let mut verdict = None;
        for (secure_name, secure_value) in &self.secure_scheme_headers {
            for (name, value) in head.fields() {
                if !name.eq_ignore_ascii_case(secure_name.as_bytes()) {
                    continue;
                }
                let vote = value == secure_value.as_bytes();
                if verdict.replace(vote).is_some_and(|before| before != vote) {
                    return Err(Error::Scheme);
                }
            }
        }
        Ok(verdict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::message::Field;

    fn head(fields: &[(&str, &str)]) -> RequestHead {
        let mut head = RequestHead::default();
        let mut store = |text: &str| {
            let start = u32::try_from(head.bytes.len()).unwrap();
            head.bytes.extend_from_slice(text.as_bytes());
            Span {
                start,
                len: u32::try_from(text.len()).unwrap(),
            }
        };
        head.fields = fields
            .iter()
            .map(|(name, value)| Field {
                name: store(name),
                value: store(value),
            })
            .collect();
        head
    }

    fn policy(header_map: HeaderMapKind, forwarder_headers: &[&str]) -> ForwardPolicy {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        ForwardPolicy {
            header_map,
            forwarder_headers: forwarder_headers.iter().map(|name| (*name).to_owned()).collect(),
            secure_scheme_headers: vec![
                pair("X-FORWARDED-PROTOCOL", "ssl"),
                pair("X-FORWARDED-PROTO", "https"),
                pair("X-FORWARDED-SSL", "on"),
            ],
            script_name: String::new(),
        }
    }

    #[test]
    fn underscore_names() {
        use HeaderMapKind::{Dangerous, Drop, Refuse};
        let listed = ["SCRIPT_NAME", "PATH_INFO"];
        let sent = [("X-A", "1"), ("Script_Name", "/a"), ("X_A", "2"), ("B", "3")];
        for (kind, trusted, allowed, left) in [
            (Drop, false, listed.as_slice(), Some("X-A B")),
            (Drop, true, &listed, Some("X-A Script_Name B")),
            (Drop, true, &["*"], Some("X-A Script_Name X_A B")),
            (Drop, false, &["*"], Some("X-A B")),
            (Refuse, false, &listed, None),
            (Refuse, true, &listed, None),
            (Refuse, true, &["*"], Some("X-A Script_Name X_A B")),
            (Dangerous, false, &[], Some("X-A Script_Name X_A B")),
        ] {
            let mut head = head(&sent);
            head.path = head.fields.get(1).unwrap().value;
            let result = apply(&mut head, trusted, &policy(kind, allowed));
            let dropped = result.ok().and_then(|forwarded| forwarded.dropped);
            let surprise = (kind == Drop && trusted && allowed == listed).then_some(&b"X_A"[..]);
            assert_eq!(
                dropped.map(|name| head.text(name)),
                surprise,
                "{kind:?} trusted={trusted}"
            );
            let names: Vec<_> = head.fields().map(|(name, _)| String::from_utf8_lossy(name)).collect();
            let read = result.map(|_| names.join(" "));
            let expected = left.map(str::to_owned).ok_or(Error::Underscore);
            assert_eq!(read, expected, "{kind:?} trusted={trusted} {allowed:?}");
        }
        let mut plain = head(&[("X-A", "1")]);
        assert!(apply(&mut plain, false, &policy(Refuse, &[])).is_ok());
    }

    #[test]
    fn the_place_an_app_is_mounted_at() {
        for (path, place, expected) in [
            ("/app/page", "/app", Some(4)),
            ("/app", "/app", Some(4)),
            ("/app/", "/app/", Some(4)),
            ("/app/page", "", Some(0)),
            ("/app/page", "/", Some(0)),
            // An encoded slash ends the place as well: PATH_INFO is decoded.
            ("/app%2fpage", "/app", Some(4)),
            ("/app%2F", "/app", Some(4)),
            ("/app%2e", "/app", None),
            ("/app%2", "/app", None),
            ("/apple", "/app", None),
            ("/", "/app", None),
            ("/%61pp/page", "/app", None),
            ("*", "", Some(0)),
            ("*", "/app", Some(0)),
            ("app", "app", Some(3)),
        ] {
            let mut head = head(&[(path, "x"), ("Script_Name", place)]);
            head.path = head.fields.first().unwrap().name;
            let mut policy = policy(HeaderMapKind::Dangerous, &["SCRIPT_NAME"]);
            assert_eq!(mounted(&head, true, &policy), expected, "{path} {place}");
            assert_eq!(mounted(&head, false, &policy), Some(0), "{path} {place}");
            let counts = expected.map(|_| true).ok_or(Error::ScriptName);
            let trusted = apply(&mut head, true, &policy);
            assert_eq!(trusted.map(|forwarded| forwarded.mounted), counts, "{path} {place}");
            let untrusted = apply(&mut head, false, &policy);
            assert_eq!(
                untrusted.map(|forwarded| forwarded.mounted),
                Ok(false),
                "{path} {place}"
            );
            // The place of the whole process, which a field overrides.
            policy.script_name = place.to_owned();
            let strangers = apply(&mut head.clone(), false, &policy);
            assert_eq!(strangers.is_ok(), expected.is_some(), "{path} {place}");
            policy.script_name = "/elsewhere".to_owned();
            let trusted = apply(&mut head, true, &policy);
            assert_eq!(trusted.is_ok(), expected.is_some(), "{path} {place}");
            assert_eq!(missed_place(&head, true, &policy), place.as_bytes());
            assert_eq!(missed_place(&head, false, &policy), b"/elsewhere");
        }
    }

    #[test]
    fn schemes() {
        for (fields, https) in [
            ([].as_slice(), Ok(false)),
            (&[("X-Forwarded-Proto", "https")], Ok(true)),
            (&[("x-forwarded-ssl", "on")], Ok(true)),
            (&[("X-Forwarded-Proto", "HTTPS")], Ok(false)),
            (&[("X-Forwarded-Proto", "https,http")], Ok(false)),
            (&[("X-Forwarded-Proto", "http")], Ok(false)),
            (&[("X-Forwarded-Proto", "https"), ("X-Forwarded-Ssl", "on")], Ok(true)),
            (
                &[("X-Forwarded-Proto", "https"), ("X-Forwarded-Ssl", "off")],
                Err(Error::Scheme),
            ),
            (
                &[("X-Forwarded-Proto", "http"), ("X-Forwarded-Proto", "https")],
                Err(Error::Scheme),
            ),
            (
                &[("X-Forwarded-Proto", "https"), ("X-Forwarded-Proto", "https")],
                Ok(true),
            ),
            (&[("X_Forwarded_Proto", "https")], Ok(false)),
        ] {
            let policy = policy(HeaderMapKind::Dangerous, &[]);
            let trusted = apply(&mut head(fields), true, &policy);
            assert_eq!(trusted.map(|forwarded| forwarded.https), https, "{fields:?}");
            let untrusted = apply(&mut head(fields), false, &policy);
            assert_eq!(untrusted.map(|forwarded| forwarded.https), Ok(false), "{fields:?}");
        }
    }
}
