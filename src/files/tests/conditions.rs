//! RFC 9110 §13.

use super::*;
use proptest::prelude::*;

const BEFORE: &str = "Sat, 29 Oct 1994 19:43:30 GMT";
const EXACT: &str = "Sat, 29 Oct 1994 19:43:31 GMT";
const AFTER: &str = "Sat, 29 Oct 1994 19:43:32 GMT";

fn status(method: &str, fields: &[(&str, &str)]) -> u16 {
    usual(method, fields).head.status
}

#[test]
fn one_condition() {
    let own = TAG.to_owned();
    let weak = format!("W/{TAG}");
    let list = format!("\"a\", W/\"b\" ,, {TAG}\t,\"c\"");
    let comma = format!("\"a,{TAG}\", {TAG}");
    let inside = format!("\"x{}x\"", TAG.replace('"', ""));
    let after_garbage = format!("a, {TAG}");
    let glued = format!("\"a\"{TAG}");
    for (name, value, expected) in [
        // §8.8.3.2: weak comparison for If-None-Match.
        ("If-None-Match", own.as_str(), 304),
        ("If-None-Match", &weak, 304),
        ("If-None-Match", &list, 304),
        ("If-None-Match", "*", 304),
        ("If-None-Match", "\"other\"", 200),
        ("If-None-Match", "W/\"other\"", 200),
        ("If-None-Match", "", 200),
        ("If-None-Match", "\"", 200),
        ("If-None-Match", &TAG.replace('"', ""), 200),
        ("If-None-Match", &inside, 200),
        ("If-None-Match", &after_garbage, 200),
        ("If-None-Match", &glued, 200),
        ("If-None-Match", "*, \"a\"", 200),
        ("If-None-Match", &format!("w/{TAG}"), 200),
        ("If-None-Match", &format!("\"\u{e9}\", {TAG}"), 304),
        // Strong for If-Match.
        ("If-Match", &own, 200),
        ("If-Match", &weak, 412),
        ("If-Match", &list, 200),
        ("If-Match", "*", 200),
        ("If-Match", "\"other\"", 412),
        ("If-Match", "", 412),
        ("If-Match", &comma, 412),
        ("If-Modified-Since", BEFORE, 200),
        ("If-Modified-Since", EXACT, 304),
        ("If-Modified-Since", AFTER, 304),
        ("If-Modified-Since", "Saturday, 29-Oct-94 19:43:31 GMT", 304),
        ("If-Modified-Since", "Sat Oct 29 19:43:31 1994", 304),
        ("If-Modified-Since", "yesterday", 200),
        ("If-Modified-Since", "", 200),
        ("If-Modified-Since", "Sat, 29 Oct 1994 19:43:31 GMT; length=1000", 200),
        ("If-Modified-Since", "Sat, 29 Oct 1994 19:43:31 \u{e9}", 200),
        ("If-Unmodified-Since", BEFORE, 412),
        ("If-Unmodified-Since", EXACT, 200),
        ("If-Unmodified-Since", AFTER, 200),
        ("If-Unmodified-Since", "yesterday", 200),
        ("If-Unmodified-Since", "0", 200),
    ] {
        for method in ["GET", "HEAD"] {
            assert_eq!(status(method, &[(name, value)]), expected, "{method} {name}: {value}");
        }
    }
}

#[test]
fn several_conditions() {
    let case = |fields: &[(&str, &str)], expected: u16| {
        assert_eq!(status("GET", fields), expected, "{fields:?}");
        let mut backwards = fields.to_vec();
        backwards.reverse();
        assert_eq!(status("GET", &backwards), expected, "{backwards:?}");
    };
    let other = "\"other\"";
    // If-None-Match makes If-Modified-Since count for nothing, If-Match does so to If-Unmodified-Since.
    case(&[("If-None-Match", other), ("If-Modified-Since", AFTER)], 200);
    case(&[("If-None-Match", TAG), ("If-Modified-Since", BEFORE)], 304);
    case(&[("If-Match", TAG), ("If-Unmodified-Since", BEFORE)], 200);
    case(&[("If-Match", other), ("If-Unmodified-Since", AFTER)], 412);
    // Those that fail come first.
    case(&[("If-Match", other), ("If-None-Match", TAG)], 412);
    case(&[("If-Match", TAG), ("If-None-Match", TAG)], 304);
    case(&[("If-Unmodified-Since", BEFORE), ("If-Modified-Since", AFTER)], 412);
    case(&[("If-Unmodified-Since", AFTER), ("If-Modified-Since", AFTER)], 304);
    // Lines of one field are one list; a date is no list.
    case(&[("If-None-Match", other), ("if-none-match", TAG)], 304);
    case(&[("If-Match", other), ("IF-MATCH", TAG)], 200);
    case(&[("If-Modified-Since", AFTER), ("If-Modified-Since", AFTER)], 200);
    case(&[("If-Unmodified-Since", BEFORE), ("If-Unmodified-Since", BEFORE)], 200);
    // Conditions come before ranges.
    case(&[("If-None-Match", TAG), ("Range", "bytes=0-1")], 304);
    case(&[("If-Match", other), ("Range", "bytes=5000-")], 412);
}

#[test]
fn what_a_304_says() {
    let facts = facts();
    let varied = Representation {
        coding: Some(Coding::Brotli),
        varies: true,
        ..html(&facts)
    };
    let answer = answered("GET", &[("If-None-Match", "*")], &varied);
    assert_eq!(
        shown(&answer),
        "304\nETag: \"2eb2a5e3075bcd15-3e8-br\"\nVary: Accept-Encoding"
    );
    assert_eq!(answer.pieces, []);
    assert_eq!(shown(&usual("GET", &[("If-Match", "\"x\"")])), "412");
    // The tag of another coding is another tag.
    let plain = answered("GET", &[("If-None-Match", TAG)], &varied);
    assert_eq!(plain.head.status, 200);
}

#[test]
fn a_range_counts_if_the_file_is_the_same() {
    let weak = format!("W/{TAG}");
    let list = format!("{TAG}, \"a\"");
    for (value, expected) in [
        (TAG, 206),
        (&weak, 200),
        (&list, 200),
        ("\"other\"", 200),
        ("*", 200),
        ("", 200),
        (EXACT, 206),
        ("Saturday, 29-Oct-94 19:43:31 GMT", 206),
        (BEFORE, 200),
        (AFTER, 200),
        ("yesterday", 200),
    ] {
        let fields = [("Range", "bytes=0-1"), ("If-Range", value)];
        assert_eq!(status("GET", &fields), expected, "If-Range: {value}");
        // It makes no difference where no range was asked for.
        assert_eq!(status("GET", &fields[1..]), 200, "If-Range: {value}");
    }
    let twice = [("Range", "bytes=0-1"), ("If-Range", TAG), ("If-Range", TAG)];
    assert_eq!(status("GET", &twice), 200);
    // A range that the changed file may not have is no reason to refuse.
    let changed = [("Range", "bytes=5000-"), ("If-Range", "\"other\"")];
    assert_eq!(status("GET", &changed), 200);
}

#[test]
fn the_date_of_a_file_that_may_still_change_within_its_second_is_no_proof() {
    let status = |now: u64| {
        let fields = [("Range", "bytes=0-1"), ("If-Range", EXACT)];
        let now = UNIX_EPOCH + Duration::from_millis(now);
        let mut out = Answer::default();
        let facts = facts();
        answer(
            &request("GET", &fields),
            &html(&facts),
            now,
            Boundary::from_seed(1),
            &mut out,
        );
        out.head.status
    };
    let modified = u64::try_from(MODIFIED).unwrap() * 1000;
    assert_eq!(status(modified + 999), 200);
    assert_eq!(status(modified + 1000), 206);
}

/// A value for each of the four fields: absent, or one that holds or not.
fn model(matches: Option<bool>, unmodified: Option<bool>, none_match: Option<bool>, since: Option<bool>) -> u16 {
    match (matches, unmodified) {
        (Some(false), _) | (None, Some(false)) => return 412,
        _ => {}
    }
    match (none_match, since) {
        (Some(false), _) | (None, Some(false)) => 304,
        _ => 200,
    }
}

proptest! {
    #[test]
    fn the_order_of_the_rfc(
        matches: Option<bool>, unmodified: Option<bool>, none_match: Option<bool>, since: Option<bool>, head: bool,
    ) {
        let pick = |holds, yes: &'static str, no: &'static str| if holds { yes } else { no };
        let fields: Vec<(&str, &str)> = [
            matches.map(|holds| ("If-Match", pick(holds, TAG, "\"x\""))),
            unmodified.map(|holds| ("If-Unmodified-Since", pick(holds, AFTER, BEFORE))),
            none_match.map(|holds| ("If-None-Match", pick(holds, "\"x\"", TAG))),
            since.map(|holds| ("If-Modified-Since", pick(holds, BEFORE, EXACT))),
        ]
        .into_iter()
        .flatten()
        .collect();
        let method = if head { "HEAD" } else { "GET" };
        prop_assert_eq!(status(method, &fields), model(matches, unmodified, none_match, since));
    }

    #[test]
    fn lists_of_tags(
        before in proptest::collection::vec("(W/)?\"[!#-~\u{80}-\u{ff}]{0,6}\"", 0..4),
        after in proptest::collection::vec("(W/)?\"[!#-~]{0,6}\"", 0..4),
        comma in " {0,2},[ ,\t]{0,3}",
        weak: bool, present: bool,
    ) {
        let own = format!("{}{TAG}", if weak { "W/" } else { "" });
        let own = present.then_some(own);
        let all: Vec<String> = before.into_iter().chain(own).chain(after).collect();
        let value = all.join(&comma);
        let expected = if present { 304 } else { 200 };
        prop_assert_eq!(status("GET", &[("If-None-Match", &value)]), expected);
        let expected = if present && !weak { 200 } else { 412 };
        prop_assert_eq!(status("GET", &[("If-Match", &value)]), expected);
    }

    #[test]
    fn any_text_in_any_field_is_answered(
        name in proptest::sample::select(&["If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since",
            "If-Range", "Range", "Accept-Encoding"][..]),
        value in "\\PC{0,40}",
    ) {
        let answer = usual("GET", &[("Range", "bytes=0-1"), (name, &value)]);
        prop_assert!([200, 206, 304, 412, 416].contains(&answer.head.status));
    }
}
