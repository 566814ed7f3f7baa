//! HUP: a new generation takes over without a failed request; a bad one never does.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::harness::apps::app;
use crate::harness::hammer::{Hammer, Plan};
use crate::harness::server::list;
use crate::harness::{Server, Setup, pulse, wait_until};

/// Waits until every worker and the front of `before` are gone and `count` new workers serve.
fn wait_for_new_generation(server: &Server, before: &[i32], count: usize) {
    wait_until("a new generation alone", || {
        server.assert_running();
        let now = server.workers();
        now.len() == count && server.fronts().len() == 1 && !now.iter().any(|pid| before.contains(pid))
    });
}

#[test]
fn reload_under_load_fails_no_request() {
    let server = Setup::c_app(2).start();
    for (method, target, per_connection) in [("GET", "/", 25), ("POST", "/record?id={id}&ms=2", 1)] {
        let plan = Plan {
            clients: 16,
            method,
            target: target.to_owned(),
            per_connection,
        };
        let hammer = Hammer::start(&server.address, &plan);
        hammer.wait_for_more(100);
        let mut reloads = 0;
        pulse(Duration::from_secs(1), || {
            server.signal(Signal::SIGHUP);
            reloads += 1;
            reloads < 5
        });
        hammer.wait_for_more(100);
        hammer.stop_unharmed("reloads");
    }
    wait_until("one generation", || {
        server.fronts().len() == 1 && server.workers().len() == 2
    });
    server.stop();
}

#[test]
fn reload_renews_front_and_workers_and_takes_the_new_settings() {
    let mut server = Setup::c_app(2).start();
    let (front, workers) = (server.front(), server.wait_for_workers(2));
    server.reload_with("workers", 3);
    wait_for_new_generation(&server, &workers, 3);
    assert_ne!(server.front(), front);
    assert_eq!(server.get("/").status, 200);
    let workers = server.workers();
    server.reload_with("exec", list(&[&app("app.pl")]));
    wait_for_new_generation(&server, &workers, 3);
    // Only the C app knows this path: it is the new program that answers.
    assert_eq!(server.get("/record?id=1").status, 404);
    server.stop();
}

#[test]
fn a_request_that_runs_while_a_reload_comes_is_finished_by_its_own_generation() {
    let server = Setup::c_app(1).start();
    let workers = server.wait_for_workers(1);
    let mut client = server.connect();
    client.send("GET /sleep?ms=700 HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut others = server.connect();
    others.send("GET /pid HTTP/1.1\r\nHost: a\r\n\r\n");
    server.signal(Signal::SIGHUP);
    assert_eq!(client.response("GET").text(), "slept 700\n");
    assert_eq!(others.response("GET").status, 200);
    wait_for_new_generation(&server, &workers, 1);
    server.stop();
}

#[test]
fn new_listeners_are_bound_on_reload_and_old_ones_closed() {
    let mut server = Setup::c_app(1).start();
    let workers = server.wait_for_workers(1);
    let socket = format!("unix:{}", server.path("new.sock").display());
    server.reload_with("bind", list(&[&socket]));
    wait_for_new_generation(&server, &workers, 1);
    let new = crate::harness::Address::Unix(server.path("new.sock"));
    assert_eq!(crate::harness::get(&new, "/").status, 200);
    wait_until("the old listener to be closed", || {
        crate::harness::Client::try_connect(&server.address).is_err()
    });
    server.stop();
}

#[test]
fn a_bad_configuration_leaves_the_same_processes_serving() {
    let mut server = Setup::c_app(2).allow("").start();
    let (front, workers) = (server.front(), server.wait_for_workers(2));
    let good = std::fs::read_to_string(server.path("site.toml")).expect("the settings");
    let cases = [
        (good.clone() + "wrokers = 3\n", "workers"),
        (good.clone().replace("workers = 2", "workers = \"many\""), "workers"),
        (good.clone() + "this is not TOML\n", "site.toml"),
        (
            good.replace("tmp_upload_dir = \"", "tmp_upload_dir = \"/nonexistent"),
            "tmp_upload_dir",
        ),
    ];
    for (text, named) in &cases {
        let mark = server.log().len();
        server.reload_with_text(text);
        let line = server.wait_for_log_after(mark, "[ERROR]");
        wait_until(&format!("{named} in the log after {line}"), || {
            server.log().get(mark..).is_some_and(|log| log.contains(named))
        });
        assert_eq!((server.front(), server.workers()), (front, workers.clone()), "{text}");
        assert_eq!(server.get("/").status, 200);
    }
    server.reload_with("workers", 1);
    wait_for_new_generation(&server, &workers, 1);
    server.stop();
}

#[test]
fn an_app_that_does_not_come_up_leaves_the_old_generation_serving() {
    let mut server = Setup::c_app(2).with_text("boot_timeout", "2s").allow("").start();
    let (front, workers) = (server.front(), server.wait_for_workers(2));
    let (bad, text) = (app("bad_fastcgi.py"), server.path("none").display().to_string());
    for words in [
        vec![text.as_str()],
        vec![bad.as_str(), "exit-one"],
        vec![bad.as_str(), "never-ready"],
    ] {
        let mark = server.log().len();
        server.reload_with("exec", list(&words));
        server.wait_for_log_after(mark, "[ERROR]");
        wait_until("the failed generation to be gone", || {
            server.fronts() == [front] && server.workers() == workers
        });
        assert_eq!(server.get("/").status, 200, "{words:?}");
    }
    server.stop();
}
