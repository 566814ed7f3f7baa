//! Why a request was refused, and the status that says so.
//!
//! The texts are fixed: none repeats a client's bytes, so each may be shown to the client and logged as it is.

use crate::base::fault::Fault;

/// A request that cannot be served as sent; the connection closes after the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A line ended in LF without CR.
    #[error("line ends in a bare line feed")]
    BareLineFeed,
    /// Not `method target version` with single blanks.
    #[error("malformed request line")]
    RequestLine,
    /// The request line is longer than its limit.
    #[error("request line too long")]
    RequestLineTooLong,
    /// The method is not a token, or not a conventional one.
    #[error("invalid method")]
    Method,
    /// CONNECT, which needs a tunnel.
    #[error("method CONNECT is not implemented")]
    MethodNotImplemented,
    /// The target is empty, relative, holds controls, or has a malformed authority.
    #[error("invalid request target")]
    Target,
    /// The version is not `HTTP/` digit `.` digit.
    #[error("malformed version")]
    Version,
    /// A well-formed version other than 1.x.
    #[error("version not supported")]
    VersionUnsupported,
    /// A field line without a colon, or with a name that is not a token.
    #[error("invalid field name")]
    FieldName,
    /// A field value with a control character.
    #[error("invalid field value")]
    FieldValue,
    /// A folded field line where folding is not permitted.
    #[error("obsolete line folding")]
    Folding,
    /// More fields than the limit.
    #[error("too many fields")]
    TooManyFields,
    /// A field longer than its limit.
    #[error("field too large")]
    FieldTooLarge,
    /// HTTP/1.1 without Host.
    #[error("host field missing")]
    HostMissing,
    /// More than one Host.
    #[error("host field repeated")]
    HostRepeated,
    /// A Host that is not a host and port.
    #[error("invalid host")]
    Host,
    /// More than one Content-Type.
    #[error("content-type field repeated")]
    ContentTypeRepeated,
    /// A Content-Length that is not all digits.
    #[error("invalid content-length")]
    ContentLength,
    /// More than one Content-Length.
    #[error("content-length field repeated")]
    ContentLengthRepeated,
    /// Both Content-Length and Transfer-Encoding.
    #[error("both content-length and transfer-encoding")]
    LengthAndEncoding,
    /// A list of transfer codings that does not end in one `chunked`.
    #[error("invalid transfer-encoding")]
    TransferEncoding,
    /// A transfer coding other than `chunked`.
    #[error("transfer coding not implemented")]
    TransferEncodingUnsupported,
    /// Transfer-Encoding in HTTP/1.0.
    #[error("transfer-encoding in HTTP/1.0")]
    TransferEncodingVersion,
    /// An expectation other than `100-continue`.
    #[error("expectation not supported")]
    Expectation,
    /// A body longer than the limit.
    #[error("body too large")]
    BodyTooLarge,
    /// A chunk-size line that is malformed.
    #[error("invalid chunk size")]
    ChunkSize,
    /// A chunk-size line beyond its limit, or too much framing around too little data.
    #[error("chunk extensions too long")]
    ChunkTooLong,
    /// Chunk data that does not end where its size said.
    #[error("chunk does not end in CRLF")]
    ChunkEnd,
    /// A trailer that would change framing, routing or authentication.
    #[error("field not allowed in trailers")]
    Trailer,
    /// A field name with `_` under `header_map = refuse`.
    #[error("underscore in field name")]
    Underscore,
    /// Two fields of a trusted peer that disagree about the scheme.
    #[error("contradictory scheme fields")]
    Scheme,
    /// The path does not lie below SCRIPT_NAME, which a trusted peer or the configuration gave.
    #[error("path does not begin with SCRIPT_NAME")]
    ScriptName,
}

impl Error {
    /// The status to answer with: 400, 413, 414, 417, 431, 500, 501 or 505.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::BodyTooLarge => 413,
            Self::RequestLineTooLong => 414,
            Self::Expectation => 417,
            Self::TooManyFields | Self::FieldTooLarge => 431,
            // As under Gunicorn: proxy and server disagree about a mount point, whatever the client asked for.
            Self::ScriptName => 500,
            Self::MethodNotImplemented | Self::TransferEncodingUnsupported => 501,
            Self::VersionUnsupported => 505,
            Self::BareLineFeed
            | Self::RequestLine
            | Self::Method
            | Self::Target
            | Self::Version
            | Self::FieldName
            | Self::FieldValue
            | Self::Folding
            | Self::HostMissing
            | Self::HostRepeated
            | Self::Host
            | Self::ContentTypeRepeated
            | Self::ContentLength
            | Self::ContentLengthRepeated
            | Self::LengthAndEncoding
            | Self::TransferEncoding
            | Self::TransferEncodingVersion
            | Self::ChunkSize
            | Self::ChunkTooLong
            | Self::ChunkEnd
            | Self::Trailer
            | Self::Underscore
            | Self::Scheme => 400,
        }
    }

    /// Who is to blame: the client, or those who set up a mount point that does not fit.
    #[must_use]
    pub fn fault(&self) -> Fault {
        if *self == Self::ScriptName {
            Fault::Gateway
        } else {
            Fault::Client
        }
    }
}
