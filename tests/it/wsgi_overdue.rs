//! Requests and imports that take too long: the client's answer, the stacks in the log, `worker_abort`.

use nix::sys::signal::Signal;

use crate::harness::{Setup, request, wait_until};

const CONF: &str = "\
from recorder import rec
def worker_abort(worker):
    rec('worker_abort', worker.age)
def worker_exit(server, worker):
    rec('worker_exit', worker.age)
";

#[test]
fn the_log_shows_what_every_thread_was_doing() {
    for class in [&[][..], &["--threads", "3"], &["-k", "gevent"]] {
        for hosted in [false, true] {
            let words = [&["--timeout", "1", "--workers", "2"], class, &["bad"]].concat();
            let setup = Setup::wsgi(&words)
                .allow("WORKER TIMEOUT")
                .allow("overdue")
                .allow("Error handling request POST /sleep")
                .allow("orker")
                .allow("SystemExit");
            if hosted {
                std::fs::write(setup.path("gunicorn.conf.py"), CONF).expect("a conf file");
            }
            let who = format!("{class:?} hosted: {hosted}");
            let server = setup.start();
            let response = request(&server.address, "POST", "/sleep?secret", &[], b"");
            assert_eq!(response.status, 504, "{who}");
            let line = server.wait_for_log("WORKER TIMEOUT");
            assert!(line.contains("(pid:"), "{who}: {line}");
            // The line of the stack that sleeps, and that of the app that called it.
            server.wait_for_log("bad.py");
            let line = server.wait_for_log("POST /sleep");
            assert!(!line.is_empty(), "{who}");
            if hosted {
                wait_until(&format!("{who}: worker_abort"), || {
                    let record = std::fs::read_to_string(server.path("record.log")).unwrap_or_default();
                    record.contains("worker_abort")
                });
            }
            server.wait_for_workers(2);
            assert_eq!(server.get("/").status, 200, "{who}");
            server.stop();
        }
    }
}

#[test]
fn an_import_that_hangs_ends_the_start() {
    let setup = Setup::bare(&["--boot-timeout", "1", "hangs"]);
    std::fs::write(setup.path("hangs.py"), "import time\ntime.sleep(1000)\n").expect("an app");
    let ended = setup.run_to_end();
    assert_eq!(ended.status.code(), Some(3), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("hangs.py"),
        "the stack shows where: {}",
        ended.stderr
    );
}

#[test]
fn an_import_that_hangs_on_a_reload_keeps_the_old_workers() {
    let setup = Setup::bare(&["--boot-timeout", "1", "hangs"])
        .allow("boot")
        .allow("ready")
        .allow("orker")
        .allow("reload");
    let fine = "def application(environ, start_response):\n    start_response('200 OK', [])\n    return [b'fine']\n";
    std::fs::write(setup.path("hangs.py"), fine).expect("an app");
    let server = setup.start();
    let before = server.wait_for_workers(1);
    std::fs::write(
        server.path("hangs.py"),
        format!("import time\ntime.sleep(1000)\n{fine}"),
    )
    .expect("an app");
    server.signal(Signal::SIGHUP);
    server.wait_for_log("hangs.py");
    wait_until("the old worker alone", || server.workers() == before);
    assert_eq!(server.get("/").text(), "fine");
    server.stop();
}

#[test]
fn an_import_that_exits_is_named() {
    let setup = Setup::bare(&["leaves"]);
    std::fs::write(setup.path("leaves.py"), "import sys\nsys.exit('leaving at import')\n").expect("an app");
    let ended = setup.run_to_end();
    assert!(ended.status.code().is_some_and(|code| code != 0), "{}", ended.stderr);
    assert!(ended.stderr.contains("leaving at import"), "{}", ended.stderr);
}

#[test]
fn no_python_and_a_wrong_one_are_named() {
    let ended = Setup::bare(&["--python", "/no/such/python", "hello"]).run_to_end();
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("/no/such/python"), "{}", ended.stderr);
    let setup = Setup::bare(&["hello"])
        .env("PATH", "/nonexistent")
        .env("VIRTUAL_ENV", "");
    let ended = setup.run_to_end();
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("python3"), "{}", ended.stderr);
}
