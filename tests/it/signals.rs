//! What each signal does to the arbiter.

use nix::sys::signal::Signal;

use crate::harness::hammer::{Hammer, Plan};
use crate::harness::{PATIENCE, Setup, procs, wait_until};

#[test]
fn term_finishes_what_runs_and_what_waits_and_exits_with_0() {
    let setup = Setup::c_app(1);
    let path = setup.path_text("server.pid");
    let mut server = setup.with_text("pidfile", &path).allow("Invalid request").start();
    let pidfile = server.path("server.pid");
    let written = std::fs::read_to_string(&pidfile).expect("a pid file");
    assert_eq!(written.trim(), server.pid.to_string());
    let mut running = server.connect();
    running.send("GET /record?id=running&ms=800 HTTP/1.1\r\nHost: a\r\n\r\n");
    wait_until("the request to run", || server.path("record").exists());
    let mut waiting = server.connect();
    waiting.send("GET /sleep?ms=10 HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut idle = server.connect();
    let mut begun = server.connect();
    begun.send("GET / HTTP/1.1\r\nHo");
    // The front reads in the order of arrival: when it has refused a later request, it has read the one that waits.
    let mut refused = server.connect();
    refused.send("BROKEN\r\n\r\n");
    assert_eq!(refused.response("GET").status, 400);
    server.signal(Signal::SIGTERM);
    assert_eq!(running.response("GET").status, 200);
    assert_eq!(waiting.response("GET").status, 200);
    assert!(idle.is_closed());
    drop(begun);
    let status = server.wait_for_end(PATIENCE);
    assert_eq!(status.code(), Some(0));
    assert!(!pidfile.exists(), "the pid file is left");
    assert!(server.log().contains("Shutting down"), "{}", server.log());
    server.stop();
}

#[test]
fn term_under_load_cuts_no_response() {
    let mut server = Setup::c_app(2).start();
    let plan = Plan {
        clients: 16,
        method: "GET",
        target: "/sleep?ms=5".to_owned(),
        per_connection: 10,
    };
    let hammer = Hammer::start(&server.address, &plan);
    hammer.wait_for_more(200);
    server.signal(Signal::SIGTERM);
    server.wait_for_end(PATIENCE);
    let outcomes = hammer.stop();
    // After the end there is nobody to connect to; until then every request that was read is answered.
    let wrong: Vec<_> = outcomes
        .iter()
        .filter_map(|outcome| outcome.status())
        .filter(|status| *status != 200)
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    server.stop();
}

#[test]
fn int_and_quit_stop_it_too() {
    for signal in [Signal::SIGINT, Signal::SIGQUIT] {
        let mut server = Setup::c_app(2).start();
        server.wait_for_workers(2);
        server.signal(signal);
        assert_eq!(server.wait_for_end(PATIENCE).code(), Some(0), "{signal}");
        server.stop();
    }
}

#[test]
fn a_second_int_makes_a_slow_stop_quick() {
    let mut server = Setup::c_app(1).with_text("graceful_timeout", "600s").allow("").start();
    let mut client = server.connect();
    client.send("GET /record?id=slow&ms=600000 HTTP/1.1\r\nHost: a\r\n\r\n");
    wait_until("the request to run", || server.path("record").exists());
    server.signal(Signal::SIGTERM);
    server.wait_for_log("term");
    server.signal(Signal::SIGINT);
    assert_eq!(server.wait_for_end(PATIENCE).code(), Some(0));
    assert!(
        client
            .try_response("GET")
            .map_or(true, |response| response.status >= 500)
    );
    server.stop();
}

#[test]
fn who_ignores_term_is_killed_after_the_graceful_timeout() {
    for setup in [Setup::bad_fastcgi(&["ignore-term"]), Setup::bad_pipe(&["ignore-term"])] {
        let mut server = setup
            .with("workers", 2)
            .with_text("graceful_timeout", "1s")
            .allow("")
            .start();
        let workers = server.wait_for_workers(2);
        server.signal(Signal::SIGTERM);
        assert_eq!(server.wait_for_end(PATIENCE).code(), Some(0), "{}", server.log());
        assert!(!workers.iter().any(|pid| procs::is_alive(*pid)));
        server.stop();
    }
}

#[test]
fn ttin_and_ttou_change_the_number_of_workers_until_the_next_reload() {
    let server = Setup::c_app(2).start();
    let first = server.wait_for_workers(2);
    server.signal(Signal::SIGTTIN);
    let three = server.wait_for_workers(3);
    assert!(first.iter().all(|pid| three.contains(pid)), "TTIN replaced workers");
    for left in [2, 1] {
        server.signal(Signal::SIGTTOU);
        server.wait_for_workers(left);
        assert_eq!(server.get("/").status, 200);
    }
    // Never below one. Two signals that are pending together have no order, so one after the other.
    let mark = server.log().len();
    server.signal(Signal::SIGTTOU);
    server.wait_for_log_after(mark, "ttou");
    server.signal(Signal::SIGTTIN);
    server.wait_for_workers(2);
    server.signal(Signal::SIGHUP);
    wait_until("the configured number after a reload", || {
        let now = server.workers();
        now.len() == 2 && server.fronts().len() == 1 && !now.iter().any(|pid| three.contains(pid))
    });
    server.stop();
}

#[test]
fn usr1_opens_the_logs_again_after_they_were_moved() {
    let mut setup = Setup::c_app(1);
    setup.set("errorlog", format!("{:?}", setup.path_text("error.log")));
    // With the log in a file, standard error stays empty after the start, and readiness is asked for by requests.
    let mut server = setup.start_with_log("error.log");
    assert_eq!(server.get("/?before").status, 200);
    let read = |name: &str| std::fs::read_to_string(server.path(name)).unwrap_or_default();
    wait_until("the line before", || read("access.log").contains("/?before"));
    for name in ["access", "error"] {
        let (from, to) = (server.path(&format!("{name}.log")), server.path(&format!("{name}.old")));
        std::fs::rename(from, to).expect("the log is moved");
    }
    server.signal(Signal::SIGUSR1);
    wait_until("new logs", || {
        server.path("access.log").exists() && server.path("error.log").exists()
    });
    // The front has its descriptor a moment after the file is there.
    wait_until("a line in the new log", || {
        assert_eq!(server.get("/?after").status, 200);
        read("access.log").contains("/?after")
    });
    assert!(!read("access.log").contains("/?before") && read("access.old").contains("/?before"));
    server.signal(Signal::SIGTERM);
    server.wait_for_end(PATIENCE);
    assert!(std::fs::read_to_string(server.path("error.log")).is_ok_and(|text| text.contains("Shutting down")));
    server.stop();
}

#[test]
fn winch_is_ignored_in_the_foreground() {
    let server = Setup::c_app(1).start();
    let workers = server.wait_for_workers(1);
    server.signal(Signal::SIGWINCH);
    // A worker more, and a request served: if the signal had stopped anything, the first worker would be gone.
    server.signal(Signal::SIGTTIN);
    server.wait_for_workers(2);
    assert_eq!(server.get("/").status, 200);
    assert!(workers.iter().all(|pid| server.workers().contains(pid)));
    server.stop();
}

#[test]
fn a_worker_that_ends_is_replaced_and_its_end_is_told() {
    let server = Setup::c_app(2).allow("").start();
    let workers = server.wait_for_workers(2);
    procs::signal(workers[0], Signal::SIGSEGV);
    let line = server.wait_for_log(&format!("pid={}", workers[0]));
    assert!(line.contains("worker="), "{line}");
    wait_until("a replacement", || {
        let now = server.workers();
        now.len() == 2 && !now.contains(&workers[0])
    });
    assert!(server.log().contains("SIGSEGV"), "{}", server.log());
    server.stop();
}
