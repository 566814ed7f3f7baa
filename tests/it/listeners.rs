//! Where it listens: TCP by both versions, unix sockets with a mode, several at once, and what stands in the way.

use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::Path;

use nix::sys::signal::Signal;

use crate::harness::server::list;
use crate::harness::{Address, PATIENCE, Server, Setup, get};

fn mode(path: &Path) -> u32 {
    let meta = std::fs::symlink_metadata(path).expect("a socket");
    assert!(meta.file_type().is_socket());
    meta.permissions().mode() & 0o777
}

/// Every address of the line that scripts wait for.
fn addresses(server: &Server) -> Vec<Address> {
    let line = server.wait_for_log("Listening at: ");
    let rest = line.split_once("Listening at: ").expect("the line").1;
    let names = rest.split(' ').next().expect("the names").split(',');
    names
        .map(|name| match name.strip_prefix("unix:") {
            Some(path) => Address::Unix(path.into()),
            None => Address::Tcp(name.trim_start_matches("http://").parse().expect("an address")),
        })
        .collect()
}

#[test]
fn several_addresses_of_every_kind_serve_together() {
    let setup = Setup::c_app(1);
    let unix = format!("unix:{}", setup.path_text("a.sock"));
    let other = format!("unix:{}", setup.path_text("b.sock"));
    let server = setup
        .with("bind", list(&["127.0.0.1:0", "[::1]:0", &unix, "127.0.0.1:0", &other]))
        .start();
    let found = addresses(&server);
    assert_eq!(found.len(), 5, "{found:?}");
    for address in &found {
        assert_eq!(get(address, "/").status, 200, "{address:?}");
    }
    let Some(Address::Tcp(v6)) = found.get(1) else {
        panic!("{found:?}");
    };
    assert!(v6.is_ipv6() && v6.port() != 0);
    let text = get(&found[1], "/vars").text();
    assert!(text.lines().any(|line| line == "REMOTE_ADDR=::1"), "{text}");
    server.stop();
}

#[test]
fn a_unix_socket_has_the_mode_that_the_umask_leaves_and_goes_at_the_end() {
    // Gunicorn's default lets everybody connect.
    for (umask, expected) in [(None, 0o777), (Some("0o007"), 0o770), (Some("0o177"), 0o600)] {
        let mut setup = Setup::c_app(1).on_unix_socket();
        if let Some(umask) = umask {
            setup.set("umask", umask);
        }
        let mut server = setup.start();
        let path = server.path("http.sock");
        assert_eq!(mode(&path), expected, "umask {umask:?}");
        server.signal(Signal::SIGTERM);
        server.wait_for_end(PATIENCE);
        assert!(!path.exists());
        server.stop();
    }
}

#[test]
fn the_umask_is_for_sockets_only() {
    let server = Setup::c_app(1).on_unix_socket().start();
    let log = std::fs::metadata(server.path("access.log")).expect("the log");
    assert_eq!(log.permissions().mode() & 0o022, 0, "the log is writable for others");
    server.stop();
}

#[test]
fn a_socket_that_the_dead_left_is_replaced() {
    let setup = Setup::c_app(1).on_unix_socket();
    let path = setup.path("http.sock");
    drop(UnixListener::bind(&path).expect("a socket"));
    assert!(path.exists(), "the file outlives its listener");
    let server = setup.start();
    assert_eq!(server.get("/").status, 200);
    server.stop();
}

#[test]
fn a_socket_that_somebody_serves_is_left_to_them() {
    let setup = Setup::c_app(1).on_unix_socket();
    let path = setup.path("http.sock");
    let held = UnixListener::bind(&path).expect("a socket");
    let ended = setup.run_to_end();
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("address already in use") && ended.stderr.contains("(bind)"));
    drop(held);
}

#[test]
fn what_is_no_socket_is_named_at_once_and_left_alone() {
    for kind in ["a file", "a directory", "a link"] {
        let setup = Setup::c_app(1).on_unix_socket();
        let path = setup.path("http.sock");
        match kind {
            "a file" => std::fs::write(&path, "precious").expect("a file"),
            "a directory" => std::fs::create_dir(&path).expect("a directory"),
            _ => std::os::unix::fs::symlink("/no/such/target", &path).expect("a link"),
        }
        let kept = path.clone();
        let check = move || std::fs::symlink_metadata(&kept).is_ok();
        let ended = setup.run_to_end_and(|| assert!(check(), "{kind} is gone"));
        assert_eq!(ended.status.code(), Some(1), "{kind}: {}", ended.stderr);
        assert!(ended.stderr.contains("is not a socket"), "{kind}: {}", ended.stderr);
        assert!(!ended.stderr.contains("Retrying"), "{kind}: {}", ended.stderr);
    }
}

#[test]
fn a_socket_that_another_server_has_put_in_place_is_not_removed_at_the_end() {
    let mut server = Setup::c_app(1).on_unix_socket().start();
    let path = server.path("http.sock");
    std::fs::remove_file(&path).expect("the old socket is removed");
    let new = UnixListener::bind(&path).expect("a new one");
    server.signal(Signal::SIGTERM);
    server.wait_for_end(PATIENCE);
    assert!(path.exists());
    drop(new);
    server.stop();
}
