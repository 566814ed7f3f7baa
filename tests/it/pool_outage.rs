//! A pool of which no worker starts: its requests fail at once, the others do not notice, and it recovers by itself.

use std::fs;
use std::os::unix::fs::symlink;

use crate::harness::server::quoted;
use crate::harness::tree::{ask, page};
use crate::harness::{Response, Server, Setup, wait_until};

/// A site `broken.example` with a pool of these lines, and one with a WSGI app that works. Requests may wait for ever,
/// so that an answer shows that none did.
fn setup(lines: impl Fn(&Setup) -> String) -> Setup {
    let setup = Setup::new().with_text("queue_timeout", "0").allow("");
    page(
        &setup,
        "well/app.py",
        "def application(environ, start_response):\n\
         \x20   start_response('200 OK', [('Content-Type', 'text/plain')])\n\
         \x20   return [b'well']\n",
    );
    page(&setup, "site/index.php", "<?php echo 'mended';");
    let lines = lines(&setup);
    // PHP runs files.
    let root = format!("root = {}\n", quoted(&setup.path_text("site")));
    let root = if lines.contains("php-cgi") { root } else { String::new() };
    let tables = format!(
        "[pool.broken]\n{lines}\nworkers = {{ min = 0, max = 3, idle = '60s' }}\n\
         [pool.well]\napp = 'app:application'\nchdir = {}\nworkers = {{ min = 0, max = 2 }}\n\
         [[site]]\nhosts = ['broken.example']\npool = 'broken'\n{root}\
         [[site]]\nhosts = ['well.example']\npool = 'well'\n",
        quoted(&setup.path_text("well")),
    );
    setup.tables(&tables)
}

fn broken(server: &Server) -> Response {
    ask(&server.address, "GET", "broken.example", "/")
}

/// Requests fail with when to come again, and the log says once what is wrong.
fn check_outage(server: &Server, cause: &str) {
    for _ in 0..3 {
        let response = broken(server);
        assert_eq!(response.status, 503, "{}", server.log());
        let seconds = response.field("retry-after").and_then(|text| text.parse::<u32>().ok());
        assert!(
            seconds.is_some_and(|seconds| (1..=30).contains(&seconds)),
            "{seconds:?}"
        );
        assert_eq!(ask(&server.address, "GET", "well.example", "/").text(), "well");
    }
    let line = server.wait_for_log("Pool broken cannot start");
    assert!(line.contains("[ERROR]") && line.contains(cause), "{line}");
    assert_eq!(server.log().matches("Pool broken cannot start").count(), 1);
    let line = server.wait_for_log("failed (503)");
    assert!(
        line.contains("pool=broken") && line.contains("its pool cannot start"),
        "{line}"
    );
}

fn check_recovery(server: &Server) {
    wait_until("an answer of the mended pool", || broken(server).text() == "mended");
    server.wait_for_log("Pool broken has started after all");
}

#[test]
fn a_program_that_is_gone_and_comes_back() {
    let path = std::env::var_os("PATH").expect("a PATH");
    let places = std::env::split_paths(&path).map(|place| place.join("php-cgi"));
    let program = places.into_iter().find(|path| path.exists()).expect("php-cgi");
    let setup = setup(|setup| {
        symlink(&program, setup.path("php-cgi")).expect("a link");
        format!("exec = [{}]", quoted(&setup.path_text("php-cgi")))
    });
    let link = setup.path("php-cgi");
    let server = setup.start();
    fs::remove_file(&link).expect("the link");
    check_outage(&server, "cannot execute the program");
    symlink(&program, &link).expect("a link");
    check_recovery(&server);
    server.stop();
}

#[test]
fn an_app_that_fails_to_import_and_is_mended() {
    let setup = setup(|setup| {
        page(setup, "app/broken.py", "raise ValueError('no database')\n");
        let directory = quoted(&setup.path_text("app"));
        format!("app = 'broken:application'\nchdir = {directory}")
    });
    let server = setup.start();
    check_outage(&server, "no database");
    let mended = "def application(environ, start_response):\n\
         \x20   start_response('200 OK', [('Content-Type', 'text/plain')])\n\
         \x20   return [b'mended']\n";
    fs::write(server.path("app/broken.py"), mended).expect("a file");
    check_recovery(&server);
    server.stop();
}

#[test]
fn requests_that_wait_already_fail_too() {
    let setup = setup(|setup| {
        page(setup, "gate", "");
        let gate = setup.path_text("gate");
        let script = format!("while [ -e {gate} ]; do sleep 0.01; done\necho no licence\nexit 1\n");
        page(setup, "worker.sh", script);
        let script = quoted(&setup.path_text("worker.sh"));
        format!("exec = ['/bin/sh', {script}]\nprotocol = 'fastcgi'")
    });
    let server = setup.start();
    let mut clients: Vec<_> = (0..5).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send("POST / HTTP/1.1\r\nHost: broken.example\r\nContent-Length: 2\r\n\r\nab");
    }
    server.wait_for_log("Booting worker");
    fs::remove_file(server.path("gate")).expect("the gate");
    for client in &mut clients {
        assert_eq!(client.response("POST").status, 503, "{}", server.log());
    }
    check_outage(&server, "no licence");
    server.stop();
}
