//! Clients that leave, or stop reading, in the middle of an answer: their worker is free again.

use crate::harness::apps::app;
use crate::harness::server::list;
use crate::harness::{Server, Setup, wait_until};

fn flow() -> Setup {
    let setup = Setup::exec(&[&app("flow_worker.py"), "slots=1"]).with_text("protocol", "pipe");
    let record = format!("RECORD_FILE={}", setup.path_text("record"));
    setup.with("param", list(&[&record]))
}

fn wait_for_record(server: &Server, line: &str) {
    wait_until(line, || {
        let text = std::fs::read_to_string(server.path("record")).unwrap_or_default();
        text.lines().any(|other| other == line)
    });
}

#[test]
fn a_reader_that_stops_is_dropped_although_the_app_goes_on_writing() {
    let server = flow().on_unix_socket().with_text("send_timeout", "400ms").start();
    let mut client = server.connect();
    client.send("GET /drip?n=400 HTTP/1.1\r\nHost: a\r\n\r\n");
    wait_for_record(&server, "abort /drip");
    assert_eq!(server.get("/").status, 200);
    drop(client);
    server.stop();
}

#[test]
fn a_client_that_is_gone_for_good_is_noticed_at_once() {
    let server = flow().on_unix_socket().start();
    let mut client = server.connect();
    client.send("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n");
    wait_for_record(&server, "begin /wait");
    drop(client);
    wait_for_record(&server, "abort /wait");
    assert_eq!(server.get("/").status, 200);
    server.stop();
}

#[test]
fn a_client_that_only_says_it_is_done_sending_gets_its_answer() {
    for server in [flow().start(), flow().on_unix_socket().start()] {
        let mut client = server.connect();
        client.send("GET /sleep?ms=300 HTTP/1.1\r\nHost: a\r\n\r\n");
        wait_for_record(&server, "begin /sleep");
        client.finish_sending();
        assert_eq!(client.response("GET").text(), "hello\n");
        server.stop();
    }
}

#[test]
fn fastcgi_workers_are_free_again_when_their_clients_leave() {
    let server = Setup::c_app(1).start();
    let lines = server.access_log().len();
    for target in ["/sse", "/big?n=50000000", "/sse"] {
        let mut client = server.connect();
        client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(client.try_head().expect("a head").status, 200);
        drop(client);
        assert_eq!(server.get("/").status, 200, "{target}");
    }
    wait_until("a line for every request", || server.access_log().len() == lines + 6);
    let gone = server.access_log().iter().filter(|line| line.contains(" 499 ")).count();
    assert!(gone >= 1, "{:?}", server.access_log());
    server.stop();
}

#[test]
fn a_response_that_cannot_be_spooled_is_cut_and_frees_its_worker() {
    for setup in [Setup::c_app(1), flow()] {
        let server = setup.allow("cannot spool a response").start();
        std::fs::remove_dir(server.path("spool")).expect("the directory goes");
        for _ in 0..2 {
            let mark = server.log().len();
            let mut client = server.connect();
            client.send("GET /big?n=40000000 HTTP/1.1\r\nHost: a\r\n\r\n");
            // A client that reads would not need the spool.
            server.wait_for_log_after(mark, "cannot spool a response");
            let error = client.try_response("GET").expect_err("a whole response");
            assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "it hangs");
            assert_eq!(server.get("/").status, 200);
        }
        std::fs::create_dir(server.path("spool")).expect("the directory is back");
        server.stop();
    }
}

/// A file system of 1 MB over a directory; gone with this.
struct SmallDisk(String);

impl SmallDisk {
    fn new(directory: &std::path::Path) -> Self {
        let directory = directory.display().to_string();
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=1m,mode=1777", "none", &directory]);
        assert!(
            mount.status().expect("mount is there").success(),
            "this test must be run by root"
        );
        Self(directory)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").args(["-l", &self.0]).status();
    }
}

#[test]
fn a_full_disk_answers_503_and_names_the_request() {
    let setup = Setup::cgi().allow("cannot spool a request body");
    let disk = SmallDisk::new(&setup.path("spool"));
    let server = setup.start();
    let mut client = server.connect();
    client.send("POST /hello.sh?x HTTP/1.1\r\nHost: a\r\nContent-Length: 20000000\r\n\r\n");
    client.send("x".repeat(3_000_000));
    let response = client.response("POST");
    assert_eq!(response.status, 503);
    let line = server.wait_for_log("cannot spool a request body");
    let id = response.field("x-request-id").expect("an id");
    for part in [
        "[ERROR] POST /hello.sh?x failed (503): cannot spool",
        "No space left on device",
        &format!("request={id}"),
        "client=127.0.0.1",
    ] {
        assert!(line.contains(part), "no {part} in {line}");
    }
    drop(disk);
    let body = "x".repeat(3_000_000);
    let response = crate::harness::request(&server.address, "POST", "/hello.sh?x", &[], body.as_bytes());
    assert_eq!(response.status, 200);
    server.stop();
}
