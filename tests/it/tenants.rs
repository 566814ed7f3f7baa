//! Started by root, two tenants with users of their own: whose scripts run as whom, and what they cannot reach.

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::sync::Arc;

use nix::unistd::{Group, User};

use crate::harness::apps::run;
use crate::harness::server::quoted;
use crate::harness::tree::{ask, put};
use crate::harness::users::{Users, two_users};
use crate::harness::{Client, Response, Server, Setup, procs, wait_for};

/// Tells who it is, then tries to read, list or connect to each path in its body.
const PROBE_PY: &str = r#"#!/usr/bin/python3
import os, socket, stat, sys
status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
old = os.umask(0)
print("Content-Type: text/plain\n")
print("ids=%s %s [%s]" % (os.geteuid(), os.getegid(), " ".join(map(str, sorted(os.getgroups())))))
print("umask=%03o nice=%d no_new_privs=%s" % (old, os.nice(0), status["NoNewPrivs"].strip()))
print("env=" + " ".join(sorted(k for k in os.environ if k.startswith(("SECRET", "RGUNICORN")))))
for path in sys.stdin.read().split("\n")[:-1]:
    try:
        kind = os.stat(path).st_mode
        if stat.S_ISSOCK(kind):
            socket.socket(socket.AF_UNIX).connect(path)
        elif stat.S_ISDIR(kind):
            os.listdir(path)
        else:
            open(path, "rb").read(1)
        print("reached " + path)
    except OSError as error:
        print("kept out of %s: %s" % (path, error.strerror))
"#;

/// The same in PHP.
const PROBE_PHP: &str = r#"<?php
header('Content-Type: text/plain');
$status = file_get_contents('/proc/self/status');
preg_match('/^Uid:\s+\d+\s+(\d+)/m', $status, $u);
preg_match('/^Gid:\s+\d+\s+(\d+)/m', $status, $g);
preg_match('/^Groups:\s*([\d ]*)/m', $status, $all);
preg_match('/^NoNewPrivs:\s*(\d)/m', $status, $n);
echo "ids=$u[1] $g[1] [", trim($all[1]), "]\n";
printf("umask=%03o no_new_privs=%s\n", umask(), $n[1]);
foreach (array_filter(explode("\n", file_get_contents('php://input'))) as $path) {
    if (@is_dir($path)) $reached = @scandir($path) !== false;
    elseif (str_ends_with($path, '.sock')) $reached = @stream_socket_client("unix://$path") !== false;
    else $reached = @file_get_contents($path, false, null, 0, 1) !== false;
    echo $reached ? 'reached ' : 'kept out of ', $path, "\n";
}
"#;

const HOSTS: [&str; 2] = ["a.example", "b.example"];

fn own(path: &Path, (uid, gid): (u32, u32), mode: u32) {
    std::fs::set_permissions(path, Permissions::from_mode(mode)).expect("a mode");
    chown(path, Some(uid), Some(gid)).expect("an owner");
}

/// Each tenant has a site with probes and a secret of its own; the front is `nobody`.
fn tenants() -> (Setup, Arc<Users>) {
    let users = two_users();
    let setup = Setup::new().with_text("user", "nobody");
    let nobody = User::from_name("nobody").expect("the users").expect("nobody");
    own(&setup.path(""), (0, 0), 0o755);
    own(&setup.path("spool"), (nobody.uid.as_raw(), nobody.gid.as_raw()), 0o700);
    for (place, ids) in users.ids.into_iter().enumerate() {
        let file = |name: &str, text: &str, mode: u32| {
            let path = setup.path(&format!("tenant{place}/{name}"));
            put(&path, text, mode);
            own(&path, ids, mode);
        };
        file("site/index.html", "front page\n", 0o644);
        file("site/probe.py", PROBE_PY, 0o700);
        file("site/probe.php", PROBE_PHP, 0o600);
        file("site/config.php", "<?php $password = 'x';", 0o600);
        file("secret.txt", "secret\n", 0o600);
        for name in ["", "site"] {
            own(&setup.path(&format!("tenant{place}/{name}")), ids, 0o755);
        }
    }
    (setup, users)
}

/// Tables of a site with routes to a PHP pool and a CGI pool, with more lines for both.
fn tables(setup: &Setup, users: &Users, place: usize, more: &str) -> String {
    let (user, root) = (
        &users.names[place],
        quoted(&setup.path_text(&format!("tenant{place}/site"))),
    );
    format!(
        "[pool.php{place}]\nexec = ['php-cgi']\nworkers = 1\nuser = '{user}'\nenv = {{ SECRET{place} = 'x' }}\n{more}\n\
         [pool.cgi{place}]\nprotocol = 'cgi'\nworkers = 2\nuser = '{user}'\nenv = {{ SECRET{place} = 'x' }}\n{more}\n\
         [[site]]\nhosts = ['{}']\nroot = {root}\n\
         [[site.route]]\nsuffix = '.php'\npool = 'php{place}'\n\
         [[site.route]]\nsuffix = '.py'\npool = 'cgi{place}'\n\
         [[site.route]]\nstatic = true\n",
        HOSTS[place]
    )
}

fn post(server: &Server, host: &str, target: &str, body: &str) -> Response {
    let mut client = Client::connect(&server.address);
    client.send(format!(
        "POST {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    client.response("POST")
}

fn line(response: &Response, start: &str) -> String {
    let text = response.text();
    let found = text.lines().find(|line| line.starts_with(start));
    found
        .unwrap_or_else(|| panic!("no {start} in {text:?} ({})", response.status))
        .to_owned()
}

/// The processes of a user below the arbiter.
fn processes_of(server: &Server, uid: u32) -> Vec<i32> {
    let all = server.processes().into_iter().map(|process| process.pid);
    all.filter(|pid| procs::status(*pid, "Uid").get(1) == Some(&uid.to_string()))
        .collect()
}

#[test]
fn scripts_of_two_tenants_run_as_their_users_and_cannot_reach_each_other() {
    let (setup, users) = tenants();
    let text = [0, 1].map(|place| tables(&setup, &users, place, "")).concat();
    let server = setup.tables(&text).start();
    for host in HOSTS {
        assert_eq!(ask(&server.address, "GET", host, "/index.html").text(), "front page\n");
    }
    for (place, (uid, gid)) in users.ids.into_iter().enumerate() {
        let other = 1 - place;
        // Everything of the other tenant, of the front and of the arbiter.
        let theirs = wait_for("processes of the other tenant", || {
            Some(processes_of(&server, users.ids[other].0)).filter(|pids| pids.len() >= 2)
        });
        let mut paths: Vec<String> = ["secret.txt", "site/config.php", "site/probe.py"]
            .map(|name| server.path(&format!("tenant{other}/{name}")).display().to_string())
            .into();
        for pid in theirs.into_iter().chain([server.front(), server.pid]) {
            paths.extend(["environ", "mem", "fd", "maps", "cwd/."].map(|name| format!("/proc/{pid}/{name}")));
        }
        let directory = std::fs::read_dir(server.path("run"))
            .expect("it")
            .flatten()
            .next()
            .expect("a directory");
        paths.push(directory.path().display().to_string());
        let sockets: Vec<String> = std::fs::read_dir(directory.path())
            .expect("root may read it")
            .flatten()
            .map(|entry| entry.path().display().to_string())
            .collect();
        assert!(
            sockets.iter().filter(|path| path.ends_with(".sock")).count() >= 2,
            "{sockets:?}"
        );
        paths.extend(sockets);
        paths.push(server.path("spool").display().to_string());
        let body: String = paths.iter().map(|path| format!("{path}\n")).collect();
        for script in ["/probe.py", "/probe.php"] {
            let response = post(&server, HOSTS[place], script, &body);
            assert_eq!(line(&response, "ids="), format!("ids={uid} {gid} [{gid}]"), "{script}");
            let text = response.text();
            assert!(!text.contains("reached "), "tenant {place}, {script}:\n{text}");
            assert_eq!(text.matches("kept out of ").count(), paths.len(), "{text}");
            // What is theirs they do reach, or the test would show nothing.
            let own = server.path(&format!("tenant{place}/secret.txt")).display().to_string();
            let response = post(&server, HOSTS[place], script, &format!("{own}\n"));
            assert!(
                response.text().contains(&format!("reached {own}\n")),
                "{}",
                response.text()
            );
        }
        let response = post(&server, HOSTS[place], "/probe.py", "");
        assert_eq!(line(&response, "env="), format!("env=SECRET{place}"));
    }
    // A body that waits in a file of the front's user.
    let body = "/no/such/file\n".repeat(250_000);
    for script in ["/probe.py", "/probe.php"] {
        let response = post(&server, HOSTS[0], script, &body);
        assert_eq!(response.text().matches("kept out of ").count(), 250_000, "{script}");
    }
    // What the front may not read is not sent either, and scripts that only their user may read still run.
    assert_eq!(ask(&server.address, "GET", HOSTS[0], "/config.php").text(), "");
    server.stop();
}

#[test]
fn a_site_with_a_user_in_a_file_of_its_own_needs_no_pools() {
    let (setup, users) = tenants();
    let include = quoted(&setup.path_text("conf.d/*.toml"));
    for (place, name) in users.names.iter().enumerate() {
        let root = quoted(&setup.path_text(&format!("tenant{place}/site")));
        let text = format!(
            "[[site]]\nhosts = ['{}']\nroot = {root}\nuser = '{name}'\n",
            HOSTS[place]
        );
        put(&setup.path(&format!("conf.d/{place}.toml")), text, 0o644);
    }
    let server = setup
        .with("include", include)
        .with("workers", "{ min = 0, max = 2 }")
        .start();
    assert_eq!(server.workers(), Vec::<i32>::new());
    for (place, (uid, gid)) in users.ids.into_iter().enumerate() {
        for script in ["/probe.py", "/probe.php"] {
            let response = post(&server, HOSTS[place], script, "");
            assert_eq!(line(&response, "ids="), format!("ids={uid} {gid} [{gid}]"), "{script}");
        }
    }
    server.stop();
}

#[test]
fn umask_groups_priority_and_privileges_are_those_of_the_pool() {
    let (setup, users) = tenants();
    let daemon = Group::from_name("daemon")
        .expect("the groups")
        .expect("daemon")
        .gid
        .as_raw();
    let more = "umask = '027'\nnice = '7'\ngroups = ['daemon']\nno_new_privileges = true";
    let text = [
        tables(&setup, &users, 0, more),
        tables(&setup, &users, 1, "nice = '-3'"),
    ]
    .concat();
    let server = setup.tables(&text).start();
    let (uid, gid) = users.ids[0];
    let mut groups = [daemon, gid];
    groups.sort_unstable();
    let response = post(&server, HOSTS[0], "/probe.py", "");
    assert_eq!(
        line(&response, "ids="),
        format!("ids={uid} {gid} [{} {}]", groups[0], groups[1])
    );
    assert_eq!(line(&response, "umask="), "umask=027 nice=7 no_new_privs=1");
    let response = post(&server, HOSTS[0], "/probe.php", "");
    assert_eq!(
        line(&response, "ids="),
        format!("ids={uid} {gid} [{} {}]", groups[0], groups[1])
    );
    assert_eq!(line(&response, "umask="), "umask=027 no_new_privs=1");
    let response = post(&server, HOSTS[1], "/probe.py", "");
    assert!(
        line(&response, "umask=").ends_with(" nice=-3 no_new_privs=0"),
        "{}",
        response.text()
    );
    server.stop();
}

#[test]
fn scripts_that_others_could_have_written_are_not_run() {
    let (setup, users) = tenants();
    for (name, text) in [("py", PROBE_PY), ("php", PROBE_PHP)] {
        let file = |file: &str, owner: (u32, u32), mode: u32| {
            let path = setup.path(&format!("tenant0/site/{file}.{name}"));
            put(&path, text, mode);
            own(&path, owner, mode);
        };
        file("theirs", users.ids[1], 0o755);
        file("roots", (0, 0), 0o755);
        file("open", users.ids[0], 0o757);
        file("foreign_group", (users.ids[0].0, users.ids[1].1), 0o775);
        file("own_group", users.ids[0], 0o775);
        file("crowd/own", users.ids[0], 0o755);
        file("sticky/own", users.ids[0], 0o755);
    }
    own(&setup.path("tenant0/site/crowd"), users.ids[0], 0o777);
    own(&setup.path("tenant0/site/sticky"), users.ids[0], 0o1777);
    let loose = tables(&setup, &users, 1, "check_owner = false").replace("tenant1/site", "tenant0/site");
    let text = tables(&setup, &users, 0, "") + &loose;
    let server = setup.tables(&text).allow("check_owner").start();
    for kind in ["py", "php"] {
        for (name, expected) in [
            ("theirs", 403),
            ("roots", 200),
            ("open", 403),
            ("foreign_group", 403),
            ("own_group", 200),
            ("crowd/own", 403),
            ("sticky/own", 200),
            ("probe", 200),
        ] {
            let target = format!("/{name}.{kind}");
            assert_eq!(post(&server, HOSTS[0], &target, "").status, expected, "{target}");
            if expected == 403 {
                let line = server.wait_for_log(&format!("POST {target} failed (403)"));
                assert!(line.contains("check_owner"), "{line}");
            }
        }
        assert_eq!(post(&server, HOSTS[1], &format!("/open.{kind}"), "").status, 200);
    }
    server.stop();
}

#[test]
fn a_link_to_another_tenants_file_is_not_followed() {
    let (setup, users) = tenants();
    let place = |name: &str| setup.path(name);
    put(&place("tenant1/site/page.html"), "a page of b\n", 0o644);
    own(&place("tenant1/site/page.html"), users.ids[1], 0o644);
    put(&place("tenant0/shared.html"), "shared\n", 0o644);
    own(&place("tenant0/shared.html"), users.ids[0], 0o644);
    for (to, name) in [
        (place("tenant1/site/page.html"), "stolen.html"),
        (place("tenant1/site/probe.php"), "stolen.php"),
        (place("tenant1/site/probe.py"), "stolen.py"),
        (place("tenant1"), "dir"),
        (place("tenant0/shared.html"), "shared.html"),
    ] {
        let link = place(&format!("tenant0/site/{name}"));
        symlink(to, &link).expect("a link");
        std::os::unix::fs::lchown(&link, Some(users.ids[0].0), Some(users.ids[0].1)).expect("its owner");
    }
    let text = [0, 1].map(|place| tables(&setup, &users, place, "")).concat();
    let server = setup.tables(&text).start();
    for target in [
        "/stolen.html",
        "/stolen.php",
        "/stolen.py",
        "/dir/site/page.html",
        "/dir/",
    ] {
        assert_eq!(ask(&server.address, "GET", HOSTS[0], target).status, 403, "{target}");
    }
    assert_eq!(ask(&server.address, "GET", HOSTS[0], "/shared.html").text(), "shared\n");
    server.stop();
}

#[test]
fn a_program_lives_in_its_chroot() {
    let (setup, users) = tenants();
    // Static, so that it needs nothing there: an app of the pipe protocol would need an interpreter.
    let source = setup.path("jail.c");
    put(
        &source,
        "#include <stdio.h>\n#include <unistd.h>\n#include <fcgiapp.h>\n\
         int main(void) { FCGX_Request r; char cwd[99]; FCGX_Init(); FCGX_InitRequest(&r, 0, 0);\n\
         while (FCGX_Accept_r(&r) == 0) { FCGX_FPrintF(r.out, \"Content-Type: text/plain\\r\\n\\r\\n%d %s %d %d\\n\",\n\
         (int)geteuid(), getcwd(cwd, 99), access(\"/etc/passwd\", F_OK), access(\"/only-here\", F_OK));\n\
         FCGX_Finish_r(&r); } return 0; }\n",
        0o644,
    );
    std::fs::create_dir(setup.path("jail")).expect("a directory");
    run(std::process::Command::new("cc")
        .args(["-static", "-O1", "-o"])
        .arg(setup.path("jail/app"))
        .arg(&source)
        .arg("-lfcgi"));
    put(&setup.path("jail/only-here"), "", 0o644);
    own(&setup.path("jail"), (0, 0), 0o755);
    let text = format!(
        "[pool.jail]\nexec = ['/app']\nprotocol = 'fastcgi'\nworkers = 1\nuser = '{}'\nchroot = {}\n",
        users.names[0],
        quoted(&setup.path_text("jail"))
    );
    let server = setup.tables(&text).start();
    assert_eq!(server.get("/").text(), format!("{} / -1 0\n", users.ids[0].0));
    server.stop();
}

/// Makes what a site has as its root a link of its tenant.
fn make_link(setup: &Path, to: &str, (uid, gid): (u32, u32)) {
    let root = setup.join("tenant0/site");
    if root.is_symlink() {
        std::fs::remove_file(&root).expect("the old link");
    } else {
        std::fs::rename(&root, setup.join("tenant0/kept")).expect("another name");
    }
    symlink(to, &root).expect("a link");
    std::os::unix::fs::lchown(&root, Some(uid), Some(gid)).expect("its owner");
}

#[test]
fn a_root_that_its_tenant_makes_a_link_shows_no_files_of_others() {
    let (setup, users) = tenants();
    let nobody = User::from_name("nobody").expect("the users").expect("nobody");
    let (private, pages) = (setup.path("tenant1/private"), setup.path("tenant0/pages"));
    put(&private.join("index.html"), "private\n", 0o640);
    put(&private.join("404.html"), "private page\n", 0o640);
    for name in ["index.html", "404.html", ""] {
        let mode = if name.is_empty() { 0o750 } else { 0o640 };
        own(&private.join(name), (users.ids[1].0, nobody.gid.as_raw()), mode);
    }
    put(&pages.join("404.html"), "no such page\n", 0o644);
    own(&pages.join("404.html"), users.ids[0], 0o644);
    own(&pages, users.ids[0], 0o755);
    let pages_line = format!(
        "pages = {{ 404 = {} }}\n",
        quoted(&format!("file:{}/404.html", pages.display()))
    );
    let text = tables(&setup, &users, 0, "").replace("[[site]]\n", &format!("[[site]]\n{pages_line}"));
    let server = setup
        .tables(&text)
        .allow("nothing is sent from")
        .allow("cannot send the page")
        .start();
    let get = |target: &str| ask(&server.address, "GET", HOSTS[0], target);
    let place = server.path("");
    assert_eq!(get("/index.html").text(), "front page\n");
    assert_eq!(get("/none.html").text(), "no such page\n");
    make_link(&place, &private.display().to_string(), users.ids[0]);
    wait_for("the root to be looked at again", || {
        Some(()).filter(|()| get("/index.html").status == 403)
    });
    assert_eq!(get("/probe.py").status, 403);
    let line = server.wait_for_log("nothing is sent from");
    assert!(line.contains("tenant0/site\" belongs to user"), "{line}");
    // It counts by its owner: one to his own directory is a deployment.
    make_link(&place, "kept", users.ids[0]);
    wait_for("the root to be served again", || {
        Some(()).filter(|()| get("/index.html").status == 200)
    });
    assert_eq!(server.log().matches("nothing is sent from").count(), 1);
    // So is one that root has made, whatever it leads to.
    make_link(&place, &private.display().to_string(), (0, 0));
    wait_for("what root has linked", || {
        Some(()).filter(|()| get("/index.html").text() == "private\n")
    });
    // The same for a page that lies elsewhere.
    std::fs::rename(&pages, place.join("tenant0/old")).expect("another name");
    symlink(&private, &pages).expect("a link");
    std::os::unix::fs::lchown(&pages, Some(users.ids[0].0), Some(users.ids[0].1)).expect("its owner");
    wait_for("the page to be refused", || {
        let response = get("/none.html");
        assert!(
            response.status == 404 && response.text() != "private page\n",
            "{}",
            response.text()
        );
        Some(()).filter(|()| response.text() != "no such page\n")
    });
    server.wait_for_log("cannot send the page for 404");
    server.stop();
}

#[test]
fn scripts_of_the_fronts_user_reach_no_workers_of_others() {
    let (setup, users) = tenants();
    let root = setup.path("shared");
    put(&root.join("probe.py"), PROBE_PY, 0o755);
    own(&root.join("probe.py"), (0, 0), 0o755);
    own(&root, (0, 0), 0o755);
    let text = format!(
        "{}[pool.shared]\nprotocol = 'cgi'\n[[site]]\nhosts = ['{}']\nroot = {}\n[[site.route]]\nsuffix = '.py'\npool = 'shared'\n",
        tables(&setup, &users, 0, ""),
        HOSTS[1],
        quoted(&root.display().to_string())
    );
    let server = setup
        .tables(&text)
        .allow("the pool shared has the user of the front")
        .start();
    server.wait_for_log("give it a user of its own");
    let made = std::fs::read_dir(server.path("run")).expect("it").flatten().next();
    let directory = made.expect("a directory").path();
    let entries = std::fs::read_dir(&directory).expect("root may read it").flatten();
    let mut paths: Vec<String> = entries.map(|entry| entry.path().display().to_string()).collect();
    assert!(paths.iter().any(|path| path.ends_with(".sock")), "{paths:?}");
    paths.push(directory.display().to_string());
    // Nor by way of the front, which may connect.
    paths.extend(["mem", "fd", "environ"].map(|name| format!("/proc/{}/{name}", server.front())));
    let body: String = paths.iter().map(|path| format!("{path}\n")).collect();
    let response = post(&server, HOSTS[1], "/probe.py", &body);
    let nobody = User::from_name("nobody").expect("the users").expect("nobody");
    let (uid, gid) = (nobody.uid, nobody.gid);
    assert_eq!(line(&response, "ids="), format!("ids={uid} {gid} [{gid}]"));
    let text = response.text();
    assert!(!text.contains("reached "), "{text}");
    assert_eq!(text.matches("kept out of ").count(), paths.len(), "{text}");
    // The front does reach them.
    assert_eq!(post(&server, HOSTS[0], "/probe.php", "").status, 200);
    server.stop();
}
