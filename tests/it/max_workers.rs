//! `max_workers`: at the limit of all pools together, an idle worker makes room, and else requests wait.

use std::fs;

use crate::harness::server::quoted;
use crate::harness::tree::{ask, page};
use crate::harness::{Client, Server, Setup, wait_until};

/// What answers after a file is gone, and appends to another when it begins.
const HOLD: &str = "<?php header('Content-Type: text/plain');\n\
    file_put_contents('BEGUN', basename(__DIR__).\"\\n\", FILE_APPEND);\n\
    while (true) { clearstatcache(); if (!file_exists('GATE')) break; usleep(2000); }\n\
    echo getmypid();\n";

/// Sites `NAME.example` with PHP pools of these sizes.
fn setup(most: u32, pools: &[(&str, &str)]) -> Setup {
    let setup = Setup::new();
    let (gate, begun) = (setup.path_text("gate"), setup.path_text("begun"));
    let mut tables = String::new();
    for (name, workers) in pools {
        page(&setup, &format!("{name}/pid.php"), "<?php echo getmypid();");
        page(
            &setup,
            &format!("{name}/hold.php"),
            HOLD.replace("GATE", &gate).replace("BEGUN", &begun),
        );
        let root = quoted(&setup.path_text(name));
        tables += &format!(
            "[pool.{name}]\nexec = ['php-cgi']\nworkers = {workers}\n\
             [[site]]\nhosts = ['{name}.example']\nroot = {root}\npool = '{name}'\n"
        );
    }
    setup.with("max_workers", most).tables(&tables)
}

fn get(server: &Server, pool: &str, target: &str) -> u16 {
    ask(&server.address, "GET", &format!("{pool}.example"), target).status
}

/// Sends requests that are answered when the gate opens, each on a connection of its own.
fn crowd(server: &Server, pool: &str, count: usize) -> Vec<Client> {
    fs::write(server.path("gate"), "").expect("the gate");
    let mut clients: Vec<Client> = (0..count).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send(format!("GET /hold.php HTTP/1.1\r\nHost: {pool}.example\r\n\r\n"));
    }
    clients
}

fn begun(server: &Server, pool: &str) -> usize {
    let text = fs::read_to_string(server.path("begun")).unwrap_or_default();
    text.lines().filter(|line| *line == pool).count()
}

#[test]
fn an_idle_worker_of_another_pool_makes_room() {
    let elastic = "{ min = 0, max = 3, idle = '60s' }";
    let server = setup(2, &[("a", elastic), ("b", elastic), ("c", elastic)])
        .allow("max_workers")
        .start();
    for pool in ["a", "b"] {
        assert_eq!(get(&server, pool, "/pid.php"), 200);
    }
    assert_eq!(server.wait_for_workers(2).len(), 2);
    assert_eq!(get(&server, "c", "/pid.php"), 200, "{}", server.log());
    // The one that was idle longer.
    let line = server.wait_for_log("makes room for another pool");
    assert!(line.contains("pool=a"), "{line}");
    assert!(server.wait_for_workers(2).len() == 2);
    for pool in ["a", "b", "c", "a"] {
        assert_eq!(get(&server, pool, "/pid.php"), 200, "{}", server.log());
    }
    // However often that happened, it was said once.
    let log = server.log();
    assert_eq!(log.matches("that max_workers allows").count(), 1, "{log}");
    server.stop();
}

#[test]
fn a_crowd_at_one_pool_does_not_keep_another_out() {
    let elastic = "{ min = 0, max = 3, idle = '60s' }";
    let server = setup(2, &[("a", elastic), ("b", elastic)]).allow("max_workers").start();
    let mut many = crowd(&server, "a", 8);
    wait_until("both workers to be busy", || begun(&server, "a") == 2);
    let mut other = crowd(&server, "b", 1);
    server.wait_for_log("makes room for another pool");
    assert_eq!(server.workers().len(), 2, "nothing starts before something has gone");
    fs::remove_file(server.path("gate")).expect("the gate");
    for client in other.iter_mut().chain(&mut many) {
        assert_eq!(client.response("GET").status, 200, "{}", server.log());
    }
    server.stop();
}

#[test]
fn without_an_idle_worker_requests_wait_until_queue_timeout() {
    let setup = setup(2, &[("a", "1"), ("b", "1"), ("c", "{ min = 0, max = 3 }")]);
    let server = setup.with_text("queue_timeout", "300ms").allow("").start();
    let response = ask(&server.address, "GET", "c.example", "/pid.php");
    assert_eq!(response.status, 503, "{}", server.log());
    assert_eq!(response.field("retry-after"), Some("1"));
    let line = server.wait_for_log("All 2 workers that max_workers allows");
    assert!(line.contains("[WARNING]"), "{line}");
    for pool in ["a", "b"] {
        assert_eq!(get(&server, pool, "/pid.php"), 200);
    }
    assert_eq!(server.workers().len(), 2);
    server.stop();
}

#[test]
fn ttin_stops_at_the_limit() {
    let server = setup(3, &[("a", "1"), ("b", "1")]).allow("max_workers").start();
    server.wait_for_workers(2);
    server.signal(nix::sys::signal::Signal::SIGTTIN);
    server.wait_for_log("No more workers in pool b: max_workers allows 3 in all");
    assert_eq!(server.wait_for_workers(3).len(), 3);
    server.stop();
}

#[test]
fn a_tenant_whose_workers_do_not_fit_is_left_out() {
    let setup = setup(3, &[("a", "2")]);
    for (name, workers) in [("x", 2), ("y", 1)] {
        page(&setup, &format!("{name}/pid.php"), "<?php echo getmypid();");
        let root = quoted(&setup.path_text(name));
        let text = format!(
            "[pool.{name}]\nexec = ['php-cgi']\nworkers = {workers}\n\
             [[site]]\nhosts = ['{name}.example']\nroot = {root}\npool = '{name}'\n"
        );
        page(&setup, &format!("conf.d/{name}.toml"), text);
    }
    let include = quoted(&setup.path_text("conf.d/*.toml"));
    let server = setup.with("include", include).allow("left out").start();
    let line = server.wait_for_log("left out");
    assert!(line.contains("x.toml is left out: its pools have 2 workers"), "{line}");
    assert!(line.contains("max_workers is 3"), "{line}");
    assert_eq!(get(&server, "y", "/pid.php"), 200);
    assert_eq!(get(&server, "x", "/pid.php"), 404);
    server.stop();
}
