//! The rules of HTTP/1 through the real front: raw bytes in, status out, and nothing wrong reaches an app.

use crate::harness::{Client, Server, Setup, request};

/// Requests that are refused: the bytes, the status. Each is the first on its connection, which is then closed.
const REFUSED: &[(&str, u16)] = &[
    ("GET\r\n\r\n", 400),
    ("GET /\r\n\r\n", 400),
    ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("get / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("G(T / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("GET relative HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("GET /a\u{1}b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\n: empty\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nName : blank\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n folded\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nX: a\u{0}b\r\n\r\n", 400),
    ("GET / HTTP/1.1\nHost: a\n\n", 400),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
        400,
    ),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\na", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\na", 400),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
        413,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    (
        "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        400,
    ),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: frob\r\n\r\n", 501),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
        400,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n",
        400,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
        400,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\na\n0\n\n",
        400,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 5\r\n\r\n",
        400,
    ),
    ("GET / HTTP/1.1\r\nHost: a\r\nExpect: the unexpected\r\n\r\n", 417),
    ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    ("GET / HTTP/0.9\r\n\r\n", 505),
    ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    ("\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\u{0}\u{1}\r\n\r\n", 400),
];

/// Requests that are served: the bytes, and what must stand in the list of variables the app got.
const SERVED: &[(&str, &[&str])] = &[
    (
        "GET /vars HTTP/1.1\r\nHost: a.example:81\r\n\r\n",
        &[
            "REQUEST_METHOD=GET",
            "PATH_INFO=/vars",
            "HTTP_HOST=a.example:81",
            "SERVER_PROTOCOL=HTTP/1.1",
        ],
    ),
    (
        "GET /vars HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        &["SERVER_PROTOCOL=HTTP/1.0"],
    ),
    ("\r\nGET /vars HTTP/1.1\r\nHost: a\r\n\r\n", &["REQUEST_METHOD=GET"]),
    (
        "GET http://b.example/vars?q=1 HTTP/1.1\r\nHost: a\r\n\r\n",
        &["PATH_INFO=/vars", "QUERY_STRING=q=1", "HTTP_HOST=b.example"],
    ),
    (
        "GET /va%72s?a%20b HTTP/1.1\r\nHost: a\r\n\r\n",
        &["PATH_INFO=/vars", "QUERY_STRING=a%20b"],
    ),
    (
        "GET /vars HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nX-A: 2\r\nCookie: a=1\r\nCookie: b=2\r\n\r\n",
        &["HTTP_COOKIE=a=1; b=2"],
    ),
    ("DELETE /vars HTTP/1.1\r\nHost: a\r\n\r\n", &["REQUEST_METHOD=DELETE"]),
    (
        "POST /vars HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Type: text/x\r\n\r\nabc",
        &["CONTENT_LENGTH=3", "CONTENT_TYPE=text/x"],
    ),
    (
        "POST /vars HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nX-Trailer: t\r\n\r\n",
        &["CONTENT_LENGTH=3"],
    ),
];

fn server() -> Server {
    Setup::c_app(1).start()
}

#[test]
fn what_is_wrong_gets_its_status_and_a_closed_connection_and_no_app_sees_it() {
    let server = Setup::c_app(1).with_text("loglevel", "debug").allow("").start();
    let before = server.access_log().len();
    for (bytes, status) in REFUSED {
        let mut client = server.connect();
        client.send(bytes);
        let response = client.response("GET");
        assert_eq!(response.status, *status, "{bytes:?}: {}", response.text());
        let phrase = match status {
            413 => "Content Too Large",
            417 => "Expectation Failed",
            501 => "Not Implemented",
            505 => "HTTP Version Not Supported",
            _ => "Bad Request",
        };
        assert_eq!(response.reason, phrase, "{bytes:?}");
        assert!(!response.keeps_alive(), "{bytes:?} keeps the connection");
        assert!(
            response.field("date").is_some() && response.field("server").is_some(),
            "{bytes:?}: {response:?}"
        );
        assert!(client.is_closed(), "{bytes:?}: the connection stays open");
    }
    crate::harness::wait_until("an access line for each", || {
        server.access_log().len() >= before + REFUSED.len()
    });
    assert_eq!(server.get("/").status, 200);
    server.stop();
}

#[test]
fn what_is_right_is_served_and_the_app_sees_it_right() {
    let server = server();
    for (bytes, variables) in SERVED {
        let mut client = server.connect();
        client.send(bytes);
        let response = client.response("GET");
        assert_eq!(response.status, 200, "{bytes:?}: {}", response.text());
        let text = response.text();
        for variable in *variables {
            assert!(
                text.lines().any(|line| line == *variable),
                "{bytes:?}: no {variable} in\n{text}"
            );
        }
        assert!(!text.contains("HTTP_TRANSFER_ENCODING"), "{bytes:?}:\n{text}");
        assert!(response.keeps_alive(), "{bytes:?} closes the connection");
        assert_eq!(client.get("/").status, 200, "after {bytes:?}");
    }
    server.stop();
}

#[test]
fn a_proxy_field_never_becomes_http_proxy_and_underscores_do_not_get_through() {
    let server = server();
    let mut client = server.connect();
    client.send("GET /vars HTTP/1.1\r\nHost: a\r\nProxy: evil:1\r\nX_Admin: 1\r\nContent_Length: 9\r\n\r\n");
    let text = client.response("GET").text();
    assert!(
        !text.contains("evil") && !text.contains("X_ADMIN") && !text.contains("CONTENT_LENGTH"),
        "{text}"
    );
    server.stop();
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = Setup::c_app(2).start();
    let mut client = server.connect();
    let mut bytes = String::new();
    for ms in [40, 0, 20, 1] {
        bytes.push_str(&format!("GET /sleep?ms={ms} HTTP/1.1\r\nHost: a\r\n\r\n"));
    }
    bytes.push_str("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nlast");
    client.send(bytes);
    for ms in [40, 0, 20, 1] {
        assert_eq!(client.response("GET").text(), format!("slept {ms}\n"));
    }
    assert_eq!(client.response("POST").text(), "last");
    server.stop();
}

#[test]
fn a_request_that_arrives_byte_by_byte_is_understood() {
    let server = server();
    let mut client = server.connect();
    for byte in b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n" {
        client.send([*byte]);
    }
    assert_eq!(client.response("POST").text(), "abc");
    server.stop();
}

#[test]
fn who_expects_100_continue_gets_it_before_the_body() {
    let server = server();
    let mut client = server.connect();
    client.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    let interim = client.try_head().expect("an interim response");
    assert_eq!(interim.status, 100);
    client.send("hello");
    assert_eq!(client.response("POST").text(), "hello");
    // On HTTP/1.0 the expectation is ignored.
    client.send("POST /echo HTTP/1.0\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello");
    let response = client.response("POST");
    assert_eq!((response.interim.len(), response.text().as_str()), (0, "hello"));
    server.stop();
}

#[test]
fn a_body_that_is_too_long_is_refused_before_it_is_sent() {
    let server = Setup::c_app(1).with_text("limit_request_body", "10k").allow("").start();
    let mut client = server.connect();
    client.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10241\r\nExpect: 100-continue\r\n\r\n");
    let response = client.response("POST");
    assert_eq!((response.status, response.interim.len()), (413, 0));
    server.stop();
}

#[test]
fn head_gets_the_fields_of_get_without_a_body() {
    let server = server();
    let mut client = server.connect();
    client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = client.response("HEAD");
    assert_eq!((head.status, head.field("content-length")), (200, Some("6")));
    let body = client.get("/");
    assert_eq!(body.text(), "hello\n");
    let names = |response: &crate::harness::Response| {
        let names: Vec<String> = response
            .fields
            .iter()
            .map(|(name, _)| name.to_ascii_lowercase())
            .collect();
        names
    };
    assert_eq!(names(&head), names(&body));
    server.stop();
}

#[test]
fn options_star_is_answered() {
    let server = server();
    let mut client = server.connect();
    client.send("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
    let response = client.response("OPTIONS");
    assert!(response.status < 500 && response.status != 400, "{response:?}");
    assert_eq!(client.get("/").status, 200);
    server.stop();
}

#[test]
fn connections_stay_open_as_version_and_wish_say() {
    let server = server();
    let cases = [
        ("HTTP/1.1", "", true),
        ("HTTP/1.1", "Connection: close\r\n", false),
        ("HTTP/1.1", "Connection: x, Close\r\n", false),
        ("HTTP/1.0", "", false),
        ("HTTP/1.0", "Connection: Keep-Alive\r\n", true),
    ];
    for (version, field, stays) in cases {
        let mut client = server.connect();
        client.send(format!("GET / {version}\r\nHost: a\r\n{field}\r\n"));
        let response = client.response("GET");
        assert_eq!(response.status, 200);
        assert_eq!(response.keeps_alive(), stays, "{version} {field:?}: {response:?}");
        if stays {
            assert_eq!(client.get("/").status, 200, "{version} {field:?}");
        } else {
            assert!(client.is_closed(), "{version} {field:?}");
        }
    }
    server.stop();
}

#[test]
fn without_keepalive_each_connection_has_one_request() {
    let server = Setup::c_app(1).with_text("keepalive", "0s").start();
    let mut client = server.connect();
    client.send("GET /vars HTTP/1.1\r\nHost: test\r\n\r\nGET /vars HTTP/1.1\r\nHost: test\r\n\r\n");
    let response = client.response("GET");
    assert_eq!(response.status, 200);
    assert_eq!(response.field("connection"), Some("close"));
    assert!(client.is_closed(), "without an answer to the second");
    server.stop();
}

#[test]
fn an_idle_connection_is_closed_after_keepalive_and_a_silent_one_after_the_header_timeout() {
    let setup = Setup::c_app(1)
        .with_text("keepalive", "300ms")
        .with_text("header_timeout", "300ms");
    let server = setup.allow("took too long").start();
    let mut idle = server.connect();
    assert_eq!(idle.get("/").status, 200);
    assert!(idle.is_closed(), "an idle connection gets no bytes before it is closed");
    let mut late = server.connect();
    late.send("GET / HTTP/1.1\r\nHo");
    assert_eq!(late.response("GET").status, 408);
    server.stop();
}

#[test]
fn a_body_that_stops_arriving_gets_408_and_reaches_no_app() {
    let server = Setup::c_app(1)
        .with_text("body_timeout", "300ms")
        .allow("took too long")
        .start();
    let mut late = server.connect();
    late.send("POST /record?id=late HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf");
    assert_eq!(late.response("POST").status, 408);
    assert_eq!(server.get("/record?id=whole").status, 200);
    let record = std::fs::read_to_string(server.path("record")).expect("the record");
    assert!(record.starts_with("whole ") && record.lines().count() == 1, "{record}");
    server.stop();
}

#[test]
fn a_cut_upload_is_noticed_at_once_and_reaches_no_app() {
    // No timeout ends it: the front must see the end of input, also if it came together with the last bytes.
    let server = Setup::c_app(1)
        .with("body_timeout", 0)
        .with("header_timeout", 0)
        .allow("Invalid")
        .start();
    for text in [
        "POST /record?id=cut HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf",
        "POST /record?id=cut HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhalf",
        "POST /record?id=cut HTTP/1.1\r\nHost: a\r\nContent-Le",
    ] {
        // Many times: whether the end comes together with the last bytes is the kernel's choice.
        for _ in 0..20 {
            let mut cut = server.connect();
            cut.patience(std::time::Duration::from_secs(10));
            cut.send(text);
            cut.finish_sending();
            let answer = cut.rest().map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            let closed = answer.as_ref().map_or_else(
                |error| error.kind() == std::io::ErrorKind::ConnectionReset,
                |text| text.is_empty() || text.starts_with("HTTP/1.1 400"),
            );
            assert!(closed, "{text:?}: {answer:?}");
        }
    }
    assert_eq!(server.get("/").status, 200);
    assert!(!server.path("record").exists(), "a cut upload reached the app");
    server.stop();
}

#[test]
fn a_client_that_sends_on_after_its_refusal_still_gets_it() {
    let server = Setup::c_app(1).with_text("limit_request_body", "1k").allow("").start();
    for _ in 0..20 {
        let mut client = Client::connect(&server.address);
        client.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n");
        // The refusal may be on its way already; a reset would lose it.
        let _ = client.try_send(&[b'x'; 60000]);
        assert_eq!(client.response("POST").status, 413);
    }
    server.stop();
}

#[test]
fn the_rest_of_a_pipelined_request_that_came_meanwhile_is_read() {
    let server = Setup::c_app(1).with_text("header_timeout", "5s").start();
    let mut client = server.connect();
    client.send("GET /sleep?ms=500 HTTP/1.1\r\nHost: a\r\n\r\nGET / HT");
    // Time for the first bytes to be read by themselves; the rest arrives while they are being answered.
    client.patience(std::time::Duration::from_millis(100));
    assert!(client.try_head().is_err(), "answered too early");
    client.patience(std::time::Duration::from_secs(30));
    client.send("TP/1.1\r\nHost: a\r\n\r\nPOST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab");
    client.send("cd");
    assert_eq!(client.response("GET").status, 200);
    assert_eq!(client.response("GET").status, 200);
    assert_eq!(client.response("POST").text(), "abcd");
    server.stop();
}

#[test]
fn a_local_redirect_is_followed_inside_and_a_loop_of_them_ends() {
    let server = Setup::c_app(1).allow("more than 10 times").start();
    let answer = request(
        &server.address,
        "POST",
        "/local?/vars?a=1",
        &[("Content-Type", "text/x")],
        b"body",
    );
    assert_eq!(answer.status, 200, "{answer:?}");
    let text = answer.text();
    for line in [
        "REQUEST_METHOD=GET",
        "PATH_INFO=/vars",
        "QUERY_STRING=a=1",
        "REQUEST_URI=/vars?a=1",
        "REDIRECT_URL=/local",
        "REDIRECT_QUERY_STRING=/vars?a=1",
    ] {
        assert!(text.lines().any(|other| other == line), "no {line} in\n{text}");
    }
    assert!(!text.contains("CONTENT_"), "{text}");
    assert_eq!(server.get("/local?/local?/").status, 200);
    assert_eq!(
        request(
            &server.address,
            "GET",
            &format!("/local?{}/", "/local?".repeat(10)),
            &[],
            b""
        )
        .status,
        502
    );
    assert_eq!(server.get("/").status, 200);
    server.stop();
}
