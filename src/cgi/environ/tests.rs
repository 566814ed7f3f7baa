use super::super::vars::Proxied;
use super::*;
use crate::base::message::{Field, Span, Version};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// A head as HTTP/1 fills it in.
fn head(method: &str, target: &str, fields: &[(&str, &[u8])]) -> RequestHead {
    let mut head = RequestHead::default();
    let mut store = |text: &[u8]| {
        let start = u32::try_from(head.bytes.len()).unwrap();
        head.bytes.extend_from_slice(text);
        let len = u32::try_from(text.len()).unwrap();
        Span { start, len }
    };
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let method = store(method.as_bytes());
    let target = store(target.as_bytes());
    let path = store(path.as_bytes());
    let query = query.map(|query| store(query.as_bytes()));
    let fields: Vec<Field> = fields
        .iter()
        .map(|(name, value)| Field {
            name: store(name.as_bytes()),
            value: store(value),
        })
        .collect();
    let is_host = |field: &&Field| field.name.of(&head.bytes).eq_ignore_ascii_case(b"host");
    let host = fields.iter().find(is_host).map(|field| field.value);
    RequestHead {
        method,
        target,
        path,
        query,
        host: host.filter(|host| host.len > 0),
        version: Version::Http11,
        fields,
        bytes: head.bytes,
    }
}

/// The environ, in which each name must be there once.
fn environ(head: &RequestHead, context: &Context<'_>) -> BTreeMap<String, String> {
    let mut block = b"LEFT\0alone\0".to_vec();
    write_environ(head, context, &mut block);
    let text = |part: &[u8]| part.escape_ascii().to_string();
    let mut parts: Vec<&[u8]> = block.split(|byte| *byte == 0).collect();
    assert_eq!(parts.pop(), Some(&b""[..]), "the block ends with a NUL");
    assert!(parts.len().is_multiple_of(2), "names without values");
    let count = parts.len() / 2;
    let mut map: BTreeMap<String, String> = parts.chunks(2).map(|pair| (text(pair[0]), text(pair[1]))).collect();
    assert_eq!(map.len(), count, "a name twice in {map:?}");
    assert_eq!(map.remove("LEFT").as_deref(), Some("alone"));
    map
}

fn context() -> Context<'static> {
    Context {
        peer: Peer {
            remote_addr: "192.0.2.1",
            remote_port: Some(4711),
            server_addr: "0.0.0.0",
            server_port: Some(8000),
            proxied: None,
        },
        path_info: b"/a b",
        request_id: b"4f1c",
        server_software: "rgunicorn/1.2.3",
        ..Context::default()
    }
}

fn is(found: &BTreeMap<String, String>, name: &str, value: Option<&str>) {
    assert_eq!(found.get(name).map(String::as_str), value, "{name} in {found:#?}");
}

#[test]
fn a_plain_request_has_exactly_these() {
    let fields: &[(&str, &[u8])] = &[("Host", b"x.example:81"), ("Accept", b"*/*"), ("connection", b"close")];
    let found = environ(&head("GET", "/a%20b?c=%20d", fields), &context());
    let expected = [
        ("HTTP_ACCEPT", "*/*"),
        ("HTTP_CONNECTION", "close"),
        ("HTTP_HOST", "x.example:81"),
        ("HTTP_X_REQUEST_ID", "4f1c"),
        ("PATH_INFO", "/a b"),
        ("QUERY_STRING", "c=%20d"),
        ("RAW_URI", "/a%20b?c=%20d"),
        ("REMOTE_ADDR", "192.0.2.1"),
        ("REMOTE_PORT", "4711"),
        ("REQUEST_METHOD", "GET"),
        ("SCRIPT_NAME", ""),
        ("SERVER_NAME", "0.0.0.0"),
        ("SERVER_PORT", "8000"),
        ("SERVER_PROTOCOL", "HTTP/1.1"),
        ("SERVER_SOFTWARE", "rgunicorn/1.2.3"),
        ("wsgi.url_scheme", "http"),
    ];
    let expected: BTreeMap<String, String> = expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    assert_eq!(found, expected);
}

#[test]
fn a_body_has_type_and_length_and_no_copies_of_them() {
    let fields: &[(&str, &[u8])] = &[
        ("Content-Type", b"text/plain"),
        ("content_type", b"evil"),
        ("Content-Length", b"007"),
        ("Content_Length", b"1"),
        ("Transfer-Encoding", b"chunked"),
        ("Expect", b"100-continue"),
    ];
    let found = environ(
        &head("POST", "/", fields),
        &Context {
            content_length: Some(7),
            https: true,
            script_name: b"/app",
            ..context()
        },
    );
    is(&found, "CONTENT_TYPE", Some("text/plain"));
    is(&found, "CONTENT_LENGTH", Some("7"));
    is(&found, "SCRIPT_NAME", Some("/app"));
    is(&found, "wsgi.url_scheme", Some("https"));
    is(&found, "HTTP_EXPECT", Some("100-continue"));
    for name in ["HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING"] {
        is(&found, name, None);
    }
    let without = environ(&head("GET", "/", &[]), &context());
    is(&without, "CONTENT_TYPE", None);
    is(&without, "CONTENT_LENGTH", None);
}

#[test]
fn unix_sockets_have_the_name_and_port_that_the_client_used() {
    for (host, https, name, port) in [
        (Some("x.example:81"), false, "x.example", "81"),
        (Some("x.example"), false, "x.example", "80"),
        (Some("x.example"), true, "x.example", "443"),
        (Some("[2001:db8::1]:81"), false, "[2001:db8::1]", "81"),
        (Some(""), false, "localhost", "80"),
        (None, true, "localhost", "443"),
    ] {
        let fields: Vec<(&str, &[u8])> = host.map(|host| ("Host", host.as_bytes())).into_iter().collect();
        let context = Context {
            peer: Peer::default(),
            https,
            ..context()
        };
        let found = environ(&head("GET", "/", &fields), &context);
        is(&found, "SERVER_NAME", Some(name));
        is(&found, "SERVER_PORT", Some(port));
        is(&found, "REMOTE_ADDR", Some(""));
        is(&found, "REMOTE_PORT", None);
        is(&found, "HTTP_HOST", host);
    }
}

#[test]
fn an_absolute_target_gives_the_host_that_http_1_0_left_out() {
    let mut head = head("GET", "http://a.example/x", &[]);
    head.version = Version::Http10;
    head.host = Some(Span {
        start: head.target.start + 7,
        len: 9,
    });
    let found = environ(&head, &context());
    is(&found, "HTTP_HOST", Some("a.example"));
    is(&found, "RAW_URI", Some("http://a.example/x"));
    is(&found, "SERVER_PROTOCOL", Some("HTTP/1.0"));
}

#[test]
fn repeated_fields_are_joined_in_order_and_cookies_so_that_they_can_be_parsed() {
    let some: &[(&str, &[u8])] = &[
        ("Cookie", b"a=1"),
        ("X-Multi", b"1"),
        ("x-other", b"\xe9"),
        ("X_Multi", b"2"),
        ("cookie", b"b=2"),
        ("x-MULTI", b""),
        ("X!#$%", b"odd"),
    ];
    // Both ways of finding them must agree: few fields, and more than are compared with each other.
    for count in [0, 200] {
        let names: Vec<String> = (0..count).map(|number| format!("N-{number}")).collect();
        let mut fields = some.to_vec();
        fields.extend(names.iter().map(|name| (name.as_str(), &b"x"[..])));
        let found = environ(&head("GET", "/", &fields), &context());
        is(&found, "HTTP_COOKIE", Some("a=1; b=2"));
        is(&found, "HTTP_X_MULTI", Some("1,2,"));
        is(&found, "HTTP_X_OTHER", Some("\\xe9"));
        is(&found, "HTTP_X!#$%", Some("odd"));
        assert_eq!(found.keys().filter(|name| name.starts_with("HTTP_N_")).count(), count);
    }
}

#[test]
fn what_could_mislead_the_app_is_left_out() {
    let fields: &[(&str, &[u8])] = &[("Proxy", b"http://evil/"), ("x_request-ID", b"theirs")];
    let found = environ(&head("GET", "/", fields), &context());
    is(&found, "HTTP_PROXY", None);
    is(&found, "HTTP_X_REQUEST_ID", Some("4f1c"));
}

#[test]
fn configured_variables_replace_ours() {
    let param = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let params = [
        param("SERVER_NAME", "first"),
        param("NEW", ""),
        param("HTTP_ACCEPT", "theirs"),
        param("SERVER_NAME", "last"),
        param("BROKEN", "a\0b"),
    ];
    let context = Context {
        params: &params,
        ..context()
    };
    let found = environ(&head("GET", "/", &[("accept", b"ours"), ("X", b"1")]), &context);
    is(&found, "SERVER_NAME", Some("last"));
    is(&found, "NEW", Some(""));
    is(&found, "HTTP_ACCEPT", Some("theirs"));
    is(&found, "HTTP_X", Some("1"));
    is(&found, "BROKEN", None);
    assert_eq!(
        found.len(),
        environ(
            &head("GET", "/", &[("X", b"1")]),
            &super::Context { params: &[], ..context }
        )
        .len()
            + 2
    );
}

proptest! {
    #[test]
    fn any_fields_make_a_whole_block(
        fields in prop::collection::vec(("[!#$%&'*+.^_`|~0-9A-Za-z-]{1,20}", "[ -~]{0,20}"), 0..300),
        has_params: bool,
    ) {
        let fields: Vec<(&str, &[u8])> = fields.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        let params = [("X".to_owned(), "y".to_owned())];
        let params = if has_params { &params[..] } else { &[] };
        // `environ` checks that it is whole and names nothing twice.
        let found = environ(&head("GET", "/?x", &fields), &Context { params, ..context() });
        prop_assert_eq!(found.contains_key("X"), has_params);
    }
}

#[test]
fn a_proxied_connection_has_variables_of_its_own() {
    let proxied = |protocol, destination| {
        let context = Context {
            peer: Peer {
                proxied: Some(Proxied { protocol, destination }),
                ..context().peer
            },
            ..context()
        };
        environ(&head("GET", "/", &[]), &context)
    };
    let found = proxied("TCP4", Some(("198.51.100.7", 443)));
    is(&found, "PROXY_PROTOCOL", Some("TCP4"));
    is(&found, "PROXY_ADDR", Some("198.51.100.7"));
    is(&found, "PROXY_PORT", Some("443"));
    is(&found, "REMOTE_PORT", Some("4711"));
    let found = proxied("LOCAL", None);
    is(&found, "PROXY_PROTOCOL", Some("LOCAL"));
    is(&found, "PROXY_ADDR", None);
    is(&found, "PROXY_PORT", None);
}
