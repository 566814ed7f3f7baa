//! RFC 9110 §12.5.3.

use super::*;
use proptest::prelude::*;

fn accepted(values: &[&str]) -> Accepted {
    let fields: Vec<(&str, &str)> = values.iter().map(|value| ("accept-encoding", *value)).collect();
    Accepted::of(&request("GET", &fields))
}

/// What is sent where these siblings exist, in the order of `Coding::ALL`.
fn chosen(value: &str, exist: [bool; 3]) -> &'static str {
    let choice = accepted(&[value]).choose(&facts(), &exist.map(|exists| exists.then(facts)));
    assert_eq!(choice.varies, exist.contains(&true), "{value}");
    choice.coding.map_or("identity", Coding::name)
}

#[test]
fn the_examples_of_the_rfc_and_others() {
    let all = [true; 3];
    let gzip = [false, false, true];
    for (value, exist, expected) in [
        ("compress, gzip", all, "gzip"),
        ("", all, "identity"),
        ("*", all, "br"),
        ("*", gzip, "gzip"),
        ("compress;q=0.5, gzip;q=1.0", all, "gzip"),
        ("gzip;q=1.0, identity; q=0.5, *;q=0", all, "gzip"),
        ("gzip, deflate, br", all, "br"),
        ("gzip, deflate, br, zstd", all, "br"),
        ("gzip, deflate, br, zstd", [false, true, true], "zstd"),
        ("gzip, deflate, br, zstd", gzip, "gzip"),
        ("gzip, deflate, br, zstd", [false; 3], "identity"),
        ("br;q=0.2, gzip;q=0.3", all, "gzip"),
        ("br;q=0.2, gzip;q=0.2", all, "br"),
        ("GZIP", all, "gzip"),
        ("x-gzip", all, "gzip"),
        ("gzip;q=0", all, "identity"),
        ("gzip;q=0.001", all, "gzip"),
        ("gzip;q=0.000", all, "identity"),
        ("gzip; Q=0.5", all, "gzip"),
        ("gzip ;\tq=0.5", all, "gzip"),
        ("identity", all, "identity"),
        ("identity, gzip", all, "gzip"),
        ("identity;q=0.9, gzip;q=0.8", all, "identity"),
        ("*;q=0", all, "identity"),
        ("*;q=0.1, gzip;q=0", gzip, "identity"),
        ("*;q=0.1, br;q=0", all, "zstd"),
        // Nothing acceptable is there: the file itself all the same.
        ("identity;q=0", all, "identity"),
        ("identity;q=0, gzip", all, "gzip"),
        ("br, identity;q=0", gzip, "identity"),
        // What is malformed is as if it were not there.
        ("gzip;q=2", all, "identity"),
        ("gzip;q=1.001", all, "identity"),
        ("gzip;q=0.0001", all, "identity"),
        ("gzip;q=", all, "identity"),
        ("gzip;q=.5", all, "identity"),
        ("gzip;q=-1", all, "identity"),
        ("gzip;level=9", all, "identity"),
        ("gzip;q=1;q=1", all, "identity"),
        ("gzip gzip", all, "identity"),
        (", ,gzip,,", all, "gzip"),
    ] {
        assert_eq!(chosen(value, exist), expected, "{value} {exist:?}");
    }
}

#[test]
fn lines_are_one_list_and_silence_accepts_nothing() {
    assert!(!accepted(&[]).any());
    assert!(!accepted(&["identity", "deflate, gzip;q=0"]).any());
    assert!(accepted(&["identity", "deflate, gzip"]).any());
    let siblings = [Some(facts()); 3];
    assert_eq!(accepted(&[]).choose(&facts(), &siblings).coding, None);
    let both = accepted(&["br;q=0.1", "zstd;q=0.2"]).choose(&facts(), &siblings);
    assert_eq!(both.coding, Some(Coding::Zstd));
}

#[test]
fn siblings_that_are_stale_or_no_files_are_not_there() {
    let sibling = |kind, modified| {
        let facts = Facts {
            kind,
            modified,
            ..facts()
        };
        accepted(&["gzip"]).choose(&super::facts(), &[None, None, Some(facts)])
    };
    let sent = Choice {
        coding: Some(Coding::Gzip),
        varies: true,
    };
    assert_eq!(sibling(FileKind::File, MODIFIED), sent);
    assert_eq!(sibling(FileKind::File, MODIFIED + 1), sent);
    assert_eq!(sibling(FileKind::File, MODIFIED - 1), Choice::default());
    assert_eq!(sibling(FileKind::Directory, MODIFIED), Choice::default());
    assert_eq!(sibling(FileKind::Other, MODIFIED), Choice::default());
}

#[test]
fn what_a_coded_answer_says() {
    let facts = facts();
    let file = Representation {
        coding: Some(Coding::Brotli),
        varies: true,
        ..html(&facts)
    };
    let whole = answered("GET", &[], &file);
    assert_eq!(
        shown(&whole),
        "200\nContent-Type: text/html\nContent-Encoding: br\nLast-Modified: Sat, 29 Oct 1994 19:43:31 GMT\nETag: \"2eb2a5e3075bcd15-3e8-br\"\nVary: Accept-Encoding\nAccept-Ranges: bytes\nlength 1000"
    );
    let part = answered("GET", &[("Range", "bytes=0-0")], &file);
    assert_eq!(part.head.field("Content-Encoding").unwrap(), b"br");
    assert_eq!(Coding::inherent(b"a.SVGZ"), Some(Coding::Gzip));
    assert_eq!(Coding::inherent(b"a.svg"), None);
    assert_eq!(Coding::inherent(b"vgz"), None);
}

/// The weight of a coding by the rules, from a list of names and thousandths.
fn weight(list: &[(&str, u16)], name: &str) -> Option<u16> {
    let find = |name: &str| {
        list.iter()
            .rev()
            .find(|(known, _)| *known == name)
            .map(|(_, weight)| *weight)
    };
    find(name).or_else(|| find("*"))
}

proptest! {
    #[test]
    fn the_heaviest_is_sent(
        list in proptest::collection::vec(
            (proptest::sample::select(&["br", "zstd", "gzip", "identity", "deflate", "*"][..]), 0_u16..=1000),
            0..8,
        ),
        exist: [bool; 3],
    ) {
        let text: Vec<String> = list
            .iter()
            .map(|(name, weight)| format!("{name};q={}.{:03}", weight / 1000, weight % 1000))
            .collect();
        let sent = chosen(&text.join(", "), exist);
        let weight = |name| weight(&list, name);
        let there: Vec<&str> = ["br", "zstd", "gzip"].into_iter().zip(exist).filter(|(_, e)| *e).map(|(n, _)| n).collect();
        let heaviest = there.iter().filter_map(|name| weight(name)).max().unwrap_or(0);
        if sent == "identity" {
            prop_assert!(heaviest == 0 || weight("identity") > Some(heaviest));
        } else {
            prop_assert_eq!(weight(sent), Some(heaviest));
            prop_assert!(heaviest > 0 && weight("identity").unwrap_or(0) <= heaviest);
            let first = there.iter().find(|name| weight(name) == Some(heaviest));
            prop_assert_eq!(first, Some(&sent));
        }
    }
}
