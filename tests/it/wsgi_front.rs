//! What the front does for WSGI apps: the environ it makes, and what of them stands in both logs.

use std::collections::BTreeMap;

use crate::harness::server::list;
use crate::harness::{Address, Client, Server, Setup, request, wait_for, wait_until};

/// An app whose answer depends on the last segment of the path.
const APP: &str = r#"
import os, sys, time

def application(environ, start_response):
    word = environ["PATH_INFO"].rpartition("/")[2]
    fields = [("Content-Type", "text/plain")]
    text = "ok\n"
    if word == "environ":
        pairs = sorted((name, value) for name, value in environ.items() if isinstance(value, str))
        text = "".join("%s=%s\n" % (name, value.encode("latin-1").hex()) for name, value in pairs)
    elif word == "note":
        environ["app.User"] = "ann \"q\" \u20ac"
        environ["REQUEST_METHOD"] = "CHANGED"
    elif word == "own-id":
        fields.append(("X-Request-Id", "of-the-app"))
    elif word == "print":
        sys.stderr.write("first line\n\n  \"third\" \\ \u00e9\n" + "x" * 20000 + "<end\n")
        environ["wsgi.errors"].write("to wsgi.errors\n")
        print("printed")
    elif word == "hang":
        time.sleep(600)
    elif word == "fail":
        raise ValueError("asked to")
    elif word == "pid":
        text = "%d\n" % os.getpid()
    elif word == "odd":
        start_response("999 Odd", fields)
        return [b"odd\n"]
    start_response("200 OK", fields)
    return [text.encode()]
"#;

/// A server of that app with one worker.
fn app() -> Setup {
    let setup = Setup::new().with("workers", 1).arg("app:application");
    std::fs::write(setup.path("app.py"), APP).expect("the app is written");
    setup.env("PYTHONDONTWRITEBYTECODE", "1")
}

fn hex(text: &str) -> String {
    let digits: Vec<u8> = text.bytes().collect();
    let bytes = digits.chunks(2).map(|pair| {
        let pair = std::str::from_utf8(pair).expect("digits");
        u8::from_str_radix(pair, 16).expect("hexadecimal digits")
    });
    bytes.map(char::from).collect()
}

/// What the app sees, from raw bytes of a request on a connection of its own; or the status.
fn environ(address: &Address, bytes: &str) -> Result<BTreeMap<String, String>, u16> {
    let mut client = Client::connect(address);
    client.send(bytes);
    let response = client.response("GET");
    if response.status != 200 {
        return Err(response.status);
    }
    let text = response.text();
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    Ok(pairs.map(|(name, value)| (name.to_owned(), hex(value))).collect())
}

fn port(server: &Server) -> String {
    match &server.address {
        Address::Tcp(address) => address.port().to_string(),
        other => panic!("not a TCP address: {other:?}"),
    }
}

#[test]
fn the_environ_holds_exactly_what_gunicorn_puts_there() {
    let server = app().start();
    let sent = "POST /a%20b;p//%2F/environ?x=%20y#f HTTP/1.1\r\nHost: name.example:81\r\nX-Multi: 1\r\ncookie: a=1\r\n\
                x-MULTI: 2\r\nCookie: b=2\r\nConnection: keep-alive, X-Multi\r\nContent-Type: text/x\r\nX-Latin: caf\u{e9}\r\n\
                Transfer-Encoding: chunked\r\nProxy: http://evil/\r\nX_Under: 1\r\n\r\n4\r\nbody\r\n0\r\n\r\n";
    let mut found = environ(&server.address, sent).expect("an answer");
    let id = found.remove("HTTP_X_REQUEST_ID").expect("an identifier");
    assert_eq!(id.len(), 16, "{id}");
    let remote = found.remove("REMOTE_PORT").expect("the client's port");
    assert!(remote.parse::<u16>().is_ok(), "{remote}");
    let port = port(&server);
    let software = concat!("rgunicorn/", env!("CARGO_PKG_VERSION"));
    let expected = [
        ("CONTENT_LENGTH", "4"),
        ("CONTENT_TYPE", "text/x"),
        ("HTTP_CONNECTION", "keep-alive, X-Multi"),
        ("HTTP_COOKIE", "a=1; b=2"),
        ("HTTP_HOST", "name.example:81"),
        ("HTTP_X_LATIN", "caf\u{c3}\u{a9}"),
        ("HTTP_X_MULTI", "1,2"),
        ("PATH_INFO", "/a b;p////environ"),
        ("QUERY_STRING", "x=%20y"),
        ("RAW_URI", "/a%20b;p//%2F/environ?x=%20y#f"),
        ("REMOTE_ADDR", "127.0.0.1"),
        ("REQUEST_METHOD", "POST"),
        ("SCRIPT_NAME", ""),
        ("SERVER_NAME", "127.0.0.1"),
        ("SERVER_PORT", port.as_str()),
        ("SERVER_PROTOCOL", "HTTP/1.1"),
        ("SERVER_SOFTWARE", software),
        ("wsgi.url_scheme", "http"),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(found, BTreeMap::from(expected));
    server.stop();
}

#[test]
fn other_forms_of_targets_and_messages() {
    let server = app().allow("without NUL").start();
    let at = &server.address;
    let get = |request: &str| environ(at, request).expect("an answer");
    let old = get("GET /environ HTTP/1.0\r\n\r\n");
    assert_eq!(old["SERVER_PROTOCOL"], "HTTP/1.0");
    assert_eq!(old.get("HTTP_HOST"), None);
    assert_eq!(old.get("CONTENT_LENGTH"), None);
    let absolute = get("GET http://other.example/environ?q HTTP/1.1\r\nHost: name.example\r\n\r\n");
    assert_eq!(absolute["HTTP_HOST"], "other.example");
    assert_eq!(absolute["RAW_URI"], "http://other.example/environ?q");
    assert_eq!(absolute["PATH_INFO"], "/environ");
    let empty = get("POST /environ HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(empty["CONTENT_LENGTH"], "0");
    let secure = get("GET /environ HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: https\r\n\r\n");
    assert_eq!(secure["wsgi.url_scheme"], "https");
    assert_eq!(environ(at, "GET /%00/environ HTTP/1.1\r\nHost: a\r\n\r\n"), Err(400));
    server.stop();
}

#[test]
fn a_listener_on_all_addresses_and_one_on_a_unix_socket_have_names() {
    let server = app().with("bind", list(&["0.0.0.0:0"])).start();
    let Address::Tcp(bound) = &server.address else {
        panic!("a TCP address");
    };
    let at = Address::Tcp(([127, 0, 0, 1], bound.port()).into());
    let found = environ(&at, "GET /environ HTTP/1.1\r\nHost: a\r\n\r\n").expect("an answer");
    assert_eq!(
        (found["SERVER_NAME"].as_str(), found["SERVER_PORT"].clone()),
        ("0.0.0.0", port(&server))
    );
    server.stop();

    let server = app().on_unix_socket().start();
    for (host, name, port) in [
        ("Host: name.example:81\r\n", "name.example", "81"),
        (
            "Host: name.example\r\nX-Forwarded-Proto: https\r\n",
            "name.example",
            "443",
        ),
        ("Host: [::1]:82\r\n", "[::1]", "82"),
        ("", "localhost", "80"),
    ] {
        let request = format!("GET /environ HTTP/1.0\r\n{host}\r\n");
        let found = environ(&server.address, &request).expect("an answer");
        assert_eq!(
            (found["SERVER_NAME"].as_str(), found["SERVER_PORT"].as_str()),
            (name, port),
            "{host}"
        );
        assert_eq!(
            (found["REMOTE_ADDR"].as_str(), found.get("REMOTE_PORT")),
            ("", None),
            "{host}"
        );
    }
    server.stop();
}

#[test]
fn an_app_is_mounted_where_its_environment_or_a_trusted_peer_says() {
    let server = app()
        .env("SCRIPT_NAME", "/all")
        .allow("does not begin with SCRIPT_NAME")
        .start();
    let split = |path: &str, field: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n{field}\r\n");
        let found = environ(&server.address, &request)?;
        Ok::<_, u16>((found["SCRIPT_NAME"].clone(), found["PATH_INFO"].clone()))
    };
    let place = |script: &str, path: &str| Ok((script.to_owned(), path.to_owned()));
    assert_eq!(split("/all/environ", ""), place("/all", "/environ"));
    assert_eq!(
        split("/one/environ", "SCRIPT_NAME: /one\r\n"),
        place("/one", "/environ")
    );
    assert_eq!(split("/environ", "SCRIPT_NAME:\r\n"), place("", "/environ"));
    for (path, field, wanted) in [
        ("/environ", "", "/all"),
        ("/allover/environ", "", "/all"),
        ("/all/environ", "SCRIPT_NAME: /one\r\n", "/one"),
    ] {
        assert_eq!(split(path, field), Err(500), "{path} {field}");
        server.wait_for_log(&format!("path \"{path}\" does not begin with SCRIPT_NAME \"{wanted}\""));
    }
    server.stop();
}

#[test]
fn what_a_worker_prints_stands_in_the_log_as_it_is() {
    let server = app().start();
    request(&server.address, "GET", "/print", &[], b"");
    server.wait_for_log("to wsgi.errors");
    let log = server.log();
    let (_, printed) = log.split_once("first line\n").expect("the first line");
    let long = "x".repeat(20_000);
    assert!(
        printed.starts_with(&format!("\n  \"third\" \\ \u{e9}\n{long}<end\nto wsgi.errors\n")),
        "{}",
        &log[..log.len().min(4000)]
    );
    assert!(log.contains("\nfirst line\n"), "nothing stands before it");
    // Standard output is not the error log's affair.
    wait_until("the other stream", || {
        std::fs::read_to_string(server.path("stdout.log")).is_ok_and(|text| text.contains("printed\n"))
    });
    assert!(!server.log().contains("printed\n"));
    server.stop();
}

#[test]
fn the_access_log_shows_the_environ_after_the_app_and_the_worker_that_served() {
    let format =
        "%(U)s|%({App.USER}e)s|%({request_method}e)s|%({http_x_a}e)s|%({none}e)s|%({x-request-id}o)s|%(s)s|%(p)s";
    let server = app().with_text("access_log_format", format).start();
    let pid = request(&server.address, "GET", "/pid", &[], b"").text();
    let pid = pid.trim();
    let line = |target: &str| {
        let response = request(&server.address, "GET", target, &[("X-A", "from the client")], b"");
        let start = format!("{target}|");
        let line = wait_for("the line", || {
            server.access_log().into_iter().find(|line| line.starts_with(&start))
        });
        (response, line)
    };
    let (response, noted) = line("/note");
    let id = response.field("x-request-id").expect("an identifier");
    assert_eq!(
        noted,
        format!(r#"/note|ann \"q\" \\u20ac|CHANGED|from the client|-|{id}|200|<{pid}>"#)
    );
    let (response, own) = line("/own-id");
    assert_eq!(response.field("x-request-id"), Some("of-the-app"));
    assert_eq!(own, format!("/own-id|-|GET|from the client|-|of-the-app|200|<{pid}>"));
    let (response, odd) = line("/odd");
    assert_eq!(response.status, 999);
    assert!(odd.ends_with(&format!("|999|<{pid}>")), "{odd}");
    server.stop();
}

#[test]
fn where_python_writes_the_access_log_the_front_adds_only_what_python_cannot_know() {
    let server = app()
        .with("access_by_app", true)
        .with_text("timeout", "1s")
        .allow("Invalid request")
        .allow("WORKER TIMEOUT")
        .allow("is overdue")
        .allow("SystemExit")
        .allow("Error handling request GET /hang")
        .allow("exited with code")
        .start();
    let lines = |what: &str| server.access_log().iter().filter(|line| line.contains(what)).count();
    for target in ["/ok", "/environ"] {
        assert_eq!(request(&server.address, "GET", target, &[], b"").status, 200);
        wait_until("its line", || lines(&format!("GET {target} ")) == 1);
    }
    let mut client = server.connect();
    client.send("GET /refused HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n");
    assert_eq!(client.response("GET").status, 400);
    wait_until("the line of the refused request", || lines("GET /refused ") == 1);
    assert_eq!(request(&server.address, "GET", "/hang", &[], b"").status, 504);
    wait_until("the line of the overdue request", || {
        server
            .access_log()
            .iter()
            .any(|line| line.contains("GET /hang ") && line.contains(" 504 "))
    });
    assert_eq!(
        (lines("GET /ok "), lines("GET /environ ")),
        (1, 1),
        "{:?}",
        server.access_log()
    );
    server.stop();
}

#[test]
fn a_worker_that_has_served_its_share_says_so_in_gunicorns_words() {
    let server = app().with("max_requests", 2).start();
    let pid = request(&server.address, "GET", "/pid", &[], b"").text();
    request(&server.address, "GET", "/pid", &[], b"");
    let line = server.wait_for_log("Autorestarting worker after current request.");
    assert!(line.contains(&format!("pid={}", pid.trim())), "{line}");
    wait_until("another worker", || {
        request(&server.address, "GET", "/pid", &[], b"").text() != pid
    });
    server.stop();
}
