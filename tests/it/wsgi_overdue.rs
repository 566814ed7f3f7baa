//! Requests and imports that take too long: the client's answer, the stacks in the log, `worker_abort`.

use std::time::Duration;

use nix::sys::signal::Signal;
use rgunicorn::sys::clock;

use crate::harness::{Setup, procs, request, wait_until};

const CONF: &str = "\
from recorder import rec
def worker_abort(worker):
    rec('worker_abort', worker.age)
def worker_exit(server, worker):
    rec('worker_exit', worker.age)
";

#[test]
fn the_log_shows_what_every_thread_was_doing() {
    for class in [&[][..], &["--threads", "3"], &["-k", "gevent"]] {
        for hosted in [false, true] {
            let words = [&["--timeout", "1", "--workers", "2"], class, &["bad"]].concat();
            let setup = Setup::wsgi(&words)
                .allow("WORKER TIMEOUT")
                .allow("overdue")
                .allow("Error handling request POST /sleep")
                .allow("orker")
                .allow("SystemExit");
            if hosted {
                std::fs::write(setup.path("gunicorn.conf.py"), CONF).expect("a conf file");
            }
            let who = format!("{class:?} hosted: {hosted}");
            let server = setup.start();
            let response = request(&server.address, "POST", "/sleep?secret", &[], b"");
            assert_eq!(response.status, 504, "{who}");
            let line = server.wait_for_log("WORKER TIMEOUT");
            assert!(line.contains("(pid:"), "{who}: {line}");
            let line = server.wait_for_log("POST /sleep?secret request=");
            // Which thread runs the request is not known, so the state of the first is not told.
            let has_state = line.contains("; its process: state=");
            assert_eq!(has_state, class != ["--threads", "3"], "{who}: {line}");
            // The line of the stack that sleeps, and that of the app that called it.
            server.wait_for_log("bad.py");
            let line = server.wait_for_log("POST /sleep");
            assert!(!line.is_empty(), "{who}");
            if hosted {
                wait_until(&format!("{who}: worker_abort"), || {
                    let record = std::fs::read_to_string(server.path("record.log")).unwrap_or_default();
                    record.contains("worker_abort")
                });
            }
            server.wait_for_workers(2);
            assert_eq!(server.get("/").status, 200, "{who}");
            let log = server.log();
            assert_eq!(log.matches("WORKER TIMEOUT").count(), 1, "{who}: {log}");
            server.stop();
        }
    }
}

#[test]
fn other_requests_of_an_overdue_worker_end_in_peace() {
    for class in [&["--threads", "16"][..], &["-k", "gevent"]] {
        for hosted in [false, true] {
            let who = format!("{class:?} hosted: {hosted}");
            let words = [&["--timeout", "1"], class, &["bad"]].concat();
            let setup = Setup::wsgi(&words)
                .allow("WORKER TIMEOUT")
                .allow("overdue")
                .allow("Error handling request POST /sleep")
                .allow("orker")
                .allow("SystemExit");
            if hosted {
                std::fs::write(setup.path("gunicorn.conf.py"), CONF).expect("a conf file");
            }
            let server = setup.start();
            let old = server.wait_for_workers(1)[0];
            // It speaks all the time, so that it is not overdue itself.
            let mut other = server.connect();
            other.send("POST /until-gate HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
            wait_until("the other request to run", || server.path("begun").exists());
            let response = request(&server.address, "POST", "/sleep", &[], b"");
            assert_eq!(response.status, 504, "{who}");
            // Nothing new goes to the old worker, which lives.
            for _ in 0..40 {
                let response = server.get("/");
                assert_eq!(response.status, 200, "{who}");
                assert_ne!(response.text().trim(), old.to_string(), "{who}");
            }
            assert!(procs::is_alive(old), "{who}");
            let line = server.wait_for_log("POST /sleep request=");
            assert!(
                line.contains("is overdue: it ran ") && line.contains("pid="),
                "{who}: {line}"
            );
            server.wait_for_log("finishes its other requests before it is aborted");
            assert!(
                !server.log().contains("bad.py"),
                "{who}: no stacks before the other has ended"
            );
            std::fs::write(server.path("gate"), "").expect("a file");
            let response = other.response("POST");
            assert_eq!(response.status, 200, "{who}");
            assert!(response.text().ends_with("end"), "{who}: {}", response.text());
            // The stacks, and the end.
            server.wait_for_log("bad.py");
            wait_until("the old worker's end", || !procs::is_alive(old));
            let log = server.log();
            assert_eq!(log.matches("WORKER TIMEOUT").count(), 1, "{who}: {log}");
            let begun = std::fs::read_to_string(server.path("begun")).unwrap_or_default();
            assert_eq!(begun.lines().count(), 1, "{who}: {begun}");
            server.wait_for_workers(1);
            server.stop();
        }
    }
}

#[test]
fn an_overdue_worker_with_other_requests_that_do_not_end_is_ended_by_graceful_timeout() {
    let words = ["--timeout", "1", "--graceful-timeout", "1", "--threads", "4", "bad"];
    let server = Setup::wsgi(&words).allow("").start();
    let old = server.wait_for_workers(1)[0];
    let mut other = server.connect();
    other.send("POST /until-gate HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    wait_until("the other request to run", || server.path("begun").exists());
    assert_eq!(request(&server.address, "POST", "/sleep", &[], b"").status, 504);
    wait_until("the old worker's end", || !procs::is_alive(old));
    let _ = other.rest();
    assert_eq!(server.get("/").status, 200);
    server.stop();
}

#[test]
fn workers_that_do_not_come_back_from_what_they_have_answered_are_replaced() {
    for class in [&[][..], &["--threads", "2"], &["-k", "gevent"]] {
        let who = format!("{class:?}");
        let words = [
            &["--timeout", "1", "--workers", "2", "--graceful-timeout", "1"],
            class,
            &["bad"],
        ]
        .concat();
        let server = Setup::wsgi(&words)
            .allow("WORKER TIMEOUT")
            .allow("was still busy")
            .allow("Error handling request GET /lingers")
            .allow("SystemExit")
            .allow("orker")
            .start();
        // A worker with one slot takes no second one.
        let lingering: Vec<i32> = (0..2)
            .map(|_| server.get("/lingers").text().trim().parse().expect("a pid"))
            .collect();
        server.wait_for_log("was still busy 2.0 s after it had answered");
        assert_eq!(server.get("/").status, 200, "{who}");
        // Where they were is shown.
        server.wait_for_log("in close");
        wait_until("replacements", || {
            let workers = server.workers();
            workers.len() == 2 && !lingering.iter().any(|pid| workers.contains(pid))
        });
        server.stop();
    }
}

#[test]
fn a_stop_waits_for_what_follows_an_answer() {
    for class in [&[][..], &["--threads", "2"], &["-k", "gevent"]] {
        let words = [class, &["bad"]].concat();
        let mut server = Setup::wsgi(&words).start();
        assert_eq!(server.get("/lingers-until-gate").status, 200);
        server.signal(Signal::SIGTERM);
        server.wait_for_log("Handling signal: term");
        // What has lost its front is killed after 2 s.
        let until = clock::now() + Duration::from_secs(3);
        wait_until("that time to pass", || clock::now() > until);
        std::fs::write(server.path("gate"), "").expect("a file");
        assert!(server.wait_for_end(Duration::from_secs(20)).success(), "{class:?}");
        let log = server.log();
        assert!(log.contains("lingered to the end"), "{class:?}: {log}");
        server.stop();
    }
}

#[test]
fn an_import_that_hangs_ends_the_start() {
    let setup = Setup::bare(&["--boot-timeout", "1", "hangs"]);
    std::fs::write(setup.path("hangs.py"), "import time\ntime.sleep(1000)\n").expect("an app");
    let ended = setup.run_to_end();
    assert_eq!(ended.status.code(), Some(3), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("hangs.py"),
        "the stack shows where: {}",
        ended.stderr
    );
}

#[test]
fn a_hook_that_hangs_before_a_fork_has_its_host_killed_by_the_arbiter() {
    let setup = Setup::bare(&["--boot-timeout", "1", "hello"]);
    let conf = "import time\ndef pre_fork(server, worker):\n    time.sleep(1000)\n";
    std::fs::write(setup.path("gunicorn.conf.py"), conf).expect("a conf file");
    let ended = setup.run_to_end();
    assert!(
        ended.stderr.contains("does not start a worker and is killed"),
        "{}",
        ended.stderr
    );
    let cause = "was killed by SIGKILL (sent by the arbiter: not ready in time)";
    assert!(ended.stderr.contains(cause), "{}", ended.stderr);
}

#[test]
fn an_import_that_hangs_on_a_reload_keeps_the_old_workers() {
    let setup = Setup::bare(&["--boot-timeout", "1", "hangs"])
        .allow("boot")
        .allow("ready")
        .allow("orker")
        .allow("reload");
    let fine = "def application(environ, start_response):\n    start_response('200 OK', [])\n    return [b'fine']\n";
    std::fs::write(setup.path("hangs.py"), fine).expect("an app");
    let server = setup.start();
    let before = server.wait_for_workers(1);
    std::fs::write(
        server.path("hangs.py"),
        format!("import time\ntime.sleep(1000)\n{fine}"),
    )
    .expect("an app");
    server.signal(Signal::SIGHUP);
    server.wait_for_log("hangs.py");
    wait_until("the old worker alone", || server.workers() == before);
    assert_eq!(server.get("/").text(), "fine");
    server.stop();
}

#[test]
fn an_import_that_exits_is_named() {
    let setup = Setup::bare(&["leaves"]);
    std::fs::write(setup.path("leaves.py"), "import sys\nsys.exit('leaving at import')\n").expect("an app");
    let ended = setup.run_to_end();
    assert!(ended.status.code().is_some_and(|code| code != 0), "{}", ended.stderr);
    assert!(ended.stderr.contains("leaving at import"), "{}", ended.stderr);
}

#[test]
fn no_python_and_a_wrong_one_are_named() {
    let ended = Setup::bare(&["--python", "/no/such/python", "hello"]).run_to_end();
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("/no/such/python"), "{}", ended.stderr);
    let setup = Setup::bare(&["hello"])
        .env("PATH", "/nonexistent")
        .env("VIRTUAL_ENV", "");
    let ended = setup.run_to_end();
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("python3"), "{}", ended.stderr);
}
