//! CGI/1.1 (RFC 3875) as a gateway speaks it: a request becomes variables, a script's header becomes a response head.
//!
//! - [`vars`]: request head to meta-variables (§4.1)
//! - [`environ`]: request head to the environ of WSGI (PEP 3333)
//! - [`path`]: percent-decoding of paths (§4.1.5)
//! - [`response`]: header of the output to response head (§6)
//! - [`nph`]: head of a whole HTTP response to response head (§5)
//! - [`error`]: why such a header is refused
//!
//! Shared by FastCGI, the pipe protocol and the CGI runner through the shells.
//!
//! Never here: bodies, processes, files, and which script a path names.

// Tests may slice and cut numbers: a panic there is a failed test.
#![cfg_attr(
    not(test),
    warn(
        clippy::indexing_slicing,
        clippy::string_slice,
        clippy::cast_possible_truncation,
        clippy::wildcard_enum_match_arm
    )
)]

pub mod environ;
pub mod error;
mod joined;
pub mod nph;
pub mod path;
pub mod response;
pub mod vars;
