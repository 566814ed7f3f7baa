//! System calls behind small safe functions; the only place where `unsafe` is allowed.
//!
//! Never here: policy, configuration, logging.

pub mod account;
pub mod board;
pub mod clock;
pub mod copy;
pub mod directory;
pub mod fd;
pub mod launch;
pub mod listen;
pub mod notify;
pub mod output;
pub mod poll;
pub mod privilege;
pub mod process;
pub mod process_state;
pub mod remote;
pub mod script;
pub mod shared;
pub mod signals;
pub mod socket;
pub mod title;
pub mod tree;
