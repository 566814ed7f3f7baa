//! Workers killed under load: only what they were executing fails, each failure is answered and logged, and no POST
//! runs twice.

use std::collections::BTreeMap;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::harness::hammer::{Hammer, Outcome, Plan};
use crate::harness::{Server, Setup, procs, pulse};

const KILLS: usize = 12;

/// How often each identifier was executed, from the file the app appends to.
pub(crate) fn executions(server: &Server) -> BTreeMap<String, usize> {
    let text = std::fs::read_to_string(server.path("record")).expect("the record");
    let mut counts = BTreeMap::new();
    for line in text.lines() {
        let (id, _) = line.split_once(' ').expect("an identifier and a pid");
        *counts.entry(id.to_owned()).or_default() += 1;
    }
    counts
}

/// The oldest worker: the young ones may not have served anything yet.
fn oldest_worker(server: &Server) -> Option<i32> {
    let mut workers: Vec<_> = server.workers().into_iter().filter_map(procs::look).collect();
    workers.sort_by_key(|process| process.started);
    workers.first().map(|process| process.pid)
}

pub(crate) fn kill_under_load(server: &Server, method: &'static str, target: &str) -> Vec<Outcome> {
    let plan = Plan {
        clients: 64,
        method,
        target: target.to_owned(),
        per_connection: 50,
    };
    let hammer = Hammer::start(&server.address, &plan);
    hammer.wait_for_more(200);
    let mut kills = 0;
    pulse(Duration::from_millis(200), || {
        if let Some(worker) = oldest_worker(server) {
            procs::signal(worker, Signal::SIGKILL);
            kills += 1;
        }
        kills < KILLS
    });
    hammer.wait_for_more(200);
    hammer.stop()
}

/// Everything is answered with 200 or 502, there are no more 502 than kills, and each stands in the log.
pub(crate) fn check_failures(server: &Server, outcomes: &[Outcome]) {
    let log = server.log();
    let mut failures = 0;
    for outcome in outcomes {
        match &outcome.result {
            crate::harness::hammer::Ended::Answered(200, _) => {}
            crate::harness::hammer::Ended::Answered(502, id) => {
                failures += 1;
                assert!(!id.is_empty() && log.contains(id.as_str()), "no log line for {id}");
            }
            other => panic!("{} {}: {other:?}", outcome.method, outcome.id),
        }
    }
    assert!(failures <= KILLS, "{failures} requests failed by {KILLS} kills");
}

/// Nothing was executed twice, and everything that was answered with 200 was executed.
pub(crate) fn check_executions(server: &Server, outcomes: &[Outcome]) {
    let counts = executions(server);
    let twice: Vec<_> = counts.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "executed more than once: {twice:?}");
    for outcome in outcomes.iter().filter(|outcome| outcome.status() == Some(200)) {
        assert_eq!(
            counts.get(&outcome.id),
            Some(&1),
            "{} was answered but not executed",
            outcome.id
        );
    }
}

#[test]
fn a_killed_worker_fails_only_what_it_was_executing_and_no_post_runs_twice() {
    let server = Setup::c_app(4).allow("").start();
    let outcomes = kill_under_load(&server, "POST", "/record?id={id}&ms=4");
    check_failures(&server, &outcomes);
    check_executions(&server, &outcomes);
    server.wait_for_workers(4);
    assert_eq!(server.get("/").status, 200);
    server.stop();
}

#[test]
fn a_get_that_was_being_executed_is_tried_once_more() {
    let server = Setup::c_app(4).allow("").start();
    let outcomes = kill_under_load(&server, "GET", "/record?id={id}&ms=4");
    check_failures(&server, &outcomes);
    let counts = executions(&server);
    assert!(
        counts.values().all(|count| *count <= 2),
        "tried more than twice: {counts:?}"
    );
    for outcome in outcomes.iter().filter(|outcome| outcome.status() == Some(200)) {
        assert!(
            counts.contains_key(&outcome.id),
            "{} was answered but not executed",
            outcome.id
        );
    }
    server.stop();
}
