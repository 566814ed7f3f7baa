//! HUP with named pools of every kind: apps, scripts, PHP, servers of others, and listeners that speak FastCGI.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;

use crate::harness::apps::c_app;
use crate::harness::fastcgi::{answer, encode};
use crate::harness::hammer::{Hammer, Plan};
use crate::harness::peers::fastcgi_server;
use crate::harness::server::{list, quoted};
use crate::harness::tree::{ask, page, script};
use crate::harness::{PATIENCE, Server, Setup, procs, wait_until};
use crate::reload_tenants::{get, hammer, host, pid, reload, rewrite, setup, status, tenant, write};

/// Tenants with an app in Python, CGI scripts and PHP, with these lines in their pools.
fn kinds(setup: &Setup, more: &str) -> BTreeMap<&'static str, String> {
    const APP: &str = "import os\ndef application(environ, start_response):\n\
        \x20   start_response('200 OK', [])\n    return [b'%d' % os.getpid()]\n";
    page(setup, "app/hello.py", APP);
    let text = "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n%s' $PPID\n";
    script(setup, "site/pid.sh", text);
    page(setup, "site/pid.php", "<?php echo getmypid();\n");
    let (root, app) = (quoted(&setup.path_text("site")), quoted(&setup.path_text("app")));
    let site = |name: &str, suffix: &str| {
        format!(
            "[[site]]\nhosts = ['{name}.example']\nroot = {root}\n\
             [[site.route]]\nsuffix = '{suffix}'\npool = 'p_{name}'\n"
        )
    };
    BTreeMap::from([
        (
            "wsgi",
            format!(
                "[pool.p_wsgi]\napp = 'hello:application'\nchdir = {app}\n{more}\n\
                 [[site]]\nhosts = ['wsgi.example']\npool = 'p_wsgi'\n"
            ),
        ),
        (
            "cgi",
            format!("[pool.p_cgi]\nprotocol = 'cgi'\n{more}\n") + &site("cgi", ".sh"),
        ),
        (
            "php",
            format!("[pool.p_php]\nexec = ['php-cgi']\n{more}\n") + &site("php", ".php"),
        ),
    ])
}

fn target(kind: &str) -> &'static str {
    match kind {
        "cgi" => "/pid.sh",
        "php" => "/pid.php",
        _ => "/",
    }
}

#[test]
fn idle_and_demand_started_workers_of_all_kinds_are_left_alone() {
    let setup = setup();
    let texts = kinds(&setup, "workers = { min = 0, max = 2, idle = '60s' }");
    let others = kinds(&setup, "workers = { min = 1, max = 2 }\nenv = { A = 'b' }");
    for (name, text) in &texts {
        write(&setup, name, text);
    }
    let server = setup.start();
    let pids = || -> Vec<String> {
        let pid = |name: &&str| {
            let response = ask(&server.address, "GET", &host(name), target(name));
            assert_eq!(response.status, 200, "{name}");
            response.text().trim().to_owned()
        };
        texts.keys().map(pid).collect()
    };
    let mut before = pids();
    for (place, name) in texts.keys().enumerate() {
        for text in [&others[name], &texts[name], &others[name]] {
            rewrite(&server, name, text);
            let line = reload(&server);
            assert!(line.contains("2 pools go on untouched, replaced: "), "{line}");
            let now = pids();
            for (one, (now, before)) in now.iter().zip(&before).enumerate() {
                assert_eq!(one != place, now == before, "{name}: {one}");
            }
            before = now;
            wait_until("the old worker to be gone", || live_workers(&server) == 3);
        }
    }
    server.stop();
}

#[test]
fn apps_scripts_and_php_are_replaced_under_load() {
    let setup = setup();
    let texts = kinds(&setup, "workers = 2");
    for (name, text) in &texts {
        write(&setup, name, text);
    }
    let server = setup.start();
    let loads = ["wsgi", "cgi", "php"].map(|name| {
        let plan = Plan {
            clients: 3,
            method: "POST",
            target: format!("http://{name}.example{}", target(name)),
            per_connection: 7,
        };
        (name, Hammer::start(&server.address, &plan))
    });
    for round in 0..4 {
        let more = format!("workers = 2\nenv = {{ ROUND = '{round}' }}");
        for (name, text) in &texts {
            rewrite(&server, name, &text.replace("workers = 2", &more));
        }
        let line = reload(&server);
        assert!(
            line.contains("0 pools go on untouched, replaced: p_cgi, p_php, p_wsgi"),
            "{line}"
        );
        loads.iter().for_each(|(_, load)| load.wait_for_more(10));
    }
    for (name, load) in loads {
        load.stop_unharmed(name);
    }
    wait_until("the old workers to be gone", || live_workers(&server) == 5);
    server.stop();
}

/// Workers and runners.
fn live_workers(server: &Server) -> usize {
    let front = server.front();
    let children = procs::children(server.pid).into_iter();
    children.filter(|child| child.is_alive() && child.pid != front).count()
}

#[test]
fn servers_that_others_run_are_exchanged_in_place() {
    let peers = [fastcgi_server(&[&c_app()]), fastcgi_server(&[&c_app()])];
    let connected = |place: usize| {
        format!(
            "[pool.far]\nconnect = {}\nworkers = 1\n[[site]]\nhosts = ['far.example']\npool = 'far'\n",
            list(&[&peers[place].upstream()])
        )
    };
    let setup = setup();
    write(&setup, "far", &connected(0));
    write(&setup, "near", &tenant("near", "workers = 1"));
    let server = setup.start();
    let near = pid(&server, "near");
    for place in [1, 0, 1] {
        let load = hammer(&server, "far", 10);
        load.wait_for_more(10);
        rewrite(&server, "far", &connected(place));
        assert!(reload(&server).contains("1 pool goes on untouched, replaced: far"));
        load.wait_for_more(10);
        load.stop_unharmed("far");
        assert_eq!(pid(&server, "far"), peers[place].pid());
    }
    fs::remove_file(server.path("conf.d/far.toml")).expect("a tenant's file");
    reload(&server);
    assert_eq!((status(&server, "far"), pid(&server, "near")), (404, near));
    server.stop();
}

#[test]
fn web_servers_that_speak_fastcgi_keep_their_connections_and_get_the_new_pool() {
    let setup = Setup::new();
    let socket = setup.path_text("fcgi.sock");
    let tables = |round: i32| {
        let listener = format!("[[listener]]\nbind = 'unix:{socket}'\nprotocol = 'fastcgi'\npool = 'far'\n");
        // Another pool before it, or not: its place changes.
        let other = tenant("aaa", "workers = 1").repeat(usize::from(round % 2 == 1));
        let far = tenant("far", &format!("workers = 1\nenv = {{ ROUND = '{round}' }}"));
        other + &far + &tenant("near", "workers = 1") + &listener
    };
    let mut server = setup.tables(&tables(0)).start();
    let front = server.front();
    let mut stream = UnixStream::connect(&socket).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    for round in 0..4 {
        if round > 0 {
            let mark = server.log().len();
            server.reload_with_tables(&tables(round));
            server.wait_for_log_after(mark, "Reloaded: 1 pool");
        }
        let variables = [
            ("REQUEST_METHOD", "GET"),
            ("SCRIPT_NAME", "/pid"),
            ("REQUEST_URI", "/pid"),
        ];
        stream.write_all(&encode(&variables, b"", true)).expect("it is taken");
        let text = answer(&mut stream).body();
        let serves: i32 = text.trim().parse().unwrap_or_else(|_| panic!("{text}"));
        assert_eq!(procs::environment(serves).get("ROUND"), Some(&round.to_string()));
    }
    assert_eq!(server.front(), front);
    server.stop();
}

#[test]
fn one_pool_without_sites_becomes_many_and_one_again() {
    let alone = tenant("a", "workers = 1").replace("hosts = ['a.example']\n", "");
    let mut server = Setup::new().tables(&alone).start();
    let (front, first) = (server.front(), pid(&server, "any"));
    let mut kept = server.connect();
    assert_eq!(get(&mut kept, "any", "/pid").trim(), first.to_string());
    let load = hammer(&server, "any", usize::MAX);
    for _ in 0..3 {
        let mut reload_with = |text: &str| {
            let mark = server.log().len();
            server.reload_with_tables(text);
            server.wait_for_log_after(mark, "Reloaded: ");
        };
        reload_with(&(tenant("b", "workers = 1") + &alone));
        assert_ne!(pid(&server, "b"), first);
        assert_eq!(get(&mut kept, "any", "/pid").trim(), first.to_string());
        let mark = server.log().len();
        server.reload_with_tables(&alone);
        server.wait_for_log_after(mark, "Reloaded: ");
        assert_eq!(pid(&server, "b"), first);
        assert_eq!(get(&mut kept, "any", "/pid").trim(), first.to_string());
    }
    load.wait_for_more(10);
    load.stop_unharmed("the pool that stays");
    assert_eq!(server.front(), front);
    server.stop();
}
