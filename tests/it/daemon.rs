//! A daemon: detached, known by its pid file, and what only a daemon does.

use std::path::Path;

use nix::sys::signal::Signal;
use nix::unistd::{Pid, getsid};

use crate::harness::{PATIENCE, Server, Setup, get, procs, wait_until};

fn daemon(workers: u32) -> Setup {
    let setup = Setup::c_app(workers).with("daemon", true);
    let (pidfile, log) = (setup.path_text("server.pid"), setup.path_text("error.log"));
    setup.with_text("pidfile", &pidfile).with_text("errorlog", &log)
}

fn started(setup: Setup) -> Server {
    let pidfile = setup.path_text("server.pid");
    let server = setup.start_daemon(&pidfile, "error.log");
    wait_until("the first response", || get(&server.address, "/").status == 200);
    server
}

/// Stops it and checks that nothing is left.
fn stop(server: Server) {
    server.signal(Signal::SIGTERM);
    server.wait_for_nothing_left(PATIENCE);
    assert!(!server.path("server.pid").exists());
    let left = std::fs::read_dir(server.path("run")).expect("the runtime directory");
    assert_eq!(left.count(), 0);
    server.forget();
}

#[test]
fn it_has_no_terminal_no_parent_and_no_streams() {
    let server = started(daemon(1));
    let session = getsid(Some(Pid::from_raw(server.pid))).expect("its session");
    assert_ne!(Some(session), getsid(None).ok());
    assert_ne!(
        session.as_raw(),
        server.pid,
        "a leader could get a terminal by opening one"
    );
    let open = procs::numbered_descriptors(server.pid);
    assert_eq!(open.get(&0).map(String::as_str), Some("/dev/null"));
    assert_eq!(open.get(&1).map(String::as_str), Some("/dev/null"));
    assert_eq!(open.get(&2).map(Path::new), Some(server.path("error.log").as_path()));
    stop(server);
}

#[test]
fn winch_stops_the_workers_and_hup_or_ttin_bring_them_back() {
    let server = started(daemon(2));
    for back in [Signal::SIGHUP, Signal::SIGTTIN] {
        assert!(!server.workers().is_empty());
        server.signal(Signal::SIGWINCH);
        server.wait_for_workers(0);
        assert!(procs::is_alive(server.pid));
        server.signal(back);
        wait_until("workers", || !server.workers().is_empty());
        wait_until("a response", || get(&server.address, "/").status == 200);
    }
    stop(server);
}

/// A daemon with hooks: what the host of the hooks keeps, and which one runs them.
fn with_hooks() -> Setup {
    const HOOKS: &str = "\
import os
def on_starting(server):
    server.kept = 1
def on_reload(server):
    server.kept = getattr(server, 'kept', 0) + 1
    server.log.info('reloaded: %d', server.kept)
def on_exit(server):
    server.log.info('on_exit in %d', os.getpid())
";
    const APP: &str = "\
def application(environ, start_response):
    start_response('200 OK', [('Content-Length', '0')])
    return []
";
    let setup = Setup::bare(&["--workers", "1", "--daemon", "app"]);
    std::fs::write(setup.path("gunicorn.conf.py"), HOOKS).expect("a conf file");
    std::fs::write(setup.path("app.py"), APP).expect("an app");
    let (pidfile, log) = (setup.path_text("server.pid"), setup.path_text("error.log"));
    setup.arg("--pid").arg(&pidfile).arg("--error-logfile").arg(&log)
}

fn hosts(server: &Server) -> Vec<i32> {
    let mut children = procs::children(server.pid);
    children.retain(|child| child.is_alive() && child.command().starts_with("rgunicorn: host"));
    children.into_iter().map(|child| child.pid).collect()
}

/// Nothing but the host is left.
fn park(server: &Server) -> i32 {
    server.signal(Signal::SIGWINCH);
    wait_until("the end of workers and front", || {
        procs::children(server.pid).len() == 1 && hosts(server).len() == 1
    });
    hosts(server)[0]
}

#[test]
fn the_host_of_hooks_leaves_when_another_one_serves_after_winch() {
    let server = started(with_hooks());
    for (round, back) in [Signal::SIGHUP, Signal::SIGTTIN].into_iter().enumerate() {
        let before = park(&server);
        server.signal(back);
        server.wait_for_log(&format!("reloaded: {}", round + 2));
        wait_until("a response", || get(&server.address, "/").status == 200);
        wait_until("the end of the old host", || {
            let now = hosts(&server);
            now.len() == 1 && now[0] != before
        });
    }
    let host = hosts(&server)[0];
    server.signal(Signal::SIGTERM);
    server.wait_for_nothing_left(PATIENCE);
    let log = server.log();
    assert!(log.contains(&format!("on_exit in {host}\n")), "{log}");
    assert_eq!(log.matches("on_exit in").count(), 1, "{log}");
    server.forget();
}

#[test]
fn a_host_that_dies_after_winch_is_not_waited_for() {
    let server = started(with_hooks().allow("[CRITICAL] Python host"));
    let host = park(&server);
    procs::signal(host, Signal::SIGKILL);
    server.wait_for_log(&format!("[CRITICAL] Python host (pid:{host})"));
    server.signal(Signal::SIGHUP);
    wait_until("a response", || get(&server.address, "/").status == 200);
    park(&server);
    stop(server);
}

#[test]
fn standard_output_is_kept_when_asked() {
    let setup = daemon(1).with_text("accesslog", "-");
    let server = started(setup.arg("-R"));
    let out = server.path("stdout.log");
    assert_eq!(get(&server.address, "/?kept").status, 200);
    wait_until("the line", || {
        std::fs::read_to_string(&out).is_ok_and(|text| text.contains("/?kept"))
    });
    stop(server);
}

#[test]
fn a_start_that_is_refused_is_told_where_it_was_typed() {
    let setup = daemon(1);
    let holder = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = holder.local_addr().expect("its address").to_string();
    let mut setup = setup.with("bind", format!("[{address:?}]"));
    setup.set("errorlog", "\"-\"");
    let ended = setup.run_to_end();
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.stderr.contains(&address), "{}", ended.stderr);
}

#[test]
fn the_pid_file_of_somebody_else_stays_at_the_end() {
    let server = started(daemon(1));
    let path = server.path("server.pid");
    std::fs::write(&path, "1\n").expect("another's pid");
    server.signal(Signal::SIGTERM);
    server.wait_for_nothing_left(PATIENCE);
    assert_eq!(std::fs::read_to_string(&path).expect("the file"), "1\n");
    server.forget();
}
