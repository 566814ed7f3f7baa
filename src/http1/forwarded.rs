//! What a peer's own words about a request are worth: names with `_`, and fields that give the scheme.
//!
//! Never here: deciding whom to trust (the caller knows the peer).

use super::error::Error;
use crate::base::message::RequestHead;

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
}

/// What a trusted peer said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forwarded {
    /// The client used https.
    pub https: bool,
}

/// Applies the policy to a request: removes fields that must not get through, and learns the scheme.
///
/// # Errors
/// [`Error::Underscore`] under [`HeaderMapKind::Refuse`]; [`Error::Scheme`] if two fields of a trusted peer disagree.
pub fn apply(head: &mut RequestHead, trusted: bool, policy: &ForwardPolicy) -> Result<Forwarded, Error> {
    let RequestHead { bytes, fields, .. } = head;
    let mut refused = false;
    fields.retain(|field| {
        let name = field.name.of(bytes);
        if memchr::memchr(b'_', name).is_none() || (trusted && policy.lets_through(name)) {
            return true;
        }
        refused |= policy.header_map == HeaderMapKind::Refuse;
        policy.header_map == HeaderMapKind::Dangerous
    });
    if refused {
        return Err(Error::Underscore);
    }
    let https = if trusted { policy.scheme(head)? } else { None };
    Ok(Forwarded {
        https: https.unwrap_or(false),
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
