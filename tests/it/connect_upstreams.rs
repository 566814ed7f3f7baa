//! `connect`: existing FastCGI servers, several of them, some of them dead.

use nix::sys::signal::Signal;

use crate::harness::apps::{app, c_app};
use crate::harness::hammer::{Hammer, Plan};
use crate::harness::peers::{Peer, fastcgi_server};
use crate::harness::server::list;
use crate::harness::{Setup, procs, request, wait_until};

fn connected_to(peers: &[&Peer]) -> Setup {
    let upstreams: Vec<String> = peers.iter().map(|peer| peer.upstream()).collect();
    let upstreams: Vec<&str> = upstreams.iter().map(String::as_str).collect();
    let setup = Setup::new();
    let record = format!("RECORD_FILE={}", setup.path_text("record"));
    setup.with("connect", list(&upstreams)).with("param", list(&[&record]))
}

#[test]
fn several_servers_share_the_load() {
    let peers = [fastcgi_server(&[&c_app()]), fastcgi_server(&[&c_app()])];
    let server = connected_to(&[&peers[0], &peers[1]]).start();
    let mut slow = server.connect();
    slow.send("GET /record?id=slow&ms=1000 HTTP/1.1\r\nHost: a\r\n\r\n");
    wait_until("one of them to be busy", || {
        std::fs::read_to_string(server.path("record")).is_ok_and(|text| text.ends_with('\n'))
    });
    let record = std::fs::read_to_string(server.path("record")).expect("the record");
    let busy: i32 = record
        .trim()
        .rsplit(' ')
        .next()
        .and_then(|pid| pid.parse().ok())
        .expect("a pid");
    let other: i32 = server.get("/pid").text().trim().parse().expect("a pid");
    let mut both = [busy, other];
    both.sort_unstable();
    let mut expected = [peers[0].pid(), peers[1].pid()];
    expected.sort_unstable();
    assert_eq!(both, expected);
    assert_eq!(slow.response("GET").status, 200);
    assert!(server.workers().is_empty(), "nothing is started");
    server.stop();
}

#[test]
fn a_dead_server_costs_no_request_and_is_used_again_when_it_is_back() {
    let alive = fastcgi_server(&[&c_app()]);
    let setup = Setup::new();
    let gone = format!("unix:{}", setup.path_text("late.sock"));
    let server = setup
        .with("connect", list(&[&gone, &alive.upstream()]))
        .allow("")
        .start();
    let plan = Plan {
        clients: 4,
        method: "POST",
        target: "/".to_owned(),
        per_connection: 20,
    };
    let hammer = Hammer::start(&server.address, &plan);
    hammer.wait_for_more(300);
    hammer.stop_unharmed("under load");
    // The other one comes up at the address that was dead.
    let late = fastcgi_server(&[&c_app()]);
    let crate::harness::Address::Unix(path) = &late.address else {
        panic!("a unix socket")
    };
    std::os::unix::fs::symlink(path, server.path("late.sock")).expect("a link to the socket");
    drop(alive);
    wait_until("the other one to be used", || {
        server.get("/pid").text().trim() == late.pid().to_string()
    });
    server.stop();
}

#[test]
fn no_server_at_all_is_a_clean_error_in_time() {
    let setup = Setup::new();
    let gone = format!("unix:{}", setup.path_text("none.sock"));
    let server = setup
        .with("connect", list(&[&gone]))
        .with_text("queue_timeout", "500ms")
        .allow("")
        .start_unready();
    let response = request(&server.address, "POST", "/", &[], b"x");
    assert!(matches!(response.status, 502 | 503), "{response:?}");
    server.stop();
}

#[test]
fn a_server_that_misbehaves_is_not_killed_and_fails_only_its_request() {
    let peer = fastcgi_server(&[&app("bad_fastcgi.py")]);
    let server = connected_to(&[&peer]).with_text("timeout", "1s").allow("").start();
    for (target, status) in [("/garbage", 502), ("/wrong-id", 504), ("/bad-head", 502)] {
        assert_eq!(
            request(&server.address, "POST", target, &[], b"x").status,
            status,
            "{target}"
        );
        assert_eq!(server.get("/").status, 200, "after {target}");
    }
    assert_eq!(request(&server.address, "POST", "/hangs", &[], b"x").status, 504);
    assert!(procs::is_alive(peer.pid()), "a server that is not ours was killed");
    for process in procs::descendants(peer.pid()) {
        procs::signal(process.pid, Signal::SIGKILL);
    }
    procs::signal(peer.pid(), Signal::SIGKILL);
    server.stop();
}

#[test]
fn a_reload_keeps_using_them_without_a_failed_request() {
    let peer = fastcgi_server(&[&c_app()]);
    let server = connected_to(&[&peer]).start();
    let plan = Plan {
        clients: 4,
        method: "GET",
        target: "/".to_owned(),
        per_connection: 20,
    };
    let hammer = Hammer::start(&server.address, &plan);
    for _ in 0..3 {
        let front = server.front();
        hammer.wait_for_more(100);
        server.signal(Signal::SIGHUP);
        wait_until("a new front alone", || {
            server.fronts().len() == 1 && server.fronts() != [front]
        });
    }
    hammer.stop_unharmed("under load");
    server.stop();
}

#[test]
fn a_refused_tcp_connection_costs_no_request() {
    let alive = fastcgi_server(&[&c_app()]);
    // A port of which nobody listens: it was bound a moment ago and never listened on.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a port")
        .port();
    let gone = format!("tcp:127.0.0.1:{port}");
    let server = Setup::new()
        .with("connect", list(&[&gone, &alive.upstream()]))
        .allow("")
        .start();
    for _ in 0..20 {
        let response = request(&server.address, "POST", "/", &[], b"x");
        assert_eq!(response.status, 200, "{}", server.log());
    }
    server.stop();
}

#[test]
fn a_server_that_refuses_is_named_in_the_log() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its number");
    drop(taken);
    let server = Setup::new()
        .with("connect", list(&[&format!("tcp:{address}")]))
        .allow("")
        .start_unready();
    assert_eq!(request(&server.address, "POST", "/", &[], b"x").status, 502);
    server.wait_for_log(&format!("cannot connect to tcp:{address}: Connection refused"));
    server.stop();
}
