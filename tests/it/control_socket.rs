//! The control socket: what it answers Gunicorn's client and ours, who may use it, and where it is.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::hammer::{Hammer, Plan};
use crate::harness::{PATIENCE, Server, Setup, procs, python, wait_for, wait_until};

const BINARY: &str = env!("CARGO_BIN_EXE_rgunicorn");

/// A server with a control socket `server.ctl`.
fn setup(workers: u32) -> Setup {
    let setup = Setup::pull_record(workers);
    let path = setup.path_text("server.ctl");
    setup.with_text("control_socket", &path)
}

fn ours(socket: &Path, command: &str, options: &[&str]) -> Output {
    let mut call = Command::new(BINARY);
    call.arg("--control").arg("-s").arg(socket);
    call.args(options)
        .args(["-c", command])
        .output()
        .expect("the client runs")
}

fn theirs(socket: &Path, command: &str, options: &[&str]) -> Output {
    let mut call = Command::new(python::venv().join("bin/gunicornc"));
    call.arg("-s").arg(socket);
    call.args(options)
        .args(["-c", command])
        .output()
        .expect("the client runs")
}

fn text(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The answer to a command, by our client.
fn ask(server: &Server, command: &str) -> Value {
    let output = ours(&server.path("server.ctl"), command, &["-j"]);
    serde_json::from_str(&text(&output)).expect("JSON")
}

/// The names in an answer, and those in the first item of its lists.
fn names(value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for (name, value) in value.as_object().into_iter().flatten() {
        found.push(name.clone());
        if let Some(Value::Object(first)) = value.as_array().and_then(|items| items.first()) {
            found.extend(first.keys().map(|inner| format!("{name}.{inner}")));
        }
    }
    found
}

#[test]
fn everything_can_be_seen() {
    let server = setup(2).start();
    let workers = server.wait_for_workers(2);
    wait_until("both to be booted", || {
        let shown = ask(&server, "show workers");
        shown["count"] == 2
            && shown["workers"]
                .as_array()
                .is_some_and(|all| all.iter().all(|one| one["booted"] == true))
    });
    let shown = ask(&server, "show workers");
    let mut pids: Vec<_> = shown["workers"].as_array().expect("workers").iter().collect();
    assert_eq!(pids[0]["age"], 1);
    pids.sort_by_key(|one| one["pid"].as_i64());
    assert!(
        pids.iter().zip(&workers).all(|(one, pid)| one["pid"] == *pid),
        "{shown}"
    );
    let stats = ask(&server, "show stats");
    assert_eq!(
        (&stats["pid"], &stats["workers_target"]),
        (&server.pid.into(), &2.into())
    );
    assert_eq!(stats["workers_spawned"], 2);
    let all = ask(&server, "show all");
    assert_eq!(all["fronts"][0]["pid"], server.front());
    let listeners = ask(&server, "show listeners");
    let line = server.wait_for_log("Listening at: ");
    assert!(line.contains(listeners["listeners"][0]["address"].as_str().expect("an address")));
    assert_eq!(listeners["listeners"][0]["type"], "tcp");
    let config = ask(&server, "show config");
    assert_eq!((&config["workers"], &config["timeout"]), (&2.into(), &30.into()));
    server.stop();
}

#[test]
fn workers_are_added_removed_and_replaced_without_a_failed_request() {
    let server = setup(2).start();
    let before = server.wait_for_workers(2);
    let plan = Plan {
        clients: 4,
        method: "GET",
        target: "/".to_owned(),
        per_connection: 10,
    };
    let hammer = Hammer::start(&server.address, &plan);
    let added = ask(&server, "worker add 2");
    assert_eq!(
        (&added["added"], &added["previous"], &added["total"]),
        (&2.into(), &2.into(), &4.into())
    );
    server.wait_for_workers(4);
    let removed = ask(&server, "worker remove 9");
    assert_eq!((&removed["removed"], &removed["total"]), (&3.into(), &1.into()));
    let left = server.wait_for_workers(1);
    let killed = ask(&server, &format!("worker kill {}", left[0]));
    assert_eq!((&killed["success"], &killed["killed"]), (&true.into(), &left[0].into()));
    wait_until("another worker", || {
        let now = server.workers();
        now.len() == 1 && now != left
    });
    hammer.wait_for_more(50);
    hammer.stop_unharmed("commands");
    assert!(before.iter().all(|pid| *pid > 0));
    server.stop();
}

#[test]
fn a_reload_a_reopening_and_a_stop_are_asked_for_by_command() {
    let mut server = setup(1)
        .allow("requests were cut")
        .allow("sent by the arbiter: shutting down")
        .start();
    let workers = server.wait_for_workers(1);
    assert_eq!(ask(&server, "reload")["status"], "reloading");
    server.wait_for_log("Handling signal: hup");
    wait_until("a new worker", || {
        let now = server.workers();
        now.len() == 1 && now != workers
    });
    assert_eq!(ask(&server, "show stats")["reloads"], 1);
    assert_eq!(ask(&server, "reopen")["status"], "reopening");
    server.wait_for_log("Handling signal: usr1");
    // A stop that waits for a request, and a quick one that does not.
    let mut client = server.connect();
    client.send("GET /record?id=slow&ms=600000 HTTP/1.1\r\nHost: a\r\n\r\n");
    wait_until("the request to run", || server.path("record").exists());
    let answer = ask(&server, "shutdown");
    assert_eq!(
        (&answer["status"], &answer["mode"]),
        (&"shutting_down".into(), &"graceful".into())
    );
    server.wait_for_log("Handling signal: term");
    assert_eq!(ask(&server, "shutdown quick")["mode"], "quick");
    server.wait_for_log("Quick shutdown requested");
    server.wait_for_end(PATIENCE);
    assert!(!server.path("server.ctl").exists());
    server.stop();
}

#[test]
fn what_cannot_be_done_is_told_and_costs_the_client_nothing() {
    let server = setup(1).start();
    let socket = server.path("server.ctl");
    for (command, said) in [
        ("nonsense", "Error: Invalid argument: Unknown command: nonsense\n"),
        ("dirty add", "Error: Dirty workers are not supported\n"),
        ("worker kill me", "Error: Invalid argument: not a number: 'me'\n"),
        ("worker kill 1", "Error: Worker 1 not found\n"),
    ] {
        let output = ours(&socket, command, &[]);
        assert_eq!(
            (output.status.code(), String::from_utf8_lossy(&output.stderr)),
            (Some(1), said.into())
        );
        assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{command}");
    }
    // Programs find the whole answer. The front is no worker, although a child of the arbiter.
    let front = server.front();
    let output = ours(&socket, &format!("worker kill {front}"), &["-j"]);
    let said = format!("Worker {front} not found");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&output.stderr), format!("Error: {said}\n"));
    let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(
        (&answer["success"], &answer["error"]),
        (&false.into(), &said.as_str().into())
    );
    // One connection, several commands, one of them wrong.
    let mut client = Command::new(BINARY)
        .arg("--control")
        .arg("-s")
        .arg(&socket)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the client runs");
    let mut input = client.stdin.take().expect("its input");
    input
        .write_all(b"nonsense\n\nshow stats\nquit\nreload\n")
        .expect("it listens");
    let output = client.wait_with_output().expect("its end");
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("Uptime: "));
    assert!(String::from_utf8_lossy(&output.stderr).contains("Unknown command"));
    assert!(!server.log().contains("hup"));
    server.stop();
    let output = ours(&socket, "help", &[]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said.starts_with(&format!("Error: Failed to connect to {}", socket.display())),
        "{said}"
    );
}

#[test]
fn slow_and_broken_clients_hold_nobody_up() {
    let server = setup(1).start();
    let connect = || UnixStream::connect(server.path("server.ctl")).expect("a connection");
    let mut half = connect();
    half.write_all(b"\0\0").expect("half a length");
    let silent: Vec<UnixStream> = (0..4).map(|_| connect()).collect();
    for bytes in [&b"\xff\xff\xff\xff"[..], b"\0\0\0\x03{}}", b"\0\0\0\x02[]"] {
        let mut broken = connect();
        broken.write_all(bytes).expect("it is sent");
        assert_eq!(
            broken.read(&mut [0; 16]).unwrap_or(0),
            0,
            "no answer, the connection ends"
        );
    }
    // Somebody who asks without end and never reads.
    let mut greedy = connect();
    greedy.set_nonblocking(true).expect("no waiting");
    let request = b"\0\0\0\x15{\"command\": \"help\"}  ";
    let request: Vec<u8> = request.iter().copied().cycle().take(request.len() * 400).collect();
    wait_until("it to be cut off", || {
        matches!(greedy.write(&request), Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe
            || error.kind() == std::io::ErrorKind::ConnectionReset)
    });
    assert_eq!(ask(&server, "show workers")["count"], 1);
    half.write_all(b"\0\x13{\"command\": \"help\"}").expect("the rest");
    let mut length = [0; 4];
    half.read_exact(&mut length).expect("an answer after all");
    assert_eq!(server.get("/").status, 200);
    drop(silent);
    server.stop();
}

#[test]
fn only_its_owner_may_connect_unless_told_otherwise() {
    for (mode, expected) in [("0o600", 0o600), ("0o660", 0o660)] {
        let setup = Setup::pull_record(1);
        let path = setup.path_text("private/server.ctl");
        let server = setup
            .with_text("control_socket", &path)
            .with("control_socket_mode", mode)
            .start();
        let bits = |path: PathBuf| std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
        assert_eq!(bits(server.path("private/server.ctl")), expected);
        assert_eq!(bits(server.path("private")), 0o700);
        server.stop();
    }
}

#[test]
fn a_living_server_keeps_its_socket_and_a_dead_one_loses_it() {
    let first = setup(1).start();
    let path = first.path("server.ctl");
    let text = path.to_string_lossy().into_owned();
    let second = Setup::pull_record(1)
        .with_text("control_socket", &text)
        .allow("No control socket at")
        .start();
    second.wait_for_log("another process serves it");
    second.stop();
    assert_eq!(ask(&first, "show stats")["pid"], first.pid);
    first.signal(Signal::SIGKILL);
    wait_until("its end", || !procs::is_alive(first.pid));
    assert!(path.exists());
    let third = Setup::pull_record(1).with_text("control_socket", &text).start();
    third.wait_for_log(&format!("Control socket listening at {text}"));
    third.stop();
    assert!(!path.exists());
    first.expect_killed();
}

#[test]
fn a_reload_moves_it_and_takes_it_away() {
    let mut server = setup(1).start();
    let moved = server.path("moved.ctl");
    let mut kept = UnixStream::connect(server.path("server.ctl")).expect("a client");
    server.reload_with("control_socket", format!("{:?}", moved.display().to_string()));
    server.wait_for_log(&format!("Control socket listening at {}", moved.display()));
    assert!(moved.exists() && !server.path("server.ctl").exists());
    assert_eq!(kept.read(&mut [0; 16]).expect("the end"), 0);
    server.reload_with("control_socket_disable", true);
    wait_until("its end", || !moved.exists());
    server.stop();
}

#[test]
fn after_an_upgrade_it_belongs_to_the_new_arbiter() {
    let mut server = setup(1).start();
    let (first, second) = (server.path("server.ctl"), server.path("server.ctl.2"));
    server.signal(Signal::SIGUSR2);
    let asked = |path: &Path| -> Option<i32> {
        let output = ours(path, "show stats", &["-j"]);
        let answer: Value = serde_json::from_slice(&output.stdout).ok()?;
        i32::try_from(answer["pid"].as_i64()?).ok()
    };
    let new = wait_for("the new arbiter", || asked(&second));
    assert_eq!(asked(&first), Some(server.pid));
    wait_until("its worker", || procs::children(new).len() == 2);
    server.signal(Signal::SIGTERM);
    server.continue_as(new);
    wait_until("its socket in the plain place", || asked(&first) == Some(new));
    assert!(!second.exists());
    server.stop();
    assert!(!first.exists());
}

#[test]
fn gunicorns_client_and_ours_see_the_same() {
    let server = setup(2).start();
    server.wait_for_workers(2);
    wait_until("both to be booted", || {
        let shown = ask(&server, "show workers");
        shown["workers"]
            .as_array()
            .is_some_and(|all| all.iter().all(|one| one["booted"] == true))
    });
    let socket = server.path("server.ctl");
    for command in [
        "show workers",
        "show dirty",
        "show config",
        "show listeners",
        "help",
        "worker add",
        "worker remove",
        "reopen",
    ] {
        let (one, other) = (ours(&socket, command, &[]), theirs(&socket, command, &[]));
        let numbers = |text: String| text.replace("True", "true").replace("False", "false");
        if command.starts_with("worker ") {
            assert!(text(&one).contains("\"total\""));
            text(&other);
        } else {
            assert_eq!(numbers(text(&one)), numbers(text(&other)), "{command}");
        }
    }
    let refused = theirs(&socket, "dirty add", &[]);
    assert_eq!(refused.status.code(), Some(1));
    server.stop();
}

#[test]
fn gunicorn_answers_our_client_and_has_no_names_that_we_lack() {
    let server = setup(1).start();
    let dir = tempfile::tempdir().expect("a directory");
    let socket = dir.path().join("gunicorn.ctl");
    let log = std::fs::File::create(dir.path().join("log")).expect("a log");
    let mut gunicorn = Command::new(python::venv().join("bin/gunicorn"))
        .args(["-b", "127.0.0.1:0", "--control-socket"])
        .arg(&socket)
        .arg("hello:application")
        .current_dir(python::apps())
        .stderr(log)
        .spawn()
        .expect("Gunicorn starts");
    wait_until("Gunicorn's socket", || UnixStream::connect(&socket).is_ok());
    for command in [
        "show all",
        "show workers",
        "show dirty",
        "show stats",
        "show listeners",
        "worker add",
        "help",
    ] {
        // Gunicorn closes its socket for a moment whenever it forks.
        let answer: Value = wait_for(command, || {
            serde_json::from_slice(&ours(&socket, command, &["-j"]).stdout).ok()
        });
        let known = names(&ask(&server, command));
        let missing: Vec<_> = names(&answer)
            .into_iter()
            .filter(|name| !known.contains(name))
            .collect();
        assert!(missing.is_empty(), "{command}: {missing:?}");
    }
    let stop = wait_for("an answer", || {
        let output = ours(&socket, "shutdown", &["-j"]);
        output.status.success().then(|| text(&output))
    });
    assert_eq!(stop, text(&ours(&server.path("server.ctl"), "shutdown", &["-j"])));
    assert_eq!(gunicorn.wait().expect("its end").code(), Some(0));
    server.stop();
}

#[test]
fn the_program_is_the_client_under_its_names() {
    let server = setup(1).start();
    for name in ["gunicornc", "rgunicornctl"] {
        let link = server.path(name);
        std::os::unix::fs::symlink(BINARY, &link).expect("a link");
        let mut call = Command::new(&link);
        let output = call
            .arg("-s")
            .arg(server.path("server.ctl"))
            .args(["show", "stats", "-j"])
            .output();
        let answer: Value = serde_json::from_str(&text(&output.expect("it runs"))).expect("JSON");
        assert_eq!(answer["pid"], server.pid);
        let output = Command::new(&link).arg("--version").output().expect("it runs");
        assert!(text(&output).starts_with(&format!("{name} (rgunicorn ")));
    }
    let output = Command::new(BINARY)
        .args(["--workers", "1", "--control"])
        .output()
        .expect("it runs");
    assert_eq!(output.status.code(), Some(2));
    server.stop();
}
