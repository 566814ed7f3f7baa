//! Requests for a file, with any fields about conditions, ranges and codings: no panic; what is sent lies in the file and
//! has the length that is announced; HEAD has the head of GET; nothing of what an app names a file by is passed on; and
//! the answer is the same in memory that was used before.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rgunicorn::base::file::Facts;
use rgunicorn::base::message::{Field, RequestHead, ResponseHead, Span};
use rgunicorn::files::by_app::{Naming, drop_names, keep_fields};
use rgunicorn::files::{Accepted, Answer, Boundary, Coding, Hiding, Piece, Representation, Types, answer, hidden};
use std::time::{Duration, UNIX_EPOCH};

/// Names that mean something, of requests and of responses.
const NAMES: [&str; 16] = [
    "Range", "If-Range", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "Accept-Encoding",
    "X-Sendfile", "X-Accel-Redirect", "X-LIGHTTPD-send-file", "X-Accel-Charset", "Content-Type", "ETag",
    "Content-Length", "Content-Encoding", "Set-Cookie",
];

fn request(method: &str, fields: &[(&str, &[u8])]) -> RequestHead {
    let mut head = RequestHead::default();
    let mut store = |text: &[u8]| {
        let span = Span { start: head.bytes.len() as u32, len: text.len() as u32 };
        head.bytes.extend_from_slice(text);
        span
    };
    let method = store(method.as_bytes());
    let fields = fields.iter().map(|(name, value)| Field { name: store(name.as_bytes()), value: store(value) }).collect();
    RequestHead { method, fields, ..head }
}

/// The field that `line` means: a byte for its name, a byte that may stand for a value that fits, else the rest.
fn field<'l>(line: &'l [u8], tag: &'l [u8], date: &'l [u8]) -> Option<(&'static str, &'l [u8])> {
    let (name, rest) = line.split_first()?;
    let value = match rest {
        [b'T'] => tag,
        [b'D'] => date,
        rest => rest,
    };
    Some((NAMES[usize::from(*name) % NAMES.len()], value))
}

fn answered(method: &str, fields: &[(&str, &[u8])], file: &Representation<'_>, now: Duration, out: &mut Answer) {
    answer(&request(method, fields), file, UNIX_EPOCH + now, Boundary::from_seed(7), out);
}

fn fields_of(head: &ResponseHead) -> Vec<(Vec<u8>, Vec<u8>)> {
    head.fields().map(|(name, value)| (name.to_vec(), value.to_vec())).collect()
}

fuzz_target!(|data: &[u8]| {
    let Some((fixed, text)) = data.split_first_chunk::<12>() else { return };
    let [flags, coding, s0, s1, s2, s3, m0, m1, m2, m3, n0, n1] = *fixed;
    let modified = i64::from(i32::from_be_bytes([m0, m1, m2, m3])) << (flags & 0x3f);
    let size = u64::from(u32::from_be_bytes([s0, s1, s2, s3])) << (coding >> 2 & 0x1f);
    let facts = Facts { size, modified, nanoseconds: u32::from(n0) << 20, ..Facts::default() };
    let file = Representation {
        facts: &facts,
        content_type: "text/plain",
        coding: Coding::ALL.get(usize::from(coding & 3)).copied(),
        varies: flags & 0x40 != 0,
        by_app: flags & 0x80 != 0,
    };
    let now = Duration::from_secs(u64::from(n1) << 24);

    let mut plain = Answer::default();
    answered("GET", &[], &file, now, &mut plain);
    assert_eq!((plain.head.status, plain.head.content_length), (200, Some(size)));
    let tag = plain.head.field("etag").expect("every file has one").to_vec();
    let date = plain.head.field("last-modified").unwrap_or_default().to_vec();
    let lines = text.split(|byte| *byte == b'\n');
    let fields: Vec<_> = lines.filter_map(|line| field(line, &tag, &date)).collect();

    let mut get = Answer::default();
    answered("GET", &fields, &file, now, &mut get);
    let sent: u64 = get.pieces.iter().map(Piece::length).sum();
    match get.head.status {
        200 => assert_eq!(sent, size),
        206 => assert!(sent > 0 && !get.pieces.is_empty()),
        304 | 412 | 416 => assert!(get.pieces.is_empty()),
        other => panic!("{other}"),
    }
    if matches!(get.head.status, 200 | 206) {
        assert_eq!(get.head.content_length, Some(sent));
    }
    let mut of_file = 0_u64;
    for piece in &get.pieces {
        if let Piece::File { offset, length } = piece {
            assert!(*length > 0 && offset.checked_add(*length).is_some_and(|end| end <= size));
            of_file += length;
        }
    }
    // Many ranges that overlap would have one small request answered with many times the file.
    assert!(of_file <= size);

    let mut used = plain;
    answered("GET", &fields, &file, now, &mut used);
    assert_eq!((fields_of(&used.head), &used.pieces), (fields_of(&get.head), &get.pieces));
    let mut head = Answer::default();
    answered("HEAD", &fields, &file, now, &mut head);
    assert!(head.pieces.is_empty());
    // A range means nothing to HEAD.
    if get.head.status == 200 {
        assert_eq!(fields_of(&head.head), fields_of(&get.head));
    }
    let mut post = Answer::default();
    answered("POST", &fields, &file, now, &mut post);
    assert_eq!(post.head.status, if file.by_app { 200 } else { 405 });

    let accepted = Accepted::of(&request("GET", &fields));
    let sibling = Some(Facts { size: 1, modified: facts.modified, ..facts });
    let choice = accepted.choose(&facts, &[sibling, None, sibling]);
    assert!(choice.varies && choice.coding != Some(Coding::Zstd));
    assert!(choice.coding.is_none() || accepted.any());

    let mut app = ResponseHead::default();
    for (name, value) in &fields {
        app.push(name.as_bytes(), value);
    }
    keep_fields(&app, &mut get.head);
    drop_names(&mut app);
    assert!(Naming::of(&get.head, |_| true).is_none() && Naming::of(&app, |_| true).is_none());
    assert!(get.head.fields().filter(|(name, _)| name.eq_ignore_ascii_case(b"etag")).count() <= 1);

    let kind = Types::default().of(text);
    assert!(kind.contains('/'));
    let why = hidden(text.split(|byte| *byte == b'/'), &Hiding::default());
    assert!(why.is_some() || !text.ends_with(b".php"));
});
