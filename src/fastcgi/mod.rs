//! FastCGI 1.0, one request at a time on a connection: as a web server speaks it, and as an application does.
//!
//! - [`record`]: the 8-byte record header (§3.3)
//! - [`pairs`]: name-value pairs (§3.4)
//! - [`conn`]: one connection to an application: what is sent, and what arrives (§5, §6)
//! - [`server`]: one connection of a web server to us, for listeners that speak FastCGI
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
mod reader;
pub mod record;
pub mod server;

pub use conn::{Conn, Event, ProtocolStatus, Values, get_values};
pub use error::Error;
