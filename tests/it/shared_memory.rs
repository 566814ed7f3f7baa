//! Large responses that reach the front by way of memory which a worker shares with it.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::harness::procs::{self, resident_kib};
use crate::harness::{Client, Response, Server, Setup, wait_until};

const CLASSES: [&[&str]; 3] = [&[], &["--threads", "4"], &["-k", "gevent"]];

fn start(class: &[&str], words: &[&str]) -> Server {
    Setup::wsgi(&[class, words, &["large"]].concat()).start()
}

/// What `/list` and `/pieces` of the app, and `/shared` of the plain worker, send.
fn pieces(count: u8, size: usize) -> Vec<u8> {
    (0..count)
        .flat_map(|n| std::iter::repeat_n(b'a' + n % 26, size))
        .collect()
}

fn is_whole(response: &Response, count: u8, size: usize) -> bool {
    response.status == 200 && response.body == pieces(count, size)
}

#[test]
fn what_is_shared_arrives_as_it_was_sent() {
    for class in CLASSES {
        let server = start(class, &["--workers", "1"]);
        let mut client = server.connect();
        for (count, size) in [
            (1, 131_072),
            (1, 1_048_576),
            (3, 1_048_577),
            (40, 200_000),
            (7, 131_071),
        ] {
            for path in ["/list", "/pieces"] {
                for length in [0, 1] {
                    let target = format!("{path}?n={count}&size={size}&length={length}");
                    let response = client.get(&target);
                    assert!(is_whole(&response, count, size), "{class:?} {target}");
                    let is_known = path == "/list" || length == 1;
                    let announced = response.field("content-length").map(str::to_owned);
                    let expected = is_known.then(|| (usize::from(count) * size).to_string());
                    assert_eq!(announced, expected, "{class:?} {target}");
                }
            }
        }
        client.send("HEAD /list?n=3&size=1000000 HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.response("HEAD").status, 200);
        client.send("GET /pieces?n=3&size=1000000 HTTP/1.0\r\n\r\n");
        assert!(client.rest().expect("a response").ends_with(&pieces(3, 1_000_000)));
        server.stop();
    }
}

#[test]
fn slow_clients_hold_no_block_for_long() {
    for class in CLASSES {
        let server = start(class, &["--workers", "1"]);
        let mut lazy: Vec<Client> = (0..6)
            .map(|_| {
                let mut client = server.connect();
                client.send("GET /pieces?n=8&size=1500000 HTTP/1.1\r\nHost: a\r\n\r\n");
                client
            })
            .collect();
        // Nobody has read a byte, and the others are served.
        assert!(is_whole(&server.get("/list?n=4&size=700000"), 4, 700_000), "{class:?}");
        for client in &mut lazy {
            client.patience(Duration::from_secs(30));
            assert!(is_whole(&client.response("GET"), 8, 1_500_000), "{class:?}");
        }
        let now = resident_kib(server.front());
        assert!(now < 32 * 1024, "{now} KiB");
        // Nor does one that leaves.
        for _ in 0..4 {
            let mut client = server.connect();
            client.send("GET /pieces?n=25&size=1500000 HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(client.try_head().expect("a head").status, 200);
        }
        for _ in 0..3 {
            assert!(is_whole(&server.get("/list?n=4&size=700000"), 4, 700_000), "{class:?}");
        }
        server.stop();
    }
}

#[test]
fn many_at_once_are_not_mixed_up() {
    for class in CLASSES {
        let server = start(class, &["--workers", "2"]);
        std::thread::scope(|scope| {
            for n in 1..9 {
                let server = &server;
                scope.spawn(move || {
                    let mut client = server.connect();
                    for size in [1_000_003, 300_000, 131_072 + usize::from(n), 10] {
                        let target = format!("/pieces?n={n}&size={size}");
                        assert!(is_whole(&client.get(&target), n, size), "{class:?} {target}");
                    }
                });
            }
        });
        server.stop();
    }
}

#[test]
fn a_front_that_dies_takes_no_block_along() {
    // Its client reads the head and no more, so the first front has read of both blocks and is through with none.
    for patience in [0, 1] {
        let server = Setup::wsgi(&["--workers", "1", "large"])
            .with("response_spool", patience << 20)
            .on_unix_socket()
            .allow("Front (pid:")
            .allow("failed (")
            .allow("exited with code")
            .start();
        let front = server.front();
        let mut client = server.connect();
        client.send("GET /pieces?n=2&size=1000000 HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.try_head().expect("a head").status, 200);
        procs::signal(front, Signal::SIGKILL);
        drop(client);
        wait_until("a new front", || server.fronts().iter().any(|pid| *pid != front));
        for _ in 0..3 {
            assert!(is_whole(&server.get("/list?n=5&size=2000000"), 5, 2_000_000));
        }
        server.stop();
    }
}

#[test]
fn any_worker_can_share() {
    let app = crate::harness::apps::app("file_worker.py");
    let setup = Setup::exec(&[&app]).with_text("protocol", "pipe").with("workers", 1);
    let record = format!("RECORD_FILE={}", setup.path_text("record"));
    let server = setup.with("param", crate::harness::server::list(&[&record])).start();
    for (count, size) in [(1, 1), (30, 4_096), (5, 3_000_000)] {
        let response = server.get(&format!("/shared?n={count}&size={size}"));
        assert!(is_whole(&response, count, size), "{count} of {size}");
    }
    server.stop();
}
