//! Files that an app names in its response instead of sending them: X-Sendfile and X-Accel-Redirect.
//!
//! What the app says about its own body (its length, its validators) says nothing about the file and is dropped; all
//! its other fields stay. Never here: which files an app may name, looking for them.

use crate::base::message::{RequestHead, ResponseHead};

/// How an app names a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// X-Sendfile, or X-LIGHTTPD-send-file: the absolute path of a file.
    Sendfile,
    /// X-Accel-Redirect: a path that the configuration gives a meaning.
    Accel,
}

/// The fields that name a file. The first that counts and has a value is taken.
const FIELDS: [(&str, Naming); 3] = [
    ("X-Accel-Redirect", Naming::Accel),
    ("X-Sendfile", Naming::Sendfile),
    ("X-LIGHTTPD-send-file", Naming::Sendfile),
];

/// Fields about the app's own body, and about how a file is to be sent.
const DROPPED: [&str; 13] = [
    "x-sendfile",
    "x-sendfile2",
    "x-lighttpd-send-file",
    "content-type",
    "content-length",
    "content-range",
    "content-md5",
    "content-digest",
    "repr-digest",
    "digest",
    "etag",
    "last-modified",
    "accept-ranges",
];

/// Fields about a body, which a 304 has none of (RFC 9110 §15.4.5).
const OF_BODY: [&str; 3] = ["content-encoding", "content-language", "content-disposition"];

impl Naming {
    /// How a response names a file, if it does in one of the ways that count.
    #[must_use]
    pub fn of(response: &ResponseHead, counts: impl Fn(Self) -> bool) -> Option<Self> {
        let mut ways = FIELDS.into_iter().filter(|(_, naming)| counts(*naming));
        let found = ways.find(|(name, _)| response.field(name).is_some_and(|value| !value.is_empty()));
        found.map(|(_, naming)| naming)
    }

    /// The field's name and its value; the value is empty if there is none.
    #[must_use]
    pub fn field(self, response: &ResponseHead) -> (&'static str, &[u8]) {
        let mut names = FIELDS.into_iter().filter(|(_, naming)| *naming == self);
        let found = names.find_map(|(name, _)| {
            let value = response.field(name).filter(|value| !value.is_empty());
            value.map(|value| (name, value))
        });
        found.unwrap_or(("", &[]))
    }

    /// The setting that says which files may be named so.
    #[must_use]
    pub fn setting(self) -> &'static str {
        match self {
            Self::Sendfile => "sendfile_roots",
            Self::Accel => "accel_roots",
        }
    }
}

/// What the app's status means for the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// The file is sent as if the client had asked for it: conditions and ranges count.
    Usual,
    /// The whole file is sent with this status: a page about an error, what a POST has made.
    Whole(u16),
    /// A response of this status has no body. No file is sent.
    Nothing,
}

impl Wish {
    /// Of a response with this status.
    #[must_use]
    pub fn of(status: u16) -> Self {
        match status {
            200 | 206 => Self::Usual,
            204 | 205 | 304 => Self::Nothing,
            status => Self::Whole(status),
        }
    }

    /// The head that the file is answered to: the client's, or one that has neither conditions nor a range.
    #[must_use]
    pub fn request<'r>(self, client: &'r RequestHead, nothing: &'r RequestHead) -> &'r RequestHead {
        if self == Self::Usual { client } else { nothing }
    }
}

/// The path that X-Accel-Redirect names, still encoded: what stands before its query.
#[must_use]
pub fn accel_path(value: &[u8]) -> &[u8] {
    value.split(|byte| *byte == b'?').next().unwrap_or_default()
}

/// What follows `prefix`, which has no slash at its end, in a path: empty, or with a slash in front.
#[must_use]
pub fn below<'p>(path: &'p [u8], prefix: &[u8]) -> Option<&'p [u8]> {
    let rest = path.strip_prefix(prefix.strip_suffix(b"/").unwrap_or(prefix))?;
    (rest.is_empty() || rest.starts_with(b"/")).then_some(rest)
}

/// Adds what stays of the app's fields to the head of the file's answer.
///
/// Content-Type does not: give it to the file as its own (see [`content_type`]), since several ranges have another one.
/// Of an answer that sends nothing of the file, 412 or 416, nothing of the app's stays.
pub fn keep_fields(app: &ResponseHead, answer: &mut ResponseHead) {
    if answer.status >= 400 && answer.content_length.is_none() {
        return;
    }
    let is_bodiless = answer.status == 304;
    for (name, value) in app.fields() {
        let is_in = |names: &[&str]| names.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()));
        let is_dropped = is_in(&DROPPED) || starts_with(name, b"x-accel-") || (is_bodiless && is_in(&OF_BODY));
        if !is_dropped {
            answer.push(name, value);
        }
    }
}

/// Takes out of a response without a body what names a file.
pub fn drop_names(app: &mut ResponseHead) {
    let bytes = &app.bytes;
    app.fields.retain(|field| {
        let name = field.name.of(bytes);
        let names_file = FIELDS
            .iter()
            .any(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes()));
        !names_file && !starts_with(name, b"x-accel-")
    });
}

/// The content type that the app gives the file.
#[must_use]
pub fn content_type(app: &ResponseHead) -> Option<&str> {
    let value = app.field("content-type").filter(|value| !value.is_empty())?;
    std::str::from_utf8(value).ok()
}

fn starts_with(name: &[u8], start: &[u8]) -> bool {
    name.get(..start.len())
        .is_some_and(|found| found.eq_ignore_ascii_case(start))
}
