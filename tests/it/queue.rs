//! The queue of a pool: bounded in number and time, and rid of requests whose client left.

use crate::harness::{Client, Server, Setup, procs, wait_until};
use crate::pull_queue::replaced_unharmed;
use nix::sys::signal::Signal;

/// Occupies the only worker, and gives the connection on which its answer will come.
fn occupy(server: &Server, ms: u32) -> Client {
    let mut client = server.connect();
    client.send(format!("GET /record?id=occupant&ms={ms} HTTP/1.1\r\nHost: a\r\n\r\n"));
    wait_until("the worker to be busy", || {
        std::fs::read_to_string(server.path("record")).is_ok_and(|text| text.contains("occupant"))
    });
    client
}

fn wait_in_queue(server: &Server, id: &str) -> Client {
    let mut client = server.connect();
    client.send(format!("GET /record?id={id} HTTP/1.1\r\nHost: a\r\n\r\n"));
    client
}

#[test]
fn one_request_too_many_gets_503_with_retry_after() {
    let server = Setup::c_app(1).with("max_queue", 2).allow("").start();
    let mut busy = occupy(&server, 2500);
    let mut waiting: Vec<Client> = (0..2).map(|n| wait_in_queue(&server, &format!("w{n}"))).collect();
    // Until both wait, one of the probes may take their place; then none gets in.
    wait_until("a refusal", || {
        let mut probe = wait_in_queue(&server, "probe");
        probe.patience(std::time::Duration::from_millis(300));
        probe.try_response("GET").is_ok_and(|response| {
            let seconds = response.field("retry-after").map(|text| text.parse::<u32>().is_ok());
            response.status == 503 && seconds == Some(true)
        })
    });
    assert_eq!(busy.response("GET").status, 200);
    for client in &mut waiting {
        assert_eq!(client.response("GET").status, 200);
    }
    server.stop();
}

#[test]
fn no_queue_at_all_still_serves_idle_workers() {
    let server = Setup::c_app(1).with("max_queue", 0).allow("").start();
    let mut client = server.connect();
    for _ in 0..20 {
        assert_eq!(client.get("/").status, 200);
    }
    let mut busy = occupy(&server, 800);
    assert_eq!(server.get("/").status, 503);
    assert_eq!(busy.response("GET").status, 200);
    server.stop();
}

#[test]
fn a_request_that_waits_too_long_gets_503_with_retry_after() {
    let server = Setup::c_app(1).with_text("queue_timeout", "300ms").allow("").start();
    let mut busy = occupy(&server, 2000);
    let response = wait_in_queue(&server, "late").response("GET");
    assert_eq!(response.status, 503);
    assert!(response.field("retry-after").is_some(), "{response:?}");
    assert_eq!(busy.response("GET").status, 200);
    let record = std::fs::read_to_string(server.path("record")).expect("the record");
    assert!(!record.contains("late"), "{record}");
    server.stop();
}

#[test]
fn a_request_whose_client_left_is_dropped_from_the_queue() {
    let server = Setup::c_app(1).allow("").start();
    let lines = server.access_log().len();
    let mut busy = occupy(&server, 1500);
    for n in 0..10 {
        drop(wait_in_queue(&server, &format!("gone{n}")));
    }
    // The front has seen them leave when their lines stand in the access log.
    wait_until("the lines of those who left", || {
        server.access_log().len() >= lines + 10
    });
    let mut last = wait_in_queue(&server, "last");
    assert_eq!(busy.response("GET").status, 200);
    assert_eq!(last.response("GET").status, 200);
    let record = std::fs::read_to_string(server.path("record")).expect("the record");
    assert!(!record.contains("gone"), "{record}");
    server.stop();
}

#[test]
fn several_slots_of_one_worker_are_used_at_once() {
    // The fastcgi crate serves every connection in a thread of its own.
    let server = Setup::exec(&[&crate::harness::apps::rust_responder()])
        .with_text("protocol", "fastcgi")
        .with("threads", 4)
        .with("max_queue", 0)
        .allow("")
        .start();
    let mut clients: Vec<Client> = (0..4).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send("GET /sleep?ms=1500 HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    // Nothing may wait here, so four answers mean four slots, and one more is refused.
    wait_until("a refusal", || server.get("/").status == 503);
    for client in &mut clients {
        assert_eq!(client.response("GET").status, 200);
    }
    let pid = server.get("/pid").text();
    assert_eq!(server.workers(), [pid.trim().parse::<i32>().expect("a pid")]);
    server.stop();
}

/// Stops the front, lets a request arrive and then kills the workers, so that the front sees all of it in one turn.
fn kill_in_one_turn(server: &Server) {
    for round in 0..5 {
        let workers = server.wait_for_workers(2);
        assert_eq!(server.get("/").status, 200);
        let mut client = server.connect();
        // The connection is accepted before the front stops.
        assert_eq!(client.get("/").status, 200);
        let front = server.front();
        procs::signal(front, Signal::SIGSTOP);
        wait_until("the front to stop", || {
            procs::look(front).is_some_and(|process| process.state == 'T')
        });
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx");
        let mark = server.log().len();
        for worker in &workers {
            procs::signal(*worker, Signal::SIGKILL);
        }
        for worker in &workers {
            server.wait_for_log_after(mark, &format!("(pid:{worker}) was killed by SIGKILL"));
        }
        procs::signal(front, Signal::SIGCONT);
        assert_eq!(client.response("POST").status, 200, "round {round}");
    }
}

#[test]
fn a_request_given_out_as_its_pipe_worker_dies_goes_to_another() {
    let server = Setup::pull_record(2).with("pull", false).allow("").start();
    kill_in_one_turn(&server);
    server.stop();
}

#[test]
fn a_request_given_out_as_its_fastcgi_worker_dies_goes_to_another() {
    let server = Setup::c_app(2).allow("").start();
    kill_in_one_turn(&server);
    server.stop();
}

#[test]
fn assigned_workers_are_replaced_before_they_are_spent() {
    for protocol in ["fastcgi", "pipe"] {
        let setup = if protocol == "pipe" {
            Setup::pull_record(2).with("pull", false)
        } else {
            Setup::c_app(2)
        };
        let server = setup.with("max_requests", 20).with("max_requests_jitter", 10).start();
        replaced_unharmed(&server, protocol);
        server.wait_for_workers(2);
        server.stop();
    }
}
