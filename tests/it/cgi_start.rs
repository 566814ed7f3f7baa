//! CGI scripts that cannot be started, and programs that turn out to be CGI scripts.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::harness::apps::app;
use crate::harness::server::list;
use crate::harness::{Setup, wait_until};

fn write(path: &Path, text: &[u8], mode: u32) {
    // Beside it first: one that is open for writing cannot be executed.
    let beside = path.with_extension("new");
    fs::write(&beside, text).expect("the script is written");
    fs::set_permissions(&beside, fs::Permissions::from_mode(mode)).expect("its mode is set");
    fs::rename(&beside, path).expect("the script is moved into place");
}

const GOOD: &[u8] = b"#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\nhello\\n'\n";

#[test]
fn a_script_that_cannot_be_started_is_explained_and_works_again_when_mended() {
    let setup = Setup::new().with_text("protocol", "cgi").allow("");
    let script = setup.path("x.cgi");
    write(&script, GOOD, 0o755);
    let name = script.to_string_lossy().into_owned();
    let server = setup.with("exec", list(&[&name])).start();
    let itself = format!("#!{name}\n");
    let cases: &[(&[u8], u32, u16, &str)] = &[
        (b"#!/bin/sh\r\necho\r\n", 0o755, 500, "ends in CR LF"),
        (
            b"#!/no/such/sh\n",
            0o755,
            500,
            "its interpreter /no/such/sh does not exist",
        ),
        (b"#!", 0o755, 500, "its first line names no interpreter"),
        (b"#!\necho\n", 0o755, 500, "its first line names no interpreter"),
        (
            itself.as_bytes(),
            0o755,
            500,
            "a script that leads back to itself, or through too many others (it must be a program)",
        ),
        (b"echo hello\n", 0o755, 500, "has no #! line"),
        (b"\xef\xbb\xbf#!/bin/sh\n", 0o755, 500, "byte order mark"),
        (b"", 0o755, 500, "it is empty"),
        (b"\x7fELF nonsense", 0o755, 500, "for another processor"),
        (GOOD, 0o644, 403, "is not executable (chmod +x it)"),
    ];
    for (text, mode, status, words) in cases {
        write(&script, text, *mode);
        let before = server.log().len();
        assert_eq!(server.get("/").status, *status, "{words}");
        let line = server.wait_for_log_after(before, words);
        assert!(line.contains(&name) && line.contains("request="), "{line}");
    }
    fs::remove_file(&script).expect("the script is deleted");
    assert_eq!(server.get("/").status, 500);
    server.wait_for_log("it does not exist");
    fs::create_dir(&script).expect("a directory in its place");
    assert_eq!(server.get("/").status, 403);
    server.wait_for_log("it is a directory");
    fs::remove_dir(&script).expect("the directory is deleted");
    write(&script, GOOD, 0o755);
    assert_eq!(server.get("/").text(), "hello\n");
    server.stop();
}

#[test]
fn variables_too_long_for_the_system_are_refused() {
    let server = Setup::cgi()
        .with_text("limit_request_line", "1m")
        .with_text("limit_request_field_size", "1m")
        .start();
    let long = "x".repeat(140_000);
    let mut client = server.connect();
    client.send(format!("GET / HTTP/1.1\r\nHost: a\r\nX-Long: {long}\r\n\r\n"));
    assert_eq!(client.response("GET").status, 431);
    server.wait_for_log("too long for the system");
    assert_eq!(server.get("/").status, 200);
    server.stop();
}

#[test]
fn a_program_that_answers_and_leaves_is_found_to_be_a_script() {
    for workers in [1, 3] {
        let server = Setup::exec(&[&app("cgi/any.cgi")]).with("workers", workers).start();
        let line = server.wait_for_log("Found out that the app is a CGI script");
        assert!(line.contains(&format!("{workers} at once")), "{line}");
        assert_eq!(server.get("/").text(), "hello\n");
        assert_eq!(server.get("/hello.sh?x").status, 200);
        assert_eq!(server.log().matches("Found out").count(), 1);
        wait_until("one runner", || server.workers().len() == 1);
        server.stop();
    }
}

#[test]
fn a_program_that_was_taken_for_a_fastcgi_app_is_found_to_be_a_script() {
    // Accepts until it gets a request, and answers none; whatever is started later prints and ends.
    let text = b"#!/usr/bin/env python3
import os, socket, sys
mark = sys.argv[0] + '.mark'
if not os.path.exists(mark):
    open(mark, 'w').close()
    listener = socket.socket(fileno=0)
    kind = 0
    while kind != 1:
        client = listener.accept()[0]
        kind = client.recv(4096)[1]
        client.close()
    sys.exit()
print('Content-Type: text/plain\\n\\nhello')
";
    let setup = Setup::new();
    let script = setup.path("x.cgi");
    write(&script, text, 0o755);
    let server = setup.with("exec", list(&[&script.to_string_lossy()])).start();
    server.wait_for_log("Found out that the app speaks FastCGI");
    assert_eq!(server.get("/").text(), "hello\n", "{}", server.log());
    server.wait_for_log("Found out that the app is a CGI script");
    server.stop();
}

#[test]
fn what_a_script_prints_on_trial_is_not_for_the_log() {
    let text = b"#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\nprinted by it\\nmore'\n";
    let run = |level: &str| {
        let setup = Setup::new();
        let script = setup.path("x.cgi");
        write(&script, text, 0o755);
        let setup = setup.with("exec", list(&[&script.to_string_lossy()]));
        let server = setup.with_text("loglevel", level).start();
        server.wait_for_log("Found out that the app is a CGI script");
        let log = server.log();
        server.stop();
        log
    };
    let quiet = run("info");
    let all = run("debug");
    for words in ["Content-Type: text/plain", "printed by it", "more"] {
        assert!(!quiet.contains(words), "{words} in {quiet}");
        let line = all.lines().find(|line| line.contains(words)).expect(words);
        assert!(line.contains("[DEBUG] Printed on trial: "), "{line}");
    }
}

#[test]
fn it_is_found_out_again_after_a_reload_and_without_pulling() {
    let mut server = Setup::exec(&[&app("cgi/any.cgi")]).with("pull", false).start();
    assert_eq!(server.get("/").text(), "hello\n");
    let before = server.log().len();
    server.reload_with("workers", 2);
    server.wait_for_log_after(before, "Found out that the app is a CGI script");
    wait_until("the new runner alone", || {
        server.workers().len() == 1 && server.fronts().len() == 1
    });
    assert_eq!(server.get("/").text(), "hello\n");
    server.stop();
}

#[test]
fn what_scripts_cannot_do_is_refused_at_the_start() {
    let script = app("cgi/any.cgi");
    let refused = |setup: Setup, words: &str| {
        let ended = setup.run_to_end();
        assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
        assert!(ended.stderr.contains(words), "{}", ended.stderr);
    };
    let cgi = || Setup::exec(&[&script]).with_text("protocol", "cgi");
    refused(cgi().with("workers", 2047), "at most 2046");
    refused(
        cgi().with("stream_request", true),
        "stream_request contradicts protocol cgi",
    );
    refused(cgi().with("pipe_stdio", true), "pipe_stdio contradicts protocol cgi");
    let connect = Setup::new().with("connect", list(&["unix:/x"]));
    refused(connect.with_text("protocol", "cgi"), "must be fastcgi with `connect`");
    let ended = Setup::exec(&[&script]).with("stream_request", true).run_to_end();
    assert_eq!(ended.status.code(), Some(3), "{}", ended.stderr);
    assert!(ended.stderr.contains("leave `stream_request` out"), "{}", ended.stderr);
}
