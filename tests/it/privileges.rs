//! Started by root with `user`: who everybody is, what they may reach, and that nobody finds a way back.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use nix::sys::signal::Signal;
use nix::unistd::{Group, User};

use crate::harness::apps::{c_app, example};
use crate::harness::server::list;
use crate::harness::tree::page;
use crate::harness::{Server, Setup, procs, request, wait_until};

/// These tests change users, which only root can.
fn assert_root() {
    assert!(
        nix::unistd::geteuid().is_root(),
        "only root can start a server that changes to another user"
    );
}

/// The numbers of `nobody`, which every system has.
fn nobody() -> (u32, u32) {
    let user = User::from_name("nobody").expect("the users").expect("nobody");
    (user.uid.as_raw(), user.gid.as_raw())
}

/// A server whose directories and app `nobody` may reach, and nobody else's.
fn as_nobody(program: &Path) -> Setup {
    assert_root();
    let setup = Setup::new();
    let (uid, gid) = nobody();
    let mode =
        |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("a mode");
    mode(&setup.path(""), 0o755);
    chown(setup.path("spool"), Some(uid), Some(gid)).expect("an owner");
    mode(&setup.path("spool"), 0o700);
    let app = setup.path("app");
    std::fs::copy(program, &app).expect("a copy of the app");
    mode(&app, 0o755);
    let (app, log) = (setup.path_text("app"), setup.path_text("error.log"));
    setup
        .with("exec", list(&[&app]))
        .with("workers", 2)
        .with_text("user", "nobody")
        .with_text("errorlog", &log)
}

fn started(setup: Setup) -> Server {
    setup.start_with_log("error.log")
}

fn words(values: &[u32]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

/// Real, effective, saved and file-system identity are the given ones, and no capability is left.
fn assert_is(pid: i32, (uid, gid): (u32, u32), groups: &[u32]) {
    let what = procs::look(pid).expect("a process").name;
    assert_eq!(procs::status(pid, "Uid"), words(&[uid; 4]), "{what}");
    assert_eq!(procs::status(pid, "Gid"), words(&[gid; 4]), "{what}");
    assert_eq!(procs::status(pid, "Groups"), words(groups), "{what}");
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(procs::status(pid, set), ["0000000000000000"], "{what}: {set}");
    }
}

#[test]
fn the_front_and_workers_are_the_user_and_the_arbiter_stays_root() {
    let server = started(as_nobody(Path::new(&c_app())).with_text("protocol", "fastcgi"));
    let (uid, gid) = nobody();
    for pid in server.wait_for_workers(2).into_iter().chain([server.front()]) {
        let groups = if pid == server.front() {
            vec![gid, group_of_front(&server)]
        } else {
            vec![gid]
        };
        assert_is(pid, (uid, gid), &groups);
    }
    assert_eq!(procs::status(server.pid, "Uid"), words(&[0; 4]));
    // The front takes bytes from strangers: nothing that it might execute could give it rights.
    assert_eq!(procs::status(server.front(), "NoNewPrivs"), ["1"]);
    // A body that needs the user's spool directory.
    let body = vec![b'x'; 1 << 20];
    let response = request(&server.address, "POST", "/echo", &[], &body);
    assert_eq!((response.status, response.body.len()), (200, body.len()));
    server.stop();
}

/// The group that the front alone has, by the only directory in the runtime directory.
fn group_of_front(server: &Server) -> u32 {
    let made: Vec<_> = std::fs::read_dir(server.path("run")).expect("it").flatten().collect();
    assert_eq!(made.len(), 1);
    made[0].metadata().expect("its metadata").gid()
}

#[test]
fn the_runtime_directory_lets_the_front_through_alone() {
    let server = started(as_nobody(Path::new(&c_app())).with_text("protocol", "fastcgi"));
    let group = group_of_front(&server);
    assert!((1_879_048_192..=2_147_483_646).contains(&group), "{group}");
    let made: Vec<_> = std::fs::read_dir(server.path("run")).expect("it").flatten().collect();
    let meta = made[0].metadata().expect("its metadata");
    assert_eq!((meta.mode() & 0o777, meta.uid()), (0o710, 0));
    let sockets: Vec<_> = std::fs::read_dir(made[0].path())
        .expect("it")
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().ends_with(".sock"))
        .map(|entry| entry.metadata().expect("its metadata"))
        .collect();
    assert_eq!(sockets.len(), 2);
    // The directory is what keeps others out.
    assert!(sockets.iter().all(|meta| meta.mode() & 0o777 == 0o777));
    server.stop();
}

#[test]
fn logs_of_root_are_written_and_reopened_though_the_user_could_not_open_them() {
    let setup = as_nobody(Path::new(&c_app())).allow("Invalid request");
    let server = started(setup.with_text("protocol", "fastcgi"));
    for name in ["access.log", "error.log"] {
        let meta = std::fs::metadata(server.path(name)).expect("a log");
        assert_eq!((meta.uid(), meta.mode() & 0o022), (nobody().0, 0), "{name}");
        std::fs::rename(server.path(name), server.path(&format!("{name}.1"))).expect("it is moved");
    }
    server.signal(Signal::SIGUSR1);
    let read = |name: &str| std::fs::read_to_string(server.path(name)).unwrap_or_default();
    wait_until("lines in the new access log", || {
        assert_eq!(server.get("/?later").status, 200);
        read("access.log").contains("/?later")
    });
    // The front writes to the new error log too.
    let mut client = server.connect();
    client.send("BROKEN\r\n\r\n");
    assert_eq!(client.response("GET").status, 400);
    wait_until("a line of the front", || read("error.log").contains("Invalid request"));
    assert!(!read("error.log.1").contains("Invalid request"));
    server.stop();
}

#[test]
fn a_reload_and_a_new_front_need_no_rights_that_were_given_up() {
    let server = started(
        as_nobody(Path::new(&c_app()))
            .with_text("protocol", "fastcgi")
            .allow("SIGKILL"),
    );
    let first = server.front();
    server.signal(Signal::SIGHUP);
    wait_until("a new generation", || {
        let fronts = server.fronts();
        fronts.len() == 1 && fronts[0] != first
    });
    let second = server.front();
    procs::signal(second, Signal::SIGKILL);
    wait_until("a new front", || server.fronts().iter().any(|front| *front != second));
    assert_eq!(server.get("/").status, 200);
    let (uid, gid) = nobody();
    assert_is(server.front(), (uid, gid), &[gid, group_of_front(&server)]);
    for pid in server.wait_for_workers(2) {
        assert_is(pid, (uid, gid), &[gid]);
    }
    server.stop();
}

#[test]
fn pipe_workers_and_the_front_share_what_they_need() {
    let setup = as_nobody(Path::new(&example("pipe_pull.py"))).with_text("protocol", "pipe");
    // The interpreter that the tests find may lie where nobody can go.
    let server = started(setup.with("raw_env", list(&["PATH=/usr/bin:/bin"])));
    let (uid, gid) = nobody();
    for pid in server.wait_for_workers(2) {
        assert_is(pid, (uid, gid), &[gid]);
    }
    assert_eq!(server.get("/").status, 200);
    let body = vec![b'x'; 1 << 20];
    let response = request(&server.address, "POST", "/echo", &[], &body);
    assert_eq!((response.status, response.body.len()), (200, body.len()));
    server.stop();
}

#[test]
fn a_group_of_its_own_and_the_users_other_groups() {
    let (uid, _) = nobody();
    let daemon = Group::from_name("daemon")
        .expect("the groups")
        .expect("daemon")
        .gid
        .as_raw();
    let setup = || {
        as_nobody(Path::new(&c_app()))
            .with_text("protocol", "fastcgi")
            .with_text("group", "daemon")
    };
    let server = started(setup());
    assert_is(server.front(), (uid, daemon), &[daemon, group_of_front(&server)]);
    server.stop();
    let server = started(setup().with("initgroups", true));
    assert_is(server.front(), (uid, daemon), &[daemon, group_of_front(&server)]);
    server.stop();
}

#[test]
fn sockets_belong_to_the_user() {
    let setup = as_nobody(Path::new(&c_app())).with_text("protocol", "fastcgi");
    let server = started(setup.on_unix_socket().with("umask", "0o177"));
    let meta = std::fs::symlink_metadata(server.path("http.sock")).expect("the socket");
    assert_eq!(
        (meta.uid(), meta.gid(), meta.mode() & 0o777),
        (nobody().0, nobody().1, 0o600)
    );
    server.stop();
}

#[test]
fn a_user_without_an_account_needs_a_group() {
    let setup = || as_nobody(Path::new(&c_app())).with_text("protocol", "fastcgi");
    let ended = setup().with("user", "\"99999\"").with("errorlog", "\"-\"").run_to_end();
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    for said in ["group must be set, because user 99999 has no account", "add -g "] {
        assert!(ended.stderr.contains(said), "{said}: {}", ended.stderr);
    }
    let setup = setup().with("user", "\"99999\"").with("group", "\"99998\"");
    chown(setup.path("spool"), Some(99999), Some(99998)).expect("an owner");
    let server = started(setup);
    assert_is(server.front(), (99999, 99998), &[99998, group_of_front(&server)]);
    server.stop();
}

#[test]
fn what_the_user_cannot_reach_is_told_at_the_start() {
    let hidden = |setup: &Setup, name: &str| {
        let path = setup.path(name);
        std::fs::create_dir(&path).expect("a directory");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).expect("a mode");
        setup.path_text(name)
    };
    for setting in ["tmp_upload_dir", "chdir", "exec"] {
        let mut setup = as_nobody(Path::new(&c_app())).with_text("protocol", "fastcgi");
        let path = hidden(&setup, "hidden");
        if setting == "exec" {
            std::fs::copy(c_app(), format!("{path}/app")).expect("a copy");
            setup.set("exec", list(&[&format!("{path}/app")]));
        } else {
            setup.set(setting, format!("{path:?}"));
        }
        setup.set("errorlog", "\"-\"");
        let ended = setup.run_to_end();
        assert!(
            matches!(ended.status.code(), Some(1 | 3)),
            "{setting}: {}",
            ended.stderr
        );
        let mut lines = ended.stderr.lines();
        let line = lines.find(|line| line.contains("ermission denied") && line.contains(&path));
        let line = line.unwrap_or_else(|| panic!("{setting}: {}", ended.stderr));
        if setting == "exec" {
            let program = format!("{path}/app");
            for said in [
                format!("cannot execute the program {program} as user nobody: "),
                format!("; rgunicorn --doctor {program} -u nobody says why"),
            ] {
                assert!(line.contains(&said), "{said}: {line}");
            }
        }
    }
}

#[test]
fn a_server_that_stays_root_says_so_once_unless_it_takes_gunicorns_place() {
    assert_root();
    let hints = |server: &Server| server.log().matches("No user is set").count();
    let setup = Setup::new();
    page(&setup, "site/index.html", "page");
    let site = setup.path_text("site");
    let server = setup.arg("--root").arg(&site).start();
    assert_eq!(server.get("/").text(), "page");
    assert_eq!(hints(&server), 1, "{}", server.log());
    server.stop();
    let server = started(as_nobody(Path::new(&c_app())));
    assert_eq!(hints(&server), 0, "{}", server.log());
    server.stop();
    let server = Setup::wsgi(&["hello"]).start();
    assert_eq!(hints(&server), 0, "{}", server.log());
    server.stop();
}
