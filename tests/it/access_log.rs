//! The access log: one line per request, whatever becomes of it.

use crate::harness::{Setup, request, wait_for, wait_until};

fn line_with(server: &crate::harness::Server, text: &str) -> String {
    wait_for(&format!("{text:?} in the access log"), || {
        server.access_log().into_iter().find(|line| line.contains(text))
    })
}

#[test]
fn the_default_format_is_gunicorns() {
    let server = Setup::c_app(1).start();
    let fields = [("Referer", "http://from.example/"), ("User-Agent", "tester \"1\"")];
    let response = request(&server.address, "POST", "/echo?q=1", &fields, b"body");
    assert_eq!(response.status, 200);
    let line = line_with(&server, "/echo");
    assert!(line.starts_with("127.0.0.1 - - ["), "{line}");
    let rest = line.split_once("] ").expect("a time in brackets").1;
    assert_eq!(
        rest, r#""POST /echo?q=1 HTTP/1.1" 200 4 "http://from.example/" "tester \"1\"""#,
        "{line}"
    );
    server.stop();
}

#[test]
fn atoms_show_request_response_variables_times_and_the_worker() {
    let format = "%(m)s|%(U)s|%(q)s|%(H)s|%(s)s|%(B)d|%({x-test}i)s|%({content-type}o)s|%({REQUEST_METHOD}e)s|%(p)s|%(D)d|%(L)s|%(nothing)s|%%";
    let server = Setup::c_app(1).with_text("access_log_format", format).start();
    let worker = server.wait_for_workers(1)[0];
    request(&server.address, "GET", "/status?code=404", &[("X-Test", "yes")], b"");
    let line = line_with(&server, "/status");
    let parts: Vec<&str> = line.split('|').collect();
    assert_eq!(parts.len(), 14, "{line}");
    assert_eq!(
        &parts[..6],
        ["GET", "/status", "code=404", "HTTP/1.1", "404", "11"],
        "{line}"
    );
    assert_eq!(&parts[6..9], ["yes", "text/plain", "GET"], "{line}");
    assert_eq!(parts[9].trim_matches(['<', '>']), worker.to_string(), "{line}");
    assert!(
        parts[10].parse::<u64>().is_ok() && parts[11].parse::<f64>().is_ok(),
        "{line}"
    );
    assert_eq!(&parts[12..], ["-", "%"], "{line}");
    server.stop();
}

#[test]
fn every_request_has_one_line_errors_included() {
    let server = Setup::bad_fastcgi(&[])
        .with("workers", 2)
        .with_text("timeout", "1s")
        .with_text("header_timeout", "500ms")
        .allow("")
        .start();
    wait_until("the line of the first request", || !server.access_log().is_empty());
    let before = server.access_log().len();
    let cases = [
        ("/die-before?n=1", "502"),
        ("/hangs?n=2", "504"),
        ("/garbage?n=3", "502"),
        ("/?n=4", "200"),
    ];
    for (target, status) in cases {
        let response = request(&server.address, "POST", target, &[], b"x");
        assert_eq!(response.status.to_string(), status, "{target}");
        let line = line_with(&server, target);
        assert!(line.contains(&format!("\" {status} ")), "{line}");
    }
    let mut client = server.connect();
    client.send("BROKEN\r\n\r\n");
    assert_eq!(client.response("GET").status, 400);
    let mut late = server.connect();
    late.send("GET /late HT");
    assert_eq!(late.response("GET").status, 408);
    // A client that leaves before its answer.
    let mut gone = server.connect();
    gone.send("GET /hangs?n=5 HTTP/1.1\r\nHost: a\r\n\r\n");
    drop(gone);
    let line = line_with(&server, "/hangs?n=5");
    assert!(line.contains(" 499 ") || line.contains(" 504 "), "{line}");
    wait_until("every line", || server.access_log().len() >= before + cases.len() + 3);
    server.wait_for_workers(2);
    assert_eq!(server.get("/?last").status, 200);
    line_with(&server, "/?last");
    assert_eq!(
        server.access_log().len(),
        before + cases.len() + 4,
        "{:#?}",
        server.access_log()
    );
    server.stop();
}

#[test]
fn a_connection_without_a_request_has_no_line() {
    let server = Setup::c_app(1).start();
    drop(server.connect());
    request(&server.address, "GET", "/?after", &[], b"");
    line_with(&server, "/?after");
    assert_eq!(server.access_log().len(), 2, "{:?}", server.access_log());
    server.stop();
}

#[test]
fn control_characters_are_escaped_so_that_nobody_forges_a_line() {
    let server = Setup::c_app(1)
        .with_text("access_log_format", "%(U)s \"%(a)s\"")
        .start();
    let fields = [("User-Agent", "a\tb\"c")];
    request(&server.address, "GET", "/x%0A127.0.0.1%20forged%1b%5b2J", &fields, b"");
    let line = line_with(&server, "/x");
    assert!(line.contains("forged") && !line.contains(['\u{1b}', '\t']), "{line:?}");
    assert!(line.contains("\\\"c"), "{line:?}");
    server.stop();
}

#[test]
fn json_lines_parse_and_say_the_same() {
    let server = Setup::c_app(1).with("access_log_json", true).start();
    request(&server.address, "GET", "/vars?q=%22", &[("User-Agent", "a\"b\\c")], b"");
    let line = line_with(&server, "/vars");
    let check = "import json, sys; d = json.loads(sys.argv[1]); print(*sorted(map(str, d.values())), sep='\\n')";
    let output = std::process::Command::new("python3")
        .args(["-c", check, &line])
        .output()
        .expect("python3 runs");
    let values = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{line}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    for value in ["GET", "200", "a\"b\\c"] {
        assert!(values.lines().any(|text| text == value), "no {value} in {line}");
    }
    server.stop();
}

#[test]
fn standard_output_takes_the_access_log_when_asked() {
    let server = Setup::c_app(1).with_text("accesslog", "-").start();
    request(&server.address, "GET", "/?stdout", &[], b"");
    wait_until("the line on standard output", || {
        std::fs::read_to_string(server.path("stdout.log")).is_ok_and(|text| text.contains("GET /?stdout "))
    });
    server.stop();
}

#[test]
fn a_full_disk_is_told_and_stops_nobody() {
    let server = Setup::c_app(1)
        .with_text("accesslog", "/dev/full")
        .allow("the access log cannot be written")
        .start();
    for _ in 0..3 {
        assert_eq!(server.get("/").status, 200);
    }
    let line = server.wait_for_log("the access log cannot be written");
    assert!(line.contains("No space left on device"), "{line}");
    assert_eq!(server.log().matches("cannot be written").count(), 1);
    server.stop();
}

#[test]
fn a_request_that_was_not_understood_has_no_request_line() {
    let server = Setup::c_app(1)
        .with_text("access_log_format", "<%(r)s> %(s)s")
        .allow("Invalid request")
        .start();
    for bytes in [
        "GET / HTTP/3.0\r\nHost: a\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        let before = server.access_log().len();
        let mut client = server.connect();
        client.send(bytes);
        let status = client.response("GET").status;
        wait_until("its access line", || server.access_log().len() > before);
        let found = server.access_log().pop().expect("a line");
        assert_eq!(found, format!("<-> {status}"), "{bytes:?}");
    }
    server.stop();
}
