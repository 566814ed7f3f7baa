//! Syslog: lines of both logs, over every kind of socket, and daemons that come and go.

use std::io::Read;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;

use crate::harness::{PATIENCE, Server, Setup, peers, wait_for};

/// Receives messages until one contains `text`, and gives all of them.
fn receive_until(mut receive: impl FnMut(&mut [u8]) -> std::io::Result<usize>, text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut buffer = [0; 20_000];
    loop {
        let count = receive(&mut buffer).unwrap_or_else(|error| panic!("{error} after {found:#?}"));
        found.push(String::from_utf8_lossy(&buffer[..count]).into_owned());
        if found.last().is_some_and(|last| last.contains(text)) {
            return found;
        }
    }
}

fn setup(address: &str) -> Setup {
    Setup::c_app(1)
        .with("syslog", true)
        .with_text("syslog_addr", address)
        .with_text("syslog_prefix", "shop")
}

fn bind_datagram(path: &Path) -> UnixDatagram {
    let daemon = UnixDatagram::bind(path).expect("a socket");
    daemon.set_read_timeout(Some(PATIENCE)).expect("a deadline");
    daemon
}

#[test]
fn both_logs_go_to_syslog_and_to_their_files() {
    let daemon = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    daemon.set_read_timeout(Some(PATIENCE)).expect("a deadline");
    let address = format!("udp://{}", daemon.local_addr().expect("its address"));
    let server = setup(&address).start();
    let arbiter = server.pid;
    let first = receive_until(|buffer| daemon.recv(buffer), "Booting worker");
    assert!(
        first[0].starts_with(&format!("<14>gunicorn.shop.error: [{arbiter}] Starting rgunicorn ")),
        "{first:?}"
    );
    assert!(first.iter().all(|text| text.ends_with('\0')), "{first:?}");
    let worker = server.wait_for_workers(1)[0];
    assert_eq!(server.get("/?seen").status, 200);
    let found = receive_until(|buffer| daemon.recv(buffer), "GET /?seen");
    let line = found.last().expect("a message");
    assert!(
        line.starts_with(&format!("<14>gunicorn.shop.access: [{worker}] 127.0.0.1 - - [")),
        "{line}"
    );
    let written = wait_for("the line in the file", || {
        server.access_log().into_iter().find(|line| line.contains("/?seen"))
    });
    assert!(line.contains(&written), "{line} is not {written}");
    assert!(server.log().contains("Starting rgunicorn"));
    server.stop();
}

#[test]
fn severity_and_facility_make_the_priority() {
    let setup = setup("")
        .with_text("syslog_facility", "local3")
        .allow("Invalid request");
    let path = setup.path("log.sock");
    let daemon = bind_datagram(&path);
    let server = setup
        .with_text("syslog_addr", &format!("unix://{}#dgram", path.display()))
        .start();
    let mut client = server.connect();
    client.send("BROKEN\r\n\r\n");
    assert_eq!(client.response("GET").status, 400);
    // Facility 19, severity 4: a warning.
    let found = receive_until(|buffer| daemon.recv(buffer), "Invalid request from ip=127.0.0.1");
    let line = found.last().expect("a message");
    assert!(
        line.starts_with(&format!("<156>gunicorn.shop.error: [{}] Invalid", server.front())),
        "{line}"
    );
    server.stop();
}

#[test]
fn access_lines_go_to_syslog_without_a_file_and_stay_out_of_it_when_told_to() {
    for no_access in [false, true] {
        let setup = setup("")
            .with_text("accesslog", "")
            .with("disable_redirect_access_to_syslog", no_access)
            .allow("Invalid request");
        let path = setup.path("log.sock");
        let daemon = bind_datagram(&path);
        let server = setup
            .with_text("syslog_addr", &format!("unix://{}", path.display()))
            .start();
        assert_eq!(server.get("/?seen").status, 200);
        // Written by the same process, after the line that is looked for.
        let mut client = server.connect();
        client.send("BROKEN\r\n\r\n");
        assert_eq!(client.response("GET").status, 400);
        let found = receive_until(|buffer| daemon.recv(buffer), "Invalid request");
        let seen = found
            .iter()
            .any(|text| text.contains(".access: ") && text.contains("/?seen"));
        assert_eq!(seen, !no_access, "{found:?}");
        server.stop();
    }
}

#[test]
fn streams_carry_messages_apart() {
    let setup = setup("");
    let path = setup.path("log.sock");
    let listener = UnixListener::bind(&path).expect("a socket");
    let server = setup
        .with_text("syslog_addr", &format!("unix://{}", path.display()))
        .start();
    let (mut arbiter, _) = listener.accept().expect("a connection");
    arbiter.set_read_timeout(Some(PATIENCE)).expect("a deadline");
    let text = read_until(&mut arbiter, "Booting worker");
    assert!(text.starts_with("<14>gunicorn.shop.error: ["), "{text}");
    assert!(text.contains("\0<14>gunicorn.shop.error: ["), "{text}");
    server.stop();

    let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let server = self::setup(&format!("tcp://{}", listener.local_addr().expect("its address"))).start();
    let (mut arbiter, _) = listener.accept().expect("a connection");
    arbiter.set_read_timeout(Some(PATIENCE)).expect("a deadline");
    let text = read_until(&mut arbiter, "Booting worker");
    assert!(text.contains("\0\n<14>gunicorn.shop.error: ["), "{text}");
    server.stop();
}

fn read_until(stream: &mut impl Read, wanted: &str) -> String {
    let (mut text, mut buffer) = (String::new(), [0; 4096]);
    while !text.contains(wanted) {
        let count = stream
            .read(&mut buffer)
            .unwrap_or_else(|error| panic!("{error} after {text:?}"));
        assert_ne!(count, 0, "the stream ended after {text:?}");
        text.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    text
}

#[test]
fn a_daemon_may_be_away_at_the_start_and_may_be_started_anew() {
    let setup = setup("").allow("cannot send log lines to syslog");
    let path = setup.path("log.sock");
    let server = setup
        .with_text("syslog_addr", &format!("unix://{}", path.display()))
        .start();
    server.wait_for_log("cannot send log lines to syslog to unix://");
    for round in 0..3 {
        let daemon = bind_datagram(&path);
        let target = format!("/?round={round}");
        assert_eq!(server.get(&target).status, 200);
        let found = receive_until(|buffer| daemon.recv(buffer), &target);
        // What was logged while nobody listened comes first.
        assert!(
            round > 0 || found.iter().any(|text| text.contains("Booting worker")),
            "{found:?}"
        );
        drop(daemon);
        std::fs::remove_file(&path).expect("the socket is removed");
    }
    server.stop();
}

#[test]
fn an_unknown_facility_stops_the_start() {
    let ended = setup("udp://127.0.0.1:514")
        .with_text("syslog_facility", "local9")
        .run_to_end();
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.stderr.contains("syslog_facility"), "{}", ended.stderr);
}

#[test]
fn rsyslogd_takes_the_lines_from_its_socket_and_over_tcp() {
    let daemon = peers::Rsyslog::start();
    for (place, address) in [&daemon.unix, &daemon.tcp].into_iter().enumerate() {
        let server: Server = setup(address).with_text("syslog_facility", "local1").start();
        let target = format!("/?socket={place}");
        assert_eq!(server.get(&target).status, 200);
        let worker = server.wait_for_workers(1)[0];
        let line = wait_for("the line in rsyslogd's file", || {
            daemon.lines().into_iter().find(|line| line.contains(&target))
        });
        assert!(line.starts_with("local1.info "), "{line}");
        assert!(
            line.contains(&format!("gunicorn.shop.access: [{worker}] 127.0.0.1 - - [")),
            "{line}"
        );
        server.stop();
    }
}

#[test]
fn what_a_wsgi_app_logs_keeps_its_level_and_its_process() {
    let app = "import logging, sys\n\
        def application(environ, start_response):\n\
        \x20   logging.getLogger('gunicorn.error').critical('from the app')\n\
        \x20   print('printed', flush=True)\n\
        \x20   print('done', file=sys.stderr, flush=True)\n\
        \x20   start_response('200 OK', [])\n\
        \x20   return [b'ok']\n";
    let setup = Setup::new()
        .with_text("wsgi_app", "app")
        .with("syslog", true)
        .with_text("syslog_prefix", "shop")
        .with("capture_output", true)
        .allow("from the app");
    std::fs::write(setup.path("app.py"), app).expect("the app is written");
    let path = setup.path("log.sock");
    let daemon = bind_datagram(&path);
    let errors = setup.path_text("error.log");
    let server = setup
        .with_text("errorlog", &errors)
        .with_text("syslog_addr", &format!("unix://{}", path.display()))
        .start_with_log("error.log");
    let worker = server.wait_for_workers(1)[0];
    let found = receive_until(|buffer| daemon.recv(buffer), "] done");
    for line in [
        "<10>gunicorn.shop.error: [PID] from the app\0",
        "<14>gunicorn.shop.error: [PID] printed\0",
    ] {
        let line = line.replace("PID", &worker.to_string());
        assert!(found.contains(&line), "{line:?} is not in {found:#?}");
    }
    assert!(server.log().contains("\nprinted\n"), "{}", server.log());
    server.stop();
}
