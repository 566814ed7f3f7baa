//! After a storm everything is as before it: descriptors, children, files, memory.

use nix::sys::signal::Signal;

use crate::harness::hammer::{Hammer, Plan};
use crate::harness::procs::{self, descriptors};
use crate::harness::{Client, Server, Setup, wait_until};

/// Load of every kind, with clients that leave in the middle, refusals and dead workers.
fn storm(server: &Server) {
    let plan = |method, target: &str| Plan {
        clients: 16,
        method,
        target: target.to_owned(),
        per_connection: 10,
    };
    let gets = Hammer::start(&server.address, &plan("GET", "/"));
    let posts = Hammer::start(&server.address, &plan("POST", "/sleep?ms=3"));
    let body = vec![b'b'; 300_000];
    for round in 0..10 {
        gets.wait_for_more(50);
        for text in [
            "GET /big?n=3000000 HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\n\r\nabc",
            "GET /sleep?ms=50 HTTP/1.1\r\nHost: a\r\n\r\n",
            "BROKEN\r\n\r\n",
            "GET / HT",
        ] {
            // Gone before the answer.
            if let Ok(mut client) = Client::try_connect(&server.address) {
                let _ = client.try_send(text.as_bytes());
            }
        }
        // A large upload; its worker may be killed over it.
        let mut client = server.connect();
        let head = format!(
            "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        client.send([head.as_bytes(), &body].concat());
        if let Ok(response) = client.try_response("POST") {
            assert!(response.status == 502 || response.body == body || response.text() == "hello\n");
        }
        if round % 3 == 0
            && let Some(worker) = server.workers().first()
        {
            procs::signal(*worker, Signal::SIGKILL);
        }
    }
    gets.stop();
    posts.stop();
}

/// Waits until front and arbiter hold what they held.
fn check(server: &Server, workers: usize) {
    server.wait_for_workers(workers);
    let (front, arbiter) = (server.front(), server.pid);
    let spool = server.path("spool");
    let quiet = |server: &Server| {
        wait_until("every worker to be ready and every client to be gone", || {
            assert_eq!(server.get("/").status, 200);
            server.workers().len() == workers
        });
        (descriptors(front).len(), descriptors(arbiter).len())
    };
    storm(server);
    let before = quiet(server);
    // The first storm has warmed everything up; more of them, and a dozen dead workers, may add nothing.
    for _ in 0..3 {
        storm(server);
    }
    wait_until(&format!("as few descriptors as before: {before:?}"), || {
        let now = quiet(server);
        // A worker that was still booting when they were counted has been connected since.
        now.0 <= before.0 + workers && now.1 <= before.1 + workers
    });
    wait_until("nobody but the front and the workers", || {
        procs::descendants(arbiter).len() == workers + 1
    });
    wait_until("no zombie", || {
        !procs::descendants(arbiter).iter().any(procs::Process::is_zombie)
    });
    assert!(std::fs::read_dir(spool).expect("the spool directory").next().is_none());
    assert_eq!(server.front(), front, "the front died:\n{}", server.log());
}

#[test]
fn fastcgi_workers_leave_nothing_behind() {
    let server = Setup::c_app(3).with_text("keepalive", "1s").allow("").start();
    check(&server, 3);
    server.stop();
}

#[test]
fn pulling_workers_leave_nothing_behind() {
    let server = Setup::pull_record(3).with_text("keepalive", "1s").allow("").start();
    check(&server, 3);
    server.stop();
}

#[test]
fn reloads_leave_nothing_behind() {
    let server = Setup::c_app(2).start();
    let reload = || {
        let front = server.front();
        server.signal(Signal::SIGHUP);
        wait_until("a new generation alone", || {
            server.fronts().len() == 1 && server.fronts() != [front] && server.workers().len() == 2
        });
    };
    reload();
    // Until the arbiter has reaped the old generation it still holds its descriptors.
    wait_until("the old generation to be reaped", || {
        procs::children(server.pid).len() == 3
    });
    let before = descriptors(server.pid);
    let files = |dir: &str| walk(&server.path(dir)).len();
    let sockets = files("run");
    for _ in 0..5 {
        reload();
    }
    wait_until("as few descriptors as before", || descriptors(server.pid) <= before);
    wait_until("as few sockets as before", || files("run") <= sockets);
    server.stop();
}

fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            found.extend(walk(&entry.path()));
        }
        found.push(entry.path());
    }
    found
}

#[test]
fn idle_connections_cost_little_memory() {
    let server = Setup::c_app(1).on_unix_socket().with_text("keepalive", "60s").start();
    let front = server.front();
    assert_eq!(server.get("/").status, 200);
    let count = 500;
    let before = procs::resident_kib(front);
    let mut clients: Vec<Client> = (0..count).map(|_| server.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/").status, 200);
    }
    let more = procs::resident_kib(front).saturating_sub(before);
    // 20 MB for 10,000 are 2 KiB each, and some slack for the buffers of a first burst.
    assert!(more < count * 2 + 1024, "{more} KiB for {count} connections");
    let path = server.path("http.sock");
    let silent = crate::harness::peers::idle_unix_connections(&path, 500);
    assert_eq!(server.get("/").status, 200);
    drop((clients, silent));
    server.stop();
}
