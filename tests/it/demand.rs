//! Pools that have as many workers as their requests need: none before the first, never more than allowed, and few
//! again when nobody asks.

use std::collections::BTreeSet;
use std::fs;

use crate::harness::server::{list, quoted};
use crate::harness::tree::{ask, page, script};
use crate::harness::{Client, Server, Setup, wait_until};

/// What answers after a file is gone, and says who it is; it appends to another file when it begins.
const HOLD_PHP: &str = "<?php header('Content-Type: text/plain');\n\
    file_put_contents('BEGUN', getmypid().\"\\n\", FILE_APPEND);\n\
    while (true) { clearstatcache(); if (!file_exists('GATE')) break; usleep(2000); }\n\
    echo getmypid();\n";
const HOLD_PY: &str = "import os, time\n\
    def application(environ, start_response):\n\
    \x20   with open('BEGUN', 'a') as file:\n\
    \x20       file.write('%d\\n' % os.getpid())\n\
    \x20   while os.path.exists('GATE'):\n\
    \x20       time.sleep(0.002)\n\
    \x20   start_response('200 OK', [('Content-Type', 'text/plain')])\n\
    \x20   return [b'%d' % os.getpid()]\n";
const HOLD_SH: &str = "#!/bin/sh\necho $PPID >>BEGUN\nwhile [ -e GATE ]; do sleep 0.01; done\n\
    printf 'Content-Type: text/plain\\n\\n%s' $PPID\n";

/// A site with a page, and a pool of this kind for `/hold` with these workers.
fn setup(kind: &str, workers: &str) -> Setup {
    let setup = Setup::new();
    page(&setup, "site/index.html", "front\n");
    let (gate, begun) = (setup.path_text("gate"), setup.path_text("begun"));
    let made = |text: &str| text.replace("GATE", &gate).replace("BEGUN", &begun);
    page(&setup, "site/hold.php", made(HOLD_PHP));
    script(&setup, "site/hold.sh", made(HOLD_SH));
    page(&setup, "app/hold.py", made(HOLD_PY));
    let program = match kind {
        "php" => "exec = ['php-cgi']".to_owned(),
        "cgi" => "protocol = 'cgi'".to_owned(),
        _ => format!("app = 'hold:application'\nchdir = {}", quoted(&setup.path_text("app"))),
    };
    let route = match kind {
        "php" => "suffix = '.php'",
        "cgi" => "suffix = '.sh'",
        _ => "path = '/hold'",
    };
    let tables = format!(
        "[pool.held]\n{program}\nworkers = {workers}\n[[site]]\nroot = {}\n\
         [[site.route]]\n{route}\npool = 'held'\n[[site.route]]\nstatic = true\n",
        quoted(&setup.path_text("site"))
    );
    setup.tables(&tables)
}

fn target(kind: &str) -> String {
    match kind {
        "wsgi" => "/hold".to_owned(),
        "cgi" => "/hold.sh".to_owned(),
        kind => format!("/hold.{kind}"),
    }
}

/// Closes the gate and sends so many requests, each on a connection of its own.
fn crowd(server: &Server, kind: &str, count: usize) -> Vec<Client> {
    fs::write(server.path("gate"), "").expect("the gate");
    let _ = fs::remove_file(server.path("begun"));
    let mut clients: Vec<Client> = (0..count).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send(format!("GET {} HTTP/1.1\r\nHost: test\r\n\r\n", target(kind)));
    }
    clients
}

fn begun(server: &Server) -> usize {
    fs::read_to_string(server.path("begun"))
        .unwrap_or_default()
        .lines()
        .count()
}

/// Opens the gate, and gives the processes that have answered.
fn let_go(server: &Server, clients: &mut [Client]) -> BTreeSet<String> {
    fs::remove_file(server.path("gate")).expect("the gate");
    let mut pids = BTreeSet::new();
    for client in clients {
        let response = client.response("GET");
        assert_eq!(response.status, 200, "{}", server.log());
        pids.insert(response.text());
    }
    pids
}

#[test]
fn the_first_request_starts_a_worker_and_quiet_stops_the_last() {
    for kind in ["php", "wsgi", "cgi"] {
        let server = setup(kind, "{ min = 0, max = 3, idle = '1s' }").start();
        assert_eq!(server.get("/").text(), "front\n");
        assert_eq!(server.workers(), Vec::<i32>::new(), "{kind}");
        for _ in 0..2 {
            let response = server.get(&target(kind));
            assert_eq!(response.status, 200, "{kind}: {}", server.log());
            server.wait_for_workers(1);
            server.wait_for_workers(0);
        }
        assert!(!server.log().contains("[WARNING]"), "{}", server.log());
        server.stop();
    }
}

#[test]
fn a_pool_grows_while_requests_wait_and_never_beyond_its_limit() {
    for kind in ["php", "wsgi"] {
        let server = setup(kind, "{ min = 0, max = 3, idle = '1s' }").start();
        let mut clients = crowd(&server, kind, 7);
        wait_until("all workers to be busy", || begun(&server) == 3);
        assert_eq!(server.wait_for_workers(3).len(), 3, "{kind}");
        // Others still wait, and nobody is started for them.
        let pids = let_go(&server, &mut clients);
        assert_eq!(pids.len(), 3, "{kind}: {pids:?}");
        let booted = server.log().matches("Booting worker").count();
        assert_eq!(booted, 3, "{kind}: {}", server.log());
        server.wait_for_workers(0);
        server.stop();
    }
}

#[test]
fn a_pool_shrinks_to_its_least() {
    let server = setup("php", "{ min = 1, max = 3, idle = '1s' }").start();
    let first = server.wait_for_workers(1);
    let mut clients = crowd(&server, "php", 3);
    wait_until("all workers to be busy", || begun(&server) == 3);
    let_go(&server, &mut clients);
    let left = server.wait_for_workers(1);
    assert_eq!(server.get("/hold.php").text(), left[0].to_string());
    assert!(!first.is_empty());
    server.stop();
}

#[test]
fn scripts_at_once_are_as_many_as_the_pool_allows() {
    let server = setup("cgi", "{ min = 0, max = 3, idle = '1s' }").start();
    let mut clients = crowd(&server, "cgi", 7);
    wait_until("three scripts to run", || begun(&server) == 3);
    let runners = let_go(&server, &mut clients);
    assert_eq!(runners.len(), 1, "{runners:?}");
    assert_eq!(begun(&server), 7);
    server.wait_for_workers(0);
    server.stop();
}

#[test]
fn a_pool_that_cannot_start_fails_its_requests_and_nobody_elses() {
    let setup = Setup::new().allow("");
    page(&setup, "site/index.html", "front\n");
    let tables = format!(
        "[pool.broken]\nexec = ['/bin/false']\nprotocol = 'fastcgi'\nworkers = {{ min = 0, max = 3 }}\nqueue_timeout = '2s'\n\
         [[site]]\nroot = {root}\n\
         [[site]]\nhosts = ['broken.example']\npool = 'broken'\n",
        root = quoted(&setup.path_text("site"))
    );
    let server = setup.tables(&tables).start();
    for _ in 0..2 {
        let response = ask(&server.address, "GET", "broken.example", "/");
        assert!(matches!(response.status, 502 | 503), "{}", response.status);
        assert_eq!(server.get("/").text(), "front\n");
    }
    let starts = server.log().matches("Booting worker").count();
    assert!(
        (1..20).contains(&starts),
        "it was started {starts} times\n{}",
        server.log()
    );
    server.stop();
}

#[test]
fn workers_that_are_replaced_after_each_request_lose_none() {
    let server = setup("php", "{ min = 0, max = 2, idle = '1s' }\nmax_requests = 1").start();
    // A worker goes on until its replacement is ready.
    let mut pids = BTreeSet::new();
    wait_until("answers of three workers", || {
        let response = server.get("/hold.php");
        assert_eq!(response.status, 200, "{}", server.log());
        pids.insert(response.text());
        pids.len() >= 3
    });
    server.wait_for_workers(0);
    server.stop();
}

#[test]
fn a_worker_that_takes_too_much_memory_is_replaced() {
    let setup = Setup::new();
    page(&setup, "site/index.html", "front\n");
    page(&setup, "site/pid.php", "<?php echo getmypid();");
    page(
        &setup,
        "site/grow.php",
        "<?php ini_set('memory_limit', '-1'); gc_disable(); $x = str_repeat('x', 200 << 20);\n\
         echo getmypid(); register_shutdown_function(function () use ($x) { while (!file_exists('DONE')) usleep(2000); });"
            .replace("DONE", &setup.path_text("done")),
    );
    let tables = format!(
        "[pool.php]\nexec = ['php-cgi']\nworkers = 1\nmax_memory = '100m'\n[[site]]\nroot = {}\n\
         [[site.route]]\nsuffix = '.php'\npool = 'php'\n[[site.route]]\nstatic = true\n",
        quoted(&setup.path_text("site"))
    );
    let server = setup.tables(&tables).start();
    let before = server.get("/pid.php").text();
    let mut client = server.connect();
    client.send("GET /grow.php HTTP/1.1\r\nHost: a\r\n\r\n");
    // Its replacement is there before it has ended, and answers.
    server.wait_for_workers(2);
    wait_until("an answer of another", || server.get("/pid.php").text() != before);
    fs::write(server.path("done"), "").expect("a file");
    assert_eq!(client.response("GET").text(), before);
    server.wait_for_workers(1);
    server.stop();
}

#[test]
fn a_whole_configuration_of_quiet_tenants_has_no_workers() {
    let setup = Setup::new();
    let mut tables = String::new();
    for tenant in 0..20 {
        page(
            &setup,
            &format!("t{tenant}/index.php"),
            format!("<?php echo 'tenant {tenant}';"),
        );
        tables += &format!(
            "[pool.t{tenant}]\nexec = {}\nworkers = {{ min = 0, max = 2, idle = '1s' }}\n\
             [[site]]\nhosts = ['t{tenant}.example']\nroot = {}\npool = 't{tenant}'\n",
            list(&["php-cgi"]),
            quoted(&setup.path_text(&format!("t{tenant}")))
        );
    }
    let server = setup.tables(&tables).start();
    assert_eq!(server.workers(), Vec::<i32>::new());
    for tenant in [3, 17] {
        let response = ask(&server.address, "GET", &format!("t{tenant}.example"), "/");
        assert_eq!(response.text(), format!("tenant {tenant}"));
    }
    server.wait_for_workers(0);
    server.stop();
}
