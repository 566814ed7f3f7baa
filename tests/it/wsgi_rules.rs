//! PEP 3333 as an app meets it: every corner, plainly and under `wsgiref.validate`, and what the client gets when an
//! app breaks the rules. Every row is asked of each worker class.

use crate::harness::{Client, Response, Server, Setup, request, wait_until};

const CLASSES: [&[&str]; 3] = [&[], &["--threads", "3"], &["-k", "gevent"]];

/// What every app here may cause in the log, since it is asked to.
const EXPECTED: &[&str] = &[
    "Error handling request",
    "AssertionError",
    "Content-Length",
    "no-body",
    "X-Bad",
    "X Bad",
    "start_response",
    "status",
    "WSGI app sent ",
    "failed (cut)",
    "failed (502)",
];

fn start(class: &[&str], app: &str) -> Server {
    let setup = Setup::wsgi(&[class, &[app]].concat());
    EXPECTED.iter().fold(setup, |setup, text| setup.allow(text)).start()
}

fn with_each_class(app: &str, check: impl Fn(&Server, &str)) {
    for class in CLASSES {
        let server = start(class, app);
        check(&server, &class.join(" "));
        server.stop();
    }
}

fn post(server: &Server, target: &str, body: &[u8]) -> Response {
    request(&server.address, "POST", target, &[("Content-Type", "text/plain")], body)
}

/// The targets whose answers a correct app gets, with status and body.
const GOOD: &[(&str, u16, &str)] = &[
    ("/", 200, "ok\n"),
    ("/write", 200, "one\ntwo\nthree\n"),
    ("/replaced", 503, "replaced\n"),
    ("/empty-parts", 200, "ab"),
    ("/stream", 200, "0\n1\n2\n3\n4\n"),
    ("/hints", 200, "ok\n"),
    ("/errors", 200, "ok\n"),
    ("/field-latin", 200, "ok\n"),
    ("/status-299", 299, "ok\n"),
    ("/empty", 200, ""),
];

fn check_good(server: &Server, who: &str) {
    for (target, status, body) in GOOD {
        let response = server.get(target);
        assert_eq!(
            (response.status, response.text().as_str()),
            (*status, *body),
            "{who}: {target}: {}",
            server.log()
        );
    }
    let file: String = "0123456789".repeat(100_000);
    for (target, expected) in [
        ("/file", file.as_str()),
        ("/file-offset", &file[999_000..]),
        ("/file-length", &file[5..505]),
        ("/memory", &"from memory\n".repeat(2000)),
    ] {
        let response = server.get(target);
        assert!(
            response.status == 200 && response.text() == expected,
            "{who}: {target}: {} and {} bytes",
            response.status,
            response.body.len()
        );
    }
    let sent = b"123rest\nline two\nthree\nfour\nlast";
    let seen = post(server, "/input", sent).text();
    assert_eq!(
        seen, r"[b'123', b'rest\n', b'line two\n', b'', b'three\n|four\n|last', b'']",
        "{who}"
    );
    let seen = post(server, "/lines", b"a\n\nb").text();
    assert_eq!(seen, r"[b'a\n', b'\n', b'b']", "{who}");
    for size in [0, 1, 65_535, 65_536, 300_000, 5_000_000] {
        let body: Vec<u8> = (0..size).map(|place: u32| (place * 7 % 253) as u8).collect();
        let response = post(server, "/echo", &body);
        assert!(response.status == 200 && response.body == body, "{who}: {size} bytes");
    }
}

#[test]
fn every_corner() {
    with_each_class("corners", check_good);
}

#[test]
fn every_corner_under_the_validator() {
    with_each_class("corners:validated", |server, who| {
        // The validator forbids `write` of what is not asked for and hides the server's wrapper: those it lets pass.
        for (target, status, body) in GOOD {
            let response = server.get(target);
            assert_eq!(
                (response.status, response.text().as_str()),
                (*status, *body),
                "{who}: {target}"
            );
        }
        let response = post(server, "/lines", b"a\n\nb");
        assert_eq!(response.text(), r"[b'a\n', b'\n', b'b']", "{who}");
        for target in ["/no-body-204", "/no-body-304"] {
            server.get(target);
        }
        assert!(!server.log().contains("AssertionError"), "{who}: {}", server.log());
    });
}

#[test]
fn bodies_that_may_not_be() {
    with_each_class("corners", |server, who| {
        for (method, target, status) in [
            ("HEAD", "/", 200),
            ("HEAD", "/stream", 200),
            ("GET", "/no-body-204", 204),
            ("GET", "/no-body-304", 304),
            ("HEAD", "/fail", 500),
        ] {
            let mut client = server.connect();
            for _ in 0..2 {
                client.send(format!("{method} {target} HTTP/1.1\r\nHost: test\r\n\r\n"));
                // Had a body come, the next head would not be one.
                let response = client.response(method);
                assert_eq!(response.status, status, "{who}: {method} {target}");
                assert_eq!(response.field("transfer-encoding"), None, "{who}: {method} {target}");
                if !response.keeps_alive() {
                    client = server.connect();
                }
            }
        }
        assert_eq!(
            request(&server.address, "HEAD", "/", &[], b"").field("content-length"),
            Some("3"),
            "{who}"
        );
    });
}

#[test]
fn heads_that_are_not_allowed_give_500_and_nothing_of_them_leaves() {
    with_each_class("corners", |server, who| {
        for target in [
            "/field-newline",
            "/field-null",
            "/field-name",
            "/field-bytes",
            "/field-unicode",
            "/status-newline",
            "/status-word",
            "/status-bytes",
            "/status-none",
            "/bad-length",
            "/never-started",
            "/none",
            "/text",
            "/text-write",
            "/twice",
            "/fail",
            "/fail-in-iteration",
            "/exit",
        ] {
            let response = server.get(target);
            assert_eq!(response.status, 500, "{who}: {target}: {}", response.text());
            assert!(response.text().contains("Internal Server Error"), "{who}: {target}");
            assert_eq!(response.field("x-injected"), None, "{who}: {target}");
            assert!(!response.text().contains("never"), "{who}: {target}");
            assert_eq!(server.get("/").status, 200, "{who}: after {target}");
        }
    });
}

#[test]
fn fields_that_belong_to_the_server() {
    with_each_class("corners", |server, who| {
        let response = server.get("/field-hop");
        assert_eq!((response.status, response.text().as_str()), (200, "ok\n"), "{who}");
        assert_eq!(response.field("x-kept"), Some("1"), "{who}");
        assert_eq!(response.field("transfer-encoding"), None, "{who}");
        let servers = response
            .fields
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case("server"));
        assert!(servers.count() <= 1, "{who}");
        assert_ne!(response.field("server"), Some("mine"), "{who}");
        let latin = server.get("/field-latin");
        assert!(latin.field("x-latin").is_some_and(|value| !value.is_empty()), "{who}");
    });
}

#[test]
fn lengths_that_are_wrong() {
    with_each_class("corners", |server, who| {
        let mut client = server.connect();
        client.send("GET /short HTTP/1.1\r\nHost: test\r\n\r\n");
        let rest = client.rest().unwrap_or_default();
        let text = String::from_utf8_lossy(&rest);
        assert!(
            text.ends_with("\r\n\r\n12345") || text.starts_with("HTTP/1.1 502") || text.starts_with("HTTP/1.1 500"),
            "{who}: {text}"
        );
        let response = server.get("/long");
        assert_eq!((response.status, response.text().as_str()), (200, "12345"), "{who}");
    });
}

#[test]
fn errors_after_the_head_are_seen_by_the_client() {
    with_each_class("corners", |server, who| {
        for (target, begin) in [("/fail-later", "part\n"), ("/replaced-too-late", "sent\n")] {
            let mut client = server.connect();
            client.send(format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n"));
            let rest = client.rest().unwrap_or_default();
            let text = String::from_utf8_lossy(&rest);
            // What was not on its way yet is kept back, and then the client gets an error of ours instead.
            let is_cut =
                text.starts_with("HTTP/1.1 200 OK\r\n") && text.contains(begin) && !text.ends_with("0\r\n\r\n");
            assert!(is_cut || text.starts_with("HTTP/1.1 502 "), "{who}: {target}: {text}");
            server.wait_for_log(&format!("Error handling request GET {target}"));
        }
        server.wait_for_log("ValueError: in the middle");
    });
}

#[test]
fn close_is_called_whatever_happens() {
    with_each_class("corners", |server, who| {
        let expected = [
            ("/write", "write"),
            ("/replaced", "replaced"),
            ("/memory", "memory"),
            ("/no-body-204", "no body"),
            ("/long", "announced"),
            ("/fail-in-iteration", "fails at once"),
            ("/fail-later", "fails later"),
            ("/empty", "parts"),
        ];
        for (target, name) in expected {
            let mut client = server.connect();
            client.send(format!(
                "GET {target} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
            ));
            let _ = client.rest();
            let line = format!("closed {name}");
            crate::harness::wait_until(&format!("{who}: {line}"), || {
                let record = std::fs::read_to_string(server.path("record.log")).unwrap_or_default();
                record.lines().any(|found| found == line)
            });
        }
        let record = std::fs::read_to_string(server.path("record.log")).unwrap_or_default();
        assert_eq!(record.lines().count(), expected.len(), "{who}: {record}");
    });
}

#[test]
fn parts_come_when_they_are_given() {
    with_each_class("corners", |server, who| {
        let gate = server.path("gate");
        if !gate.exists() {
            nix::unistd::mkfifo(&gate, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        }
        let mut client = server.connect();
        client.send("GET /gated HTTP/1.1\r\nHost: test\r\n\r\n");
        let head = client.try_head().expect("the head comes first");
        assert_eq!(head.field("transfer-encoding"), Some("chunked"), "{who}");
        for number in 0..3 {
            // The size and the part; the app goes on only when it has been seen.
            let lines: Vec<String> = (0..2).map(|_| client.line().expect("a line of a chunk")).collect();
            assert_eq!(lines, ["7".to_owned(), format!("part {number}\n")], "{who}");
            std::fs::write(&gate, "").expect("the app waits for it");
        }
        assert_eq!(client.line().expect("the last chunk"), "0", "{who}");
    });
}

#[test]
fn early_hints() {
    with_each_class("corners", |server, who| {
        let mut client = server.connect();
        client.send("GET /hints HTTP/1.1\r\nHost: test\r\n\r\n");
        let first = client.try_head().expect("the hints");
        assert_eq!(first.status, 103, "{who}");
        let links: Vec<&str> = first
            .fields
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case("link"))
            .map(|(_, value)| value.as_str())
            .collect();
        assert_eq!(links, ["</style.css>; rel=preload", "</app.js>; rel=preload"], "{who}");
        assert_eq!(client.response("GET").status, 200, "{who}");
        let mut client = server.connect();
        client.send("GET /hints HTTP/1.0\r\n\r\n");
        assert_eq!(
            client.try_head().expect("the response").status,
            200,
            "{who}: HTTP/1.0 knows no hints"
        );
    });
}

#[test]
fn what_an_app_prints_goes_to_the_error_log() {
    with_each_class("corners", |server, _| {
        assert_eq!(server.get("/errors").status, 200);
        for line in ["to wsgi.errors", "line one", "line two \u{fc}", "by print to stderr"] {
            let found = server.wait_for_log(line);
            assert_eq!(found, line, "raw, as under Gunicorn");
        }
        crate::harness::wait_until("what it printed", || {
            std::fs::read_to_string(server.path("stdout.log"))
                .unwrap_or_default()
                .contains("by print\n")
        });
    });
}

#[test]
fn requests_on_one_connection_are_answered_in_order() {
    with_each_class("corners", |server, who| {
        let mut client: Client = server.connect();
        let targets = ["/", "/stream", "/write", "/file-length", "/none-such", "/"];
        for target in targets {
            client.send(format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n"));
        }
        let statuses: Vec<u16> = targets.iter().map(|_| client.response("GET").status).collect();
        assert_eq!(statuses, [200, 200, 200, 200, 404, 200], "{who}");
    });
}

#[test]
fn a_client_that_leaves_ends_what_is_made_for_it() {
    with_each_class("corners", |server, class| {
        // More often than there are slots: each of them must come free again.
        for (target, words) in [("/endless", "closed endless"), ("/endless-write", "broken pipe")] {
            for round in 1..=4 {
                let mut client = Client::connect(&server.address);
                client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
                client.try_head().expect("the head");
                drop(client);
                wait_until(&format!("{class} {target}: end {round}"), || {
                    let record = std::fs::read_to_string(server.path("record.log")).unwrap_or_default();
                    record.matches(words).count() == round
                });
            }
        }
        assert_eq!(server.get("/").status, 200, "{class}");
        // Ids come again: what was said about an earlier request ends no later one.
        for _ in 0..50 {
            assert_eq!(server.get("/stream").text(), "0\n1\n2\n3\n4\n", "{class}");
        }
    });
}
