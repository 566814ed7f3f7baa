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
        ToFront::Configure { access_log } => 1 + usize::from(*access_log),
        ToFront::Listener { .. } | ToFront::Output { .. } => 1,
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
        | ToFront::Drain { .. } => 0,
    }
}

impl Message for ToFront {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Configure { access_log } => {
                out.push(1);
                flag(out, *access_log);
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
                out.push(12);
                out.extend(workers.to_be_bytes());
            }
            Self::PoolDown { pool, retry_ms } => {
                out.push(13);
                out.extend(pool.0.to_be_bytes());
                out.extend(retry_ms.to_be_bytes());
            }
            Self::PoolUp { pool } => {
                out.push(14);
                out.extend(pool.0.to_be_bytes());
            }
        }
    }

    fn read(kind: u8, fields: &mut Fields<'_>) -> Result<Self, Error> {
        Ok(match kind {
            1 => Self::Configure {
                access_log: fields.flag()?,
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
            12 => Self::Crowded { workers: fields.u32()? },
            13 => Self::PoolDown {
                pool: PoolId(fields.u16()?),
                retry_ms: u64::from_be_bytes(fields.array()?),
            },
            14 => Self::PoolUp {
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
            Self::Yielded { worker } => worker_only(out, 11, *worker),
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
            11 => Self::Yielded {
                worker: fields.worker()?,
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
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fmt::Debug;

    fn protocol() -> impl Strategy<Value = Protocol> {
        prop_oneof![Just(Protocol::Auto), Just(Protocol::FastCgi), Just(Protocol::Pipe)]
    }

    fn ready() -> impl Strategy<Value = Ready> {
        (
            prop_oneof![Just(Protocol::FastCgi), Just(Protocol::Pipe)],
            1..=u16::MAX,
            any::<u8>(),
        )
            .prop_map(|(protocol, slots, flags)| Ready { protocol, slots, flags })
    }

    fn worker() -> impl Strategy<Value = WorkerId> {
        any::<u32>().prop_map(WorkerId)
    }

    fn pool() -> impl Strategy<Value = PoolId> {
        any::<u16>().prop_map(PoolId)
    }

    fn spawned() -> impl Strategy<Value = ToFront> {
        (
            pool(),
            worker(),
            any::<u32>(),
            any::<i32>(),
            protocol(),
            any::<String>(),
            any::<bool>(),
            proptest::option::of(ready()),
        )
            .prop_map(
                |(pool, worker, age, pid, protocol, path, channel, ready)| ToFront::Worker {
                    pool,
                    worker,
                    age,
                    pid,
                    protocol,
                    path,
                    channel,
                    ready,
                },
            )
    }

    fn to_front() -> impl Strategy<Value = ToFront> {
        prop_oneof![
            any::<bool>().prop_map(|access_log| ToFront::Configure { access_log }),
            any::<Option<u16>>().prop_map(|fastcgi| ToFront::Listener { fastcgi }),
            pool().prop_map(|pool| ToFront::Queue { pool }),
            spawned(),
            worker().prop_map(|worker| ToFront::Output { worker }),
            worker().prop_map(|worker| ToFront::Retire { worker }),
            (worker(), any::<String>()).prop_map(|(worker, cause)| ToFront::Exited { worker, cause }),
            (worker(), any::<String>()).prop_map(|(worker, text)| ToFront::Facts { worker, text }),
            Just(ToFront::Serve),
            any::<u64>().prop_map(|grace_ms| ToFront::Drain { grace_ms }),
            any::<(bool, bool)>().prop_map(|(error_log, access_log)| ToFront::Reopen { error_log, access_log }),
            any::<u32>().prop_map(|workers| ToFront::Crowded { workers }),
            (pool(), any::<u64>()).prop_map(|(pool, retry_ms)| ToFront::PoolDown { pool, retry_ms }),
            pool().prop_map(|pool| ToFront::PoolUp { pool }),
        ]
    }

    fn to_arbiter() -> impl Strategy<Value = ToArbiter> {
        prop_oneof![
            Just(ToArbiter::Configured),
            any::<String>().prop_map(|reason| ToArbiter::Refused { reason }),
            Just(ToArbiter::Heartbeat),
            (worker(), ready()).prop_map(|(worker, ready)| ToArbiter::WorkerReady { worker, ready }),
            worker().prop_map(|worker| ToArbiter::Drained { worker }),
            worker().prop_map(|worker| ToArbiter::Overdue { worker }),
            (worker(), any::<String>()).prop_map(|(worker, reason)| ToArbiter::Faulty { worker, reason }),
            worker().prop_map(|worker| ToArbiter::Spent { worker }),
            Just(ToArbiter::Finished),
            (pool(), any::<u32>()).prop_map(|(pool, workers)| ToArbiter::Demand { pool, workers }),
            worker().prop_map(|worker| ToArbiter::Yielded { worker }),
        ]
    }

    /// A message survives the trip, and no shorter or longer packet is taken for one.
    fn check<M: Message + PartialEq + Debug>(message: &M) {
        let packet = encode(message);
        assert_eq!(decode::<M>(&packet).as_ref(), Ok(message));
        for cut in 0..packet.len() {
            assert_eq!(decode::<M>(&packet[..cut]), Err(Error::Short), "cut at {cut}");
        }
        let longer: Vec<u8> = packet.iter().copied().chain([0]).collect();
        assert_eq!(decode::<M>(&longer), Err(Error::Trailing(1)));
    }

    /// Whatever one changed byte means, it is a message of the same length or an error.
    fn corrupt<M: Message + PartialEq + Debug>(message: &M, place: usize, byte: u8) {
        let mut packet = encode(message);
        let place = place % packet.len();
        packet[place] = byte;
        if let Ok(other) = decode::<M>(&packet) {
            assert_eq!(encode(&other), packet);
        }
    }

    proptest! {
        #[test]
        fn messages_to_the_front_survive_the_trip(message in to_front()) {
            check(&message);
        }

        #[test]
        fn messages_to_the_arbiter_survive_the_trip(message in to_arbiter()) {
            check(&message);
        }

        #[test]
        fn a_changed_byte_is_refused_or_means_exactly_what_it_says(
            front in to_front(), arbiter in to_arbiter(), place in any::<usize>(), byte in any::<u8>(),
        ) {
            corrupt(&front, place, byte);
            corrupt(&arbiter, place, byte);
        }

        #[test]
        fn descriptor_counts_fit_one_packet(message in to_front()) {
            prop_assert!(fds(&message) <= 2);
        }
    }

    #[test]
    fn refusals_name_what_is_wrong() {
        let case = |packet: &[u8], expected: Error| assert_eq!(decode::<ToFront>(packet), Err(expected), "{packet:?}");
        case(&[], Error::Short);
        case(&[2, 9], Error::Version(2));
        case(&[VERSION, 0], Error::Kind(0));
        case(&[VERSION, 99], Error::Kind(99));
        case(&[VERSION, 1, 2], Error::Value("flag"));
        case(&[VERSION, 7, 0, 0, 0, 0, 0, 0, 0, 1, 0xff], Error::Value("text"));
        case(
            &[VERSION, 7, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff],
            Error::Value("text length"),
        );
        case(&[VERSION, 2, 1, 0], Error::Short);
        let auto = [VERSION, 4, 0, 0, 0, 1, 0, 0, 1, 0];
        assert_eq!(
            decode::<ToArbiter>(&auto),
            Err(Error::Value("protocol of a ready worker"))
        );
        let slotless = [VERSION, 4, 0, 0, 0, 1, 1, 0, 0, 0];
        assert_eq!(decode::<ToArbiter>(&slotless), Err(Error::Value("slot count")));
    }

    #[test]
    fn long_texts_are_cut_at_a_character() {
        let reason = "ä".repeat(TEXT_LIMIT);
        let packet = encode(&ToArbiter::Refused { reason: reason.clone() });
        let Ok(ToArbiter::Refused { reason: cut }) = decode(&packet) else {
            panic!("a long text is still a message");
        };
        assert_eq!(cut, reason[..TEXT_LIMIT]);
        let odd = format!("x{reason}");
        let packet = encode(&ToArbiter::Refused { reason: odd });
        assert!(packet.len() <= TEXT_LIMIT + 16);
        assert!(decode::<ToArbiter>(&packet).is_ok());
    }

    #[test]
    fn descriptors_are_counted_as_documented() {
        assert_eq!(fds(&ToFront::Configure { access_log: false }), 1);
        assert_eq!(fds(&ToFront::Configure { access_log: true }), 2);
        assert_eq!(fds(&ToFront::Queue { pool: PoolId(0) }), 2);
        assert_eq!(fds(&ToFront::Serve), 0);
        let reopen = ToFront::Reopen {
            error_log: true,
            access_log: true,
        };
        assert_eq!(fds(&reopen), 2);
    }
}
