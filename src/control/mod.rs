//! The conversation between arbiter and front over one SOCK_SEQPACKET socketpair: one message is one packet.
//!
//! Descriptors travel beside a message (SCM_RIGHTS) in the order its documentation lists them; the shells attach and
//! take them. Never here: descriptors, sockets, the meaning of the configuration text.

pub mod codec;

use crate::base::ids::{PoolId, WorkerId};

/// How a worker is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Not known yet: the front probes for FastCGI on the worker's socket and for READY on its channel.
    Auto,
    /// FastCGI over connections to the worker's own listening socket.
    FastCgi,
    /// The pipe protocol over the worker's channel.
    Pipe,
}

/// What a worker said, or the front found out, when it became ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// Never `Auto`.
    pub protocol: Protocol,
    /// Requests it serves at once, at least 1.
    pub slots: u16,
    /// The flags of its READY frame; 0 for FastCGI.
    pub flags: u8,
}

/// From the arbiter to the front.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToFront {
    /// First message. Descriptors: a memfd with the configuration as `--print-config` text; then, if `access_log`,
    /// the access log.
    Configure {
        /// A second descriptor, the access log, follows.
        access_log: bool,
        /// The numbers of its pools, in their order; empty = they are numbered in that order.
        numbers: Vec<PoolId>,
    },
    /// Read the configuration that is to follow: pools with numbers that are nobody's come into being, and may be sent
    /// queues and workers; nothing else changes yet. Answered by `Prepared` or `Unprepared`. Descriptor: a memfd with
    /// the configuration.
    Prepare {
        /// The numbers of its pools, in their order. Those that exist already stay as they are.
        numbers: Vec<PoolId>,
    },
    /// Route by the configuration that was prepared. Pools that it does not have finish what they have, and are
    /// reported by `PoolDrained`.
    Change {
        /// Milliseconds after which requests that still wait in one of those are refused.
        grace_ms: u64,
    },
    /// The configuration that was prepared does not come to anything.
    Discard,
    /// A pool is gone: its number may be another's from now on.
    FreePool {
        /// The pool.
        pool: PoolId,
    },
    /// A listener to accept from once `Serve` came. Descriptor: the listening socket.
    Listener {
        /// Web servers speak FastCGI there: its place among such listeners. `None` = HTTP.
        fastcgi: Option<u16>,
    },
    /// A pool's pull queue (a SOCK_SEQPACKET socketpair). Descriptors: sending end, receiving end.
    Queue {
        /// The pool.
        pool: PoolId,
    },
    /// A worker was spawned, or is handed over after a front died. Descriptors: its board (a memfd of one page), then
    /// its channel if `channel`.
    Worker {
        /// The pool it belongs to.
        pool: PoolId,
        /// Its identifier.
        worker: WorkerId,
        /// Spawn order within the arbiter.
        age: u32,
        /// Its process.
        pid: i32,
        /// How to speak to it.
        protocol: Protocol,
        /// Path of its FastCGI listening socket; empty if none.
        path: String,
        /// Its channel for the pipe protocol follows as second descriptor.
        channel: bool,
        /// Set if it is ready already (handed over from an earlier front).
        ready: Option<Ready>,
    },
    /// The read end of a ready worker's stdout and stderr. Descriptor: the pipe. The arbiter reads it until the worker
    /// is ready, the front from here on.
    Output {
        /// The worker.
        worker: WorkerId,
    },
    /// Give the worker no more requests, tell it to drain, and answer `Drained` when its last request ended.
    Retire {
        /// The worker.
        worker: WorkerId,
    },
    /// A worker's process was reaped. What it was executing failed, unless its last bytes complete it.
    Exited {
        /// The worker.
        worker: WorkerId,
        /// In words: `exited with code 1`, `was killed by SIGKILL (sent by the arbiter: overdue)`.
        cause: String,
    },
    /// What an overdue worker was doing (state, wchan, syscall), taken before it was signalled.
    Facts {
        /// The worker.
        worker: WorkerId,
        /// One line, printable.
        text: String,
    },
    /// There is no room for so many workers that pools ask for: spare others when they are idle. 0 = there is.
    Crowded {
        /// How many.
        workers: u32,
    },
    /// A pool cannot start: fail its requests.
    PoolDown {
        /// The pool.
        pool: PoolId,
        /// Until the next try.
        retry_ms: u64,
    },
    /// That is over, or not known any more.
    PoolUp {
        /// The pool.
        pool: PoolId,
    },
    /// Start accepting.
    Serve,
    /// Stop accepting, serve what is queued and running, close idle connections, then answer `Finished` and exit 0.
    Drain {
        /// Milliseconds; 0 = quick: cut what is running now.
        grace_ms: u64,
    },
    /// Log files were opened again. Descriptors: error log if `error_log`, then access log if `access_log`.
    Reopen {
        /// An error log descriptor follows: it replaces descriptor 2.
        error_log: bool,
        /// An access log descriptor follows.
        access_log: bool,
    },
}

/// From the front to the arbiter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToArbiter {
    /// The configuration was read and applied; listeners and workers may follow.
    Configured,
    /// The configuration or a resource was refused; the front exits after this.
    Refused {
        /// Why, for the log.
        reason: String,
    },
    /// The loop still turns; sent once a second.
    Heartbeat,
    /// A worker accepts requests from now on.
    WorkerReady {
        /// The worker.
        worker: WorkerId,
        /// What is known of it.
        ready: Ready,
    },
    /// A retiring worker's last request ended: it may be stopped.
    Drained {
        /// The worker.
        worker: WorkerId,
    },
    /// A worker has passed its deadline: answer `Facts`, then ABRT, then KILL its process group after 2 s.
    Overdue {
        /// The worker.
        worker: WorkerId,
    },
    /// A worker broke its protocol or its connection: replace it.
    Faulty {
        /// The worker.
        worker: WorkerId,
        /// Why, printable, for the log.
        reason: String,
    },
    /// A worker has part of a request's body, and the rest will never come: kill it before it takes the part for all.
    CutBody {
        /// The worker.
        worker: WorkerId,
    },
    /// A worker has answered a request to its end; said once of each.
    Served {
        /// The worker.
        worker: WorkerId,
    },
    /// A worker served its share (`max_requests`): start its replacement, then retire it.
    Spent {
        /// The worker.
        worker: WorkerId,
    },
    /// A worker can be spared for a pool that there is no room for: stop it, and do not replace it.
    Yielded {
        /// The worker.
        worker: WorkerId,
    },
    /// Draining ended; the front exits 0.
    Finished,
    /// The configuration of `Prepare` was read.
    Prepared,
    /// It could not be.
    Unprepared {
        /// Why, for the log.
        reason: String,
    },
    /// A pool that leaves has no request any more that needs a worker.
    PoolDrained {
        /// The pool.
        pool: PoolId,
    },
    /// Nor one that a client still reads the response of.
    PoolUnused {
        /// The pool.
        pool: PoolId,
    },
    /// The requests of a pool whose size follows them need so many workers.
    Demand {
        /// The pool.
        pool: PoolId,
        /// How many, in all.
        workers: u32,
    },
}
