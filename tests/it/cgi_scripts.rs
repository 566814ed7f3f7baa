//! CGI scripts that do as they should: five languages, all kinds of response, what they find when they start.

use crate::harness::apps::{app, c_cgi};
use crate::harness::{Response, Server, Setup, request};
use nix::sys::signal::Signal;

/// A POST with a body that has every byte.
fn post(server: &Server, target: &str, length: usize) -> Response {
    let body: Vec<u8> = (0..=255).cycle().take(length).collect();
    let response = request(&server.address, "POST", target, &[], &body);
    assert_eq!(response.status, 200, "{target}: {}", server.log());
    let line = response.body.iter().position(|byte| *byte == b'\n').expect("a line");
    assert!(
        response.body[line + 1..] == body,
        "{target} changed a body of {length} bytes"
    );
    response
}

#[test]
fn scripts_in_five_languages_get_their_requests_whole() {
    let (scripts, program) = (
        Setup::cgi().start(),
        Setup::exec(&[&c_cgi()]).with_text("protocol", "cgi").start(),
    );
    let place = app("cgi");
    for (name, language) in [("sh", "sh"), ("pl", "perl"), ("py", "python"), ("rb", "ruby")] {
        // None, in a message, in a message with the rest in memory, and in a file.
        for length in [1, 5000, 60_000, 200_000, 3_000_000] {
            let response = post(&scripts, &format!("/hello.{name}?a+b=%20"), length);
            assert_eq!(response.field("x-language"), Some(language));
            let text = format!("POST a+b=%20 {place}\n");
            assert!(response.body.starts_with(text.as_bytes()), "{}", response.text());
        }
        let response = scripts.get(&format!("/hello.{name}"));
        assert_eq!(response.text(), format!("GET  {place}\n"));
    }
    let response = post(&program, "/x?y", 100_000);
    assert_eq!(response.field("x-language"), Some("c"));
    program.stop();
    scripts.stop();
}

#[test]
fn every_kind_of_response_reaches_the_client() {
    let server = Setup::cgi().allow("more than 10 times").start();
    let port = match &server.address {
        crate::harness::Address::Tcp(address) => address.port(),
        crate::harness::Address::Unix(_) => 0,
    };
    assert_ne!(port, 0);
    let ask = |what: &str| server.get(&format!("/kinds.sh?{what}"));
    let place = |response: &Response| response.field("location").map(str::to_owned);

    let local = request(&server.address, "POST", "/kinds.sh?local", &[], b"body");
    let expected = format!("GET from=local {}\n", app("cgi"));
    assert_eq!((local.status, local.text()), (200, expected));
    assert_eq!(ask("loop").status, 502);
    let script = app("cgi/any.cgi");
    server.wait_for_log(&format!(
        "GET /kinds.sh?loop failed (502): {script}: it redirected to another path more than 10 times"
    ));
    let response = ask("local-status");
    assert_eq!(
        (response.status, place(&response).as_deref()),
        (303, Some("/elsewhere"))
    );
    for (what, target) in [("client", "http://example.org/x"), ("other-host", "//example.org/x")] {
        let response = ask(what);
        assert_eq!((response.status, place(&response).as_deref()), (302, Some(target)));
    }
    let response = ask("document");
    assert_eq!((response.status, response.text().as_str()), (301, "moved\n"));
    let response = ask("status");
    assert_eq!((response.status, response.reason.as_str()), (404, "Nothing here"));
    assert_eq!(ask("no-content").status, 204);
    let response = ask("early");
    assert_eq!((response.status, response.interim.as_slice()), (200, &[103][..]));
    let cookies = ask("cookies").fields;
    assert_eq!(cookies.iter().filter(|(name, _)| name == "Set-Cookie").count(), 2);
    let response = ask("hop");
    assert_eq!(
        (response.text().as_str(), response.field("x-cgi-secret")),
        ("hello\n", None)
    );
    server.stop();
}

#[test]
fn head_runs_the_script_and_drops_its_body() {
    let server = Setup::cgi().start();
    let mut client = server.connect();
    for _ in 0..3 {
        client.send("HEAD /hello.sh HTTP/1.1\r\nHost: a\r\n\r\n");
        let response = client.response("HEAD");
        assert_eq!((response.status, response.field("x-language")), (200, Some("sh")));
    }
    assert_eq!(client.get("/hello.sh").status, 200);
    server.stop();
}

#[test]
fn a_whole_response_of_an_nph_script_is_framed_anew() {
    let server = Setup::exec(&[&app("cgi/nph-hello.sh")])
        .with_text("protocol", "cgi")
        .start();
    let mut client = server.connect();
    for _ in 0..2 {
        let response = client.get("/");
        assert_eq!((response.status, response.reason.as_str()), (201, "Made"));
        assert_eq!(response.text(), "whole response\n");
    }
    server.stop();
}

#[test]
fn a_script_finds_its_request_and_little_else() {
    let server = Setup::cgi()
        .with("clear_env", true)
        .with("pass_env", "[\"RGUNICORN_TEST\"]")
        .with(
            "raw_env",
            "[\"GIVEN=1\", \"HTTP_PROXY=http://evil\", \"CONTENT_LENGTH=7\"]",
        )
        .start();
    let fields = [
        ("Authorization", "Basic c2VjcmV0"),
        ("Proxy", "http://evil"),
        ("X-Own", "a"),
        ("X-Own", "b"),
    ];
    let response = request(&server.address, "GET", "/kinds.sh?environment", &fields, b"");
    let text = response.text();
    let names: Vec<&str> = text
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, _)| name)
        .collect();
    // PWD and the like are the shell's own.
    let expected = [
        "DOCUMENT_URI",
        "GATEWAY_INTERFACE",
        "GIVEN",
        "HTTP_CONNECTION",
        "HTTP_HOST",
        "HTTP_X_OWN",
        "HTTP_X_REQUEST_ID",
        "PATH",
        "PATH_INFO",
        "QUERY_STRING",
        "REDIRECT_STATUS",
        "REMOTE_ADDR",
        "REMOTE_PORT",
        "REQUEST_METHOD",
        "REQUEST_SCHEME",
        "REQUEST_URI",
        "RGUNICORN_TEST",
        "SCRIPT_FILENAME",
        "SCRIPT_NAME",
        "SERVER_ADDR",
        "SERVER_NAME",
        "SERVER_PORT",
        "SERVER_PROTOCOL",
        "SERVER_SOFTWARE",
    ];
    let found: Vec<&str> = names
        .into_iter()
        .filter(|name| !["PWD", "OLDPWD", "_", "SHLVL", "HTTP_CONNECTION"].contains(name))
        .collect();
    let expected: Vec<&str> = expected.into_iter().filter(|name| *name != "HTTP_CONNECTION").collect();
    assert_eq!(found, expected, "{text}");
    let line = |line: &str| assert!(text.lines().any(|other| other == line), "no {line} in\n{text}");
    line("SCRIPT_NAME=");
    line("PATH_INFO=/kinds.sh");
    line(&format!("SCRIPT_FILENAME={}", app("cgi/any.cgi")));
    line("HTTP_X_OWN=a, b");
    server.stop();
}

#[test]
fn authorization_is_passed_if_asked_for() {
    let server = Setup::cgi().with("pass_auth", true).start();
    let fields = [("Authorization", "Basic c2VjcmV0")];
    let text = request(&server.address, "GET", "/kinds.sh?environment", &fields, b"").text();
    assert!(text.contains("HTTP_AUTHORIZATION=Basic c2VjcmV0\n"), "{text}");
    server.stop();
}

#[test]
fn limits_bind_scripts() {
    let server = Setup::cgi()
        .with_text("rlimit_cpu", "50s")
        .with_text("rlimit_as", "2g")
        .with("rlimit_nofile", 33)
        .with_text("rlimit_fsize", "1m")
        .start();
    let text = server.get("/bad.sh?limits").text();
    let lines: Vec<&str> = text.lines().collect();
    // Seconds, KiB, files, blocks of 512 bytes, blocks of core.
    assert_eq!(lines, ["50", "2097152", "33", "2048", "0"], "{}", server.log());
    server.stop();
}

#[test]
fn the_access_log_names_the_process_of_the_script() {
    let server = Setup::cgi().with_text("access_log_format", "%(p)s %(U)s").start();
    let runner = server.wait_for_workers(1)[0];
    server.get("/hello.sh");
    let line = crate::harness::wait_for("the line", || {
        server.access_log().into_iter().find(|line| line.ends_with("/hello.sh"))
    });
    let pid = line
        .trim_start_matches('<')
        .split('>')
        .next()
        .and_then(|pid| pid.parse::<i32>().ok());
    assert!(
        pid.is_some_and(|pid| pid > 0 && pid != runner),
        "{line}, runner {runner}"
    );
    server.stop();
}

#[test]
fn signals_start_no_second_runner() {
    let server = Setup::cgi().with("workers", 3).start();
    let before = server.wait_for_workers(1);
    for signal in [Signal::SIGTTIN, Signal::SIGTTOU] {
        let mark = server.log().len();
        server.signal(signal);
        let line = server.wait_for_log_after(mark, "TTIN and TTOU do not change pool default");
        assert!(line.contains("[INFO]"), "{line}");
    }
    assert_eq!(server.get("/hello.sh").status, 200);
    assert_eq!(server.workers(), before);
    server.stop();
}
