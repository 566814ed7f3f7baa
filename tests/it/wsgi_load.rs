//! Reloads, scaling, upgrades and recycling of WSGI apps under load: no request fails.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::harness::hammer::{Hammer, Plan};
use crate::harness::{Server, Setup, pulse, wait_until};

const CLASSES: [&[&str]; 3] = [&[], &["--threads", "4"], &["-k", "gevent"]];

/// A conf file with hooks, so that workers are forked by the host.
const HOOKS: &str = "\
from recorder import rec
def post_fork(server, worker):
    rec('post_fork', worker.age)
def worker_exit(server, worker):
    rec('worker_exit', worker.age)
def child_exit(server, worker):
    rec('child_exit', worker.age)
";

/// Every way to run workers: each class spawned directly, and forked by the host with and without preloading.
fn ways() -> Vec<(String, Setup)> {
    let mut ways = Vec::new();
    for class in CLASSES {
        let words = [&["--workers", "2"], class, &["recorder"]].concat();
        ways.push((format!("plain {class:?}"), Setup::wsgi(&words)));
        let hosted = Setup::wsgi(&words);
        std::fs::write(hosted.path("gunicorn.conf.py"), HOOKS).expect("a conf file");
        ways.push((format!("hosted {class:?}"), hosted));
    }
    let words = ["--workers", "2", "--preload", "recorder"];
    ways.push(("preloaded".to_owned(), Setup::wsgi(&words)));
    ways
}

fn hammer(server: &Server, per_connection: usize) -> Hammer {
    Hammer::start(
        &server.address,
        &Plan {
            clients: 8,
            method: "GET",
            target: "/".to_owned(),
            per_connection,
        },
    )
}

fn under_load(setup: Setup, who: &str, act: impl FnOnce(&Server, &Hammer)) {
    let server = setup.start();
    let hammer = hammer(&server, 20);
    hammer.wait_for_more(50);
    act(&server, &hammer);
    hammer.wait_for_more(50);
    hammer.stop_unharmed(who);
    server.stop();
}

#[test]
fn reloads() {
    for (who, setup) in ways() {
        under_load(setup, &who, |server, _| {
            for _ in 0..3 {
                let before = server.workers();
                server.signal(Signal::SIGHUP);
                wait_until("two new workers alone", || {
                    server.assert_running();
                    let now = server.workers();
                    now.len() == 2 && !now.iter().any(|pid| before.contains(pid))
                });
            }
        });
    }
}

#[test]
fn scaling() {
    for (who, setup) in ways() {
        under_load(setup, &who, |server, hammer| {
            for (signal, count) in [
                (Signal::SIGTTIN, 3),
                (Signal::SIGTTIN, 4),
                (Signal::SIGTTOU, 3),
                (Signal::SIGTTOU, 2),
                (Signal::SIGTTOU, 1),
            ] {
                server.signal(signal);
                server.wait_for_workers(count);
                hammer.wait_for_more(20);
            }
        });
    }
}

#[test]
fn recycling_after_twenty_requests() {
    for (who, setup) in ways() {
        let setup = setup
            .arg("--max-requests")
            .arg("20")
            .arg("--max-requests-jitter")
            .arg("5");
        under_load(setup, &who, |server, hammer| {
            let before = server.wait_for_workers(2);
            hammer.wait_for_more(400);
            wait_until("other workers", || {
                server.workers().iter().all(|pid| !before.contains(pid))
            });
        });
    }
}

#[test]
fn everything_at_once() {
    let setup = Setup::wsgi(&["--workers", "2", "--threads", "2", "--max-requests", "50", "recorder"]);
    under_load(setup, "everything", |server, _| {
        let mut signals = [
            Signal::SIGTTIN,
            Signal::SIGHUP,
            Signal::SIGTTOU,
            Signal::SIGUSR1,
            Signal::SIGTTIN,
            Signal::SIGHUP,
        ]
        .into_iter();
        pulse(Duration::from_millis(700), || {
            signals.next().map(|signal| server.signal(signal)).is_some()
        });
    });
}

#[test]
fn workers_that_are_old_or_large_are_replaced_without_a_gap() {
    for (flag, limit) in [("--max-lifetime", "1s"), ("--max-memory", "1m")] {
        let server = Setup::wsgi(&["--workers", "1", flag, limit, "hello"]).start();
        let before = server.wait_for_workers(1);
        wait_until(&format!("{flag}: another worker"), || {
            assert_eq!(server.get("/").status, 200, "{flag}");
            !server.workers().iter().any(|pid| before.contains(pid))
        });
        let line = server.wait_for_log("is replaced");
        assert!(line.contains(&flag[2..].replace('-', "_")), "{line}");
        server.stop();
    }
}
