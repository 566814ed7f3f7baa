//! Loading a configuration with the real binary: layers, origins, and what is said about mistakes.

use crate::settings_table::assert_recorded;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// What a run said.
struct Said {
    code: i32,
    out: String,
    err: String,
}

/// Runs the binary in a directory with only these variables.
fn run(directory: &Path, env: &[(&str, &str)], args: &[&str]) -> Said {
    let output = Command::new(env!("CARGO_BIN_EXE_rgunicorn"))
        .args(args)
        .env_clear()
        .envs(env.iter().copied())
        .current_dir(directory)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    Said {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The printed line of each of `names` when the arguments (in /, with /bin/true as program) are fine.
fn values(env: &[(&str, &str)], args: &[&str], names: &[&str]) -> Vec<String> {
    let args = [&["--exec", "/bin/true", "--print-config"], args].concat();
    let said = run(Path::new("/"), env, &args);
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{args:?}");
    names.iter().map(|name| printed(&said, name)).collect()
}

fn printed(said: &Said, name: &str) -> String {
    let prefix = format!("{name} = ");
    let line = said.out.lines().find_map(|line| line.strip_prefix(&prefix));
    line.unwrap_or_else(|| panic!("no {name} in {}", said.out)).to_owned()
}

fn write(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn gunicorns_ways_to_write_options() {
    for (args, name, expected) in [
        (&["-w4"][..], "workers", "4  # command line"),
        (&["-w", "4"], "workers", "4  # command line"),
        (&["--workers=4"], "workers", "4  # command line"),
        (&["--workers=4"], "workers", "4  # command line"),
        (&["-w", "3", "-w", "4"], "workers", "4  # command line"),
        (
            &["-b", ":1", "--bind=[::1]:2"],
            "bind",
            "[\"0.0.0.0:1\", \"[::1]:2\"]  # command line",
        ),
        (&["-b", "unix:x.sock"], "bind", "[\"unix:/x.sock\"]  # command line"),
        (&["-t", "1m"], "timeout", "\"60s\"  # command line"),
        (&["-t", "0"], "timeout", "0  # command line"),
        (&["--keep-alive", "0.5"], "keepalive", "\"500ms\"  # command line"),
        (&["-m", "007"], "umask", "0o007  # command line"),
        (&["--log-level", "WARNING"], "loglevel", "\"warning\"  # command line"),
        (&["--log-file=-"], "errorlog", "\"-\"  # command line"),
        (&["--access-logfile", "-"], "accesslog", "\"-\"  # command line"),
        (
            &["--limit-request-field_size", "0"],
            "limit_request_field_size",
            "0  # command line",
        ),
        (
            &["--limit-request-field-size", "9k"],
            "limit_request_field_size",
            "\"9k\"  # command line",
        ),
        (&["--no-pull"], "pull", "false  # command line"),
        (&["-e", "A=b=c"], "raw_env", "[\"A=b=c\"]  # command line"),
        (
            &["--forwarded-allow-ips=*"],
            "forwarded_allow_ips",
            "[\"*\"]  # command line",
        ),
        (
            &["--forwarded-allow-ips", "10.0.0.1, ::1"],
            "forwarded_allow_ips",
            "[\"10.0.0.1\", \"::1\"]  # command line",
        ),
        (
            &["a", "b", "--", "-c"],
            "exec",
            "[\"/bin/true\", \"a\", \"b\", \"-c\"]  # command line",
        ),
        (&["-n", "shop"], "proc_name", "\"shop\"  # command line"),
    ] {
        assert_eq!(values(&[], args, &[name]), [expected], "{args:?}");
    }
}

#[test]
fn the_command_line_wins_over_the_file_and_the_file_over_the_environment() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a.toml");
    fs::write(
        &file,
        "workers = 3\nbind = [\n  \"127.0.0.1:1\",\n  \"127.0.0.1:2\",\n]\n",
    )
    .unwrap();
    let name = file.to_str().unwrap();
    let env = [
        ("WEB_CONCURRENCY", "2"),
        ("PORT", "9"),
        ("FORWARDED_ALLOW_IPS", "10.0.0.0/8"),
    ];
    let names = ["workers", "bind", "forwarded_allow_ips"];
    assert_eq!(
        values(&env, &[], &names),
        [
            "2  # environment WEB_CONCURRENCY",
            "[\"0.0.0.0:9\"]  # environment PORT",
            "[\"10.0.0.0/8\"]  # environment FORWARDED_ALLOW_IPS",
        ]
    );
    assert_eq!(
        values(&env, &["-c", name, "-b", ":7"], &names),
        [
            format!("3  # {name}:1"),
            "[\"0.0.0.0:7\"]  # command line".to_owned(),
            "[\"10.0.0.0/8\"]  # environment FORWARDED_ALLOW_IPS".to_owned(),
        ]
    );
    assert_eq!(
        values(&env, &["-c", name], &["bind"]),
        [format!("[\"127.0.0.1:1\", \"127.0.0.1:2\"]  # {name}:2")]
    );
    // Gunicorn ends with a traceback here.
    let empty = [("WEB_CONCURRENCY", ""), ("PORT", " "), ("FORWARDED_ALLOW_IPS", "")];
    assert_eq!(
        values(&empty, &[], &names),
        [
            "1  # default",
            "[\"127.0.0.1:8000\"]  # default",
            "[\"127.0.0.1\", \"::1\"]  # default"
        ]
    );
}

#[test]
fn a_printed_configuration_loads_as_a_file_and_prints_the_same_values() {
    let directory = tempfile::tempdir().unwrap();
    let args = [
        "--exec",
        "true",
        "-b",
        "unix:s",
        "-t",
        "90s",
        "--param",
        "A=\"b\"",
        "--print-config",
    ];
    let path = [("PATH", "/usr/bin:/bin")];
    let first = run(directory.path(), &path, &args);
    assert_eq!((first.code, first.err.as_str()), (0, ""));
    fs::write(directory.path().join("printed.toml"), &first.out).unwrap();
    let second = run(directory.path(), &path, &["-c", "printed.toml", "--print-config"]);
    assert_eq!((second.code, second.err.as_str()), (0, ""));
    let plain = |said: &Said| -> Vec<String> {
        said.out
            .lines()
            .map(|line| line.rsplit_once("  # ").unwrap().0.to_owned())
            .collect()
    };
    assert_eq!(plain(&first), plain(&second));
    assert!(first.out.contains("param = [\"A=\\\"b\\\"\"]"), "{}", first.out);
}

#[test]
fn exit_codes_tell_usage_from_bad_values() {
    let root = Path::new("/");
    for (args, code, part) in [
        (&["--bogus"][..], 2, "unexpected argument '--bogus'"),
        (&["--workers"], 2, "a value is required for '--workers <N>'"),
        (
            &["--work", "4"],
            2,
            "ambiguous option: --work could match --worker-class, --workers, --worker-connections, --worker-tmp-dir",
        ),
        (&["-w"], 2, "a value is required"),
        (&["--no-pull=1"], 2, "unexpected value '1'"),
        (
            &["--exec", "/bin/true", "-w", "x"],
            1,
            "workers must be a whole number from 0 to 4096, but not \"x\"",
        ),
        (
            &["--exec", "/bin/true", "-w", "-1"],
            1,
            "workers must be a whole number from 0 to 4096, but not \"-1\"",
        ),
        (&[], 1, "No application module specified."),
        (
            &["-c", "none.toml"],
            1,
            "cannot read none.toml: no such file or directory",
        ),
        (
            &["-c", "gunicorn.conf.py"],
            1,
            "cannot read gunicorn.conf.py: no such file or directory",
        ),
        (&["--exec", "/bin/true", "--check-config"], 0, ""),
        (&["--check-config", "--connect", "tcp:127.0.0.1:9000"], 0, ""),
    ] {
        let said = run(root, &[], args);
        assert_eq!(said.code, code, "{args:?}: {}", said.err);
        assert!(said.err.contains(part), "{args:?}: {}", said.err);
        assert_eq!(said.err.is_empty(), code == 0, "{args:?}: {}", said.err);
        assert_eq!(said.out, "", "{args:?}");
    }
}

#[test]
fn a_check_shows_warnings_and_succeeds() {
    let args = ["--exec", "/bin/true", "--max-requests-jitter", "5", "--check-config"];
    let said = run(Path::new("/"), &[], &args);
    assert_eq!(said.code, 0);
    assert_eq!(
        said.err,
        "rgunicorn: warning: max_requests_jitter does nothing while max_requests is 0\n"
    );
}

#[test]
fn the_command_lines_choice_of_program_wins_over_the_files() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("a.toml"), "exec = \"/bin/true\"\n").unwrap();
    let args = ["-c", "a.toml", "--connect", "tcp:127.0.0.1:9", "--print-config"];
    let said = run(directory.path(), &[], &args);
    assert_eq!(said.err, "");
    assert_eq!(printed(&said, "exec"), "[]  # a.toml:1");
    assert_eq!(printed(&said, "connect"), "[\"tcp:127.0.0.1:9\"]  # command line");
}

#[test]
fn programs_that_the_system_would_refuse_are_explained() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    fs::create_dir(here.join("bin")).unwrap();
    write(&here.join("bin/tool"), "#!/bin/sh\n", 0o755);
    write(&here.join("bin/shut"), "#!/bin/sh\n", 0o644);
    write(&here.join("crlf"), "#!/usr/bin/env python3\r\nprint()\r\n", 0o755);
    write(&here.join("lost"), "#!/nowhere/python -u\n", 0o755);
    write(&here.join("bare"), "print()\n", 0o755);
    write(&here.join("empty"), "", 0o755);
    write(&here.join("blank"), "#! \n", 0o755);
    write(&here.join("env"), "#!/usr/bin/env -S nosuchthing -u\n", 0o755);
    write(&here.join("split"), "#!/usr/bin/env -S A=b tool -u\n", 0o755);
    let path = format!("{}:/usr/bin:/bin", here.join("bin").display());
    for (program, expected) in [
        ("tool", ""),
        ("./split", ""),
        ("bin/tool", ""),
        ("crlf", "not found on PATH"),
        ("crlf", "write ./crlf for the file in"),
        ("./none", "no such file"),
        ("./none", "looked at"),
        ("./bin", "it is a directory"),
        ("bin/shut", "it is not executable"),
        ("bin/shut", "chmod +x"),
        ("shut", "not found on PATH"),
        ("./crlf", "its #! line ends in CR LF"),
        ("./lost", "its interpreter /nowhere/python does not exist"),
        ("./bare", "it has no #! line and is no binary"),
        ("./empty", "it has no #! line and is no binary"),
        ("./blank", "its #! line names no interpreter"),
        ("./env", "its interpreter nosuchthing is not on PATH"),
        ("tool -x", "no shell splits this text"),
        ("", "the name is empty"),
    ] {
        let said = run(here, &[("PATH", &path)], &["--exec", program, "--check-config"]);
        assert_eq!(said.code, i32::from(!expected.is_empty()), "{program}: {}", said.err);
        assert!(said.err.contains(expected), "{program}: {}", said.err);
        if !expected.is_empty() {
            assert!(
                said.err.contains("\n  set on the command line (exec)\n"),
                "{program}: {}",
                said.err
            );
        }
    }
    // The worker's PATH counts, and so does its directory.
    let elsewhere = run(
        Path::new("/"),
        &[],
        &[
            "--chdir",
            here.to_str().unwrap(),
            "--exec",
            "bin/tool",
            "--check-config",
        ],
    );
    assert_eq!(elsewhere.err, "");
    let own = format!("PATH={path}");
    assert_eq!(
        run(here, &[], &["-e", &own, "--exec", "tool", "--check-config"]).err,
        ""
    );
    let cleared = run(
        here,
        &[("PATH", &path)],
        &["--clear-env", "--exec", "tool", "--check-config"],
    );
    assert_eq!(cleared.code, 1, "{}", cleared.err);
}

#[test]
fn the_directory_keeps_the_name_it_was_entered_by() {
    let directory = tempfile::tempdir().unwrap();
    let real = directory.path().join("real");
    let link = directory.path().join("link");
    fs::create_dir(&real).unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let args = ["--exec", "/bin/true", "--print-config"];
    for (pwd, expected) in [(&link, &link), (&directory.path().to_owned(), &real)] {
        let said = run(&real, &[("PWD", pwd.to_str().unwrap())], &args);
        assert_eq!(
            printed(&said, "chdir"),
            format!("\"{}\"  # default", expected.display())
        );
    }
}

#[test]
fn bad_files_are_explained_line_by_line() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/config/bad");
    let mut names: Vec<String> = fs::read_dir(&corpus)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".toml"))
        .collect();
    names.sort();
    assert!(names.len() >= 10, "{names:?}");
    for name in names {
        let said = run(&corpus, &[("PATH", "/usr/bin:/bin")], &["-c", &name, "--check-config"]);
        assert_eq!(said.code, 1, "{name} is bad: {}", said.err);
        let message = said.err.replace(corpus.to_str().unwrap(), "$HERE");
        assert_recorded(
            &format!("tests/data/config/bad/{}", name.replace(".toml", ".txt")),
            &message,
        );
    }
}

/// Stands for an interpreter where no Python is run.
fn fake_python(directory: &Path) -> String {
    let path = directory.join("python3");
    write(&path, "#!/bin/sh\nexit 9\n", 0o755);
    path.to_str().unwrap().to_owned()
}

/// Runs the binary with the real Python of PATH.
fn run_with_python(directory: &Path, env: &[(&str, &str)], args: &[&str]) -> Said {
    let path = std::env::var("PATH").unwrap();
    run(directory, &[&[("PATH", path.as_str())], env].concat(), args)
}

const APP: &str = "def application(environ, start_response):\n    raise SystemExit\n";

#[test]
fn gunicorns_command_lines_for_an_app() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let python = fake_python(here);
    fs::create_dir(here.join("site")).unwrap();
    for (args, name, expected) in [
        (
            &["app:application"][..],
            "wsgi_app",
            "\"app:application\"  # command line",
        ),
        (
            &["-w", "2", "app", "-t", "9", "ignored"],
            "wsgi_app",
            "\"app\"  # command line",
        ),
        (
            &["-w", "2", "app", "-t", "9", "ignored"],
            "timeout",
            "\"9s\"  # command line",
        ),
        (
            &["app:make(\"x\", n=1)"],
            "wsgi_app",
            "\"app:make(\\\"x\\\", n=1)\"  # command line",
        ),
        (&["app"], "keepalive", "\"2s\"  # default"),
        (&["app", "--keep-alive", "5"], "keepalive", "\"5s\"  # command line"),
        (&["app"], "server_header", "\"gunicorn\"  # default"),
        (&["app"], "proc_name", "\"app\"  # default"),
        (&["app", "-n", "shop"], "proc_name", "\"shop\"  # command line"),
        (&["app", "--threads", "4"], "worker_class", "\"gthread\"  # default"),
        (&["app", "-kgevent"], "worker_class", "\"gevent\"  # command line"),
        (
            &["app", "-k", "egg:gunicorn#gevent_wsgi"],
            "worker_class",
            "\"gevent\"  # command line",
        ),
        (
            &["app", "-k", "gunicorn.workers.gthread.ThreadWorker"],
            "worker_class",
            "\"gthread\"  # command line",
        ),
        (
            &["app", "--proxy-protocol"],
            "proxy_protocol",
            "\"auto\"  # command line",
        ),
        (
            &["--proxy-protocol", "v2", "app"],
            "proxy_protocol",
            "\"v2\"  # command line",
        ),
        (
            &["app", "--proxy-protocol=1"],
            "proxy_protocol",
            "\"auto\"  # command line",
        ),
        (&["app", "--protocol", "http"], "protocol", "\"auto\"  # default"),
        (&["app", "--log-level", "loud"], "loglevel", "\"info\"  # command line"),
        (&["app", "--no-sendfile"], "sendfile", "false  # command line"),
        (&["app", "--prel"], "preload_app", "true  # command line"),
        // Gunicorn has no --pipe-stdio.
        (&["app", "--pi", "x"], "pidfile", "\"$HERE/x\"  # command line"),
        (&["app", "--head=refuse"], "header_map", "\"refuse\"  # command line"),
        (&["app", "-b", ""], "bind", "[\"0.0.0.0:8000\"]  # command line"),
        (&["app", "--no-control-socket"], "control_socket", "\"\"  # default"),
        (
            &["app", "--worker-tmp-dir", "/dev/shm"],
            "wsgi_app",
            "\"app\"  # command line",
        ),
        (
            &["app", "--limit-request-field_s", "0"],
            "limit_request_field_size",
            "0  # command line",
        ),
        // As Gunicorn does, which is in the app's directory when it opens them.
        (
            &["app", "--chdir", "site", "-p", "x.pid"],
            "pidfile",
            "\"$HERE/site/x.pid\"  # command line",
        ),
        (
            &["app", "--chdir", "site", "--pythonpath", "lib,/b"],
            "pythonpath",
            "[\"$HERE/site/lib\", \"/b\"]  # command line",
        ),
        (
            &["app", "--chdir", "site", "-b", "unix:s"],
            "bind",
            "[\"unix:$HERE/site/s\"]  # command line",
        ),
    ] {
        let args = [&["--python", &python, "--print-config"], args].concat();
        let said = run(here, &[("HOME", "/root")], &args);
        let found = printed(&said, name).replace(here.to_str().unwrap(), "$HERE");
        assert_eq!(found, expected, "{args:?}");
    }
}

#[test]
fn what_an_app_cannot_have_is_an_error_that_says_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    fs::write(here.join("app.py"), APP).unwrap();
    for (args, code, part) in [
        (&["-k", "eventlet"][..], 1, "use gthread with more `threads`, or gevent"),
        (&["-k", "uvicorn.workers.UvicornWorker"], 1, "ASGI apps are not served"),
        (&["-k", "asgi"], 1, "ASGI apps are not served"),
        (&["-k", "tornado"], 1, "tornado speaks HTTP itself"),
        (
            &["-k", "my.Worker"],
            1,
            "must be sync, gthread or gevent, but not \"my.Worker\"",
        ),
        (
            &["--certfile", "x", "--keyfile", "y"],
            1,
            "put a proxy that does TLS in front",
        ),
        (&["--http-protocols", "h2,h1"], 1, "HTTP/2 is not supported"),
        (&["--protocol", "uwsgi"], 1, "let the proxy speak HTTP"),
        (&["--protocol", "fastcgi"], 1, "WSGI apps have their own workers"),
        (&["--paste", "x.ini"], 1, "from paste.deploy import loadapp"),
        (&["--connect", "tcp:127.0.0.1:9"], 1, "and connect exclude each other"),
        (
            &["--http-parser", "fast", "--asgi-loop", "uvloop", "--cert-reqs", "0"],
            0,
            "",
        ),
        (
            &["--http-parser", "slow"],
            1,
            "http_parser must be one of auto, fast, python",
        ),
        (&["--dirty-workers", "2"], 0, "warning: dirty_workers is ignored"),
        (&["--statsd-host", "x:y"], 1, "statsd_host must be HOST:PORT"),
        (
            &["--log-syslog", "--log-syslog-facility", "x"],
            1,
            "syslog_facility must be one of kern",
        ),
        (
            &["--log-syslog", "--log-syslog-to", "x"],
            1,
            "syslog_addr must be an address of syslog",
        ),
        (&["--reload-extra-file", "none"], 1, "/none, but there is no such file"),
        (&["--reload-extra-file", "none*", "--reload"], 0, "Reloader is on."),
        (&["--bogus"], 2, "unexpected argument '--bogus'"),
        (
            &["--ch", "/"],
            2,
            "ambiguous option: --ch could match --chdir, --check-config",
        ),
        (
            &["--st=1"],
            2,
            "ambiguous option: --st could match --strip-header-spaces, --statsd-host, --statsd-prefix",
        ),
    ] {
        let args = [&["--check-config", "app"], args].concat();
        let said = run_with_python(here, &[], &args);
        assert_eq!(said.code, code, "{args:?}: {}", said.err);
        assert!(said.err.contains(part), "{args:?}: {}", said.err);
        assert!(!said.err.contains("No application"), "{args:?}: {}", said.err);
    }
}

#[test]
fn gunicorn_cmd_args_are_options_below_the_command_line() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let python = fake_python(here);
    fs::write(here.join("a.toml"), "workers = 3\nthreads = 5\nbacklog = 7\n").unwrap();
    let text = format!("--python '{python}' -w4 --threads=6 -c a.toml ignored:app -e \"A=b c\"");
    let env = [("GUNICORN_CMD_ARGS", text.as_str()), ("WEB_CONCURRENCY", "9")];
    let said = run(here, &env, &["app", "--threads", "8", "--print-config"]);
    for (name, expected) in [
        ("wsgi_app", "\"app\"  # command line"),
        ("workers", "4  # environment GUNICORN_CMD_ARGS"),
        ("threads", "8  # command line"),
        ("backlog", "7  # a.toml:3"),
        ("raw_env", "[\"A=b c\"]  # environment GUNICORN_CMD_ARGS"),
    ] {
        assert_eq!(printed(&said, name), expected);
    }
    for (text, code, part) in [
        ("app", 1, "No application module specified."),
        ("-w 'x", 1, "GUNICORN_CMD_ARGS has a quote that is not closed"),
        ("--bogus", 2, "unexpected argument '--bogus'"),
        ("-w x", 1, "set by the environment variable GUNICORN_CMD_ARGS (workers)"),
        ("--version", 0, ""),
        ("--exec /bin/true --check-config", 0, ""),
    ] {
        let said = run(here, &[("GUNICORN_CMD_ARGS", text)], &[]);
        assert_eq!(said.code, code, "{text}: {}", said.err);
        assert!(said.err.contains(part), "{text}: {}", said.err);
    }
}

#[test]
fn the_interpreter_is_the_active_environments_else_the_first_on_path() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    for place in ["venv/bin", "bin"] {
        fs::create_dir_all(here.join(place)).unwrap();
    }
    write(&here.join("venv/bin/python"), "", 0o755);
    write(&here.join("bin/python3"), "", 0o755);
    let bin = here.join("bin").display().to_string();
    let venv = here.join("venv").display().to_string();
    let environments = [
        (vec![("PATH", bin.as_str()), ("VIRTUAL_ENV", &venv)], "venv/bin/python"),
        (vec![("PATH", &bin), ("VIRTUAL_ENV", "/nowhere")], "bin/python3"),
        (vec![("PATH", &bin)], "bin/python3"),
    ];
    for (env, expected) in environments {
        let said = run(here, &env, &["app", "--print-config"]);
        let expected = format!("\"{}\"  # default", here.join(expected).display());
        assert_eq!(printed(&said, "python"), expected, "{env:?}");
    }
    let named = run(
        here,
        &[("PATH", &bin)],
        &["app", "--python", "venv/bin/python", "--print-config"],
    );
    let expected = format!("\"{}\"  # command line", here.join("venv/bin/python").display());
    assert_eq!(printed(&named, "python"), expected);
    for (args, part) in [
        (&["app"][..], "no Python interpreter found: tried /nowhere/bin/python, "),
        (&["app"], "(/nothing)"),
        (&["app", "--python", "./none"], "cannot run \"./none\": no such program"),
        (&["-c", "file:conf", "app"], "no Python interpreter found"),
    ] {
        fs::write(here.join("conf"), "").unwrap();
        let said = run(here, &[("PATH", "/nothing"), ("VIRTUAL_ENV", "/nowhere")], args);
        assert_eq!(said.code, 1, "{args:?}");
        assert!(said.err.contains(part), "{args:?}: {}", said.err);
    }
}

#[test]
fn a_check_loads_the_app() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    fs::write(
        here.join("app.py"),
        APP.to_owned() + "def make(n):\n    return application\nx = 1\n",
    )
    .unwrap();
    for (args, part) in [
        (&["app"][..], ""),
        (&["app:make(1)"], ""),
        (&["--preload", "-k", "gthread", "app"], ""),
        (&["nosuch"], "ModuleNotFoundError: No module named 'nosuch'"),
        (&["app:nosuch"], "Failed to find attribute 'nosuch' in 'app'."),
        (&["app:x"], "Application object must be callable."),
        (&["app.py"], "did you mean 'app:application'?"),
        // The directory of the start stays on the import path, as in Gunicorn.
        (&["app", "--chdir", "/"], ""),
        (&["app", "--chdir", "/", "--pythonpath", here.to_str().unwrap()], ""),
    ] {
        let said = run_with_python(here, &[], &[&["--check-config"], args].concat());
        assert_eq!(said.code, i32::from(!part.is_empty()), "{args:?}: {}", said.err);
        let last = said.err.lines().last().unwrap_or_default();
        assert!(last.contains(part), "{args:?}: {}", said.err);
        assert_eq!(said.err.is_empty(), part.is_empty(), "{args:?}: {}", said.err);
    }
}

/// A file of Gunicorn's, and the lines it is referred to by.
const CONF: &str = r#"import os
workers = "0x3"
bind = [":7001", "unix:/run/x"]
if os.environ.get("DEBUG"):
    workers = 1
timeout = 12
preload = True
wsgi_app = "app"
os.environ["SCRIPT_NAME"] = "/shop"
def post_fork(server, worker):
    pass
"#;

#[test]
fn a_file_in_python_is_one_layer() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    fs::write(here.join("app.py"), APP).unwrap();
    fs::write(here.join("gunicorn.conf.py"), CONF).unwrap();
    fs::create_dir(here.join("sub")).unwrap();
    fs::write(here.join("sub/other.conf"), "threads = 7\nwsgi_app = 'app'\n").unwrap();
    let args = ["-w", "9", "--print-config"];
    let env = [("GUNICORN_CMD_ARGS", "--backlog 5 -t 50"), ("WEB_CONCURRENCY", "8")];
    let said = run_with_python(here, &env, &args);
    assert_eq!(said.code, 0, "{}", said.err);
    assert_eq!(
        said.err,
        "rgunicorn: warning: gunicorn.conf.py: preload is not a setting; did you mean preload_app?\n"
    );
    for (name, expected) in [
        ("wsgi_app", "\"app\"  # gunicorn.conf.py:8"),
        ("workers", "9  # command line"),
        ("bind", "[\"0.0.0.0:7001\", \"unix:/run/x\"]  # gunicorn.conf.py:3"),
        ("timeout", "\"50s\"  # environment GUNICORN_CMD_ARGS"),
        ("backlog", "5  # environment GUNICORN_CMD_ARGS"),
        ("script_name", "\"/shop\"  # default"),
        ("keepalive", "\"2s\"  # default"),
    ] {
        assert_eq!(printed(&said, name), expected);
    }
    // It is read for an app only, or when it is named; exactly one file is read.
    let program = run_with_python(here, &[], &["--exec", "/bin/true", "--print-config"]);
    assert_eq!(printed(&program, "timeout"), "\"30s\"  # default");
    let named = ["-c", "file:gunicorn.conf.py", "--exec", "/bin/true", "--print-config"];
    let named = run_with_python(here, &[], &named);
    assert_eq!(printed(&named, "timeout"), "\"12s\"  # gunicorn.conf.py:6");
    assert!(
        named.err.contains("hooks and loggers are for WSGI apps only"),
        "{}",
        named.err
    );
    let module = run_with_python(
        &here.join("sub"),
        &[("PYTHONPATH", here.to_str().unwrap())],
        &["-c", "python:app", "app", "--print-config"],
    );
    assert_eq!(
        (module.code, printed(&module, "timeout").as_str()),
        (0, "\"30s\"  # default")
    );
    let other = run_with_python(here, &[], &["-c", "sub/other.conf", "--print-config"]);
    assert!(other.err.contains("valid Python extension"), "{}", other.err);
    assert_eq!(printed(&other, "threads"), "7  # sub/other.conf:1");
    assert_eq!(printed(&other, "timeout"), "\"30s\"  # default");
}

#[test]
fn a_file_in_python_that_is_wrong_says_where() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    for (text, expected) in [
        (
            "workers = 1.5\nbind = 3\n",
            "rgunicorn: workers must be a whole number from 0 to 4096, but not 1.5\n  \
             set at gunicorn.conf.py:1 (workers)\n\
             rgunicorn: bind must be a str or a list of str, but not 3\n  set at gunicorn.conf.py:2 (bind)\n",
        ),
        (
            "\ncertfile = 'x'\n",
            "rgunicorn: certfile is not supported\n  set at gunicorn.conf.py:2 (certfile)\n  TLS is not supported",
        ),
        (
            "def ssl_context(config, factory): return 1\n",
            "rgunicorn: ssl_context is not supported\n  set in gunicorn.conf.py (ssl_context)\n",
        ),
        ("workers = nosuch\n", "rgunicorn: cannot evaluate gunicorn.conf.py: "),
    ] {
        fs::write(here.join("gunicorn.conf.py"), text).unwrap();
        let said = run_with_python(here, &[], &["app"]);
        assert_eq!(said.code, 1, "{text}: {}", said.err);
        assert!(said.err.contains(expected), "{text}: {}", said.err);
    }
}
