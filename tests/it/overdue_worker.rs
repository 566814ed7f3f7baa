//! A request that takes longer than `timeout`: 504, an explanation in the log, the whole process group gone, and
//! nobody else disturbed.

use crate::harness::{Server, Setup, procs, wait_until};

fn check(server: &Server, target: &str, post: bool) {
    let workers = server.wait_for_workers(2);
    let mut client = server.connect();
    let (method, body) = if post {
        ("POST", "Content-Length: 1\r\n\r\nx")
    } else {
        ("GET", "\r\n")
    };
    client.send(format!("{method} {target} HTTP/1.1\r\nHost: a\r\n{body}"));
    wait_until("the app to hang with a child", || {
        workers.iter().any(|worker| !procs::children(*worker).is_empty())
    });
    assert_eq!(server.get("/").status, 200, "another request is not disturbed");
    let response = client.response(method);
    assert_eq!(response.status, 504, "{}", response.text());
    let id = response.field("x-request-id").expect("a request id").to_owned();
    let line = server.wait_for_log(&id);
    for part in [method, target, "pool=", "worker=", "age="] {
        assert!(line.contains(part), "no {part:?} in: {line}");
    }
    let words = line.split(|letter: char| !(letter.is_alphanumeric() || letter == '='));
    let worker: i32 = words
        .filter_map(|word| word.strip_prefix("pid="))
        .find_map(|pid| pid.parse().ok())
        .expect("the pid of the worker");
    assert!(workers.contains(&worker), "{worker} is none of {workers:?}: {line}");
    wait_until("the end of the whole group", || {
        !procs::all()
            .iter()
            .any(|process| process.group == worker && process.is_alive())
    });
    wait_until("a replacement", || {
        let now = server.workers();
        now.len() == 2 && !now.contains(&worker)
    });
    let survivor = workers.iter().find(|pid| **pid != worker).expect("two workers");
    assert!(server.workers().contains(survivor), "the other worker was replaced too");
    assert_eq!(server.get("/").status, 200);
}

#[test]
fn an_overdue_fastcgi_worker_is_explained_and_killed_with_its_group() {
    let server = Setup::bad_fastcgi(&[])
        .with("workers", 2)
        .with_text("timeout", "1s")
        .allow("")
        .start();
    check(&server, "/hangs?why=1", false);
    check(&server, "/hangs", true);
    server.stop();
}

#[test]
fn an_overdue_pipe_worker_is_explained_and_killed_with_its_group() {
    let server = Setup::bad_pipe(&[])
        .with("workers", 2)
        .with_text("timeout", "1s")
        .allow("")
        .start();
    check(&server, "/hangs", true);
    server.stop();
}

#[test]
fn a_response_that_stops_in_the_middle_is_cut_so_that_the_client_can_tell() {
    let server = Setup::bad_fastcgi(&[])
        .with("workers", 2)
        .with_text("timeout", "1s")
        .allow("")
        .start();
    let mut client = server.connect();
    client.send("GET /hangs-in-body HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = client.try_head().expect("the head that the app sent");
    assert_eq!(head.status, 200);
    let rest = client.rest().unwrap_or_default();
    assert!(!rest.ends_with(b"0\r\n\r\n"), "the response looks complete: {rest:?}");
    server.wait_for_log("/hangs-in-body");
    server.stop();
}

#[test]
fn a_response_that_never_ends_is_cut_when_its_total_time_is_over() {
    let setup = Setup::bad_fastcgi(&[]).with("workers", 2);
    let setup = setup.with_text("timeout", "20s").with_text("total_timeout", "1s");
    let server = setup.allow("").start();
    let mut client = server.connect();
    client.send("GET /trickles HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.try_head().expect("the head that the app sent").status, 200);
    let rest = client.rest().unwrap_or_default();
    assert!(!rest.ends_with(b"0\r\n\r\n"), "the response looks complete: {rest:?}");
    let line = server.wait_for_log("/trickles");
    assert!(line.contains("is overdue: it ran 1."), "{line}");
    wait_until("two workers again", || server.workers().len() == 2);
    server.stop();
}
