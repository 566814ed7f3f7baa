//! What a worker finds when it starts: environment, descriptors, signals, process group, directory, and nothing else.

use std::collections::BTreeMap;

use nix::sys::signal::Signal;

use crate::harness::apps::example;
use crate::harness::server::list;
use crate::harness::{Server, Setup, procs, wait_until};

/// A worker that is ready.
fn worker(server: &Server) -> i32 {
    server.wait_for_workers(1)[0]
}

/// The environment of the worker but the variable that marks the processes of a test.
fn environment(server: &Server) -> BTreeMap<String, String> {
    let mut env = procs::environment(worker(server));
    env.remove("RGUNICORN_TEST");
    env
}

fn pipe_example(name: &str, protocol: &str) -> Setup {
    Setup::exec(&[&example(name)])
        .with_text("protocol", protocol)
        .with("workers", 1)
}

/// Where it begins, `socket` or `pipe` instead of a number, `board` for the page in memory.
fn descriptors(pid: i32) -> BTreeMap<i32, String> {
    let kind = |text: String| match text {
        text if text.starts_with("socket:") => "socket".to_owned(),
        text if text.starts_with("pipe:") => "pipe".to_owned(),
        text if text.starts_with("/memfd:") => "board".to_owned(),
        text => text,
    };
    let all = procs::numbered_descriptors(pid).into_iter();
    all.map(|(number, text)| (number, kind(text))).collect()
}

fn expected(list: &[(i32, &str)]) -> BTreeMap<i32, String> {
    list.iter()
        .map(|(number, kind)| (*number, (*kind).to_owned()))
        .collect()
}

#[test]
fn a_worker_has_its_descriptors_and_no_others() {
    let printing = [(1, "pipe"), (2, "pipe")];
    let pull = [(0, "/dev/null"), (3, "socket"), (4, "socket"), (5, "board")];
    for (setup, own) in [
        // It accepts nothing, so that no connection is among its descriptors.
        (
            Setup::exec(&["sleep", "600"]).with_text("protocol", "fastcgi"),
            &[(0, "socket")][..],
        ),
        (pipe_example("pipe_pull.py", "pipe"), &pull),
        (
            pipe_example("pipe_worker.py", "pipe").with("pull", false),
            &[(0, "/dev/null"), (3, "socket"), (5, "board")],
        ),
        // Until it says what it speaks, it has the descriptors of both protocols.
        (
            pipe_example("pipe_worker.py", "auto"),
            &[(0, "socket"), (3, "socket"), (4, "socket"), (5, "board")],
        ),
    ] {
        // Two workers: what one is given must not leak into the other, which is started later.
        let server = setup.with("workers", 2).start_unready();
        for pid in server.wait_for_workers(2) {
            let given = expected(&[&printing[..], own].concat());
            // An interpreter that is still reading its libraries has those open.
            let mut found = descriptors(pid);
            wait_until(&format!("{given:?} in place of {found:?}"), || {
                found = descriptors(pid);
                found == given
            });
        }
        server.stop();
    }
}

#[test]
fn a_worker_over_standard_input_and_output_has_its_channel_there() {
    let server = pipe_example("pipe_worker.py", "pipe").with("pipe_stdio", true).start();
    let found = descriptors(worker(&server));
    assert_eq!(found.get(&0).map(String::as_str), Some("socket"));
    assert_eq!(found.get(&1).map(String::as_str), Some("socket"));
    assert_eq!(found.get(&2).map(String::as_str), Some("pipe"));
    assert!(!found.contains_key(&3), "{found:?}");
    server.stop();
}

#[test]
fn what_was_open_blocked_or_ignored_at_the_start_does_not_reach_workers() {
    let launcher = "
import os, signal, sys
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE, 33, 34):
    try:
        signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError):
        pass
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGTERM, signal.SIGCHLD, 40])
read, write = os.pipe()
os.dup2(read, 20, inheritable=True)
os.dup2(write, 55, inheritable=True)
os.execv(sys.argv[1], sys.argv[1:])
";
    let server = Setup::c_app(1).launched_by(launcher).allow("SIGKILL").start();
    let pid = worker(&server);
    for name in ["SigBlk", "SigIgn"] {
        assert_eq!(procs::status(pid, name), ["0000000000000000"], "{name}");
    }
    let high = |pid: i32| {
        descriptors(pid)
            .into_keys()
            .filter(|number| [20, 55].contains(number))
            .count()
    };
    assert_eq!((high(server.pid), high(pid), high(server.front())), (2, 0, 0));
    // Ignored or blocked, a signal that the arbiter waits for would never have arrived.
    procs::signal(pid, Signal::SIGKILL);
    let line = server.wait_for_log("SIGKILL");
    assert!(line.contains(&format!("pid={pid}")), "{line}");
    server.wait_for_workers(1);
    server.stop();
}

#[test]
fn a_worker_leads_a_group_of_its_own_below_the_arbiter() {
    let server = Setup::c_app(2).start();
    let own = procs::look(server.pid).expect("the arbiter").group;
    for pid in server.wait_for_workers(2).into_iter().chain([server.front()]) {
        let process = procs::look(pid).expect("a child");
        assert_eq!((process.parent, process.group), (server.pid, pid));
        assert_ne!(process.group, own);
    }
    server.stop();
}

#[test]
fn workers_inherit_the_environment_but_what_is_meant_for_the_arbiter() {
    let server = Setup::c_app(1)
        .env("GREETING", "hello = world")
        .env("LISTEN_FDS", "2")
        .env("LISTEN_PID", "1")
        .env("LISTEN_FDNAMES", "a:b")
        .env("WATCHDOG_USEC", "1000")
        .env("WATCHDOG_PID", "1")
        .env("NOTIFY_SOCKET", "/no/such/socket")
        .with("raw_env", list(&["ADDED=1", "GREETING=changed=twice"]))
        .start();
    let env = environment(&server);
    assert_eq!(env.get("GREETING").map(String::as_str), Some("changed=twice"));
    assert_eq!(env.get("ADDED").map(String::as_str), Some("1"));
    assert_eq!(env.get("PATH"), std::env::var("PATH").ok().as_ref());
    let meant_for_us = |name: &&String| {
        ["LISTEN_", "WATCHDOG_", "NOTIFY_"]
            .iter()
            .any(|start| name.starts_with(start))
    };
    assert_eq!(env.keys().find(meant_for_us), None);
    // The front needs nothing of it.
    let front = procs::environment(server.front());
    assert!(
        front
            .keys()
            .all(|name| ["TZ", "RUST_BACKTRACE"].contains(&name.as_str())),
        "{front:?}"
    );
    server.stop();
}

#[test]
fn a_cleared_environment_holds_what_was_asked_for_and_no_more() {
    let server = Setup::c_app(1)
        .env("SECRET", "1")
        .env("WANTED", "yes")
        .with("clear_env", true)
        .with("pass_env", list(&["WANTED", "ABSENT"]))
        .with("raw_env", list(&["ADDED="]))
        .start();
    let env = environment(&server);
    let names: Vec<&str> = env.keys().map(String::as_str).collect();
    assert_eq!(names, ["ADDED", "PHP_FCGI_CHILDREN", "PHP_FCGI_MAX_REQUESTS", "WANTED"]);
    server.stop();
}

#[test]
fn a_pipe_worker_is_told_where_its_descriptors_are() {
    let server = pipe_example("pipe_pull.py", "pipe")
        .with("clear_env", true)
        .with("pass_env", list(&["PATH"]))
        .start();
    let env = environment(&server);
    // An interpreter may be found through scripts that add variables of their own.
    let ours = env.iter().filter(|(name, _)| name.starts_with("RGUNICORN_"));
    let pairs: Vec<String> = ours.map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(
        pairs,
        [
            "RGUNICORN_BOARD_FD=5",
            "RGUNICORN_FD=3",
            "RGUNICORN_QUEUE_FD=4",
            "RGUNICORN_SLOTS=1"
        ]
    );
    server.stop();
}

#[test]
fn a_worker_starts_in_its_directory_and_relative_programs_too() {
    let setup = Setup::new();
    let place = setup.path("place");
    std::fs::create_dir(&place).expect("a directory");
    std::fs::copy(crate::harness::apps::c_app(), place.join("app.fcgi")).expect("a copy of the app");
    let server = setup
        .with_text("chdir", "place")
        .with("exec", list(&["./app.fcgi"]))
        .start();
    let pid = worker(&server);
    let cwd = std::fs::read_link(format!("/proc/{pid}/cwd")).expect("its directory");
    assert_eq!(cwd, place.canonicalize().expect("the directory"));
    server.stop();
}

#[test]
fn a_runtime_directory_that_a_cleaner_has_removed_is_made_again() {
    let server = Setup::c_app(2)
        .allow("was removed by somebody")
        .allow("somebody has removed")
        .allow("orker")
        .start();
    let before = server.wait_for_workers(2);
    let mut found = std::fs::read_dir(server.path("run")).expect("its parent");
    let directory = found.next().expect("the directory").expect("its name").path();
    std::fs::remove_dir_all(&directory).expect("removable");
    procs::signal(before[0], Signal::SIGKILL);
    // One is dead, and nobody can connect to the other.
    let requests: Vec<_> = (0..2)
        .map(|_| {
            let mut client = server.connect();
            client.send("GET /sleep?ms=300 HTTP/1.1\r\nHost: a\r\n\r\n");
            client
        })
        .collect();
    for mut client in requests {
        assert_eq!(client.response("GET").status, 200);
    }
    server.wait_for_log("is made again");
    assert!(directory.join("lock").exists());
    server.wait_for_workers(2);
    server.stop();
}
