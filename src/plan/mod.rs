//! Plans: events and time to actions, as plain data.
//!
//! Never here: sockets, processes, the clock, configuration types.

pub mod dispatch;
pub mod timers;
