//! The limits and rules a connection is read under: plain values, handed in on every step.
//!
//! Never here: where they come from.

/// Sizes beyond which a request is refused. The largest value of a type means unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the request line without its CRLF; more is 414.
    pub request_line: usize,
    /// Fields in a head, and again in trailers; more is 431.
    pub fields: usize,
    /// Bytes of one field: its line or folded lines with every CRLF; more is 431.
    pub field_size: usize,
    /// Bytes of a body without chunk framing; more is 413.
    pub body: u64,
}

impl Limits {
    /// The longest head these limits let through, in bytes.
    ///
    /// It follows from the other limits, so it is not checked again; it says how much a caller must be ready to buffer.
    #[must_use]
    pub fn head(&self) -> usize {
        self.fields
            .saturating_mul(self.field_size.saturating_add(2))
            .saturating_add(4)
            .saturating_add(self.request_line)
    }
}

impl Default for Limits {
    /// Gunicorn's limits, and bodies of any length.
    fn default() -> Self {
        Self {
            request_line: 4094,
            fields: 100,
            field_size: 8190,
            body: u64::MAX,
        }
    }
}

/// Rules that may be loosened for old clients; all off is the strict and safe choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Field values may go on in lines that start with a blank; the parts are joined by one blank.
    pub permit_obsolete_folding: bool,
    /// Blanks between a field's name and its colon are removed instead of refused.
    pub strip_header_spaces: bool,
    /// Any token is a method; otherwise 3 to 20 characters, no lower case, no `#`.
    pub permit_unconventional_http_method: bool,
    /// Versions `HTTP/0.x` and `HTTP/2.x` to `HTTP/9.x` pass and are read by the rules of 1.0 or 1.1.
    pub permit_unconventional_http_version: bool,
    /// Methods are changed to upper case, so that `get` is GET.
    pub casefold_http_method: bool,
}

/// Everything a connection must be told to judge a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Size limits.
    pub limits: Limits,
    /// Rules.
    pub rules: Rules,
}
