//! Placeholder.

use crate::config::{Loaded, Reloader};

/// Runs the arbiter.
#[must_use]
pub fn main(_reloader: Reloader, _loaded: Loaded) -> std::process::ExitCode {
    std::process::ExitCode::FAILURE
}
