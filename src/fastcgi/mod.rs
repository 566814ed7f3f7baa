//! FastCGI 1.0 as a web server speaks it: one request at a time on a connection, always with request id 1.
//!
//! - [`record`]: the 8-byte record header (§3.3)
//! - [`pairs`]: name-value pairs (§3.4)
//! - [`conn`]: one connection: what is sent, and what arrives (§5, §6)
//!
//! `docs/protocols/fastcgi.md` says what is sent, expected and refused.
//!
//! Never here: sockets, deadlines, retry, and what the bytes of STDOUT mean (`cgi::response` knows).

// Tests may slice and cut numbers: a panic there is a failed test.
#![cfg_attr(
    not(test),
    warn(
        clippy::indexing_slicing,
        clippy::string_slice,
        clippy::cast_possible_truncation,
        clippy::wildcard_enum_match_arm
    )
)]

pub mod conn;
pub mod error;
pub mod pairs;
pub mod record;

pub use conn::{Conn, Event, ProtocolStatus, Values, get_values};
pub use error::Error;
