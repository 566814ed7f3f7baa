//! The front or the arbiter is killed with KILL: the arbiter starts a new front and keeps idle workers; without an
//! arbiter everything goes away by itself.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::harness::hammer::{Hammer, Plan};
use crate::harness::{Setup, procs, wait_until};

#[test]
fn a_dead_front_is_replaced_and_idle_workers_keep_serving() {
    for setup in [
        Setup::c_app(2),
        Setup::pull_record(2),
        Setup::pull_record(2).with("pull", false),
    ] {
        let server = setup.allow("").start();
        let (front, workers) = (server.front(), server.wait_for_workers(2));
        wait_until("both workers to be ready", || {
            let mut slow = server.connect();
            slow.send("GET /sleep?ms=300 HTTP/1.1\r\nHost: a\r\n\r\n");
            let status = server.get("/").status;
            // Answered while the other one was at work, or only after it?
            slow.patience(Duration::from_millis(1));
            let both = slow.try_head().is_err();
            slow.patience(Duration::from_secs(30));
            both && status == 200 && slow.try_response("GET").is_ok()
        });
        procs::signal(front, Signal::SIGKILL);
        wait_until("a new front", || server.fronts().iter().any(|pid| *pid != front));
        // The listener was never closed: this connection waits in the kernel if the front is not up yet.
        assert_eq!(server.get("/").status, 200);
        assert_eq!(
            server.workers(),
            workers,
            "idle workers were replaced:\n{}",
            server.log()
        );
        server.stop();
    }
}

#[test]
fn a_worker_that_was_busy_when_the_front_died_is_recycled() {
    for setup in [Setup::c_app(2), Setup::pull_record(2)] {
        let server = setup.allow("").start();
        let (front, workers) = (server.front(), server.wait_for_workers(2));
        let mut client = server.connect();
        client.send("POST /record?id=busy&ms=600000 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx");
        let record = crate::harness::wait_for("the request to run", || {
            std::fs::read_to_string(server.path("record"))
                .ok()
                .filter(|text| text.ends_with('\n'))
        });
        let busy: i32 = record
            .trim()
            .rsplit(' ')
            .next()
            .and_then(|pid| pid.parse().ok())
            .expect("a pid");
        procs::signal(front, Signal::SIGKILL);
        assert!(client.try_response("POST").is_err(), "nobody could have answered");
        wait_until("the busy worker to be replaced", || {
            let now = server.workers();
            now.len() == 2 && !now.contains(&busy)
        });
        let idle = workers.iter().find(|pid| **pid != busy).expect("two workers");
        assert!(server.workers().contains(idle), "the idle worker was replaced too");
        assert_eq!(server.get("/").status, 200);
        let record = std::fs::read_to_string(server.path("record")).expect("the record");
        assert_eq!(record.lines().count(), 1, "the request ran twice: {record}");
        server.stop();
    }
}

#[test]
fn fronts_that_die_under_load_cost_only_the_connections_they_held() {
    let server = Setup::c_app(2).allow("").start();
    let plan = Plan {
        clients: 8,
        method: "GET",
        target: "/".to_owned(),
        per_connection: 20,
    };
    let hammer = Hammer::start(&server.address, &plan);
    for _ in 0..3 {
        hammer.wait_for_more(100);
        let front = server.front();
        procs::signal(front, Signal::SIGKILL);
        wait_until("a new front", || server.fronts().iter().any(|pid| *pid != front));
    }
    hammer.wait_for_more(100);
    let outcomes = hammer.stop();
    let refused: Vec<_> = outcomes
        .iter()
        .filter(|outcome| format!("{:?}", outcome.result).contains("connect:"))
        .collect();
    assert!(refused.is_empty(), "connections were refused: {refused:?}");
    server.wait_for_workers(2);
    server.stop();
}

#[test]
fn without_an_arbiter_everything_is_gone_within_two_seconds() {
    let setups = [
        Setup::c_app(3),
        Setup::pull_record(3),
        Setup::bad_fastcgi(&["ignore-term"]).with("workers", 2),
        Setup::bad_pipe(&["ignore-term"]).with("workers", 2),
    ];
    for setup in setups {
        let mut server = setup.allow("").start();
        let mut busy = server.connect();
        // A child of a worker's own must not outlive it either.
        server.get("/forks");
        busy.send("GET /sleep?ms=600000 HTTP/1.1\r\nHost: a\r\n\r\n");
        server.note_processes();
        server.signal(Signal::SIGKILL);
        server.wait_for_nothing_left(Duration::from_secs(2));
        server.expect_killed();
    }
}
