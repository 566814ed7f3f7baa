//! Limits by control group. Where the machine gives us the controllers of cgroup v2 they are tried; elsewhere the start
//! must say what is missing, and that is what is tested then. Membership, killing and removal of groups are tested in
//! both cases, beside the code (`sys/cgroup.rs`, `arbiter/cgroups.rs`).

use std::fs;
use std::path::PathBuf;

use crate::harness::Setup;
use crate::harness::server::quoted;
use crate::harness::tree::{ask, page};

const LIMITS: &str = "memory_max = '64m'\ncpu_max = '50%'\npids_max = 20";

/// A PHP pool with these lines, and a page that takes much memory.
fn tables(setup: &Setup, lines: &str) -> String {
    page(
        setup,
        "site/grow.php",
        "<?php ini_set('memory_limit', '-1'); $x = str_repeat('x', 300 << 20); echo strlen($x);",
    );
    page(setup, "site/pid.php", "<?php echo getmypid();");
    let root = quoted(&setup.path_text("site"));
    format!("[pool.shop]\nexec = ['php-cgi']\nworkers = 1\n{lines}\n[[site]]\nroot = {root}\npool = 'shop'\n")
}

/// Our group with its controllers; `None` where there is no tree of version 2.
fn own_group() -> Option<(PathBuf, Vec<String>)> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let mut mounts = mounts.lines().map(|line| line.split(' '));
    let mount = mounts.find_map(|mut words| {
        let place = words.nth(1)?;
        (words.next() == Some("cgroup2")).then(|| PathBuf::from(place))
    })?;
    let group = mount.join(own);
    let controllers = fs::read_to_string(group.join("cgroup.controllers")).ok()?;
    Some((group, controllers.split_whitespace().map(str::to_owned).collect()))
}

/// Whether limits can be applied here. Says so in any case: nobody should think that this was tested where it was not.
fn can_limit() -> bool {
    let found = own_group();
    let has = |name: &str| found.iter().any(|(_, list)| list.iter().any(|one| one == name));
    let is_root = nix::unistd::geteuid().is_root();
    let can = is_root && ["memory", "cpu", "pids"].into_iter().all(has);
    let what = if can {
        "limits are tested for real"
    } else {
        "no limits here: the refusal is tested"
    };
    eprintln!("cgroup v2: {found:?}, root: {is_root}; {what}");
    can
}

#[test]
fn limits_bind_a_pool_or_the_start_says_what_is_missing() {
    let setup = Setup::new().allow("");
    let tables = tables(&setup, LIMITS);
    let setup = setup.tables(&tables);
    if !can_limit() {
        let ended = setup.run_to_end();
        assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
        for part in ["memory_max cannot be applied: ", "(memory_max)", "Delegate=yes"] {
            assert!(ended.stderr.contains(part), "{part} is not in {}", ended.stderr);
        }
        return;
    }
    let server = setup.start();
    let pid: i32 = server.get("/pid.php").text().parse().expect("a pid");
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("its groups");
    let group = groups
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        .expect("a group");
    assert!(group.contains("/pool-shop/worker-"), "{group}");
    assert_eq!(server.get("/grow.php").status, 502);
    server.wait_for_log("out of memory: the pool has reached its memory_max, 67108864 bytes");
    assert_eq!(server.get("/pid.php").status, 200);
    let arbiter = server.pid;
    server.stop();
    let (own, _) = own_group().expect("our group");
    assert!(!own.join(format!("rgunicorn-{arbiter}")).exists());
}

#[test]
fn a_reload_with_limits_that_cannot_be_applied_is_refused() {
    if can_limit() {
        return;
    }
    let setup = Setup::new().allow("");
    let (plain, limited) = (tables(&setup, ""), tables(&setup, LIMITS));
    let mut server = setup.tables(&plain).start();
    let before = server.get("/pid.php").text();
    server.reload_with_tables(&limited);
    server.wait_for_log("Reload failed");
    let line = server.wait_for_log("memory_max cannot be applied: ");
    assert!(line.contains("[ERROR]"), "{line}");
    assert_eq!(ask(&server.address, "GET", "a", "/pid.php").text(), before);
    let pid: i32 = before.parse().expect("a pid");
    assert_eq!(server.workers(), [pid]);
    server.stop();
}

#[test]
fn a_tenant_with_limits_that_cannot_be_applied_is_left_out_alone() {
    if can_limit() {
        return;
    }
    let setup = Setup::new().allow("cannot be applied");
    fs::create_dir(setup.path("conf.d")).expect("a directory");
    page(&setup, "site/a.html", "a page");
    let root = quoted(&setup.path_text("site"));
    let limited = format!("[pool.b]\nprotocol = 'cgi'\n{LIMITS}\n[[site]]\nhosts = ['b']\nroot = {root}\npool = 'b'\n");
    let plain = format!("[[site]]\nhosts = ['c']\nroot = {root}\n");
    fs::write(setup.path("conf.d/b.toml"), &limited).expect("a file");
    fs::write(setup.path("conf.d/c.toml"), &plain).expect("a file");
    let include = quoted(&setup.path_text("conf.d/*.toml"));
    let server = setup.with("include", include).start();
    let line = server.wait_for_log("b.toml is left out: memory_max cannot be applied: ");
    assert!(line.contains("b.toml:3 (memory_max)"), "{line}");
    server.wait_for_log("b.toml is left out: pids_max cannot be applied: ");
    assert_eq!(ask(&server.address, "GET", "c", "/a.html").text(), "a page");
    assert_eq!(ask(&server.address, "GET", "b", "/a.html").status, 404);
    // A reload can be done with it there, and a tenant that was good goes on without the limits.
    fs::write(server.path("conf.d/b.toml"), plain.replace("'c'", "'b'")).expect("a file");
    server.signal(nix::sys::signal::Signal::SIGHUP);
    crate::harness::wait_until("the tenant to be served", || {
        ask(&server.address, "GET", "b", "/a.html").status == 200
    });
    fs::write(server.path("conf.d/b.toml"), &limited).expect("a file");
    server.signal(nix::sys::signal::Signal::SIGHUP);
    server.wait_for_log("b.toml is broken, and what it said before stays: memory_max cannot be applied: ");
    assert_eq!(ask(&server.address, "GET", "b", "/a.html").status, 200);
    server.stop();
}
