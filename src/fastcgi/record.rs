//! The 8-byte record header and its padding; FastCGI 1.0 §3.3.
//!
//! Never here: what a record's content means.

use super::Error;
use std::fmt;

/// Length of a record header in bytes.
pub const HEADER_LEN: usize = 8;

/// The only version there is.
pub const VERSION: u8 = 1;

/// The most content one record can carry, in bytes; also the most content and padding together that PHP reads.
pub const CONTENT_LIMIT: usize = 65_535;

/// A record's type as it stands in the header; prints as in the specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordType(pub u8);

impl RecordType {
    /// FCGI_BEGIN_REQUEST, to the application.
    pub const BEGIN_REQUEST: Self = Self(1);
    /// FCGI_ABORT_REQUEST, to the application; never sent by us.
    pub const ABORT_REQUEST: Self = Self(2);
    /// FCGI_END_REQUEST, from the application.
    pub const END_REQUEST: Self = Self(3);
    /// FCGI_PARAMS, to the application.
    pub const PARAMS: Self = Self(4);
    /// FCGI_STDIN, to the application.
    pub const STDIN: Self = Self(5);
    /// FCGI_STDOUT, from the application.
    pub const STDOUT: Self = Self(6);
    /// FCGI_STDERR, from the application.
    pub const STDERR: Self = Self(7);
    /// FCGI_DATA, to a Filter; never sent by us.
    pub const DATA: Self = Self(8);
    /// FCGI_GET_VALUES, to the application, id 0.
    pub const GET_VALUES: Self = Self(9);
    /// FCGI_GET_VALUES_RESULT, from the application, id 0.
    pub const GET_VALUES_RESULT: Self = Self(10);
    /// FCGI_UNKNOWN_TYPE, from the application, id 0.
    pub const UNKNOWN_TYPE: Self = Self(11);

    /// True for the types the specification defines.
    #[must_use]
    pub fn is_known(self) -> bool {
        (Self::BEGIN_REQUEST.0..=Self::UNKNOWN_TYPE.0).contains(&self.0)
    }
}

impl fmt::Display for RecordType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match *self {
            Self::BEGIN_REQUEST => "BEGIN_REQUEST",
            Self::ABORT_REQUEST => "ABORT_REQUEST",
            Self::END_REQUEST => "END_REQUEST",
            Self::PARAMS => "PARAMS",
            Self::STDIN => "STDIN",
            Self::STDOUT => "STDOUT",
            Self::STDERR => "STDERR",
            Self::DATA => "DATA",
            Self::GET_VALUES => "GET_VALUES",
            Self::GET_VALUES_RESULT => "GET_VALUES_RESULT",
            Self::UNKNOWN_TYPE => "UNKNOWN_TYPE",
            Self(other) => return write!(f, "record type {other}"),
        };
        f.write_str(name)
    }
}

/// A record header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the record is.
    pub kind: RecordType,
    /// The request it belongs to; 0 for management records.
    pub id: u16,
    /// Bytes of content after the header.
    pub content: u16,
    /// Bytes to skip after the content.
    pub padding: u8,
}

impl Header {
    /// A header for `content` bytes, padded so that the record's length is a multiple of 8 bytes.
    ///
    /// Content and padding together stay within [`CONTENT_LIMIT`], because PHP refuses more:
    /// content of more than 65528 bytes is padded less.
    #[must_use]
    pub fn new(kind: RecordType, id: u16, content: u16) -> Self {
        let to_eight = (8 - content % 8) % 8;
        let padding = to_eight.min(u16::MAX - content);
        Self {
            kind,
            id,
            content,
            // At most 7.
            padding: u8::try_from(padding).unwrap_or(0),
        }
    }

    /// Bytes of content and of padding that follow it.
    #[must_use]
    pub fn lengths(self) -> (usize, usize) {
        (usize::from(self.content), usize::from(self.padding))
    }

    /// The header's bytes.
    #[must_use]
    pub fn encode(self) -> [u8; HEADER_LEN] {
        let [id_high, id_low] = self.id.to_be_bytes();
        let [content_high, content_low] = self.content.to_be_bytes();
        [
            VERSION,
            self.kind.0,
            id_high,
            id_low,
            content_high,
            content_low,
            self.padding,
            0,
        ]
    }

    /// Reads a header; the reserved byte may hold anything.
    ///
    /// # Errors
    /// [`Error::Version`] unless the version is 1.
    pub fn decode(bytes: [u8; HEADER_LEN]) -> Result<Self, Error> {
        let [
            version,
            kind,
            id_high,
            id_low,
            content_high,
            content_low,
            padding,
            _reserved,
        ] = bytes;
        if version != VERSION {
            return Err(Error::Version { found: version });
        }
        Ok(Self {
            kind: RecordType(kind),
            id: u16::from_be_bytes([id_high, id_low]),
            content: u16::from_be_bytes([content_high, content_low]),
            padding,
        })
    }
}

/// Writes one record with its padding. Content beyond [`CONTENT_LIMIT`] is left out: split it before.
pub fn write(kind: RecordType, id: u16, content: &[u8], out: &mut Vec<u8>) {
    debug_assert!(content.len() <= CONTENT_LIMIT);
    let content = content.get(..CONTENT_LIMIT).unwrap_or(content);
    let header = Header::new(kind, id, u16::try_from(content.len()).unwrap_or(u16::MAX));
    out.extend_from_slice(&header.encode());
    out.extend_from_slice(content);
    pad(header.padding, out);
}

/// Writes `count` bytes of padding.
pub(super) fn pad(count: u8, out: &mut Vec<u8>) {
    out.resize(out.len() + usize::from(count), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_padded_within_the_limit() {
        let rows = [
            (0, 0),
            (1, 7),
            (7, 1),
            (8, 0),
            (65_527, 1),
            (65_528, 0),
            (65_529, 6),
            (65_534, 1),
            (65_535, 0),
        ];
        for (content, padding) in rows {
            let header = Header::new(RecordType::STDIN, 1, content);
            assert_eq!(header.padding, padding, "{content}");
            let mut out = Vec::new();
            write(RecordType::STDIN, 1, &vec![7; content.into()], &mut out);
            assert_eq!(out.len(), 8 + usize::from(content) + usize::from(padding));
            assert_eq!(Header::decode(*out.first_chunk().unwrap()), Ok(header));
        }
    }

    #[test]
    fn headers_are_big_endian() {
        let header = Header {
            kind: RecordType::STDOUT,
            id: 0x0102,
            content: 0x0304,
            padding: 5,
        };
        assert_eq!(header.encode(), [1, 6, 1, 2, 3, 4, 5, 0]);
        // The reserved byte is the sender's business.
        assert_eq!(Header::decode([1, 6, 1, 2, 3, 4, 5, 99]), Ok(header));
        assert_eq!(
            Header::decode([0, 6, 1, 2, 3, 4, 5, 0]),
            Err(Error::Version { found: 0 })
        );
    }

    #[test]
    fn types_print_as_in_the_specification() {
        let names: Vec<String> = (0..=12).map(|kind| RecordType(kind).to_string()).collect();
        assert_eq!(
            names.join(" "),
            "record type 0 BEGIN_REQUEST ABORT_REQUEST END_REQUEST PARAMS STDIN STDOUT STDERR DATA \
             GET_VALUES GET_VALUES_RESULT UNKNOWN_TYPE record type 12"
        );
        assert!(!RecordType(0).is_known() && RecordType(1).is_known());
        assert!(RecordType(11).is_known() && !RecordType(12).is_known());
    }
}
