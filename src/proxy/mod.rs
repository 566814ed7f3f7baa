//! The PROXY protocol, versions 1 and 2: who a proxy says its client is, before the first request of a connection.
//!
//! The specification is haproxy's `doc/proxy-protocol.txt` (sections are quoted as §2.1 and so on).
//! Never here: sockets, whether the sender may say so, requests.
#![warn(
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::cast_possible_truncation,
    clippy::wildcard_enum_match_arm
)]

pub mod error;
pub mod header;
mod v1;
mod v2;

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::cast_possible_truncation)] // A test may panic.
mod tests;

pub use error::Error;
pub use header::{Addresses, Event, Header, Kind, Reader, Versions};
