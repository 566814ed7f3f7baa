//! What a site says about its files: their types, which endings are sent, siblings, and the pages of errors.

use std::fs;
use std::os::unix::fs::symlink;

use nix::sys::stat::Mode;

use crate::harness::server::quoted;
use crate::harness::tree::{ask, page, script};
use crate::harness::{Response, Server, Setup, get, request};

fn typed(server: &Server, host: &str, target: &str) -> (u16, String) {
    let response = ask(&server.address, "GET", host, target);
    let kind = response.field("content-type").unwrap_or_default().to_owned();
    (response.status, kind)
}

#[test]
fn types_of_the_site_count_before_those_of_the_top_level_and_the_usual_ones() {
    let setup = Setup::new();
    for name in ["a.html", "a.dat", "a.css", "a.WASM", "README", "a.unknown"] {
        page(&setup, &format!("site/{name}"), "x");
    }
    let root = quoted(&setup.path_text("site"));
    let server = setup
        .with(
            "types",
            "{ html = 'text/html; charset=utf-8', dat = 'x/top', '*' = 'text/plain' }",
        )
        .tables(&format!(
            "[[site]]\nroot = {root}\n\
             [[site]]\nhosts = ['b.example']\nroot = {root}\ntypes = {{ '.DAT' = 'x/own', wasm = 'x/wasm' }}\n"
        ))
        .start();
    for (host, name, expected) in [
        ("a", "a.html", "text/html; charset=utf-8"),
        ("a", "a.dat", "x/top"),
        ("a", "a.css", "text/css"),
        ("a", "a.WASM", "application/wasm"),
        ("a", "README", "text/plain"),
        ("a", "a.unknown", "text/plain"),
        ("b.example", "a.html", "text/html; charset=utf-8"),
        ("b.example", "a.dat", "x/own"),
        ("b.example", "a.WASM", "x/wasm"),
        ("b.example", "README", "text/plain"),
    ] {
        let found = typed(&server, host, &format!("/{name}"));
        assert_eq!(found, (200, expected.to_owned()), "{host} {name}");
    }
    server.stop();
}

#[test]
fn endings_of_scripts_are_sent_where_the_site_says_so() {
    let setup = Setup::new();
    for name in [
        "install.sh",
        "INSTALL.SH",
        "tool.py",
        "page.php",
        "install.sh.bak",
        "install.sh.gz",
        ".x.sh",
    ] {
        page(&setup, &format!("site/{name}"), "source\n");
    }
    script(
        &setup,
        "site/cgi-bin/run.sh",
        "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\nrun'\n",
    );
    let root = quoted(&setup.path_text("site"));
    let server = setup
        .tables(&format!(
            "[[site]]\nroot = {root}\nscript_suffixes = ['.cgi']\nserved_suffixes = ['.SH']\n\
             [[site]]\nhosts = ['b.example']\nroot = {root}\nscript_suffixes = ['.cgi']\n"
        ))
        .start();
    for (host, target, status, text) in [
        ("a", "/install.sh", 200, "source\n"),
        ("a", "/INSTALL.SH", 200, "source\n"),
        ("a", "/install.sh.gz", 200, "source\n"),
        ("a", "/cgi-bin/run.sh", 200, "run"),
        ("a", "/tool.py", 404, ""),
        ("a", "/install.sh.bak", 404, ""),
        ("a", "/.x.sh", 404, ""),
        ("b.example", "/install.sh", 404, ""),
        ("b.example", "/cgi-bin/run.sh", 200, "run"),
    ] {
        let response = ask(&server.address, "GET", host, target);
        assert_eq!(response.status, status, "{host} {target}");
        if status == 200 {
            assert_eq!(response.text(), text, "{host} {target}");
        } else {
            assert!(!response.text().contains("source"), "{host} {target}");
        }
    }
    server.stop();
}

#[test]
fn siblings_can_be_left_alone() {
    let setup = Setup::new();
    page(&setup, "site/a.css", "plain");
    page(&setup, "site/a.css.gz", "packed");
    let root = quoted(&setup.path_text("site"));
    let server = setup
        .with("precompressed", "false")
        .tables(&format!(
            "[[site]]\nroot = {root}\n[[site]]\nhosts = ['b.example']\nroot = {root}\nprecompressed = true\n"
        ))
        .start();
    let sent = |host: &str| {
        let mut client = server.connect();
        client.send(format!(
            "GET /a.css HTTP/1.1\r\nHost: {host}\r\nAccept-Encoding: gzip\r\n\r\n"
        ));
        let response = client.response("GET");
        let field = |name: &str| response.field(name).unwrap_or_default().to_owned();
        (response.text(), field("content-encoding"), field("vary"))
    };
    assert_eq!(sent("a"), ("plain".into(), String::new(), String::new()));
    assert_eq!(
        sent("b.example"),
        ("packed".into(), "gzip".into(), "Accept-Encoding".into())
    );
    server.stop();
}

/// Status, type and text of an answer.
fn shown(response: &Response) -> (u16, String, String) {
    let kind = response.field("content-type").unwrap_or_default();
    (response.status, kind.to_owned(), response.text())
}

/// Sends bytes and reads the answer, after which the connection is closed.
fn refused(server: &Server, bytes: &[u8]) -> Response {
    let mut client = server.connect();
    client.send(bytes);
    let response = client.response("GET");
    assert!(!response.keeps_alive(), "{response:?}");
    assert!(client.is_closed());
    response
}

#[test]
fn errors_about_files_and_errors_before_any_route_have_the_pages_of_the_site() {
    let setup = Setup::new();
    page(&setup, "site/index.html", "front\n");
    let statuses = [400, 405, 408, 412, 413, 414, 416, 431, 503];
    let mut pages = String::new();
    for status in statuses {
        page(&setup, &format!("site/errors/{status}.txt"), format!("ours {status}"));
        pages += &format!("{status} = '/errors/{status}.txt', ");
    }
    // Longer than what any buffer takes.
    let long = "long page\n".repeat(200_000);
    page(&setup, "site/errors/431.txt", &long);
    page(&setup, "other/index.html", "other\n");
    let (root, other) = (quoted(&setup.path_text("site")), quoted(&setup.path_text("other")));
    let server = setup
        .with_text("header_timeout", "1s")
        .with("limit_request_body", "100")
        .tables(&format!(
            "[[site]]\nhosts = ['other.example']\nroot = {other}\n[[site]]\nroot = {root}\npages = {{ {pages} }}\n"
        ))
        .allow("Invalid request")
        .start();
    let ours = |status: u16| (status, "text/plain".to_owned(), format!("ours {status}"));
    let fields = |name, value| request(&server.address, "GET", "/index.html", &[(name, value)], b"");
    let response = request(&server.address, "POST", "/index.html", &[], b"");
    assert_eq!(shown(&response), ours(405));
    assert_eq!(response.field("allow"), Some("GET, HEAD, OPTIONS"));
    let response = fields("Range", "bytes=100-");
    assert_eq!(shown(&response), ours(416));
    assert_eq!(response.field("content-range"), Some("bytes */6"));
    assert_eq!(shown(&fields("If-Match", "\"x\"")), ours(412));
    // Nothing is known of these requests but that they came here.
    assert_eq!(
        shown(&refused(&server, b"GET / HTTP/1.1\r\nHost: a\r\nbroken\r\n\r\n")),
        ours(400)
    );
    assert_eq!(
        shown(&refused(&server, b"GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n")),
        ours(400)
    );
    let line = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(10_000));
    assert_eq!(shown(&refused(&server, line.as_bytes())), ours(414));
    let field = format!("GET / HTTP/1.1\r\nHost: a\r\nX-Long: {}\r\n\r\n", "x".repeat(10_000));
    assert_eq!(
        shown(&refused(&server, field.as_bytes())),
        (431, "text/plain".to_owned(), long)
    );
    let body = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 101\r\n\r\n";
    assert_eq!(shown(&refused(&server, body)), ours(413));
    assert_eq!(shown(&refused(&server, b"GET / HTT")), ours(408));
    // What names another site is that site's affair, as far as it was understood.
    let response = refused(&server, b"GET /%00 HTTP/1.1\r\nHost: other.example\r\n\r\n");
    assert_eq!(
        (response.status, response.field("content-type")),
        (400, Some("text/html"))
    );
    let head = {
        let mut client = server.connect();
        client.send("HEAD /index.html HTTP/1.1\r\nHost: a\r\nIf-Match: \"x\"\r\n\r\n");
        let response = client.response("HEAD");
        assert_eq!(client.get("/index.html").text(), "front\n");
        response
    };
    assert_eq!(
        (head.status, head.field("content-length"), head.body.len()),
        (412, Some("8"), 0)
    );
    assert_eq!(get(&server.address, "/").text(), "front\n");
    server.stop();
}

#[test]
fn a_page_of_a_tenant_is_no_way_to_files_elsewhere_and_none_to_hold_the_server_up() {
    let setup = Setup::new();
    page(&setup, "secret.txt", "secret");
    page(&setup, "shared/gone.txt", "gone");
    fs::create_dir_all(setup.path("site/errors")).expect("a directory");
    symlink(setup.path("secret.txt"), setup.path("site/errors/404.txt")).expect("a link");
    symlink(setup.path("shared/gone.txt"), setup.path("shared/link.txt")).expect("a link");
    nix::unistd::mkfifo(&setup.path("site/errors/405.txt"), Mode::from_bits_truncate(0o644)).expect("a FIFO");
    page(&setup, "site/index.html", "front\n");
    let root = quoted(&setup.path_text("site"));
    let shared = quoted(&format!("file:{}", setup.path_text("shared/link.txt")));
    let server = setup
        .tables(&format!(
            "[[site]]\nroot = {root}\nsymlinks = 'inside'\n\
             pages = {{ 404 = '/errors/404.txt', 405 = '/errors/405.txt', 412 = '/none.txt', 410 = {shared} }}\n\
             [[site.route]]\nexact = '/gone'\nrefuse = 410\n[[site.route]]\nstatic = true\n"
        ))
        .allow("cannot send the page for")
        .allow("the page of ")
        .start();
    let response = server.get("/missing");
    assert_eq!(
        (response.status, response.field("content-type")),
        (404, Some("text/html"))
    );
    assert!(!response.text().contains("secret"));
    server.wait_for_log("errors/404.txt: a link on the way leads out of the root");
    let response = request(&server.address, "POST", "/index.html", &[], b"");
    assert_eq!(
        (response.status, response.field("content-type")),
        (405, Some("text/html"))
    );
    server.wait_for_log("errors/405.txt: it is no file");
    let response = request(&server.address, "GET", "/index.html", &[("If-Match", "\"x\"")], b"");
    assert_eq!(
        (response.status, response.field("content-type")),
        (412, Some("text/html"))
    );
    server.wait_for_log("none.txt: no such file");
    // What the configuration names itself is what it means.
    assert_eq!(server.get("/gone").text(), "gone");
    server.stop();
}

#[test]
fn hosts_that_no_site_serves_see_no_sites_page() {
    let setup = Setup::new();
    page(&setup, "site/404.txt", "ours");
    let root = quoted(&setup.path_text("site"));
    let server = setup
        .tables(&format!(
            "[[site]]\nhosts = ['a.example']\nroot = {root}\npages = {{ 404 = '/404.txt', 400 = '/404.txt' }}\n"
        ))
        .allow("Invalid request")
        .start();
    assert_eq!(typed(&server, "a.example", "/none"), (404, "text/plain".to_owned()));
    assert_eq!(typed(&server, "b.example", "/none"), (404, "text/html".to_owned()));
    assert_eq!(typed(&server, "b.example", "/%00"), (400, "text/html".to_owned()));
    assert_eq!(typed(&server, "a.example", "/%00"), (400, "text/plain".to_owned()));
    server.stop();
}
