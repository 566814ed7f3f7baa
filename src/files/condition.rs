//! Conditional requests (RFC 9110 §13), for a file that exists and a GET or HEAD that would get 200.

use super::list::{lines, single};
use super::tag::Tag;
use crate::base::message::RequestHead;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What the preconditions of a request say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// They hold, or there are none.
    Proceed,
    /// The client has it already: 304.
    NotModified,
    /// What the client wanted to be so is not so: 412.
    Failed,
}

/// Evaluates the preconditions in the order of §13.2.2; the numbers are those of its steps.
///
/// `modified` is the value of Last-Modified, in seconds since 1970.
pub(super) fn evaluate(head: &RequestHead, tag: &Tag, modified: Option<u64>) -> Verdict {
    let has = |name| lines(head, name).next().is_some();
    // 1.
    if has("If-Match") {
        if !tag.is_in(lines(head, "If-Match"), true) {
            return Verdict::Failed;
        }
    // 2.
    } else if let (Some(date), Some(modified)) = (date(head, "If-Unmodified-Since"), modified)
        && modified > date
    {
        return Verdict::Failed;
    }
    // 3.
    if has("If-None-Match") {
        if tag.is_in(lines(head, "If-None-Match"), false) {
            return Verdict::NotModified;
        }
    // 4.
    } else if let (Some(date), Some(modified)) = (date(head, "If-Modified-Since"), modified)
        && modified <= date
    {
        return Verdict::NotModified;
    }
    // 5. is `range_applies`; 6. is what the caller does.
    Verdict::Proceed
}

/// Whether Range counts, in view of If-Range (§13.1.5).
///
/// A date counts only if it is exactly that of Last-Modified and at least a second has gone by since, so that the file
/// can no longer have changed within the same second (§8.8.2.2).
pub(super) fn range_applies(head: &RequestHead, tag: &Tag, modified: Option<u64>, now: SystemTime) -> bool {
    if lines(head, "If-Range").next().is_none() {
        return true;
    }
    let Some(value) = single(head, "If-Range") else {
        return false;
    };
    if value.starts_with(b"\"") || value.starts_with(b"W/") {
        return tag.is_only(value);
    }
    let Some(modified) = modified else {
        return false;
    };
    let is_settled = now
        .duration_since(UNIX_EPOCH)
        .is_ok_and(|now| now >= Duration::from_secs(modified.saturating_add(1)));
    is_settled && seconds(value) == Some(modified)
}

/// A field with a date; `None` if it has none, or anything else, or two: then it is to be ignored.
fn date(head: &RequestHead, name: &'static str) -> Option<u64> {
    seconds(single(head, name)?)
}

/// Seconds since 1970 of an HTTP-date in any of its three forms (§5.6.7).
fn seconds(value: &[u8]) -> Option<u64> {
    let date = httpdate::parse_http_date(std::str::from_utf8(value).ok()?).ok()?;
    Some(date.duration_since(UNIX_EPOCH).ok()?.as_secs())
}
