//! Files that apps name in their responses (X-Sendfile, X-Accel-Redirect): sent in the place of what the app says, and
//! only from where the site allows.

use std::fs;
use std::os::unix::fs::symlink;

use crate::harness::server::quoted;
use crate::harness::tree::{page, script};
use crate::harness::{Response, Server, Setup, peers, request, wait_until};

/// A PHP page that answers with the fields it is asked for in X-Say, and a body that nobody shall see.
const PHP: &str = "<?php\nforeach (explode('|', $_SERVER['HTTP_X_SAY'] ?? '') as $line) if ($line != '') header($line);\n\
    echo 'secret ', str_repeat('body ', 50000);\n";

/// The same in sh, without a Content-Type of its own.
const SH: &str = "#!/bin/sh\nprintf '%s\\n' \"$HTTP_X_SAY\" | tr '|' '\\n'\nprintf '\\nsecret body'\n";

/// The same for WSGI.
const WSGI: &str = "def application(environ, start_response):\n\
    \x20   lines = [line.split(': ', 1) for line in environ.get('HTTP_X_SAY', '').split('|') if line]\n\
    \x20   status = next((value for name, value in lines if name == 'Status'), '200 OK')\n\
    \x20   fields = [(name, value) for name, value in lines if name != 'Status']\n\
    \x20   start_response(status, fields)\n\
    \x20   return [b'secret ', b'body ' * 50000]\n";

/// 100,000 bytes, so that they go out by sendfile(2).
fn large() -> Vec<u8> {
    (b'a'..=b'z').cycle().take(100_000).collect()
}

/// The directories: `site` with pages, `private` with files that may be named, and files beside them.
fn files(setup: &Setup) {
    page(setup, "site/index.html", "front\n");
    page(setup, "site/send.php", PHP);
    script(setup, "site/send.sh", SH);
    page(setup, "private/large.txt", large());
    page(setup, "private/report.pdf", "a report");
    page(setup, "private/deep/.hidden.php", "<?php source");
    page(setup, "private/two words.txt", "blank");
    page(setup, "private/100%25.txt", "percent");
    page(setup, "private/logo.svgz", "compressed");
    page(setup, "outside.txt", "not for anybody");
    symlink(setup.path("outside.txt"), setup.path("private/out.txt")).expect("a link");
    symlink("report.pdf", setup.path("private/in.pdf")).expect("a link");
}

/// A site with PHP and CGI whose apps may name files in `private` both ways.
fn site(more: &str) -> Setup {
    let setup = Setup::new();
    files(&setup);
    let (root, private) = (quoted(&setup.path_text("site")), quoted(&setup.path_text("private")));
    let tables = format!(
        "[[site]]\nroot = {root}\nsendfile_roots = [{private}]\naccel_roots = {{ '/protected/' = {private} }}\n\
         symlinks = 'inside'\n{more}"
    );
    setup.tables(&tables).allow("failed (403)").allow("failed (404)")
}

/// Asks an app to say these fields.
fn said(server: &Server, method: &str, path: &str, say: &str, fields: &[(&str, &str)]) -> Response {
    let fields = [&[("X-Say", say)], fields].concat();
    let body: &[u8] = if method == "POST" { b"x=1" } else { b"" };
    let mut response = request(&server.address, method, path, &fields, body);
    let leaks = |name: &str| {
        let name = name.to_ascii_lowercase();
        name.starts_with("x-accel") || name.contains("send")
    };
    assert!(!response.fields.iter().any(|(name, _)| leaks(name)), "{response:?}");
    assert!(!response.text().contains("secret"), "{say}: {}", response.text());
    response.fields.retain(|(name, _)| name != "Date" && name != "Server");
    response
}

fn private(server: &Server, name: &str) -> String {
    server.path(&format!("private/{name}")).to_string_lossy().into_owned()
}

#[test]
fn php_and_scripts_name_files_with_all_that_a_static_file_has() {
    let server = site("").start();
    let file = private(&server, "large.txt");
    for (path, say) in [
        (
            "/send.php",
            format!("Content-Type: application/x-own|X-Sendfile: {file}"),
        ),
        (
            "/send.php",
            "Content-Type: application/x-own|X-Accel-Redirect: /protected/large.txt".to_owned(),
        ),
        (
            "/send.sh",
            format!("Content-Type: application/x-own|X-Sendfile: {file}"),
        ),
        (
            "/send.sh",
            format!("Content-Type: application/x-own|X-LIGHTTPD-send-file: {file}"),
        ),
        (
            "/send.sh",
            "Status: 200 Fine|Content-Type: application/x-own|X-Accel-Redirect: /protected//deep/../x?y".to_owned(),
        ),
    ] {
        let get = |fields: &[(&str, &str)]| said(&server, "GET", path, &say, fields);
        let response = get(&[]);
        if say.contains("..") {
            assert_eq!(response.status, 403, "{say}");
            continue;
        }
        assert_eq!(response.status, 200, "{say}: {}", server.log());
        assert!(response.body == large(), "{say}: {} bytes", response.body.len());
        assert_eq!(response.field("content-length"), Some("100000"), "{say}");
        assert_eq!(response.field("content-type"), Some("application/x-own"), "{say}");
        assert_eq!(response.field("accept-ranges"), Some("bytes"), "{say}");
        let tag = response.field("etag").expect("a tag").to_owned();
        let modified = response.field("last-modified").expect("a time").to_owned();

        let head = said(&server, "HEAD", path, &say, &[]);
        assert_eq!(
            (head.status, head.field("content-length")),
            (200, Some("100000")),
            "{say}"
        );
        assert_eq!(head.body, b"");
        let part = get(&[("Range", "bytes=10-19")]);
        assert_eq!(
            (part.status, part.field("content-range"), &part.body[..]),
            (206, Some("bytes 10-19/100000"), &large()[10..20]),
            "{say}"
        );
        let parts = get(&[("Range", "bytes=0-1,5-6")]);
        let kind = parts.field("content-type").unwrap_or_default();
        assert!(
            parts.status == 206 && kind.starts_with("multipart/byteranges"),
            "{parts:?}"
        );
        assert!(
            parts.text().contains("\r\nContent-Type: application/x-own\r\n"),
            "{}",
            parts.text()
        );
        assert_eq!(get(&[("Range", "bytes=999999-")]).status, 416, "{say}");
        for field in [("If-None-Match", tag.as_str()), ("If-Modified-Since", &modified)] {
            let response = get(&[field]);
            assert_eq!((response.status, response.body.len()), (304, 0), "{say}");
            assert_eq!(response.field("content-type"), None, "{say}");
        }
        assert_eq!(get(&[("If-Match", "\"other\"")]).status, 412, "{say}");
        // For other methods it is the whole file.
        let post = said(
            &server,
            "POST",
            path,
            &say,
            &[("Range", "bytes=0-1"), ("If-None-Match", &tag)],
        );
        assert!(post.status == 200 && post.body == large(), "{say}: {}", post.status);
    }
    server.stop();
}

#[test]
fn wsgi_apps_name_files_too_and_keep_the_fields_that_are_not_about_their_body() {
    let setup = Setup::bare(&["app:application"]);
    files(&setup);
    page(&setup, "app.py", WSGI);
    let place = setup.path_text("private");
    let server = setup
        .arg("--sendfile-root")
        .arg(&place)
        .allow("dropping per RFC 9110")
        .start();
    let say = format!(
        "Content-Type: application/x-own|Content-Disposition: attachment; filename=\"a.pdf\"|Set-Cookie: a=1|Set-Cookie: b=2\
         |Cache-Control: private, max-age=9|Expires: Thu, 01 Jan 2070 00:00:00 GMT|ETag: \"theirs\"\
         |Last-Modified: Thu, 01 Jan 1970 00:00:00 GMT|Content-Length: 250007|Vary: Cookie|Content-Language: de\
         |X-Accel-Buffering: no|X-Sendfile: {place}/report.pdf"
    );
    let response = said(&server, "GET", "/", &say, &[]);
    assert_eq!(
        (response.status, response.text().as_str()),
        (200, "a report"),
        "{}",
        server.log()
    );
    let kept = |response: &Response| {
        let mut fields: Vec<String> = response
            .fields
            .iter()
            .map(|(name, value)| format!("{name}: {value}"))
            .collect();
        fields.retain(|field| {
            let own = ["etag", "last-modified", "x-request-id", "connection"];
            !own.iter().any(|name| field.to_ascii_lowercase().starts_with(name))
        });
        fields.sort();
        fields
    };
    assert_eq!(
        kept(&response),
        [
            "Accept-Ranges: bytes",
            "Cache-Control: private, max-age=9",
            "Content-Disposition: attachment; filename=\"a.pdf\"",
            "Content-Language: de",
            "Content-Length: 8",
            "Content-Type: application/x-own",
            "Expires: Thu, 01 Jan 2070 00:00:00 GMT",
            "Set-Cookie: a=1",
            "Set-Cookie: b=2",
            "Vary: Cookie",
        ]
    );
    assert_ne!(response.field("etag"), Some("\"theirs\""));
    let modified = response.field("last-modified").unwrap_or_default();
    assert!(!modified.is_empty() && !modified.contains("1970"), "{modified}");
    // Without a type of the app's, that of the file's name.
    let typed = |name: &str| {
        let response = said(&server, "GET", "/", &format!("X-Sendfile: {place}/{name}"), &[]);
        let field = |name: &str| response.field(name).unwrap_or_default().to_owned();
        (response.status, field("content-type"), field("content-encoding"))
    };
    assert_eq!(typed("report.pdf"), (200, "application/pdf".to_owned(), String::new()));
    assert_eq!(typed("logo.svgz"), (200, "image/svg+xml".to_owned(), "gzip".to_owned()));
    // A status of the app's own stays, with the whole file; one without a body has no file.
    let response = said(
        &server,
        "GET",
        "/",
        &format!("Status: 404 Not Found|X-Sendfile: {place}/report.pdf"),
        &[("Range", "bytes=0-1")],
    );
    assert_eq!((response.status, response.text().as_str()), (404, "a report"));
    let response = said(
        &server,
        "GET",
        "/",
        &format!("Status: 304 Not Modified|ETag: \"theirs\"|X-Sendfile: {place}/report.pdf"),
        &[],
    );
    assert_eq!((response.status, response.field("etag")), (304, Some("\"theirs\"")));
    // That is not allowed here, so it is for a proxy in front.
    let response = request(
        &server.address,
        "GET",
        "/",
        &[("X-Say", "X-Accel-Redirect: /protected/report.pdf")],
        b"",
    );
    assert_eq!(response.field("x-accel-redirect"), Some("/protected/report.pdf"));
    assert!(response.text().starts_with("secret"));
    server.stop();
}

#[test]
fn what_may_not_be_named_is_not_sent_and_the_log_says_why() {
    let server = site("pages = { 404 = '/index.html' }\n").start();
    let place = private(&server, "");
    let outside = server.path("outside.txt").to_string_lossy().into_owned();
    for (say, status, why) in [
        (
            "X-Sendfile: /etc/passwd".to_owned(),
            403,
            "X-Sendfile names /etc/passwd, but that lies outside",
        ),
        (
            format!("X-Sendfile: {outside}"),
            403,
            "outside.txt, but that lies outside",
        ),
        (
            format!("X-Sendfile: {place}../outside.txt"),
            403,
            "a path with `..` is not looked up",
        ),
        (
            format!("X-Sendfile: {place}%2e%2e/outside.txt"),
            403,
            "a path with `..` is not looked up",
        ),
        (format!("X-Sendfile: {place}out.txt"), 403, "leads out of the root"),
        ("X-Sendfile: private/report.pdf".to_owned(), 403, "that lies outside"),
        (
            format!("X-Sendfile: {}2/report.pdf", place.trim_end_matches('/')),
            403,
            "that lies outside",
        ),
        (
            format!("X-Sendfile: {place}none.txt"),
            404,
            "none.txt, but there is no such file",
        ),
        (format!("X-Sendfile: {place}report.pdf/"), 404, "there is no such file"),
        (format!("X-Sendfile: {place}deep"), 404, "that is a directory"),
        (
            format!("X-Sendfile: {place}report.pdf%00"),
            404,
            "there is no such file",
        ),
        (
            "X-Accel-Redirect: /protected/none".to_owned(),
            404,
            "none, but there is no such file",
        ),
        (
            "X-Accel-Redirect: /protected/../outside.txt".to_owned(),
            403,
            "(accel_roots)",
        ),
        (
            "X-Accel-Redirect: /protected/%2e%2e/outside.txt".to_owned(),
            403,
            "a path with `..` is not looked up",
        ),
        (
            "X-Accel-Redirect: /protected/out.txt".to_owned(),
            403,
            "leads out of the root",
        ),
        ("X-Accel-Redirect: /protected/a%00".to_owned(), 404, "without NUL"),
        (
            "X-Accel-Redirect: /protectedness".to_owned(),
            404,
            "no path of this start",
        ),
        (
            "X-Accel-Redirect: /index.html".to_owned(),
            404,
            "X-Accel-Redirect names /index.html, but no path of this start",
        ),
        ("X-Accel-Redirect: @named".to_owned(), 404, "no path of this start"),
        (
            "X-Accel-Redirect: http://other.example/protected/report.pdf".to_owned(),
            404,
            "no path of this start",
        ),
    ] {
        let mark = server.log().len();
        let response = said(&server, "GET", "/send.sh", &format!("Content-Type: a/b|{say}"), &[]);
        assert_eq!(response.status, status, "{say}: {}", server.log());
        if status == 404 {
            // The site's own page.
            assert_eq!(
                (response.text().as_str(), response.field("content-type")),
                ("front\n", Some("text/html"))
            );
        }
        let line = server.wait_for_log_after(mark, why);
        assert!(
            line.contains("[ERROR]") && line.contains("GET /send.sh failed"),
            "{line}"
        );
        assert!(line.contains("_roots)"), "{line}");
    }
    server.stop();
}

#[test]
fn names_may_be_encoded_or_not_and_hidden_ones_are_the_apps_business() {
    let server = site("").start();
    let place = private(&server, "");
    for (say, text) in [
        (format!("X-Sendfile: {place}two words.txt"), "blank"),
        (format!("X-Sendfile: {place}two%20words.txt"), "blank"),
        // What it says counts before what it could mean.
        (format!("X-Sendfile: {place}100%25.txt"), "percent"),
        (format!("X-Sendfile: {place}in.pdf"), "a report"),
        (format!("X-Sendfile: {place}/deep//.hidden.php"), "<?php source"),
        (
            "X-Accel-Redirect: /protected/two%20words.txt?download=1".to_owned(),
            "blank",
        ),
        ("X-Accel-Redirect: /protected/100%2525.txt".to_owned(), "percent"),
        ("X-Accel-Redirect: /protected/two words.txt".to_owned(), "blank"),
    ] {
        // Nothing but the name is needed, not even a type.
        let response = said(&server, "GET", "/send.sh", &say, &[]);
        assert_eq!(
            (response.status, response.text().as_str()),
            (200, text),
            "{say}: {}",
            server.log()
        );
    }
    server.stop();
}

#[test]
fn without_roots_the_fields_are_for_the_proxy_in_front() {
    let setup = Setup::new();
    files(&setup);
    let root = setup.path_text("site");
    let server = setup.arg("--root").arg(&root).start();
    for field in [
        "X-Sendfile: /etc/passwd",
        "X-Accel-Redirect: /protected/a",
        "X-Accel-Buffering: no",
    ] {
        let say = format!("Content-Type: text/plain|{field}");
        let response = request(&server.address, "GET", "/send.sh", &[("X-Say", say.as_str())], b"");
        let (name, value) = field.split_once(": ").expect("a field");
        assert_eq!((response.status, response.field(name)), (200, Some(value)));
        assert_eq!(response.text(), "secret body");
    }
    server.stop();
}

#[test]
fn a_slow_client_of_a_named_file_holds_no_worker() {
    let setup = Setup::new();
    files(&setup);
    // More than any socket takes.
    let huge = fs::File::create(setup.path("private/huge.bin")).expect("a file");
    huge.set_len(200 << 20).expect("a size");
    let (root, private) = (quoted(&setup.path_text("site")), quoted(&setup.path_text("private")));
    let tables = format!(
        "[pool.php]\nexec = ['php-cgi']\nworkers = 1\n[[site]]\nroot = {root}\npool = 'php'\nsendfile_roots = [{private}]\n"
    );
    let server = setup.tables(&tables).start();
    let file = server.path("private/huge.bin").to_string_lossy().into_owned();
    let mut slow = server.connect();
    slow.send(format!(
        "GET /send.php HTTP/1.1\r\nHost: a\r\nX-Say: X-Sendfile: {file}\r\n\r\n"
    ));
    let head = slow.try_head().expect("a head");
    assert_eq!((head.status, head.field("content-length")), (200, Some("209715200")));
    // The only worker is free while nobody reads the file, and nothing of it was copied.
    for _ in 0..3 {
        let say = format!("Content-Type: a/b|X-Sendfile: {}", private_report(&server));
        assert_eq!(said(&server, "GET", "/send.php", &say, &[]).text(), "a report");
    }
    assert_eq!(fs::read_dir(server.path("spool")).expect("the spool").count(), 0);
    slow.skip(209_715_200).expect("all of the file");
    assert_eq!(slow.get("/index.html").text(), "front\n");
    wait_until("the line of the file", || {
        server.access_log().iter().any(|line| line.contains(" 200 209715200 "))
    });
    server.stop();
}

fn private_report(server: &Server) -> String {
    private(server, "report.pdf")
}

#[test]
fn a_client_that_leaves_and_an_app_that_fails_leave_nothing_behind() {
    let setup = Setup::new();
    files(&setup);
    script(
        &setup,
        "site/fail.sh",
        "#!/bin/sh\nprintf 'Content-Type: a/b\\nX-Sendfile: %s\\n\\n' \"$HTTP_X_FILE\"\nkill -9 $$\n",
    );
    let (root, private) = (quoted(&setup.path_text("site")), quoted(&setup.path_text("private")));
    let tables = format!("[[site]]\nroot = {root}\nsendfile_roots = [{private}]\n");
    let server = setup.tables(&tables).allow("fail.sh").start();
    let file = private_report(&server);
    let response = request(&server.address, "POST", "/fail.sh", &[("X-File", file.as_str())], b"");
    // It did not end its response: nothing says that it meant what it said.
    assert_eq!(response.status, 502, "{}", server.log());
    for _ in 0..5 {
        let mut client = server.connect();
        client.send(format!(
            "GET /send.sh HTTP/1.1\r\nHost: a\r\nX-Say: X-Sendfile: {file}\r\n\r\n"
        ));
        client.finish_sending();
    }
    let say = format!("X-Sendfile: {file}");
    assert_eq!(said(&server, "GET", "/send.sh", &say, &[]).text(), "a report");
    server.stop();
}

#[test]
fn roots_are_looked_up_again_when_their_names_change() {
    let setup = Setup::new();
    files(&setup);
    for version in ["v1", "v2"] {
        page(&setup, &format!("{version}/version.txt"), version);
    }
    let place = setup.path("");
    let link = |version: &str| {
        symlink(place.join(version), place.join("next")).expect("a link");
        fs::rename(place.join("next"), place.join("current")).expect("it takes the other's place");
    };
    link("v1");
    let (root, current) = (quoted(&setup.path_text("site")), quoted(&setup.path_text("current")));
    let tables = format!(
        "[[site]]\nroot = {root}\nsendfile_roots = [{current}]\naccel_roots = {{ '/' = {current}, '/deep' = {current} }}\n"
    );
    let server = setup.tables(&tables).allow("failed (").start();
    let named = format!("X-Sendfile: {}", server.path("current/version.txt").display());
    // By its real path too: apps that resolve links say it so.
    let real = format!("X-Sendfile: {}", server.path("v1/version.txt").display());
    for say in [
        &named,
        &real,
        "X-Accel-Redirect: /version.txt",
        "X-Accel-Redirect: /deep/version.txt",
    ] {
        assert_eq!(
            said(&server, "GET", "/send.sh", say, &[]).text(),
            "v1",
            "{say}: {}",
            server.log()
        );
    }
    link("v2");
    wait_until("the other version", || {
        said(&server, "GET", "/send.sh", &named, &[]).text() == "v2"
    });
    // It is no root any more.
    assert_eq!(said(&server, "GET", "/send.sh", &real, &[]).status, 403);
    fs::remove_file(place.join("current")).expect("the link goes");
    wait_until("that it is missed", || {
        said(&server, "GET", "/send.sh", &named, &[]).status == 500
    });
    server.wait_for_log("cannot be opened");
    link("v1");
    wait_until("that it is back", || {
        said(&server, "GET", "/send.sh", &named, &[]).text() == "v1"
    });
    server.stop();
}

#[test]
fn web_servers_that_come_by_fastcgi_get_the_file() {
    let setup = Setup::new();
    files(&setup);
    let (root, private) = (quoted(&setup.path_text("site")), quoted(&setup.path_text("private")));
    let socket = format!("unix:{}", setup.path_text("fcgi.sock"));
    let tables = format!(
        "[[site]]\nroot = {root}\nsendfile_roots = [{private}]\n\
         [[listener]]\nbind = {}\nprotocol = 'fastcgi'\nallowed_roots = [{root}]\n",
        quoted(&socket)
    );
    let server = setup.tables(&tables).start();
    let nginx = peers::nginx_fastcgi(&socket, &server.path("site"), true);
    let say = format!(
        "Content-Type: application/x-own|X-Sendfile: {}",
        server.path("private/large.txt").display()
    );
    let response = request(&nginx.address, "GET", "/send.sh", &[("X-Say", say.as_str())], b"");
    assert_eq!(
        (response.status, response.field("content-type")),
        (200, Some("application/x-own")),
        "{}",
        server.log()
    );
    assert!(response.body == large());
    assert_eq!(response.field("x-sendfile"), None);
    drop(nginx);
    server.stop();
}
