//! What a peer says about a request counts only if the peer is trusted.

use crate::harness::server::list;
use crate::harness::{Address, Client, Server, Setup, request, wait_for};

/// The variables that the app gets of a GET with these fields.
fn variables(address: &Address, fields: &[(&str, &str)]) -> Vec<(String, String)> {
    let response = request(address, "GET", "/vars", fields, b"");
    assert_eq!(response.status, 200, "{fields:?}: {}", response.text());
    let text = response.text();
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn variable(address: &Address, name: &str, fields: &[(&str, &str)]) -> Option<String> {
    let mut found = variables(address, fields).into_iter().filter(|(key, _)| key == name);
    let value = found.next().map(|(_, value)| value);
    assert_eq!(found.next(), None, "{name} is there twice");
    value
}

fn https(server: &Server, fields: &[(&str, &str)]) -> bool {
    let on = variable(&server.address, "HTTPS", fields).as_deref() == Some("on");
    let scheme = variable(&server.address, "REQUEST_SCHEME", fields);
    assert_eq!(scheme.as_deref(), Some(if on { "https" } else { "http" }), "{fields:?}");
    on
}

/// A server to which 127.0.0.1 is a stranger.
fn distrustful() -> Setup {
    Setup::c_app(1).with("forwarded_allow_ips", list(&["10.0.0.0/8"]))
}

#[test]
fn a_trusted_peer_says_which_scheme_the_client_used() {
    let server = Setup::c_app(1).allow("contradictory scheme fields").start();
    assert!(!https(&server, &[]));
    for secure in [
        ("X-Forwarded-Proto", "https"),
        ("x-forwarded-protocol", "ssl"),
        ("X-FORWARDED-SSL", "on"),
    ] {
        assert!(https(&server, &[secure]), "{secure:?}");
    }
    assert!(!https(&server, &[("X-Forwarded-Proto", "http")]));
    // A value that is not exactly the agreed one, and two fields that disagree.
    assert!(!https(&server, &[("X-Forwarded-Proto", "https, http")]));
    let both = [("X-Forwarded-Proto", "https"), ("X-Forwarded-Ssl", "off")];
    let response = request(&server.address, "GET", "/vars", &both, b"");
    assert_eq!(response.status, 400, "{}", response.text());
    server.stop();
}

#[test]
fn a_stranger_says_nothing_about_the_scheme() {
    let server = distrustful().start();
    assert!(!https(&server, &[("X-Forwarded-Proto", "https")]));
    let both = [("X-Forwarded-Proto", "https"), ("X-Forwarded-Ssl", "off")];
    assert!(!https(&server, &both), "what is not believed cannot disagree");
    server.stop();
}

#[test]
fn networks_and_everybody_can_be_trusted() {
    let secure = [("X-Forwarded-Proto", "https")];
    for (trusted, expected) in [
        (&["127.0.0.0/8"][..], true),
        (&["*"], true),
        (&["::1", "127.0.0.2"], false),
    ] {
        let server = Setup::c_app(1).with("forwarded_allow_ips", list(trusted)).start();
        assert_eq!(https(&server, &secure), expected, "{trusted:?}");
        server.stop();
    }
}

#[test]
fn peers_on_a_unix_socket_are_trusted() {
    let server = distrustful().on_unix_socket().start();
    assert!(https(&server, &[("X-Forwarded-Proto", "https")]));
    server.stop();
}

#[test]
fn a_v4_client_of_a_v6_listener_keeps_its_v4_address() {
    let server = Setup::c_app(1).with("bind", list(&["[::]:0"])).start();
    let Address::Tcp(bound) = server.address else {
        panic!("a TCP address");
    };
    let v4 = Address::Tcp(([127, 0, 0, 1], bound.port()).into());
    assert_eq!(variable(&v4, "REMOTE_ADDR", &[]).as_deref(), Some("127.0.0.1"));
    // And is trusted as such.
    let secure = [("X-Forwarded-Proto", "https")];
    assert_eq!(variable(&v4, "HTTPS", &secure).as_deref(), Some("on"));
    server.stop();
}

#[test]
fn names_with_underscores_are_dropped_unless_a_trusted_peer_may_send_them() {
    let fields = [("Remote_User", "root"), ("X_Other", "1"), ("X-Plain", "2")];
    for (setup, passed) in [
        (Setup::c_app(1), false),
        (Setup::c_app(1).with("forwarder_headers", list(&["remote_user"])), true),
        (distrustful().with("forwarder_headers", list(&["*"])), false),
    ] {
        let server = setup.start();
        let user = variable(&server.address, "HTTP_REMOTE_USER", &fields);
        assert_eq!(user.as_deref(), passed.then_some("root"));
        assert_eq!(variable(&server.address, "HTTP_X_OTHER", &fields), None);
        assert_eq!(variable(&server.address, "HTTP_X_PLAIN", &fields).as_deref(), Some("2"));
        assert_eq!(variable(&server.address, "REMOTE_USER", &fields), None);
        server.stop();
    }
}

/// SCRIPT_NAME, PATH_INFO and REQUEST_URI for a path when the peer sends the field SCRIPT_NAME, or the status.
fn split(address: &Address, path: &str, place: &str) -> Result<[String; 3], u16> {
    let fields = [("SCRIPT_NAME", place)];
    let response = request(address, "GET", path, &fields, b"");
    if response.status != 200 {
        return Err(response.status);
    }
    let text = response.text();
    Ok(["SCRIPT_NAME", "PATH_INFO", "REQUEST_URI"].map(|name| {
        let prefix = format!("{name}=");
        let value = text.lines().find_map(|line| line.strip_prefix(&prefix));
        value.unwrap_or_default().to_owned()
    }))
}

#[test]
fn a_trusted_peer_says_where_the_app_is_mounted() {
    let found = |place: &str, path: &str, uri: &str| Ok([place.to_owned(), path.to_owned(), uri.to_owned()]);
    let server = Setup::c_app(1).allow("does not begin with SCRIPT_NAME").start();
    let at = &server.address;
    assert_eq!(split(at, "/app/vars", "/app"), found("/app", "/vars", "/app/vars"));
    assert_eq!(split(at, "/app/vars?a", "/app/"), found("/app", "/vars", "/app/vars?a"));
    assert_eq!(
        split(at, "/a%20b/v%61rs", "/a%20b"),
        found("/a b", "/vars", "/a%20b/v%61rs")
    );
    assert_eq!(split(at, "/vars", ""), found("", "/vars", "/vars"));
    for path in ["/vars", "/apple/vars"] {
        assert_eq!(split(at, path, "/app"), Err(500), "{path}");
        server.wait_for_log(&format!("path \"{path}\" does not begin with SCRIPT_NAME \"/app\""));
    }
    server.stop();
    // From strangers it means nothing, even where it gets through as a field.
    for header_map in ["drop", "dangerous"] {
        let server = distrustful().with_text("header_map", header_map).start();
        assert_eq!(split(&server.address, "/vars", "/app"), found("", "/vars", "/vars"));
        server.stop();
    }
}

#[test]
fn a_trusted_peer_whose_field_is_dropped_gets_one_hint_in_the_log() {
    let hints = |server: &Server| server.log().matches("is dropped, as its name has").count();
    let server = Setup::c_app(1).start();
    variables(&server.address, &[("X-Plain", "1")]);
    variables(&server.address, &[("Remote_User", "root")]);
    server.wait_for_log("the field Remote_User of the trusted peer 127.0.0.1 is dropped");
    // The log of a turn is written before the next turn: after another answer nothing more can come.
    for _ in 0..2 {
        variables(&server.address, &[("X_Other", "1")]);
    }
    assert_eq!(hints(&server), 1, "{}", server.log());
    server.stop();
    let server = Setup::c_app(1).start();
    let fields = [("X.Remote.User", "root"), ("X-Remote-User", "real")];
    let found = variables(&server.address, &fields);
    let is_user = |(name, _): &(String, String)| name.contains("REMOTE") && name.starts_with("HTTP_");
    let named: Vec<_> = found.into_iter().filter(is_user).collect();
    assert_eq!(named, [("HTTP_X_REMOTE_USER".to_owned(), "real".to_owned())]);
    server.wait_for_log("the field X.Remote.User of the trusted peer 127.0.0.1 is dropped, as its name has more than");
    server.stop();
    let server = distrustful().start();
    for field in ["Remote_User", "Remote.User"] {
        variables(&server.address, &[(field, "root")]);
    }
    assert_eq!(hints(&server), 0, "what strangers send is dropped without a word");
    server.stop();
}

#[test]
fn names_with_underscores_are_refused_or_passed_on_when_asked() {
    let server = Setup::c_app(1)
        .with_text("header_map", "refuse")
        .allow("Invalid request")
        .start();
    let response = request(&server.address, "GET", "/vars", &[("X_Other", "1")], b"");
    assert_eq!(response.status, 400);
    server.stop();
    let server = distrustful().with_text("header_map", "dangerous").start();
    let other = variable(&server.address, "HTTP_X_OTHER", &[("X_Other", "1")]);
    assert_eq!(other.as_deref(), Some("1"));
    server.stop();
}

#[test]
fn a_proxy_field_never_becomes_a_variable() {
    let server = Setup::c_app(1).with_text("header_map", "dangerous").start();
    let found = variables(&server.address, &[("Proxy", "http://evil.example/")]);
    assert!(!found.iter().any(|(name, _)| name == "HTTP_PROXY"), "{found:?}");
    server.stop();
}

#[test]
fn a_request_id_is_taken_from_trusted_peers_and_made_for_others() {
    let format = "%({HTTP_X_REQUEST_ID}e)s %(U)s";
    let given = [("X-Request-Id", "from-the-proxy-1")];
    for (setup, believed) in [(Setup::c_app(1), true), (distrustful(), false)] {
        let server = setup.with_text("access_log_format", format).start();
        let response = request(&server.address, "GET", "/vars", &given, b"");
        let id = response.field("x-request-id").expect("an identifier").to_owned();
        assert_eq!(id == "from-the-proxy-1", believed, "{id}");
        // The app and the log have the same one, whoever made it.
        let text = response.text();
        assert!(
            text.lines().any(|line| line == format!("HTTP_X_REQUEST_ID={id}")),
            "{text}"
        );
        wait_for("the line", || {
            server
                .access_log()
                .into_iter()
                .find(|line| *line == format!("{id} /vars"))
        });
        // Two requests never share one that we make.
        let mut client = Client::connect(&server.address);
        let ids = [client.get("/"), client.get("/")].map(|one| one.field("x-request-id").map(str::to_owned));
        assert!(ids[0].is_some() && ids[0] != ids[1], "{ids:?}");
        server.stop();
    }
}

#[test]
fn a_request_id_that_could_do_harm_is_replaced_even_from_trusted_peers() {
    let server = Setup::c_app(1).start();
    let long = "x".repeat(4000);
    for bad in ["two words", "quote\"d", "a\u{e9}", long.as_str(), ""] {
        let response = request(&server.address, "GET", "/", &[("X-Request-Id", bad)], b"");
        let id = response.field("x-request-id").expect("an identifier");
        assert_ne!(id, bad);
        assert!(
            id.bytes().all(|byte| byte.is_ascii_graphic()) && !id.is_empty(),
            "{id:?}"
        );
    }
    server.stop();
}
