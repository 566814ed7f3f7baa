//! Five hundred tenants on one server: each has a site and a pool of its own, and costs next to nothing while it is quiet.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};

use nix::unistd::{User, geteuid};

use crate::harness::server::quoted;
use crate::harness::tree::{ask, page, script};
use crate::harness::{Server, Setup, procs};

const TENANTS: usize = 500;

/// Bytes that all tenants but the first may cost together, in the arbiter and the front.
const COST: u64 = 10 * 1000 * 1000;

/// A user for each tenant where we are root: a number will do, which nobody else has.
const FIRST_USER: usize = 1_200_000_000;

/// So many tenants, every other with PHP and every other with CGI scripts.
fn setup(tenants: usize) -> Setup {
    let mut setup = Setup::new();
    let is_root = geteuid().is_root();
    if is_root {
        let nobody = User::from_name("nobody").expect("the users").expect("nobody");
        fs::set_permissions(setup.path(""), fs::Permissions::from_mode(0o755)).expect("a mode");
        let (uid, gid) = (nobody.uid.as_raw(), nobody.gid.as_raw());
        chown(setup.path("spool"), Some(uid), Some(gid)).expect("an owner");
        setup = setup.with_text("user", "nobody");
    }
    let mut tables = String::new();
    for tenant in 0..tenants {
        let user = if is_root {
            let number = FIRST_USER + tenant;
            format!("user = '{number}'\ngroup = '{number}'\n")
        } else {
            String::new()
        };
        let (program, route) = if tenant.is_multiple_of(2) {
            let text = format!("<?php echo '{tenant} ', posix_geteuid();");
            page(&setup, &format!("t{tenant}/who.php"), text);
            ("exec = ['php-cgi']", "suffix = '.php'")
        } else {
            let text = format!("#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n{tenant} %s' \"$(id -u)\"\n");
            script(&setup, &format!("t{tenant}/who.sh"), text);
            ("protocol = 'cgi'", "suffix = '.sh'")
        };
        let root = quoted(&setup.path_text(&format!("t{tenant}")));
        tables += &format!(
            "[pool.t{tenant}]\n{program}\n{user}[[site]]\nhosts = ['t{tenant}.example']\nroot = {root}\n\
             [[site.route]]\n{route}\npool = 't{tenant}'\n[[site.route]]\nstatic = true\n"
        );
    }
    // Few at once, so that a small machine bears it: each tenant has a worker for a moment.
    setup
        .with("workers", "{ min = 0, max = 4, idle = '60s' }")
        .with("max_workers", 6)
        .tables(&tables)
        .allow("max_workers")
}

/// Bytes of memory of arbiter and front.
fn memory(server: &Server) -> u64 {
    (procs::resident_kib(server.pid) + procs::resident_kib(server.front())) * 1024
}

fn check_tenant(server: &Server, tenant: usize) {
    let kind = if tenant.is_multiple_of(2) { "php" } else { "sh" };
    let host = format!("t{tenant}.example");
    let response = ask(&server.address, "GET", &host, format!("/who.{kind}"));
    let own = usize::try_from(geteuid().as_raw()).expect("a number");
    let user = if own == 0 { FIRST_USER + tenant } else { own };
    assert_eq!(response.text(), format!("{tenant} {user}"), "{}", server.log());
}

#[test]
fn five_hundred_quiet_tenants_cost_little_and_all_answer() {
    let one = setup(1).start();
    let before = memory(&one);
    check_tenant(&one, 0);
    let before_used = memory(&one);
    one.stop();
    let server = setup(TENANTS).start();
    assert_eq!(server.workers(), Vec::<i32>::new());
    let cost = memory(&server).saturating_sub(before);
    assert!(cost < COST, "{TENANTS} tenants cost {cost} bytes more than one");
    // Some at once: each waits for a process to end and another to start.
    std::thread::scope(|scope| {
        for first in 0..4 {
            let server = &server;
            scope.spawn(move || {
                (first..TENANTS)
                    .step_by(4)
                    .for_each(|tenant| check_tenant(server, tenant))
            });
        }
    });
    assert!(server.workers().len() <= 6, "{:?}", server.workers());
    let cost_used = memory(&server).saturating_sub(before_used);
    assert!(
        cost_used < COST,
        "{TENANTS} tenants that answered cost {cost_used} bytes more than one"
    );
    eprintln!("{TENANTS} tenants: {cost} bytes more than one, {cost_used} when all have answered");
    server.stop();
}
