//! The state of a connection over whole exchanges: 100-continue, keep-alive, early answers, reuse.

use super::COMMON;
use crate::base::message::{BodyLength, ResponseHead};
use crate::http1::conn::{Conn, Event};
use crate::http1::policy::Policy;

const POST: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n";

/// Steps once and demands that all of `input` was used.
fn step<'b>(conn: &mut Conn, input: &'b [u8]) -> Event<'b> {
    let (used, event) = conn.step(&Policy::default(), input).expect("valid");
    assert_eq!(used, input.len());
    event
}

fn response(status: u16) -> ResponseHead {
    ResponseHead {
        status,
        ..ResponseHead::default()
    }
}

fn respond(conn: &mut Conn) -> String {
    let mut out = Vec::new();
    conn.send_head(&response(200), BodyLength::Known(0), &COMMON, &mut out);
    assert!(conn.send_end(&mut out));
    String::from_utf8(out).expect("ascii")
}

#[test]
fn continue_is_sent_once_and_before_the_body() {
    let mut conn = Conn::new();
    let mut out = Vec::new();
    conn.send_continue(&mut out);
    assert!(!conn.wants_continue() && out.is_empty());
    assert_eq!(step(&mut conn, POST), Event::Head);
    assert!(conn.wants_continue());
    assert_eq!(step(&mut conn, b""), Event::NeedData);
    assert!(conn.wants_continue());
    conn.send_continue(&mut out);
    conn.send_continue(&mut out);
    assert_eq!(out, b"HTTP/1.1 100 Continue\r\n\r\n");
    assert!(!conn.wants_continue());
    assert_eq!(step(&mut conn, b"hi"), Event::Data(b"hi"));
    assert_eq!(step(&mut conn, b""), Event::End);
    assert!(respond(&mut conn).contains("Connection: keep-alive\r\n"));
    assert!(conn.next_request());
}

#[test]
fn a_body_that_comes_unasked_needs_no_continue() {
    let mut conn = Conn::new();
    step(&mut conn, POST);
    assert_eq!(step(&mut conn, b"h"), Event::Data(b"h"));
    let mut out = Vec::new();
    conn.send_continue(&mut out);
    assert!(!conn.wants_continue() && out.is_empty());
}

#[test]
fn an_answer_instead_of_continue_closes() {
    let mut conn = Conn::new();
    step(&mut conn, POST);
    assert!(conn.keeps_alive());
    assert!(respond(&mut conn).contains("Connection: close\r\n"));
    assert!(!conn.keeps_alive() && !conn.wants_continue() && !conn.next_request());
}

#[test]
fn interim_responses() {
    let mut hints = response(103);
    hints.push(b"Link", b"</a.css>");
    hints.push(b"Connection", b"x");
    let mut conn = Conn::new();
    let mut out = Vec::new();
    step(&mut conn, POST);
    conn.send_interim(&hints, &mut out);
    assert_eq!(out, b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n");
    assert!(conn.wants_continue());
    out.clear();
    for dropped in [101, 200, 0] {
        conn.send_interim(&response(dropped), &mut out);
    }
    assert!(out.is_empty());
    conn.send_interim(&response(100), &mut out);
    assert_eq!(out, b"HTTP/1.1 100 Continue\r\n\r\n");
    assert!(!conn.wants_continue());
    respond(&mut conn);
    out.clear();
    conn.send_interim(&hints, &mut out);
    assert!(out.is_empty(), "not after the final head");

    let mut conn = Conn::new();
    step(&mut conn, b"GET / HTTP/1.0\r\n\r\n");
    conn.send_interim(&hints, &mut out);
    assert!(out.is_empty(), "not towards HTTP/1.0");
}

#[test]
fn an_early_answer_keeps_the_connection_once_the_rest_is_read() {
    let mut conn = Conn::new();
    step(&mut conn, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n");
    assert!(respond(&mut conn).contains("Connection: keep-alive\r\n"));
    assert!(conn.is_reading() && !conn.next_request());
    assert_eq!(step(&mut conn, b"hi"), Event::Data(b"hi"));
    assert_eq!(step(&mut conn, b""), Event::End);
    assert!(!conn.is_reading() && conn.next_request());
}

#[test]
fn close_after_closes() {
    let mut conn = Conn::new();
    step(&mut conn, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    step(&mut conn, b"");
    conn.close_after();
    assert!(!conn.keeps_alive());
    assert!(respond(&mut conn).contains("Connection: close\r\n"));
    assert!(!conn.next_request());
}

#[test]
fn the_next_request_waits_for_both_sides() {
    let mut conn = Conn::new();
    assert!(!conn.next_request());
    step(&mut conn, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(!conn.next_request());
    assert_eq!(step(&mut conn, b""), Event::End);
    assert!(!conn.next_request());
    let mut out = Vec::new();
    conn.send_head(&response(200), BodyLength::Chunked, &COMMON, &mut out);
    assert!(!conn.next_request());
    assert!(conn.send_end(&mut out) && conn.next_request());
    assert!(conn.at_request_start() && conn.head().bytes.is_empty());
}

#[test]
fn the_start_of_a_request_is_told_from_its_middle() {
    let policy = Policy::default();
    let mut conn = Conn::new();
    assert!(conn.at_request_start() && conn.is_reading());
    assert_eq!(conn.step(&policy, b""), Ok((0, Event::NeedData)));
    assert_eq!(conn.step(&policy, b"\r\n"), Ok((2, Event::NeedData)));
    assert!(conn.at_request_start());
    assert_eq!(conn.step(&policy, b"G"), Ok((0, Event::NeedData)));
    assert!(!conn.at_request_start());
    // Closing in the middle is answered in the newest version, and says so.
    assert!(respond(&mut conn).starts_with("HTTP/1.1 200 OK\r\n"));
    assert!(!conn.keeps_alive());
}

#[test]
fn what_was_understood_of_a_refused_head_can_be_logged() {
    for (bytes, target) in [
        ("HEAD /a HTTP/1.0\r\nHost : b\r\n", "/a"),
        ("HEAD /a HTTP/1.0\r\nContent-Length: x\r\n\r\n", "/a"),
        ("HEAD /a HTTP/3.0\r\n", ""),
    ] {
        let mut conn = Conn::new();
        assert!(conn.step(&Policy::default(), bytes.as_bytes()).is_err());
        assert_eq!(conn.head().method(), b"HEAD", "{bytes}");
        assert_eq!(conn.head().target(), target.as_bytes(), "{bytes}");
        assert!(conn.head().fields().all(|(name, _)| name == b"Content-Length"));
        let mut out = Vec::new();
        conn.send_head(&response(400), BodyLength::Known(3), &COMMON, &mut out);
        conn.send_data(b"bad", &mut out);
        assert!(
            out.ends_with(b"Content-Length: 3\r\n\r\n"),
            "no body after HEAD: {bytes}"
        );
    }
}

#[test]
fn a_used_connection_needs_no_new_memory() {
    let request = b"GET /path HTTP/1.1\r\nHost: a\r\nA: 1\r\nB: 2\r\n\r\n";
    let mut conn = Conn::new();
    let mut memory = None;
    for _ in 0..3 {
        step(&mut conn, request);
        step(&mut conn, b"");
        let head = conn.head();
        let now = (
            head.bytes.as_ptr(),
            head.bytes.capacity(),
            head.fields.as_ptr(),
            head.fields.capacity(),
        );
        assert_eq!(*memory.get_or_insert(now), now);
        respond(&mut conn);
        assert!(conn.next_request());
    }
}

#[test]
fn a_head_may_be_swapped_for_a_used_one() {
    let mut conn = Conn::new();
    step(&mut conn, b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n");
    step(&mut conn, b"");
    let mut used = conn.head().clone();
    std::mem::swap(conn.head_mut(), &mut used);
    respond(&mut conn);
    assert!(conn.next_request());
    std::mem::swap(conn.head_mut(), &mut used);
    step(&mut conn, b"GET /2 HTTP/1.1\r\nHost: b\r\n\r\n");
    assert_eq!(conn.head().target(), b"/2");
    assert_eq!(
        conn.head().fields().collect::<Vec<_>>(),
        [(b"Host".as_slice(), b"b".as_slice())]
    );
}
