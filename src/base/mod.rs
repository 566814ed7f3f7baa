//! Plain types shared by every layer: message heads, identifiers, units, and who is to blame.
//!
//! Never here: parsing of a protocol, input or output, the clock.

pub mod fault;
pub mod ids;
pub mod message;
pub mod units;
