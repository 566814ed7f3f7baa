//! Who is to blame for an error, so that no caller has to guess a status or whether to retry.

/// The party whose bytes or behaviour caused an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The HTTP client: answered with 4xx, or 501 and 505.
    Client,
    /// The worker: answered with 502, and the worker is recycled.
    Worker,
    /// This program or its machine: answered with 500 or 503.
    Gateway,
}
