//! The pull queue: workers that take their requests themselves, and are killed while they do.

use crate::harness::hammer::{Hammer, Plan};
use crate::harness::{Server, Setup, procs, wait_for, wait_until};
use crate::kill_workers::{check_executions, check_failures, executions, kill_under_load};

#[test]
fn killed_pulling_workers_lose_nothing_and_no_post_runs_twice() {
    let server = Setup::pull_record(4).allow("").start();
    let outcomes = kill_under_load(&server, "POST", "/record?id={id}&ms=4");
    check_failures(&server, &outcomes);
    check_executions(&server, &outcomes);
    server.wait_for_workers(4);
    server.stop();
}

#[test]
fn an_answer_that_breaks_the_protocol_is_no_reason_to_run_a_post_again() {
    let server = Setup::pull_record(1)
        .allow("broke its protocol")
        .allow("failed (502)")
        .allow("orker")
        .start();
    for id in ["one", "two"] {
        let target = format!("/record?id={id}&breach=1");
        let response = crate::harness::request(&server.address, "POST", &target, &[], b"");
        assert_eq!(response.status, 502);
        assert_eq!(executions(&server).get(id), Some(&1));
    }
    server.wait_for_workers(1);
    assert_eq!(server.get("/").status, 200);
    server.stop();
}

/// Asks until both workers have been replaced, and some more; nothing may fail.
pub(crate) fn replaced_unharmed(server: &Server, when: &str) {
    let first = server.wait_for_workers(2);
    let hammer = Hammer::start(&server.address, &posts());
    wait_until("every first worker to be replaced", || {
        let now = server.workers();
        !first.iter().any(|pid| now.contains(pid))
    });
    hammer.wait_for_more(400);
    hammer.stop_unharmed(when);
}

/// Clients that post as long as they are let, in new connections now and then.
fn posts() -> Plan {
    Plan {
        clients: 8,
        method: "POST",
        target: "/record?id={id}".to_owned(),
        per_connection: 30,
    }
}

#[test]
fn pulling_workers_retire_without_a_failed_request() {
    let server = Setup::pull_record(2)
        .with("max_requests", 40)
        .with("max_requests_jitter", 20)
        .start();
    replaced_unharmed(&server, "pulling");
    assert!(executions(&server).values().all(|count| *count == 1));
    server.wait_for_workers(2);
    server.stop();
}

#[test]
fn nothing_waits_behind_a_slow_request_while_another_worker_is_free() {
    let server = Setup::pull_record(2).with_text("graceful_timeout", "20s").start();
    server.wait_for_workers(2);
    let mut slow = server.connect();
    slow.send("GET /sleep?ms=3000 HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut other = server.connect();
    for _ in 0..50 {
        assert_eq!(other.get("/").status, 200);
    }
    // The fifty are done before the slow one, whose answer has not begun.
    slow.patience(std::time::Duration::from_millis(1));
    assert!(slow.try_head().is_err(), "the slow request was over before the others");
    slow.patience(std::time::Duration::from_secs(30));
    assert_eq!(slow.response("GET").text(), "slept\n");
    server.stop();
}

#[test]
fn large_requests_travel_as_descriptors() {
    let server = Setup::pull_record(1).start();
    for size in [0, 1, 100_000, 131_072, 300_000, 5_000_000] {
        let body: Vec<u8> = (0..size).map(|place: u32| (place % 251) as u8).collect();
        let response = crate::harness::request(&server.address, "POST", "/echo", &[], &body);
        assert!(
            response.status == 200 && response.body == body,
            "{size}: {}",
            response.status
        );
    }
    server.stop();
}

#[test]
fn a_worker_that_may_not_pull_is_assigned_to() {
    let server = Setup::pull_record(2).with("pull", false).start();
    let hammer = Hammer::start(&server.address, &posts());
    hammer.wait_for_more(300);
    let outcomes = hammer.stop();
    assert!(outcomes.iter().all(|outcome| outcome.status() == Some(200)));
    server.stop();
}

#[test]
fn pushed_requests_wait_no_longer_than_the_others() {
    let server = Setup::pull_record(1)
        .with_text("queue_timeout", "500ms")
        .allow("")
        .start();
    let mut busy = server.connect();
    busy.send("GET /record?id=occupant&ms=4000 HTTP/1.1\r\nHost: a\r\n\r\n");
    wait_until("the worker to be busy", || {
        std::fs::read_to_string(server.path("record")).is_ok_and(|text| text.contains("occupant"))
    });
    // Small ones fill the lookahead, large ones more than the socket holds.
    for size in [1, 120_000] {
        let mut waiting: Vec<_> = (0..12).map(|_| server.connect()).collect();
        for client in &mut waiting {
            client.send(format!(
                "POST /record?id=late HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n{}",
                "x".repeat(size)
            ));
        }
        for client in &mut waiting {
            assert_eq!(client.response("POST").status, 503, "{size}");
        }
    }
    busy.patience(std::time::Duration::from_millis(1));
    assert!(busy.try_head().is_err(), "the occupant was over before the others");
    busy.patience(std::time::Duration::from_secs(30));
    assert_eq!(busy.response("GET").status, 200);
    assert_eq!(server.get("/").status, 200);
    assert!(!executions(&server).contains_key("late"));
    server.stop();
}

#[test]
fn a_worker_that_stops_before_it_names_its_request_is_found_and_no_other_is_blamed() {
    let server = Setup::pull_record(4)
        .with_text("timeout", "1s")
        .allow("WORKER TIMEOUT")
        .allow("no sign of life")
        .allow("orker")
        .start();
    let before = server.wait_for_workers(4);
    let (response, stopped) = std::thread::scope(|scope| {
        let asked = scope.spawn(|| server.get("/stop-unnamed"));
        let stopped = wait_for("a worker to stop", || {
            let is_stopped = |pid: &i32| procs::look(*pid).is_some_and(|process| process.state == 'T');
            before.iter().copied().find(is_stopped)
        });
        (asked.join().unwrap(), stopped)
    });
    assert_eq!((response.status, response.text().as_str()), (200, "hello\n"));
    let after = server.wait_for_workers(4);
    let gone: Vec<i32> = before.into_iter().filter(|pid| !after.contains(pid)).collect();
    assert_eq!(gone, [stopped]);
    server.stop();
}
