//! New code: after HUP, with and without preloading, and after a change of a file when `--reload` is on; code that is
//! broken, and mended again.

use std::fs;

use nix::sys::signal::Signal;

use crate::harness::{Server, Setup, wait_until};

/// An app whose answer is in its source, and in a module beside it.
fn write_app(setup_path: &std::path::Path, answer: &str) {
    let text = format!(
        "import part\n\nwith open('imported', 'a') as marks:\n    marks.write('.')\n\n\ndef application(environ, start_response):\n    body = b'{answer} ' + part.TEXT\n    \
         start_response('200 OK', [('Content-Type', 'text/plain'), ('Content-Length', str(len(body)))])\n    \
         return [body]\n"
    );
    replace(&setup_path.join("site_app.py"), &text);
}

fn write_part(setup_path: &std::path::Path, text: &str) {
    replace(&setup_path.join("part.py"), &format!("TEXT = b'{text}'\n"));
}

/// As editors do it: a new file takes the place of the old one.
fn replace(path: &std::path::Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).expect("a file of the app");
    fs::rename(&new, path).expect("it takes its place");
}

/// A worker that is still importing could find new code before it is told of it. With `--preload` one process imports.
fn wait_for_imports(server: &Server, words: &[&str]) {
    let imports = if words.contains(&"--preload") { 1 } else { 2 };
    wait_until("the app in every worker", || {
        fs::read(server.path("imported")).is_ok_and(|marks| marks.len() >= imports)
    });
}

fn setup(words: &[&str]) -> Setup {
    let setup = Setup::bare(&[words, &["site_app"]].concat());
    write_app(&setup.path(""), "first");
    write_part(&setup.path(""), "one");
    setup
}

fn answers(server: &Server, text: &str) {
    wait_until(&format!("the answer {text:?}"), || {
        server.assert_running();
        let response = server.get("/");
        response.status == 200 && response.text() == text
    });
}

#[test]
fn hooks_of_the_servers_side_signal_their_own_process() {
    const HUP_ONCE: &str = "\
import os, signal
def when_ready(server):
    os.kill(os.getpid(), signal.SIGHUP)
def on_reload(server):
    server.log.info('reloaded from inside')
";
    let setup = setup(&["--workers", "1", "--log-level", "debug", "-e", "KEY=secret"]);
    fs::write(setup.path("gunicorn.conf.py"), HUP_ONCE).expect("a conf file");
    let server = setup.start();
    server.wait_for_log("Handling signal: hup");
    server.wait_for_log("reloaded from inside");
    answers(&server, "first one");
    let log = server.log();
    assert_eq!(log.matches("] [DEBUG] Current configuration:\n").count(), 2, "{log}");
    assert!(
        log.contains("\n  raw_env: ['KEY=...']\n") && log.contains("\n  workers: 1\n"),
        "{log}"
    );
    assert!(!log.contains("secret"), "{log}");
    server.stop();
    // From a thread, while the server runs.
    const TERM_LATER: &str = "\
import os, signal, threading
def when_ready(server):
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
def on_exit(server):
    print('exit runs', flush=True)
";
    let setup = self::setup(&["--workers", "1"]);
    fs::write(setup.path("gunicorn.conf.py"), TERM_LATER).expect("a conf file");
    let ended = setup.run_to_end();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("Handling signal: term"), "{}", ended.stderr);
    assert!(ended.stdout.contains("exit runs"), "{}", ended.stdout);
}

#[test]
fn hup_loads_new_code() {
    for words in [
        &["--workers", "2"][..],
        &["--workers", "2", "--preload"],
        &["--workers", "2", "--threads", "2", "--preload"],
    ] {
        let server = setup(words).start();
        server.wait_for_workers(2);
        wait_for_imports(&server, words);
        answers(&server, "first one");
        write_app(&server.path(""), "second");
        write_part(&server.path(""), "two");
        server.signal(Signal::SIGHUP);
        answers(&server, "second two");
        // Nobody with the old code is left when the reload is over.
        wait_until("two workers", || server.workers().len() == 2);
        for _ in 0..10 {
            assert_eq!(server.get("/").text(), "second two", "{words:?}");
        }
        server.stop();
    }
}

#[test]
fn hup_with_broken_code_keeps_the_old_workers() {
    for words in [&["--workers", "2"][..], &["--workers", "2", "--preload"]] {
        let server = setup(words)
            .allow("Exception in worker process")
            .allow("importing the app failed")
            .allow("Reload failed, the old generation goes on.")
            .allow("Worker (pid:")
            .allow("worker")
            .start();
        let before = server.wait_for_workers(2);
        wait_for_imports(&server, words);
        replace(&server.path("site_app.py"), "this is no Python\n");
        server.signal(Signal::SIGHUP);
        server.wait_for_log("SyntaxError");
        for _ in 0..10 {
            assert_eq!(server.get("/").text(), "first one", "{words:?}");
        }
        wait_until("the old workers alone", || server.workers() == before);
        write_app(&server.path(""), "mended");
        server.signal(Signal::SIGHUP);
        answers(&server, "mended one");
        server.stop();
    }
}

#[test]
fn changed_files_are_loaded() {
    for engine in ["auto", "poll"] {
        for class in [&[][..], &["--threads", "2"], &["-k", "gevent"]] {
            let words = [&["--reload", "--reload-engine", engine], class].concat();
            let server = setup(&words).allow("Reloader is on").allow("Worker reloading").start();
            answers(&server, "first one");
            write_part(&server.path(""), "two");
            let line = server.wait_for_log("Worker reloading: ");
            assert!(line.contains("part.py modified"), "{line}");
            answers(&server, "first two");
            write_app(&server.path(""), "second");
            answers(&server, "second two");
            server.stop();
        }
    }
}

#[test]
fn a_broken_file_is_shown_and_a_mended_one_is_loaded() {
    for class in [&[][..], &["--threads", "2"]] {
        let server = setup(&[&["--reload"], class].concat())
            .allow("Reloader is on")
            .allow("Worker reloading")
            .allow("invalid syntax (site_app.py")
            .start();
        answers(&server, "first one");
        replace(&server.path("site_app.py"), "def application(:\n");
        let mut shown = String::new();
        wait_until("the traceback in the response", || {
            let response = server.get("/");
            shown = response.text();
            response.status == 500 && shown.contains("SyntaxError")
        });
        assert!(shown.contains("site_app.py"), "{shown}");
        write_app(&server.path(""), "mended");
        answers(&server, "mended one");
        server.stop();
    }
}

/// Nothing watches the files when every worker ends while it imports them.
#[test]
fn what_ended_its_workers_is_soon_tried_again() {
    let server = setup(&["--reload", "--workers", "1"])
        .allow("Reloader is on")
        .allow("Worker reloading")
        .allow("exited with code 1")
        .allow("ool default")
        .start();
    answers(&server, "first one");
    replace(&server.path("site_app.py"), "import os\nos._exit(1)\n");
    let line = server.wait_for_log("failed 7 times in a row; the next one starts in ");
    let wait = line.rsplit_once("starts in ").expect("the wait").1;
    let seconds: f64 = wait.trim_end_matches([' ', 's']).parse().expect("seconds");
    assert!(seconds <= 1.0, "{line}");
    write_app(&server.path(""), "mended");
    answers(&server, "mended one");
    server.stop();
}

#[test]
fn extra_files_are_watched() {
    let words = ["--reload", "--reload-extra-file", "settings/*.toml"];
    let setup = setup(&words).allow("Reloader is on").allow("Worker reloading");
    fs::create_dir(setup.path("settings")).expect("a directory");
    fs::write(setup.path("settings/a.toml"), "a = 1\n").expect("a file");
    let server = setup.start();
    let before = server.wait_for_workers(1);
    replace(&server.path("settings/a.toml"), "a = 2\n");
    let line = server.wait_for_log("Worker reloading: ");
    assert!(line.contains("a.toml"), "{line}");
    wait_until("a new worker", || {
        let now = server.workers();
        now.len() == 1 && now != before
    });
    answers(&server, "first one");
    server.stop();
}
