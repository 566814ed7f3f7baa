//! Real programs behind the real binary, asked directly and through nginx: libfcgi, FCGI.pm, php-cgi, php-fpm, the
//! published `fastcgi` crate, and the example workers of the pipe protocol in five languages.

use std::path::Path;
use std::process::Command;

use crate::harness::apps::{app, c_app, example, rust_responder};
use crate::harness::peers::{fastcgi_server, nginx, php_fpm, program};
use crate::harness::server::list;
use crate::harness::{Address, Client, Setup};

const MEGABYTE: usize = 1 << 20;

/// What curl got: the status, and the body.
fn curl(address: &Address, target: &str, words: &[&str]) -> (u16, Vec<u8>) {
    let mut command = Command::new(program(&["curl"]));
    command.args([
        "--silent",
        "--show-error",
        "--max-time",
        "120",
        "--write-out",
        "%{stderr}%{http_code}",
    ]);
    let base = match address {
        Address::Tcp(address) => format!("http://{address}"),
        Address::Unix(path) => {
            command.arg("--unix-socket").arg(path);
            "http://localhost".to_owned()
        }
    };
    let output = command.args(words).arg(base + target).output().expect("curl runs");
    let status = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "curl {words:?} {target}: {status}");
    (status.trim().parse().expect("a status"), output.stdout)
}

/// Every path of the app by curl, at one address.
fn check_with_curl(address: &Address, dir: &Path, who: &str) {
    let (status, body) = curl(address, "/", &[]);
    let greeting = String::from_utf8_lossy(&body).to_ascii_lowercase();
    assert!(
        status == 200 && greeting.starts_with("hello"),
        "{who}: {status} {greeting:?}"
    );
    let (status, head) = curl(address, "/", &["--head"]);
    assert_eq!(status, 200, "{who}");
    assert!(
        String::from_utf8_lossy(&head)
            .to_ascii_lowercase()
            .contains("content-type: text/plain"),
        "{who}"
    );
    let (_, vars) = curl(address, "/vars?a=b%20c", &["--header", "X-Test: one"]);
    let vars = String::from_utf8_lossy(&vars).into_owned();
    for expected in [
        "REQUEST_METHOD=GET",
        "QUERY_STRING=a=b%20c",
        "HTTP_X_TEST=one",
        "SERVER_PROTOCOL=HTTP/1.1",
    ] {
        assert!(
            vars.lines().any(|line| line == expected),
            "{who}: no {expected} in\n{vars}"
        );
    }
    assert_eq!(curl(address, "/no/such/path", &[]).0, 404, "{who}");

    let upload = dir.join("upload");
    let sent: Vec<u8> = (0..10 * MEGABYTE).map(|place| (place * 31 % 251) as u8).collect();
    std::fs::write(&upload, &sent).expect("the upload is written");
    let data = format!("@{}", upload.display());
    let plain = [
        "--data-binary",
        data.as_str(),
        "--header",
        "Content-Type: application/x-test",
    ];
    let chunked = [&plain[..], &["--header", "Transfer-Encoding: chunked"]].concat();
    for words in [&plain[..], &chunked[..]] {
        let (status, body) = curl(address, "/echo", words);
        assert!(
            status == 200 && body == sent,
            "{who}: {words:?}: {status}, {} bytes",
            body.len()
        );
    }

    let size = 100 * MEGABYTE;
    let (status, body) = curl(address, &format!("/big?n={size}"), &[]);
    assert_eq!((status, body.len()), (200, size), "{who}");
    let first = body.get(..4096).expect("a hundred megabytes");
    assert!(
        body.chunks(4096).all(|block| block == first),
        "{who}: the bytes are mixed up"
    );
}

/// Five events come. With `apart`, the app waits between them, so they must not come in one piece.
fn check_events(address: &Address, who: &str, apart: bool) {
    let mut client = Client::connect(address);
    client.send("GET /sse HTTP/1.1\r\nHost: test\r\n\r\n");
    let response = client.response("GET");
    assert_eq!(
        response.field("content-type").map(|kind| kind.split(';').next()),
        Some(Some("text/event-stream"))
    );
    let text = response.text();
    let events: Vec<&str> = text.split("\n\n").filter(|event| !event.trim().is_empty()).collect();
    assert_eq!(events.len(), 5, "{who}: {text:?}");
    assert!(
        events.iter().all(|event| event.trim().starts_with("data: ")),
        "{who}: {text:?}"
    );
    assert!(!apart || response.chunks >= 2, "{who}: the events came in one piece");
}

/// A program that is not ours: its events are 60 ms apart.
fn check(setup: Setup, who: &str) {
    check_everywhere(setup, who, true);
}

/// An example worker: it sends its events one after the other without waiting.
fn check_example(name: &str) {
    check_everywhere(Setup::exec(&[&example(name)]).with("workers", 2), name, false);
}

fn check_everywhere(setup: Setup, who: &str, apart: bool) {
    let socket = format!("unix:{}", setup.path_text("http.sock"));
    let server = setup.with("bind", list(&["127.0.0.1:0", &socket])).start();
    let dir = server.path("");
    check_with_curl(&server.address, &dir, who);
    check_events(&server.address, who, apart);
    let front = nginx(&server.path("http.sock"));
    let through = format!("{who} through nginx");
    check_with_curl(&front.address, &dir, &through);
    check_events(&front.address, &through, apart);
    drop(front);
    server.stop();
}

fn script_variables(setup: Setup) -> Setup {
    let script = format!("SCRIPT_FILENAME={}", app("app.php"));
    setup.with("param", list(&[&script]))
}

#[test]
fn libfcgi_in_c() {
    check(Setup::exec(&[&c_app()]).with("workers", 2), "libfcgi");
}

#[test]
fn perl_with_fcgi_pm() {
    check(Setup::exec(&[&app("app.pl")]).with("workers", 2), "FCGI.pm");
}

#[test]
fn php_cgi() {
    let setup = Setup::exec(&["php-cgi", "-d", "post_max_size=64M"]).with("workers", 2);
    check(script_variables(setup), "php-cgi");
}

#[test]
fn php_fpm_by_connect() {
    let fpm = php_fpm();
    let setup = Setup::new()
        .with("connect", list(&[&fpm.upstream()]))
        .with("workers", 2);
    check(script_variables(setup), "php-fpm");
}

#[test]
fn the_fastcgi_crate() {
    // The crate takes the end of a connection for a bug, and says so; the worker goes on.
    let setup = Setup::exec(&[&rust_responder()])
        .with("workers", 2)
        .allow("fastcgi-1.0.0");
    check(setup, "the fastcgi crate");
}

#[test]
fn a_fastcgi_server_by_connect() {
    let peer = fastcgi_server(&[&c_app()]);
    let setup = Setup::new().with("connect", list(&[&peer.upstream()]));
    check(setup, "libfcgi by connect");
}

#[test]
fn a_pipe_worker_in_python() {
    check_example("pipe_worker.py");
}

#[test]
fn a_pipe_worker_in_perl() {
    check_example("pipe_worker.pl");
}

#[test]
fn a_pipe_worker_in_php() {
    check_example("pipe_worker.php");
}

#[test]
fn a_pipe_worker_in_ruby() {
    check_example("pipe_worker.rb");
}

#[test]
fn a_pipe_worker_in_node() {
    check_example("pipe_worker.mjs");
}

#[test]
fn a_pulling_worker_in_python() {
    check_example("pipe_pull.py");
}

#[test]
fn events_of_a_pipe_worker_come_one_by_one() {
    for pull in [true, false] {
        let server = Setup::pull_record(1).with("pull", pull).start();
        check_events(&server.address, "pipe", true);
        server.stop();
    }
}

#[test]
fn a_pipe_worker_on_standard_input_and_output() {
    let setup = Setup::exec(&[&example("pipe_worker.py")]).with("pipe_stdio", true);
    check_everywhere(setup, "Python on stdin and stdout", false);
}

#[test]
fn the_protocol_is_found_out_and_logged_once() {
    let cases = [
        (c_app(), "fastcgi"),
        (app("app.pl"), "fastcgi"),
        (example("pipe_worker.py"), "pipe"),
    ];
    for (program, protocol) in cases {
        let server = Setup::exec(&[&program]).with("workers", 3).start();
        server.wait_for_workers(3);
        let verdicts = server
            .log()
            .lines()
            .filter(|line| {
                line.to_ascii_lowercase().contains("speaks ") && line.to_ascii_lowercase().contains(protocol)
            })
            .count();
        assert_eq!(verdicts, 1, "{program}:\n{}", server.log());
        server.stop();
    }
}

#[test]
fn a_plain_cgi_program_is_told_apart_and_served() {
    let setup = Setup::new();
    let script = setup.path_text("plain.sh");
    std::fs::write(
        &script,
        "#!/bin/sh\nprintf 'Content-Type: text/plain\\r\\n\\r\\nhello\\n'\n",
    )
    .expect("a script");
    let server = setup.with("exec", list(&["sh", &script])).start();
    server.wait_for_log("Found out that the app is a CGI script");
    assert_eq!(server.get("/").text(), "hello\n");
    server.stop();
}
