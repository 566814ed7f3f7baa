//! Loading a configuration with the real binary: layers, origins, and what is said about mistakes.

use crate::settings_table::assert_recorded;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// What a run said.
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs the binary in a directory with only these variables.
pub(crate) fn run(directory: &Path, env: &[(&str, &str)], args: &[&str]) -> Said {
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

pub(crate) fn printed(said: &Said, name: &str) -> String {
    let prefix = format!("{name} = ");
    let line = said.out.lines().find_map(|line| line.strip_prefix(&prefix));
    line.unwrap_or_else(|| panic!("no {name} in {}", said.out)).to_owned()
}

pub(crate) fn write(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_default_directory_that_cannot_be_written_to_gives_way_to_another() {
    let elsewhere = [("XDG_RUNTIME_DIR", "/nonexistent"), ("TMPDIR", "/nonexistent")];
    let found = values(&elsewhere, &[], &["runtime_dir", "tmp_upload_dir"]);
    for value in found {
        assert!(value.starts_with("\"/tmp\""), "{value}");
    }
    // What was asked for is used or refused.
    let args = [
        "--exec",
        "/bin/true",
        "--check-config",
        "--tmp-upload-dir",
        "/nonexistent",
    ];
    let said = run(Path::new("/"), &[], &args);
    assert!(said.err.contains("tmp_upload_dir is /nonexistent"), "{}", said.err);
    assert_eq!(said.code, 1);
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
            2,
            "workers must be a whole number from 0 to 4096, but not \"x\"",
        ),
        (
            &["--exec", "/bin/true", "-w", "-1"],
            1,
            "workers must be a whole number from 0 to 4096, but not \"-1\"",
        ),
        (
            &["-b", "nonsense:x", "--timeout", "long", "app"],
            2,
            "timeout must be a time",
        ),
        (&["--dirty-workers", "1.5", "app"], 2, "dirty_workers must be"),
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
fn a_page_of_errors_that_is_a_script_is_told_by_a_check() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    fs::create_dir_all(here.join("site/errors")).unwrap();
    for name in ["404.PHP", "405.html", "410.x", "412.inc", "413.pl"] {
        fs::write(here.join("site/errors").join(name), "page").unwrap();
    }
    fs::write(here.join("busy.py"), "page").unwrap();
    let text = format!(
        "[pool.x]\nprotocol = 'cgi'\n[[site]]\nroot = 'site'\nserved_suffixes = ['.pl']\n\
         pages = {{ 404 = '/errors/404.PHP', 405 = '/errors/405.html', 410 = '/errors/410.x', \
         412 = '/errors/412.inc', 413 = '/errors/413.pl', 503 = 'file:{}/busy.py' }}\n\
         [[site.route]]\nsuffix = '.x'\npool = 'x'\n[[site.route]]\nstatic = true\n",
        here.display()
    );
    fs::write(here.join("a.toml"), text).unwrap();
    let said = run(here, &[], &["-c", "a.toml", "--check-config"]);
    assert_eq!(said.code, 0, "{}", said.err);
    let told: Vec<_> = said.err.lines().collect();
    let statuses: Vec<_> = told
        .iter()
        .map(|line| line.split(' ').nth(5).unwrap_or_default())
        .collect();
    assert_eq!(statuses, ["404", "410", "412", "503"], "{}", said.err);
    for line in told {
        let is_whole = line.contains("it is a script, and pages are sent as they are") && line.contains("a.toml:");
        assert!(is_whole, "{line}");
    }
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
