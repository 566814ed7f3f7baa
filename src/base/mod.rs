//! Plain types shared by every layer: message heads, identifiers, units, exit codes, and who is to blame.
//!
//! Never here: parsing of a protocol, input or output, the clock.

pub mod exit;
pub mod fault;
pub mod ids;
pub mod level;
pub mod message;
pub mod units;
