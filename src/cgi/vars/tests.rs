use super::super::joined::PAIRWISE_LIMIT;
use super::*;
use crate::base::message::{Field, Span, Version};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// A head as HTTP/1 fills it in.
fn head(method: &str, target: &str, fields: &[(&str, &str)]) -> RequestHead {
    let mut head = RequestHead::default();
    let mut store = |text: &str| {
        let start = u32::try_from(head.bytes.len()).unwrap();
        head.bytes.extend_from_slice(text.as_bytes());
        let len = u32::try_from(text.len()).unwrap();
        Span { start, len }
    };
    let method = store(method);
    let target_span = store(target);
    let (authority, origin) = match target.split_once("://") {
        Some((_, rest)) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
        None => ("", target),
    };
    let (path, query) = match origin.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (origin, None),
    };
    let path = store(path);
    let query = query.map(&mut store);
    let mut host = (!authority.is_empty()).then(|| store(authority));
    let mut list = Vec::new();
    for (name, value) in fields {
        let field = Field {
            name: store(name),
            value: store(value),
        };
        if name.eq_ignore_ascii_case("host") && host.is_none() {
            host = Some(field.value);
        }
        list.push(field);
    }
    head.method = method;
    head.target = target_span;
    head.path = path;
    head.query = query;
    head.host = host;
    head.version = Version::Http11;
    head.fields = list;
    head
}

fn pairs(block: &[u8]) -> Vec<(String, String)> {
    let text = |part: &[u8]| part.escape_ascii().to_string();
    let mut parts: Vec<&[u8]> = block.split(|byte| *byte == 0).collect();
    assert_eq!(parts.pop(), Some(&b""[..]), "the block ends with a NUL");
    assert!(parts.len().is_multiple_of(2), "names without values");
    let list = parts.chunks(2).map(|pair| (text(pair[0]), text(pair[1])));
    list.collect()
}

/// The variables, each of which must be there once.
fn vars(head: &RequestHead, context: &Context<'_>) -> BTreeMap<String, String> {
    let mut block = b"LEFT\0alone\0".to_vec();
    write_block(head, context, &mut block);
    let list = pairs(&block);
    let count = list.len();
    let mut map: BTreeMap<String, String> = list.into_iter().collect();
    assert_eq!(map.len(), count, "a name twice in {map:?}");
    assert_eq!(map.remove("LEFT").as_deref(), Some("alone"));
    map
}

fn context() -> Context<'static> {
    Context {
        peer: Peer {
            remote_addr: "192.0.2.1",
            remote_port: Some(4711),
            server_addr: "192.0.2.2",
            server_port: Some(8000),
            proxied: None,
        },
        script: Script {
            path_info: b"/a b",
            ..Script::default()
        },
        request_id: b"0123456789abcdef",
        server_software: "rgunicorn/1.2.3",
        ..Context::default()
    }
}

#[test]
fn a_plain_request_has_exactly_these() {
    let head = head("GET", "/a%20b?c=%20d", &[("Host", "x.example:81"), ("Accept", "*/*")]);
    let found = vars(&head, &context());
    let expected = [
        ("DOCUMENT_URI", "/a b"),
        ("GATEWAY_INTERFACE", "CGI/1.1"),
        ("HTTP_ACCEPT", "*/*"),
        ("HTTP_HOST", "x.example:81"),
        ("HTTP_X_REQUEST_ID", "0123456789abcdef"),
        ("PATH_INFO", "/a b"),
        ("QUERY_STRING", "c=%20d"),
        ("REDIRECT_STATUS", "200"),
        ("REMOTE_ADDR", "192.0.2.1"),
        ("REMOTE_PORT", "4711"),
        ("REQUEST_METHOD", "GET"),
        ("REQUEST_SCHEME", "http"),
        ("REQUEST_URI", "/a%20b?c=%20d"),
        ("SCRIPT_NAME", ""),
        ("SERVER_ADDR", "192.0.2.2"),
        ("SERVER_NAME", "x.example"),
        ("SERVER_PORT", "8000"),
        ("SERVER_PROTOCOL", "HTTP/1.1"),
        ("SERVER_SOFTWARE", "rgunicorn/1.2.3"),
    ];
    let expected: BTreeMap<String, String> = expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    assert_eq!(found, expected);
}

#[test]
fn a_php_request_over_https_on_a_unix_socket() {
    let fields = [
        ("Host", "x.example"),
        ("Content-Type", "text/plain"),
        ("Content-Length", "5"),
        ("Authorization", "Basic eA=="),
    ];
    let head = head("POST", "/i.php/p/q", &fields);
    let context = Context {
        peer: Peer::default(),
        https: true,
        content_length: Some(5),
        script: Script {
            script_name: b"/i.php",
            path_info: b"/p/q",
            script_filename: Some(b"/srv/i.php"),
            document_root: Some(b"/srv/"),
            path_translated: None,
        },
        pass_auth: true,
        ..context()
    };
    let found = vars(&head, &context);
    let rows = [
        ("CONTENT_LENGTH", Some("5")),
        ("CONTENT_TYPE", Some("text/plain")),
        ("DOCUMENT_ROOT", Some("/srv/")),
        ("DOCUMENT_URI", Some("/i.php/p/q")),
        ("HTTPS", Some("on")),
        ("HTTP_AUTHORIZATION", Some("Basic eA==")),
        ("HTTP_CONTENT_LENGTH", None),
        ("HTTP_CONTENT_TYPE", None),
        ("PATH_INFO", Some("/p/q")),
        ("PATH_TRANSLATED", Some("/srv/p/q")),
        ("QUERY_STRING", Some("")),
        ("REMOTE_ADDR", Some("")),
        ("REMOTE_PORT", None),
        ("REQUEST_SCHEME", Some("https")),
        ("REQUEST_URI", Some("/i.php/p/q")),
        ("SCRIPT_FILENAME", Some("/srv/i.php")),
        ("SCRIPT_NAME", Some("/i.php")),
        ("SERVER_ADDR", None),
        ("SERVER_NAME", Some("x.example")),
        ("SERVER_PORT", Some("443")),
    ];
    for (name, expected) in rows {
        assert_eq!(found.get(name).map(String::as_str), expected, "{name}");
    }
}

/// The value of one variable for a head with these fields; "-" if it is unset.
fn var(name: &str, fields: &[(&str, &str)]) -> String {
    let found = vars(&head("GET", "/", fields), &context());
    found.get(name).cloned().unwrap_or_else(|| "-".to_owned())
}

#[test]
fn fields_that_never_become_variables() {
    for name in [
        "Proxy",
        "Expect",
        "Trailer",
        "Transfer-Encoding",
        "Authorization",
        "Proxy-Authorization",
        "Content-Length",
        "Content_Length",
        "CONTENT_type",
        "Transfer_Encoding",
    ] {
        let variable = format!("HTTP_{}", name.to_ascii_uppercase().replace('-', "_"));
        assert_eq!(var(&variable, &[(name, "x")]), "-", "{name}");
        // Neighbours of the same length are passed.
        let other = format!("y{}", &name[1..]);
        let variable = format!("HTTP_{}", other.to_ascii_uppercase().replace('-', "_"));
        assert_eq!(var(&variable, &[(&other, "x")]), "x", "{other}");
    }
}

#[test]
fn authorization_is_passed_on_request() {
    let fields = [("authorization", "Basic x"), ("Proxy-Authorization", "y")];
    let context = Context {
        pass_auth: true,
        ..context()
    };
    let found = vars(&head("GET", "/", &fields), &context);
    assert_eq!(found["HTTP_AUTHORIZATION"], "Basic x");
    assert_eq!(found["HTTP_PROXY_AUTHORIZATION"], "y");
}

#[test]
fn the_request_id_is_ours() {
    for name in ["X-Request-Id", "x_request_id"] {
        assert_eq!(var("HTTP_X_REQUEST_ID", &[(name, "theirs")]), "0123456789abcdef");
    }
    let context = Context {
        request_id: b"",
        ..context()
    };
    let found = vars(&head("GET", "/", &[("X-Request-Id", "theirs")]), &context);
    assert!(!found.contains_key("HTTP_X_REQUEST_ID"));
}

#[test]
fn what_connection_names_is_not_passed() {
    let named = |value: &str, field: &str| {
        let variable = format!("HTTP_{}", str::to_ascii_uppercase(field).replace('-', "_"));
        var(&variable, &[("connection", value), (field, "v")]) == "-"
    };
    assert!(named("x-a", "X-A"));
    assert!(named("close, \tX_A ,b", "x-a"));
    assert!(named("Keep-Alive", "Keep-Alive"));
    assert!(!named("close", "X-A"));
    assert!(!named("x-ab", "X-A"));
    // A client cannot strip what a proxy in front added.
    for field in [
        "Cookie",
        "X-Forwarded-For",
        "x-forwarded-proto",
        "Forwarded",
        "X-Real-IP",
    ] {
        assert!(!named(&field.to_ascii_lowercase(), field), "{field}");
    }
    let fields = [
        ("Connection", "a"),
        ("A", "1"),
        ("connection", "b"),
        ("B", "2"),
        ("C", "3"),
    ];
    assert_eq!(var("HTTP_A", &fields), "-");
    assert_eq!(var("HTTP_B", &fields), "-");
    assert_eq!(var("HTTP_C", &fields), "3");
    assert_eq!(var("HTTP_CONNECTION", &fields), "a, b");
    assert_eq!(var("HTTP_HOST", &[("Connection", "host"), ("Host", "h")]), "h");
    // The 17th name is not heeded.
    let many = format!("{}last", "a,".repeat(16));
    assert!(!named(&many, "last"));
    assert!(named(&many[2..], "last"));
}

#[test]
fn repeated_fields_are_merged_in_order() {
    let fields = [
        ("X-A", "1"),
        ("Cookie", "a=1"),
        ("B", "x"),
        ("x-a", "2"),
        ("cookie", "b=2"),
        ("X_A", ""),
        ("COOKIE", "c=3"),
    ];
    assert_eq!(var("HTTP_X_A", &fields), "1, 2, ");
    assert_eq!(var("HTTP_COOKIE", &fields), "a=1; b=2; c=3");
    assert_eq!(var("HTTP_B", &fields), "x");
}

#[test]
fn very_many_fields_are_merged_alike() {
    for count in [PAIRWISE_LIMIT, PAIRWISE_LIMIT + 1, 5 * PAIRWISE_LIMIT] {
        let names: Vec<String> = (0..count - 2).map(|number| format!("F-{}", number % 70)).collect();
        let mut fields: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "v")).collect();
        fields.push(("Proxy", "x"));
        fields.push(("F_1", "last"));
        let found = vars(&head("GET", "/", &fields), &context());
        assert!(!found.contains_key("HTTP_PROXY"), "{count}");
        let expected = names.iter().filter(|name| *name == "F-1").count();
        assert_eq!(found["HTTP_F_1"], "v, ".repeat(expected) + "last", "{count}");
        let expected = names.iter().filter(|name| *name == "F-69").count();
        assert_eq!(found["HTTP_F_69"].matches('v').count(), expected, "{count}");
    }
}

#[test]
fn names_that_variables_cannot_tell_apart_are_left_out() {
    let proxy = ("X-Remote-User", "real");
    // All that a token may have besides.
    for byte in "!#$%&'*+.^`|~".chars() {
        for name in [format!("X{byte}Remote{byte}User"), format!("X-Remote-User{byte}")] {
            for fields in [[(name.as_str(), "admin"), proxy], [proxy, (&name, "admin")]] {
                let head = head("GET", "/", &fields);
                let mut block = Vec::new();
                let odd = write_block(&head, &context(), &mut block);
                assert_eq!(odd, Some(name.as_bytes()));
                let with_x = |(name, _): &(String, String)| name.starts_with("HTTP_X") && name != "HTTP_X_REQUEST_ID";
                let found: Vec<_> = pairs(&block).into_iter().filter(with_x).collect();
                assert_eq!(found, [("HTTP_X_REMOTE_USER".to_owned(), "real".to_owned())], "{name}");
            }
        }
    }
    let fields = [("X-Az-09", "1"), ("b.c", "2"), ("d.e", "3")];
    let mut block = Vec::new();
    assert_eq!(
        write_block(&head("GET", "/", &fields), &context(), &mut block),
        Some(&b"b.c"[..])
    );
    assert_eq!(
        write_block(&head("GET", "/", &fields[..1]), &context(), &mut block),
        None
    );
}

#[test]
fn targets_become_uris() {
    let row = |target: &str| {
        let found = vars(&head("GET", target, &[("Host", "h.example")]), &context());
        let or_unset = |name: &str| found.get(name).cloned().unwrap_or_else(|| "-".to_owned());
        [
            or_unset("REQUEST_URI"),
            or_unset("RAW_URI"),
            or_unset("QUERY_STRING"),
            or_unset("HTTP_HOST"),
            or_unset("SERVER_NAME"),
        ]
        .join(" ")
    };
    assert_eq!(row("/a%2Fb?c"), "/a%2Fb?c - c h.example h.example");
    assert_eq!(row("/a?"), "/a? -  h.example h.example");
    assert_eq!(row("*"), "* -  h.example h.example");
    assert_eq!(
        row("http://i.example:8/a?b"),
        "/a?b http://i.example:8/a?b b i.example:8 i.example"
    );
    assert_eq!(row("http://i.example"), "/ http://i.example  i.example i.example");
}

#[test]
fn hosts_become_server_names() {
    let row = |host: Option<&str>, server_addr: &'static str, server_port, https| {
        let fields: Vec<_> = host.iter().map(|host| ("Host", *host)).collect();
        let context = Context {
            https,
            peer: Peer {
                server_addr,
                server_port,
                ..Peer::default()
            },
            ..context()
        };
        let found = vars(&head("GET", "/", &fields), &context);
        let server_addr = found.get("SERVER_ADDR").map_or("-", String::as_str);
        format!("{} {} {}", found["SERVER_NAME"], found["SERVER_PORT"], server_addr)
    };
    assert_eq!(row(Some("a.b:81"), "192.0.2.2", Some(80), false), "a.b 80 192.0.2.2");
    assert_eq!(row(Some("a.b:81"), "", None, false), "a.b 81 -");
    assert_eq!(row(Some("a.b"), "/run/x.sock", None, false), "a.b 80 -");
    assert_eq!(row(Some("a.b:"), "", None, true), "a.b 443 -");
    assert_eq!(row(Some("a.b:8x"), "", None, true), "a.b 443 -");
    assert_eq!(row(Some("[2001:db8::1]:81"), "", None, false), "[2001:db8::1] 81 -");
    assert_eq!(row(Some("[2001:db8::1]"), "", None, false), "[2001:db8::1] 80 -");
    assert_eq!(row(Some("[2001:db8::1"), "", None, false), "[2001:db8::1 80 -");
    assert_eq!(
        row(None, "2001:db8::2%eth0", Some(80), false),
        "[2001:db8::2] 80 2001:db8::2"
    );
    assert_eq!(row(None, "::ffff:192.0.2.2", Some(80), false), "192.0.2.2 80 192.0.2.2");
    assert_eq!(row(Some(""), "192.0.2.2", Some(80), false), "192.0.2.2 80 192.0.2.2");
    assert_eq!(row(None, "/run/x.sock", None, false), "localhost 80 -");
    assert_eq!(row(None, "", None, true), "localhost 443 -");
}

#[test]
fn addresses_are_plain() {
    for (address, expected) in [
        ("", ""),
        ("192.0.2.1", "192.0.2.1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("::FFFF:192.0.2.1", "192.0.2.1"),
        ("::ffff:c000:201", "::ffff:c000:201"),
        ("::1", "::1"),
        ("éééé", "éééé"),
    ] {
        assert_eq!(plain_address(address), expected);
    }
}

#[test]
fn path_translated_needs_a_path_that_stays_inside() {
    let row = |path_info, path_translated| {
        let script = Script {
            path_info,
            path_translated,
            document_root: Some(b"/srv"),
            ..Script::default()
        };
        let found = vars(&head("GET", "/", &[]), &Context { script, ..context() });
        found.get("PATH_TRANSLATED").cloned()
    };
    assert_eq!(row(b"/a", None).as_deref(), Some("/srv/a"));
    assert_eq!(row(b"/a", Some(b"/x")).as_deref(), Some("/x"));
    assert_eq!(row(b"", Some(b"/x")), None);
    assert_eq!(row(b"/../a", None), None);
    assert_eq!(row(b"/a/..", None), None);
    assert_eq!(row(b"/..a/b..", None).as_deref(), Some("/srv/..a/b.."));
    assert_eq!(row(b"*", None), None);
}

#[test]
fn params_replace_whatever_has_their_name() {
    let params = [
        ("REQUEST_METHOD", "PUT"),
        ("HTTP_X_A", "p"),
        ("NEW", "1"),
        ("HTTP_HOST", "p.example"),
        ("NEW", "2"),
        ("BAD\0NAME", "x"),
        ("BAD", "a\0b"),
        ("", "x"),
        ("EMPTY", ""),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let context = Context {
        params: &params,
        ..context()
    };
    let fields = [("Host", "h"), ("X-A", "1"), ("x_a", "2"), ("X-AB", "3")];
    let found = vars(&head("GET", "/", &fields), &context);
    assert_eq!(found["REQUEST_METHOD"], "PUT");
    assert_eq!(found["HTTP_X_A"], "p");
    assert_eq!(found["HTTP_X_AB"], "3");
    assert_eq!(found["HTTP_HOST"], "p.example");
    assert_eq!(found["NEW"], "2");
    assert_eq!(found["EMPTY"], "");
    assert!(!found.keys().any(|name| name.is_empty() || name.starts_with("BAD")));
}

proptest! {
    /// The merging loop against a map, which says the same more slowly.
    #[test]
    fn merging_agrees_with_a_map(
        fields in prop::collection::vec(("(X[-_]A|x-b|Cookie|Z[a-c]{1,2})", "[a-z]{0,3}"), 0..200),
    ) {
        let borrowed: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let found = vars(&head("GET", "/", &borrowed), &context());
        let mut expected: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for (name, value) in &borrowed {
            let name = format!("HTTP_{}", name.to_ascii_uppercase().replace('-', "_"));
            expected.entry(name).or_default().push(value);
        }
        expected.insert("HTTP_X_REQUEST_ID".to_owned(), vec!["0123456789abcdef"]);
        let expected: BTreeMap<String, String> = expected
            .into_iter()
            .map(|(name, values)| {
                let separator = if name == "HTTP_COOKIE" { "; " } else { ", " };
                (name, values.join(separator))
            })
            .collect();
        let found: BTreeMap<String, String> = found
            .into_iter()
            .filter(|(name, _)| name.starts_with("HTTP_"))
            .collect();
        prop_assert_eq!(found, expected);
    }
}
