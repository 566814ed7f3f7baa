//! Bodies that do not fit into buffers: files that workers pass on as descriptors, long streams, long uploads. What the
//! front keeps is bounded, and a worker is free as soon as it has handed its file over.

use std::time::Duration;

use crate::harness::procs::{self, resident_kib};
use crate::harness::server::list;
use crate::harness::{Client, Server, Setup, request, wait_until};

const SIZE: usize = 1_000_000;

fn files(words: &[&str]) -> Setup {
    let app = crate::harness::apps::app("file_worker.py");
    let setup = Setup::exec(&[&[app.as_str()], words].concat())
        .with_text("protocol", "pipe")
        .with("workers", 1);
    let record = format!("RECORD_FILE={}", setup.path_text("record"));
    setup.with("param", list(&[&record]))
}

fn content() -> Vec<u8> {
    b"0123456789".repeat(SIZE / 10)
}

fn wrote(server: &Server, path: &str) -> usize {
    let record = std::fs::read_to_string(server.path("record")).unwrap_or_default();
    record.lines().filter(|line| *line == format!("wrote {path}")).count()
}

fn front(server: &Server) -> i32 {
    let front = procs::children(server.pid)
        .into_iter()
        .find(|child| child.name == "rgunicorn-front");
    front.expect("a front").pid
}

#[test]
fn a_file_is_sent_as_if_its_bytes_had_come() {
    for setup in [files(&[]), files(&["pull"]), files(&[]).on_unix_socket()] {
        let server = setup.allow("longer than its Content-Length").start();
        let mut client = server.connect();
        // One frame: the length is known.
        let response = client.get("/file");
        assert_eq!(response.field("content-length"), Some("1000000"));
        assert!(response.body == content());
        let response = client.get("/file?a=999990&n=10");
        assert_eq!(
            (response.field("content-length"), response.text().as_str()),
            (Some("10"), "0123456789")
        );
        assert_eq!(client.get("/file?a=3&n=0").body, b"");
        // Two frames: it is known only if they come at once; a stretch of a file is one chunk.
        let response = client.get("/more?a=5&n=77");
        assert!(response.body == content()[5..82] && response.chunks <= 1);
        // In its place between bytes.
        let response = client.get("/parts?a=7&n=65537");
        let stretch = &content()[7..65_544];
        assert!(response.body == [b"<", stretch, b"|", stretch, b">"].concat());
        // Without a body, whatever the worker sends.
        client.send("HEAD /file HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.response("HEAD").field("content-length"), Some("1000000"));
        for status in [204, 304] {
            let response = client.get(&format!("/file?status={status}"));
            assert_eq!((response.status, response.body.len()), (status, 0));
        }
        // No more than was announced.
        assert_eq!(client.get("/file?declared=12").text(), "012345678901");
        assert_eq!(client.get("/parts?n=9&declared=5").text(), "<0123");
        server.wait_for_log("GET /parts?n=9&declared=5 has a response ");
        assert_eq!(client.get("/").text(), "hello\n");
        // More files than may wait at once.
        let response = client.get("/many?n=200");
        assert!(response.body == content()[..200]);
        // Towards HTTP/1.0 the connection ends the body.
        client.send("GET /more?n=100 HTTP/1.0\r\n\r\n");
        let rest = client.rest().expect("a response");
        assert!(rest.ends_with(&content()[..100]));
        server.stop();
    }
}

#[test]
fn a_file_outlives_the_request_that_sent_it() {
    let server = files(&[]).with_text("send_timeout", "60s").start();
    let size = 60_000_000;
    let before = procs::descriptors(front(&server)).len();
    let mut lazy: Vec<Client> = (0..3)
        .map(|_| {
            let mut client = server.connect();
            client.send(format!("GET /sparse?n={size} HTTP/1.1\r\nHost: a\r\n\r\n"));
            client
        })
        .collect();
    // Nobody has read a byte, and the only worker is free.
    wait_until("the worker to be through with them", || wrote(&server, "/sparse") == 3);
    assert_eq!(server.get("/").text(), "hello\n");
    for client in &mut lazy {
        let response = client.response("GET");
        assert_eq!((response.status, response.body.len()), (200, size));
    }
    drop(lazy);
    // A client that leaves in the middle closes the file too.
    let mut leaving = server.connect();
    leaving.send(format!("GET /sparse?n={size} HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert_eq!(leaving.try_head().expect("a head").status, 200);
    drop(leaving);
    wait_until("every file to be closed", || {
        procs::descriptors(front(&server)).len() <= before
    });
    server.stop();
}

#[test]
fn a_client_that_does_not_take_a_file_is_dropped() {
    let server = files(&[]).with_text("send_timeout", "500ms").start();
    let before = server.access_log().len();
    let mut client = server.connect();
    client.send("GET /sparse?n=50000000 HTTP/1.1\r\nHost: a\r\n\r\n");
    wait_until("its line in the access log", || server.access_log().len() > before);
    let got = client.rest().map_or(0, |bytes| bytes.len());
    assert!(got < 50_000_000, "it got everything: {got}");
    server.stop();
}

#[test]
fn a_file_that_is_too_short_cuts_the_connection() {
    let server = files(&[]).allow("has become shorter").start();
    let mut client = server.connect();
    client.send("GET /short HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(
        client.try_head().expect("a head").field("content-length"),
        Some("1000010")
    );
    let rest = client.rest().expect("what there is of it");
    assert!(rest == content());
    server.wait_for_log("GET /short failed (cut): a file of the response has become shorter");
    assert_eq!(server.get("/").text(), "hello\n");
    server.stop();
}

#[test]
fn descriptors_that_are_no_files_or_come_alone_are_breaches() {
    let cases = [
        ("/pipe", "a regular file"),
        ("/write-only", "a regular file"),
        ("/no-fd", "expected a descriptor beside a frame"),
        ("/stray", "expected a frame with the flag FD"),
        ("/two", "expected one descriptor beside a frame"),
        ("/unsealed", "it is no memory sealed against shrinking"),
        ("/beyond", "expected a stretch of the shared memory"),
    ];
    let server = cases
        .iter()
        .fold(files(&[]), |setup, (_, reason)| setup.allow(reason))
        .allow("failed (")
        .allow("was killed by SIGTERM")
        .allow("times in a row")
        .start();
    let before = procs::descriptors(front(&server)).len();
    for (target, reason) in cases {
        let mut client = server.connect();
        // POST, so that nothing is tried a second time.
        client.send(format!(
            "POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
        ));
        let status = client.response("POST").status;
        assert!(status == 502 || target == "/stray", "{target}: {status}");
        wait_until(reason, || server.log().contains(reason));
        server.wait_for_workers(1);
        assert_eq!(server.get("/").text(), "hello\n", "after {target}");
    }
    wait_until("every descriptor to be closed", || {
        procs::descriptors(front(&server)).len() <= before
    });
    server.stop();
}

#[test]
fn a_stream_that_nobody_reads_holds_its_worker_back() {
    for words in [&[][..], &["pull"]] {
        let server = files(words)
            .with_text("response_spool", "1MiB")
            .with_text("send_timeout", "60s")
            .start();
        let mut lazy = server.connect();
        lazy.send("GET /chunks?n=400&size=100000 HTTP/1.1\r\nHost: a\r\n\r\n");
        lazy.patience(Duration::from_millis(500));
        assert_eq!(lazy.try_head().expect("a head").status, 200);
        // The other end of this socket and the spool do not hold forty megabytes.
        let spooled = || spool_size(front(&server));
        wait_until("its bytes to be spooled", || spooled() > 0);
        let mut most = 0;
        for _ in 0..50 {
            most = most.max(spooled());
            std::thread::yield_now();
        }
        assert!(most < 3_000_000, "{most} bytes are spooled");
        assert_eq!(wrote(&server, "/chunks"), 0, "the worker could write it all");
        lazy.patience(Duration::from_secs(30));
        let mut left = 40_000_000;
        while left > 0 {
            let chunk = usize::from_str_radix(&lazy.line().expect("a chunk"), 16).expect("its length");
            lazy.skip(chunk).expect("its bytes");
            assert_eq!(lazy.line().expect("its end"), "");
            left -= chunk;
        }
        assert_eq!(server.get("/").text(), "hello\n");
        server.stop();
    }
}

/// Bytes in the files without a name that a process has open.
fn spool_size(pid: i32) -> u64 {
    let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/fd")) else {
        return 0;
    };
    entries
        .flatten()
        .filter(|entry| std::fs::read_link(entry.path()).is_ok_and(|to| to.to_string_lossy().contains("/spool/")))
        .filter_map(|entry| std::fs::metadata(entry.path()).ok())
        .map(|data| data.len())
        .sum()
}

#[test]
fn the_front_stays_small_whatever_passes_through_it() {
    let server = files(&["pull"]).start();
    let check = |what: &str| {
        let now = resident_kib(front(&server));
        assert!(now < 32 * 1024, "{now} KiB after {what}");
    };
    check("the start");
    let body = vec![b'u'; 64 << 20];
    let response = request(&server.address, "POST", "/digest", &[], &body);
    assert!(response.text().starts_with("67108864 "), "{}", response.text());
    check("an upload of 64 MiB");
    assert_eq!(server.get("/chunks?n=1024&size=65536").body.len(), 64 << 20);
    check("a stream of 64 MiB");
    assert_eq!(server.get("/chunks?n=2&size=33554432").body.len(), 64 << 20);
    check("a stream in large frames");
    assert_eq!(server.get("/sparse?n=67108864").body.len(), 64 << 20);
    check("a file");
    server.stop();
}
