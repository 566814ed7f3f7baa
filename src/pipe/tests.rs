//! Tests of both ends: the files of tests/data/pipe, and generated conversations cut and corrupted at random.

use super::conn::{Event, FrontConn, Limits};
use super::error::Error;
use super::frame::{self, HEADER, Header, Kind, flag};
use super::head;
use super::worker::{WorkerConn, WorkerEvent, variables};
use crate::base::message::ResponseHead;
use proptest::prelude::*;
use std::path::Path;

/// An event of the front's end with the bytes it names, parts of a body joined.
#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Ready(u16, u8),
    Heartbeat,
    Head(u16, u16, Vec<(Vec<u8>, Vec<u8>)>, Option<u64>),
    Data(u16, Vec<u8>),
    File(u16, u64, u64),
    Shared(u16, u64, u64),
    End(u16),
    Aborted(u16, Option<u16>, Vec<u8>),
    Redirect(u16, Vec<(Vec<u8>, Vec<u8>)>),
    Window(u16, u32),
    Log(u16, u8, Vec<u8>),
    Note(u16, Vec<u8>),
    Refused(u16),
}

fn fields(head: &ResponseHead) -> Vec<(Vec<u8>, Vec<u8>)> {
    head.fields()
        .map(|(name, value)| (name.to_vec(), value.to_vec()))
        .collect()
}

fn see(event: Event<'_>, head: &ResponseHead) -> Option<Seen> {
    Some(match event {
        Event::NeedData => return None,
        Event::Ready { slots, flags } => Seen::Ready(slots, flags),
        Event::Heartbeat => Seen::Heartbeat,
        Event::Head { id, redirect: true, .. } => Seen::Redirect(id, fields(head)),
        Event::Head { id, .. } => Seen::Head(id, head.status, fields(head), head.content_length),
        Event::Data { id, data } => Seen::Data(id, data.to_vec()),
        Event::File {
            id,
            offset,
            length,
            shared: false,
        } => Seen::File(id, offset, length),
        Event::File { id, offset, length, .. } => Seen::Shared(id, offset, length),
        Event::End { id } => Seen::End(id),
        Event::Aborted { id, status, reason } => Seen::Aborted(id, status, reason.to_vec()),
        Event::Window { id, bytes } => Seen::Window(id, bytes),
        Event::Log { id, level, text } => Seen::Log(id, level, text.to_vec()),
        Event::Note { id, pairs } => Seen::Note(id, pairs.to_vec()),
        Event::Refused { id } => Seen::Refused(id),
    })
}

fn push(seen: &mut Vec<Seen>, new: Seen) {
    match (seen.last_mut(), new) {
        (Some(Seen::Data(id, before)), Seen::Data(new_id, data)) if *id == new_id => before.extend(data),
        (Some(Seen::Note(id, before)), Seen::Note(new_id, pairs)) if *id == new_id => before.extend(pairs),
        (_, new) => seen.push(new),
    }
}

/// Feeds `input` in pieces of the given sizes, over and over, as a shell would: what a step leaves is kept.
fn front_sees(input: &[u8], cuts: &[usize]) -> (Vec<Seen>, Result<bool, Error>) {
    let (mut conn, mut head, mut seen) = (FrontConn::new(Limits::default()), ResponseHead::default(), Vec::new());
    let (mut kept, mut rest, mut cuts) = (Vec::new(), input, cuts.iter().copied().cycle());
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(cuts.next().unwrap().clamp(1, rest.len()));
        kept.extend_from_slice(piece);
        rest = after;
        let mut at = 0;
        loop {
            match conn.step(&kept[at..], &mut head) {
                Err(error) => return (seen, Err(error)),
                Ok((used, event)) => {
                    at += used;
                    let Some(new) = see(event, &head) else { break };
                    push(&mut seen, new);
                }
            }
        }
        kept.drain(..at);
        assert!(
            kept.len() < super::conn::LOG_PART + HEADER,
            "a caller's buffer need not hold more"
        );
    }
    (
        seen,
        Ok(conn.is_between_frames() && conn.open_responses().is_empty() && kept.is_empty()),
    )
}

fn files(folder: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/pipe")
        .join(folder);
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
        .into_iter()
        .map(|path| (path.display().to_string(), std::fs::read(&path).unwrap()))
        .collect()
}

#[test]
fn accepted_conversations_mean_the_same_cut_anywhere() {
    let files = files("accept");
    assert!(files.len() >= 10);
    for (name, bytes) in files {
        let (whole, end) = front_sees(&bytes, &[usize::MAX]);
        assert_eq!(end, Ok(true), "{name} ends between frames");
        for size in 1..bytes.len().min(64) {
            assert_eq!(
                front_sees(&bytes, &[size]),
                (whole.clone(), Ok(true)),
                "{name} in pieces of {size}"
            );
        }
        let (mut seen, end) = front_sees(&[&bytes[..], b"\x11\0\0\0\0\0\0\0"].concat(), &[usize::MAX]);
        assert_eq!(
            (seen.pop(), end, seen),
            (Some(Seen::Heartbeat), Ok(true), whole),
            "{name} with a frame behind it"
        );
    }
}

#[test]
fn rejected_conversations_are_the_workers_fault_cut_anywhere() {
    let files = files("reject");
    assert!(files.len() >= 30);
    for (name, bytes) in files {
        for size in [1, 2, 7, 9, usize::MAX] {
            let (seen, end) = front_sees(&bytes, &[size]);
            let error = end.expect_err(&format!("{name} in pieces of {size}, seen {seen:?}"));
            assert_eq!(error.fault(), crate::base::fault::Fault::Worker);
            assert!(
                error.to_string().starts_with("expected ") && error.to_string().is_ascii(),
                "{name}: {error}"
            );
        }
    }
}

#[test]
fn printed_text_is_named_in_the_error() {
    let (_, end) = front_sees(b"Hello, \x1b[1mworld\n", &[usize::MAX]);
    assert_eq!(
        end.unwrap_err().to_string(),
        r#"expected a frame, found "Hello, \x1b[1mworld\n""#
    );
    let (_, end) = front_sees(&[b'x'; 500], &[usize::MAX]);
    assert_eq!(end, Err(Error::NotAFrame { found: "x".repeat(64) }));
}

#[test]
fn limits_hold_at_the_byte() {
    let mut head = ResponseHead::default();
    let mut bytes = Vec::new();
    frame::put_block(Kind::Response, 1, b"200\0X\0v\0", b"", flag::END, &mut bytes);
    let try_with = |limits, head: &mut ResponseHead| FrontConn::resumed(limits).step(&bytes, head).map(|_| ());
    assert_eq!(try_with(Limits { head: 8, frame: 12 }, &mut head), Ok(()));
    assert_eq!(
        try_with(Limits { head: 7, frame: 12 }, &mut head),
        Err(Error::HeadTooLong { length: 8, limit: 7 })
    );
    let error = try_with(Limits { head: 8, frame: 11 }, &mut head).unwrap_err();
    assert!(
        matches!(
            error,
            Error::FrameTooLong {
                kind: "RESPONSE",
                length: 12,
                limit: 11,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn notes_hold_whole_variables_within_their_limit() {
    let long = vec![b'x'; frame::NOTE_LIMIT - 6];
    let given: [(&[u8], &[u8]); 5] = [
        (b"A", b"1"),
        (b"LONG", &long),
        (b"N\0UL", b"2"),
        (b"B", b"2\x003"),
        (b"C", b""),
    ];
    let mut out = Vec::new();
    WorkerConn::ready(1, 0, &mut out);
    WorkerConn::note(3, given.into_iter(), &mut out);
    WorkerConn::note(3, given.into_iter().take(0), &mut out);
    WorkerConn::heartbeat(&mut out);
    let expected = [
        Seen::Ready(1, 0),
        Seen::Note(3, b"A\x001\0C\0\0".to_vec()),
        Seen::Heartbeat,
    ];
    assert_eq!(front_sees(&out, &[3]), (expected.to_vec(), Ok(true)));

    let mut fits = Vec::new();
    WorkerConn::ready(1, 0, &mut fits);
    WorkerConn::note(3, [(&b"LONG"[..], long.as_slice())].into_iter(), &mut fits);
    assert_eq!(fits.len(), HEADER + 2 + HEADER + frame::NOTE_LIMIT);
    let (seen, result) = front_sees(&fits, &[1000]);
    assert!(result.is_ok() && matches!(seen.last(), Some(Seen::Note(3, pairs)) if pairs.len() == frame::NOTE_LIMIT));
    // One byte more is a breach that the header shows.
    let header = fits.len() - frame::NOTE_LIMIT - 1;
    fits[header] = 1;
    assert!(matches!(
        front_sees(&fits, &[1000]).1,
        Err(Error::FrameTooLong { kind: "NOTE", .. })
    ));
}

#[test]
fn heads_are_cleaned_and_content_length_is_taken_out() {
    let mut head = ResponseHead::default();
    head.push(b"Left-Over", b"from before");
    let block = b"200 Fine, thanks\0A\0 b \t\0Connection\0close\0transfer-encoding\0chunked\0Content-Length\0 5\0\
        content-length\x005\0Set-Cookie\0a\0Set-Cookie\0b\0TE\0x\0Trailer\0x\0Upgrade\0h2c\0Keep-Alive\x005\0C\0\0";
    head::decode(block, &mut head).unwrap();
    let shown = |name: &str, value: &str| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
    let expected = [
        shown("A", "b"),
        shown("Set-Cookie", "a"),
        shown("Set-Cookie", "b"),
        shown("C", ""),
    ];
    assert_eq!(fields(&head), expected);
    assert_eq!(
        (head.status, head.text(head.reason), head.content_length),
        (200, &b"Fine, thanks"[..], Some(5))
    );
}

#[test]
fn a_place_in_a_file_is_exact() {
    let response = |place: &[u8]| {
        let mut bytes = Vec::new();
        frame::put_block(Kind::Response, 1, b"200", place, flag::FD | flag::END, &mut bytes);
        let mut conn = FrontConn::resumed(Limits::default());
        let mut head = ResponseHead::default();
        let (used, event) = conn.step(&bytes, &mut head)?;
        assert_eq!(
            event,
            Event::Head {
                id: 1,
                length: None,
                redirect: false
            }
        );
        conn.step(&bytes[used..], &mut head).map(|(_, event)| {
            let Event::File { offset, length, .. } = event else {
                panic!("{event:?}");
            };
            (offset, length)
        })
    };
    let place = |offset: u64, length: u64| [offset.to_be_bytes(), length.to_be_bytes()].concat();
    let most = i64::MAX as u64;
    assert_eq!(response(&place(7, 0)), Ok((7, 0)));
    assert_eq!(response(&place(7, most - 7)), Ok((7, most - 7)));
    for wrong in [
        place(8, most - 7),
        place(u64::MAX, 1),
        place(7, 0)[1..].to_vec(),
        [place(7, 0), b"x".to_vec()].concat(),
        Vec::new(),
    ] {
        let error = response(&wrong).unwrap_err().to_string();
        assert!(error.starts_with("expected a place in a file"), "{error}");
    }
}

#[test]
fn a_resumed_channel_wants_no_ready() {
    let mut bytes = Vec::new();
    WorkerConn::refuse(5, &mut bytes);
    let mut conn = FrontConn::resumed(Limits::default());
    let mut head = ResponseHead::default();
    assert_eq!(conn.step(&bytes, &mut head), Ok((8, Event::Refused { id: 5 })));
    bytes.clear();
    WorkerConn::ready(1, 0, &mut bytes);
    assert!(conn.step(&bytes, &mut head).is_err());
}

#[test]
fn a_spilled_message_goes_on_in_the_file() {
    let (mut message, mut whole) = (Vec::new(), Vec::new());
    FrontConn::request_message(9, b"A\0b\0", &[b'x'; 100], false, &mut message);
    FrontConn::request(9, b"A\0b\0", &[b'x'; 100], true, &mut whole);
    assert_eq!(message, whole);
    assert_eq!(FrontConn::spill(&mut message, 116), b"", "it fits exactly");
    assert_eq!(message, whole);
    for limit in [8, 10, 12, 14, 16, 50, 115] {
        let mut message = whole.clone();
        let file = FrontConn::spill(&mut message, limit);
        assert_eq!(message.len(), limit);
        let (mut conn, mut payload) = (WorkerConn::new(64), Vec::new());
        assert_eq!(
            conn.step(&message, &mut payload),
            Ok((limit, WorkerEvent::Spilled { id: 9 }))
        );
        payload.extend(file);
        assert_eq!(payload, whole[HEADER..], "cut at {limit}");
    }
}

#[test]
fn a_body_too_long_for_one_frame_takes_several() {
    for (length, frames) in [(0, 1), (92, 1), (93, 2), (192, 2), (193, 3)] {
        let body = vec![b'z'; length];
        let mut out = Vec::new();
        frame::put_block_within(100, Kind::Request, 3, b"A\0b\0", &body, flag::END, &mut out);
        let (mut at, mut count) = (0, 0);
        while let Some(header) = Header::decode(&out[at..], 100).unwrap() {
            at += HEADER + header.length;
            count += 1;
            assert_eq!(header.flags, if at == out.len() { flag::END } else { 0 });
        }
        assert_eq!(count, frames, "{length} bytes");
        let expected = vec![(3, b"A\0b\0".to_vec(), body, b'E')];
        assert_eq!(worker_sees(&out, &[usize::MAX]), Ok(expected));
    }
}

/// What a worker under test sends about one request.
#[derive(Clone, Debug)]
struct Answer {
    interim: bool,
    status: u16,
    fields: Vec<(String, String)>,
    length: Option<u64>,
    parts: Vec<Vec<u8>>,
    /// A place in a file behind the parts.
    file: Option<(u64, u64)>,
    ending: u8,
}

fn answers() -> impl Strategy<Value = Vec<Answer>> {
    let field = ("[!#$%&'*+.^_`|~0-9A-Za-z-]{0,8}-x", "[!-~]([ -~]{0,12}[!-~])?");
    let answer = (
        any::<bool>(),
        200_u16..600,
        proptest::collection::vec(field, 0..5),
        proptest::option::of(any::<u64>()),
        proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..4),
        proptest::option::of((0..i64::MAX as u64 / 2, 0..i64::MAX as u64 / 2)),
        0_u8..5,
    );
    let answer = answer.prop_map(|(interim, status, fields, length, parts, file, ending)| Answer {
        interim,
        status,
        fields,
        length,
        parts,
        file,
        ending,
    });
    proptest::collection::vec(answer, 1..6)
}

/// Encodes the answers one after the other and says what the front must see.
fn conversation(answers: &[Answer]) -> (Vec<u8>, Vec<Seen>) {
    let (mut out, mut seen) = (Vec::new(), vec![Seen::Ready(4, frame::ready::FLOW)]);
    WorkerConn::ready(4, frame::ready::FLOW, &mut out);
    for (id, answer) in (1_u16..).zip(answers) {
        let mut head = ResponseHead {
            status: answer.status,
            content_length: answer.length,
            ..Default::default()
        };
        for (name, value) in &answer.fields {
            head.push(name.as_bytes(), value.as_bytes());
        }
        if answer.ending == 4 {
            WorkerConn::refuse(id, &mut out);
            seen.push(Seen::Refused(id));
            continue;
        }
        if answer.interim {
            let hint = ResponseHead {
                status: 103,
                ..Default::default()
            };
            WorkerConn::response(id, &hint, b"", false, &mut out);
            seen.push(Seen::Head(id, 103, Vec::new(), None));
        }
        seen.push(Seen::Head(id, answer.status, fields(&head), answer.length));
        if answer.ending == 0
            && let Some((offset, length)) = answer.file
        {
            WorkerConn::response_file(id, &head, (offset, length), true, &mut out);
            seen.extend([Seen::File(id, offset, length), Seen::End(id)]);
            continue;
        }
        if answer.ending == 0 {
            let body = answer.parts.concat();
            WorkerConn::response(id, &head, &body, true, &mut out);
            seen.extend((!body.is_empty()).then_some(Seen::Data(id, body)));
            seen.push(Seen::End(id));
            continue;
        }
        WorkerConn::response(id, &head, b"", false, &mut out);
        for part in answer.parts.iter().filter(|part| !part.is_empty()) {
            WorkerConn::body(id, part, false, &mut out);
            push(&mut seen, Seen::Data(id, part.clone()));
            if answer.ending == 2 {
                WorkerConn::log(id, frame::level::WARNING, part, &mut out);
                WorkerConn::note(id, [(&b"NAME"[..], &b"value"[..])].into_iter(), &mut out);
                WorkerConn::window(id, 70_000, &mut out);
                WorkerConn::heartbeat(&mut out);
                seen.extend([
                    Seen::Log(id, 2, part.clone()),
                    Seen::Note(id, b"NAME\0value\0".to_vec()),
                    Seen::Window(id, 70_000),
                    Seen::Heartbeat,
                ]);
            }
        }
        if let Some((offset, length)) = answer.file {
            WorkerConn::body_shared(id, (length, offset), false, &mut out);
            WorkerConn::body_file(id, (offset, length), answer.ending == 1, &mut out);
            seen.extend([Seen::Shared(id, length, offset), Seen::File(id, offset, length)]);
            if answer.ending == 1 {
                seen.push(Seen::End(id));
                continue;
            }
        }
        if answer.ending == 3 {
            WorkerConn::abort(id, &mut out);
            seen.push(Seen::Aborted(id, None, Vec::new()));
        } else if answer.ending == 2 {
            let reason = answer.parts.concat();
            WorkerConn::give_up(id, 404, &reason, &mut out);
            seen.push(Seen::Aborted(id, Some(404), reason));
            let mut place = ResponseHead {
                status: 302,
                ..ResponseHead::default()
            };
            place.push(b"Location", b"/next");
            WorkerConn::redirect(id, &place, &mut out);
            let fields = vec![(b"Location".to_vec(), b"/next".to_vec())];
            seen.extend([Seen::Redirect(id, fields), Seen::End(id)]);
        } else {
            WorkerConn::body(id, b"", true, &mut out);
            seen.push(Seen::End(id));
        }
    }
    (out, seen)
}

/// A request at the worker's end: id, block, body, and a letter for how it ended.
type Received = (u16, Vec<u8>, Vec<u8>, u8);

/// What the worker's end makes of bytes from the front, fed in pieces.
fn worker_sees(input: &[u8], cuts: &[usize]) -> Result<Vec<Received>, Error> {
    let (mut conn, mut block, mut requests) = (WorkerConn::new(1 << 16), Vec::new(), Vec::new());
    let (mut kept, mut rest, mut cuts) = (Vec::new(), input, cuts.iter().copied().cycle());
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(cuts.next().unwrap().clamp(1, rest.len()));
        kept.extend_from_slice(piece);
        rest = after;
        let mut at = 0;
        loop {
            let (used, event) = conn.step(&kept[at..], &mut block)?;
            at += used;
            let find = |requests: &mut Vec<Received>, id| requests.iter().rposition(|request| request.0 == id);
            match event {
                WorkerEvent::NeedData => break,
                WorkerEvent::Request { id } => requests.push((id, block.clone(), Vec::new(), b'?')),
                WorkerEvent::Spilled { id } => requests.push((id, block.clone(), Vec::new(), b'S')),
                WorkerEvent::Data { id, data } => {
                    let place = find(&mut requests, id).unwrap();
                    requests[place].2.extend_from_slice(data);
                }
                WorkerEvent::End { id } => {
                    let place = find(&mut requests, id).unwrap();
                    requests[place].3 = b'E';
                }
                WorkerEvent::Abort { id, overdue } => {
                    if let Some(place) = find(&mut requests, id) {
                        requests[place].3 = if overdue { b'O' } else { b'A' };
                    }
                }
                WorkerEvent::Window { id, bytes } => requests.push((id, bytes.to_be_bytes().into(), Vec::new(), b'W')),
                WorkerEvent::Drain => requests.push((0, Vec::new(), Vec::new(), b'D')),
                WorkerEvent::Return { offset } => {
                    requests.push((0, offset.to_be_bytes().into(), Vec::new(), b'R'));
                }
            }
        }
        kept.drain(..at);
    }
    Ok(requests)
}

proptest! {
    #[test]
    fn the_front_sees_what_the_worker_sent(answers in answers(), cuts in proptest::collection::vec(1_usize..80, 1..20)) {
        let (bytes, expected) = conversation(&answers);
        prop_assert_eq!(front_sees(&bytes, &cuts), (expected, Ok(true)));
    }

    #[test]
    fn corrupt_bytes_never_panic_and_mean_the_same_cut_anywhere(
        answers in answers(),
        cuts in proptest::collection::vec(1_usize..80, 1..20),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let (mut bytes, _) = conversation(&answers);
        for (place, byte) in damage {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        let (whole, end) = front_sees(&bytes, &[usize::MAX]);
        let (pieces, pieces_end) = front_sees(&bytes, &cuts);
        prop_assert_eq!(whole, pieces);
        prop_assert_eq!(end.is_ok(), pieces_end.is_ok());
        let _ = worker_sees(&bytes, &cuts);
    }

    #[test]
    fn the_worker_sees_what_the_front_sent(
        names in proptest::collection::vec(("[A-Z_]{1,10}", "[^\0]{0,20}"), 0..6),
        body in proptest::collection::vec(any::<u8>(), 0..600),
        split in any::<prop::sample::Index>(),
        cuts in proptest::collection::vec(1_usize..80, 1..20),
    ) {
        let mut block = Vec::new();
        for (name, value) in &names {
            block.extend_from_slice(format!("{name}\0{value}\0").as_bytes());
        }
        let read: Vec<_> = variables(&block).map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
        let given = names.iter().map(|(name, value)| (name.clone().into_bytes(), value.clone().into_bytes()));
        prop_assert_eq!(read, given.collect::<Vec<_>>());

        let (first, second) = body.split_at(split.index(body.len() + 1));
        let mut out = Vec::new();
        FrontConn::request(1, &block, &body, true, &mut out);
        FrontConn::request(2, &block, first, false, &mut out);
        FrontConn::request(3, &block, b"", false, &mut out);
        FrontConn::body(2, second, true, &mut out);
        FrontConn::window(2, 65_536, &mut out);
        FrontConn::abort(3, true, &mut out);
        FrontConn::abort(77, false, &mut out);
        FrontConn::give_back(1 << 20, &mut out);
        // Numbers are used again.
        FrontConn::request(2, &block, first, true, &mut out);
        FrontConn::request(3, &block, second, true, &mut out);
        FrontConn::drain(&mut out);
        let request = |id, body: &[u8], end| (id, block.clone(), body.to_vec(), end);
        let expected = vec![
            request(1, &body, b'E'),
            request(2, &body, b'E'),
            request(3, b"", b'O'),
            (2, 65_536_u32.to_be_bytes().into(), Vec::new(), b'W'),
            (0, (1_u64 << 20).to_be_bytes().into(), Vec::new(), b'R'),
            request(2, first, b'E'),
            request(3, second, b'E'),
            (0, Vec::new(), Vec::new(), b'D'),
        ];
        prop_assert_eq!(worker_sees(&out, &cuts), Ok(expected));
    }
}
