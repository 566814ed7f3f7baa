//! What systemd is told, and what it passes.

use std::fs::File;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;

use crate::harness::apps::c_app;
use crate::harness::{Address, PATIENCE, procs, wait_for};

/// A server started by a shell line, killed if the test fails.
struct Started {
    child: Child,
    dir: tempfile::TempDir,
}

impl Started {
    /// Runs `line` in a shell; `"$@"` in it is the server's command line with these arguments added.
    fn new(line: &str, args: &[&str], stdin: Stdio, env: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let app = c_app();
        let child = Command::new("sh")
            .args(["-c", line, "sh", env!("CARGO_BIN_EXE_rgunicorn"), "--exec", &app])
            .arg("--runtime-dir")
            .arg(dir.path())
            .args(args)
            .envs(env.iter().copied())
            .stdin(stdin)
            .stdout(Stdio::null())
            .stderr(File::create(dir.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        Self { child, dir }
    }

    fn signal(&self, signal: Signal) {
        procs::signal(self.child.id().try_into().unwrap(), signal);
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Stops it and expects that it does so well.
    fn stop(mut self) {
        self.signal(Signal::SIGTERM);
        let status = wait_for("the end", || self.child.try_wait().unwrap());
        assert!(status.success(), "{}", self.log());
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_manager_is_told_of_start_reload_and_stop() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let next = || {
        let mut buffer = [0; 256];
        let length = manager.recv(&mut buffer).expect("a message");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    let env = [("NOTIFY_SOCKET", path.to_str().unwrap())];
    let server = Started::new("exec \"$@\"", &["-b", "127.0.0.1:0"], Stdio::null(), &env);
    let ready = next();
    assert!(ready.starts_with("READY=1\n"), "{ready}");
    assert!(ready.contains(&format!("MAINPID={}\n", server.child.id())), "{ready}");
    server.signal(Signal::SIGHUP);
    let reloading = next();
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    assert!(next().starts_with("READY=1\n"));
    server.signal(Signal::SIGTERM);
    assert_eq!(next(), "STOPPING=1");
    server.stop();
}

#[test]
fn passed_sockets_are_served_instead_of_bind_and_survive_a_reload() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Address::Tcp(listener.local_addr().unwrap());
    let stdin = Stdio::from(OwnedFd::from(listener));
    let line = "exec 3<&0 0</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\"";
    let server = Started::new(line, &["-b", "127.0.0.1:1"], stdin, &[]);
    assert_eq!(crate::harness::get(&address, "/").status, 200, "{}", server.log());
    server.signal(Signal::SIGHUP);
    wait_for("a second worker", || {
        (server.log().matches("Booting worker").count() == 2).then_some(())
    });
    assert_eq!(crate::harness::get(&address, "/").status, 200, "{}", server.log());
    server.stop();
}

#[test]
fn a_descriptor_that_was_not_passed_is_refused_in_words() {
    let line = "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\"";
    let mut server = Started::new(line, &[], Stdio::null(), &[]);
    let status = wait_for("the end", || server.child.try_wait().unwrap());
    assert_eq!(status.code(), Some(1), "{}", server.log());
    assert!(server.log().contains("cannot listen on fd://3"), "{}", server.log());
}
