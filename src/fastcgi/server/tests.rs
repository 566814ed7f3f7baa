use super::super::{conn, get_values};
use super::*;
use proptest::prelude::*;

/// What a stream means; parts of one body joined, so that it is the same however it was cut.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Begin(bool),
    Params(Vec<(Vec<u8>, Vec<u8>)>),
    Stdin(Vec<u8>),
    End,
    Abort,
    Reply(Reply),
    Early,
    Error(Error),
}

fn run(conn: &mut Conn, input: &[u8], size: usize) -> Vec<Seen> {
    let mut seen = Vec::new();
    for part in input.chunks(size) {
        let mut rest = part;
        loop {
            let (used, event) = match conn.step(rest) {
                Ok(result) => result,
                Err(error) => {
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
                Event::Stdin(data) => {
                    assert!(!data.is_empty());
                    match seen.last_mut() {
                        Some(Seen::Stdin(before)) => before.extend_from_slice(data),
                        _ => seen.push(Seen::Stdin(data.to_vec())),
                    }
                }
                Event::Begin { keep } => seen.push(Seen::Begin(keep)),
                Event::Params => {
                    let owned = conn.variables().map(|(name, value)| (name.to_vec(), value.to_vec()));
                    seen.push(Seen::Params(owned.collect()));
                }
                Event::End => seen.push(Seen::End),
                Event::Abort => seen.push(Seen::Abort),
                Event::Reply(reply) => seen.push(Seen::Reply(reply)),
                Event::Early => {
                    assert_eq!(conn.step(rest), Ok((0, Event::Early)), "it waits");
                    seen.push(Seen::Early);
                    conn.send_end(0, ProtocolStatus::Complete, &mut Vec::new());
                }
            }
        }
    }
    seen
}

fn record(kind: RecordType, id: u16, content: &[u8], padding: u8) -> Vec<u8> {
    let header = Header {
        kind,
        id,
        content: u16::try_from(content.len()).unwrap(),
        padding,
    };
    let mut out = header.encode().to_vec();
    out.extend_from_slice(content);
    out.resize(out.len() + usize::from(padding), 1);
    out
}

fn begin(id: u16, role: u16, flags: u8) -> Vec<u8> {
    let [high, low] = role.to_be_bytes();
    record(RecordType::BEGIN_REQUEST, id, &[high, low, flags, 9, 9, 9, 9, 9], 3)
}

fn params(id: u16, content: &[u8]) -> Vec<u8> {
    record(RecordType::PARAMS, id, content, 5)
}

fn stdin(id: u16, content: &[u8]) -> Vec<u8> {
    record(RecordType::STDIN, id, content, 1)
}

/// Every row whole, byte by byte and in fives.
fn check(name: &str, parts: &[Vec<u8>], expected: &[Seen]) {
    let input = parts.concat();
    for size in [usize::MAX, 1, 5] {
        let mut conn = Conn::new(64);
        assert_eq!(run(&mut conn, &input, size), expected, "{name} in parts of {size}");
    }
}

fn no_params() -> Seen {
    Seen::Params(Vec::new())
}

#[test]
fn a_request_is_read_to_its_end() {
    let pair = |name: &[u8], value: &[u8]| (name.to_vec(), value.to_vec());
    check(
        "a pair may straddle records",
        &[
            begin(7, 1, 1),
            params(7, &[1, 3, b'A']),
            params(7, b"xy"),
            params(7, &[b'z', 0, 0]),
            params(7, b""),
            stdin(7, b"bo"),
            stdin(7, b"dy"),
            stdin(7, b""),
        ],
        &[
            Seen::Begin(true),
            Seen::Params(vec![pair(b"A", b"xyz"), pair(b"", b"")]),
            Seen::Stdin(b"body".to_vec()),
            Seen::End,
        ],
    );
    check(
        "nothing in it",
        &[begin(1, 1, 0), params(1, b""), stdin(1, b"")],
        &[Seen::Begin(false), no_params(), Seen::End],
    );
    check(
        "an abort, before and after the end",
        &[
            begin(1, 1, 2),
            record(RecordType::ABORT_REQUEST, 1, b"", 2),
            params(1, b""),
            stdin(1, b""),
            record(RecordType::ABORT_REQUEST, 1, b"ignored", 0),
        ],
        &[Seen::Begin(false), Seen::Abort, no_params(), Seen::End, Seen::Abort],
    );
    check(
        "records of other requests are ignored",
        &[
            stdin(2, b"x"),
            begin(1, 1, 1),
            params(2, &[9]),
            record(RecordType::ABORT_REQUEST, 2, b"", 0),
            params(1, b""),
            record(RecordType::DATA, 3, b"x", 0),
            stdin(1, b""),
        ],
        &[Seen::Begin(true), no_params(), Seen::End],
    );
}

#[test]
fn what_is_not_run_and_what_is_asked_gets_an_answer() {
    let refused = |id, status, keep| Seen::Reply(Reply::Refused { id, status, keep });
    check(
        "a second request on the connection",
        &[begin(1, 1, 1), begin(2, 1, 1), params(2, &[1]), params(1, b"")],
        &[
            Seen::Begin(true),
            refused(2, ProtocolStatus::CantMultiplex, true),
            no_params(),
        ],
    );
    check(
        "other roles",
        &[begin(1, 2, 0), begin(1, 3, 1), begin(1, 257, 1), begin(1, 1, 1)],
        &[
            refused(1, ProtocolStatus::UnknownRole, false),
            refused(1, ProtocolStatus::UnknownRole, true),
            refused(1, ProtocolStatus::UnknownRole, true),
            Seen::Begin(true),
        ],
    );
    let mut all = Vec::new();
    get_values(&mut all);
    let values = |max_conns, max_reqs, multiplexes| {
        Seen::Reply(Reply::Values {
            max_conns,
            max_reqs,
            multiplexes,
        })
    };
    check(
        "values and unknown types",
        &[
            all,
            begin(1, 1, 1),
            record(RecordType::GET_VALUES, 0, &[1, 0, b'X'], 4),
            record(RecordType::GET_VALUES, 0, b"", 0),
            record(RecordType(12), 0, b"abc", 1),
            record(RecordType(0), 1, b"", 1),
            params(1, b""),
        ],
        &[
            values(true, true, true),
            Seen::Begin(true),
            values(false, false, false),
            values(false, false, false),
            Seen::Reply(Reply::UnknownType(12)),
            Seen::Reply(Reply::UnknownType(0)),
            no_params(),
        ],
    );
}

#[test]
fn what_no_web_server_sends_is_refused() {
    let order = |reading: Reading, found| {
        let expected = reading.expected();
        Seen::Error(Error::Order { expected, found })
    };
    let not_for_us = |found, id| Seen::Error(Error::NotForUs { found, id });
    let begun = || vec![begin(1, 1, 1)];
    let with = |more: &[Vec<u8>]| [&begun()[..], more].concat();
    check(
        "not FastCGI",
        &[b"GET / HTTP/1.1\r\n".to_vec()],
        &[Seen::Error(Error::Version { found: b'G' })],
    );
    let rows = [
        (
            "twice",
            vec![begin(1, 1, 1)],
            order(Reading::Params, RecordType::BEGIN_REQUEST),
        ),
        (
            "a body too early",
            vec![stdin(1, b"x")],
            order(Reading::Params, RecordType::STDIN),
        ),
        (
            "data for a responder",
            vec![record(RecordType::DATA, 1, b"x", 0)],
            order(Reading::Params, RecordType::DATA),
        ),
        (
            "half a pair",
            vec![params(1, &[3, 1, b'A']), params(1, b"")],
            Seen::Error(Error::Pair { found: 3 }),
        ),
        (
            "long variables",
            vec![params(1, &[0; 60]), params(1, &[0; 5])],
            Seen::Error(Error::ParamsTooLong { limit: 64 }),
        ),
    ];
    for (name, more, error) in rows {
        check(name, &with(&more), &[Seen::Begin(true), error]);
    }
    check(
        "as long as may be",
        &with(&[params(1, &[0; 60]), params(1, &[0; 4]), params(1, b"")]),
        &[Seen::Begin(true), Seen::Params(vec![(Vec::new(), Vec::new()); 32])],
    );
    let whole = with(&[params(1, b""), stdin(1, b"")]);
    for (kind, reading) in [(RecordType::STDIN, Reading::End), (RecordType::PARAMS, Reading::End)] {
        let parts = [&whole[..], &[record(kind, 1, b"x", 0)]].concat();
        check(
            "too late",
            &parts,
            &[Seen::Begin(true), no_params(), Seen::End, order(reading, kind)],
        );
    }
    for kind in [3, 6, 7, 10, 11] {
        let parts = [record(RecordType(kind), 1, b"", 0)];
        check("an application's", &parts, &[not_for_us(RecordType(kind), 1)]);
    }
    for kind in [1, 2, 4, 5, 8] {
        let parts = [record(RecordType(kind), 0, b"", 0)];
        check("without an id", &parts, &[not_for_us(RecordType(kind), 0)]);
    }
    check(
        "an id too much",
        &[record(RecordType::GET_VALUES, 1, b"", 0)],
        &[not_for_us(RecordType::GET_VALUES, 1)],
    );
    check(
        "a short beginning",
        &[record(RecordType::BEGIN_REQUEST, 1, &[0, 1, 0], 0)],
        &[Seen::Error(Error::ContentLength {
            kind: RecordType::BEGIN_REQUEST,
            found: 3,
        })],
    );
}

#[test]
fn the_next_request_by_the_same_id_waits_for_the_end_of_the_one_before() {
    let input = [
        begin(1, 1, 1),
        params(1, b""),
        stdin(1, b""),
        begin(1, 1, 0),
        params(1, b""),
        stdin(1, b"x"),
        stdin(1, b""),
    ];
    let first = [Seen::Begin(true), no_params(), Seen::End];
    let second = [
        Seen::Early,
        Seen::Begin(false),
        no_params(),
        Seen::Stdin(b"x".to_vec()),
        Seen::End,
    ];
    check("two at once", &input, &[&first[..], &second].concat());
    // By another id it is refused, and no answer to the first can be taken for one to it.
    let input = [&input[..3], &[begin(2, 1, 0), params(2, b""), stdin(2, b"")]].concat();
    let refused = Reply::Refused {
        id: 2,
        status: ProtocolStatus::CantMultiplex,
        keep: false,
    };
    check("side by side", &input, &[&first[..], &[Seen::Reply(refused)]].concat());
}

#[test]
fn a_request_that_was_ended_early_is_skipped() {
    let input = [
        begin(1, 1, 1),
        params(1, b""),
        stdin(1, b"0123456789"),
        stdin(1, b"more"),
        stdin(1, b""),
        begin(1, 1, 0),
        params(1, b""),
    ]
    .concat();
    for size in [1, 7, usize::MAX] {
        let mut conn = Conn::new(64);
        let mut seen = Vec::new();
        let mut out = Vec::new();
        let mut rest = &input[..];
        let mut is_first = true;
        while !rest.is_empty() {
            let part = &rest[..size.min(rest.len())];
            let (used, event) = conn.step(part).unwrap();
            rest = &rest[used..];
            match event {
                // In the middle of a record, if parts are small.
                Event::Stdin(_) if std::mem::take(&mut is_first) => {
                    conn.send_end(0, ProtocolStatus::Complete, &mut out);
                    assert!(!conn.is_active() && !conn.keeps());
                }
                Event::NeedData => {}
                event => seen.push(format!("{event:?}")),
            }
        }
        let expected = ["Begin { keep: true }", "Params", "Begin { keep: false }", "Params"];
        assert_eq!(seen, expected, "parts of {size}");
        assert!(conn.is_active() && !conn.is_between_requests());
    }
}

/// What our web-server side makes of what this side writes, cut at `size`.
fn read_back(bytes: &[u8], size: usize) -> (Vec<u8>, Vec<u8>, Vec<String>) {
    let mut conn = conn::Conn::new();
    conn.begin(b"", true, &mut Vec::new()).unwrap();
    conn.end_stdin(&mut Vec::new());
    let (mut stdout, mut stderr, mut others) = (Vec::new(), Vec::new(), Vec::new());
    for part in bytes.chunks(size) {
        let mut rest = part;
        loop {
            let (used, event) = conn.step(rest).unwrap();
            rest = &rest[used..];
            match event {
                conn::Event::NeedData => break,
                conn::Event::Stdout(data) => stdout.extend_from_slice(data),
                conn::Event::Stderr(data) => stderr.extend_from_slice(data),
                other => others.push(format!("{other:?}")),
            }
        }
    }
    (stdout, stderr, others)
}

fn begun(keep: u8) -> Conn {
    let mut conn = Conn::new(64);
    run(
        &mut conn,
        &[begin(1, 1, keep), params(1, b""), stdin(1, b"")].concat(),
        usize::MAX,
    );
    conn
}

#[test]
fn answers_are_what_a_web_server_reads() {
    let mut out = Vec::new();
    let all = Reply::Values {
        max_conns: true,
        max_reqs: true,
        multiplexes: true,
    };
    all.write(100, &mut out);
    Reply::UnknownType(77).write(1, &mut out);
    let mut conn = begun(1);
    assert!(conn.keeps() && conn.is_active());
    conn.send_stderr(b"why", &mut out);
    conn.send_stdout(b"", &mut out);
    conn.send_end(3, ProtocolStatus::Complete, &mut out);
    assert!(conn.is_between_requests());
    // Nothing can be said of a request that has ended.
    let length = out.len();
    conn.send_stdout(b"x", &mut out);
    assert_eq!(conn.begin_stdout(5, &mut out), 0);
    conn.end_stdout(&mut out);
    conn.send_end(0, ProtocolStatus::Complete, &mut out);
    assert_eq!(out.len(), length);
    let (stdout, stderr, others) = read_back(&out, 3);
    assert_eq!((&stdout[..], &stderr[..]), (&b""[..], &b"why"[..]));
    let values = "Values(Values { max_conns: Some(100), max_reqs: Some(100), multiplexes: Some(false) })";
    assert_eq!(
        others,
        [values, "Unknown(77)", "End { app_status: 3, status: Complete }"]
    );
    for status in [
        ProtocolStatus::CantMultiplex,
        ProtocolStatus::Overloaded,
        ProtocolStatus::UnknownRole,
    ] {
        let mut out = Vec::new();
        let keep = false;
        Reply::Refused { id: 1, status, keep }.write(1, &mut out);
        let expected = format!("End {{ app_status: 0, status: {status:?} }}");
        let first = read_back(&out, 100).2;
        assert_eq!(first, [expected]);
        out.clear();
        begun(1).send_end(0, status, &mut out);
        assert_eq!(read_back(&out, 100).2, first);
    }
}

#[test]
fn records_are_never_too_long() {
    for length in [1, 7, 8, 65_527, 65_528, 65_529, 65_535, 65_536, 200_000] {
        let data: Vec<u8> = (0..=255).cycle().take(length).collect();
        let (mut conn, mut out) = (begun(1), Vec::new());
        let mut rest = &data[..];
        while !rest.is_empty() {
            let count = usize::try_from(conn.begin_stdout(rest.len() as u64, &mut out)).unwrap();
            assert!((1..=OUTPUT_LIMIT).contains(&count));
            out.extend_from_slice(&rest[..count]);
            conn.end_stdout(&mut out);
            rest = &rest[count..];
        }
        assert_eq!(out.len() % 8, 0);
        let mut same = Vec::new();
        conn.send_stdout(&data, &mut same);
        assert_eq!(out, same, "{length}");
        assert_eq!(read_back(&out, 4096).0, data);
    }
}

proptest! {
    #[test]
    fn what_our_web_server_side_sends_is_what_this_side_reads(
        list in prop::collection::vec(("[A-Z_]{0,20}", "[ -~]{0,400}"), 0..20),
        body in prop::collection::vec(any::<u8>(), 0..2000),
        keep in any::<bool>(),
        size in 1..3000usize,
    ) {
        let (mut conn, mut input) = (conn::Conn::new(), Vec::new());
        let block: Vec<u8> = list.iter().flat_map(|(name, value)| format!("{name}\0{value}\0").into_bytes()).collect();
        conn.begin(&block, keep, &mut input).unwrap();
        conn.send_stdin(&body, &mut input);
        conn.end_stdin(&mut input);
        let owned = |(name, value): &(String, String)| (name.clone().into_bytes(), value.clone().into_bytes());
        let mut expected = vec![Seen::Begin(keep), Seen::Params(list.iter().map(owned).collect())];
        if !body.is_empty() {
            expected.push(Seen::Stdin(body.clone()));
        }
        expected.push(Seen::End);
        let mut server = Conn::new(1_000_000);
        prop_assert_eq!(run(&mut server, &input, size), expected);
        prop_assert_eq!(server.keeps(), keep);
        // And back.
        let mut out = Vec::new();
        server.send_stdout(&body, &mut out);
        server.send_end(7, ProtocolStatus::Complete, &mut out);
        let (stdout, _, others) = read_back(&out, size);
        prop_assert_eq!(stdout, body);
        prop_assert_eq!(others, ["End { app_status: 7, status: Complete }"]);
        prop_assert!(server.is_between_requests());
    }

    #[test]
    fn bytes_mean_the_same_however_they_are_cut(
        records in prop::collection::vec(
            (0..14u8, 0..3u16, prop::collection::vec(any::<u8>(), 0..12), 0..9u8),
            0..8,
        ),
        noise in prop::collection::vec(any::<u8>(), 0..12),
        size in 1..20usize,
    ) {
        let mut input = [begin(1, 1, 1)].concat();
        for (kind, id, content, padding) in records {
            input.extend(record(RecordType(kind), id, &content, padding));
        }
        input.extend(noise);
        let whole = run(&mut Conn::new(64), &input, usize::MAX);
        prop_assert_eq!(run(&mut Conn::new(64), &input, size), whole);
    }
}
