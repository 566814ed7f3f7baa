//! Workers that misbehave: whatever they do, the client gets a correct answer or a clean 502, nothing hangs, nothing
//! leaks, and the log says why.

use std::fs;
use std::time::Duration;

use crate::harness::procs::{self, is_alive};
use crate::harness::server::quoted;
use crate::harness::tree::page;
use crate::harness::{Response, Server, Setup, request, wait_until};

/// What a client must see.
enum Seen {
    /// This status.
    Status(u16),
    /// The usual answer.
    Hello,
    /// A head with 200, and then a connection cut so that the client can tell.
    Cut,
    /// 502, or, if the head went out before the end was known, a cut connection.
    Failed,
    /// A body of exactly these bytes.
    Body(&'static str),
}

fn ask(server: &Server, target: &str, seen: &Seen) {
    // POST, so that nothing is tried a second time.
    let mut client = server.connect();
    client.send(format!(
        "POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"
    ));
    let answer = client.try_response("POST");
    match (seen, &answer) {
        (Seen::Status(status), Ok(response)) => {
            assert_eq!(response.status, *status, "{target}: {}", response.text());
            assert!(response.field("x-request-id").is_some(), "{target}: {response:?}");
        }
        (Seen::Hello, Ok(response)) => {
            assert_eq!(
                (response.status, response.text().as_str()),
                (200, "hello\n"),
                "{target}"
            );
        }
        (Seen::Body(text), Ok(response)) => {
            assert_eq!((response.status, response.text().as_str()), (200, *text), "{target}");
        }
        (Seen::Failed, Ok(response)) => assert_eq!(response.status, 502, "{target}"),
        (Seen::Cut | Seen::Failed, Err(error)) => {
            assert!(error.kind() != std::io::ErrorKind::WouldBlock, "{target} hangs");
        }
        (_, answer) => panic!("{target}: {answer:?}"),
    }
    let next = server.get("/");
    assert_eq!((next.status, next.text().as_str()), (200, "hello\n"), "after {target}");
}

/// Asks each, and looks whether everything is as before.
fn check(server: Server, cases: &[(&str, Seen)]) {
    server.wait_for_workers(2);
    for (target, seen) in cases {
        ask(&server, target, seen);
    }
    server.wait_for_workers(2);
    wait_until("every dead worker to be reaped", || {
        !procs::descendants(server.pid).iter().any(procs::Process::is_zombie)
    });
    server.stop();
}

#[test]
fn fastcgi_workers() {
    let server = Setup::bad_fastcgi(&[]).with("workers", 2).allow("").start();
    let cases = [
        ("/die-before", Seen::Status(502)),
        ("/killed-before", Seen::Status(502)),
        ("/die-during", Seen::Cut),
        ("/die-in-head", Seen::Status(502)),
        ("/die-after", Seen::Hello),
        ("/exit-zero", Seen::Status(502)),
        ("/garbage", Seen::Status(502)),
        ("/wrong-version", Seen::Status(502)),
        // FastCGI 1.0 §3.3: records of a request that is not active are ignored, so this is silence.
        ("/wrong-id", Seen::Status(504)),
        ("/bad-head", Seen::Status(502)),
        ("/cut-head", Seen::Status(502)),
        ("/no-head", Seen::Status(502)),
        ("/long-head", Seen::Status(502)),
        ("/split-field", Seen::Status(502)),
        ("/short-body", Seen::Failed),
        ("/long-body", Seen::Body("hello")),
        ("/stdout", Seen::Hello),
    ];
    check(server, &cases);
}

/// Says that it runs, then what the query names.
const BAD_PAGE: &str = "<?php\nfile_put_contents('RAN', '.', FILE_APPEND);\n\
    $heads = ['length' => 'Content-Length: -1', 'huge' => 'Content-Length: 99999999999999999999',\n\
    'long' => 'X-Long: ' . str_repeat('a', 70000), 'status' => 'Status: 999', 'name' => 'X Y: 1',\n\
    'control' => \"X-A: b\\x01c\", 'output' => 'Content-Length: -1', 'dies' => 'Content-Length: -1'];\n\
    $what = $_SERVER['QUERY_STRING'];\nif (isset($heads[$what])) header($heads[$what]);\n\
    if ($what == 'errors') for ($i = 0; $i < 20000; $i++) error_log(str_repeat('e', 99));\n\
    if ($what == 'stderr') for ($i = 0; $i < 16000; $i++) file_put_contents('php://stderr', str_repeat('o', 999) . \"\\n\");\n\
    if ($what == 'word') file_put_contents('php://stderr', \"a word\\n\");\n\
    if ($what == 'output') echo str_repeat('x', 3000000);\n\
    if ($what == 'endless') { header('Content-Length: -1'); for (;;) { echo str_repeat('x', 5000); flush(); usleep(20000); } }\n\
    if ($what == 'dies') { echo str_repeat('x', 100000); flush(); exec('kill -9 ' . getmypid()); }\necho 'hello';\n";

/// Pages behind a single php-cgi.
fn php_pages() -> Server {
    let setup = Setup::new();
    let ran = setup.path_text("ran");
    page(&setup, "site/bad.php", BAD_PAGE.replace("RAN", &ran));
    let root = quoted(&setup.path_text("site"));
    let tables = format!("[pool.php]\nexec = ['php-cgi']\nworkers = 1\n[[site]]\nroot = {root}\npool = 'php'\n");
    setup.tables(&tables).allow("").start()
}

/// Asks a page for a bad head, and finds that it ran once and that one line says why it failed.
fn ask_for_bad_head(server: &Server, method: &str, what: &str, words: &str) {
    let _ = fs::remove_file(server.path("ran"));
    let before = server.log().len();
    let response = request(&server.address, method, &format!("/bad.php?{what}"), &[], b"");
    assert_eq!(response.status, 502, "{method} {what}: {}", server.log());
    let line = server.wait_for_log_after(before, words);
    let script = server.path("site/bad.php");
    let is_named = line.contains(&format!("failed (502): {}: ", script.display()));
    assert!(is_named && line.contains("[WARNING]"), "{line}");
    assert!(line.contains("request=") && line.contains("client="), "{line}");
    assert_eq!(server.log()[before..].matches("bad.php").count(), 2, "{}", server.log());
    assert_eq!(fs::read_to_string(server.path("ran")).expect("a page that ran"), ".");
}

#[test]
fn a_page_with_a_bad_head_runs_once_and_its_worker_lives_on() {
    let server = php_pages();
    let worker = server.wait_for_workers(1);
    let cases = [
        ("length", "expected digits in Content-Length, found \"-1\""),
        ("huge", "expected digits in Content-Length"),
        ("long", "expected header fields of at most 65536 bytes"),
        ("status", "found \"999"),
        ("name", "expected a header field, found \"X Y: 1\""),
        ("control", "in the value of \"X-A\", found byte 0x01"),
        ("output", "expected digits in Content-Length"),
    ];
    for (what, words) in cases {
        for method in ["GET", "POST"] {
            ask_for_bad_head(&server, method, what, words);
            assert_eq!(server.get("/bad.php").text(), "hello", "after {what}");
        }
    }
    assert_eq!(server.workers(), worker, "{}", server.log());
    assert!(!server.log().contains("broke its protocol"), "{}", server.log());
    server.stop();
}

#[test]
fn a_page_that_complains_without_end_does_not_fill_the_log() {
    let server = php_pages();
    // Each request has an allowance of its own.
    for _ in 0..2 {
        let mark = server.log().len();
        assert_eq!(server.get("/bad.php?errors").text(), "hello");
        let said = server.wait_for_log_after(mark, "more bytes of its error output were dropped");
        assert!(said.contains("[WARNING]") && said.contains("request="), "{said}");
        let logged = server.log()[mark..].matches("eeee ").count();
        assert!((400..=500).contains(&logged), "{logged} lines");
    }
    let mark = server.log().len();
    assert_eq!(server.get("/bad.php?stderr").text(), "hello");
    let said = server.wait_for_log_after(mark, "more bytes of its output were dropped");
    assert!(
        said.contains("[WARNING]") && said.contains("pool=php worker="),
        "{said}"
    );
    // And it is heard again.
    let mark = server.log().len();
    assert_eq!(server.get("/bad.php?word").text(), "hello");
    server.wait_for_log_after(mark, "a word pool=php");
    server.stop();
}

#[test]
fn a_page_that_ends_its_worker_after_a_bad_head_is_not_run_again() {
    let server = php_pages();
    ask_for_bad_head(&server, "GET", "dies", "expected digits in Content-Length");
    assert_eq!(server.get("/bad.php").text(), "hello");
    server.stop();
}

#[test]
fn a_page_that_prints_on_for_ever_after_a_bad_head_is_ended() {
    let server = php_pages();
    let worker = server.wait_for_workers(1);
    for _ in 0..2 {
        ask_for_bad_head(&server, "GET", "endless", "expected digits in Content-Length");
        // Its connection is closed, at which PHP ends a page.
        assert_eq!(server.get("/bad.php").text(), "hello", "{}", server.log());
    }
    assert_eq!(server.workers(), worker, "{}", server.log());
    // A change runs to its end, but nobody waits for that.
    let mut client = server.connect();
    client.send("POST /bad.php?endless HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(client.response("POST").status, 502);
    let mark = server.log().len();
    client.send("GET /bad.php HTTP/1.1\r\nHost: a\r\n\r\n");
    for pid in server.workers() {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).expect("a kill");
    }
    assert_eq!(client.response("GET").text(), "hello", "{}", server.log());
    assert!(!server.log()[mark..].contains("failed ("), "{}", server.log());
    server.stop();
}

#[test]
fn an_app_with_a_bad_head_keeps_its_worker_and_its_connection() {
    let server = Setup::bad_fastcgi(&[]).allow("").start();
    let worker = server.wait_for_workers(1);
    for (target, words) in [
        ("/bad-head", "found \"this is \\x01 no header"),
        (
            "/cut-head",
            "found the end of the output after \"Content-Type: text/plain",
        ),
        ("/no-head", "it ended the request without a response head"),
        ("/long-head", "at most 65536 bytes"),
        ("/split-field", "in the value of \"X-Bad\", found byte 0x0d"),
    ] {
        let before = server.log().len();
        assert_eq!(server.get(target).status, 502, "{target}");
        server.wait_for_log_after(before, words);
        assert_eq!(server.get("/").text(), "hello\n", "after {target}");
    }
    assert_eq!(server.workers(), worker, "{}", server.log());
    assert!(!server.log().contains("sent again"), "{}", server.log());
    server.stop();
}

#[test]
fn an_end_without_end_request_is_never_a_complete_response() {
    let server = Setup::bad_fastcgi(&[]).with("workers", 2).allow("").start();
    let response: Result<Response, _> = {
        let mut client = server.connect();
        client.send("POST /no-end HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx");
        client.try_response("POST")
    };
    assert!(
        response.as_ref().map_or(true, |response| response.status == 502),
        "{response:?}"
    );
    assert_eq!(server.get("/").status, 200);
    server.stop();
}

#[test]
fn an_overloaded_worker_is_not_the_last_word_and_not_an_endless_loop() {
    let server = Setup::bad_fastcgi(&[]).with("workers", 2).allow("").start();
    let response = request(&server.address, "POST", "/overloaded", &[], b"x");
    assert!(matches!(response.status, 502 | 503), "{response:?}");
    assert_eq!(server.get("/").status, 200);
    server.stop();
}

#[test]
fn a_worker_that_refuses_what_it_has_begun_to_answer_is_not_followed_by_another() {
    let server = Setup::bad_fastcgi(&[]).with("workers", 2).allow("").start();
    let words = "it refused the request when it had begun to answer it";
    for method in ["GET", "POST"] {
        let before = server.log().len();
        assert_eq!(
            request(&server.address, method, "/overloaded-held", &[], b"").status,
            502
        );
        assert!(server.wait_for_log_after(before, words).contains("failed (502)"));
        let before = server.log().len();
        let mut client = server.connect();
        client.send(format!(
            "{method} /overloaded-late HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
        ));
        let answer = String::from_utf8_lossy(&client.rest().expect("an end")).into_owned();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{}", server.log());
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "two answers in one");
        assert!(!answer.ends_with("0\r\n\r\n"), "it must not look whole");
        assert!(server.wait_for_log_after(before, words).contains("failed (cut)"));
    }
    assert_eq!(server.get("/").text(), "hello\n");
    server.stop();
}

#[test]
fn a_worker_that_refuses_a_body_it_was_sent_part_of_is_not_followed_by_another() {
    let setup = Setup::bad_fastcgi(&[]).with("workers", 2);
    let server = setup.with("stream_request", true).allow("").start();
    assert_eq!(request(&server.address, "POST", "/overloaded", &[], b"x").status, 502);
    server.wait_for_log("it refused the request when part of it had been sent");
    assert_eq!(server.get("/").text(), "hello\n");
    server.stop();
}

#[test]
fn pipe_workers() {
    let server = Setup::bad_pipe(&[]).with("workers", 2).allow("").start();
    let cases = [
        ("/die-before", Seen::Status(502)),
        ("/die-during", Seen::Cut),
        ("/die-in-frame", Seen::Status(502)),
        ("/die-after", Seen::Hello),
        ("/exit-zero", Seen::Status(502)),
        ("/aborts", Seen::Status(502)),
        ("/aborts-in-body", Seen::Failed),
        ("/garbage", Seen::Status(502)),
        ("/unknown-type", Seen::Status(502)),
        ("/skipped-type", Seen::Hello),
        ("/too-long", Seen::Status(502)),
        ("/wrong-id", Seen::Status(502)),
        ("/twice", Seen::Hello),
        ("/bad-status", Seen::Status(502)),
        ("/bad-field", Seen::Status(502)),
        ("/bad-name", Seen::Status(502)),
        ("/odd-head", Seen::Hello),
        ("/head-too-long", Seen::Status(502)),
        ("/body-first", Seen::Status(502)),
        ("/short-body", Seen::Failed),
        ("/long-body", Seen::Body("hello")),
        ("/ready-again", Seen::Status(502)),
        ("/stdout", Seen::Hello),
        ("/log", Seen::Hello),
        ("/refuses-once", Seen::Hello),
    ];
    check(server, &cases);
}

#[test]
fn garbage_is_logged_with_its_first_bytes_escaped_and_the_worker_is_replaced() {
    for setup in [Setup::bad_fastcgi(&[]), Setup::bad_pipe(&[])] {
        let server = setup.allow("").start();
        let workers = server.wait_for_workers(1);
        assert_eq!(request(&server.address, "POST", "/garbage", &[], b"x").status, 502);
        wait_until("another worker", || {
            let now = server.workers();
            now.len() == 1 && now != workers
        });
        let log = server.log();
        assert!(!log.contains('\u{1b}'), "raw control characters in the log:\n{log}");
        assert!(log.contains("not FastCGI") || log.contains("Traceback"), "{log}");
        server.stop();
    }
}

#[test]
fn a_request_that_kills_every_worker_is_not_tried_for_ever() {
    let server = Setup::bad_fastcgi(&[]).with("workers", 3).allow("").start();
    let workers = server.wait_for_workers(3);
    // A GET may be tried twice, so at most two workers die of it.
    assert_eq!(server.get("/die-before").status, 502);
    server.wait_for_workers(3);
    let survivors = server.workers().iter().filter(|pid| workers.contains(pid)).count();
    assert!(survivors >= 1, "every worker was tried");
    server.stop();
}

#[test]
fn ten_megabytes_on_standard_error_neither_block_nor_flood() {
    for (setup, targets) in [
        (Setup::bad_fastcgi(&[]), vec!["/stderr", "/own-stderr"]),
        (Setup::bad_pipe(&[]), vec!["/own-stderr"]),
    ] {
        let server = setup.with("workers", 2).allow("").start();
        for target in targets {
            ask(&server, target, &Seen::Hello);
        }
        server.stop();
    }
}

#[test]
fn what_an_app_prints_stands_in_the_log_with_its_worker() {
    for setup in [Setup::bad_fastcgi(&[]), Setup::bad_pipe(&[])] {
        let server = setup.allow("").start();
        let worker = server.wait_for_workers(1)[0];
        ask(&server, "/stdout", &Seen::Hello);
        let line = server.wait_for_log("printed by the app");
        assert!(line.contains(&format!("pid={worker}")), "{line}");
        server.stop();
    }
}

#[test]
fn children_that_outlive_their_worker_go_with_its_group() {
    for setup in [Setup::bad_fastcgi(&[]), Setup::bad_pipe(&[])] {
        let server = setup.with("workers", 2).allow("").start();
        server.wait_for_workers(2);
        // The worker lives on; its child goes when the server stops, which the harness checks.
        let child: i32 = server.get("/forks").text().trim().parse().expect("a pid");
        assert!(is_alive(child));
        // The worker dies and leaves a child behind.
        let before = server.processes().len();
        assert_eq!(
            request(&server.address, "POST", "/forks-and-dies", &[], b"x").status,
            502
        );
        wait_until("the orphan to be gone", || {
            server.workers().len() == 2 && server.processes().len() <= before
        });
        server.stop();
        assert!(!is_alive(child));
    }
}

#[test]
fn a_worker_that_exits_in_a_loop_is_started_ever_more_slowly() {
    let server = Setup::bad_fastcgi(&[]).with("workers", 1).allow("").start();
    let starts = || server.log().matches("Booting worker").count();
    let deaths = 4;
    for n in 1..=deaths {
        assert_eq!(request(&server.address, "POST", "/exit-zero", &[], b"x").status, 502);
        wait_until("a new worker", || starts() > n);
    }
    // One start per death: no spinning.
    assert_eq!(server.get("/").status, 200);
    assert_eq!(starts(), 1 + deaths, "{}", server.log());
    server.stop();
}

#[test]
fn a_worker_that_has_served_well_is_followed_at_once_however_often_it_dies() {
    let setups = [
        Setup::bad_fastcgi(&[]).with("workers", 1),
        Setup::bad_pipe(&[]).with("workers", 1),
    ];
    for setup in setups {
        let server = setup.allow("").start();
        for round in 0..6 {
            assert_eq!(server.get("/").text(), "hello\n", "round {round}");
            let died = request(&server.address, "POST", "/die-before", &[], b"x");
            assert_eq!(died.status, 502, "round {round}");
        }
        assert_eq!(server.get("/").text(), "hello\n");
        assert!(!server.log().contains("in a row"), "{}", server.log());
        // One that has served nothing is no such worker.
        for _ in 0..4 {
            assert_eq!(request(&server.address, "POST", "/die-before", &[], b"x").status, 502);
        }
        server.wait_for_log("failed 3 times in a row");
        server.stop();
    }
}

#[test]
fn an_app_that_breaks_after_a_good_start_does_not_take_the_server_along() {
    // The script works once, then its successors cannot start.
    let setup = Setup::new();
    let script = setup.path_text("app.sh");
    let app = crate::harness::apps::app("bad_fastcgi.py");
    let text = format!("#!/bin/sh\nif mkdir once 2>/dev/null; then exec {app}; fi\necho broken now >&2\nexit 1\n");
    std::fs::write(&script, text).expect("a script");
    let server = setup
        .with("exec", crate::harness::server::list(&["sh", &script]))
        .with_text("protocol", "fastcgi")
        .with_text("queue_timeout", "1s")
        .allow("")
        .start();
    assert_eq!(request(&server.address, "POST", "/die-before", &[], b"x").status, 502);
    server.wait_for_log("broken now");
    // The arbiter lives, the front answers, and starts are paced.
    assert_eq!(server.get("/").status, 503);
    assert!(server.log().matches("Booting worker").count() < 12, "{}", server.log());
    // And when it works again, it serves again.
    std::fs::remove_dir(server.path("once")).expect("the directory");
    crate::harness::wait_within(Duration::from_secs(60), "recovery", || {
        (server.get("/").status == 200).then_some(())
    });
    server.stop();
}

#[test]
fn a_fastcgi_app_that_closes_the_channel_it_does_not_know_is_found_out() {
    let server = Setup::bad_fastcgi(&["close-channel"])
        .with_text("protocol", "auto")
        .with_text("boot_timeout", "5s")
        .start();
    server.wait_for_log("Found out that the app speaks FastCGI");
    server.stop();
}
