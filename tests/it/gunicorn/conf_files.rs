//! Ten conf files in the styles that are common, one test each.

use std::collections::BTreeSet;

use nix::sys::signal::Signal;

use super::{Seen, compare, conf, note, note_get, note_log, note_record};
use crate::harness::contest::{BOTH, Contest, Contestant, Who};
use crate::harness::{procs, wait_until};

/// A contest with one of the conf files, which both find by themselves.
fn with_conf(name: &str, words: &[&str]) -> Contest {
    let words = [&["--bind", "127.0.0.1:0"], words].concat();
    Contest::new(&words).file("gunicorn.conf.py", &conf(name))
}

/// Stops it with TERM and notes how it ended and what is left.
fn finish(contestant: &mut Contestant, seen: &mut Seen) {
    let code = contestant.stop(Signal::SIGTERM);
    note(seen, "exit code", code);
    note_record(contestant, seen);
}

#[test]
fn tutorial() {
    let contest = with_conf("tutorial.py", &["recorder:application"]).with_titles();
    compare(&contest, |it| {
        let mut seen = Seen::new();
        it.wait_for_workers(2);
        note_get(it, "/", &mut seen);
        it.wait_for_file("stdout.log", "GET / ", 1);
        // A worker says that it boots before it has its title.
        wait_until("three titles", || it.shown().len() == 3);
        seen.insert("titles".to_owned(), it.shown());
        finish(it, &mut seen);
        note_log(it, &mut seen);
        // An access line but for its time: everything before it and after it.
        for line in it.text("stdout.log").lines() {
            let (before, rest) = line.split_once('[').unwrap_or((line, ""));
            note(
                &mut seen,
                "access log",
                format!("{before}[]{}", rest.split_once(']').unwrap_or(("", rest)).1),
            );
        }
        seen
    });
}

#[test]
fn stock_hooks() {
    let contest = with_conf("stock_hooks.py", &["recorder"]);
    compare(&contest, |it| {
        let mut seen = Seen::new();
        it.wait_for_record("post_worker_init", 2);
        it.signal(Signal::SIGTTIN);
        it.wait_for_record("post_worker_init", 3);
        it.signal(Signal::SIGTTOU);
        it.wait_for_record("child_exit", 1);
        it.signal(Signal::SIGHUP);
        it.wait_for_record("post_worker_init", 5);
        it.wait_for_record("child_exit", 3);
        finish(it, &mut seen);
        note_log(it, &mut seen);
        seen
    });
}

#[test]
fn request_arguments_of_stock_hooks() {
    let contest = with_conf("stock_hooks.py", &["--workers", "1", "recorder"]);
    compare(&contest, |it| {
        let mut seen = Seen::new();
        it.wait_for_record("post_worker_init", 1);
        note_get(it, "/a%20b/c?d=e&f", &mut seen);
        it.request("POST", "/echo", &[("X-One", "1")], b"body");
        it.wait_for_record("post_request", 2);
        finish(it, &mut seen);
        seen
    });
}

#[test]
fn quick_stop_of_stock_hooks() {
    let contest = with_conf("stock_hooks.py", &["recorder"]);
    compare(&contest, |it| {
        let mut seen = Seen::new();
        it.wait_for_record("post_worker_init", 2);
        note(&mut seen, "exit code", it.stop(Signal::SIGQUIT));
        note_record(it, &mut seen);
        note_log(it, &mut seen);
        seen
    });
}

#[test]
fn prometheus() {
    let contest = with_conf("prometheus.py", &[]).env("PROMETHEUS_MULTIPROC_DIR", "metrics");
    compare(&contest, |it| {
        let mut seen = Seen::new();
        it.wait_for_workers(2);
        // Both have set up their metrics.
        wait_until("two workers in the metrics", || {
            it.get("/metrics").text().contains("app_alive 2.0")
        });
        for _ in 0..10 {
            note_get(it, "/", &mut seen);
        }
        let metrics = |it: &Contestant, seen: &mut Seen| {
            let text = it.get("/metrics").text();
            let mut lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
            // Their order is that of the workers' files in the directory.
            lines.sort_unstable();
            for line in lines {
                note(seen, "metrics", line);
            }
        };
        metrics(it, &mut seen);
        it.signal(Signal::SIGTTOU);
        it.wait_for_record("child_exit", 1);
        metrics(it, &mut seen);
        finish(it, &mut seen);
        seen
    });
}

#[test]
fn worker_ids() {
    let contest = with_conf("worker_ids.py", &["recorder:application"]);
    compare(&contest, |it| {
        let mut seen = Seen::new();
        it.wait_for_record("post_worker_init", 3);
        // The one in the middle, which need not have the middle pid, dies, and its number is given out again.
        let middle = it.text("pid-2").parse().expect("a pid");
        crate::harness::procs::signal(middle, Signal::SIGKILL);
        it.wait_for_record("post_worker_init", 4);
        finish(it, &mut seen);
        seen
    });
}

#[test]
fn preload() {
    let contest = with_conf("preload.py", &["preloaded:application"]);
    compare(&contest, |it| {
        let mut seen = Seen::new();
        it.wait_for_record("post_worker_init", 2);
        note_get(it, "/importer", &mut seen);
        finish(it, &mut seen);
        seen
    });
}

#[test]
fn from_environment() {
    let contest = with_conf("from_environment.py", &[])
        .file(
            "settings.env",
            "APP_WORKERS=2\nAPP_THREADS=2\nAPP_SECRET=from the file\n",
        )
        .file("below/empty", "")
        .env("APP_TIMEOUT", "77")
        .env(
            "GUNICORN_CMD_ARGS",
            "--threads=3 --log-level info -e THREE=3 ignored:app",
        );
    compare(&contest, |it| {
        let mut seen = Seen::new();
        it.wait_for_log("Booting worker", 2);
        note_get(it, "/process", &mut seen);
        note_get(it, "/note", &mut seen);
        // Another worker may write the next line.
        it.wait_for_file("access.txt", "/note", 1);
        it.request(
            "POST",
            "/echo?a=b",
            &[("X-Note", "from the client"), ("Referer", "x\"y")],
            b"body",
        );
        it.wait_for_file("access.txt", "POST", 1);
        note(&mut seen, "pid file", it.plain(&it.text("app.pid")));
        finish(it, &mut seen);
        note(&mut seen, "pid file after the end", it.path("app.pid").exists());
        // The path of the program is part of the first response, and so of its size.
        let text = it.text("access.txt");
        let lines = text.lines().filter(|line| !line.contains("/process"));
        seen.insert("access log".to_owned(), lines.map(str::to_owned).collect());
        note_log(it, &mut seen);
        seen
    });
}

#[test]
fn logconfig_dict() {
    let contest = with_conf("logconfig_dict.py", &["recorder:application"]);
    compare_by_file(&contest, &["errors.txt", "requests.txt"]);
}

#[test]
fn logger_class() {
    let contest = with_conf("logger_class.py", &["recorder:application"]);
    compare_by_file(&contest, &["access.txt"]);
}

/// Requests of several kinds, and then the log files.
fn compare_by_file(contest: &Contest, files: &[&str]) {
    compare(contest, |it| {
        let mut seen = Seen::new();
        it.wait_for_log("Booting worker", 1);
        for target in ["/health", "/note?token=1", "/"] {
            note_get(it, target, &mut seen);
        }
        it.wait_for_file(files.last().expect("a file"), "GET / ", 1);
        finish(it, &mut seen);
        // When the control socket is opened is no matter of loggers, and what two processes say has no order.
        let of_arbiter = |line: &str| {
            [
                "Starting ",
                "Listening at: ",
                "Using worker: ",
                "Handling signal: ",
                "Shutting down: ",
            ]
            .iter()
            .any(|text| line.contains(text))
        };
        for name in [files, &["stderr.log"]].concat() {
            let text = it.plain(&it.text(name));
            let lines = text.lines().filter(|line| !line.contains("Control socket "));
            let (arbiter, others): (Vec<&str>, Vec<&str>) = lines.partition(|line| of_arbiter(line));
            let owned = |lines: Vec<&str>| lines.into_iter().map(str::to_owned).collect();
            seen.insert(format!("{name}, arbiter"), owned(arbiter));
            seen.insert(format!("{name}, others"), owned(others));
        }
        seen
    });
}

#[test]
fn threads_and_limits() {
    let contest = with_conf("threads_and_limits.py", &["recorder:application"]);
    compare(&contest, |it| {
        let mut seen = Seen::new();
        let long = "x".repeat(300);
        let target = format!("/{long}");
        // A line that is too long gets the status made for it, where Gunicorn says 400.
        let status = it.get(&target).status;
        assert_eq!(status, if it.who == Who::Ours { 414 } else { 400 });
        note_status(it, "/", &[("X-Long", &long)], &mut seen);
        let many: Vec<(&str, &str)> = (0..11).map(|_| ("X-Many", "1")).collect();
        note_status(it, "/", &many, &mut seen);
        for _ in 0..5 {
            note_get(it, "/", &mut seen);
        }
        it.wait_for_record("worker_exit", 1);
        it.wait_for_record("post_worker_init", 2);
        note_get(it, "/", &mut seen);
        it.wait_for_file("access.txt", "GET / 200", 6);
        finish(it, &mut seen);
        // Requests that are refused before there is an app for them have a line with us only.
        let text = it.text("access.txt");
        let lines = text
            .lines()
            .filter(|line| !line.ends_with(" 414") && !line.ends_with(" 431"));
        seen.insert("access log".to_owned(), lines.map(str::to_owned).collect());
        seen
    });
}

fn note_status(it: &Contestant, target: &str, fields: &[(&str, &str)], seen: &mut Seen) {
    let response = it.request("GET", target, fields, b"");
    note(seen, "statuses", response.status);
}

#[test]
fn request_hooks() {
    let contest = with_conf("request_hooks.py", &["recorder:application"]).with_titles();
    compare(&contest, |it| {
        let mut seen = Seen::new();
        for target in ["/", "/refuse", "/fail", "/enough"] {
            note_get(it, target, &mut seen);
        }
        it.wait_for_record("child_exit", 1);
        let environ = it.get("/environ").text();
        let scheme = environ
            .lines()
            .filter(|line| line.contains("scheme") || line.contains("X_ADDED"));
        scheme.for_each(|line| note(&mut seen, "environ", line));
        finish(it, &mut seen);
        seen
    });
}

#[test]
fn hooks_log_to_the_error_log_and_print_elsewhere() {
    const CONF: &str = "\
import sys
def tell(log, name):
    log.error('logged by %s', name)
    print('printed by', name, flush=True)
    print('printed by', name, file=sys.stderr, flush=True)
def on_starting(server): tell(server.log, 'on_starting')
def when_ready(server): tell(server.log, 'when_ready')
def nworkers_changed(server, new, old): tell(server.log, 'nworkers_changed')
def pre_fork(server, worker): tell(server.log, 'pre_fork')
def child_exit(server, worker): tell(server.log, 'child_exit')
def on_exit(server): tell(server.log, 'on_exit')
";
    let words = ["-b", "127.0.0.1:0", "--error-logfile", "error.txt", "recorder"];
    let own_logger = "import gunicorn.glogging\nclass logger_class(gunicorn.glogging.Logger): pass\n";
    for start in ["", own_logger] {
        let contest = Contest::new(&words).file("gunicorn.conf.py", &format!("{start}{CONF}"));
        let [theirs, ours] = BOTH.map(|who| {
            let mut it = contest.spawn(who);
            it.listens_by("error.txt");
            it.wait_for_file("error.txt", "Booting worker with pid: ", 1);
            let log = it.text("error.txt");
            let booted = log.split_once("Booting worker with pid: ").expect("a worker").1;
            let worker = booted
                .lines()
                .next()
                .and_then(|text| text.trim().parse().ok())
                .expect("its pid");
            // Any other signal could come before Gunicorn's worker has handlers of its own.
            procs::signal(worker, Signal::SIGKILL);
            it.wait_for_file("error.txt", "logged by child_exit", 1);
            it.wait_for_file("error.txt", "Booting worker with pid: ", 2);
            assert_eq!(it.stop(Signal::SIGTERM), 0, "{who:?}");
            // How often Gunicorn runs child_exit at the end is chance.
            ["error.txt", "stderr.log", "stdout.log"].map(|name| {
                let text = it.text(name);
                let words = |line: &str| {
                    line.find("logged by ")
                        .or(line.find("printed by "))
                        .map(|at| line[at..].to_owned())
                };
                text.lines().filter_map(words).collect::<BTreeSet<_>>()
            })
        });
        assert_eq!(ours, theirs, "{start}");
        assert_eq!(ours[0].len(), 6, "{ours:?}");
    }
}

#[test]
fn exceptions_of_hooks_stand_in_the_error_log() {
    let words = ["-b", "127.0.0.1:0", "--error-logfile", "error.txt", "recorder"];
    let conf = "def child_exit(server, worker): 1 / 0\n";
    let mut it = Contest::new(&words).file("gunicorn.conf.py", conf).spawn(Who::Ours);
    it.listens_by("error.txt");
    assert_eq!(it.stop(Signal::SIGTERM), 0);
    let log = it.text("error.txt");
    assert!(log.contains("[ERROR] Exception in child_exit hook\nTraceback"), "{log}");
    assert!(log.contains("\nZeroDivisionError: division by zero\n"), "{log}");
    assert_eq!(it.stderr(), "");
}
