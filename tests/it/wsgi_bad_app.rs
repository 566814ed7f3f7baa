//! Handlers that misbehave: the client gets an answer, the pool recovers, and the log says what happened.

use std::time::Duration;

use nix::sys::signal::Signal;
use rgunicorn::sys::clock;

use crate::harness::{Client, Server, Setup, procs, request, wait_until, wait_within};

const CLASSES: [&[&str]; 3] = [&[], &["--threads", "3"], &["-k", "gevent"]];

fn start(class: &[&str], words: &[&str], allowed: &[&str]) -> Server {
    let words = [class, words, &["bad"]].concat();
    let setup = Setup::wsgi(&words);
    allowed.iter().fold(setup, |setup, text| setup.allow(text)).start()
}

/// Asks until the answer is right: a worker may still be on its way.
fn recovers(server: &Server, who: &str) {
    wait_until(&format!("{who}: the pool to serve again"), || {
        server.get("/").status == 200
    });
    for _ in 0..10 {
        assert_eq!(server.get("/").status, 200, "{who}");
    }
}

#[test]
fn a_process_that_ends_in_a_handler() {
    for class in CLASSES {
        for (target, words) in [
            ("/os-exit", "POST /os-exit failed (502)"),
            ("/os-exit-7", "exited with code 7"),
            ("/kill", "SIGKILL"),
            ("/segfault", "SIGSEGV"),
            ("/abort", "SIGABRT"),
        ] {
            let who = format!("{class:?} {target}");
            let server = start(
                class,
                &["--workers", "2"],
                &["Worker (pid:", "worker", "Fatal Python error"],
            );
            let response = request(&server.address, "POST", target, &[], b"");
            assert_eq!(response.status, 502, "{who}");
            let line = server.wait_for_log(words);
            assert!(line.contains("pid"), "{who}: {line}");
            server.wait_for_log(&format!("POST {target} failed (502)"));
            recovers(&server, &who);
            server.wait_for_workers(2);
            server.stop();
        }
    }
}

#[test]
fn a_stop_that_an_idle_worker_missed_is_said_again() {
    // Signal handlers can only be set by the main thread, which runs no request with threads.
    for class in [&[][..], &["-k", "gevent"]] {
        let server = start(class, &["--graceful-timeout", "1000"], &[]);
        assert_eq!(server.get("/deaf-once").status, 200);
        server.stop();
    }
}

#[test]
fn a_handler_that_never_ends_is_ended() {
    for class in CLASSES {
        for target in ["/sleep", "/spin", "/regular-expression", "/pause"] {
            // A greenlet that spins or waits in C stops all of its worker, so one more answers meanwhile.
            let who = format!("{class:?} {target}");
            let words = ["--workers", "2", "--timeout", "1"];
            let server = start(
                class,
                &words,
                &[
                    "WORKER TIMEOUT",
                    "Worker (pid:",
                    "overdue",
                    "worker",
                    "SystemExit",
                    "Error handling request POST",
                ],
            );
            let response = request(&server.address, "POST", target, &[], b"");
            assert!(matches!(response.status, 504 | 500), "{who}: {}", response.status);
            server.wait_for_log(target);
            recovers(&server, &who);
            server.wait_for_workers(2);
            server.stop();
        }
    }
}

#[test]
fn a_fork_in_a_handler() {
    for class in CLASSES {
        let who = format!("{class:?}");
        let server = start(class, &["--workers", "1"], &[]);
        let worker = server.wait_for_workers(1);
        let response = request(&server.address, "POST", "/fork-and-be-late", &[], b"");
        assert_eq!((response.status, response.text().as_str()), (200, "7\n"), "{who}");
        for _ in 0..3 {
            let response = request(&server.address, "POST", "/fork", &[], b"");
            assert_eq!(
                (response.status, response.text().as_str()),
                (200, "the parent answers\n"),
                "{who}"
            );
        }
        assert_eq!(server.wait_for_workers(1), worker, "{who}: the worker went on");
        recovers(&server, &who);
        server.stop();
    }
}

#[test]
fn a_child_that_stays_after_a_fork_holds_nothing_up() {
    for class in CLASSES {
        let who = format!("{class:?}");
        let server = start(class, &["--workers", "1"], &[]);
        let child: i32 = request(&server.address, "POST", "/fork-and-stay", &[], b"")
            .text()
            .trim()
            .parse()
            .expect("a pid");
        assert!(procs::is_alive(child), "{who}");
        recovers(&server, &who);
        // The worker's group is ended with it, so nothing of it is left when the server has stopped.
        server.stop();
        assert!(!procs::is_alive(child), "{who}");
    }
}

#[test]
fn a_program_outlives_its_worker_only_in_a_session_of_its_own() {
    let server = start(&[], &[], &[]);
    let before = server.wait_for_workers(1);
    let program: i32 = server.get("/new-session").text().trim().parse().expect("a pid");
    let child: i32 = server.get("/fork-and-stay").text().trim().parse().expect("a pid");
    server.signal(Signal::SIGHUP);
    wait_until("the old worker's end", || !server.workers().contains(&before[0]));
    server.wait_for_log("left running");
    wait_until("the end of the child", || !procs::is_alive(child));
    assert!(procs::is_alive(program));
    procs::signal(program, Signal::SIGKILL);
    server.wait_for_workers(1);
    server.stop();
}

#[test]
fn a_flood_of_output_holds_nobody_up() {
    for class in CLASSES {
        let who = format!("{class:?}");
        let server = start(class, &["--workers", "2"], &["lines", "dropped", "output"]);
        assert_eq!(server.get("/flood").status, 200, "{who}");
        recovers(&server, &who);
        server.stop();
    }
}

#[test]
fn a_thread_that_never_ends_does_not_keep_the_server() {
    for class in CLASSES {
        let server = start(class, &["--workers", "2"], &["worker"]);
        assert_eq!(server.get("/endless-thread").status, 200);
        server.signal(Signal::SIGTTOU);
        server.wait_for_workers(1);
        assert_eq!(server.get("/endless-thread").status, 200);
        server.stop();
    }
}

#[test]
fn mistakes_that_python_survives() {
    for class in CLASSES {
        let server = start(class, &[], &["Error handling request"]);
        let worker = server.wait_for_workers(1);
        assert_eq!(server.get("/stdin").text(), "''", "{class:?}: standard input is empty");
        for (target, status) in [
            ("/recursion", 500),
            ("/memory", 500),
            ("/stdin", 200),
            ("/close-input", 200),
        ] {
            assert_eq!(server.get(target).status, status, "{class:?}: {target}");
        }
        assert_eq!(server.wait_for_workers(1), worker);
        server.stop();
    }
}

#[test]
fn a_program_started_by_the_app_has_none_of_our_descriptors() {
    for class in CLASSES {
        let server = start(class, &[], &[]);
        let text = server.get("/descriptors").text();
        let found: Vec<&str> = text.lines().collect();
        // Input, output and error, and the directory that `ls` reads.
        assert_eq!(found, ["0", "1", "2", "3"], "{class:?}");
        server.stop();
    }
}

#[test]
fn descriptors_closed_by_the_app_cost_only_its_worker() {
    let server = start(&[], &["--workers", "2"], &["orker", "Traceback", "rror"]);
    let response = request(&server.address, "POST", "/close-descriptors", &[], b"");
    assert_eq!(response.status, 502);
    recovers(&server, "closed descriptors");
    server.wait_for_workers(2);
    server.stop();
}

#[test]
fn a_worker_that_stops_while_it_has_nothing_to_do_is_replaced() {
    for class in CLASSES {
        let who = format!("{class:?}");
        let server = start(
            class,
            &["--workers", "1", "--timeout", "1"],
            &["WORKER TIMEOUT", "orker", "overdue"],
        );
        let pid = server.wait_for_workers(1)[0];
        assert_eq!(
            request(&server.address, "POST", "/stop-soon", &[], b"").status,
            200,
            "{who}"
        );
        wait_within(Duration::from_secs(20), "the worker to stop", || {
            (procs::look(pid)?.state == 'T').then_some(())
        });
        // Nobody has run it, so that it may go to the replacement.
        let response = request(&server.address, "POST", "/", &[], b"");
        assert_eq!(response.status, 200, "{who}");
        assert_ne!(response.text().trim(), pid.to_string(), "{who}");
        server.wait_for_log(&format!("WORKER TIMEOUT (pid:{pid})"));
        server.wait_for_log("took nothing and gave no sign of life for 2.0 s");
        recovers(&server, &who);
        server.stop();
    }
}

/// Stops a worker that is ready and waits for its next request: it has no word to say any more about the one before.
fn stop_idle(server: &Server, pid: i32) {
    assert_eq!(server.get("/").status, 200, "the worker is ready");
    wait_within(Duration::from_secs(20), "the worker to wait", || {
        (procs::look(pid)?.state == 'S').then_some(())
    });
    procs::signal(pid, Signal::SIGSTOP);
}

#[test]
fn a_worker_that_stops_is_replaced_though_nobody_asks_for_anything() {
    for class in CLASSES {
        let words = ["--workers", "2", "--timeout", "2"];
        let server = start(class, &words, &["WORKER TIMEOUT", "orker"]);
        let before = server.wait_for_workers(2);
        // One that answers is past its boot.
        let stopped = server.get("/").text().trim().parse().unwrap();
        procs::signal(stopped, Signal::SIGSTOP);
        server.wait_for_log(&format!("WORKER TIMEOUT (pid:{stopped})"));
        let after = wait_within(Duration::from_secs(20), "the replacement", || {
            let workers = server.workers();
            (workers.len() == 2 && !workers.contains(&stopped)).then_some(workers)
        });
        let kept = before.iter().filter(|pid| after.contains(pid));
        assert_eq!(kept.count(), 1, "{class:?}: only the one that stopped");
        server.stop();
    }
}

#[test]
fn a_thread_that_keeps_the_interpreter_of_an_idle_worker_ends_that_one_alone() {
    for class in [CLASSES[0], CLASSES[1]] {
        let words = ["--workers", "3", "--timeout", "3"];
        let server = start(class, &words, &["WORKER TIMEOUT", "orker", "Fatal Python error"]);
        let before = server.wait_for_workers(3);
        let pid = server.get("/regular-expression-soon").text().trim().to_owned();
        server.wait_for_log(&format!("WORKER TIMEOUT (pid:{pid})"));
        // faulthandler shows what kept it.
        server.wait_for_log("in keep_the_interpreter");
        let after = wait_within(Duration::from_secs(20), "the replacement", || {
            let workers = server.workers();
            (workers.len() == 3 && !workers.iter().any(|other| other.to_string() == pid)).then_some(workers)
        });
        assert_eq!(before.iter().filter(|pid| after.contains(pid)).count(), 2, "{class:?}");
        server.stop();
    }
}

#[test]
fn a_stopped_worker_is_found_though_requests_may_wait_no_longer_than_they_may_run() {
    let words = ["--workers", "1", "--timeout", "4", "--queue-timeout", "4"];
    let server = start(&[], &words, &["WORKER TIMEOUT", "orker", "overdue"]);
    let pid = server.wait_for_workers(1)[0];
    stop_idle(&server, pid);
    let response = request(&server.address, "POST", "/", &[], b"");
    assert_eq!(response.status, 200);
    assert_ne!(response.text().trim(), pid.to_string());
    server.stop();
}

#[test]
fn a_stopped_worker_is_found_by_a_front_that_was_held_up_until_both_limits_had_passed() {
    let limit = Duration::from_secs(4);
    let words = ["--workers", "1", "--timeout", "4", "--queue-timeout", "4"];
    let server = start(&[], &words, &["WORKER TIMEOUT", "orker", "overdue", "Invalid request"]);
    let pid = server.wait_for_workers(1)[0];
    stop_idle(&server, pid);
    let mut client = Client::connect(&server.address);
    client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    // An answer of the front's own to a later client: by then it has read the request of the first and queued it.
    let mut later = Client::connect(&server.address);
    later.send("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n");
    assert_eq!(later.response("GET").status, 400);
    let front = server.front();
    procs::signal(front, Signal::SIGSTOP);
    let until = clock::now() + 2 * limit;
    wait_within(4 * limit, "both limits to pass", || {
        (clock::now() > until).then_some(())
    });
    procs::signal(front, Signal::SIGCONT);
    let response = client.response("POST");
    assert_eq!(response.status, 200);
    assert_ne!(response.text().trim(), pid.to_string());
    server.stop();
}

#[test]
fn others_are_served_while_one_worker_hangs() {
    let server = start(
        &[],
        &["--workers", "2", "--timeout", "5"],
        &[
            "WORKER TIMEOUT",
            "orker",
            "overdue",
            "Error handling request GET /pause",
        ],
    );
    let mut stuck = Client::connect(&server.address);
    stuck.send("GET /pause HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    for _ in 0..50 {
        assert_eq!(server.get("/").status, 200);
    }
    assert_eq!(stuck.response("GET").status, 504);
    let line = server.wait_for_log("GET /pause");
    assert!(line.contains("/pause"), "{line}");
    wait_within(Duration::from_secs(20), "the worker's replacement", || {
        (server.workers().len() == 2).then_some(())
    });
    server.stop();
}

#[test]
fn a_thread_that_keeps_the_interpreter_takes_no_other_request_with_it() {
    let server = start(
        &["-k", "gthread", "--threads", "4"],
        &["--workers", "2", "--timeout", "6"],
        &["WORKER TIMEOUT", "orker", "overdue"],
    );
    server.wait_for_workers(2);
    let mut stuck = Client::connect(&server.address);
    stuck.send("GET /regular-expression HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    for _ in 0..20 {
        assert_eq!(server.get("/").status, 200);
    }
    stuck.patience(Duration::from_millis(1));
    let nothing = stuck.line().expect_err("no answer before the others have theirs");
    assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock);
    stuck.patience(Duration::from_secs(30));
    assert_eq!(stuck.response("GET").status, 504);
    server.wait_for_workers(2);
    server.stop();
}
