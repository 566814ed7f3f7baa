//! What makes a start fail: one message that says what failed, where it was set and what to do; a fitting exit code;
//! and nothing is left running.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use crate::harness::apps::app;
use crate::harness::server::list;
use crate::harness::{PATIENCE, Setup};

/// Runs to the end and checks code and message.
fn fails(setup: Setup, code: i32, said: &[&str]) {
    let ended = setup.run_to_end();
    assert_eq!(ended.status.code(), Some(code), "{said:?}\n{}", ended.stderr);
    for text in said {
        assert!(ended.stderr.contains(text), "no {text:?} in:\n{}", ended.stderr);
    }
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
}

#[test]
fn a_port_in_use_is_named_with_its_setting() {
    let holder = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = holder.local_addr().expect("its address").to_string();
    fails(
        Setup::c_app(1).with("bind", list(&[&address])),
        1,
        &[&address, "bind", "site.toml"],
    );
}

#[test]
fn a_socket_path_that_is_a_file_is_not_removed() {
    let setup = Setup::c_app(1);
    let path = setup.path("precious");
    std::fs::write(&path, "data").expect("a file");
    let bind = format!("unix:{}", path.display());
    let ended = setup.with("bind", list(&[&bind])).run_to_end();
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("precious"), "{}", ended.stderr);
}

#[test]
fn a_missing_program_is_named() {
    fails(
        Setup::exec(&["/no/such/program"]),
        1,
        &["/no/such/program", "exec", "site.toml"],
    );
    fails(
        Setup::exec(&["no-such-program-anywhere"]),
        1,
        &["no-such-program-anywhere", "exec"],
    );
}

#[test]
fn a_program_that_is_not_executable_is_named() {
    let setup = Setup::new();
    let path = setup.path_text("app.py");
    std::fs::write(&path, "#!/usr/bin/env python3\n").expect("a script");
    fails(setup.with("exec", list(&[&path])), 1, &[&path, "chmod +x"]);
}

#[test]
fn an_interpreter_that_is_not_there_is_told_from_a_missing_program() {
    let setup = Setup::new();
    let path = setup.path_text("app.py");
    std::fs::write(&path, "#!/no/such/python3\n").expect("a script");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("its mode");
    let ended = setup.with("exec", list(&[&path])).run_to_end();
    assert!(matches!(ended.status.code(), Some(1 | 3)), "{}", ended.stderr);
    assert!(ended.stderr.contains("/no/such/python3"), "{}", ended.stderr);
}

#[test]
fn files_that_cannot_be_written_are_named_with_their_settings() {
    for (setting, value) in [
        ("pidfile", "/no/such/dir/server.pid"),
        ("errorlog", "/no/such/dir/error.log"),
        ("accesslog", "/no/such/dir/access.log"),
        ("runtime_dir", "/no/such/dir"),
        ("tmp_upload_dir", "/no/such/dir"),
        ("chdir", "/no/such/dir"),
    ] {
        fails(
            Setup::c_app(1).with_text(setting, value),
            1,
            &[value, setting, "site.toml"],
        );
    }
}

#[test]
fn the_pid_file_of_a_live_process_stops_the_start() {
    let setup = Setup::c_app(1);
    let path = setup.path_text("server.pid");
    std::fs::write(&path, format!("{}\n", std::process::id())).expect("a pid file");
    let ended = setup.with_text("pidfile", &path).run_to_end();
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    assert!(
        ended.stderr.contains(&path) && ended.stderr.contains(&std::process::id().to_string()),
        "{}",
        ended.stderr
    );
}

#[test]
fn the_pid_file_of_a_dead_process_does_not() {
    let setup = Setup::c_app(1);
    let path = setup.path_text("server.pid");
    std::fs::write(&path, "999999999\n").expect("a pid file");
    let server = setup.with_text("pidfile", &path).start();
    assert_eq!(
        std::fs::read_to_string(&path).expect("a pid file").trim(),
        server.pid.to_string()
    );
    server.stop();
}

#[test]
fn every_mistake_in_the_settings_is_told_at_once() {
    let setup = Setup::c_app(1)
        .with("wrokers", 3)
        .with_text("timeout", "soon")
        .with("threads", 4096)
        .with_text("loglevel", "loud")
        .with("bind", list(&["127.0.0.1:port"]));
    let file = setup.path_text("site.toml");
    let ended = setup.run_to_end();
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    // Each with its line (settings are written in the order of their names), what is wrong, and what would be right.
    for (line, name, said) in [
        (2, "bind", "must be HOST:PORT, but not \"127.0.0.1:port\""),
        (
            5,
            "loglevel",
            "must be one of debug, info, warning, error, critical, but not \"loud\"",
        ),
        (9, "threads", "must be a whole number from 0 to 2046, but not 4096"),
        (10, "timeout", "but not \"soon\""),
    ] {
        let place = format!("set at {file}:{line} ({name})");
        let lines: Vec<&str> = ended.stderr.lines().collect();
        let at = lines.iter().position(|line| line.contains(&place));
        let at = at.unwrap_or_else(|| panic!("no {place:?} in:\n{}", ended.stderr));
        let what = lines[at - 1];
        assert!(
            what.starts_with(&format!("rgunicorn: {name} ")) && what.contains(said),
            "{what}"
        );
    }
    let unknown = format!("rgunicorn: unknown setting \"wrokers\"\n  at {file}:13\n  did you mean `workers`?\n");
    assert!(ended.stderr.contains(&unknown), "{}", ended.stderr);
    assert_eq!(ended.stderr.matches("rgunicorn: ").count(), 5, "{}", ended.stderr);
}

#[test]
fn every_mistake_on_the_command_line_is_told_at_once() {
    let setup = Setup::c_app(1)
        .arg("--wrokers=3")
        .arg("--timeout=soon")
        .arg("--acess-logfile")
        .arg("x")
        .arg("--log-level=loud")
        .with("threads", 4096);
    let ended = setup.run_to_end();
    assert_eq!(ended.status.code(), Some(2), "{}", ended.stderr);
    for said in [
        "'--wrokers'",
        "'--workers'",
        "'--acess-logfile'",
        "\"soon\"",
        "\"loud\"",
        "threads must be",
    ] {
        assert_eq!(ended.stderr.matches(said).count(), 1, "{said}:\n{}", ended.stderr);
    }
    assert_eq!(ended.stderr.matches("Usage: ").count(), 1, "{}", ended.stderr);
}

#[test]
fn an_unknown_flag_ends_with_2() {
    fails(Setup::c_app(1).arg("--wrokers=3"), 2, &["--wrokers"]);
}

#[test]
fn no_program_at_all_is_told() {
    fails(Setup::new(), 1, &["exec", "connect"]);
}

#[test]
fn check_config_starts_nothing() {
    let ended = Setup::c_app(1).arg("--check-config").run_to_end();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    let ended = Setup::c_app(1)
        .with("workers", "\"x\"")
        .arg("--check-config")
        .run_to_end();
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    let ended = Setup::c_app(7).arg("--print-config").run_to_end();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert!(
        ended.stdout.lines().any(|line| line.starts_with("workers = 7")),
        "{}",
        ended.stdout
    );
}

#[test]
fn an_app_that_ends_before_it_is_ready_ends_the_start_with_3() {
    let bad = app("bad_fastcgi.py");
    for protocol in ["auto", "fastcgi"] {
        let setup = Setup::exec(&[&bad, "exit-one"]).with_text("protocol", protocol);
        fails(setup, 3, &["the database is gone", "code 1"]);
    }
    fails(Setup::bad_pipe(&["exit-one"]), 3, &["the database is gone", "code 1"]);
    fails(Setup::bad_pipe(&["exit-zero"]), 3, &["code 0"]);
}

#[test]
fn an_app_that_never_becomes_ready_ends_the_start_with_3() {
    for setup in [
        Setup::bad_pipe(&["never-ready"]),
        Setup::bad_pipe(&["boot-garbage"]),
        Setup::bad_pipe(&["slots=0"]),
    ] {
        let ended = setup.with_text("boot_timeout", "1s").run_to_end();
        assert_eq!(ended.status.code(), Some(3), "{}", ended.stderr);
    }
    let setup = Setup::exec(&["sleep", "600"]).with_text("boot_timeout", "1s");
    // The three ways to fix it.
    fails(setup, 3, &["--protocol", "boot_timeout"]);
}

#[test]
fn two_servers_on_the_same_runtime_directory_do_not_disturb_each_other() {
    let first = Setup::c_app(1).start();
    let run = first.path("run").to_string_lossy().into_owned();
    let second = Setup::c_app(1).with_text("runtime_dir", &run).start();
    assert_eq!((first.get("/").status, second.get("/").status), (200, 200));
    second.stop();
    assert_eq!(first.get("/").status, 200);
    first.stop();
}

#[test]
fn a_daemon_detaches_and_stops_on_term() {
    let setup = Setup::c_app(1);
    let (pidfile, log) = (setup.path_text("server.pid"), setup.path_text("error.log"));
    let run = setup.path("run");
    let server = setup
        .with("daemon", true)
        .with_text("pidfile", &pidfile)
        .with_text("errorlog", &log)
        .start_daemon(&pidfile, "error.log");
    assert_ne!(
        nix::unistd::getsid(Some(nix::unistd::Pid::from_raw(server.pid))),
        nix::unistd::getsid(None)
    );
    assert_eq!(server.get("/").status, 200);
    server.signal(nix::sys::signal::Signal::SIGTERM);
    server.wait_for_nothing_left(PATIENCE);
    assert!(std::fs::read_dir(run).expect("the runtime directory").next().is_none());
    assert!(!std::path::Path::new(&pidfile).exists());
    server.forget();
}

#[test]
fn a_worker_that_says_the_app_cannot_be_loaded_ends_the_start_with_4() {
    for (code, expected, reason) in [(3, 3, "Worker failed to boot."), (4, 4, "App failed to load.")] {
        let script = format!("echo the cause >&2; exit {code}");
        let setup = Setup::exec(&["sh", "-c", &script]).with_text("protocol", "pipe");
        fails(setup, expected, &["the cause", reason]);
    }
}

#[test]
fn text_that_is_not_utf_8_is_refused_or_left_out_in_words() {
    use std::os::unix::ffi::OsStrExt;
    let odd = std::ffi::OsStr::from_bytes(b"caf\xe9");
    let run = |args: &[&std::ffi::OsStr], value: &std::ffi::OsStr| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_rgunicorn"))
            .args(["--check-config", "--exec"])
            .args(args)
            .env("ODD", value)
            .output()
            .expect("the binary runs");
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let (code, said) = run(&[odd], "plain".as_ref());
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("invalid UTF-8"), "{said}");
    let (code, said) = run(&["true".as_ref()], odd);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("ODD is not UTF-8"), "{said}");
}

#[test]
fn the_level_says_which_lines_are_logged() {
    let lines = |level: &str| {
        let setup = Setup::new().with_text("loglevel", level);
        // A worker that fails at once leaves lines of several levels.
        let setup = setup.with("exec", list(&["sh", "-c", "exit 3"]));
        setup.with_text("protocol", "pipe").run_to_end().stderr
    };
    let all = lines("debug");
    for level in ["[DEBUG]", "[INFO]", "[ERROR]"] {
        assert!(all.contains(level), "no {level} in:\n{all}");
    }
    let some = lines("error");
    assert!(
        some.contains("[ERROR]") && !some.contains("[INFO]") && !some.contains("[DEBUG]"),
        "{some}"
    );
    assert_eq!(lines("critical"), "");
}
