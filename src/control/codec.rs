//! Control messages as packets: a version byte, a kind byte, then the fields in the order the enums list them.
//!
//! Integers are big-endian; a text is a 32-bit length and UTF-8; a flag is one byte, 0 or 1. Both ends are the same
//! build except during an upgrade, so a packet of another version is refused as a whole instead of guessed at.
//! Never here: descriptors (`fds` only counts them), sockets.

#![cfg_attr(
    not(test),
    warn(
        clippy::indexing_slicing,
        clippy::cast_possible_truncation,
        clippy::wildcard_enum_match_arm
    )
)]

use super::{Protocol, Ready, ToArbiter, ToFront};
use crate::base::ids::{PoolId, WorkerId};

/// The version this build speaks.
pub const VERSION: u8 = 1;

/// The longest text that travels, in bytes; a longer one is cut at a character. Keeps every packet under 64 KiB.
pub const TEXT_LIMIT: usize = 16 * 1024;

/// The most pools that one message can number, so that it stays under 64 KiB.
pub const POOLS_LIMIT: usize = 16 * 1024;

/// Why a packet is not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The other end is another build.
    #[error("control packet has version {0}, expected {VERSION}")]
    Version(u8),
    /// No message has this kind.
    #[error("control packet has unknown kind {0}")]
    Kind(u8),
    /// A field is missing or cut.
    #[error("control packet ends inside a field")]
    Short,
    /// Bytes are left over after the last field.
    #[error("control packet has {0} bytes after its last field")]
    Trailing(usize),
    /// A field holds a value that is not allowed there.
    #[error("control packet has an invalid {0}")]
    Value(&'static str),
}

/// A message that travels over the control channel.
pub trait Message: Sized {
    /// Appends kind and fields.
    fn write(&self, out: &mut Vec<u8>);
    /// Reads the fields of kind `kind`.
    fn read(kind: u8, fields: &mut Fields<'_>) -> Result<Self, Error>;
}

/// One message as one packet.
#[must_use]
pub fn encode<M: Message>(message: &M) -> Vec<u8> {
    let mut out = vec![VERSION];
    message.write(&mut out);
    out
}

/// One packet as one message.
///
/// Any input gives a message or an error; nothing panics, and nothing is allocated beyond the packet's own length.
pub fn decode<M: Message>(packet: &[u8]) -> Result<M, Error> {
    let mut fields = Fields { rest: packet };
    let version = fields.u8()?;
    if version != VERSION {
        return Err(Error::Version(version));
    }
    let kind = fields.u8()?;
    let message = M::read(kind, &mut fields)?;
    match fields.rest.len() {
        0 => Ok(message),
        left => Err(Error::Trailing(left)),
    }
}

/// How many descriptors travel beside a message.
#[must_use]
pub fn fds(message: &ToFront) -> usize {
    match message {
        ToFront::Configure { access_log, .. } => 1 + usize::from(*access_log),
        ToFront::Listener { .. } | ToFront::Output { .. } | ToFront::Prepare { .. } => 1,
        ToFront::Queue { .. } => 2,
        ToFront::Worker { channel, .. } => 1 + usize::from(*channel),
        ToFront::Reopen { error_log, access_log } => usize::from(*error_log) + usize::from(*access_log),
        ToFront::Retire { .. }
        | ToFront::Exited { .. }
        | ToFront::Facts { .. }
        | ToFront::Crowded { .. }
        | ToFront::PoolDown { .. }
        | ToFront::PoolUp { .. }
        | ToFront::Serve
        | ToFront::Change { .. }
        | ToFront::Discard
        | ToFront::FreePool { .. }
        | ToFront::Drain { .. } => 0,
    }
}

impl Message for ToFront {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Configure { access_log, numbers } => {
                out.push(1);
                flag(out, *access_log);
                write_pools(out, numbers);
            }
            Self::Listener { fastcgi } => {
                out.push(2);
                flag(out, fastcgi.is_some());
                if let Some(place) = fastcgi {
                    out.extend(place.to_be_bytes());
                }
            }
            Self::Queue { pool } => {
                out.push(3);
                out.extend(pool.0.to_be_bytes());
            }
            Self::Worker {
                pool,
                worker,
                age,
                pid,
                protocol,
                path,
                channel,
                ready,
            } => {
                out.push(4);
                out.extend(pool.0.to_be_bytes());
                out.extend(worker.0.to_be_bytes());
                out.extend(age.to_be_bytes());
                out.extend(pid.to_be_bytes());
                out.push(protocol_number(*protocol));
                text(out, path);
                flag(out, *channel);
                flag(out, ready.is_some());
                if let Some(ready) = ready {
                    write_ready(out, ready);
                }
            }
            Self::Output { worker } => worker_only(out, 5, *worker),
            Self::Retire { worker } => worker_only(out, 6, *worker),
            Self::Exited { worker, cause } => {
                worker_only(out, 7, *worker);
                text(out, cause);
            }
            Self::Facts { worker, text: facts } => {
                worker_only(out, 8, *worker);
                text(out, facts);
            }
            Self::Serve => out.push(9),
            Self::Drain { grace_ms } => {
                out.push(10);
                out.extend(grace_ms.to_be_bytes());
            }
            Self::Reopen { error_log, access_log } => {
                out.push(11);
                flag(out, *error_log);
                flag(out, *access_log);
            }
            Self::Crowded { workers } => {
                out.push(16);
                out.extend(workers.to_be_bytes());
            }
            Self::PoolDown { pool, retry_ms } => {
                out.push(17);
                out.extend(pool.0.to_be_bytes());
                out.extend(retry_ms.to_be_bytes());
            }
            Self::PoolUp { pool } => {
                out.push(18);
                out.extend(pool.0.to_be_bytes());
            }
            Self::Prepare { numbers } => {
                out.push(12);
                write_pools(out, numbers);
            }
            Self::Change { grace_ms } => {
                out.push(13);
                out.extend(grace_ms.to_be_bytes());
            }
            Self::Discard => out.push(14),
            Self::FreePool { pool } => {
                out.push(15);
                out.extend(pool.0.to_be_bytes());
            }
        }
    }

    fn read(kind: u8, fields: &mut Fields<'_>) -> Result<Self, Error> {
        Ok(match kind {
            1 => Self::Configure {
                access_log: fields.flag()?,
                numbers: fields.pools()?,
            },
            2 => {
                let fastcgi = if fields.flag()? { Some(fields.u16()?) } else { None };
                Self::Listener { fastcgi }
            }
            3 => Self::Queue {
                pool: PoolId(fields.u16()?),
            },
            4 => Self::Worker {
                pool: PoolId(fields.u16()?),
                worker: fields.worker()?,
                age: fields.u32()?,
                pid: i32::from_be_bytes(fields.array()?),
                protocol: fields.protocol()?,
                path: fields.text()?,
                channel: fields.flag()?,
                ready: if fields.flag()? { Some(fields.ready()?) } else { None },
            },
            5 => Self::Output {
                worker: fields.worker()?,
            },
            6 => Self::Retire {
                worker: fields.worker()?,
            },
            7 => Self::Exited {
                worker: fields.worker()?,
                cause: fields.text()?,
            },
            8 => Self::Facts {
                worker: fields.worker()?,
                text: fields.text()?,
            },
            9 => Self::Serve,
            10 => Self::Drain {
                grace_ms: u64::from_be_bytes(fields.array()?),
            },
            11 => Self::Reopen {
                error_log: fields.flag()?,
                access_log: fields.flag()?,
            },
            16 => Self::Crowded { workers: fields.u32()? },
            17 => Self::PoolDown {
                pool: PoolId(fields.u16()?),
                retry_ms: u64::from_be_bytes(fields.array()?),
            },
            18 => Self::PoolUp {
                pool: PoolId(fields.u16()?),
            },
            12 => Self::Prepare {
                numbers: fields.pools()?,
            },
            13 => Self::Change {
                grace_ms: u64::from_be_bytes(fields.array()?),
            },
            14 => Self::Discard,
            15 => Self::FreePool {
                pool: PoolId(fields.u16()?),
            },
            other => return Err(Error::Kind(other)),
        })
    }
}

impl Message for ToArbiter {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Configured => out.push(1),
            Self::Refused { reason } => {
                out.push(2);
                text(out, reason);
            }
            Self::Heartbeat => out.push(3),
            Self::WorkerReady { worker, ready } => {
                worker_only(out, 4, *worker);
                write_ready(out, ready);
            }
            Self::Drained { worker } => worker_only(out, 5, *worker),
            Self::Overdue { worker } => worker_only(out, 6, *worker),
            Self::Faulty { worker, reason } => {
                worker_only(out, 7, *worker);
                text(out, reason);
            }
            Self::Spent { worker } => worker_only(out, 8, *worker),
            Self::Finished => out.push(9),
            Self::Demand { pool, workers } => {
                out.push(10);
                out.extend_from_slice(&pool.0.to_be_bytes());
                out.extend_from_slice(&workers.to_be_bytes());
            }
            Self::Yielded { worker } => worker_only(out, 15, *worker),
            Self::CutBody { worker } => worker_only(out, 16, *worker),
            Self::Served { worker } => worker_only(out, 17, *worker),
            Self::Prepared => out.push(11),
            Self::Unprepared { reason } => {
                out.push(12);
                text(out, reason);
            }
            Self::PoolDrained { pool } => {
                out.push(13);
                out.extend_from_slice(&pool.0.to_be_bytes());
            }
            Self::PoolUnused { pool } => {
                out.push(14);
                out.extend_from_slice(&pool.0.to_be_bytes());
            }
        }
    }

    fn read(kind: u8, fields: &mut Fields<'_>) -> Result<Self, Error> {
        Ok(match kind {
            1 => Self::Configured,
            2 => Self::Refused { reason: fields.text()? },
            3 => Self::Heartbeat,
            4 => Self::WorkerReady {
                worker: fields.worker()?,
                ready: fields.ready()?,
            },
            5 => Self::Drained {
                worker: fields.worker()?,
            },
            6 => Self::Overdue {
                worker: fields.worker()?,
            },
            7 => Self::Faulty {
                worker: fields.worker()?,
                reason: fields.text()?,
            },
            8 => Self::Spent {
                worker: fields.worker()?,
            },
            9 => Self::Finished,
            10 => Self::Demand {
                pool: PoolId(fields.u16()?),
                workers: fields.u32()?,
            },
            15 => Self::Yielded {
                worker: fields.worker()?,
            },
            16 => Self::CutBody {
                worker: fields.worker()?,
            },
            17 => Self::Served {
                worker: fields.worker()?,
            },
            11 => Self::Prepared,
            12 => Self::Unprepared { reason: fields.text()? },
            13 => Self::PoolDrained {
                pool: PoolId(fields.u16()?),
            },
            14 => Self::PoolUnused {
                pool: PoolId(fields.u16()?),
            },
            other => return Err(Error::Kind(other)),
        })
    }
}

fn flag(out: &mut Vec<u8>, on: bool) {
    out.push(u8::from(on));
}

fn text(out: &mut Vec<u8>, text: &str) {
    let cut = text.get(..text.floor_char_boundary(TEXT_LIMIT)).unwrap_or_default();
    out.extend(u32::try_from(cut.len()).unwrap_or(0).to_be_bytes());
    out.extend_from_slice(cut.as_bytes());
}

/// A number of pools that fits the count before them; `POOLS_LIMIT` is for those who send them.
fn write_pools(out: &mut Vec<u8>, pools: &[PoolId]) {
    let pools = pools.get(..POOLS_LIMIT).unwrap_or(pools);
    out.extend(u16::try_from(pools.len()).unwrap_or(0).to_be_bytes());
    for pool in pools {
        out.extend(pool.0.to_be_bytes());
    }
}

fn worker_only(out: &mut Vec<u8>, kind: u8, worker: WorkerId) {
    out.push(kind);
    out.extend(worker.0.to_be_bytes());
}

fn write_ready(out: &mut Vec<u8>, ready: &Ready) {
    out.push(protocol_number(ready.protocol));
    out.extend(ready.slots.to_be_bytes());
    out.push(ready.flags);
}

fn protocol_number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Auto => 0,
        Protocol::FastCgi => 1,
        Protocol::Pipe => 2,
    }
}

/// The fields of a packet that were not read yet.
#[derive(Debug)]
pub struct Fields<'p> {
    rest: &'p [u8],
}

impl<'p> Fields<'p> {
    fn take(&mut self, count: usize) -> Result<&'p [u8], Error> {
        let (head, rest) = self.rest.split_at_checked(count).ok_or(Error::Short)?;
        self.rest = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(Error::Short)?;
        self.rest = rest;
        Ok(*head)
    }

    fn u8(&mut self) -> Result<u8, Error> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    fn u16(&mut self) -> Result<u16, Error> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, Error> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    fn flag(&mut self) -> Result<bool, Error> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Error::Value("flag")),
        }
    }

    fn text(&mut self) -> Result<String, Error> {
        let length = usize::try_from(self.u32()?).map_err(|_| Error::Short)?;
        if length > TEXT_LIMIT {
            return Err(Error::Value("text length"));
        }
        let bytes = self.take(length)?;
        let text = std::str::from_utf8(bytes).map_err(|_| Error::Value("text"))?;
        Ok(text.to_owned())
    }

    fn pools(&mut self) -> Result<Vec<PoolId>, Error> {
        let count = usize::from(self.u16()?);
        if count > POOLS_LIMIT {
            return Err(Error::Value("number of pools"));
        }
        let (pairs, _) = self.take(count * 2)?.as_chunks::<2>();
        Ok(pairs.iter().map(|pair| PoolId(u16::from_be_bytes(*pair))).collect())
    }

    fn worker(&mut self) -> Result<WorkerId, Error> {
        Ok(WorkerId(self.u32()?))
    }

    fn protocol(&mut self) -> Result<Protocol, Error> {
        match self.u8()? {
            0 => Ok(Protocol::Auto),
            1 => Ok(Protocol::FastCgi),
            2 => Ok(Protocol::Pipe),
            _ => Err(Error::Value("protocol")),
        }
    }

    fn ready(&mut self) -> Result<Ready, Error> {
        let ready = Ready {
            protocol: self.protocol()?,
            slots: self.u16()?,
            flags: self.u8()?,
        };
        if ready.protocol == Protocol::Auto {
            return Err(Error::Value("protocol of a ready worker"));
        }
        if ready.slots == 0 {
            return Err(Error::Value("slot count"));
        }
        Ok(ready)
    }
}

#[cfg(test)]
mod tests;
