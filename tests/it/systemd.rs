//! What systemd passes and wants to hear: sockets, readiness, reloads, the end.

use std::os::unix::net::UnixDatagram;

use nix::sys::signal::Signal;

use crate::harness::server::list;
use crate::harness::{Address, PATIENCE, Setup, get};

fn heard(socket: &UnixDatagram) -> String {
    let mut buffer = [0; 4096];
    let length = socket.recv(&mut buffer).expect("a message");
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

/// Reads messages until one has this line.
fn wait_to_hear(socket: &UnixDatagram, line: &str) -> String {
    loop {
        let message = heard(socket);
        if message.lines().any(|one| one == line) {
            return message;
        }
    }
}

fn manager(setup: &Setup) -> (UnixDatagram, String) {
    let path = setup.path_text("notify.sock");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a patience");
    (socket, path)
}

#[test]
fn a_service_tells_that_it_is_ready_reloads_and_stops() {
    let setup = Setup::c_app(1);
    let (socket, path) = manager(&setup);
    let mut server = setup
        .env("NOTIFY_SOCKET", &path)
        .allow("nonsense")
        .allow("No application module specified.")
        .allow("Reload failed")
        .start();
    let ready = heard(&socket);
    assert!(
        ready.lines().any(|line| line == "READY=1"),
        "the first message is {ready:?}"
    );
    assert!(
        ready.lines().any(|line| line == format!("MAINPID={}", server.pid)),
        "{ready}"
    );
    server.signal(Signal::SIGHUP);
    let reloading = heard(&socket);
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    wait_to_hear(&socket, "READY=1");
    // A reload that fails ends too, or the manager would wait for it until its own deadline.
    server.reload_with_text("nonsense = 1\n");
    wait_to_hear(&socket, "RELOADING=1");
    wait_to_hear(&socket, "READY=1");
    server.signal(Signal::SIGTERM);
    wait_to_hear(&socket, "STOPPING=1");
    server.wait_for_end(PATIENCE);
    server.stop();
}

#[test]
fn a_service_is_not_ready_before_its_workers_are() {
    let setup = Setup::bad_pipe(&["never-ready"]).with_text("boot_timeout", "1s");
    let (socket, path) = manager(&setup);
    let ended = setup.env("NOTIFY_SOCKET", &path).run_to_end();
    assert_eq!(ended.status.code(), Some(3), "{}", ended.stderr);
    socket.set_nonblocking(true).expect("no waiting");
    let mut buffer = [0; 4096];
    while let Ok(length) = socket.recv(&mut buffer) {
        let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
        assert!(!message.contains("READY=1"), "{message}");
    }
}

#[test]
fn a_watchdog_is_fed() {
    let setup = Setup::c_app(1);
    let (socket, path) = manager(&setup);
    let server = setup.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "200000").start();
    for _ in 0..3 {
        wait_to_hear(&socket, "WATCHDOG=1");
    }
    server.stop();
}

/// Binds two ports, puts them on descriptors 3 and 4, and says so as systemd does.
const PASS_TWO: &str = "
import os, socket, sys
held = [socket.create_server(('127.0.0.1', 0)) for _ in range(2)]
for number, one in enumerate(held, 3):
    os.dup2(one.fileno(), number + 10)
for number in (3, 4):
    os.dup2(number + 10, number, inheritable=True)
os.environ.update(LISTEN_FDS='2', LISTEN_PID=os.environ.get('FAKE_PID') or str(os.getpid()))
os.execv(sys.argv[1], sys.argv[1:])
";

#[test]
fn passed_sockets_take_the_place_of_bind() {
    let server = Setup::c_app(1).launched_by(PASS_TWO).start();
    let line = server.wait_for_log("Listening at: ");
    let addresses: Vec<Address> = line
        .split("http://")
        .skip(1)
        .map(|rest| rest.split([',', ' ']).next().unwrap_or_default())
        .map(|text| Address::Tcp(text.parse().expect("an address")))
        .collect();
    assert_eq!(addresses.len(), 2, "{line}");
    for address in &addresses {
        assert_eq!(get(address, "/").status, 200);
    }
    // They are still there after a reload.
    let before = server.front();
    server.signal(Signal::SIGHUP);
    crate::harness::wait_until("a new front", || server.fronts().iter().all(|front| *front != before));
    for address in &addresses {
        assert_eq!(get(address, "/").status, 200);
    }
    server.stop();
}

#[test]
fn sockets_that_were_passed_to_another_process_are_not_ours() {
    let server = Setup::c_app(1).launched_by(PASS_TWO).env("FAKE_PID", "1").start();
    let line = server.wait_for_log("Listening at: ");
    assert_eq!(line.matches("http://").count(), 1, "{line}");
    server.stop();
}

#[test]
fn a_descriptor_can_be_named_by_its_number() {
    let launcher = "
import os, socket, sys
held = socket.create_server(('127.0.0.1', 0))
os.dup2(held.fileno(), 9, inheritable=True)
os.execv(sys.argv[1], sys.argv[1:])
";
    let server = Setup::c_app(1)
        .launched_by(launcher)
        .with("bind", list(&["fd://9", "127.0.0.1:0"]))
        .start();
    assert_eq!(server.get("/").status, 200);
    let line = server.wait_for_log("Listening at: ");
    assert_eq!(line.matches("http://127.0.0.1:").count(), 2, "{line}");
    server.stop();
}

#[test]
fn a_descriptor_that_is_no_listener_is_refused() {
    for (number, said) in [(9, "fd://9"), (0, "fd://0")] {
        let bind = format!("fd://{number}");
        let ended = Setup::c_app(1).with("bind", list(&[&bind])).run_to_end();
        assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
        assert!(
            ended.stderr.contains(said) && ended.stderr.contains("(bind)"),
            "{}",
            ended.stderr
        );
        assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    }
}

#[test]
fn a_passed_descriptor_that_is_not_there_is_refused_in_words() {
    let launcher = "
import os, sys
os.closerange(3, 10)
os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[1], sys.argv[1:])
";
    let ended = Setup::c_app(1).launched_by(launcher).run_to_end();
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("cannot listen on fd://3"), "{}", ended.stderr);
}
