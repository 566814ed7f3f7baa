//! System calls behind small safe functions; the only place where `unsafe` is allowed.
//!
//! Never here: policy, configuration, logging.

pub mod board;
pub mod clock;
pub mod fd;
pub mod output;
pub mod socket;
