//! What is said over the control socket: Gunicorn's protocol and commands, and how answers look to people.
//!
//! A message is a length, 4 bytes big-endian, and a JSON object of that length. A request is
//! `{"id": 1, "command": "show", "args": ["workers"]}`, an answer `{"id": 1, "status": "ok", "data": {...}}` or
//! `{"id": 1, "status": "error", "error": "..."}`. `docs/control-socket.md` is for users.
//!
//! Never here: sockets, what a command does.

mod frame;
mod request;
mod show;

pub use frame::{FrameError, Frames, encode};
pub use request::{COMMANDS, Command, Request, failure, request, success};
pub use show::show;

/// Bytes of a request that a server takes. Commands are short; a longer one is a mistake.
pub const REQUEST_LIMIT: usize = 64 * 1024;

/// Bytes of an answer that a client takes, as in Gunicorn.
pub const ANSWER_LIMIT: usize = 16 * 1024 * 1024;
