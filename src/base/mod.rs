//! Plain types shared by every layer: message heads, identifiers, units, sites, files, what of them is never
//! sent, first lines of scripts, exit codes,
//! who is to blame, how much is logged of one request, and where is reported to.
//!
//! Never here: parsing of a protocol, input or output, the clock.

pub mod allowance;
pub mod exit;
pub mod fault;
pub mod file;
pub mod hidden;
pub mod ids;
pub mod interpreter_line;
pub mod level;
pub mod message;
pub mod owner;
pub mod reporting;
pub mod site;
pub mod units;

/// What SERVER_SOFTWARE says to apps (RFC 3875 §4.1.17).
pub const SERVER_SOFTWARE: &str = concat!("rgunicorn/", env!("CARGO_PKG_VERSION"));
