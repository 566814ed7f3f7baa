//! Starts that fail: the same exit code as Gunicorn's, and the cause on the last lines.

use crate::harness::contest::{BOTH, Contest, Who};

/// A start that fails.
struct Failing {
    /// Words of the command line, separated by blanks.
    words: &'static str,
    /// A file of the start directory, `NAME: text`; empty if there is none.
    file: (&'static str, &'static str),
    /// The exit code of both.
    code: i32,
    /// What rgunicorn's last line of standard error says.
    cause: &'static str,
}

const fn plain(words: &'static str, code: i32, cause: &'static str) -> Failing {
    with_file(words, ("", ""), code, cause)
}

const fn with_file(words: &'static str, file: (&'static str, &'static str), code: i32, cause: &'static str) -> Failing {
    Failing {
        words,
        file,
        code,
        cause,
    }
}

/// Fails with the first row that is not as it says.
fn check(rows: &[Failing]) {
    let mut wrong = Vec::new();
    for row in rows {
        let words: Vec<&str> = ["-b", "127.0.0.1:0"].into_iter().chain(row.words.split(' ')).collect();
        let contest = Contest::new(&words).file(row.file.0, row.file.1);
        for who in BOTH {
            let mut contestant = contest.run_to_end(who);
            let code = contestant.wait_for_end();
            let text = contestant.stderr();
            let end: Vec<&str> = text.trim_end().lines().rev().take(12).collect();
            let told = who == Who::Gunicorn || row.cause.is_empty() || end.iter().any(|line| line.contains(row.cause));
            if code != row.code || !told {
                wrong.push(format!(
                    "{who:?} {}: code {code} instead of {}, {:?} expected in:\n{text}",
                    row.words, row.code, row.cause
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn app_specifications() {
    check(&[
        plain("nosuch:app", 3, "No module named 'nosuch'"),
        plain("hello.application", 3, "No module named 'hello.application'"),
        plain("hello.py", 3, "hello"),
        plain(":application", 3, "Empty module name: the app is named ':application'"),
        plain(":", 3, "Empty module name"),
        plain("", 3, "Empty module name: the app is named ''"),
        with_file(
            "-c full.py ",
            ("full.py", "wsgi_app = 'hello:application'\n"),
            3,
            "Empty module name: the app is named ''",
        ),
        plain("hello:missing", 4, "Failed to find attribute 'missing' in 'hello'."),
        plain("hello:not_callable", 4, "Application object must be callable."),
        plain(
            "hello:gives_nothing()",
            4,
            "Failed to find application object: 'gives_nothing()'",
        ),
        plain(
            "hello:factory(x)",
            4,
            "Failed to parse arguments as literal values: 'factory(x)'",
        ),
        plain("hello:factory(1,2,3)", 4, "factory"),
        plain(
            "hello:a.b",
            4,
            "Failed to parse 'a.b' as an attribute name or function call.",
        ),
        plain("hello:", 4, "Failed to parse '' as an attribute name or function call."),
        plain(
            "hello:1",
            4,
            "Failed to parse '1' as an attribute name or function call.",
        ),
    ]);
}

#[test]
fn imports_that_fail() {
    check(&[
        with_file(
            "raises",
            ("raises.py", "raise ValueError('broken on purpose')\n"),
            3,
            "broken on purpose",
        ),
        with_file("syntax", ("syntax.py", "def application(\n"), 3, "syntax.py"),
        with_file(
            "inner",
            ("inner.py", "import no_such_dependency\n"),
            3,
            "No module named 'no_such_dependency'",
        ),
        with_file(
            "--preload raises",
            ("raises.py", "raise ValueError('broken on purpose')\n"),
            1,
            "broken on purpose",
        ),
        plain(
            "--preload hello:missing",
            1,
            "Failed to find attribute 'missing' in 'hello'.",
        ),
    ]);
}

#[test]
fn command_lines() {
    check(&[
        plain("--access-logfile -", 1, "No application module specified."),
        plain("--no-such-option hello", 2, "--no-such-option"),
        plain("--max hello", 2, "--max"),
        plain("--workers -1 hello", 1, "-1"),
        plain("--workers x hello", 2, "x"),
        plain("--timeout 1.5x hello", 2, "1.5x"),
        plain("--umask x hello", 2, "x"),
        plain("-k nosuch hello", 1, "nosuch"),
        plain("-c missing.py hello", 1, "missing.py"),
        plain("--chdir /nosuch hello", 1, "/nosuch"),
        plain("--user nosuch hello", 1, "nosuch"),
        plain("--group nosuch hello", 1, "nosuch"),
        plain("--pid /nosuch/x.pid hello", 1, "/nosuch"),
        plain("--error-logfile /nosuch/x hello", 1, "/nosuch/x"),
        plain("--access-logfile /nosuch/x hello", 1, "/nosuch/x"),
        plain("--log-config missing.ini hello", 1, "missing.ini"),
        plain("--logger-class nosuch hello", 1, "nosuch"),
        plain("-e FOO hello", 1, "FOO"),
        plain("--forwarded-allow-ips x.y hello", 1, "x.y"),
        plain("--statsd-host x:y hello", 1, "statsd"),
        plain("--log-syslog --log-syslog-facility none hello", 1, "facility"),
        plain("-b nonsense:x hello", 1, "nonsense:x"),
    ]);
}

#[test]
fn conf_files_that_fail() {
    const NAME: &str = "broken.py";
    check(&[
        with_file(
            "-c broken.py hello",
            (NAME, "raise RuntimeError('conf broke')\n"),
            1,
            "conf broke",
        ),
        with_file("-c broken.py hello", (NAME, "workers = \n"), 1, "SyntaxError"),
        with_file("-c broken.py hello", (NAME, "workers = 'many'\n"), 1, "workers"),
        with_file("-c broken.py hello", (NAME, "workers = 1.5\n"), 1, "workers"),
        with_file("-c broken.py hello", (NAME, "workers = -1\n"), 1, "workers"),
        with_file("-c broken.py hello", (NAME, "bind = 8000\n"), 1, "bind"),
        with_file("-c broken.py hello", (NAME, "post_fork = 1\n"), 1, "post_fork"),
        with_file(
            "-c broken.py hello",
            (NAME, "def post_fork(server): pass\n"),
            1,
            "post_fork",
        ),
        with_file(
            "-c file:broken.py hello",
            (NAME, "worker_class = 'nosuch'\n"),
            1,
            "nosuch",
        ),
        with_file(
            "-c python:broken hello",
            (NAME, "raise RuntimeError('conf broke')\n"),
            1,
            "conf broke",
        ),
    ]);
}

#[test]
fn hooks_that_fail() {
    const FAIL: &str = "raise RuntimeError('hook broke')\n";
    let body = |head: &str| -> &'static str { Box::leak(format!("def {head}:\n    {FAIL}").into_boxed_str()) };
    const NAME: &str = "gunicorn.conf.py";
    check(&[
        with_file("hello", (NAME, body("on_starting(server)")), 1, "hook broke"),
        with_file("hello", (NAME, body("when_ready(server)")), 1, "hook broke"),
        with_file("hello", (NAME, body("post_fork(server, worker)")), 3, "hook broke"),
        with_file("hello", (NAME, body("post_worker_init(worker)")), 3, "hook broke"),
    ]);
}

#[test]
fn checks_of_the_configuration() {
    check(&[
        plain("--check-config hello", 0, ""),
        plain("hello:iterator extra words --check-config", 0, ""),
        plain("--check-config --backlog 0 hello", 0, ""),
        plain("--check-config --backlog 100000 hello", 0, ""),
        plain("--check-config nosuch", 1, "No module named 'nosuch'"),
        plain("--check-config ", 1, "Empty module name"),
        plain(
            "--check-config hello:missing",
            1,
            "Failed to find attribute 'missing' in 'hello'.",
        ),
    ]);
}

#[test]
fn the_version_can_be_read_by_programs() {
    for who in BOTH {
        let mut it = Contest::new(&["--version"]).run_to_end(who);
        assert_eq!(it.wait_for_end(), 0, "{who:?}");
        let text = it.text("stdout.log");
        let version = text.split_once("(version ").and_then(|(_, rest)| rest.split_once(')'));
        let version = version.map(|(version, _)| version.to_owned()).unwrap_or_default();
        assert!(
            version.split('.').count() == 3 && version.starts_with(|first: char| first.is_ascii_digit()),
            "{who:?}: {text:?}"
        );
    }
}
