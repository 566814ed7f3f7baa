//! HTTP/1 as a server speaks it, without input or output (RFC 9112, RFC 9110).
//!
//! [`conn::Conn`] is one client connection: bytes in, [`conn::Event`]s out, and response bytes into a caller's buffer.
//! [`policy`] holds the limits and the rules that can be loosened, [`forwarded`] says what a peer's fields are worth,
//! and [`response`] has reason phrases and error pages.
//!
//! The smaller parts: `syntax` (byte classes, hosts, lists), `fields` (lines and fields), `request` (heads),
//! `body` (chunked decoding), `framing` (how long a body is, in both directions).
//!
//! Never here: sockets, clocks, workers, or decoding of paths.
#![warn(
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::cast_possible_truncation,
    clippy::wildcard_enum_match_arm
)]

mod body;
pub mod conn;
pub mod error;
mod fields;
pub mod forwarded;
mod framing;
pub mod policy;
mod request;
pub mod response;
mod syntax;

#[cfg(test)]
mod tests;
