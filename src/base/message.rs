//! Message heads as compact text plus spans: one buffer per head, no allocation per field.
//!
//! Never here: parsing or validation (`http1`, `cgi` and `pipe` fill these in).

/// A range of bytes in a head's buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// Length in bytes.
    pub len: u32,
}

impl Span {
    /// The bytes of `buffer` this span names; empty if it lies outside.
    #[must_use]
    pub fn of<'b>(&self, buffer: &'b [u8]) -> &'b [u8] {
        let start = self.start as usize;
        buffer.get(start..start + self.len as usize).unwrap_or_default()
    }
}

/// One header field: its name as sent, and its value without surrounding blanks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Field {
    /// The name, in the case it was sent.
    pub name: Span,
    /// The value, trimmed.
    pub value: Span,
}

/// The HTTP version of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1, and other 1.x where permitted
    #[default]
    Http11,
}

impl Version {
    /// The version as it stands in a request line or in SERVER_PROTOCOL.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
        }
    }
}

/// How long a message body is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyLength {
    /// There is no body.
    #[default]
    None,
    /// Exactly this many bytes (may be 0 when the peer said so).
    Known(u64),
    /// Chunked: unknown until its end.
    Chunked,
    /// Until the connection closes (responses only).
    Close,
}

/// A request's start line and fields.
#[derive(Clone, Debug, Default)]
pub struct RequestHead {
    /// The head's bytes; every span points in here.
    pub bytes: Vec<u8>,
    /// The method, case-sensitive.
    pub method: Span,
    /// The request target as sent.
    pub target: Span,
    /// The target's path, still percent-encoded: `/a%20b`, or `*`.
    pub path: Span,
    /// What follows `?`, without a fragment; `None` if there was no `?`.
    pub query: Option<Span>,
    /// Host and port: the target's authority if it was absolute, else the Host field.
    pub host: Option<Span>,
    /// HTTP version.
    pub version: Version,
    /// The fields in order.
    pub fields: Vec<Field>,
}

impl RequestHead {
    /// Empties the head and keeps its memory.
    pub fn clear(&mut self) {
        let Self { bytes, fields, .. } = std::mem::take(self);
        self.bytes = bytes;
        self.bytes.clear();
        self.fields = fields;
        self.fields.clear();
    }

    /// The bytes of one span.
    #[must_use]
    pub fn text(&self, span: Span) -> &[u8] {
        span.of(&self.bytes)
    }

    /// The method.
    #[must_use]
    pub fn method(&self) -> &[u8] {
        self.text(self.method)
    }

    /// The target as sent.
    #[must_use]
    pub fn target(&self) -> &[u8] {
        self.text(self.target)
    }

    /// The path, percent-encoded.
    #[must_use]
    pub fn path(&self) -> &[u8] {
        self.text(self.path)
    }

    /// The query without `?`; empty if there is none.
    #[must_use]
    pub fn query(&self) -> &[u8] {
        self.query.map_or(&[], |span| span.of(&self.bytes))
    }

    /// Names and values in order.
    pub fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields
            .iter()
            .map(|field| (self.text(field.name), self.text(field.value)))
    }

    /// The first field of this name, case-insensitively.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        first_field(&self.bytes, &self.fields, name)
    }

    /// True for the methods that may be sent twice without harm: GET, HEAD, OPTIONS.
    #[must_use]
    pub fn is_safe(&self) -> bool {
        matches!(self.method(), b"GET" | b"HEAD" | b"OPTIONS")
    }

    /// True for HEAD.
    #[must_use]
    pub fn is_head(&self) -> bool {
        self.method() == b"HEAD"
    }
}

/// A response's status and fields.
#[derive(Clone, Debug, Default)]
pub struct ResponseHead {
    /// The head's bytes; every span points in here.
    pub bytes: Vec<u8>,
    /// Three digits. Those above 599 belong to no class, but apps send them and clients take them (RFC 9110 §15).
    pub status: u16,
    /// The reason phrase; empty means the usual one.
    pub reason: Span,
    /// The fields in order.
    pub fields: Vec<Field>,
    /// The value of Content-Length, already checked.
    pub content_length: Option<u64>,
}

impl ResponseHead {
    /// Empties the head and keeps its memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.fields.clear();
        self.status = 0;
        self.reason = Span::default();
        self.content_length = None;
    }

    /// Appends text to the head's buffer and says where it stands.
    pub fn store(&mut self, text: &[u8]) -> Span {
        let span = Span {
            start: u32::try_from(self.bytes.len()).unwrap_or(u32::MAX),
            len: u32::try_from(text.len()).unwrap_or(0),
        };
        self.bytes.extend_from_slice(text);
        span
    }

    /// Appends a field. The caller has checked name and value.
    pub fn push(&mut self, name: &[u8], value: &[u8]) {
        let field = Field {
            name: self.store(name),
            value: self.store(value),
        };
        self.fields.push(field);
    }

    /// Gives the fields of a name this value. The caller has checked both.
    pub fn set(&mut self, name: &[u8], value: &[u8]) {
        let bytes = &self.bytes;
        self.fields
            .retain(|field| !field.name.of(bytes).eq_ignore_ascii_case(name));
        self.push(name, value);
    }

    /// The bytes of one span.
    #[must_use]
    pub fn text(&self, span: Span) -> &[u8] {
        span.of(&self.bytes)
    }

    /// Names and values in order.
    pub fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields
            .iter()
            .map(|field| (self.text(field.name), self.text(field.value)))
    }

    /// The first field of this name, case-insensitively.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        first_field(&self.bytes, &self.fields, name)
    }
}

/// Appends a field as every head has it: name, colon, value, CRLF. The caller has checked both.
#[inline]
pub fn write_field(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// True for text that cannot split a head into two (RFC 9110 §5.5).
#[inline]
#[must_use]
pub fn is_one_line(text: &[u8]) -> bool {
    memchr::memchr3(b'\r', b'\n', 0, text).is_none()
}

fn first_field<'b>(bytes: &'b [u8], fields: &[Field], name: &str) -> Option<&'b [u8]> {
    fields
        .iter()
        .find(|field| field.name.of(bytes).eq_ignore_ascii_case(name.as_bytes()))
        .map(|field| field.value.of(bytes))
}
