//! How long a body is, in both directions, as the numbered list of RFC 9112 §6.3.
//!
//! Never here: decoding or encoding a body.

use super::error::Error;
use super::syntax;
use crate::base::message::{BodyLength, Version};

/// The fields of a request that frame its body.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RequestFields {
    /// Content-Length; the inner `None` is a number beyond 64 bits.
    length: Option<Option<u64>>,
    has_encoding: bool,
    chunked: bool,
}

impl RequestFields {
    /// Takes a Content-Length: digits only, and only once, even if the values agree.
    ///
    /// RFC 9112 §6.3 rule 5 allows a list of equal values; peers that pick different ones are how requests get smuggled.
    pub(super) fn content_length(&mut self, value: &[u8]) -> Result<(), Error> {
        let length = syntax::decimal(value).ok_or(Error::ContentLength)?;
        match self.length.replace(length) {
            None => Ok(()),
            Some(_) => Err(Error::ContentLengthRepeated),
        }
    }

    /// Takes one of the Transfer-Encoding fields: `identity` counts for nothing, `chunked` must be last and single.
    pub(super) fn transfer_encoding(&mut self, value: &[u8]) -> Result<(), Error> {
        self.has_encoding = true;
        for coding in syntax::list(value) {
            if self.chunked || coding.is_empty() {
                return Err(Error::TransferEncoding);
            }
            if coding.eq_ignore_ascii_case(b"chunked") {
                self.chunked = true;
            } else if !coding.eq_ignore_ascii_case(b"identity") {
                return Err(Error::TransferEncodingUnsupported);
            }
        }
        Ok(())
    }

    /// The length of the request's body.
    pub(super) fn body(&self, version: Version, limit: u64) -> Result<BodyLength, Error> {
        // Rules 1 and 2 (HEAD, 1xx, 204, 304, CONNECT) are about responses.
        // Rule 3: both fields may be an attempt at smuggling, so the request is refused rather than repaired.
        if self.has_encoding && self.length.is_some() {
            return Err(Error::LengthAndEncoding);
        }
        // Rule 4: the final coding must be chunked, or nobody knows where the body ends.
        // RFC 9112 §6.1: in HTTP/1.0 the framing is faulty whatever the coding.
        if self.has_encoding {
            return match (version, self.chunked) {
                (Version::Http10, _) => Err(Error::TransferEncodingVersion),
                (Version::Http11, true) => Ok(BodyLength::Chunked),
                (Version::Http11, false) => Err(Error::TransferEncoding),
            };
        }
        match self.length {
            // Rule 6.
            Some(Some(length)) if length <= limit => Ok(BodyLength::Known(length)),
            Some(_) => Err(Error::BodyTooLarge),
            // Rule 7: neither field means no body. Rule 8 is about responses.
            None => Ok(BodyLength::None),
        }
    }
}

/// How a response's body is put on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Framing {
    /// No body may follow the head; the length is announced if it is known what a GET would have had.
    Bodiless(Option<u64>),
    /// Content-Length.
    Length(u64),
    /// Transfer-Encoding: chunked.
    Chunked,
    /// Until the connection closes.
    #[default]
    Close,
}

/// Chooses the framing of a response.
///
/// `announced` is the Content-Length the app gave, `body` what the caller knows of the body it will send.
pub(super) fn response(
    version: Version,
    is_head: bool,
    status: u16,
    body: BodyLength,
    announced: Option<u64>,
) -> Framing {
    // Rule 1. RFC 9110 §8.6: 1xx and 204 carry no Content-Length; with HEAD it is what GET would have got, and with 304
    // what 200 would have, so that an empty body, or any body of a 304, says nothing about it.
    if is_bodiless(status) || is_head {
        let would_be = match body {
            BodyLength::Known(length) if length > 0 && status != 304 => Some(length),
            BodyLength::Known(_) | BodyLength::None | BodyLength::Chunked | BodyLength::Close => None,
        };
        let may_say = status >= 200 && status != 204;
        return Framing::Bodiless(announced.or(would_be).filter(|_| may_say));
    }
    match (body, version) {
        // Rule 2 cannot occur: CONNECT is refused. Rule 6:
        (BodyLength::None, _) => Framing::Length(0),
        (BodyLength::Known(length), _) => Framing::Length(length),
        // Rule 4: never chunked towards HTTP/1.0. Rules 3, 5 and 7 are about receiving.
        (BodyLength::Chunked | BodyLength::Close, Version::Http11) => Framing::Chunked,
        // Rule 8.
        (BodyLength::Chunked | BodyLength::Close, Version::Http10) => Framing::Close,
    }
}

/// True for statuses whose responses end with the head.
fn is_bodiless(status: u16) -> bool {
    matches!(status, 100..=199 | 204 | 304)
}
