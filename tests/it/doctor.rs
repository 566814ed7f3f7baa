//! `--doctor FILE`: scripts that run, and one for each reason for which scripts do not.

use crate::config::{Said, run, write};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// PATH of the doctor, and so of the scripts.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// A directory that every user may enter.
fn ground() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    directory
}

fn doctor(directory: &Path, args: &[&str]) -> Said {
    run(directory, &[("PATH", PATH)], &[&["--doctor"], args].concat())
}

/// Examines a script with this text, and asserts the exit code and that these texts are said.
fn case(name: &str, text: &[u8], mode: u32, code: i32, parts: &[&str]) {
    let directory = ground();
    let path = directory.path().join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    check(&doctor(directory.path(), &[name]), name, code, parts);
}

fn check(said: &Said, name: &str, code: i32, parts: &[&str]) {
    let shown = format!("{name}: {} {}", said.out, said.err);
    assert_eq!(said.code, code, "{shown}");
    assert_eq!(said.err, "", "{shown}");
    assert_eq!(code == 1, said.out.contains("wrong: "), "{shown}");
    for part in parts {
        assert!(said.out.contains(part), "{part:?} is not in {shown}");
    }
    // Each finding says where.
    let count = |prefix: &str| said.out.lines().filter(|line| line.starts_with(prefix)).count();
    assert_eq!(count("wrong: ") + count("note: "), count("  at "), "{shown}");
}

#[test]
fn scripts_that_run() {
    let plain = "Content-Type: text/plain\\n\\nhello\\n";
    for (name, text, parts) in [
        (
            "a.sh",
            format!("#!/bin/sh\nprintf '{plain}'\n"),
            &["200 \"text/plain\", 6 bytes"][..],
        ),
        (
            "a.pl",
            format!("#!/usr/bin/perl\nprint \"{plain}\";\n"),
            &["200 \"text/plain\""],
        ),
        (
            "a.py",
            format!("#!/usr/bin/env -S python3 -u\nprint('{plain}')\n"),
            &["200 \"text/plain\""],
        ),
        (
            "a.rb",
            format!("#!/usr/bin/env ruby\nprint \"{plain}\"\n"),
            &["200 \"text/plain\""],
        ),
        (
            "a.php",
            "<?php echo 'hello';".to_owned(),
            &["200 \"text/html", "5 bytes"],
        ),
        (
            "bom.php",
            "\u{feff}<?php echo 'hello';".to_owned(),
            &[
                "note: it begins with a byte order mark",
                "too late",
                "bom.php:1",
                "sed -i",
                "8 bytes",
            ],
        ),
        (
            "status",
            "#!/bin/sh\nprintf 'Status: 404 Gone\\r\\n\\r\\n'\n".to_owned(),
            &["404 without type, 0 bytes"],
        ),
        (
            "away",
            "#!/bin/sh\nprintf 'Location: http://x/\\n\\n'\n".to_owned(),
            &["302 to \"http://x/\""],
        ),
        (
            "local",
            "#!/bin/sh\nprintf 'Location: /x\\n\\n'\n".to_owned(),
            &["\"/x\" in its place"],
        ),
        (
            "nph-x",
            "#!/bin/sh\nprintf 'HTTP/1.1 200 OK\\r\\n\\r\\n'\n".to_owned(),
            &["\"HTTP/1.1 200 OK\""],
        ),
        (
            "talks",
            format!("#!/bin/sh\necho 'to \"the\" log' >&2\nprintf '{plain}'\n"),
            &["note: it prints to standard error", r#""to \"the\" log""#],
        ),
        (
            "floods",
            format!("#!/bin/sh\nhead -c 3000000 /dev/zero >&2\nprintf '{plain}'\nhead -c 3000000 /dev/zero\n"),
            &["3000006 bytes"],
        ),
        (
            "leaves",
            format!("#!/bin/sh\nsleep 1000 &\nprintf '{plain}'\n"),
            &["note: something that it started in the background"],
        ),
        (
            "variables",
            "#!/bin/sh\nprintf 'Content-Type: x/%s-%s-%s\\n\\n' $REQUEST_METHOD $GATEWAY_INTERFACE $SCRIPT_NAME\n"
                .to_owned(),
            &["x/GET-CGI/1.1-/variables"],
        ),
    ] {
        case(name, text.as_bytes(), 0o755, 0, parts);
    }
}

#[test]
fn files_that_the_system_does_not_run() {
    let good = b"#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'\n";
    case(
        "a.sh",
        good,
        0o644,
        1,
        &["it is not executable", "mode 0644", "chmod +x ", "so it was not run"],
    );
    for (name, text, parts) in [
        ("empty", &b""[..], &["it is empty"][..]),
        (
            "bare",
            b"print 'x'\n",
            &["no interpreter line", "\"print 'x'\"", "bare:1"],
        ),
        ("bom", b"\xef\xbb\xbf#!/bin/sh\n", &["byte order mark", "sed -i"]),
        ("utf16", b"\xff\xfe#\0!\0", &["UTF-16"]),
        ("blank", b"\n#!/bin/sh\n", &["must be its first two bytes"]),
        ("windows", b"MZ\x90\0", &["program for Windows"]),
        (
            "crlf",
            b"#!/bin/sh\r\necho\r\n",
            &["ends in CR LF", "\"/bin/sh\\r\"", "sed -i 's/\\r$//'", "crlf:1"],
        ),
        (
            "crlf_env",
            b"#!/usr/bin/env  python3\r\n",
            &["ends in CR LF", "gets the argument \"python3\\r\"", "exit code 127"],
        ),
        ("none", b"#!\necho\n", &["names no interpreter"]),
        (
            "lost",
            b"#!/nowhere/perl -w\n",
            &[
                "/nowhere/perl does not exist",
                "change the first line to #!/usr/bin/perl",
            ],
        ),
        ("lost2", b"#!/nowhere/unheard-of\n", &["install unheard-of"]),
        ("relative", b"#!sh\n", &["\"sh\" has no absolute path"]),
        ("directory", b"#!/usr/bin\n", &["interpreter /usr/bin is no file"]),
        ("no_x", b"#!/etc/passwd\n", &["/etc/passwd is not executable"]),
        (
            "env",
            b"#!/usr/bin/env unheard-of\n",
            &["\"unheard-of\" is not on PATH", PATH],
        ),
        (
            "env_s",
            b"#!/usr/bin/env -S A=b unheard-of -x\n",
            &["\"unheard-of\" is not on PATH"],
        ),
        (
            "env_two",
            b"#!/usr/bin/env python3 -u\n",
            &["env gets \"python3 -u\"", "env -S python3 -u"],
        ),
        ("env_none", b"#!/usr/bin/env\n", &["no program after env"]),
        ("damaged", b"\x7fELF\x02\x01\x01", &["damaged binary"]),
        (
            "second",
            b"#!/usr/bin/env -S /nowhere/x\n",
            &["exit code 127", "prints nothing"],
        ),
    ] {
        case(name, text, 0o755, 1, parts);
    }
    let long = format!("#!/bin/sh {}\n", "x".repeat(300));
    case("long", long.as_bytes(), 0o755, 1, &["longer than the 256 bytes"]);
    let directory = ground();
    let itself = directory.path().join("itself");
    let line = format!("#!{}\n", itself.display());
    fs::write(&itself, line).unwrap();
    fs::set_permissions(&itself, fs::Permissions::from_mode(0o755)).unwrap();
    let said = doctor(directory.path(), &["itself"]);
    check(
        &said,
        "itself",
        1,
        &["a script that leads back to itself", "name a program"],
    );
    // Everything that is wrong is told at once.
    case(
        "both",
        b"#!/nowhere/x\r\n",
        0o644,
        1,
        &["not executable", "CR LF", "does not exist", "3 things are wrong"],
    );
}

#[test]
fn scripts_that_answer_wrongly() {
    for (name, script, parts) in [
        ("silent", "exit 0", &["prints nothing, though it ends well"][..]),
        (
            "before",
            "echo '<h1>Hi</h1>'; printf 'Content-Type: x/y\\n\\n'",
            &["it prints \"<h1>Hi</h1>\" before the header", "line 1 of what"],
        ),
        (
            "blank",
            "printf '\\nContent-Type: x/y\\n\\n'",
            &["an empty line before the header"],
        ),
        (
            "bom",
            "printf '\\357\\273\\277Content-Type: x/y\\n\\n'",
            &["prints a byte order mark"],
        ),
        ("only", "printf hello", &["it prints \"hello\" before the header"]),
        (
            "endless",
            "printf 'Content-Type: x/y\\n'",
            &["no empty line ends its header", "\"Content-Type: x/y\""],
        ),
        (
            "glued",
            "printf 'Content-Type: x/y\\n<p>text\\n'",
            &["no empty line ends its header: \"<p>text\"", "line 2"],
        ),
        (
            "typeless",
            "printf 'X-Own: 1\\n\\ntext'",
            &["none of Content-Type, Status and Location"],
        ),
        (
            "status",
            "printf 'Status: none\\n\\n'",
            &["its header is refused", "\"none\""],
        ),
        (
            "twice",
            "printf 'Content-Type: a/b\\nContent-Type: a/b\\n\\n'",
            &["expected Content-Type once"],
        ),
        (
            "length",
            "printf 'Content-Type: a/b\\nContent-Length: 5\\n\\nabc'",
            &["Content-Length: 5 and prints 3 bytes"],
        ),
        (
            "bodily",
            "printf 'Status: 200\\n\\nabc'",
            &["a body but no Content-Type"],
        ),
        (
            "huge",
            "printf 'X: '; head -c 70000 /dev/zero | tr '\\0' x",
            &["longer than 65536 bytes", "\"X: xxx", "an empty line after the last"],
        ),
        (
            "zeros",
            "head -c 3000000 /dev/zero",
            &[
                "prints no header but binary data, which begins with \"\\0\\0\\0",
                "line 1 of what",
                "Content-Type: application/octet-stream",
            ],
        ),
        (
            "picture",
            "printf '\\211PNG\\r\\n\\032\\n\\0\\0\\0\\rIHDR'",
            &["no header but binary data, which begins with \"\\x89PNG\\r\\n\\x1a\\n\\x00"],
        ),
        (
            "picture_glued",
            "printf 'Content-Type: image/png\\n\\211PNG\\r\\n\\032\\n\\0\\0'",
            &["no empty line ends its header: \"\\x89PNG\"", "line 2"],
        ),
        (
            "wordy",
            "head -c 70000 /dev/zero | tr '\\0' x",
            &["it prints \"xxx", "before the header, or instead of it"],
        ),
        (
            "code",
            "printf 'Content-Type: a/b\\n\\n'; exit 3",
            &["exit code 3", "200 \"a/b\""],
        ),
        (
            "missing",
            "unheard-of-command",
            &["exit code 127", "unheard-of-command"],
        ),
        (
            "killed",
            "printf 'Content-Type: a/b\\n\\n'; kill -9 $$",
            &["signal 9 killed it"],
        ),
    ] {
        case(name, format!("#!/bin/sh\n{script}\n").as_bytes(), 0o755, 1, parts);
    }
    case("a.php", b"<?php exit(7);", 0o644, 1, &["exit code 7"]);
}

#[test]
fn what_does_not_end_is_killed_with_all_its_processes() {
    let directory = ground();
    let path = directory.path().join("sleeps");
    let script = "#!/bin/sh\nsleep 1000 &\necho $! > pid\nprintf 'Content-Type: a/b\\n\\n'\nwait\n";
    write(&path, script, 0o755);
    let said = doctor(directory.path(), &["sleeps"]);
    check(
        &said,
        "sleeps",
        1,
        &["still running after 10 s, having printed 19 bytes"],
    );
    let pid = fs::read_to_string(directory.path().join("pid")).unwrap();
    let pid: i32 = pid.trim().parse().unwrap();
    crate::harness::wait_until("the end of what it started", || !rgunicorn::sys::process::is_alive(pid));
}

#[test]
fn nothing_that_it_started_is_left() {
    let directory = ground();
    let here = directory.path();
    let path = here.join("leaves");
    // Each writes its number, by way of a name that is there only when all of it is.
    let script = "#!/bin/sh
setsid sh -c 'echo $$ > $$.part; mv $$.part one; exec sleep 1000' >/dev/null 2>&1 &
(setsid sh -c 'sleep 1000 & echo $! > $!.part; mv $!.part two; wait' >/dev/null 2>&1 &)
while ! test -e one || ! test -e two; do :; done
printf 'Content-Type: a/b\\n\\n'
";
    write(&path, script, 0o755);
    // A child of whoever became the doctor is none of its business.
    let commands = "sleep 1000 >/dev/null 2>&1 & echo $! > own; exec \"$0\" --doctor leaves";
    let output = Command::new("sh")
        .args(["-c", commands, env!("CARGO_BIN_EXE_rgunicorn")])
        .current_dir(here)
        .env("PATH", PATH)
        .output()
        .unwrap();
    let said = Said {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    };
    let number = |name: &str| -> i32 { fs::read_to_string(here.join(name)).unwrap().trim().parse().unwrap() };
    let lives = |name: &str| rgunicorn::sys::process::is_alive(number(name));
    let alive = ["own", "one", "two"].map(lives);
    for name in ["own", "one", "two"] {
        let _ = rgunicorn::sys::process::signal(number(name), rgunicorn::sys::signals::KILL);
    }
    // They are gone when the doctor ends, not only soon afterwards.
    assert_eq!(alive, [true, false, false], "{}", said.out);
    check(&said, "leaves", 0, &["200 \"a/b\""]);
}

#[test]
fn what_is_no_script_at_all() {
    let directory = ground();
    let here = directory.path();
    fs::create_dir(here.join("dir")).unwrap();
    symlink("nowhere", here.join("link")).unwrap();
    check(&doctor(here, &["none"]), "none", 1, &["there is no such file"]);
    check(&doctor(here, &["dir"]), "dir", 1, &["it is a directory"]);
    check(&doctor(here, &["link"]), "link", 1, &["a link that leads nowhere"]);
    check(&doctor(here, &["/dev/null"]), "null", 1, &["no regular file"]);
}

#[test]
fn wrong_calls() {
    for (args, part) in [
        (&["--doctor"][..], "<FILE>"),
        (&["--doctor", "a", "b"], "unexpected argument"),
        (&["--doctor", "a", "--bogus"], "unexpected argument"),
        (
            &["--doctor", "/bin/true", "--user", "no-such-user"],
            "there is no user no-such-user",
        ),
        (&["app:app", "--doctor"], "--doctor must be the first argument"),
    ] {
        let said = run(Path::new("/"), &[("PATH", PATH)], args);
        assert_eq!((said.code, said.out.as_str()), (2, ""), "{args:?}: {}", said.err);
        assert!(said.err.contains(part), "{args:?}: {}", said.err);
    }
    let help = run(Path::new("/"), &[], &["--doctor", "--help"]);
    assert_eq!(help.code, 0);
    assert!(
        help.out.contains("Usage: rgunicorn --doctor [OPTIONS] <FILE>"),
        "{}",
        help.out
    );
}

fn compile(directory: &Path, args: &[&str]) {
    let done = Command::new("cc").current_dir(directory).args(args).status();
    assert!(done.expect("cc is installed").success(), "{args:?}");
}

#[test]
fn binaries() {
    let directory = ground();
    let here = directory.path();
    let source = "#include <stdio.h>\nextern int part(void);\nint main(void) { return puts(\"Content-Type: a/b\\n\") < part(); }\n";
    fs::write(here.join("main.c"), source).unwrap();
    fs::write(here.join("part.c"), "int part(void) { return 0; }\n").unwrap();
    compile(here, &["-shared", "-fPIC", "-o", "libpart.so", "part.c"]);
    compile(
        here,
        &["-o", "prog.cgi", "main.c", "-L.", "-lpart", "-Wl,-rpath,$ORIGIN"],
    );
    compile(here, &["-c", "-o", "object", "part.c"]);
    fs::set_permissions(here.join("object"), fs::Permissions::from_mode(0o755)).unwrap();
    check(&doctor(here, &["prog.cgi"]), "whole", 0, &["200 \"a/b\""]);
    check(&doctor(here, &["object"]), "object", 1, &["an object file"]);
    fs::remove_file(here.join("libpart.so")).unwrap();
    let said = doctor(here, &["prog.cgi"]);
    check(
        &said,
        "library",
        1,
        &[
            "library that it needs is missing: \"libpart.so => not found\"",
            "1 thing is wrong",
            "not run",
        ],
    );
    // It is not run to be told the same once more, in the loader's words.
    assert_eq!(said.out.matches("libpart.so").count(), 1, "{}", said.out);
    assert!(
        !said.out.contains("127") && !said.out.contains("prints nothing"),
        "{}",
        said.out
    );

    let program = fs::read(here.join("prog.cgi")).unwrap();
    let patched = |name: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = program.clone();
        change(&mut bytes);
        let path = here.join(name);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        doctor(here, &[name])
    };
    // A machine that nobody has (SPARC), in the place of e_machine.
    let said = patched("foreign", &|bytes| bytes[18..20].copy_from_slice(&[2, 0]));
    check(&said, "foreign", 1, &["built for machine 2, and this machine is"]);
    let said = patched("loaderless", &|bytes| {
        let place = bytes
            .windows(5)
            .position(|part| part == b"/lib6" || part == b"/lib/")
            .unwrap();
        bytes[place + 1] = b'L';
    });
    check(
        &said,
        "loaderless",
        1,
        &["the program that loads its libraries, /Lib", "does not exist"],
    );
}

/// An account that can do nothing but what everybody can.
const NOBODY: u32 = 65_534;

fn needs_root() {
    assert_eq!(rgunicorn::sys::process::own_user(), 0, "this test must be run by root");
}

fn script(path: &Path, mode: u32) -> PathBuf {
    write(path, "#!/bin/sh\nprintf 'Content-Type: a/%s\\n\\n' $(id -u)\n", mode);
    path.to_owned()
}

#[test]
fn permissions_of_another_user() {
    needs_root();
    let directory = ground();
    let here = directory.path();
    let nobody = &NOBODY.to_string();
    let examine = |name: &str| doctor(here, &[name, "--user", nobody]);
    script(&here.join("fine"), 0o755);
    check(&examine("fine"), "fine", 0, &["a/65534"]);
    script(&here.join("mine"), 0o700);
    check(
        &examine("mine"),
        "mine",
        1,
        &["not executable for", "may not read it", "mode 0700, owner root"],
    );
    script(&here.join("unread"), 0o711);
    check(&examine("unread"), "unread", 1, &["which the interpreter must"]);
    fs::create_dir_all(here.join("shut/open")).unwrap();
    script(&here.join("shut/open/x"), 0o755);
    fs::set_permissions(here.join("shut"), fs::Permissions::from_mode(0o700)).unwrap();
    let said = examine("shut/open/x");
    check(
        &said,
        "shut",
        1,
        &["may not enter a directory on the way", "/shut, mode 0700", "1 thing is"],
    );
    symlink("shut/open/x", here.join("link")).unwrap();
    check(&examine("link"), "link", 1, &["may not enter a directory on the way"]);
}

#[test]
fn owners() {
    needs_root();
    let directory = ground();
    let here = directory.path();
    let other = script(&here.join("other"), 0o755);
    chown(&other, Some(12_345), None).unwrap();
    let nobody = &NOBODY.to_string();
    let said = doctor(here, &["other", "--user", nobody]);
    check(&said, "other", 1, &["it belongs to 12345, not to", "chown", "a/65534"]);
    // Root does not run what belongs to others with its own rights.
    check(
        &doctor(here, &["other"]),
        "as its owner",
        0,
        &["runs as 12345", "a/12345"],
    );
    check(
        &doctor(here, &["other", "-u", "root"]),
        "as root",
        1,
        &["it belongs to 12345, not to root"],
    );
    script(&here.join("public"), 0o777);
    check(
        &doctor(here, &["public"]),
        "public",
        1,
        &["it is writable by everybody", "chmod o-w", "a/0"],
    );
    let group = script(&here.join("group"), 0o775);
    chown(&group, None, Some(12_345)).unwrap();
    check(
        &doctor(here, &["group"]),
        "group",
        1,
        &["it is writable by the group 12345", "chmod g-w"],
    );
    fs::create_dir(here.join("dir")).unwrap();
    script(&here.join("dir/x"), 0o755);
    fs::set_permissions(here.join("dir"), fs::Permissions::from_mode(0o777)).unwrap();
    check(
        &doctor(here, &["dir/x"]),
        "dir",
        1,
        &["its directory is writable by everybody"],
    );
    fs::set_permissions(here.join("dir"), fs::Permissions::from_mode(0o1777)).unwrap();
    check(&doctor(here, &["dir/x"]), "sticky", 0, &[]);
}

#[test]
fn a_mount_without_execution() {
    needs_root();
    let directory = ground();
    let here = directory.path();
    script(&here.join("x"), 0o755);
    fs::create_dir(here.join("no exec")).unwrap();
    // A file system of this child only.
    let commands = "mount -t tmpfs -o noexec none 'no exec' && cp -p x 'no exec/x' && exec \"$0\" --doctor 'no exec/x'";
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", commands, env!("CARGO_BIN_EXE_rgunicorn")])
        .current_dir(here)
        .output()
        .expect("unshare is installed");
    let said = Said {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    };
    check(&said, "noexec", 1, &["mounted noexec", "/no exec\n", "remount,exec"]);
}
