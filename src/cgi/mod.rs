//! CGI/1.1 (RFC 3875) as a gateway speaks it: a request becomes variables, a script's header becomes a response head.
//!
//! - [`vars`]: request head to meta-variables (§4.1)
//! - [`environ`]: request head to the environ of WSGI (PEP 3333)
//! - [`path`]: percent-decoding of paths (§4.1.5)
//! - [`given`]: variables of a web server that comes by FastCGI, to a request head and to ours
//! - [`response`]: header of the output to response head (§6)
//! - [`output`]: response head to header of an output, the other way round
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
pub mod given;
mod joined;
pub mod nph;
pub mod output;
pub mod path;
pub mod response;
pub mod vars;
