//! Workers that count what they are sent (FLOW), and requests passed on as they arrive (`stream_request`): windows in
//! both directions, and what happens to a worker when a client stops in the middle.

use std::time::Duration;

use crate::harness::apps::app;
use crate::harness::{Client, Server, Setup, request, wait_until};

fn flow(slots: u32) -> Setup {
    let setup = Setup::exec(&[&app("flow_worker.py"), &format!("slots={slots}")])
        .with_text("protocol", "pipe")
        .with("workers", 1);
    let record = format!("RECORD_FILE={}", setup.path_text("record"));
    setup.with("param", crate::harness::server::list(&[&record]))
}

fn record(server: &Server) -> String {
    std::fs::read_to_string(server.path("record")).unwrap_or_default()
}

fn wait_for_record(server: &Server, line: &str) {
    wait_until(line, || record(server).lines().any(|other| other == line));
}

fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|place| (place % 251) as u8).collect()
}

/// The one worker still takes as many requests at once as it has slots.
fn check_slots(server: &Server, slots: usize) {
    let mut clients: Vec<Client> = (0..slots).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send("GET /sleep?ms=300 HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    for client in &mut clients {
        assert_eq!(client.response("GET").status, 200);
    }
}

#[test]
fn windows_hold_in_both_directions() {
    let server = flow(8).start();
    for size in [0, 1, 65_536, 262_144, 262_145, 3_000_000] {
        let body = pattern(size);
        let response = request(&server.address, "POST", "/echo", &[], &body);
        assert!(
            response.status == 200 && response.body == body,
            "{size}: {}",
            response.status
        );
    }
    let response = server.get("/big?n=20000000");
    assert_eq!(response.body.len(), 20_000_000);
    server.stop();
}

#[test]
fn a_client_that_does_not_read_does_not_stop_the_others_on_its_worker() {
    // The spool is small, so that the worker's window closes; the other seven slots go on.
    let server = flow(8)
        .with_text("response_spool", "1MiB")
        .with_text("send_timeout", "60s")
        .with_text("timeout", "3s")
        .start();
    let size = 40_000_000;
    let mut lazy = server.connect();
    lazy.send(format!("GET /big?n={size} HTTP/1.1\r\nHost: a\r\n\r\n"));
    wait_for_record(&server, "begin /big");
    for _ in 0..20 {
        assert_eq!(server.get("/big?n=1000000").body.len(), 1_000_000);
    }
    let busy = request(&server.address, "POST", "/echo", &[], &pattern(1_000_000));
    assert_eq!(busy.body, pattern(1_000_000));
    // Time the client takes does not count against the worker: `timeout` passes meanwhile.
    assert_eq!(server.get("/sleep?ms=2000").status, 200);
    assert_eq!(server.get("/sleep?ms=2000").status, 200);
    let response = lazy.response("GET");
    assert_eq!((response.status, response.body.len()), (200, size));
    server.stop();
}

#[test]
fn a_full_spool_holds_the_worker_back_until_the_client_reads() {
    let server = Setup::c_app(1)
        .with_text("response_spool", "1MiB")
        .with_text("send_timeout", "60s")
        .with_text("timeout", "2s")
        .with("workers", 2)
        .start();
    let size = 50_000_000;
    let mut lazy = server.connect();
    lazy.send(format!("GET /big?n={size} HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert_eq!(lazy.try_head().expect("a head").status, 200);
    drop(lazy);
    let mut lazy = server.connect();
    lazy.send(format!("GET /big?n={size} HTTP/1.1\r\nHost: a\r\n\r\n"));
    // Longer than `timeout`.
    for _ in 0..3 {
        assert_eq!(server.get("/sleep?ms=1000").status, 200);
    }
    let response = lazy.response("GET");
    assert_eq!((response.status, response.body.len()), (200, size));
    server.stop();
}

#[test]
fn full_unix_sockets_on_both_sides_go_on_when_there_is_room() {
    let server = Setup::c_app(1)
        .on_unix_socket()
        .with_text("response_spool", "1MiB")
        .with_text("send_timeout", "60s")
        .start();
    let size = 20_000_000;
    let mut client = server.connect();
    // Full, empty and full again, on one connection and one link.
    for _ in 0..2 {
        client.send(format!("GET /big?n={size} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let response = client.response("GET");
        assert_eq!((response.status, response.body.len()), (200, size));
        assert_eq!(client.get("/").status, 200);
        let body = pattern(5_000_000);
        let response = request(&server.address, "POST", "/echo", &[], &body);
        assert!(response.status == 200 && response.body == body, "{}", response.status);
    }
    server.stop();
}

#[test]
fn a_client_that_leaves_a_full_spool_frees_its_worker() {
    let server = flow(2)
        .with_text("response_spool", "256KiB")
        .with_text("send_timeout", "60s")
        .start();
    for _ in 0..4 {
        let mut lazy = server.connect();
        lazy.send("GET /big?n=50000000 HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(lazy.try_head().expect("a head").status, 200);
        drop(lazy);
    }
    wait_until("every one to be aborted", || {
        record(&server).lines().filter(|line| *line == "abort /big").count() == 4
    });
    check_slots(&server, 2);
    server.stop();
}

#[test]
fn a_streamed_request_reaches_the_app_as_it_arrives() {
    let server = flow(2).with("stream_request", true).start();
    let mut client = server.connect();
    client.send("POST /count HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nfirst");
    wait_for_record(&server, "body /count");
    client.send("other");
    assert_eq!(client.response("POST").text(), "10\n");
    // Chunked, on the same connection, in both directions at once.
    client.send("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    let head = client.try_head().expect("a head before the body is whole");
    assert_eq!(head.status, 200);
    assert_eq!(client.line().expect("a chunk"), "5");
    client.send("0\r\n\r\n");
    assert_eq!(client.line().expect("the chunk's bytes"), "hello");
    assert_eq!(client.line().expect("the last chunk"), "0");
    assert_eq!(client.line().expect("the end"), "");
    assert_eq!(client.get("/").text(), "hello\n");
    server.stop();
}

#[test]
fn a_slow_worker_holds_a_streamed_upload_back() {
    // Time the worker takes does not count against the client.
    let server = flow(1)
        .with("stream_request", true)
        .with_text("body_timeout", "100ms")
        .start();
    let size = 2_000_000;
    let body = pattern(size);
    let mut client = server.connect();
    client.send(format!(
        "POST /read?ms=250 HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n"
    ));
    client.send(&body);
    assert_eq!(client.response("POST").text(), format!("{size}\n"));
    server.stop();
}

#[test]
fn a_streamed_upload_that_stops_is_aborted_and_frees_its_slot() {
    let server = flow(2)
        .with("stream_request", true)
        .with_text("body_timeout", "500ms")
        .allow("Invalid request")
        .start();
    // The client leaves, is too slow, or sends nonsense; more often than there are slots.
    for (case, rest, status) in [("leaves", "", 0), ("stalls", "", 408), ("nonsense", "zz\r\n", 400)] {
        for _ in 0..3 {
            let count = |line: &str| record(&server).lines().filter(|other| *other == line).count();
            let (begun, before) = (count("body /count"), count("abort /count"));
            let mut client = server.connect();
            client.send("POST /count HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n");
            wait_until("its first bytes to reach the app", || count("body /count") > begun);
            client.send(rest);
            if status == 0 {
                drop(client);
            } else {
                assert_eq!(client.response("POST").status, status, "{case}");
            }
            wait_until("the app to hear of it", || count("abort /count") > before);
        }
    }
    // All in one: the request is refused in the turn in which it was given out.
    for _ in 0..3 {
        let mut client = server.connect();
        client.send("POST /count HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\nzz\r\n");
        assert_eq!(client.response("POST").status, 400);
    }
    // After the head has gone out, an error can only be a cut.
    let mut client = server.connect();
    client.send("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n");
    assert_eq!(client.try_head().expect("a head").status, 200);
    client.send("zz\r\n");
    let rest = String::from_utf8_lossy(&client.rest().unwrap_or_default()).into_owned();
    assert!(!rest.contains("HTTP/1.1") && !rest.ends_with("0\r\n\r\n"), "{rest:?}");
    check_slots(&server, 2);
    server.stop();
}

#[test]
fn a_streamed_upload_that_is_cut_leaves_those_beside_it_alone() {
    let server = flow(3).with("stream_request", true).start();
    let worker = server.wait_for_workers(1);
    let count = |line: &str| record(&server).lines().filter(|other| *other == line).count();
    for round in 1..=3 {
        let mut uploads: Vec<Client> = Vec::new();
        for number in 1..=3 {
            uploads.push(half_sent(&server, "/count", b"0123456789"));
            wait_until("the first half", || count("body /count") == 3 * (round - 1) + number);
        }
        // Each in turn, so that one begun before it and one begun after it are beside it.
        drop(uploads.remove(round - 1));
        wait_until("the app to hear of it", || count("abort /count") == round);
        for mut upload in uploads {
            upload.send("56789");
            assert_eq!(upload.response("POST").text(), "10\n");
        }
        assert_eq!(count("abort /count"), round);
    }
    check_slots(&server, 3);
    assert_eq!(server.workers(), worker, "{}", server.log());
    server.stop();
}

#[test]
fn a_streamed_upload_refused_while_it_waits_is_forgotten() {
    let server = flow(1).with("stream_request", true).allow("Invalid request").start();
    let mut busy = server.connect();
    busy.send("GET /sleep?ms=1500 HTTP/1.1\r\nHost: a\r\n\r\n");
    wait_for_record(&server, "begin /sleep");
    for _ in 0..5 {
        let mut client = server.connect();
        client.send("POST /count HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n");
        client.send("zz\r\n");
        assert_eq!(client.response("POST").status, 400);
    }
    assert_eq!(busy.response("GET").status, 200);
    for _ in 0..5 {
        assert_eq!(server.get("/").text(), "hello\n");
    }
    assert!(!record(&server).contains("/count"), "{}", record(&server));
    server.stop();
}

#[test]
fn a_streamed_request_is_never_pulled() {
    let server = Setup::pull_record(1).with("stream_request", true).start();
    let mut client = server.connect();
    client.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nfirst");
    // Another request is served, or waits; either way the first one's body is not taken for whole.
    client.patience(Duration::from_millis(300));
    assert!(client.try_head().is_err(), "answered before its body was whole");
    client.patience(Duration::from_secs(30));
    client.send("other");
    assert_eq!(client.response("POST").text(), "firstother");
    server.stop();
}

#[test]
fn a_streamed_upload_to_fastcgi_that_stops_frees_its_worker() {
    let server = Setup::c_app(1).with("stream_request", true).allow("").start();
    for _ in 0..3 {
        let mut client = server.connect();
        client.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nfirst");
        drop(client);
        assert_eq!(server.get("/").status, 200);
    }
    let body = pattern(3_000_000);
    let response = request(&server.address, "POST", "/echo", &[], &body);
    assert!(response.status == 200 && response.body == body);
    server.stop();
}

/// Sends half of a body, and gives the client that will send the rest.
fn half_sent(server: &Server, target: &str, body: &[u8]) -> Client {
    let mut client = server.connect();
    let length = body.len();
    client.send(format!(
        "POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"
    ));
    client.send(&body[..length / 2]);
    client
}

#[test]
fn a_route_says_which_bodies_are_passed_on_as_they_arrive() {
    let setup = Setup::new();
    let exec = crate::harness::server::list(&[&crate::harness::apps::c_app()]);
    let tables = format!(
        "[pool.whole]\nexec = {exec}\nprotocol = 'fastcgi'\nworkers = 1\n\
         [pool.stream]\nexec = {exec}\nprotocol = 'fastcgi'\nworkers = 1\nstream_request = true\n\
         [[site]]\n\
         [[site.route]]\npath = '/up'\nscript_name = '/up'\npool = 'whole'\nstream_request = true\n\
         [[site.route]]\npath = '/form'\nscript_name = '/form'\npool = 'stream'\nstream_request = false\n\
         [[site.route]]\npath = '/stream'\nscript_name = '/stream'\npool = 'stream'\n\
         [[site.route]]\npool = 'whole'\n"
    );
    let server = setup.tables(&tables).start();
    let body = pattern(300_000);
    for target in ["/up/echo", "/stream/echo"] {
        let mut client = half_sent(&server, target, &body);
        // The app answers what it has before the rest is there.
        assert_eq!(client.try_head().expect("a head").status, 200, "{target}");
        client.send(&body[150_000..]);
        client.finish_sending();
        assert!(client.rest().expect("the rest").len() >= body.len(), "{target}");
    }
    for (target, other) in [("/form/echo", "/form/"), ("/echo", "/")] {
        let mut client = half_sent(&server, target, &body);
        // The only worker has nothing to do with it yet.
        assert_eq!(server.get(other).status, 200, "{target}");
        client.send(&body[150_000..]);
        let response = client.response("POST");
        assert!(response.status == 200 && response.body == body, "{target}");
    }
    server.stop();
}
