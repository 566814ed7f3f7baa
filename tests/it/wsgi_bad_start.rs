//! Starts of WSGI apps that fail: the last line of the log is the cause.

use std::fs;

use crate::harness::Setup;

/// The exit code, and the last line of standard error.
fn end_of(app: &str, words: &[&str]) -> (Option<i32>, String) {
    let setup = Setup::bare(&[words, &["app"]].concat());
    fs::write(setup.path("app.py"), app).expect("an app");
    let ended = setup.run_to_end();
    let last = ended.stderr.trim_end().lines().next_back().unwrap_or_default();
    (ended.status.code(), last.to_owned())
}

#[test]
fn an_import_that_hangs_or_crashes_is_the_last_line_also_with_extension_modules() {
    // Where one was loaded, Python prints their list below its stacks.
    for import in ["", "import greenlet\n"] {
        for (act, words, expected) in [
            (
                "import time\ntime.sleep(1000)\n",
                &["--boot-timeout", "1"][..],
                "The app was not ready within 1s (boot_timeout); it was at /",
            ),
            (
                "import os\nos.kill(os.getpid(), 11)\n",
                &[],
                "was killed by SIGSEGV (not sent by the arbiter",
            ),
            ("raise ValueError('on purpose')\n", &[], "on purpose"),
        ] {
            let (code, last) = end_of(&format!("{import}{act}"), words);
            assert_eq!(code, Some(3), "{last}");
            assert!(last.contains(expected), "{import}{act}: {last}");
            if !act.starts_with("raise") {
                let line = import.lines().count() + 2;
                let place = format!("app.py, line {line} in <module>");
                assert!(last.ends_with(&place), "{import}{act}: {last}");
            }
        }
    }
}

#[test]
fn an_app_that_exits_at_import_is_the_last_line() {
    for words in [&[][..], &["--reload"], &["--preload"]] {
        for (act, cause) in [
            ("import sys\nsys.exit(9)\n", "SystemExit: 9"),
            (
                "print('loading', flush=True)\nraise KeyboardInterrupt\n",
                "KeyboardInterrupt",
            ),
        ] {
            let (code, last) = end_of(act, words);
            assert_ne!(code, Some(0), "{last}");
            let expected = format!("importing the app failed: {cause}");
            assert!(last.contains(&expected), "{words:?} {act}: {last}");
        }
    }
}

#[test]
fn what_is_no_python_is_asked_once_and_shows_what_it_printed() {
    for (text, expected) in [
        ("echo; echo hello; echo more; exit 7", "(it printed: hello)"),
        ("exit 0", "(it printed nothing)"),
        ("echo \"$@\"", "(it printed: -c import sys; print("),
        (
            "echo 'rgunicorn: Python 2.7'",
            "is Python 2.7, but 3.8 is the oldest that will do",
        ),
    ] {
        for conf in ["", "workers = 1\n"] {
            let setup = Setup::bare(&["--python", "./python", "app"]);
            let program = setup.path("python");
            fs::write(&program, format!("#!/bin/sh\necho >> asked\n{text}\n")).expect("a program");
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            fs::set_permissions(&program, mode).expect("it can be executed");
            if !conf.is_empty() {
                fs::write(setup.path("gunicorn.conf.py"), conf).expect("a file");
            }
            let asked = setup.path("asked");
            let mut times = 0;
            let ended = setup.run_to_end_and(|| times = fs::read_to_string(asked).unwrap_or_default().lines().count());
            assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
            let first = ended.stderr.lines().next().unwrap_or_default();
            assert!(
                first.contains("/python is ") && first.contains(expected),
                "{}",
                ended.stderr
            );
            assert!(ended.stderr.contains("--python /usr/bin/python3"), "{}", ended.stderr);
            assert!(ended.stderr.lines().count() <= 3, "{}", ended.stderr);
            assert_eq!(times, 1);
        }
    }
    let ended = Setup::bare(&["--python", "/bin/ls", "--check-config", "app"]).run_to_end();
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("/bin/ls is no Python interpreter (it printed: "),
        "{}",
        ended.stderr
    );
}

#[test]
fn an_interpreter_that_is_replaced_by_another_program_is_refused_by_a_reload() {
    let app = "def application(environ, start_response):\n    start_response('200 OK', [])\n    return [b'fine']\n";
    let setup = Setup::bare(&["--python", "./python", "app"])
        .allow("eload")
        .allow("no Python interpreter");
    fs::write(setup.path("app.py"), app).expect("an app");
    let write = |path: &std::path::Path, text: &str| {
        let new = path.with_extension("new");
        fs::write(&new, text).expect("a program");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&new, mode).expect("it can be executed");
        fs::rename(&new, path).expect("it takes the other's place");
    };
    let real = crate::harness::python::python();
    write(
        &setup.path("python"),
        &format!("#!/bin/sh\nexec '{}' \"$@\"\n", real.display()),
    );
    let server = setup.start();
    let before = server.wait_for_workers(1);
    write(&server.path("python"), "#!/bin/sh\necho hello\n");
    server.signal(nix::sys::signal::Signal::SIGHUP);
    server.wait_for_log("python is no Python interpreter (it printed: hello)");
    server.wait_for_log("Reload failed");
    assert_eq!(server.get("/").text(), "fine");
    assert_eq!(server.wait_for_workers(1), before);
    server.stop();
}
