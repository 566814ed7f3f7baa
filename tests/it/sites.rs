//! Sites as they lie on disk, and as tables describe them: which file, script or app answers which path.

use crate::harness::apps::c_app;
use crate::harness::server::{list, quoted};
use crate::harness::tree::{SH, ask, image, legacy_site, page, script};
use crate::harness::{Response, Server, Setup, request, wait_until};

/// A server for the directory `site`, and nothing else configured.
fn root_only(setup: Setup) -> Setup {
    let site = setup.path_text("site");
    setup.arg("--root").arg(&site)
}

fn location(response: &Response) -> &str {
    response.field("location").unwrap_or("none")
}

/// The value of a line `NAME=value`.
fn said(response: &Response, name: &str) -> String {
    let text = response.text();
    let mut lines = text.lines().filter_map(|line| line.split_once('='));
    let found = lines.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned());
    found.unwrap_or_else(|| panic!("no {name} in {text:?}"))
}

fn get_at(server: &Server, host: &str, target: &str) -> Response {
    ask(&server.address, "GET", host, target)
}

#[test]
fn a_folder_with_pages_images_php_and_scripts_in_five_languages_needs_no_configuration() {
    let setup = Setup::new();
    legacy_site(&setup);
    let server = root_only(setup).start();
    let response = server.get("/index.html");
    assert_eq!(
        (response.status, response.field("content-type")),
        (200, Some("text/html"))
    );
    let response = server.get("/logo.png");
    assert_eq!(
        (response.status, response.field("content-type")),
        (200, Some("image/png"))
    );
    assert!(response.body == image());
    let body = vec![b'b'; 200_000];
    let response = request(&server.address, "POST", "/hello.php?a=b", &[], &body);
    assert_eq!(
        (response.status, said(&response, "QUERY_STRING").as_str()),
        (200, "a=b"),
        "{}",
        server.log()
    );
    assert_eq!(said(&response, "REQUEST_METHOD"), "POST");
    assert!(response.body.ends_with(&body));
    for (name, language) in [
        ("hello.sh", "sh"),
        ("hello.pl", "perl"),
        ("hello.py", "python"),
        ("hello.rb", "ruby"),
        ("hello.cgi", "c"),
        ("cgi-bin/hello", "c"),
    ] {
        let response = request(&server.address, "POST", &format!("/{name}?x"), &[], &body);
        assert_eq!(
            (response.status, response.field("x-language")),
            (200, Some(language)),
            "{name}"
        );
        assert!(response.text().starts_with("POST x /"), "{name}: {}", response.text());
        assert!(response.body.ends_with(&body), "{name}");
    }
    server.stop();
}

#[test]
fn directories_have_an_index_and_a_slash_and_are_not_listed() {
    let setup = Setup::new();
    page(&setup, "site/index.html", "front\n");
    page(
        &setup,
        "site/php/index.php",
        "<?php echo 'php index ', $_SERVER['SCRIPT_NAME'], ' ', $_SERVER['REQUEST_URI'];",
    );
    page(&setup, "site/php/index.html", "not this\n");
    page(&setup, "site/plain/note.txt", "note\n");
    page(&setup, "site/a b/index.html", "blank\n");
    let server = root_only(setup).start();
    assert_eq!(server.get("/").text(), "front\n");
    assert_eq!(server.get("/php/?q=1").text(), "php index /php/index.php /php/?q=1");
    let response = server.get("/plain/");
    assert_eq!(response.status, 403);
    assert!(!response.text().contains("note"), "{}", response.text());
    for (target, to) in [
        ("/php", "/php/"),
        ("/php?a=b&c=%2F", "/php/?a=b&c=%2F"),
        ("/a%20b", "/a%20b/"),
        ("/plain", "/plain/"),
    ] {
        let response = server.get(target);
        assert_eq!((response.status, location(&response)), (301, to), "{target}");
    }
    assert_eq!(server.get("/php/index.php/more/info").status, 200);
    assert_eq!(server.get("/missing/").status, 404);
    assert_eq!(server.get("/plain/note.txt/more").status, 404);
    server.stop();
}

#[test]
fn no_redirect_leads_to_another_host() {
    let setup = Setup::new();
    page(&setup, "site/evil.example/x/index.html", "x\n");
    page(&setup, "site/index.html", "front\n");
    let (site, root) = (
        setup.path_text("site"),
        "[[site.route]]\nexact = '/old'\nredirect = '$uri/new'\n",
    );
    let server = setup
        .tables(&format!(
            "[[site]]\nroot = {}\n{root}[[site.route]]\npath = '/go'\nredirect = '$uri'\n[[site.route]]\nstatic = true\n",
            quoted(&site)
        ))
        .start();
    for target in [
        "//evil.example/x",
        "///evil.example/x",
        "/evil.example/x",
        "//evil.example/..",
        "//evil.example/%2e%2e",
        "/\\evil.example/x",
        "/%5cevil.example/x",
        "/%2fevil.example/x",
        "/%09/evil.example/x",
        "//evil.example/x/../x",
        "/go//evil.example",
        "//go",
        "http://evil.example//evil.example/x",
    ] {
        let response = server.get(target);
        let to = response.field("location").unwrap_or("/");
        let starts = to.starts_with('/') && !to.starts_with("//") && !to.starts_with("/\\");
        assert!(starts, "{target} leads to {to} ({})", response.status);
    }
    assert_eq!(location(&server.get("//evil.example/x")), "/evil.example/x/");
    server.stop();
}

#[test]
fn a_front_controller_serves_what_is_no_file() {
    let setup = Setup::new();
    page(&setup, "site/index.php", crate::harness::tree::PHP);
    page(&setup, "site/style.css", "p {}\n");
    page(&setup, "site/admin/tool.php", crate::harness::tree::PHP);
    let server = root_only(setup).arg("--fallback").arg("/index.php").start();
    let response = server.get("/blog/2024?page=2");
    assert_eq!(response.status, 200);
    assert_eq!(said(&response, "SCRIPT_NAME"), "/index.php");
    assert_eq!(said(&response, "REQUEST_URI"), "/blog/2024?page=2");
    assert_eq!(said(&response, "QUERY_STRING"), "page=2");
    assert_eq!(said(&response, "self"), "/index.php");
    let response = request(&server.address, "POST", "/form", &[], b"field=1");
    assert!(response.text().ends_with("field=1"), "{}", response.text());
    assert_eq!(server.get("/style.css").text(), "p {}\n");
    let response = server.get("/admin/tool.php/extra");
    assert_eq!(said(&response, "SCRIPT_NAME"), "/admin/tool.php");
    assert_eq!(said(&response, "PATH_INFO"), "/extra");
    // What is hidden stays hidden: it is the front controller that answers, or 404, never the file.
    assert_eq!(said(&server.get("/"), "SCRIPT_NAME"), "/index.php");
    server.stop();
}

#[test]
fn a_fallback_may_be_a_page_and_one_that_is_missing_ends_in_404() {
    let setup = Setup::new();
    page(&setup, "site/index.html", "the app\n");
    let site = quoted(&setup.path_text("site"));
    let tables = format!(
        "[[site]]\nroot = {site}\nfallback = '/index.html'\n\
         [[site]]\nhosts = ['broken.example']\nroot = {site}\nfallback = '/missing.php'\n"
    );
    let server = setup.tables(&tables).start();
    for target in ["/", "/some/view", "/some/view?x", "/missing.css", "/missing/"] {
        assert_eq!(server.get(target).text(), "the app\n", "{target}");
    }
    assert_eq!(request(&server.address, "POST", "/some/view", &[], b"x").status, 405);
    for target in ["/missing", "/missing.php", "/a/b.php"] {
        assert_eq!(get_at(&server, "broken.example", target).status, 404, "{target}");
    }
    server.stop();
}

#[test]
fn head_and_options_are_answered_for_every_kind_of_path() {
    let setup = Setup::new();
    legacy_site(&setup);
    page(&setup, "site/dir/index.html", "dir\n");
    let server = root_only(setup).start();
    let mut client = server.connect();
    for (target, status) in [
        ("/index.html", 200),
        ("/dir", 301),
        ("/dir/", 200),
        ("/missing", 404),
        ("/hello.php", 200),
        ("/hello.sh", 200),
        ("/.env", 404),
    ] {
        client.send(format!("HEAD {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let response = client.response("HEAD");
        assert_eq!(response.status, status, "{target}");
        assert!(response.keeps_alive(), "{target}");
    }
    client.send("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
    let response = client.response("OPTIONS");
    assert_eq!(
        (response.status, response.field("allow")),
        (204, Some("GET, HEAD, POST, OPTIONS"))
    );
    assert!(response.keeps_alive());
    assert_eq!(client.get("/dir/").text(), "dir\n");
    server.stop();
}

#[test]
fn a_deployment_that_switches_a_link_is_seen() {
    let setup = Setup::new();
    for version in ["v1", "v2"] {
        page(&setup, &format!("{version}/page.html"), version);
        script(
            &setup,
            &format!("{version}/page.sh"),
            format!("#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n{version}'\n"),
        );
    }
    let place = setup.path("");
    let link = |version: &str| {
        std::os::unix::fs::symlink(place.join(version), place.join("next")).expect("a link");
        std::fs::rename(place.join("next"), place.join("site")).expect("it takes the other's place");
    };
    link("v1");
    let server = root_only(setup).start();
    let both = || (server.get("/page.html").text(), server.get("/page.sh").text());
    assert_eq!(both(), ("v1".into(), "v1".into()));
    link("v2");
    wait_until("the new pages", || both() == ("v2".into(), "v2".into()));
    server.stop();
}

#[test]
fn a_site_is_chosen_by_the_host() {
    let setup = Setup::new();
    let mut tables = String::new();
    for (name, hosts) in [
        ("exact", "hosts = ['shop.example', 'www.shop.example']"),
        ("below", "hosts = ['*.shop.example']"),
        ("deep", "hosts = ['*.api.shop.example']"),
        ("default", ""),
    ] {
        page(&setup, &format!("{name}/index.html"), name);
        tables += &format!("[[site]]\n{hosts}\nroot = {}\n", quoted(&setup.path_text(name)));
    }
    let server = setup.tables(&tables).start();
    for (host, expected) in [
        ("shop.example", "exact"),
        ("SHOP.Example", "exact"),
        ("shop.example:8080", "exact"),
        ("shop.example.", "exact"),
        ("www.shop.example", "exact"),
        ("a.shop.example", "below"),
        ("a.b.shop.example:1", "below"),
        ("x.api.shop.example", "deep"),
        ("api.shop.example", "below"),
        ("evilshop.example", "default"),
        ("shop.example.evil", "default"),
        ("127.0.0.1", "default"),
        ("[::1]:80", "default"),
    ] {
        assert_eq!(get_at(&server, host, "/").text(), expected, "{host}");
    }
    // The target's host counts, not the field's (RFC 9112 §3.2.2).
    assert_eq!(get_at(&server, "127.0.0.1", "http://shop.example/").text(), "exact");
    server.stop();
}

#[test]
fn hosts_that_no_site_serves_are_told_so() {
    let setup = Setup::new();
    page(&setup, "site/index.html", "front\n");
    let site = quoted(&setup.path_text("site"));
    let server = setup
        .tables(&format!("[[site]]\nhosts = ['a.example']\nroot = {site}\n"))
        .start();
    assert_eq!(get_at(&server, "a.example", "/").text(), "front\n");
    let mut client = server.connect();
    for _ in 0..2 {
        client.send("GET / HTTP/1.1\r\nHost: b.example\r\n\r\n");
        assert_eq!(client.response("GET").status, 404);
    }
    client.send("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(client.response("GET").status, 404);
    server.stop();
}

#[test]
fn the_first_route_that_matches_counts() {
    let setup = Setup::new();
    script(&setup, "site/tools/info.sh", SH);
    script(&setup, "site/tools/info.cgi", SH);
    page(&setup, "site/tools/readme.txt", "readme\n");
    page(&setup, "site/errors/404.html", "<p>our own 404</p>\n");
    page(&setup, "site/errors/gone.html", "<p>our own 410</p>\n");
    page(&setup, "site/apiary.html", "bees\n");
    page(&setup, "site/index.html", "front\n");
    let site = setup.path_text("site");
    let tables = format!(
        "[pool.app]\nexec = {}\nprotocol = 'fastcgi'\nworkers = 1\n[pool.cgi]\nprotocol = 'cgi'\n\
         [[site]]\nroot = {}\npages = {{ 404 = '/errors/404.html', 410 = {} }}\n\
         [[site.route]]\nexact = '/api/closed'\nrefuse = 410\n\
         [[site.route]]\npath = '/api/'\npool = 'app'\n\
         [[site.route]]\npath = '/mounted/'\npool = 'app'\nscript_name = '/mounted'\n\
         [[site.route]]\npath = '/private'\nrefuse = 403\n\
         [[site.route]]\nexact = '/old'\nredirect = '/new?from=old'\nstatus = 301\n\
         [[site.route]]\npath = '/moved/'\nredirect = 'https://new.example$uri'\nstatus = 308\n\
         [[site.route]]\npath = '/tools/'\nsuffix = '.sh'\npool = 'cgi'\n\
         [[site.route]]\nstatic = true\n",
        list(&[&c_app()]),
        quoted(&site),
        quoted(&format!("file:{site}/errors/gone.html")),
    );
    let server = setup.tables(&tables).start();
    let variables = |target: &str| server.get(target).text();
    assert!(variables("/api/env?SCRIPT_NAME").len() < 10_000);
    for (target, status, text) in [
        ("/api/closed", 410, "<p>our own 410</p>\n"),
        ("/private", 403, ""),
        ("/private/deep", 403, ""),
        ("/privateer", 404, "<p>our own 404</p>\n"),
        ("/nothing", 404, "<p>our own 404</p>\n"),
        ("/apiary.html", 200, "bees\n"),
        ("/tools/readme.txt", 200, "readme\n"),
        // A script that no route runs is no file either.
        ("/tools/info.cgi", 404, "<p>our own 404</p>\n"),
    ] {
        let response = server.get(target);
        assert_eq!(response.status, status, "{target}");
        assert!(
            text.is_empty() || response.text() == text,
            "{target}: {}",
            response.text()
        );
    }
    let response = server.get("/old");
    assert_eq!((response.status, location(&response)), (301, "/new?from=old"));
    assert_eq!(server.get("/old/").status, 404);
    let response = server.get("/moved/a%20b?c=d");
    assert_eq!(
        (response.status, location(&response)),
        (308, "https://new.example/moved/a%20b?c=d")
    );
    let response = server.get("/tools/info.sh/a/b?c");
    assert_eq!(response.status, 200, "{}", server.log());
    assert_eq!(said(&response, "SCRIPT_NAME"), "/tools/info.sh");
    assert_eq!(said(&response, "PATH_INFO"), "/a/b");
    assert_eq!(said(&response, "PATH_TRANSLATED"), format!("{site}/a/b"));
    assert_eq!(said(&response, "SCRIPT_FILENAME"), format!("{site}/tools/info.sh"));
    server.stop();
}

#[test]
fn php_cgi_as_the_program_serves_the_files_of_a_root() {
    let setup = Setup::new();
    page(&setup, "site/index.php", crate::harness::tree::PHP);
    page(&setup, "site/a.css", "p {}\n");
    script(&setup, "site/run.sh", SH);
    let server = root_only(setup).arg("--exec").arg("php-cgi").start();
    let response = server.get("/");
    assert_eq!(said(&response, "SCRIPT_NAME"), "/index.php");
    assert_eq!(server.get("/a.css").text(), "p {}\n");
    for target in ["/run.sh", "/missing.php", "/missing"] {
        assert_eq!(server.get(target).status, 404, "{target}");
    }
    server.stop();
}

#[test]
fn a_wsgi_app_has_files_beside_it() {
    let setup = Setup::new();
    page(&setup, "site/style.css", "p {}\n");
    page(&setup, "site/secret.py", "password = 1\n");
    let app = "def application(environ, start_response):\n    \
               start_response('200 OK', [('Content-Type', 'text/plain')])\n    \
               return [('app ' + environ['SCRIPT_NAME'] + '|' + environ['PATH_INFO']).encode()]\n";
    page(&setup, "beside.py", app);
    let server = root_only(setup).without_file().arg("beside:application").start();
    assert_eq!(server.get("/style.css").text(), "p {}\n");
    assert_eq!(server.get("/").text(), "app |/");
    assert_eq!(server.get("/a/b").text(), "app |/a/b");
    assert_eq!(request(&server.address, "POST", "/a", &[], b"x").text(), "app |/a");
    let response = server.get("/secret.py");
    assert!(!response.text().contains("password"), "{}", response.text());
    server.stop();
}

#[test]
fn files_are_sent_as_http_says() {
    let setup = Setup::new();
    let text: String = (0..5000).map(|line| format!("line {line}\n")).collect();
    page(&setup, "site/big.txt", &text);
    page(&setup, "site/app.js", "plain js\n");
    page(&setup, "site/app.js.gz", "gzip bytes");
    page(&setup, "site/app.js.br", "brotli bytes");
    page(&setup, "site/hello.php", crate::harness::tree::PHP);
    let server = root_only(setup).start();
    let get = |target: &str, fields: &[(&str, &str)]| request(&server.address, "GET", target, fields, b"");

    let whole = get("/big.txt", &[]);
    assert_eq!((whole.status, whole.text()), (200, text.clone()));
    let head = request(&server.address, "HEAD", "/big.txt", &[], b"");
    assert_eq!(head.field("content-length"), Some(text.len().to_string().as_str()));
    assert!(head.body.is_empty());
    let tag = whole.field("etag").expect("an ETag").to_owned();
    let date = whole.field("last-modified").expect("a date").to_owned();
    for fields in [
        [("If-None-Match", tag.as_str())],
        [("If-Modified-Since", date.as_str())],
    ] {
        let response = get("/big.txt", &fields);
        assert_eq!((response.status, response.body.len()), (304, 0), "{fields:?}");
        assert_eq!(response.field("etag"), Some(tag.as_str()));
    }
    assert_eq!(get("/big.txt", &[("If-Match", "\"other\"")]).status, 412);
    let response = get("/big.txt", &[("Range", "bytes=10-19")]);
    assert_eq!((response.status, response.text().as_str()), (206, &text[10..20]));
    let range = format!("bytes 10-19/{}", text.len());
    assert_eq!(response.field("content-range"), Some(range.as_str()));
    let response = get("/big.txt", &[("Range", "bytes=-5")]);
    assert_eq!(response.text(), text[text.len() - 5..]);
    let response = get("/big.txt", &[("Range", "bytes=999999-")]);
    let range = format!("bytes */{}", text.len());
    assert_eq!(
        (response.status, response.field("content-range")),
        (416, Some(range.as_str()))
    );
    let response = get("/big.txt", &[("Range", "bytes=0-1,5-6")]);
    let kind = response.field("content-type").unwrap_or_default().to_owned();
    assert!(
        response.status == 206 && kind.starts_with("multipart/byteranges; boundary="),
        "{kind}"
    );
    let response = get("/big.txt", &[("Range", "bytes=0-1"), ("If-Range", "\"other\"")]);
    assert_eq!((response.status, response.body.len()), (200, text.len()));

    // Siblings are looked for when a client names a coding.
    for (accepted, coding, body, varies) in [
        ("br, gzip", Some("br"), "brotli bytes", true),
        ("gzip", Some("gzip"), "gzip bytes", true),
        ("zstd", None, "plain js\n", true),
        ("gzip;q=0", None, "plain js\n", false),
        ("identity", None, "plain js\n", false),
    ] {
        let response = get("/app.js", &[("Accept-Encoding", accepted)]);
        assert_eq!(
            (response.field("content-encoding"), response.text().as_str()),
            (coding, body),
            "{accepted}"
        );
        let vary = response.field("vary").unwrap_or_default();
        assert_eq!(vary.eq_ignore_ascii_case("accept-encoding"), varies, "{accepted}");
    }

    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        let response = request(&server.address, method, "/big.txt", &[], b"some body");
        assert_eq!(response.status, 405, "{method}");
        assert!(
            response.field("allow").is_some_and(|allow| allow.contains("GET")),
            "{method}"
        );
    }
    assert_eq!(request(&server.address, "OPTIONS", "/big.txt", &[], b"").status, 204);
    server.stop();
}

#[test]
fn connections_live_on_after_refusals() {
    let setup = Setup::new();
    page(&setup, "site/index.html", "front\n");
    let server = root_only(setup).start();
    let mut client = server.connect();
    for target in ["/missing", "/.git/config", "/index.html", "/missing"] {
        assert!(client.get(target).keeps_alive(), "{target}");
    }
    client.send("POST /missing HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    let response = client.response("POST");
    assert!(response.status == 404 && response.keeps_alive());
    assert_eq!(client.get("/").text(), "front\n");
    server.stop();
}

#[test]
fn bodies_that_nobody_reads_end_the_connection_after_a_whole_answer() {
    let setup = Setup::new();
    page(&setup, "site/index.html", "front\n");
    let server = root_only(setup).start();
    let body = vec![b'x'; 3_000_000];
    for (target, status) in [("/missing", 404), ("/index.html", 405), ("/.env", 404)] {
        for framing in ["Content-Length: 3000000", "Transfer-Encoding: chunked"] {
            let mut client = server.connect();
            client.send(format!("POST {target} HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n"));
            if framing.starts_with('T') {
                client.send("2dc6c0\r\n");
            }
            // A client that sends everything before it reads anything still finds the answer.
            client.send(&body);
            let response = client.response("POST");
            assert_eq!(response.status, status, "{target} {framing}");
            assert!(!response.keeps_alive(), "{target} {framing}");
        }
        // Who asks first is told at once, and need not send it.
        let mut client = server.connect();
        client.send(format!(
            "POST {target} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
        ));
        let response = client.response("POST");
        assert_eq!((response.status, response.interim.len()), (status, 0), "{target}");
        assert!(client.is_closed(), "{target}");
    }
    server.stop();
}
