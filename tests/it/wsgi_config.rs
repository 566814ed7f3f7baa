//! Loading a configuration for a WSGI app with the real binary: Gunicorn's command lines and its files in Python.

use crate::config::{Said, printed, run, write};
use crate::harness::Setup;
use std::fs;
use std::path::Path;

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
        (
            &["--http-protocols", "h2,h1"],
            0,
            "http_protocols is ignored: HTTP/2 is never spoken without TLS",
        ),
        (
            &["--http2-cleartext", "upgrade", "--http-protocols", "h2"],
            1,
            "HTTP/2 is not supported",
        ),
        (&["--protocol", "uwsgi"], 1, "let the proxy speak HTTP"),
        (&["--protocol", "fastcgi"], 1, "WSGI apps have their own workers"),
        (&["--paste", "x.ini"], 1, "from paste.deploy import loadapp"),
        (&["--worker-connections", "0"], 0, ""),
        (&["--worker-connections", "0", "-k", "gthread"], 0, ""),
        (
            &["--worker-connections", "0", "-k", "gevent"],
            1,
            "worker_connections must be at least 1 with the worker class gevent, but not 0",
        ),
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
fn paste_is_refused_by_one_message() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    fs::write(here.join("site.ini"), "[app:main]\nuse = egg:site\n").unwrap();
    fs::write(here.join("paste.conf.py"), "paste = 'site.ini'\n").unwrap();
    for args in [
        &["--paste", "site.ini"][..],
        &["--paste", "site.ini#other"],
        &["--paste", "site.ini", "--paste-global", "A=1"],
        &["--paste", "none.ini"],
        &["-c", "paste.conf.py"],
    ] {
        let said = run_with_python(here, &[], args);
        assert_eq!(said.code, 1, "{args:?}: {}", said.err);
        assert!(said.err.contains("paste is not supported"), "{args:?}: {}", said.err);
        assert_eq!(said.err.matches("rgunicorn: ").count(), 1, "{args:?}: {}", said.err);
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
        ("-w x", 2, "set by the environment variable GUNICORN_CMD_ARGS (workers)"),
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
        (
            &["app", "--python", "./conf"],
            "cannot run \"./conf\": it is not executable",
        ),
        (
            &["app", "--python", "./venv"],
            "cannot run \"./venv\": it is a directory",
        ),
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
        ("workers = nosuch\n", "rgunicorn: gunicorn.conf.py: "),
    ] {
        fs::write(here.join("gunicorn.conf.py"), text).unwrap();
        let said = run_with_python(here, &[], &["app"]);
        assert_eq!(said.code, 1, "{text}: {}", said.err);
        assert!(said.err.contains(expected), "{text}: {}", said.err);
    }
}

#[test]
fn details_of_tls_are_accepted_in_all_their_types_where_there_is_no_tls() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    fs::write(here.join("app.py"), APP).unwrap();
    for (text, expected) in [
        ("ssl_version = 2\n", "ssl_version is ignored: Gunicorn ignores it too"),
        ("ssl_version = 'TLSv1_2'\n", "ssl_version is ignored"),
        ("import ssl\nssl_version = ssl.PROTOCOL_TLS\n", "ssl_version is ignored"),
        (
            "import ssl\nssl_version = ssl.TLSVersion.TLSv1_2\n",
            "ssl_version is ignored",
        ),
        ("import ssl\nssl_version = ssl.SSLContext\n", "ssl_version is ignored"),
        ("ssl_version = (1, object())\n", "ssl_version is ignored"),
        (
            "import ssl\ncert_reqs = ssl.CERT_REQUIRED\nciphers = 'HIGH'\nca_certs = 'ca.pem'\n",
            "",
        ),
        (
            "certfile = None\nkeyfile = ''\nhttp2_cleartext = False\ncert_reqs = 7\n",
            "",
        ),
        (
            "def ssl_context(config, factory): return factory()\n",
            "ssl_context is ignored: it is called with TLS only",
        ),
    ] {
        fs::write(here.join("gunicorn.conf.py"), text).unwrap();
        let said = run_with_python(here, &[], &["app", "--print-config"]);
        assert_eq!(said.code, 0, "{text}: {}", said.err);
        assert!(said.err.contains(expected), "{text}: {}", said.err);
    }
}

#[test]
fn a_conf_file_may_change_the_name_of_the_server() {
    let setup = Setup::wsgi(&["bench_app"]);
    std::fs::write(
        setup.path("gunicorn.conf.py"),
        "import gunicorn\ngunicorn.SERVER = 'shop'\n",
    )
    .expect("a file");
    let server = setup.start();
    assert_eq!(server.get("/").field("server"), Some("shop"));
    server.stop();
}
