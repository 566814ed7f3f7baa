//! RFC 9110 §14.

use super::*;
use crate::files::range::RANGE_LIMIT;
use proptest::prelude::*;

fn file(offset: u64, length: u64) -> Piece {
    Piece::File { offset, length }
}

fn ranged(value: &str, size: u64) -> Answer {
    let facts = Facts { size, ..facts() };
    answered("GET", &[("Range", value)], &html(&facts))
}

/// The Content-Range of a single range, or the status where there is none.
fn told(value: &str, size: u64) -> String {
    let answer = ranged(value, size);
    match answer.head.field("Content-Range") {
        Some(range) => format!("{} {}", answer.head.status, std::str::from_utf8(range).unwrap()),
        None if answer.head.status == 206 => format!("206 in {} pieces", answer.pieces.len()),
        None => answer.head.status.to_string(),
    }
}

#[test]
fn the_examples_of_the_rfc() {
    // §14.1.2, a file of 10,000 bytes.
    for (value, expected) in [
        ("bytes=0-499", "206 bytes 0-499/10000"),
        ("bytes=500-999", "206 bytes 500-999/10000"),
        ("bytes=-500", "206 bytes 9500-9999/10000"),
        ("bytes=9500-", "206 bytes 9500-9999/10000"),
        ("bytes=0-0,-1", "206 in 5 pieces"),
        ("bytes= 0-999, 4500-5499, -1000", "206 in 7 pieces"),
        ("bytes=500-600,601-999", "206 in 5 pieces"),
        ("bytes=500-700,601-999", "206 in 5 pieces"),
    ] {
        assert_eq!(told(value, 10_000), expected, "{value}");
    }
    // §14.4
    let answer = ranged("bytes=42-1233", 1234);
    assert_eq!(answer.head.field("Content-Range").unwrap(), b"bytes 42-1233/1234");
    assert_eq!(answer.head.content_length, Some(1192));
    assert_eq!(told("bytes=1234-", 1234), "416 bytes */1234");
}

#[test]
fn one_range() {
    for (value, size, expected) in [
        ("bytes=0-", 10, "206 bytes 0-9/10"),
        ("bytes=0-9", 10, "206 bytes 0-9/10"),
        ("bytes=0-10", 10, "206 bytes 0-9/10"),
        ("bytes=9-9", 10, "206 bytes 9-9/10"),
        ("bytes=9-", 10, "206 bytes 9-9/10"),
        ("bytes=10-", 10, "416 bytes */10"),
        ("bytes=10-10", 10, "416 bytes */10"),
        ("bytes=-1", 10, "206 bytes 9-9/10"),
        ("bytes=-10", 10, "206 bytes 0-9/10"),
        ("bytes=-11", 10, "206 bytes 0-9/10"),
        ("bytes=-0", 10, "416 bytes */10"),
        ("BYTES=0-0", 10, "206 bytes 0-0/10"),
        ("bytes=,, 0-0 ,", 10, "206 bytes 0-0/10"),
        ("bytes=0-0,10-", 10, "206 bytes 0-0/10"),
        ("bytes=20-30,-0", 10, "416 bytes */10"),
        ("bytes=0-99999999999999999999999", 10, "206 bytes 0-9/10"),
        ("bytes=-99999999999999999999999", 10, "206 bytes 0-9/10"),
        ("bytes=99999999999999999999999-", 10, "416 bytes */10"),
        (
            "bytes=18446744073709551615-",
            u64::MAX,
            "416 bytes */18446744073709551615",
        ),
        (
            "bytes=0-",
            u64::MAX,
            "206 bytes 0-18446744073709551614/18446744073709551615",
        ),
        // An empty file has no ranges, and its last bytes are all of it.
        ("bytes=0-", 0, "416 bytes */0"),
        ("bytes=0-0", 0, "416 bytes */0"),
        ("bytes=-0", 0, "416 bytes */0"),
        ("bytes=-5", 0, "200"),
        // What the grammar does not know, and other units, is as if it were not there.
        ("bytes", 10, "200"),
        ("bytes=", 10, "200"),
        ("bytes=,", 10, "200"),
        ("bytes=-", 10, "200"),
        ("bytes=5", 10, "200"),
        ("bytes=5-4", 10, "200"),
        ("bytes=a-b", 10, "200"),
        ("bytes=+1-2", 10, "200"),
        ("bytes=0 - 1", 10, "200"),
        ("bytes=0--1", 10, "200"),
        ("bytes=--1", 10, "200"),
        ("bytes=0-1;2-3", 10, "200"),
        ("bytes=0-1,x", 10, "200"),
        ("bytes =0-1", 10, "200"),
        ("lines=0-1", 10, "200"),
        ("=0-1", 10, "200"),
        ("", 10, "200"),
    ] {
        assert_eq!(told(value, size), expected, "{value} of {size}");
    }
}

#[test]
fn a_single_range_is_sent_as_it_is() {
    let answer = usual("GET", &[("Range", "bytes=10-19")]);
    assert_eq!(
        shown(&answer),
        format!(
            "206\nContent-Type: text/html\nContent-Range: bytes 10-19/1000\nLast-Modified: Sat, 29 Oct 1994 19:43:31 GMT\nETag: {TAG}\nAccept-Ranges: bytes\nlength 10"
        )
    );
    assert_eq!(answer.pieces, [file(10, 10)]);
    let refused = usual("GET", &[("Range", "bytes=1000-")]);
    assert_eq!(shown(&refused), "416\nContent-Range: bytes */1000");
    assert_eq!(refused.pieces, []);
    let twice = usual("GET", &[("Range", "bytes=0-1"), ("Range", "bytes=0-1")]);
    assert_eq!(twice.head.status, 200);
}

#[test]
fn several_ranges_are_sent_in_parts() {
    let answer = usual("GET", &[("Range", "bytes=500-999,0-0")]);
    let text = |text: &str| Piece::Text(text.as_bytes().to_vec());
    let first = "--000000000000000b\r\nContent-Type: text/html\r\nContent-Range: bytes 500-999/1000\r\n\r\n";
    let second = "\r\n--000000000000000b\r\nContent-Type: text/html\r\nContent-Range: bytes 0-0/1000\r\n\r\n";
    assert_eq!(
        answer.pieces,
        [
            text(first),
            file(500, 500),
            text(second),
            file(0, 1),
            text("\r\n--000000000000000b--\r\n"),
        ]
    );
    assert_eq!(
        answer.head.field("Content-Type").unwrap(),
        b"multipart/byteranges; boundary=000000000000000b"
    );
    assert_eq!(answer.head.field("Content-Range"), None);
    let length = first.len() + 500 + second.len() + 1 + 24;
    assert_eq!(answer.head.content_length, Some(length as u64));
}

#[test]
fn too_many_ranges_and_too_much_overlap_give_the_whole_file() {
    let many = |count: usize| {
        let specs: Vec<String> = (0..count).map(|place| format!("{place}-{place}")).collect();
        format!("bytes={}", specs.join(","))
    };
    assert_eq!(
        told(&many(RANGE_LIMIT), 1000),
        format!("206 in {} pieces", 2 * RANGE_LIMIT + 1)
    );
    assert_eq!(told(&many(RANGE_LIMIT + 1), 1000), "200");
    // Together as long as the file, then one byte more.
    assert_eq!(told("bytes=0-499,0-499", 1000), "206 in 5 pieces");
    assert_eq!(told("bytes=0-499,0-500", 1000), "200");
    assert_eq!(told("bytes=0-,0-", u64::MAX), "200");
}

/// A range as a client writes it, and what it names by the words of §14.1.2.
#[derive(Clone, Debug)]
enum Spec {
    Between(u64, u64),
    From(u64),
    Last(u64),
}

impl Spec {
    fn text(&self) -> String {
        match self {
            Self::Between(first, last) => format!("{first}-{last}"),
            Self::From(first) => format!("{first}-"),
            Self::Last(count) => format!("-{count}"),
        }
    }

    /// The bytes it names, one by one.
    fn bytes(&self, file: &[u8]) -> Vec<u8> {
        let named = |place: u64| match self {
            Self::Between(first, last) => *first <= place && place <= *last,
            Self::From(first) => *first <= place,
            Self::Last(count) => place + count >= file.len() as u64,
        };
        let places = (0_u64..).zip(file);
        places
            .filter(|(place, _)| named(*place))
            .map(|(_, byte)| *byte)
            .collect()
    }
}

fn spec() -> impl Strategy<Value = Spec> {
    prop_oneof![
        (0_u64..60, 0_u64..30).prop_map(|(first, more)| Spec::Between(first, first + more)),
        (0_u64..60).prop_map(Spec::From),
        (0_u64..60).prop_map(Spec::Last),
    ]
}

fn body(answer: &Answer, file: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    for piece in &answer.pieces {
        match piece {
            Piece::Text(text) => body.extend_from_slice(text),
            Piece::File { offset, length } => body.extend_from_slice(&file[*offset as usize..][..*length as usize]),
        }
    }
    body
}

/// The contents of the parts of a multipart body, read as a client would.
fn parts(body: &str, boundary: &str) -> Vec<Vec<u8>> {
    let body = format!("\r\n{body}");
    let separator = format!("\r\n--{boundary}");
    let mut pieces = body.split(&separator);
    assert_eq!(pieces.next(), Some(""));
    let mut contents = Vec::new();
    loop {
        let piece = pieces.next().expect("an end");
        if piece == "--\r\n" {
            assert_eq!(pieces.next(), None);
            return contents;
        }
        let (head, content) = piece.strip_prefix("\r\n").unwrap().split_once("\r\n\r\n").unwrap();
        let range = head
            .lines()
            .find_map(|line| line.strip_prefix("Content-Range: bytes "))
            .unwrap();
        let (first, last) = range.split_once('/').unwrap().0.split_once('-').unwrap();
        let length = last.parse::<usize>().unwrap() + 1 - first.parse::<usize>().unwrap();
        assert_eq!(content.len(), length);
        contents.push(content.as_bytes().to_vec());
    }
}

proptest! {
    #[test]
    fn what_is_sent_is_what_was_named(
        size in 0_usize..50,
        specs in proptest::collection::vec(spec(), 1..20),
        comma in "[ \t]{0,2},[ \t,]{0,2}",
    ) {
        let content: Vec<u8> = (b'0'..b'z').cycle().take(size).collect();
        let texts: Vec<String> = specs.iter().map(Spec::text).collect();
        let answer = ranged(&format!("bytes={}", texts.join(&comma)), size as u64);
        let named: Vec<Vec<u8>> = specs
            .iter()
            .map(|spec| spec.bytes(&content))
            .filter(|bytes| !bytes.is_empty())
            .collect();
        let body = body(&answer, &content);
        let total: usize = named.iter().map(Vec::len).sum();
        match answer.head.status {
            200 => {
                prop_assert_eq!(&body, &content);
                let suffix_of_nothing = size == 0 && specs.iter().any(|spec| matches!(spec, Spec::Last(1..)));
                prop_assert!(specs.len() > RANGE_LIMIT || total > size || suffix_of_nothing);
            }
            416 => prop_assert!(named.is_empty()),
            206 if named.len() == 1 => prop_assert_eq!(&body, &named[0]),
            206 => {
                prop_assert!(specs.len() <= RANGE_LIMIT && total <= size);
                prop_assert_eq!(parts(&String::from_utf8(body.clone()).unwrap(), "000000000000000b"), named);
            }
            status => prop_assert!(false, "{}", status),
        }
        if answer.head.status != 416 {
            prop_assert_eq!(answer.head.content_length, Some(body.len() as u64));
        }
    }

    #[test]
    fn any_text_is_taken(value in "(bytes=)?[0-9,= a-z-]{0,30}", size: u64) {
        let answer = ranged(&value, size);
        for piece in &answer.pieces {
            if let Piece::File { offset, length } = piece {
                prop_assert!(*length > 0 && offset.checked_add(*length).is_some_and(|end| end <= size));
            }
        }
    }
}
