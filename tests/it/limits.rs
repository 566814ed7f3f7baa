//! Limits of the front: at the limit a request is served, one past it gets its status.

use crate::harness::{Server, Setup, wait_until};

fn ask(server: &Server, bytes: &str) -> u16 {
    let mut client = server.connect();
    client.send(bytes);
    client.response("GET").status
}

#[test]
fn the_request_line_is_limited() {
    let server = Setup::c_app(1).with("limit_request_line", 100).allow("").start();
    let line = |length: usize| {
        let rest = "GET / HTTP/1.1".len();
        format!("GET /?{} HTTP/1.1\r\nHost: a\r\n\r\n", "q".repeat(length - rest - 1))
    };
    assert_eq!(ask(&server, &line(100)), 200);
    assert_eq!(ask(&server, &line(101)), 414);
    server.stop();
}

#[test]
fn fields_are_limited_in_number_and_size() {
    let setup = Setup::c_app(1)
        .with("limit_request_fields", 5)
        .with("limit_request_field_size", 100);
    let server = setup.allow("").start();
    let fields = |count: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X-A: b\r\n".repeat(count - 1));
    assert_eq!(ask(&server, &fields(5)), 200);
    assert_eq!(ask(&server, &fields(6)), 431);
    // The size counts name, colon, blank, value and line end.
    let field = |size: usize| format!("GET / HTTP/1.1\r\nHost: a\r\nX-A: {}\r\n\r\n", "b".repeat(size - 7));
    assert_eq!(ask(&server, &field(100)), 200);
    assert_eq!(ask(&server, &field(102)), 431);
    server.stop();
}

#[test]
fn a_head_without_end_is_limited() {
    let server = Setup::c_app(1).allow("").start();
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Long: ");
    let block = [b'a'; 65536];
    // The front answers long before a megabyte; what follows may find the connection closed.
    for _ in 0..32 {
        if client.try_send(&block).is_err() {
            break;
        }
    }
    assert_eq!(client.response("GET").status, 431);
    server.stop();
}

#[test]
fn bodies_are_limited_with_a_length_and_chunked() {
    let server = Setup::c_app(1).with("limit_request_body", 1000).allow("").start();
    let known = |length: usize| {
        format!(
            "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{}",
            "b".repeat(length)
        )
    };
    let chunked = |length: usize| {
        format!(
            "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{}\r\n1\r\nb\r\n0\r\n\r\n",
            length - 1,
            "b".repeat(length - 1)
        )
    };
    for request in [known(1000), chunked(1000)] {
        assert_eq!(ask(&server, &request), 200, "{request}");
    }
    for request in [known(1001), chunked(1001)] {
        assert_eq!(ask(&server, &request), 413, "{request}");
    }
    server.stop();
}

#[test]
fn connections_over_the_limit_get_503_and_the_limit_is_not_used_up() {
    let server = Setup::c_app(1)
        .with("max_connections", 3)
        .with_text("keepalive", "60s")
        .allow("")
        .start();
    let mut open: Vec<_> = (0..3).map(|_| server.connect()).collect();
    for client in &mut open {
        assert_eq!(client.get("/").status, 200);
    }
    let mut more = server.connect();
    let _ = more.try_send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let answer = more.response("GET");
    assert_eq!(
        (answer.status, answer.field("retry-after")),
        (503, Some("1")),
        "{answer:?}"
    );
    assert!(answer.field("x-request-id").is_some(), "{answer:?}");
    wait_until("its access line", || {
        server.access_log().iter().any(|line| line.contains(" 503 "))
    });
    drop(open);
    wait_until("room again", || server.get("/").status == 200);
    server.stop();
}

#[test]
fn connections_of_one_address_are_limited() {
    let server = Setup::c_app(1)
        .with("max_connections_per_address", 2)
        .with_text("keepalive", "60s")
        .allow("")
        .start();
    let mut open = Vec::new();
    // The connection that found the server ready may not be closed yet.
    wait_until("two connections", || {
        open.clear();
        open = (0..2).map(|_| server.connect()).collect();
        open.iter_mut()
            .all(|client| client.try_get("/").is_ok_and(|response| response.status == 200))
    });
    let mut third = server.connect();
    let answer = third.try_get("/");
    assert!(
        answer
            .as_ref()
            .map_or(true, |response| response.status == 503 || response.status == 429),
        "{answer:?}"
    );
    assert_eq!(open.iter_mut().filter_map(|client| client.try_get("/").ok()).count(), 2);
    server.stop();
}
