//! CGI/1.1 (RFC 3875) as a gateway speaks it: a request becomes variables, a script's header becomes a response head.
//!
//! - [`vars`]: request head to meta-variables (§4.1)
//! - [`response`]: header of the output to response head (§6)
//!
//! Shared by FastCGI, the pipe protocol and the CGI runner through the shells.
//!
//! Never here: bodies, processes, files, and which script a path names.

#![warn(
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::cast_possible_truncation,
    clippy::wildcard_enum_match_arm
)]

pub mod response;
pub mod vars;
