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
