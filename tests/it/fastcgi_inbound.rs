//! Web servers that come by FastCGI: nginx as it is set up for php-fpm and fcgiwrap, a published client, and clients that
//! say what none should.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rgunicorn::fastcgi::record::{self, RecordType};
use rgunicorn::fastcgi::{ProtocolStatus, get_values};

use crate::harness::apps::{app, c_app};
use crate::harness::fastcgi::{Answer, Asking, Blocking, answer, encode, now};
use crate::harness::{Server, Setup, peers, procs, request, wait_for, wait_until};

/// Writes a script into a root.
fn script(root: &Path, name: &str, text: &str) {
    let path = root.join(name);
    fs::write(&path, text).expect("a script");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its mode");
}

/// A server of a root with PHP and scripts, for web servers on a unix socket and a TCP port; and its root.
pub(crate) fn setup() -> (Setup, PathBuf) {
    let setup = Setup::new();
    let root = setup.path("www");
    fs::create_dir(&root).expect("a root");
    fs::copy(app("app.php"), root.join("app.php")).expect("a page");
    for name in ["hello.sh", "hello.py", "kinds.sh"] {
        fs::copy(app(&format!("cgi/{name}")), root.join(name)).expect("a script");
    }
    script(
        &root,
        "info.sh",
        "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n%s|%s|%s|%s|%s' \
         \"$SCRIPT_FILENAME\" \"$SCRIPT_NAME\" \"$PATH_INFO\" \"$PATH_TRANSLATED\" \"$HTTP_PROXY$CONTENT_LENGTH\"\n",
    );
    script(
        &root,
        "body.sh",
        "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n%s %s' \"${CONTENT_LENGTH-unset}\" \"${CONTENT_TYPE-unset}\"\n",
    );
    script(
        &root,
        "mark.sh",
        "#!/bin/sh\necho $$ > \"$MARK\"\nprintf 'Content-Type: text/plain\\n\\n'\nexec sleep 600\n",
    );
    let table = format!(
        "\n[[listener]]\nbind = [\"unix:{}\", \"127.0.0.1:0\"]\nprotocol = \"fastcgi\"\nallowed_roots = [\"{}\"]\n",
        setup.path_text("fcgi.sock"),
        root.display()
    );
    let mark = setup.path_text("mark");
    let setup = setup.with_text("root", &root.display().to_string()).env("MARK", &mark);
    (setup.with_text("pass_env", "MARK").tables(&table), root)
}

/// Where web servers connect by TCP.
fn port(server: &Server) -> SocketAddr {
    let line = server.wait_for_log("Listening at: ");
    let (_, rest) = line.split_once("fastcgi://").expect("a TCP listener");
    let end = rest.find([',', ' ']).expect("an end");
    rest[..end].parse().expect("an address")
}

pub(crate) fn connect(server: &Server) -> UnixStream {
    let stream = UnixStream::connect(server.path("fcgi.sock")).expect("a connection");
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .expect("a timeout");
    stream
        .set_write_timeout(Some(Duration::from_secs(30)))
        .expect("a timeout");
    stream
}

/// One request on a connection of its own.
fn ask(server: &Server, variables: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut stream = connect(server);
    stream.write_all(&encode(variables, body, false)).expect("it is taken");
    let answer = answer(&mut stream);
    assert_eq!(
        answer.status,
        Some(ProtocolStatus::Complete),
        "{:?}\n{}",
        answer.text(),
        server.log()
    );
    answer
}

fn is_closed(stream: &mut impl Read) -> bool {
    match stream.read_to_end(&mut Vec::new()) {
        Ok(_) => true,
        Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
    }
}

#[test]
fn nginx_finds_php_and_scripts_as_behind_php_fpm_and_fcgiwrap() {
    let (setup, root) = setup();
    let server = setup.start();
    let unix = format!("unix:{}", server.path("fcgi.sock").display());
    let tcp = port(&server).to_string();
    let big: Vec<u8> = (0..=255).cycle().take(10_000_000).collect();
    for (upstream, keep) in [(&unix, true), (&unix, false), (&tcp, true), (&tcp, false)] {
        let nginx = peers::nginx_fastcgi(upstream, &root, keep);
        let get = |target: &str| request(&nginx.address, "GET", target, &[], b"");
        let post = |target: &str, body: &[u8]| {
            request(&nginx.address, "POST", target, &[("Content-Type", "text/plain")], body)
        };
        assert_eq!(get("/").text(), "hello\n", "{}", server.log());
        let vars = get("/vars?a=b%20c").text();
        for expected in [
            "REQUEST_URI=/vars?a=b%20c",
            "QUERY_STRING=a=b%20c",
            "SERVER_SOFTWARE=nginx/",
            "REMOTE_ADDR=192.0.2.7",
            "HTTP_HOST=test",
            "SCRIPT_NAME=/app.php\n",
        ] {
            assert!(vars.contains(expected), "{expected} in {vars}");
        }
        assert!(!vars.contains("CONTENT_"), "what is empty is not there: {vars}");
        assert_eq!(get("/body.sh").text(), "unset unset");
        assert_eq!(post("/body.sh", b"abc").text(), "3 text/plain");
        assert_eq!(get("/status?code=404").status, 404);
        let head = request(&nginx.address, "HEAD", "/", &[], b"");
        assert_eq!((head.status, head.body.len()), (200, 0));
        for length in [0, 1, 70_000] {
            assert!(post("/echo", &big[..length]).body == big[..length], "{length}");
        }
        assert!(post("/echo", &big).body == big);
        assert!(post("/hello.sh", &big).body.ends_with(&big));
        assert_eq!(get("/hello.py?x").field("x-language"), Some("python"));
        assert_eq!(get("/none.sh").status, 404);
        // The web server's paths are its own business.
        let redirect = get("/kinds.sh?local");
        assert_eq!(
            (redirect.status, redirect.field("location")),
            (302, Some("/hello.sh?from=local"))
        );
        let place = root.display().to_string();
        let info = get("/info.sh/extra/path?q").text();
        assert_eq!(
            info,
            format!("{place}/info.sh|/info.sh|/extra/path|{place}/extra/path|")
        );
        let response = get("/big?n=100000000");
        assert_eq!(response.body.len(), 100_000_000);
        let pattern = b"0123456789abcdef".iter().cycle();
        assert!(response.body.iter().zip(pattern).all(|(got, expected)| got == expected));
    }
    assert!(
        server
            .access_log()
            .iter()
            .any(|line| line.starts_with("192.0.2.7 ") && line.contains("/vars?a=b%20c"))
    );
    server.stop();
}

#[test]
fn many_requests_at_once_and_in_turn_are_not_mixed_up() {
    let (setup, root) = setup();
    let server = setup.start();
    let file = root.join("hello.sh").display().to_string();
    std::thread::scope(|scope| {
        for number in 0..6 {
            let (server, file) = (&server, &file);
            scope.spawn(move || {
                let mut stream = connect(server);
                for turn in 0..10 {
                    let query = format!("{number}-{turn}");
                    let body = query.repeat(1 + turn * 2000);
                    let length = body.len().to_string();
                    let variables = [
                        ("SCRIPT_FILENAME", file.as_str()),
                        ("REQUEST_METHOD", "POST"),
                        ("QUERY_STRING", &query),
                        ("CONTENT_LENGTH", &length),
                    ];
                    stream
                        .write_all(&encode(&variables, body.as_bytes(), true))
                        .expect("it is taken");
                    let answer = answer(&mut stream);
                    assert_eq!(answer.code(), "200");
                    let text = answer.body();
                    assert!(
                        text.starts_with(&format!("POST {query} ")) && text.ends_with(&body),
                        "{text}"
                    );
                }
            });
        }
    });
    server.stop();
}

#[test]
fn only_files_in_the_allowed_roots_are_run() {
    let (setup, root) = setup();
    let server = setup.allow("failed (403)").start();
    let outside = server.path("outside");
    fs::create_dir(&outside).expect("a directory");
    script(
        &outside,
        "x.sh",
        "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\nout'\n",
    );
    fs::write(root.join("x.jpg"), "<?php echo 'as PHP';").expect("a picture");
    fs::create_dir(root.join("sub.sh")).expect("a directory");
    symlink(outside.join("x.sh"), root.join("link.sh")).expect("a link");
    symlink("hello.sh", root.join("inside.sh")).expect("a link");
    let place = root.display().to_string();
    let case = |file: &str, status: &str, reason: &str| {
        let mark = server.log().len();
        let answer = ask(&server, &[("SCRIPT_FILENAME", file), ("REQUEST_URI", "/asked")], b"");
        assert_eq!(answer.code(), status, "{file}: {}", server.log());
        if !reason.is_empty() {
            let line = server.wait_for_log_after(mark, reason);
            assert!(line.contains("GET /asked"), "{line}");
        }
    };
    case(&format!("{place}/hello.sh"), "200", "");
    case(&format!("{place}//inside.sh"), "200", "");
    case(
        &outside.join("x.sh").display().to_string(),
        "403",
        "lies outside the allowed_roots",
    );
    case("/etc/passwd", "403", "/etc/passwd lies outside");
    case(
        &format!("{place}/../outside/x.sh"),
        "403",
        "does not stay in the allowed_roots",
    );
    case(
        &format!("{place}/../www/hello.sh"),
        "403",
        "does not stay in the allowed_roots",
    );
    case(&format!("{place}2/hello.sh"), "403", "lies outside");
    case(&format!("{place}/link.sh"), "403", "does not stay in the allowed_roots");
    case(&format!("{place}/sub.sh"), "403", "is a directory");
    case(&format!("{place}/none.php"), "404", "no such file");
    case(
        &format!("{place}/x.jpg"),
        "403",
        "no route of the site default runs files like",
    );
    case(
        &format!("{place}/x.jpg/y.php"),
        "403",
        "no route of the site default runs files like",
    );
    case("hello.sh", "403", "lies outside");
    case("", "404", "names no script");
    // As fcgiwrap does without SCRIPT_FILENAME; and what must never pass.
    let variables = [
        ("DOCUMENT_ROOT", place.as_str()),
        ("SCRIPT_NAME", "/info.sh/a/b"),
        ("HTTP_PROXY", "http://evil"),
    ];
    let expected = format!("{place}/info.sh|/info.sh|/a/b|{place}/a/b|");
    assert_eq!(ask(&server, &variables, b"").body(), expected);
    server.stop();
}

#[test]
fn a_listener_may_name_its_pool() {
    let (setup, root) = (Setup::new(), PathBuf::from(app("app.php")));
    let place = root.parent().expect("a directory").display().to_string();
    let sockets = ["fcgi.sock", "app.sock"].map(|name| setup.path_text(name));
    let tables = format!(
        "\n[pool.php]\nexec = [\"php-cgi\"]\n[pool.app]\nexec = [\"{}\"]\nprotocol = \"fastcgi\"\n\
         [[listener]]\nbind = \"unix:{}\"\nprotocol = \"fastcgi\"\npool = \"php\"\nallowed_roots = [\"{place}\"]\n\
         [[listener]]\nbind = \"unix:{}\"\nprotocol = \"fastcgi\"\npool = \"app\"\n\
         [[site]]\npool = \"app\"\n",
        c_app(),
        sockets[0],
        sockets[1]
    );
    let server = setup.tables(&tables).allow("failed (403)").start();
    let file = root.display().to_string();
    let answer = ask(&server, &[("SCRIPT_FILENAME", &file), ("REQUEST_URI", "/")], b"");
    assert!(answer.text().ends_with("hello\n"), "{}", answer.text());
    // Nothing but PHP is run as PHP.
    let picture = format!("{place}/app.c/x.php");
    let answer = ask(&server, &[("SCRIPT_FILENAME", &picture), ("REQUEST_URI", "/")], b"");
    assert_eq!(answer.code(), "403");
    server.wait_for_log("has none of the endings that are run: .php .phar");
    // An app is no file.
    let mut stream = UnixStream::connect(&sockets[1]).expect("a connection");
    stream
        .write_all(&encode(&[("REQUEST_URI", "/"), ("PATH_INFO", "/")], b"", false))
        .expect("it is taken");
    let answer = self::answer(&mut stream);
    assert!(answer.text().ends_with("hello\n"), "{}", answer.text());
    server.stop();
}

#[test]
fn bodies_are_whole_or_nothing() {
    let (setup, root) = setup();
    let server = setup
        .with("limit_request_body", 100_000)
        .allow("Invalid request")
        .start();
    let file = root.join("mark.sh").display().to_string();
    let post = |length: &'static str| {
        [
            ("SCRIPT_FILENAME", file.clone()),
            ("REQUEST_METHOD", "POST".to_owned()),
            ("CONTENT_LENGTH", length.to_owned()),
        ]
    };
    let try_post = |length: &'static str, body: &[u8]| {
        let variables = post(length);
        let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        ask(&server, &variables, body).code()
    };
    assert_eq!(try_post("5", b"four"), "400");
    server.wait_for_log("expected 5 bytes of a body (CONTENT_LENGTH), found 4");
    assert_eq!(try_post("3", b"four"), "400");
    assert_eq!(try_post("100001", &[b'x'; 100_001]), "413");
    assert_eq!(try_post("", &[b'x'; 300_000]), "413");
    // Cut in the middle, by the connection and by an abort.
    let variables = post("5");
    let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let whole = encode(&variables, b"12345", true);
    let mut stream = connect(&server);
    let mark = server.access_log().len();
    stream.write_all(&whole[..whole.len() - 8]).expect("it is taken");
    drop(stream);
    wait_until("the line of a request that was cut", || {
        server.access_log().iter().skip(mark).any(|line| line.contains(" 499 "))
    });
    let mut stream = connect(&server);
    stream.write_all(&whole[..whole.len() - 8]).expect("it is taken");
    let mut abort = Vec::new();
    record::write(RecordType::ABORT_REQUEST, 1, b"", &mut abort);
    stream.write_all(&abort).expect("it is taken");
    let ended = answer(&mut stream);
    assert_eq!(
        (ended.status, ended.text().as_str()),
        (Some(ProtocolStatus::Complete), "")
    );
    // The connection is good for another one.
    let hello = root.join("hello.sh").display().to_string();
    stream
        .write_all(&encode(&[("SCRIPT_FILENAME", &hello)], b"", true))
        .expect("it is taken");
    assert_eq!(answer(&mut stream).code(), "200");
    assert!(!server.path("mark").exists(), "a script got part of a body");
    server.stop();
}

#[test]
fn a_script_ends_when_its_web_server_leaves_or_aborts() {
    let (setup, root) = setup();
    let server = setup.start();
    let file = root.join("mark.sh").display().to_string();
    for by_abort in [false, true] {
        let mut stream = connect(&server);
        stream
            .write_all(&encode(&[("SCRIPT_FILENAME", &file)], b"", true))
            .expect("it is taken");
        let pid: i32 = wait_for("the script", || {
            fs::read_to_string(server.path("mark"))
                .ok()?
                .strip_suffix('\n')?
                .parse()
                .ok()
        });
        assert!(procs::is_alive(pid));
        if by_abort {
            let mut abort = Vec::new();
            record::write(RecordType::ABORT_REQUEST, 1, b"", &mut abort);
            stream.write_all(&abort).expect("it is taken");
            assert_eq!(answer(&mut stream).status, Some(ProtocolStatus::Complete));
        }
        drop(stream);
        wait_until("the end of the script", || !procs::is_alive(pid));
        fs::remove_file(server.path("mark")).expect("the mark");
    }
    wait_until("two lines", || {
        server.access_log().iter().filter(|line| line.contains(" 499 ")).count() == 2
    });
    server.stop();
}

#[test]
fn what_is_not_run_is_told_and_what_is_asked_is_answered() {
    let (setup, root) = setup();
    let server = setup.start();
    let file = root.join("mark.sh").display().to_string();
    let mut stream = connect(&server);
    let mut input = Vec::new();
    get_values(&mut input);
    input.extend(encode(&[("SCRIPT_FILENAME", &file)], b"", true));
    // Another request, an authorizer's, and a record of a type that does not exist.
    record::write(RecordType::BEGIN_REQUEST, 2, &[0, 1, 1, 0, 0, 0, 0, 0], &mut input);
    record::write(RecordType(77), 0, b"x", &mut input);
    stream.write_all(&input).expect("it is taken");
    wait_until("the script", || server.path("mark").exists());
    server.wait_for_log("FastCGI request 2 is refused: there is another on the connection");
    let mut abort = Vec::new();
    record::write(RecordType::ABORT_REQUEST, 1, b"", &mut abort);
    stream.write_all(&abort).expect("it is taken");
    let ended = answer(&mut stream);
    assert_eq!(ended.status, Some(ProtocolStatus::Complete));
    assert_eq!(ended.others.len(), 2, "{ended:?}");
    assert!(ended.others[0].contains("multiplexes: Some(false)"), "{ended:?}");
    assert_eq!(ended.others[1], "Unknown(77)");
    let mut stream = connect(&server);
    let mut input = Vec::new();
    record::write(RecordType::BEGIN_REQUEST, 1, &[0, 2, 0, 0, 0, 0, 0, 0], &mut input);
    stream.write_all(&input).expect("it is taken");
    assert_eq!(answer(&mut stream).status, Some(ProtocolStatus::UnknownRole));
    assert!(is_closed(&mut stream));
    server.stop();
}

#[test]
fn malformed_records_close_the_connection_with_a_line() {
    let (setup, root) = setup();
    let server = setup.allow("Invalid request").start();
    let file = root.join("hello.sh").display().to_string();
    let begun = |more: &[u8]| {
        let mut input = Vec::new();
        record::write(RecordType::BEGIN_REQUEST, 1, &[0, 1, 1, 0, 0, 0, 0, 0], &mut input);
        input.extend_from_slice(more);
        input
    };
    let written = |kind, id, content: &[u8]| {
        let mut input = Vec::new();
        record::write(kind, id, content, &mut input);
        input
    };
    let nul = [&[1, 3][..], b"Aa\0b"].concat();
    let params = |content: &[u8]| {
        [
            written(RecordType::PARAMS, 1, content),
            written(RecordType::PARAMS, 1, b""),
        ]
        .concat()
    };
    let rows: [(Vec<u8>, &str); 7] = [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), "found version 71"),
        (begun(&written(RecordType::STDOUT, 1, b"x")), "found STDOUT with id 1"),
        (
            begun(&written(RecordType::STDIN, 1, b"x")),
            "expected PARAMS, which no empty record has ended",
        ),
        (begun(&params(&[9, 9, b'A'])), "expected a whole name-value pair"),
        (begun(&params(&nul)), "expected variables without NUL"),
        (
            begun(&params(b"\x0e\x02REQUEST_METHODG ")),
            "expected a token as REQUEST_METHOD",
        ),
        (
            begun(&params(b"\x0e\x01CONTENT_LENGTHx")),
            "expected CONTENT_LENGTH to be empty or a number",
        ),
    ];
    for (input, reason) in rows {
        let mark = server.log().len();
        let mut stream = connect(&server);
        stream.write_all(&input).expect("it is taken");
        assert!(is_closed(&mut stream), "{reason}");
        server.wait_for_log_after(mark, reason);
    }
    // Too many variables are answered.
    let long = "x".repeat(60_000);
    let mut variables = vec![("SCRIPT_FILENAME", file.as_str())];
    variables.resize(40, ("HTTP_X_LONG", long.as_str()));
    let mut stream = connect(&server);
    let _ = stream.write_all(&encode(&variables, b"", true));
    server.wait_for_log("bytes of variables, found more");
    assert_eq!(ask(&server, &[("SCRIPT_FILENAME", &file)], b"").code(), "200");
    server.stop();
}

#[test]
fn strangers_are_not_served() {
    let (setup, _) = setup();
    let server = setup
        .with("forwarded_allow_ips", "[\"192.0.2.1\"]")
        .allow("is not in forwarded_allow_ips")
        .start();
    let mut stream = TcpStream::connect(port(&server)).expect("a connection");
    assert!(is_closed(&mut stream));
    server.wait_for_log("a FastCGI connection of 127.0.0.1 is refused: it is not in forwarded_allow_ips");
    server.stop();
}

#[test]
fn a_deadline_answers_504_and_the_connection_goes_on() {
    let (setup, root) = setup();
    let server = setup.with_text("timeout", "1s").allow("SCRIPT TIMEOUT").start();
    let slow = root.join("slow.sh").display().to_string();
    script(&root, "slow.sh", "#!/bin/sh\nexec sleep 600\n");
    let hello = root.join("hello.sh").display().to_string();
    let mut stream = connect(&server);
    for (file, status) in [(&slow, "504"), (&hello, "200")] {
        stream
            .write_all(&encode(&[("SCRIPT_FILENAME", file)], b"", true))
            .expect("it is taken");
        let answer = answer(&mut stream);
        assert_eq!(
            (answer.code().as_str(), answer.status),
            (status, Some(ProtocolStatus::Complete))
        );
    }
    assert!(server.access_log().iter().any(|line| line.contains(" 504 ")));
    server.stop();
}

#[test]
fn a_slow_reader_gets_all_of_a_spooled_response_and_its_questions_answered_between_records() {
    let (setup, root) = setup();
    // With little in memory and in the file, the worker has to wait too.
    let server = setup
        .with_text("response_buffer", "64KiB")
        .with_text("response_spool", "1MiB")
        .start();
    let file = root.join("app.php").display().to_string();
    let variables = [
        ("SCRIPT_FILENAME", file.as_str()),
        ("REQUEST_URI", "/big?n=20000000"),
        ("QUERY_STRING", "n=20000000"),
    ];
    let mut stream = connect(&server);
    stream.write_all(&encode(&variables, b"", true)).expect("it is taken");
    // Nothing is read before something is spooled; then questions come in the middle of records.
    let front = server.front();
    wait_until("a spooled response", || {
        procs::descriptors(front).iter().any(|name| name.contains("/spool/"))
    });
    let mut asking = Asking { stream, left: 100 };
    let answer = answer(&mut asking);
    assert_eq!(answer.status, Some(ProtocolStatus::Complete));
    assert_eq!((asking.left, answer.others.len()), (0, 100));
    let body = answer.body();
    assert_eq!(body.len(), 20_000_000);
    let pattern = b"0123456789abcdef".iter().cycle();
    assert!(body.bytes().zip(pattern).all(|(got, expected)| got == *expected));
    server.stop();
}

#[test]
fn a_response_that_breaks_off_never_looks_whole() {
    let (setup, root) = setup();
    let server = setup.allow("shorter than its Content-Length").start();
    let text = "#!/bin/sh\nprintf 'Content-Type: text/plain\\nContent-Length: 100\\n\\nshort'\n";
    script(&root, "short.sh", text);
    let file = root.join("short.sh").display().to_string();
    let mut stream = connect(&server);
    stream
        .write_all(&encode(&[("SCRIPT_FILENAME", &file)], b"", true))
        .expect("it is taken");
    let answer = answer(&mut stream);
    assert_eq!((answer.status, answer.body().as_str()), (None, "short"));
    server.stop();
}

#[test]
fn a_server_may_speak_nothing_but_fastcgi_and_a_reload_moves_it() {
    let setup = Setup::new();
    let place = PathBuf::from(app("app.php"));
    let root = place.parent().expect("a directory").display().to_string();
    let sockets = ["one.sock", "two.sock"].map(|name| setup.path_text(name));
    let tables = |socket: &str| {
        format!(
            "[pool.php]\nexec = [\"php-cgi\"]\n\
             [[listener]]\nbind = \"unix:{socket}\"\nprotocol = \"fastcgi\"\nallowed_roots = [\"{root}\"]\n"
        )
    };
    let setup = setup.with("bind", "[]").tables(&tables(&sockets[0]));
    let mut server = setup.start_unready();
    server.wait_for_log("Listening at: fastcgi:unix:");
    let mode = fs::metadata(&sockets[0]).expect("a socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let file = place.display().to_string();
    let ask = |socket: &str| {
        // The file is there a little before somebody listens.
        let mut stream = wait_for("a listener", || UnixStream::connect(socket).ok());
        let variables = [("SCRIPT_FILENAME", file.as_str()), ("REQUEST_URI", "/")];
        stream.write_all(&encode(&variables, b"", false)).expect("it is taken");
        answer(&mut stream).body()
    };
    assert_eq!(ask(&sockets[0]), "hello\n");
    // A kept connection does not hold up the old front.
    let kept = UnixStream::connect(&sockets[0]).expect("a connection");
    server.reload_with_tables(&tables(&sockets[1]));
    assert_eq!(ask(&sockets[1]), "hello\n");
    wait_until("the end of the old socket", || !Path::new(&sockets[0]).exists());
    drop(kept);
    server.stop();
}

#[test]
fn an_app_that_streams_gets_bodies_as_they_come() {
    let setup = Setup::c_app(1).with("stream_request", true);
    let socket = setup.path_text("fcgi.sock");
    let table = format!("[[listener]]\nbind = \"unix:{socket}\"\nprotocol = \"fastcgi\"\n");
    let setup = setup.tables(&table).allow("Invalid request");
    // The worker of a body that is not as long as announced is ended, since it may take the part for the whole.
    let server = setup.allow("is broken off").allow("was cut").start();
    let body: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    let variables = |length: &'static str| {
        [
            ("REQUEST_METHOD", "POST"),
            ("REQUEST_URI", "/echo"),
            ("PATH_INFO", "/echo"),
            ("CONTENT_LENGTH", length),
        ]
    };
    let mut stream = connect(&server);
    let whole = encode(&variables("300000"), &body, true);
    for _ in 0..2 {
        // The app answers the first half before the second comes.
        let (first, second) = whole.split_at(150_000);
        stream.write_all(first).expect("it is taken");
        let mut start = [0; 16];
        stream.read_exact(&mut start).expect("the beginning of an answer");
        stream.write_all(second).expect("it is taken");
        let answer = answer(&mut start.chain(&mut stream));
        assert_eq!(answer.status, Some(ProtocolStatus::Complete));
        assert!(answer.stdout.ends_with(&body), "{}", server.log());
    }
    // More than was announced, and less.
    for length in ["299999", "300001"] {
        let mut stream = connect(&server);
        stream
            .write_all(&encode(&variables(length), &body, true))
            .expect("it is taken");
        // Cut, unless nothing of the app's answer had gone out.
        let answer = answer(&mut stream);
        assert!(
            answer.status.is_none() || answer.code() == "400",
            "{length}: {answer:?}"
        );
    }
    server.stop();
}

#[test]
fn the_published_client_is_served() {
    let (setup, root) = setup();
    let server = setup.start();
    let file = root.join("app.php").display().to_string();
    let body = b"0123456789".repeat(50_000);
    let params = |uri: &'static str| {
        fastcgi_client::Params::default()
            .request_method("POST")
            .script_filename(file.clone())
            .script_name("/app.php")
            .request_uri(uri)
            .content_type("text/plain")
            .content_length(body.len())
    };
    let stream = TcpStream::connect(port(&server)).expect("a connection");
    let mut client = fastcgi_client::Client::new_keep_alive(Blocking(stream));
    for _ in 0..3 {
        let input = fastcgi_client::io::Cursor::new(body.clone());
        let answer = now(client.execute(fastcgi_client::Request::new(params("/echo"), input))).expect("an answer");
        let stdout = answer.stdout.expect("output");
        assert!(
            stdout.starts_with(b"Status: 200") && stdout.ends_with(&body),
            "{}",
            server.log()
        );
    }
    let client = fastcgi_client::Client::new(Blocking(connect(&server)));
    let input = fastcgi_client::io::Cursor::new(body.clone());
    let answer = now(client.execute_once(fastcgi_client::Request::new(params("/"), input))).expect("an answer");
    assert!(answer.stdout.expect("output").ends_with(b"\r\n\r\nhello\n"));
    server.stop();
}
