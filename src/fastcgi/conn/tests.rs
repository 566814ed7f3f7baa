use super::*;
use crate::base::fault::Fault;
use proptest::prelude::*;

/// A record as an application may write it, with any padding.
fn record(kind: RecordType, id: u16, content: &[u8], padding: u8) -> Vec<u8> {
    let header = Header {
        kind,
        id,
        content: u16::try_from(content.len()).unwrap(),
        padding,
    };
    let mut out = header.encode().to_vec();
    out.extend_from_slice(content);
    // Padding may hold anything, bytes that look like a record too.
    out.resize(out.len() + usize::from(padding), 1);
    out
}

fn stdout(content: &[u8], padding: u8) -> Vec<u8> {
    record(RecordType::STDOUT, 1, content, padding)
}

fn end(app_status: u32, status: u8, padding: u8) -> Vec<u8> {
    let mut content = app_status.to_be_bytes().to_vec();
    content.extend_from_slice(&[status, 0, 0, 0]);
    record(RecordType::END_REQUEST, 1, &content, padding)
}

fn begun() -> Conn {
    let mut conn = Conn::new();
    conn.begin(b"", true, &mut Vec::new()).unwrap();
    conn
}

/// What a stream means; parts of one stream joined, so that it is the same however it was cut.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Stdout(Vec<u8>),
    Stderr(Vec<u8>),
    End(u32, ProtocolStatus),
    Values(Values),
    Unknown(u8),
    Error(Error),
}

/// Everything in `input`, given in parts of `size` bytes.
fn run(conn: &mut Conn, input: &[u8], size: usize) -> Vec<Seen> {
    let mut seen = Vec::new();
    for part in input.chunks(size) {
        let mut rest = part;
        loop {
            let (used, event) = match conn.step(rest) {
                Ok(result) => result,
                Err(error) => {
                    assert_eq!((error.fault(), error.status()), (Fault::Worker, 502));
                    seen.push(Seen::Error(error));
                    return seen;
                }
            };
            rest = &rest[used..];
            match event {
                Event::NeedData => {
                    assert!(rest.is_empty(), "NeedData uses everything");
                    break;
                }
                Event::Stdout(data) => {
                    assert!(!data.is_empty());
                    match seen.last_mut() {
                        Some(Seen::Stdout(before)) => before.extend_from_slice(data),
                        _ => seen.push(Seen::Stdout(data.to_vec())),
                    }
                }
                Event::Stderr(data) => {
                    assert!(!data.is_empty());
                    match seen.last_mut() {
                        Some(Seen::Stderr(before)) => before.extend_from_slice(data),
                        _ => seen.push(Seen::Stderr(data.to_vec())),
                    }
                }
                Event::End { app_status, status } => seen.push(Seen::End(app_status, status)),
                Event::Values(values) => seen.push(Seen::Values(values)),
                Event::Unknown(kind) => seen.push(Seen::Unknown(kind)),
            }
        }
    }
    seen
}

/// Every row whole, byte by byte, in fives, and with a record behind it that must be ignored.
fn check(name: &str, parts: &[Vec<u8>], expected: &[Seen]) {
    let input = parts.concat();
    let trailing = [&input[..], &record(RecordType::STDOUT, 2, b"x", 3)].concat();
    for (input, size) in [
        (&input, usize::MAX),
        (&input, 1),
        (&input, 5),
        (&trailing, usize::MAX),
        (&trailing, 1),
    ] {
        let mut conn = begun();
        conn.end_stdin(&mut Vec::new());
        assert_eq!(run(&mut conn, input, size), expected, "{name} in parts of {size}");
        let is_over = matches!(expected.last(), Some(Seen::End(..)));
        let is_error = matches!(expected.last(), Some(Seen::Error(_)));
        if !is_error {
            assert_eq!(conn.is_active(), !is_over, "{name}");
            assert_eq!(conn.is_reusable(), is_over, "{name}");
            assert_eq!(conn.eof().is_ok(), is_over, "{name}");
        }
    }
}

const DONE: Seen = Seen::End(0, ProtocolStatus::Complete);

fn out(text: &[u8]) -> Seen {
    Seen::Stdout(text.to_vec())
}

#[test]
fn responses_are_read() {
    let long = vec![b'a'; 65_535];
    check("the least", &[end(0, 0, 0)], &[DONE]);
    check(
        "as libfcgi ends",
        &[
            stdout(b"hello", 3),
            stdout(b"", 0),
            record(RecordType::STDERR, 1, b"", 0),
            end(0, 0, 0),
        ],
        &[out(b"hello"), DONE],
    );
    check(
        "no empty STDOUT record",
        &[stdout(b"a", 0), stdout(b"b", 7), end(0, 0, 8)],
        &[out(b"ab"), DONE],
    );
    check(
        "the streams interleave",
        &[
            stdout(b"a", 1),
            record(RecordType::STDERR, 1, b"oops", 4),
            stdout(b"b", 255),
            end(0x0102_0304, 0, 255),
        ],
        &[
            out(b"a"),
            Seen::Stderr(b"oops".to_vec()),
            out(b"b"),
            Seen::End(0x0102_0304, ProtocolStatus::Complete),
        ],
    );
    check(
        "empty records with padding",
        &[stdout(b"", 255), record(RecordType::STDERR, 1, b"", 8), end(0, 0, 0)],
        &[DONE],
    );
    check(
        "the longest record",
        &[stdout(&long, 255), end(0, 0, 0)],
        &[out(&long), DONE],
    );
    check(
        "output after the end of its stream is still output",
        &[stdout(b"", 0), stdout(b"late", 0), end(0, 0, 0)],
        &[out(b"late"), DONE],
    );
}

#[test]
fn refusals_are_told_apart() {
    let rows = [
        (1, ProtocolStatus::CantMultiplex),
        (2, ProtocolStatus::Overloaded),
        (3, ProtocolStatus::UnknownRole),
    ];
    for (byte, status) in rows {
        check("not run", &[end(0, byte, 0)], &[Seen::End(0, status)]);
        assert!(!status.is_run());
    }
    assert!(ProtocolStatus::Complete.is_run());
}

#[test]
fn other_records_are_skipped_or_reported() {
    check(
        "other request ids",
        &[
            record(RecordType::STDOUT, 2, b"not ours", 8),
            record(RecordType::END_REQUEST, 0xff01, b"short", 0),
            record(RecordType::BEGIN_REQUEST, 256, b"", 0),
            record(RecordType(99), 2, b"", 0),
            end(0, 0, 0),
        ],
        &[DONE],
    );
    check(
        "types we do not know",
        &[
            record(RecordType(12), 1, b"abc", 5),
            record(RecordType(0), 1, b"", 0),
            record(RecordType(255), 0, b"d", 0),
            stdout(b"a", 0),
        ],
        &[Seen::Unknown(12), Seen::Unknown(0), Seen::Unknown(255), out(b"a")],
    );
    check(
        "a type the application does not know",
        &[record(RecordType::UNKNOWN_TYPE, 0, &[9, 1, 1, 1, 1, 1, 1, 1], 9)],
        &[Seen::Unknown(9)],
    );
}

#[test]
fn values_are_read() {
    let answer = |pairs: &[(&[u8], &[u8])]| {
        let mut content = Vec::new();
        for (name, value) in pairs {
            pairs::write(name, value, &mut content);
        }
        record(RecordType::GET_VALUES_RESULT, 0, &content, 6)
    };
    let all = Values {
        max_conns: Some(1),
        max_reqs: Some(50),
        multiplexes: Some(false),
    };
    check(
        "all of them, and one more",
        &[answer(&[
            (b"FCGI_MPXS_CONNS", b"0"),
            (b"FCGI_OTHER", &[b'x'; 300]),
            (b"FCGI_MAX_CONNS", b"1"),
            (b"FCGI_MAX_REQS", b"50"),
        ])],
        &[Seen::Values(all)],
    );
    check("none of them", &[answer(&[])], &[Seen::Values(Values::default())]);
    check(
        "not numbers",
        &[answer(&[
            (b"FCGI_MAX_CONNS", b""),
            (b"FCGI_MAX_REQS", b"4294967296"),
            (b"FCGI_MPXS_CONNS", b"1"),
        ])],
        &[Seen::Values(Values {
            multiplexes: Some(true),
            ..Values::default()
        })],
    );
    check(
        "two answers",
        &[answer(&[(b"FCGI_MAX_CONNS", b"1")]), answer(&[])],
        &[
            Seen::Values(Values {
                max_conns: Some(1),
                ..Values::default()
            }),
            Seen::Values(Values::default()),
        ],
    );
    check(
        "a pair cut short",
        &[record(RecordType::GET_VALUES_RESULT, 0, &[1, 2, b'a', b'b'], 0)],
        &[Seen::Error(Error::Pair { found: 4 })],
    );
}

#[test]
fn what_is_not_fastcgi_is_refused() {
    let mut version = stdout(b"a", 0);
    version[0] = 2;
    check("version", &[version], &[Seen::Error(Error::Version { found: 2 })]);
    check(
        "text instead of records",
        &[b"Content-Type: text/html\n\n".to_vec()],
        &[Seen::Error(Error::Version { found: b'C' })],
    );
    check("status", &[end(0, 4, 0)], &[Seen::Error(Error::Status { found: 4 })]);
    for length in [0, 7, 9, 65_535] {
        let found = u16::try_from(length).unwrap();
        for (kind, id) in [(RecordType::END_REQUEST, 1), (RecordType::UNKNOWN_TYPE, 0)] {
            check(
                "length",
                &[record(kind, id, &vec![0; length], 0)],
                &[Seen::Error(Error::ContentLength { kind, found })],
            );
        }
    }
    for kind in (1..=11).map(RecordType) {
        let is_management = matches!(kind, RecordType::GET_VALUES_RESULT | RecordType::UNKNOWN_TYPE);
        let is_output = matches!(kind, RecordType::STDOUT | RecordType::STDERR | RecordType::END_REQUEST);
        for id in [0, 1] {
            if (id == 0 && is_management) || (id == 1 && is_output) {
                continue;
            }
            check(
                "direction or id",
                &[record(kind, id, &[0; 8], 0)],
                &[Seen::Error(Error::Misplaced { found: kind, id })],
            );
        }
    }
}

#[test]
fn records_without_a_request_are_refused() {
    for kind in [RecordType::STDOUT, RecordType::END_REQUEST, RecordType(77)] {
        for size in [1, usize::MAX] {
            let refused = Seen::Error(Error::NoRequest { found: kind });
            let late = record(kind, 1, &[0; 8], 0);
            assert_eq!(run(&mut Conn::new(), &late, size), [refused], "never begun");

            let refused = Seen::Error(Error::NoRequest { found: kind });
            let input = [end(0, 0, 5), late].concat();
            assert_eq!(run(&mut begun(), &input, size), [DONE, refused], "ended");
        }
    }
    // Management records have nothing to do with requests.
    let values = record(RecordType::GET_VALUES_RESULT, 0, b"", 0);
    assert_eq!(run(&mut Conn::new(), &values, 3), [Seen::Values(Values::default())]);
}

#[test]
fn the_end_is_used_with_its_padding() {
    let mut conn = begun();
    conn.end_stdin(&mut Vec::new());
    let input = [end(0, 0, 8), b"next".to_vec()].concat();
    let (used, event) = conn.step(&input).unwrap();
    assert!(matches!(event, Event::End { .. }));
    assert_eq!(used, input.len() - 4);

    let mut conn = begun();
    conn.end_stdin(&mut Vec::new());
    let cut = input.len() - 6;
    assert_eq!(conn.step(&input[..cut]).unwrap().0, cut);
    assert!(!conn.is_reusable(), "two bytes of padding are missing");
    assert_eq!(conn.eof(), Err(Error::Eof));
    assert_eq!(conn.step(&input[cut..cut + 2]), Ok((2, Event::NeedData)));
    assert!(conn.is_reusable());
}

#[test]
fn a_connection_serves_one_request_after_another() {
    let mut conn = Conn::new();
    for round in 0..3 {
        assert!(conn.is_reusable(), "{round}");
        let mut sent = Vec::new();
        conn.begin(b"A\0b\0", true, &mut sent).unwrap();
        assert_eq!(conn.begin(b"", true, &mut sent), Err(Error::Busy));
        conn.end_stdin(&mut sent);
        let input = [stdout(b"a", 0), end(0, 0, 0)].concat();
        assert_eq!(run(&mut conn, &input, 3), [out(b"a"), DONE]);
    }
    // An answer before the body was sent leaves the connection unfit: the rest would look like the next body.
    let mut sent = Vec::new();
    conn.begin(b"", true, &mut sent).unwrap();
    conn.send_stdin(b"half", &mut sent);
    assert_eq!(run(&mut conn, &end(0, 0, 0), 8), [DONE]);
    assert!(!conn.is_reusable());
    sent.clear();
    conn.send_stdin(b"other half", &mut sent);
    conn.end_stdin(&mut sent);
    assert!(sent.is_empty());
}

/// What an application sees: the records, each checked for padding and its place.
fn records(mut sent: &[u8]) -> Vec<(RecordType, u16, Vec<u8>)> {
    let mut list = Vec::new();
    while !sent.is_empty() {
        let header = Header::decode(*sent.first_chunk().unwrap()).unwrap();
        let content = usize::from(header.content);
        let padding = usize::from(header.padding);
        assert!(content + padding <= 65_535, "PHP refuses this record");
        assert!((8 + content + padding).is_multiple_of(8) || content > 65_528);
        assert!(padding < 8);
        assert_eq!(sent[7], 0, "the reserved byte");
        assert!(sent[8 + content..][..padding].iter().all(|byte| *byte == 0));
        list.push((header.kind, header.id, sent[8..8 + content].to_vec()));
        sent = &sent[8 + content + padding..];
    }
    list
}

/// A name and its value.
type Var = (Vec<u8>, Vec<u8>);

fn block(vars: &[Var]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in vars {
        for part in [name, value] {
            block.extend_from_slice(part);
            block.push(0);
        }
    }
    block
}

/// Begins a request and reads the variables back as PHP does: every PARAMS record by itself.
fn params(vars: &[Var]) -> (usize, Vec<Var>) {
    let mut sent = Vec::new();
    Conn::new().begin(&block(vars), false, &mut sent).unwrap();
    let list = records(&sent);
    let (begin, list) = list.split_first().unwrap();
    let (last, list) = list.split_last().unwrap();
    let role = [0, 1, 0, 0, 0, 0, 0, 0].to_vec();
    assert_eq!(*begin, (RecordType::BEGIN_REQUEST, 1, role));
    assert_eq!(*last, (RecordType::PARAMS, 1, Vec::new()));
    let mut found = Vec::new();
    for (kind, id, content) in list {
        assert_eq!((*kind, *id), (RecordType::PARAMS, 1));
        assert!(!content.is_empty(), "an empty record ends the stream");
        for pair in pairs::Pairs::new(content) {
            let (name, value) = pair.expect("pairs never straddle records");
            found.push((name.to_vec(), value.to_vec()));
        }
    }
    (list.len(), found)
}

#[test]
fn variables_fill_records_without_straddling() {
    let var = |name: usize, value: usize| (vec![b'N'; name], vec![b'v'; value]);
    // The lengths of the variables, and how many records they take.
    type Row<'a> = (&'a str, &'a [(usize, usize)], usize);
    let rows: &[Row<'_>] = &[
        ("no variables", &[], 0),
        (
            "lengths around one byte",
            &[(127, 127), (127, 128), (128, 127), (128, 128)],
            1,
        ),
        ("empty names and values", &[(0, 0), (1, 0), (0, 1)], 1),
        // 1 + 4 + 1 + 65522 = 65528: the most that still pads to 8.
        ("the longest aligned record", &[(1, 65_522)], 1),
        ("one byte more is padded less", &[(1, 65_523)], 1),
        ("the longest pair", &[(1, 65_529)], 1),
        ("two that just fit together", &[(1, 32_759), (1, 32_757)], 1),
        ("two that just do not", &[(1, 32_759), (1, 32_758)], 2),
        ("long ones alone", &[(1, 10), (1, 65_529), (1, 10), (1, 65_529)], 4),
        ("many", &[(1, 30_000); 9], 5),
    ];
    for (name, lengths, expected) in rows {
        let vars: Vec<_> = lengths.iter().map(|(name, value)| var(*name, *value)).collect();
        let (count, found) = params(&vars);
        assert_eq!(count, *expected, "{name}");
        assert!(found == vars, "{name}: variables differ");
    }
}

#[test]
fn what_cannot_be_sent_leaves_nothing_behind() {
    let long = [b"N\0".to_vec(), vec![b'v'; 65_530], b"\0".to_vec()].concat();
    let too_long = Error::PairTooLong {
        found: 65_536,
        limit: 65_535,
    };
    let rows: &[(&[u8], Error)] = &[
        (&long, too_long),
        (b"A\0b\0C", Error::Block),
        (b"A\0b\0C\0", Error::Block),
        (b"A\0b\0C\0d", Error::Block),
    ];
    for (block, expected) in rows {
        let mut conn = Conn::new();
        let mut sent = b"before".to_vec();
        assert_eq!(conn.begin(block, false, &mut sent), Err(*expected));
        assert_eq!(sent, b"before");
        assert!(conn.is_reusable());
    }
    assert_eq!((too_long.fault(), too_long.status()), (Fault::Client, 431));
    assert_eq!((Error::Block.fault(), Error::Block.status()), (Fault::Gateway, 500));
    assert!(Error::Busy.is_retryable() && !Error::Eof.is_retryable());
}

#[test]
fn keep_conn_is_a_flag() {
    for (keep_conn, flags) in [(false, 0), (true, 1)] {
        let mut sent = Vec::new();
        Conn::new().begin(b"", keep_conn, &mut sent).unwrap();
        assert_eq!(sent[..16], [1, 1, 0, 1, 0, 8, 0, 0, 0, 1, flags, 0, 0, 0, 0, 0]);
    }
}

#[test]
fn bodies_are_cut_at_32_kib() {
    for (length, expected) in [
        (0, vec![]),
        (1, vec![1]),
        (32_768, vec![32_768]),
        (32_769, vec![32_768, 1]),
        (100_000, vec![32_768, 32_768, 32_768, 1_696]),
    ] {
        let body: Vec<u8> = (0..length).map(|byte| (byte % 251) as u8).collect();
        let mut conn = begun();
        let mut sent = Vec::new();
        conn.send_stdin(&body, &mut sent);
        let list = records(&sent);
        let lengths: Vec<usize> = list.iter().map(|(_, _, content)| content.len()).collect();
        assert_eq!(lengths, expected);
        let content: Vec<u8> = list.iter().flat_map(|(_, _, part)| part.clone()).collect();
        assert!(content == body);

        sent.clear();
        conn.end_stdin(&mut sent);
        conn.end_stdin(&mut sent);
        conn.send_stdin(b"late", &mut sent);
        assert_eq!(records(&sent), [(RecordType::STDIN, 1, Vec::new())]);
    }
    let mut sent = Vec::new();
    Conn::new().send_stdin(b"x", &mut sent);
    Conn::new().end_stdin(&mut sent);
    assert!(sent.is_empty(), "no request, no body");
}

#[test]
fn values_are_asked_for() {
    let mut sent = Vec::new();
    get_values(&mut sent);
    let list = records(&sent);
    let [(kind, id, content)] = &list[..] else {
        panic!("one record: {list:?}");
    };
    assert_eq!((*kind, *id), (RecordType::GET_VALUES, 0));
    let names: Vec<_> = pairs::Pairs::new(content).map(Result::unwrap).collect();
    let expected: [(&[u8], &[u8]); 3] = [
        (b"FCGI_MAX_CONNS", b""),
        (b"FCGI_MAX_REQS", b""),
        (b"FCGI_MPXS_CONNS", b""),
    ];
    assert_eq!(names, expected);
}

/// Records that an application may write within a request, and what they mean.
fn any_record() -> impl Strategy<Value = (Vec<u8>, Option<Seen>)> {
    let content = prop::collection::vec(any::<u8>(), 0..40);
    (0..6_u8, content, any::<u8>()).prop_map(|(kind, content, padding)| {
        let (record, seen) = match kind {
            0 | 1 => (stdout(&content, padding), Seen::Stdout(content)),
            2 => {
                let record = record(RecordType::STDERR, 1, &content, padding);
                (record, Seen::Stderr(content))
            }
            3 => {
                let record = record(RecordType::STDOUT, 7, &content, padding);
                return (record, None);
            }
            4 => {
                let record = record(RecordType(200), 1, &content, padding);
                (record, Seen::Unknown(200))
            }
            _ => {
                let mut pairs = Vec::new();
                pairs::write(MAX_REQS, b"12", &mut pairs);
                let record = record(RecordType::GET_VALUES_RESULT, 0, &pairs, padding);
                let max_reqs = Some(12);
                (
                    record,
                    Seen::Values(Values {
                        max_reqs,
                        ..Values::default()
                    }),
                )
            }
        };
        let is_empty = matches!(&seen, Seen::Stdout(text) | Seen::Stderr(text) if text.is_empty());
        (record, (!is_empty).then_some(seen))
    })
}

/// Joins neighbours as [`run`] does.
fn join(list: Vec<Seen>) -> Vec<Seen> {
    let mut joined: Vec<Seen> = Vec::new();
    for seen in list {
        match (joined.last_mut(), seen) {
            (Some(Seen::Stdout(before)), Seen::Stdout(text)) | (Some(Seen::Stderr(before)), Seen::Stderr(text)) => {
                before.extend(text)
            }
            (_, seen) => joined.push(seen),
        }
    }
    joined
}

proptest! {
    #[test]
    fn what_an_application_writes_is_read(
        list in prop::collection::vec(any_record(), 0..8),
        (app_status, status, padding) in (any::<u32>(), 0..4_u8, any::<u8>()),
        size in 1_usize..64,
    ) {
        let mut input = Vec::new();
        let mut expected = Vec::new();
        for (record, seen) in list {
            input.extend(record);
            expected.extend(seen);
        }
        input.extend(end(app_status, status, padding));
        expected.push(Seen::End(app_status, ProtocolStatus::from_byte(status).unwrap()));
        prop_assert_eq!(run(&mut begun(), &input, size), join(expected));
    }

    #[test]
    fn damage_is_judged_the_same_however_it_arrives(
        list in prop::collection::vec(any_record(), 0..8),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        size in 1_usize..64,
    ) {
        let mut input: Vec<u8> = list.into_iter().flat_map(|(record, _)| record).collect();
        input.extend(end(0, 0, 0));
        for (place, byte) in damage {
            let place = place.index(input.len());
            input[place] = byte;
        }
        let whole = run(&mut begun(), &input, usize::MAX);
        prop_assert_eq!(run(&mut begun(), &input, size), whole);
    }

    #[test]
    fn variables_come_back(
        lengths in prop::collection::vec(
            (0..200_usize, prop_oneof![4 => 0..300_usize, 1 => 20_000..40_000_usize], 1_u8..),
            0..12,
        ),
    ) {
        let vars: Vec<_> = lengths
            .into_iter()
            .map(|(name, value, byte)| (vec![byte; name], vec![byte; value]))
            .collect();
        let (_, found) = params(&vars);
        prop_assert!(found == vars);
    }
}
