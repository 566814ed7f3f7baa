//! Messages there and back, cut, corrupted, and refused.

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

fn pools() -> impl Strategy<Value = Vec<PoolId>> {
    proptest::collection::vec(pool(), 0..20)
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
        (any::<bool>(), pools()).prop_map(|(access_log, numbers)| ToFront::Configure { access_log, numbers }),
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
        pools().prop_map(|numbers| ToFront::Prepare { numbers }),
        any::<u64>().prop_map(|grace_ms| ToFront::Change { grace_ms }),
        Just(ToFront::Discard),
        pool().prop_map(|pool| ToFront::FreePool { pool }),
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
        worker().prop_map(|worker| ToArbiter::CutBody { worker }),
        worker().prop_map(|worker| ToArbiter::Served { worker }),
        Just(ToArbiter::Prepared),
        any::<String>().prop_map(|reason| ToArbiter::Unprepared { reason }),
        pool().prop_map(|pool| ToArbiter::PoolDrained { pool }),
        pool().prop_map(|pool| ToArbiter::PoolUnused { pool }),
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
    case(&[VERSION, 12, 0x40, 0x01], Error::Value("number of pools"));
    case(&[VERSION, 12, 0, 2, 0, 1, 0], Error::Short);
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
fn as_many_pools_as_allowed_fit_one_packet() {
    let numbers: Vec<PoolId> = (0..).take(POOLS_LIMIT).map(PoolId).collect();
    let packet = encode(&ToFront::Prepare {
        numbers: numbers.clone(),
    });
    assert!(packet.len() < 64 * 1024);
    assert_eq!(decode(&packet), Ok(ToFront::Prepare { numbers }));
}

#[test]
fn descriptors_are_counted_as_documented() {
    let configure = |access_log| ToFront::Configure {
        access_log,
        numbers: Vec::new(),
    };
    assert_eq!(fds(&configure(false)), 1);
    assert_eq!(fds(&configure(true)), 2);
    assert_eq!(fds(&ToFront::Prepare { numbers: Vec::new() }), 1);
    assert_eq!(fds(&ToFront::Queue { pool: PoolId(0) }), 2);
    assert_eq!(fds(&ToFront::Serve), 0);
    let reopen = ToFront::Reopen {
        error_log: true,
        access_log: true,
    };
    assert_eq!(fds(&reopen), 2);
}
