//! CGI scripts that misbehave: the client gets the right status, the log names the script and the reason, nothing hangs
//! and nothing is left.

use crate::harness::{Response, Server, Setup, procs, request, wait_until};

/// What a client must see.
#[derive(Clone, Copy)]
enum Seen {
    /// This status.
    Status(u16),
    /// 200 and this body.
    Body(&'static str),
    /// A response that is cut so that the client can tell.
    Cut,
}

/// A request, what is seen of its answer, and what the log says about it; empty = nothing.
type Case = (&'static str, Seen, &'static str);

const CASES: &[Case] = &[
    ("nothing", Seen::Status(502), "it printed nothing"),
    ("text", Seen::Status(502), "found \"This is no header.\""),
    ("http", Seen::Status(502), "found \"HTTP/1.1 200 OK\""),
    (
        "unfinished",
        Seen::Status(502),
        "the end of the output after \"Content-Type: text/plain\\n\"",
    ),
    (
        "blank",
        Seen::Status(502),
        "an empty line first, then \"Content-Type: text/plain",
    ),
    ("no-field", Seen::Status(502), "none of them after \"X-Anything: 1"),
    ("twice", Seen::Status(502), "expected Content-Type once"),
    ("folded", Seen::Status(502), "continuation line \" b\""),
    ("status", Seen::Status(502), "found \"fine\""),
    ("long", Seen::Status(502), "at most 65536 bytes"),
    (
        "exit-before",
        Seen::Status(502),
        "exited with code 3 and printed nothing",
    ),
    ("exit-before", Seen::Status(502), "it went wrong"),
    (
        "exit-in-head",
        Seen::Status(502),
        "exited with code 3 before its header was complete",
    ),
    (
        "killed-before",
        Seen::Status(502),
        "killed by SIGKILL before its header was complete",
    ),
    ("missing", Seen::Status(502), "exited with code 127 and printed nothing"),
    ("lf", Seen::Body("hello\n"), ""),
    ("early", Seen::Body("hello\n"), ""),
    ("exit-after", Seen::Body("hello\n"), "exited with code 3"),
    (
        "errors",
        Seen::Body("hello\n"),
        "more bytes of its error output were dropped",
    ),
    (
        "line",
        Seen::Body("hello\n"),
        "more bytes of its error output were dropped",
    ),
    ("child", Seen::Body("hello\n"), ", which was killed"),
    ("quiet-child", Seen::Body("hello\n"), ", which was killed"),
    (
        "killed-after",
        Seen::Cut,
        "killed by SIGSEGV in the middle of its response",
    ),
    (
        "killed-inside",
        Seen::Cut,
        "killed by SIGKILL in the middle of its response",
    ),
    ("short", Seen::Cut, "shorter than its Content-Length"),
    (
        "surplus",
        Seen::Body("hello"),
        "longer than its Content-Length: the rest was dropped",
    ),
];

fn ask(server: &Server, method: &str, case: Case) {
    let (what, seen, words) = case;
    let before = server.log().len();
    let mut client = server.connect();
    let target = format!("/bad.sh?{what}");
    let body = "Content-Length: 4\r\n\r\nbody";
    client.send(format!("{method} {target} HTTP/1.1\r\nHost: a\r\n{body}"));
    let answer = client.try_response(method);
    match (seen, &answer) {
        (Seen::Status(status), Ok(response)) => assert_eq!(response.status, status, "{what}: {}", server.log()),
        (Seen::Body(text), Ok(response)) => {
            assert_eq!((response.status, response.text().as_str()), (200, text), "{what}")
        }
        // What was not sent yet can still become an error.
        (Seen::Cut, Ok(response)) => assert_eq!(response.status, 502, "{what}"),
        (Seen::Cut, Err(error)) => assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "{what} hangs"),
        (_, Err(error)) => panic!("{what}: {error}\n{}", server.log()),
    }
    if !words.is_empty() {
        let line = server.wait_for_log_after(before, words);
        assert!(line.contains("request="), "{line}");
        // The front knows no pid any more.
        let script = if words.contains("Content-Length") {
            "cgi/any.cgi "
        } else {
            "cgi/any.cgi["
        };
        assert!(line.contains(script), "no script in {line}");
    }
}

/// Waits until the runner has no child: every script of the test, and whatever it left.
fn wait_for_no_script(server: &Server) {
    let runner = server.wait_for_workers(1)[0];
    wait_until("the end of all scripts", || procs::children(runner).is_empty());
}

#[test]
fn scripts_that_fail_are_answered_and_explained() {
    let server = Setup::cgi().allow("").start();
    for case in CASES {
        for method in ["POST", "GET"] {
            ask(&server, method, *case);
        }
    }
    wait_for_no_script(&server);
    assert_eq!(server.get("/").text(), "hello\n");
    assert_eq!(server.workers().len(), 1, "the runner is as it was");
    server.stop();
}

#[test]
fn a_script_need_not_read_its_body_nor_wait_for_it() {
    let server = Setup::cgi().start();
    for length in [10, 100_000, 5_000_000] {
        let body = vec![b'x'; length];
        for (what, size) in [("early", 6), ("slow-reader", 300_006)] {
            let target = format!("/bad.sh?{what}");
            let response: Response = request(&server.address, "POST", &target, &[], &body);
            assert_eq!((response.status, response.body.len()), (200, size), "{what} {length}");
        }
    }
    server.stop();
}

#[test]
fn many_scripts_at_once_do_not_disturb_each_other() {
    let server = Setup::cgi().allow("").start();
    let address = &server.address;
    std::thread::scope(|scope| {
        for place in 0..16 {
            scope.spawn(move || {
                for (what, seen, _) in CASES.iter().cycle().skip(place).take(CASES.len()) {
                    let mut client = crate::harness::Client::connect(address);
                    client.send(format!("GET /bad.sh?{what} HTTP/1.1\r\nHost: a\r\n\r\n"));
                    let answer = client.try_response("GET").ok();
                    match seen {
                        Seen::Status(status) => assert_eq!(answer.map(|answer| answer.status), Some(*status), "{what}"),
                        Seen::Body(text) => assert_eq!(answer.map(|answer| answer.text()).as_deref(), Some(*text)),
                        Seen::Cut => assert!(answer.is_none_or(|answer| answer.status == 502), "{what}"),
                    }
                }
            });
        }
    });
    wait_for_no_script(&server);
    server.stop();
}

#[test]
fn a_script_deleted_while_it_runs_ends_as_it_would() {
    let server = Setup::cgi().start();
    let response = server.get("/bad.sh?deleted");
    assert_eq!((response.status, response.body.len()), (200, 100_006));
    server.stop();
}
