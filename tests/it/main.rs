//! Tests of the real binary.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod config;
mod settings_table;
