//! Processes as tools outside see them: titles, parents, pid files, log files that are moved, and upgrades.

use std::fs;

use nix::sys::signal::Signal;

use super::{Seen, compare, note, note_get, note_log};
use crate::harness::contest::{BOTH, Contest, Contestant, Who};
use crate::harness::{procs, wait_for, wait_until};

fn number(text: &str) -> Option<i32> {
    text.trim().parse().ok()
}

#[test]
fn titles_and_parents() {
    for words in [
        &["--workers", "2", "recorder"][..],
        &["--workers", "2", "--name", "shop", "--threads", "2", "recorder:app"],
        &["--workers", "2", "--name", "shop", "--preload", "recorder:app"],
    ] {
        let contest = Contest::new(&[&["-b", "127.0.0.1:0"], words].concat()).with_titles();
        compare(&contest, |it| {
            let mut seen = Seen::new();
            let workers = it.wait_for_workers(2);
            wait_until("three titles", || it.shown().len() == 3);
            seen.insert("titles".to_owned(), it.shown());
            for worker in workers {
                let parent = procs::look(worker).map(|process| process.parent);
                note(&mut seen, "parent is the arbiter", parent == Some(it.pid));
            }
            note(&mut seen, "exit code", it.stop(Signal::SIGTERM));
            seen
        });
    }
}

#[test]
fn titles_need_no_setproctitle() {
    for words in [&["recorder"][..], &["--preload", "recorder"]] {
        let words = [&["-b", "127.0.0.1:0", "-n", "shop"], words].concat();
        let mut it = Contest::new(&words).start(Who::Ours);
        it.wait_for_workers(1);
        wait_until("the titles", || {
            it.shown() == ["gunicorn: master [shop]", "gunicorn: worker [shop]"]
        });
        assert_eq!(it.stop(Signal::SIGTERM), 0);
    }
}

#[test]
fn apps_and_hooks_change_the_title_by_setproctitle() {
    let change = "import setproctitle as s; s.setproctitle('[ready] ' + s.getproctitle())";
    let hook = format!("def post_worker_init(worker):\n    {change}\n");
    let app = format!("{change}\nfrom recorder import *\n");
    for (words, hook, app) in [
        (&["recorder"][..], hook.as_str(), ""),
        (&["--preload", "recorder"], hook.as_str(), ""),
        (&["titled"], "", app.as_str()),
        (&["titled"], "def post_worker_init(worker): pass\n", app.as_str()),
    ] {
        let words = [&["-b", "127.0.0.1:0", "-w", "2", "-n", "shop"], words].concat();
        let contest = Contest::new(&words)
            .file("gunicorn.conf.py", hook)
            .file("titled.py", app)
            .with_titles();
        for who in BOTH {
            let mut it = contest.start(who);
            wait_until("two changed titles", || {
                let ready = |process: &procs::Process| process.command() == "[ready] gunicorn: worker [shop]";
                procs::children(it.pid).iter().filter(|process| ready(process)).count() == 2
            });
            assert_eq!(it.stop(Signal::SIGTERM), 0);
        }
    }
}

#[test]
fn ends_by_each_signal() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT] {
        let contest = Contest::new(&["-b", "127.0.0.1:0", "-w", "2", "-p", "app.pid", "recorder"]);
        compare(&contest, |it| {
            let mut seen = Seen::new();
            it.wait_for_workers(2);
            note(&mut seen, "pid file", it.plain(&it.text("app.pid")));
            note(&mut seen, "exit code", it.stop(signal));
            note(&mut seen, "pid file left", it.path("app.pid").exists());
            note_log(it, &mut seen);
            seen
        });
    }
}

#[test]
fn pid_files_of_the_living_and_the_dead() {
    for (content, code) in [("1\n", 1), ("999999999\n", 0), ("no number\n", 0), ("", 0)] {
        let contest = Contest::new(&["-b", "127.0.0.1:0", "-p", "app.pid", "recorder"]).file("app.pid", content);
        for who in BOTH {
            let mut it = if code == 0 {
                contest.start(who)
            } else {
                contest.spawn(who)
            };
            if code == 0 {
                wait_until("its own pid", || number(&it.text("app.pid")) == Some(it.pid));
                it.signal(Signal::SIGTERM);
            }
            assert_eq!(it.wait_for_end(), code, "{who:?} {content:?}: {}", it.stderr());
            assert_eq!(it.path("app.pid").exists(), code != 0, "{who:?} {content:?}");
        }
    }
}

#[test]
fn log_files_that_were_moved() {
    let words = [
        "-b",
        "127.0.0.1:0",
        "--access-logfile",
        "access.txt",
        "--error-logfile",
        "error.txt",
    ];
    let words = [
        &words[..],
        &["--capture-output", "--access-logformat", "%(m)s %(U)s", "corners"],
    ]
    .concat();
    for who in BOTH {
        let mut it = Contest::new(&words).spawn(who);
        it.listens_by("error.txt");
        it.get("/errors");
        it.wait_for_file("access.txt", "GET /errors", 1);
        it.wait_for_file("error.txt", "by print", 1);
        for name in ["access.txt", "error.txt"] {
            fs::rename(it.path(name), it.path(&format!("{name}.1"))).expect("the file is moved");
        }
        it.signal(Signal::SIGUSR1);
        wait_until("the new files", || {
            it.path("access.txt").exists() && it.path("error.txt").exists()
        });
        wait_until("a line in the new files", || {
            it.get("/errors");
            it.text("access.txt").contains("GET /errors") && it.text("error.txt").contains("to wsgi.errors")
        });
        assert_eq!(it.stop(Signal::SIGTERM), 0, "{who:?}");
    }
}

/// Sends USR2 and waits for the second arbiter.
fn upgrade(it: &Contestant) -> i32 {
    it.signal(Signal::SIGUSR2);
    wait_for("the second pid file", || {
        it.assert_running();
        number(&it.text("app.pid.2"))
    })
}

#[test]
fn an_upgrade_that_stays() {
    let words = ["-b", "127.0.0.1:0", "-w", "2", "-p", "app.pid", "recorder"];
    for titles in [false, true] {
        let contest = Contest::new(&words);
        let contest = if titles { contest.with_titles() } else { contest };
        compare(&contest, |it| {
            let mut seen = Seen::new();
            let old = it.wait_for_workers(2);
            let second = upgrade(it);
            it.wait_for_workers(4);
            note(&mut seen, "old pid file", number(&it.text("app.pid")) == Some(it.pid));
            note(
                &mut seen,
                "parent of the second",
                procs::look(second).map(|it_is| it_is.parent) == Some(it.pid),
            );
            note_get(it, "/", &mut seen);
            note(&mut seen, "exit code of the first", it.stop_first(Signal::SIGTERM));
            wait_until("the promotion", || {
                number(&it.text("app.pid")) == Some(second) && !it.path("app.pid.2").exists()
            });
            note(&mut seen, "old workers", old.iter().any(|pid| procs::is_alive(*pid)));
            note_get(it, "/", &mut seen);
            procs::signal(second, Signal::SIGTERM);
            wait_until("the end of the second", || !procs::is_alive(second));
            note(&mut seen, "pid file left", it.path("app.pid").exists());
            for line in ["has been promoted", "Handling signal: usr2", "Handling signal: term"] {
                note(&mut seen, line, it.stderr().matches(line).count());
            }
            seen
        });
    }
}

#[test]
fn an_upgrade_that_is_taken_back() {
    let contest = Contest::new(&["-b", "127.0.0.1:0", "-w", "2", "-p", "app.pid", "recorder"]);
    compare(&contest, |it| {
        let mut seen = Seen::new();
        it.wait_for_workers(2);
        let second = upgrade(it);
        it.wait_for_workers(4);
        // Once more does nothing: there is a second one already.
        it.signal(Signal::SIGUSR2);
        it.wait_for_log("Child exists", 1);
        procs::signal(second, Signal::SIGTERM);
        wait_until("the end of the second", || {
            !procs::is_alive(second) && !it.path("app.pid.2").exists()
        });
        note(&mut seen, "pid file", number(&it.text("app.pid")) == Some(it.pid));
        it.wait_for_workers(2);
        note_get(it, "/", &mut seen);
        note(&mut seen, "exit code", it.stop(Signal::SIGTERM));
        seen
    });
}
