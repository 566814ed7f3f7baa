//! Sites, pools and included files, loaded with the real binary.

use crate::config::{run, write};
use std::fs;
use std::path::Path;

/// The tables that are printed, without the comments.
fn tables(text: &str) -> String {
    let start = text.find("\n[").map_or(text.len(), |place| place + 1);
    let lines = text[start..].lines().map(|line| line.split("  # ").next().unwrap());
    lines.map(|line| format!("{line}\n")).collect()
}

fn site(directory: &Path) -> String {
    let root = directory.join("site");
    fs::create_dir_all(&root).unwrap();
    root.display().to_string()
}

#[test]
fn a_root_alone_needs_no_app_and_finds_php() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let root = site(here);
    fs::create_dir(here.join("bin")).unwrap();
    let path = here.join("bin").display().to_string();
    let printed = |expected: &str| {
        let said = run(here, &[("PATH", &path)], &["--root", "site/", "--print-config"]);
        assert_eq!((said.code, said.err.as_str()), (0, ""));
        assert!(
            said.out.contains(&format!("\nroot = \"{root}\"  # command line\n")),
            "{}",
            said.out
        );
        let tables = tables(&said.out);
        assert!(tables.contains("[pool.cgi]\nprotocol = \"cgi\"\n"), "{tables}");
        let php = tables.split("[pool.php]\n").nth(1).and_then(|text| text.lines().next());
        assert_eq!(php.unwrap_or_default(), expected);
    };
    printed("");
    let program = |name: &str| {
        write(&here.join("bin").join(name), "#!/bin/sh\n", 0o755);
        format!("exec = [\"{path}/{name}\"]")
    };
    printed(&program("php-cgi8.2"));
    write(&here.join("bin/php-cgi8.4"), "#!/bin/sh\n", 0o644);
    write(&here.join("bin/php-cgi.bak"), "#!/bin/sh\n", 0o755);
    printed(&format!("exec = [\"{path}/php-cgi8.2\"]"));
    printed(&program("php-cgi8.12"));
    printed(&program("php-cgi"));
}

#[test]
fn a_broken_tenant_is_told_and_left_out_and_a_check_fails() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    site(here);
    fs::create_dir(here.join("conf.d")).unwrap();
    let main = "include = 'conf.d/*.toml'\n[pool.app]\nexec = '/bin/true'\n";
    write(&here.join("main.toml"), main, 0o644);
    let tenant = |name: &str, text: &str| write(&here.join("conf.d").join(name), text, 0o644);
    tenant("a.toml", "[[site]]\nhosts = ['a.example']\nroot = 'site'\n");
    let check = || run(here, &[], &["-c", "main.toml", "--check-config"]);
    let said = check();
    assert_eq!(
        (said.code, said.err.as_str()),
        (0, "rgunicorn: warning: no site uses the pool app\n")
    );

    tenant("b.toml", "[[site]]\nhosts = ['b.example']\nroot = 'missing'\n");
    tenant("c.toml", "[[site]\nhosts = ['c.example'\nroot = 'site'\n");
    tenant("d.toml", "[[site]]\nhosts = ['d.example']\npool = 'app'\n");
    tenant("e.toml", "[[site]]\nhosts = ['A.example']\npool = 'app'\n");
    tenant("f.toml~", "what an editor left");
    // Nobody would ever write to it.
    let made = std::process::Command::new("mkfifo")
        .arg(here.join("conf.d/g.toml"))
        .status();
    assert!(made.is_ok_and(|status| status.success()), "mkfifo");
    let said = check();
    assert_eq!(said.code, 1, "{}", said.err);
    let told: Vec<&str> = said.err.lines().filter(|line| line.contains("left out")).collect();
    let expected = [
        ("conf.d/b.toml", "conf.d/b.toml:3 (root)"),
        ("conf.d/c.toml", "conf.d/c.toml:1"),
        (
            "conf.d/e.toml",
            "conf.d/e.toml:2 (hosts); the other stands at conf.d/a.toml:2",
        ),
        ("conf.d/g.toml", "it is no regular file"),
    ];
    assert_eq!(told.len(), expected.len(), "{}", said.err);
    for (line, (file, place)) in told.iter().zip(expected) {
        assert!(
            line.starts_with(&format!("rgunicorn: warning: {file} is left out: ")),
            "{line}"
        );
        assert!(line.contains(place), "{line}");
    }
    let said = run(here, &[], &["-c", "main.toml", "--print-config"]);
    assert_eq!(said.code, 0);
    let tables = tables(&said.out);
    assert!(tables.contains("a.example") && tables.contains("d.example"), "{tables}");
    assert!(
        !tables.contains("b.example") && !tables.contains("A.example"),
        "{tables}"
    );

    // What is printed needs the other files no more.
    write(&here.join("whole.toml"), &said.out, 0o644);
    fs::remove_dir_all(here.join("conf.d")).unwrap();
    let again = run(here, &[], &["-c", "whole.toml", "--print-config"]);
    assert_eq!((again.code, again.err.as_str()), (0, ""));
    assert_eq!(self::tables(&again.out), tables);
}

#[test]
fn many_tenants_are_loaded_in_one_go() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    site(here);
    fs::create_dir(here.join("conf.d")).unwrap();
    write(&here.join("main.toml"), "include = 'conf.d/*.toml'\n", 0o644);
    for tenant in 0..500 {
        let text = format!(
            "[pool.t{tenant}]\nexec = '/bin/true'\nworkers = {{ min = 0, max = 4 }}\n\
             [[site]]\nhosts = ['t{tenant}.example', '*.t{tenant}.example']\nroot = 'site'\n\
             [[site.route]]\npath = '/app'\npool = 't{tenant}'\n[[site.route]]\nstatic = true\n"
        );
        write(&here.join(format!("conf.d/{tenant}.toml")), &text, 0o644);
    }
    let said = run(here, &[], &["-c", "main.toml", "--print-config"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert_eq!(said.out.matches("[[site]]").count(), 500);
    assert_eq!(said.out.matches("min_workers = 0").count(), 500);
}

#[test]
fn the_example_of_sites_is_in_order_but_for_what_this_machine_lacks() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/sites.toml")).unwrap();
    // The machine of the test has neither these users nor these directories.
    let lines = text
        .lines()
        .filter(|line| !line.starts_with("user") && !line.starts_with("accesslog"));
    let mut text: String = lines.map(|line| format!("{line}\n")).collect();
    for name in [
        "/srv/api/static",
        "/srv/api",
        "/srv/shop/public",
        "/home/alice/public_html",
    ] {
        let place = here.join(name.trim_start_matches('/'));
        fs::create_dir_all(place.join("errors")).unwrap();
        fs::write(place.join("errors/404.html"), "not here").unwrap();
        text = text.replace(&format!("\"{name}\""), &format!("\"{}\"", place.display()));
    }
    text = text.replace("php-cgi", "/bin/true");
    fs::create_dir(here.join("conf.d")).unwrap();
    write(&here.join("sites.toml"), &text, 0o644);
    let said = run(
        here,
        &[("PATH", "/usr/bin:/bin")],
        &["-c", "sites.toml", "--check-config"],
    );
    assert_eq!((said.code, said.err.as_str()), (0, ""));
}
