//! USR2: a new arbiter beside the old one on the same listeners; then either of them leaves, and nobody notices.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::harness::hammer::{Hammer, Plan};
use crate::harness::server::list;
use crate::harness::{Address, Client, PATIENCE, Server, Setup, get, procs, wait_for, wait_until};

/// A server with a pid file.
fn setup(workers: u32) -> Setup {
    let setup = Setup::pull_record(workers);
    let pidfile = setup.path_text("server.pid");
    setup.with_text("pidfile", &pidfile)
}

fn pid_in(path: &Path) -> Option<i32> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Sends USR2 and waits until the new arbiter has a worker for every one of `count`.
fn upgrade(server: &Server, count: usize) -> i32 {
    let mark = server.log().len();
    server.signal(Signal::SIGUSR2);
    let line = server.wait_for_log_after(mark, "Booting a new master with pid: ");
    let new = line.rsplit(' ').next().and_then(|pid| pid.parse().ok()).expect("a pid");
    wait_until("workers of the new arbiter", || {
        procs::children(new).len() == count + 1 && serves(new)
    });
    new
}

/// Whether the front of an arbiter accepts: it has a socket that listens open only then.
fn serves(arbiter: i32) -> bool {
    let fronts = procs::children(arbiter);
    let mut fronts = fronts
        .iter()
        .filter(|child| child.command().starts_with("rgunicorn: front"));
    fronts.any(|front| !procs::descriptors(front.pid).is_empty())
}

fn hammer(address: &Address) -> Hammer {
    let plan = Plan {
        clients: 8,
        method: "GET",
        target: "/".to_owned(),
        per_connection: 10,
    };
    let hammer = Hammer::start(address, &plan);
    hammer.wait_for_more(50);
    hammer
}

#[test]
fn the_new_arbiter_takes_over_under_load_without_a_failed_request() {
    let mut server = setup(2).start();
    let (first, second) = (server.path("server.pid"), server.path("server.pid.2"));
    let hammer = hammer(&server.address);
    for _ in 0..3 {
        let old = server.pid;
        let new = upgrade(&server, 2);
        assert_eq!((pid_in(&first), pid_in(&second)), (Some(old), Some(new)));
        hammer.wait_for_more(200);
        let mark = server.log().len();
        procs::signal(old, Signal::SIGTERM);
        wait_until("the end of the old arbiter", || !procs::is_alive(old));
        server.continue_as(new);
        server.wait_for_log_after(mark, &format!("[{new}] [INFO] Master has been promoted."));
        wait_until("the pid file under its plain name", || pid_in(&first) == Some(new));
        assert!(!second.exists());
        hammer.wait_for_more(200);
    }
    hammer.stop_unharmed("upgrades");
    server.stop();
}

#[test]
fn titles_and_groups_tell_the_two_apart() {
    let mut server = setup(1).with_text("proc_name", "shop").start();
    let title = |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let new = upgrade(&server, 1);
    assert!(title(server.pid).contains("[shop]"), "{}", title(server.pid));
    assert!(title(new).contains("[shop.2]"), "{}", title(new));
    let look = |pid| procs::look(pid).expect("it lives");
    assert_eq!(look(new).parent, server.pid);
    // A terminal's Ctrl-C reaches both, and writing to it stops neither.
    assert_eq!(look(new).group, look(server.pid).group);
    server.signal(Signal::SIGTERM);
    server.continue_as(new);
    wait_until("the plain title", || title(new).contains("[shop]"));
    server.stop();
}

#[test]
fn there_are_never_three() {
    let server = setup(1).allow("USR2 signal ignored.").start();
    let new = upgrade(&server, 1);
    let mark = server.log().len();
    server.signal(Signal::SIGUSR2);
    let line = server.wait_for_log_after(mark, "USR2 signal ignored.");
    assert!(line.contains(&format!("[{}] [WARNING]", server.pid)) && line.ends_with("Child exists."));
    let mark = server.log().len();
    procs::signal(new, Signal::SIGUSR2);
    let line = server.wait_for_log_after(mark, "USR2 signal ignored.");
    assert!(line.contains(&format!("[{new}] [WARNING]")) && line.ends_with("Parent exists."));
    procs::signal(new, Signal::SIGTERM);
    server.wait_for_log("this one goes on");
    server.stop();
}

#[test]
fn the_new_arbiter_can_be_sent_away_and_another_one_called() {
    let server = setup(1).on_unix_socket().start();
    let second = server.path("server.pid.2");
    let hammer = hammer(&server.address);
    for signal in [Signal::SIGTERM, Signal::SIGQUIT] {
        let new = upgrade(&server, 1);
        // Scaling and reloading either of them leaves the other alone.
        server.signal(Signal::SIGTTIN);
        wait_until("two workers of the old one", || server.workers().len() == 2);
        let mark = server.log().len();
        procs::signal(new, Signal::SIGHUP);
        server.wait_for_log_after(mark, &format!("[{new}] [INFO] Hang up: Master.2"));
        wait_until("a new generation of the new one", || {
            procs::children(new).len() == 2 && pid_in(&second) == Some(new)
        });
        let mark = server.log().len();
        procs::signal(new, signal);
        server.wait_for_log_after(mark, &format!("The new master (pid:{new}) exited; this one goes on"));
        assert!(
            server
                .log()
                .contains(&format!("[{new}] [INFO] Shutting down: Master.2"))
        );
        assert!(!second.exists());
        assert_eq!(pid_in(&server.path("server.pid")), Some(server.pid));
        let mark = server.log().len();
        server.signal(Signal::SIGHUP);
        server.wait_for_log_after(mark, "Hang up: Master");
        wait_until("one worker again", || {
            server.fronts().len() == 1 && server.workers().len() == 1
        });
        hammer.wait_for_more(50);
    }
    hammer.stop_unharmed("coming and going");
    server.stop();
}

#[test]
fn a_new_arbiter_that_cannot_start_leaves_the_old_one_alone() {
    let server = setup(1).allow("cannot").allow("The new master").start();
    let good = std::fs::read_to_string(server.path("site.toml")).expect("the settings");
    std::fs::write(server.path("site.toml"), "nonsense = 1\n").expect("bad settings");
    server.signal(Signal::SIGUSR2);
    let line = server.wait_for_log("The new master (pid:");
    assert!(
        line.contains("[ERROR]") && line.contains("exited with code 1"),
        "{line}"
    );
    assert_eq!(server.get("/").status, 200);
    // The next one finds its way.
    std::fs::write(server.path("site.toml"), good).expect("good settings");
    let new = upgrade(&server, 1);
    procs::signal(new, Signal::SIGKILL);
    let line = server.wait_for_log("was killed by SIGKILL");
    assert!(line.contains(&format!("The new master (pid:{new})")), "{line}");
    wait_until("the end of what the new one started", || {
        server.processes().len() == server.workers().len() + 1
    });
    assert_eq!(server.get("/").status, 200);
    std::fs::remove_file(server.path("server.pid.2")).expect("what it could not remove");
    // Its runtime directory goes with the next one that starts.
    let new = upgrade(&server, 1);
    procs::signal(new, Signal::SIGTERM);
    server.wait_for_log(&format!("(pid:{new}) exited; this one goes on"));
    server.stop();
}

#[test]
fn the_socket_file_stays_while_one_of_the_two_lives() {
    let mut server = setup(1).on_unix_socket().start();
    let new = upgrade(&server, 1);
    let file = server.path("http.sock");
    procs::signal(server.pid, Signal::SIGTERM);
    server.continue_as(new);
    assert!(file.exists());
    assert_eq!(server.get("/").status, 200);
    server.wait_for_log("Master has been promoted.");
    procs::signal(new, Signal::SIGTERM);
    wait_until("its end", || !procs::is_alive(new));
    assert!(!file.exists());
    server.stop();
}

#[test]
fn an_old_arbiter_that_is_killed_is_succeeded_too() {
    let server = setup(1).start();
    let new = upgrade(&server, 1);
    let old = server.pid;
    server.signal(Signal::SIGKILL);
    let promoted = format!("[{new}] [INFO] Master has been promoted.");
    wait_until("the promotion", || server.log().contains(&promoted));
    wait_until("the pid file", || pid_in(&server.path("server.pid")) == Some(new));
    assert_eq!(server.get("/").status, 200);
    procs::signal(new, Signal::SIGTERM);
    wait_until("the end of the new one", || !procs::is_alive(new));
    assert!(!procs::is_alive(old) && !server.path("server.pid").exists());
    server.expect_killed();
}

#[test]
fn addresses_that_are_still_wanted_are_handed_over_and_others_opened_and_closed() {
    let setup = setup(1);
    let (kept, gone, added) = (
        setup.path_text("kept"),
        setup.path_text("gone"),
        setup.path_text("added"),
    );
    let unix = |path: &str| format!("unix:{path}");
    let bind = list(&[&unix(&gone), "127.0.0.1:0", &unix(&kept)]);
    let mut server = setup.with("bind", bind).start();
    let line = server.wait_for_log("Listening at: ");
    let port: Vec<&str> = line.split(',').filter(|part| part.contains("http://")).collect();
    let text = std::fs::read_to_string(server.path("site.toml")).expect("the settings");
    let text = text.replace(&gone, &added);
    std::fs::write(server.path("site.toml"), text).expect("new settings");
    let mark = server.log().len();
    let new = upgrade(&server, 1);
    let line = server.wait_for_log_after(mark, "Listening at: ");
    assert!(line.contains(port[0]), "another port: {line}");
    procs::signal(server.pid, Signal::SIGTERM);
    server.continue_as(new);
    assert_eq!(get(&Address::Unix(kept.clone().into()), "/").status, 200);
    assert_eq!(get(&Address::Unix(added.clone().into()), "/").status, 200);
    assert!(Client::try_connect(&Address::Unix(gone.into())).is_err());
    server.wait_for_log("Master has been promoted.");
    server.stop();
    assert!(!Path::new(&kept).exists() && !Path::new(&added).exists());
}

#[test]
fn the_program_on_the_disk_is_what_is_executed() {
    // By a relative name that leads through a link, as deployments do.
    let launcher = "import os, sys; os.execv('current/server', ['current/server', *sys.argv[2:]])";
    let setup = setup(1).launched_by(launcher);
    for release in ["one", "two"] {
        std::fs::create_dir(setup.path(release)).expect("a release");
    }
    let binary = env!("CARGO_BIN_EXE_rgunicorn");
    symlink(binary, setup.path("one/server")).expect("a link");
    let script = format!("#!/bin/sh\necho release two >&2\nexec {binary} \"$@\"\n");
    std::fs::write(setup.path("two/server"), script).expect("a script");
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(setup.path("two/server"), mode).expect("it is executable");
    symlink("one", setup.path("current")).expect("a link");
    let mut server = setup.start();
    std::fs::remove_file(server.path("current")).expect("the link is there");
    symlink("two", server.path("current")).expect("a link");
    let new = upgrade(&server, 1);
    assert!(server.log().contains("release two\n"));
    server.signal(Signal::SIGTERM);
    server.continue_as(new);
    server.wait_for_log("Master has been promoted.");
    server.stop();
}

#[test]
fn workers_do_not_see_what_the_arbiters_tell_each_other() {
    let mut server = setup(1).start();
    let new = upgrade(&server, 1);
    server.signal(Signal::SIGTERM);
    server.continue_as(new);
    let environment = procs::environment(server.wait_for_workers(1)[0]);
    assert!(
        !environment.keys().any(|name| name.starts_with("GUNICORN_")),
        "{environment:?}"
    );
    assert!(procs::environment(new).contains_key("GUNICORN_FD"));
    server.stop();
}

#[test]
fn a_daemon_is_not_detached_twice() {
    let setup = setup(1).with("daemon", true);
    let (pidfile, log) = (setup.path_text("server.pid"), setup.path_text("error.log"));
    let server = setup.with_text("errorlog", &log).start_daemon(&pidfile, "error.log");
    wait_until("the first response", || {
        Client::try_connect(&server.address).is_ok_and(|mut client| client.try_get("/").is_ok())
    });
    let new = upgrade(&server, 1);
    assert_eq!(procs::look(new).map(|process| process.parent), Some(server.pid));
    let session = |pid| nix::unistd::getsid(Some(Pid::from_raw(pid))).ok();
    assert_eq!(session(new), session(server.pid));
    server.signal(Signal::SIGTERM);
    wait_until("the pid file", || pid_in(Path::new(&pidfile)) == Some(new));
    assert_eq!(server.get("/").status, 200);
    procs::signal(new, Signal::SIGTERM);
    server.wait_for_nothing_left(PATIENCE);
    assert!(!Path::new(&pidfile).exists());
    server.forget();
}

#[test]
fn systemd_is_told_of_the_new_main_process_by_the_old_one() {
    let setup = setup(1);
    let path = setup.path_text("notify.sock");
    let manager = UnixDatagram::bind(&path).expect("a socket");
    manager.set_read_timeout(Some(PATIENCE)).expect("a patience");
    let hear = || {
        let mut buffer = [0; 4096];
        let length = manager.recv(&mut buffer).expect("a message");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    let mut server = setup.env("NOTIFY_SOCKET", &path).start();
    let old = server.pid;
    assert!(hear().contains(&format!("MAINPID={old}")));
    let new = upgrade(&server, 1);
    server.signal(Signal::SIGTERM);
    // Nothing of the new one before: by default systemd does not listen to it yet. And nothing of an end.
    assert_eq!(hear(), format!("MAINPID={new}"));
    server.continue_as(new);
    assert_eq!(hear(), format!("MAINPID={new}"));
    procs::signal(new, Signal::SIGHUP);
    wait_for("the reload", || hear().starts_with("RELOADING=1").then_some(()));
    wait_for("its end", || hear().contains("READY=1").then_some(()));
    server.stop();
}

#[test]
fn sockets_of_systemd_are_passed_on_as_systemd_does() {
    let launcher = "
import os, socket, sys
held = socket.create_server(('127.0.0.1', 0))
os.dup2(os.dup2(held.fileno(), 13), 3, inheritable=True)
os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[1], sys.argv[1:])
";
    let mut server = setup(1).launched_by(launcher).start();
    for _ in 0..2 {
        let mark = server.log().len();
        let new = upgrade(&server, 1);
        let line = server.wait_for_log_after(mark, "Listening at: ");
        let Address::Tcp(address) = &server.address else {
            panic!("a port");
        };
        assert!(line.contains(&address.to_string()), "{line}");
        let environment = procs::environment(new);
        assert_eq!(environment.get("LISTEN_PID"), Some(&new.to_string()));
        assert!(!environment.contains_key("GUNICORN_FD"));
        let old = server.pid;
        procs::signal(old, Signal::SIGTERM);
        wait_until("the end of the old arbiter", || !procs::is_alive(old));
        server.continue_as(new);
        assert_eq!(server.get("/").status, 200);
        server.wait_for_log_after(mark, "Master has been promoted.");
    }
    server.stop();
}
