//! What a configuration file in Python came to.

use std::path::PathBuf;

/// A configuration file that Python must evaluate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfRequest {
    /// `file:/abs/path` or `python:module`.
    pub spec: String,
    /// As it was named.
    pub shown: String,
    /// The interpreter.
    pub python: PathBuf,
}

/// What it holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evaluated {
    /// As it is shown in messages.
    pub shown: String,
    /// Settings: name, value, line.
    pub values: Vec<(String, serde_json::Value, Option<u32>)>,
    /// Settings whose values are callables.
    pub callables: Vec<String>,
    /// Settings whose values stay in Python.
    pub opaque: Vec<String>,
    /// Other names.
    pub others: Vec<String>,
    /// Changes of the environment.
    pub environ: Vec<(String, Option<String>)>,
    /// Additions to sys.path.
    pub sys_path: Vec<String>,
}
