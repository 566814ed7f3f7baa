//! Slow clients: they hold a connection, never a worker, so others are served as if they were not there.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::harness::hammer::{Hammer, Plan};
use crate::harness::{Client, Server, Setup, pulse, wait_until};

const SLOW: usize = 500;

/// One connection that sends its text byte by byte.
struct Slow {
    client: Client,
    text: Vec<u8>,
    sent: usize,
}

impl Slow {
    fn new(server: &Server, text: String) -> Self {
        Self {
            client: server.connect(),
            text: text.into_bytes(),
            sent: 0,
        }
    }

    fn send_one(&mut self) {
        let byte = self.text.get(self.sent).copied().expect("more to send");
        self.client.try_send(&[byte]).expect("a slow client is not thrown out");
        self.sent += 1;
    }
}

#[test]
fn five_hundred_slow_clients_do_not_keep_a_worker_from_another_client() {
    let server = Setup::c_app(1)
        .with_text("header_timeout", "60s")
        .with_text("body_timeout", "60s")
        .start();
    let head = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".to_owned();
    let body = format!(
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{}",
        "b".repeat(100)
    );
    // Half of them are slow in the head, half in the body.
    let mut slow: Vec<Slow> = (0..SLOW)
        .map(|n| {
            let mut one = Slow::new(&server, if n % 2 == 0 { head.clone() } else { body.clone() });
            if n % 2 == 1 {
                one.sent = one.text.len() - 60;
                one.client.send(&one.text[..one.sent]);
            }
            one
        })
        .collect();
    let plan = Plan {
        clients: 2,
        method: "GET",
        target: "/".to_owned(),
        per_connection: 100,
    };
    let hammer = Hammer::start(&server.address, &plan);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut seconds = 0;
            pulse(Duration::from_secs(1), || {
                slow.iter_mut().for_each(Slow::send_one);
                seconds += 1;
                seconds < 4
            });
            done.store(true, Ordering::Relaxed);
        });
        // Every second between two bytes of the slow ones, the others are served.
        wait_until("the slow clients' four seconds", || done.load(Ordering::Relaxed));
    });
    hammer.wait_for_more(100);
    hammer.stop_unharmed("beside slow clients");
    // The slow ones are served too, in the end.
    for one in slow.iter_mut().take(4) {
        let rest = one.text[one.sent..].to_vec();
        one.client.send(rest);
        assert_eq!(one.client.response("GET").status, 200);
    }
    drop(slow);
    server.stop();
}

#[test]
fn clients_that_do_not_read_free_the_worker_early() {
    let size = 30_000_000;
    let server = Setup::c_app(1).with_text("send_timeout", "60s").start();
    let mut lazy: Vec<Client> = (0..4)
        .map(|_| {
            let mut client = server.connect();
            client.send(format!("GET /big?n={size} HTTP/1.1\r\nHost: a\r\n\r\n"));
            client
        })
        .collect();
    // The one worker has written four large responses that nobody reads, and answers.
    for _ in 0..10 {
        assert_eq!(server.get("/").status, 200);
    }
    for client in &mut lazy {
        let response = client.response("GET");
        assert_eq!((response.status, response.body.len()), (200, size));
        assert!(response.body.chunks_exact(16).all(|block| block == b"0123456789abcdef"));
    }
    server.stop();
}

#[test]
fn a_client_that_never_reads_is_dropped_after_the_send_timeout() {
    let server = Setup::c_app(1).with_text("send_timeout", "500ms").allow("").start();
    let before = server.access_log().len();
    let mut client = server.connect();
    client.send("GET /big?n=50000000 HTTP/1.1\r\nHost: a\r\n\r\n");
    wait_until("its line in the access log", || server.access_log().len() > before);
    let got = client.rest().map_or(0, |bytes| bytes.len());
    assert!(got < 50_000_000, "it got everything: {got}");
    server.stop();
}
