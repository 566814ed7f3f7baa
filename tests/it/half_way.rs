//! What is not broken off half way: changes whose clients leave while they are answered, in workers of every kind.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use rgunicorn::fastcgi::record::{self, RecordType};

use crate::harness::fastcgi::encode;
use crate::harness::server::{list, quoted};
use crate::harness::tree::{page, script};
use crate::harness::{Server, Setup, procs, wait_for, wait_until};

/// Each prints for a second, then writes the request's method to the file DONE; with the query `next` it does nothing.
const SLOW_PHP: &str = "<?php\nheader('Content-Type: text/plain');\n\
    if ($_SERVER['QUERY_STRING'] == 'next') exit('next');\n\
    if ($_SERVER['QUERY_STRING'] == 'big') { for ($i = 0; $i < 100; $i++) echo str_repeat('x', 100000); }\n\
    else for ($i = 0; $i < 20; $i++) { echo str_repeat('x', 5000); flush(); usleep(50000); }\n\
    file_put_contents('DONE', $_SERVER['REQUEST_METHOD'] . \"\\n\", FILE_APPEND);\n";
const SLOW_PY: &str = "import time\ndef application(environ, start_response):\n\
    \x20   start_response('200 OK', [('Content-Type', 'text/plain')])\n\
    \x20   if environ['QUERY_STRING'] == 'next' or environ['PATH_INFO'] == '/':\n\
    \x20       yield b'next'\n\
    \x20       return\n\
    \x20   for _ in range(20):\n\
    \x20       yield b'x' * 5000\n\
    \x20       time.sleep(0.05)\n\
    \x20   with open('DONE', 'a') as file:\n\
    \x20       file.write(environ['REQUEST_METHOD'] + '\\n')\n";
const SLOW_SH: &str = "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'\n\
    [ \"$QUERY_STRING\" = next ] && { printf next; exit; }\n\
    for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do printf '%05000d' 0; sleep 0.05; done\n\
    echo $REQUEST_METHOD >>DONE\n";

/// A site whose `/slow` runs in the only worker of a pool of this kind.
fn setup(kind: &str, lines: &str) -> (Setup, String) {
    let setup = Setup::new();
    let made = |text: &str| text.replace("DONE", &setup.path_text("done"));
    page(&setup, "site/slow.php", made(SLOW_PHP));
    script(&setup, "site/slow.sh", made(SLOW_SH));
    page(&setup, "app/slow.py", made(SLOW_PY));
    let site = setup.path_text("site");
    let (program, target) = match kind {
        "php" => ("exec = ['php-cgi']".to_owned(), "/slow.php"),
        "cgi" => ("protocol = 'cgi'".to_owned(), "/slow.sh"),
        _ => {
            let place = quoted(&setup.path_text("app"));
            (format!("app = 'slow:application'\nchdir = {place}"), "/slow")
        }
    };
    let site = quoted(&site);
    let mut tables = format!(
        "[pool.slow]\n{program}\nworkers = 1\n{lines}\n[[site]]\nroot = {site}\n[[site.route]]\npath = '/'\npool = 'slow'\n"
    );
    if kind == "php" {
        let socket = quoted(&format!("unix:{}", setup.path_text("fcgi.sock")));
        tables +=
            &format!("[[listener]]\nbind = {socket}\nprotocol = 'fastcgi'\npool = 'slow'\nallowed_roots = [{site}]\n");
    }
    (setup.tables(&tables), target.to_owned())
}

/// Asks, and leaves once the answer has begun.
fn leave(server: &Server, method: &str, target: &str) {
    let mut client = server.connect();
    client.send(format!(
        "{method} {target} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
    ));
    assert_eq!(client.try_head().expect("a head").status, 200, "{method} {target}");
    drop(client);
}

/// What has come to its end, once the only worker is free again.
fn done(server: &Server, target: &str) -> String {
    let response = server.get(&format!("{target}?next"));
    assert_eq!(response.text(), "next", "{}", server.log());
    let text = fs::read_to_string(server.path("done")).unwrap_or_default();
    let _ = fs::remove_file(server.path("done"));
    text
}

#[test]
fn a_change_runs_to_its_end_and_a_page_does_not_when_their_clients_leave() {
    for kind in ["php", "wsgi", "cgi"] {
        let (setup, target) = setup(kind, "");
        let server = setup.start();
        for method in ["POST", "GET", "DELETE"] {
            // A WSGI app is told at its next piece, as by Gunicorn.
            let expected = if method == "GET" || kind == "wsgi" {
                String::new()
            } else {
                format!("{method}\n")
            };
            leave(&server, method, &target);
            assert_eq!(done(&server, &target), expected, "{kind} {method}: {}", server.log());
        }
        let gone = server.access_log().iter().filter(|line| line.contains(" 499 ")).count();
        assert_eq!(gone, 3, "{kind}: {:?}", server.access_log());
        server.stop();
    }
}

#[test]
fn on_abort_lets_pages_run_on_or_ends_changes() {
    for kind in ["php", "wsgi", "cgi"] {
        for (wish, method, expected) in [("ignore", "GET", "GET\n"), ("close", "POST", "")] {
            let (setup, target) = setup(kind, &format!("on_abort = '{wish}'"));
            let server = setup.start();
            leave(&server, method, &target);
            assert_eq!(done(&server, &target), expected, "{kind} {wish}: {}", server.log());
            server.stop();
        }
    }
}

#[test]
fn on_abort_ends_a_page_that_does_not_notice() {
    let (setup, _) = setup("php", "on_abort = 'term'");
    let stubborn = "<?php ignore_user_abort(true); echo str_repeat('x', 5000); flush(); for (;;) usleep(100000);";
    page(&setup, "site/stubborn.php", stubborn);
    let server = setup.allow("on_abort = term").allow("orker").start();
    let before = server.wait_for_workers(1);
    leave(&server, "GET", "/stubborn.php");
    wait_until("the end of its worker", || !procs::is_alive(before[0]));
    server.wait_for_log("goes on with a request whose connection is closed (on_abort = term)");
    assert_eq!(done(&server, "/slow.php"), "");
    server.stop();
}

#[test]
fn a_change_that_its_client_held_up_goes_on_without_it() {
    let (setup, target) = setup("php", "");
    let server = setup
        .with_text("response_buffer", "64KiB")
        .with_text("response_spool", "1MiB")
        .start();
    leave(&server, "POST", &format!("{target}?big"));
    assert_eq!(done(&server, &target), "POST\n");
    let mut client = server.connect();
    client.send(format!(
        "POST {target}?big HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
    ));
    let front = server.front();
    wait_until("a spooled response", || {
        procs::descriptors(front).iter().any(|name| name.contains("/spool/"))
    });
    assert!(!server.path("done").exists(), "it was not held up");
    drop(client);
    assert_eq!(done(&server, &target), "POST\n");
    server.stop();
}

#[test]
fn a_change_behind_a_web_server_runs_to_its_end_too() {
    let (setup, target) = setup("php", "");
    let server = setup.start();
    let file = server.path("site/slow.php").display().to_string();
    for (method, expected) in [("POST", "POST\n"), ("GET", "")] {
        for by_abort in [false, true] {
            let mut stream = UnixStream::connect(server.path("fcgi.sock")).expect("a connection");
            let variables = [
                ("SCRIPT_FILENAME", file.as_str()),
                ("REQUEST_METHOD", method),
                ("QUERY_STRING", ""),
            ];
            stream.write_all(&encode(&variables, b"", true)).expect("it is taken");
            stream.read_exact(&mut [0; 1000]).expect("the beginning of an answer");
            if by_abort {
                let mut abort = Vec::new();
                record::write(RecordType::ABORT_REQUEST, 1, b"", &mut abort);
                stream.write_all(&abort).expect("it is taken");
                let text = done(&server, &target);
                assert_eq!(text, expected, "{method}, aborted: {}", server.log());
            } else {
                drop(stream);
                assert_eq!(done(&server, &target), expected, "{method}: {}", server.log());
            }
        }
    }
    server.stop();
}

/// Unlike a POST, a PUT is read by the page itself. It tells that it runs in the file BEGUN, then, once it has read its body, how long that was in DONE.
const UPLOAD_PHP: &str = "<?php\nheader('Content-Type: text/plain');\n\
    if ($_SERVER['QUERY_STRING'] == 'next') exit((string) getmypid());\n\
    file_put_contents('BEGUN', getmypid());\n\
    $length = strlen(file_get_contents('php://input'));\n\
    file_put_contents('DONE', $length . \"\\n\", FILE_APPEND);\n\
    echo $length, ' of ', $_SERVER['CONTENT_LENGTH'] ?? 'none';\n";

/// A server whose `/upload.php` gets bodies as they arrive.
fn upload(lines: &str) -> Server {
    let (setup, _) = setup("php", &format!("stream_request = true\n{lines}"));
    let text = UPLOAD_PHP.replace("BEGUN", &setup.path_text("begun"));
    page(
        &setup,
        "site/upload.php",
        text.replace("DONE", &setup.path_text("done")),
    );
    setup.allow("is broken off").allow("was cut").start()
}

fn next_pid(server: &Server) -> i32 {
    let text = server.get("/upload.php?next").text();
    text.parse().expect("a pid")
}

#[test]
fn a_streamed_body_that_is_cut_is_not_taken_for_a_whole_one() {
    let server = upload("");
    for round in 0..3 {
        let before = next_pid(&server);
        let mark = server.log().len();
        let mut client = server.connect();
        client.send("PUT /upload.php HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nhalf");
        wait_until("the page to run", || server.path("begun").exists());
        drop(client);
        let line = server.wait_for_log_after(mark, "is broken off");
        for part in ["WARNING", "PUT /upload.php", "after 4 bytes", "its worker is ended"] {
            assert!(line.contains(part), "no {part} in {line}");
        }
        wait_until("the end of its worker", || !procs::is_alive(before));
        assert_ne!(next_pid(&server), before, "round {round}");
        let done = fs::read_to_string(server.path("done"));
        assert!(done.is_err(), "it ran with {done:?}: {}", server.log());
        fs::remove_file(server.path("begun")).expect("the mark");
    }
    assert!(!server.log().contains("crash"), "{}", server.log());
    server.stop();
}

#[test]
fn a_cut_body_lets_those_beside_it_in_its_worker_finish_first() {
    let server = upload("threads = 2\nenv = { PHP_FCGI_CHILDREN = '2' }");
    let worker = server.wait_for_workers(1);
    let half = || {
        let mut client = server.connect();
        client.send("PUT /upload.php HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nhalf");
        wait_until("the page to run", || server.path("begun").exists());
        fs::remove_file(server.path("begun")).expect("the mark");
        client
    };
    let (cut, mut whole) = (half(), half());
    drop(cut);
    server.wait_for_log("its worker is ended");
    whole.send("half");
    assert_eq!(whole.response("PUT").text(), "8 of 8", "{}", server.log());
    wait_until("the end of its worker", || !procs::is_alive(worker[0]));
    assert!(next_pid(&server) > 0);
    let done = fs::read_to_string(server.path("done")).expect("the whole one");
    assert_eq!(done, "8\n", "the part was taken for the whole");
    server.stop();
}

#[test]
fn a_server_that_is_not_ours_is_left_alone_when_a_streamed_body_is_cut() {
    let setup = Setup::new();
    let theirs = UnixListener::bind(setup.path("theirs.sock")).expect("a socket");
    let upstream = format!("unix:{}", setup.path_text("theirs.sock"));
    let server = setup
        .with("connect", list(&[&upstream]))
        .with("stream_request", true)
        .allow("is broken off")
        .start_unready();
    let mut client = server.connect();
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nhalf");
    theirs.set_nonblocking(true).expect("a socket");
    let (mut stream, _) = wait_for("a connection", || theirs.accept().ok());
    stream.set_nonblocking(false).expect("a socket");
    let patience = Some(Duration::from_secs(30));
    stream.set_read_timeout(patience).expect("a socket");
    let mut found = Vec::new();
    while !found.windows(4).any(|bytes| bytes == b"half") {
        let mut part = [0; 4096];
        let count = stream.read(&mut part).expect("the request");
        assert!(count > 0, "it ended before the body");
        found.extend_from_slice(&part[..count]);
    }
    drop(client);
    let line = server.wait_for_log("is broken off");
    for part in [
        "after 4 bytes",
        "its connection is closed",
        "may take the part for the whole",
    ] {
        assert!(line.contains(part), "no {part} in {line}");
    }
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("the end of the connection");
    let mut end = Vec::new();
    record::write(RecordType::STDIN, 1, b"", &mut end);
    assert!(
        !rest.windows(end.len()).any(|bytes| bytes == end),
        "the body was said to be whole"
    );
    server.stop();
}

#[test]
fn a_streamed_body_whose_length_nobody_knows_reaches_php_whole() {
    let server = upload("");
    let mut client = server.connect();
    client.send("POST /upload.php HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n");
    // The only worker has nothing to do with it yet.
    next_pid(&server);
    client.send("6\r\nsecond\r\n0\r\n\r\n");
    assert_eq!(client.response("POST").text(), "11 of 11");
    fs::remove_file(server.path("begun")).expect("the mark");
    let mut client = server.connect();
    client.send("PUT /upload.php HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nfi");
    wait_until("the page to run", || server.path("begun").exists());
    client.send("rst");
    assert_eq!(client.response("PUT").text(), "5 of 5");
    server.stop();
}
