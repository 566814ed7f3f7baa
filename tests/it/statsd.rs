//! Metrics: their names and form are Gunicorn's, and a daemon that is away or gone changes nothing.

use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::harness::{PATIENCE, Setup, wait_until};

/// Receives datagrams until `is_last` is true of one, and gives all of them.
fn receive_until(
    mut receive: impl FnMut(&mut [u8]) -> std::io::Result<usize>,
    is_last: impl Fn(&str) -> bool,
) -> Vec<String> {
    let mut found = Vec::new();
    let mut buffer = [0; 2048];
    loop {
        // Gauges come for ever, one a second.
        assert!(found.len() < 100, "waited in vain: {found:#?}");
        let count = receive(&mut buffer).unwrap_or_else(|error| panic!("{error} after {found:#?}"));
        let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
        let done = is_last(&text);
        found.push(text);
        if done {
            return found;
        }
    }
}

fn udp_daemon() -> (UdpSocket, String) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a deadline");
    let address = socket.local_addr().expect("its address").to_string();
    (socket, address)
}

#[test]
fn each_response_is_three_datagrams() {
    let (daemon, address) = udp_daemon();
    let server = Setup::c_app(2).with_text("statsd_host", &address).start();
    assert_eq!(server.get("/status?code=404").status, 404);
    let found = receive_until(|buffer| daemon.recv(buffer), |text| text.contains("status.404"));
    let [.., duration, requests, status] = found.as_slice() else {
        panic!("too few: {found:?}");
    };
    let milliseconds = duration
        .strip_prefix("gunicorn.request.duration:")
        .and_then(|rest| rest.strip_suffix("|ms"));
    assert!(
        milliseconds.is_some_and(|number| number.contains('.') && number.parse::<f64>().is_ok()),
        "{duration}"
    );
    assert_eq!(requests, "gunicorn.requests:1|c|@1.0");
    assert_eq!(status, "gunicorn.request.status.404:1|c|@1.0");
    server.stop();
}

#[test]
fn workers_are_a_gauge_that_follows_their_number() {
    let (daemon, address) = udp_daemon();
    let server = Setup::c_app(1).with_text("statsd_host", &address).start();
    receive_until(|buffer| daemon.recv(buffer), |text| text == "gunicorn.workers:1|g");
    server.signal(Signal::SIGTTIN);
    receive_until(|buffer| daemon.recv(buffer), |text| text == "gunicorn.workers:2|g");
    // Again, though nothing has changed.
    receive_until(|buffer| daemon.recv(buffer), |text| text == "gunicorn.workers:2|g");
    server.stop();
}

#[test]
fn prefix_tags_backlog_and_log_lines_over_a_unix_socket() {
    let setup = Setup::bad_fastcgi(&[]).with("workers", 1);
    let path = setup.path("statsd.sock");
    let daemon = UnixDatagram::bind(&path).expect("a socket");
    daemon.set_read_timeout(Some(PATIENCE)).expect("a deadline");
    let server = setup
        .with_text("statsd_host", &format!("unix://{}", path.display()))
        .with_text("statsd_prefix", "shop")
        .with_text("dogstatsd_tags", "env:test,team:a")
        .with("enable_backlog_metric", true)
        .allow("")
        .start();
    let (mut sees_backlog, mut sees_log) = (false, false);
    assert_eq!(server.get("/die-before").status, 502);
    let found = receive_until(
        |buffer| daemon.recv(buffer),
        |text| {
            assert!(
                text.starts_with("shop.gunicorn.") && text.ends_with("|#env:test,team:a"),
                "{text}"
            );
            text.starts_with("shop.gunicorn.request.status.502:1|c|@1.0|#")
        },
    );
    for text in found.into_iter().chain(receive_until(
        |buffer| daemon.recv(buffer),
        |text| text.contains(".backlog:"),
    )) {
        sees_backlog |= text.starts_with("shop.gunicorn.backlog:0|h|#");
        sees_log |=
            text.starts_with("shop.gunicorn.log.error:1|c|@1.0|#") || text.starts_with("shop.gunicorn.log.warning:1|c");
    }
    assert!(sees_backlog && sees_log, "backlog {sees_backlog}, log {sees_log}");
    server.stop();
}

#[test]
fn an_exception_of_the_app_is_counted_as_one_and_not_as_an_error() {
    let (daemon, address) = udp_daemon();
    let setup = Setup::bare(&["--statsd-host", &address, "app"]).allow("");
    let app = "import logging\n\
               def application(environ, start_response):\n\
               \x20   if environ['PATH_INFO'] == '/raise':\n\
               \x20       raise ValueError('on purpose')\n\
               \x20   if environ['PATH_INFO'] == '/error':\n\
               \x20       logging.getLogger('gunicorn.error').error('it failed')\n\
               \x20   start_response('200 OK', [('Content-Length', '0')])\n\
               \x20   return []\n";
    std::fs::write(setup.path("app.py"), app).expect("an app");
    let server = setup.start();
    let count_of = |target: &str| {
        server.get(target);
        let mut found = receive_until(|buffer| daemon.recv(buffer), |text| text.contains("gunicorn.log."));
        found.pop().unwrap_or_default()
    };
    assert_eq!(count_of("/raise"), "gunicorn.log.exception:1|c|@1.0");
    assert_eq!(count_of("/error"), "gunicorn.log.error:1|c|@1.0");
    server.stop();
}

#[test]
fn a_daemon_that_is_gone_costs_one_warning_per_process_and_nothing_else() {
    let (daemon, address) = udp_daemon();
    drop(daemon);
    let warning = format!("cannot send metrics to udp://{address}: ");
    let server = Setup::c_app(1)
        .with_text("statsd_host", &address)
        .allow(&warning)
        .start();
    for _ in 0..50 {
        assert_eq!(server.get("/").status, 200);
    }
    wait_until("50 more access lines", || server.access_log().len() > 50);
    server.wait_for_log(&warning);
    let count = server.log().matches(&warning).count();
    assert!(count <= 2, "{count} warnings:\n{}", server.log());
    // One that comes later is told of what happens from then on.
    let daemon = UdpSocket::bind(&address).expect("the same port");
    daemon
        .set_read_timeout(Some(Duration::from_secs(30)))
        .expect("a deadline");
    assert_eq!(server.get("/status?code=403").status, 403);
    receive_until(|buffer| daemon.recv(buffer), |text| text.contains("status.403"));
    server.stop();
}

#[test]
fn a_reload_sends_metrics_elsewhere() {
    let ((first, address), (second, other)) = (udp_daemon(), udp_daemon());
    let mut server = Setup::c_app(1).with_text("statsd_host", &address).start();
    receive_until(|buffer| first.recv(buffer), |text| text == "gunicorn.workers:1|g");
    let before = server.wait_for_workers(1);
    server.reload_with("statsd_host", format!("\"{other}\""));
    receive_until(|buffer| second.recv(buffer), |text| text.contains("gunicorn.workers:"));
    // Until then the old generation may answer, and tells the first.
    wait_until("the old worker to leave", || {
        let now = server.workers();
        now.len() == 1 && now != before
    });
    assert_eq!(server.get("/status?code=418").status, 418);
    receive_until(|buffer| second.recv(buffer), |text| text.contains("status.418"));
    server.stop();
}
