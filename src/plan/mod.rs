//! Decisions: events and the time go in, actions come out as plain data.
//!
//! Never here: sockets, processes, files, environment, a clock, a source of randomness.

#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::string_slice, clippy::cast_possible_truncation)
)]

pub mod arbiter;
pub mod demand;
pub mod dispatch;
pub mod generation;
pub mod pacing;
pub mod pool;
pub mod room;
pub mod route;
pub mod timers;
pub mod worker;

#[cfg(test)]
mod simulation;

/// The start of a virtual clock: an `Instant` can only be had from the real one.
#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests count from here and never look again")]
pub(crate) fn origin() -> std::time::Instant {
    std::time::Instant::now()
}
