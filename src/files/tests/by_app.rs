//! Files that apps name: which fields name one, and which fields stay.

use crate::base::message::ResponseHead;
use crate::files::by_app::{Naming, Wish, accel_path, below, content_type, drop_names, keep_fields};
use proptest::prelude::*;

fn response(fields: &[(&str, &str)]) -> ResponseHead {
    let mut head = ResponseHead::default();
    for (name, value) in fields {
        head.push(name.as_bytes(), value.as_bytes());
    }
    head
}

fn names(head: &ResponseHead) -> Vec<String> {
    let names = head.fields().map(|(name, _)| String::from_utf8(name.to_vec()).unwrap());
    names.collect()
}

#[test]
fn what_names_a_file() {
    let (both, one, other) = ((true, true), (true, false), (false, true));
    for (fields, counts, expected) in [
        (&[("Content-Type", "a/b")][..], both, None),
        (
            &[("X-Sendfile", "/a")],
            both,
            Some((Naming::Sendfile, "X-Sendfile", "/a")),
        ),
        (
            &[("x-sendfile", "/a")],
            one,
            Some((Naming::Sendfile, "X-Sendfile", "/a")),
        ),
        (&[("x-sendfile", "/a")], other, None),
        (&[("x-sendfile", "")], both, None),
        (
            &[("X-LIGHTTPD-Send-File", "/a")],
            both,
            Some((Naming::Sendfile, "X-LIGHTTPD-send-file", "/a")),
        ),
        (
            &[("X-Sendfile", ""), ("X-Lighttpd-send-file", "/b")],
            both,
            Some((Naming::Sendfile, "X-LIGHTTPD-send-file", "/b")),
        ),
        (&[("X-Accel-Redirect", "/a")], one, None),
        (
            &[("X-Sendfile", "/a"), ("X-Accel-Redirect", "/b")],
            both,
            Some((Naming::Accel, "X-Accel-Redirect", "/b")),
        ),
        (
            &[("X-Sendfile", "/a"), ("X-Accel-Redirect", "/b")],
            one,
            Some((Naming::Sendfile, "X-Sendfile", "/a")),
        ),
    ] {
        let head = response(fields);
        let found = Naming::of(&head, |naming| match naming {
            Naming::Sendfile => counts.0,
            Naming::Accel => counts.1,
        });
        let shown = found.map(|naming| {
            let (name, value) = naming.field(&head);
            (naming, name, std::str::from_utf8(value).unwrap())
        });
        assert_eq!(shown, expected, "{fields:?} {counts:?}");
    }
    assert_eq!(Naming::Accel.field(&response(&[])), ("", &b""[..]));
}

#[test]
fn what_a_status_wishes() {
    for (status, expected) in [
        (200, Wish::Usual),
        (206, Wish::Usual),
        (201, Wish::Whole(201)),
        (204, Wish::Nothing),
        (304, Wish::Nothing),
        (403, Wish::Whole(403)),
        (503, Wish::Whole(503)),
    ] {
        assert_eq!(Wish::of(status), expected);
    }
}

#[test]
fn which_fields_stay() {
    let app = response(&[
        ("X-Sendfile", "/a"),
        ("X-Accel-Redirect", "/a"),
        ("x-accel-buffering", "no"),
        ("Content-Type", "text/plain"),
        ("Content-Disposition", "attachment"),
        ("Content-Language", "de"),
        ("Content-Range", "bytes 0-1/2"),
        ("Set-Cookie", "a=1"),
        ("Set-Cookie", "b=2"),
        ("Cache-Control", "private"),
        ("Expires", "0"),
        ("ETag", "\"theirs\""),
        ("Last-Modified", "Thu, 01 Jan 1970 00:00:00 GMT"),
        ("Accept-Ranges", "none"),
        ("Vary", "Cookie"),
        ("X-Own", "1"),
    ]);
    assert_eq!(content_type(&app), Some("text/plain"));
    assert_eq!(content_type(&response(&[("Content-Type", "\u{fc}")])), Some("\u{fc}"));
    assert_eq!(content_type(&response(&[("Content-Type", "")])), None);
    let kept = |status, length| {
        let mut answer = ResponseHead {
            status,
            content_length: length,
            ..response(&[("ETag", "ours")])
        };
        keep_fields(&app, &mut answer);
        names(&answer).join(" ")
    };
    let all = "ETag Content-Disposition Content-Language Set-Cookie Set-Cookie Cache-Control Expires Vary X-Own";
    assert_eq!(kept(200, Some(5)), all);
    assert_eq!(kept(206, Some(5)), all);
    // An error page of the app's, sent from a file.
    assert_eq!(kept(404, Some(5)), all);
    assert_eq!(
        kept(304, None),
        "ETag Set-Cookie Set-Cookie Cache-Control Expires Vary X-Own"
    );
    assert_eq!(kept(412, None), "ETag");
    assert_eq!(kept(416, None), "ETag");
    let mut app = app;
    drop_names(&mut app);
    assert_eq!(names(&app).len(), 13);
    assert_eq!(app.field("etag"), Some(&b"\"theirs\""[..]));
}

#[test]
fn starts_of_paths() {
    for (path, prefix, expected) in [
        ("/a/b", "/a", Some("/b")),
        ("/a/b", "/a/", Some("/b")),
        ("/a", "/a", Some("")),
        ("/ab", "/a", None),
        ("/a", "/a/b", None),
        ("/a", "", Some("/a")),
        ("a", "", None),
        ("", "", Some("")),
        ("/a/../b", "/a", Some("/../b")),
    ] {
        let found = below(path.as_bytes(), prefix.as_bytes());
        assert_eq!(found, expected.map(str::as_bytes), "{path} below {prefix}");
    }
    assert_eq!(accel_path(b"/a?b?c"), b"/a");
    assert_eq!(accel_path(b"/a%3Fb"), b"/a%3Fb");
    assert_eq!(accel_path(b""), b"");
}

/// Some name, in some spelling of those that mean something here.
fn any_name() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "X-Sendfile",
        "x-accel-redirect",
        "X-LIGHTTPD-send-file",
        "X-Accel-Limit-Rate",
        "Content-Type",
        "Content-Length",
        "ETag",
        "last-modified",
        "Set-Cookie",
        "X-",
        "X-A",
    ]);
    prop_oneof![known.prop_map(str::to_owned), "[A-Za-z-]{1,12}"]
}

proptest! {
    #[test]
    fn no_client_learns_what_was_named(
        fields in prop::collection::vec((any_name(), "[ -~]{0,12}"), 0..12),
        status in prop::sample::select(vec![200_u16, 206, 304, 404, 416]),
        has_length: bool,
    ) {
        let fields: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let app = response(&fields);
        let mut answer = ResponseHead { status, content_length: has_length.then_some(1), ..ResponseHead::default() };
        keep_fields(&app, &mut answer);
        let mut bodiless = app.clone();
        drop_names(&mut bodiless);
        for head in [&answer, &bodiless] {
            prop_assert!(Naming::of(head, |_| true).is_none());
            for name in names(head) {
                prop_assert!(!name.to_ascii_lowercase().starts_with("x-accel-"), "{}", name);
            }
        }
        for name in names(&answer) {
            let name = name.to_ascii_lowercase();
            prop_assert!(!["etag", "last-modified", "content-length", "content-type"].contains(&name.as_str()), "{}", name);
        }
        // What stays is in the order of the app, with its values.
        let mut rest = fields.iter();
        for (name, value) in answer.fields() {
            prop_assert!(rest.any(|(known, given)| known.as_bytes() == name && given.as_bytes() == value));
        }
    }
}
