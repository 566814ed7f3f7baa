//! The pipe protocol between front and workers: docs/protocols/pipe.md, which is its only definition.
//!
//! [`frame`] has the numbers and the eight-byte header, [`head`] the response head, [`conn`] the front's end of one
//! worker's channel, [`worker`] the other end. Never here: sockets, descriptors (the shells attach and take them), which
//! requests are in flight, retry, deadlines.
#![warn(
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::cast_possible_truncation,
    clippy::wildcard_enum_match_arm
)]

pub mod conn;
pub mod error;
pub mod frame;
pub mod head;
pub mod worker;

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::cast_possible_truncation)] // A test may panic.
mod tests;

pub use conn::{Event, FrontConn, Limits};
pub use error::Error;
pub use worker::{WorkerConn, WorkerEvent};
