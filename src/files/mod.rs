//! Files as HTTP represents them: a request and the facts about a file become an answer (RFC 9110 §8.8, §12.5.3, §13,
//! §14).
//!
//! How a shell serves a file:
//!
//! 1. [`hidden()`] says whether the path may be served at all, before anything is looked up.
//! 2. `sys::tree` opens the file and tells its [`Facts`](crate::base::file::Facts).
//! 3. If [`Accepted::any`], the pre-compressed siblings (the path with [`Coding::suffix`] behind it) are opened, too, and
//!    [`Accepted::choose`] says which of them is sent, if any. Without siblings this step may be left out.
//! 4. [`answer()`] gives status, fields, and the pieces of the body: bytes, and parts of the file for sendfile(2).
//!
//! ```
//! use rgunicorn::base::{file::Facts, message::RequestHead};
//! use rgunicorn::files::{Answer, Boundary, Piece, Representation, Types, answer};
//! use std::time::{Duration, UNIX_EPOCH};
//!
//! let request = RequestHead { bytes: b"GET".to_vec(), ..RequestHead::default() };
//! # let mut request = request;
//! # request.method.len = 3;
//! let facts = Facts { size: 12, modified: 1_000_000_000, ..Facts::default() };
//! let types = Types::default();
//! let file = Representation { content_type: types.of(b"a.html"), ..Representation::of(&facts) };
//! let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
//! let mut out = Answer::default();
//! answer(&request, &file, now, Boundary::from_seed(7), &mut out);
//! assert_eq!(out.head.status, 200);
//! assert_eq!(out.pieces, [Piece::File { offset: 0, length: 12 }]);
//! ```
//!
//! Never here: opening files, sending them, the clock, how a URL becomes a path.
#![warn(
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::cast_possible_truncation,
    clippy::wildcard_enum_match_arm
)]

pub mod answer;
pub mod by_app;
pub mod coding;
mod condition;
mod list;
mod range;
mod tag;
pub mod types;

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::cast_possible_truncation)] // A test may panic.
mod tests;

pub use crate::base::hidden::{Hidden, Hiding, hidden, private};
pub use answer::{Answer, Boundary, Piece, Representation, answer};
pub use coding::{Accepted, Choice, Coding};
pub use range::RANGE_LIMIT;
pub use types::Types;
