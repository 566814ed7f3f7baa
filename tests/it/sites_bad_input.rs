//! Paths, fields and files that are meant to show or run what nobody should: nothing is disclosed, and each has the
//! right status.

use std::os::unix::fs::{PermissionsExt, symlink};

use crate::harness::server::quoted;
use crate::harness::tree::{PHP, SH, ask, page, script};
use crate::harness::{Response, Server, Setup, request};

/// What no response may contain.
const SECRET: &str = "the-secret-of-this-test";

/// A site whose parent directory, dotfiles, sources and leftovers all hold the secret.
fn guarded() -> Setup {
    let setup = Setup::new();
    let php =
        format!("<?php\n// {SECRET}\nheader('Content-Type: text/plain'); echo 'ran ', $_SERVER['SCRIPT_NAME'];\n");
    page(&setup, "site/index.html", "front\n");
    page(&setup, "site/dir/page.html", "page\n");
    page(&setup, "site/a.php", &php);
    page(&setup, "site/upload/x.jpg", format!("\u{fffd}<?php echo '{SECRET}';"));
    page(&setup, "site/upload/x.php.jpg", "<?php echo 'not run';");
    script(
        &setup,
        "site/run.sh",
        format!("#!/bin/sh\n# {SECRET}\nprintf 'Content-Type: text/plain\\n\\nran\\n'\n"),
    );
    for name in [
        "secret.txt",
        "site/a.php~",
        "site/a.php.bak",
        "site/a.php.old",
        "site/a.php.swp",
        "site/.a.php.swp",
        "site/#a.php#",
        "site/a.php.save",
        "site/a.php.gz",
        "site/a.phps",
        "site/a.inc",
        "site/a.php.",
        "site/a.php ",
        "site/.git/config",
        "site/.git/HEAD",
        "site/.svn/entries",
        "site/.htaccess",
        "site/.htpasswd",
        "site/.env",
        "site/dir/.hidden/page.html",
        "site/library.pm",
        "site/not-executable.py",
        "site/b.PHP5",
    ] {
        page(&setup, name, format!("{SECRET}\n"));
    }
    setup
}

fn started(setup: Setup) -> Server {
    let site = setup.path_text("site");
    setup.arg("--root").arg(&site).start()
}

fn assert_keeps(response: &Response, target: &str) {
    let text = response.text();
    assert!(
        !text.contains(SECRET),
        "{target} ({}) discloses:\n{text}",
        response.status
    );
    assert!(
        !text.contains("root:"),
        "{target} ({}) shows the system's files",
        response.status
    );
}

/// Sends the target byte for byte; nothing may be disclosed.
fn status(server: &Server, target: impl AsRef<[u8]>) -> u16 {
    let shown = String::from_utf8_lossy(target.as_ref()).into_owned();
    let response = ask(&server.address, "GET", "test", target);
    assert_keeps(&response, &shown);
    response.status
}

#[test]
fn no_spelling_of_dots_leaves_the_root() {
    let server = started(guarded());
    for target in [
        "/../secret.txt",
        "/../../../../../../../../etc/passwd",
        "/dir/../../secret.txt",
        "/dir/../index.html",
        "/%2e%2e/secret.txt",
        "/.%2e/secret.txt",
        "/%2e./secret.txt",
        "/%2E%2E%2Fsecret.txt",
        "/..%2fsecret.txt",
        "/..%2Fsecret.txt",
        "/dir/..%2f..%2fsecret.txt",
        "/%252e%252e/secret.txt",
        "/%252e%252e%252fsecret.txt",
        "/..\\secret.txt",
        "/..%5csecret.txt",
        "/dir\\..\\..\\secret.txt",
        "/%c0%ae%c0%ae/secret.txt",
        "/%c0%ae%c0%ae%c0%afsecret.txt",
        "/%e0%80%ae%e0%80%ae/secret.txt",
        "/..%c0%afsecret.txt",
        "/%uff0e%uff0e/secret.txt",
        "/.../secret.txt",
        "/....//secret.txt",
        "/..;/secret.txt",
        "/dir/./../../secret.txt",
        "/./../secret.txt",
        "//../secret.txt",
        "///etc/passwd",
        "//etc/passwd",
        "/%2fetc/passwd",
        "/dir/%2e%2e/%2e%2e/secret.txt",
        "/a.php/../../secret.txt",
        "/a.php/%2e%2e/%2e%2e/secret.txt",
        "/run.sh/../../secret.txt",
        "/cgi-bin/../../secret.txt",
        "/cgi-bin/..%2f..%2fbin/sh",
        "http://test/../secret.txt",
    ] {
        let status = status(&server, target);
        // A query or PATH_INFO of a script that runs may hold anything; its path may not.
        let ran = target.starts_with("/a.php/") || target.starts_with("/run.sh/");
        assert!(
            [400, 403, 404].contains(&status) || (ran && status == 200),
            "{target}: {status}"
        );
    }
    server.stop();
}

#[test]
fn nul_and_control_bytes_name_nothing() {
    let server = started(guarded().allow("Invalid request"));
    for target in [
        &b"/index.html%00"[..],
        b"/index.html%00.php",
        b"/a.php%00.html",
        b"/a.php%00",
        b"/upload/x.jpg%00.php",
        b"/%00",
        b"/index.html%0a",
        b"/a.php%0a",
        b"/a.php%0d%0aX-Injected:%201",
        b"/a.php/%0a",
        b"/index.html%7f",
        b"/index.html\x01",
        b"/index.html\x00",
        b"/index.html\x7f",
        b"/%01index.html",
        b"/dir%09/page.html",
        b"/%",
        b"/%g0",
        b"/%2",
        b"/index.html%",
    ] {
        let response = ask(&server.address, "GET", "test", target);
        let shown = String::from_utf8_lossy(target).into_owned();
        assert_keeps(&response, &shown);
        assert!(matches!(response.status, 400 | 404), "{shown}: {}", response.status);
        assert_eq!(response.field("x-injected"), None, "{shown}");
    }
    server.stop();
}

#[test]
fn encoded_slashes_name_no_file() {
    let server = started(guarded());
    for (target, expected) in [
        ("/dir%2fpage.html", 404),
        ("/dir%2Fpage.html", 404),
        ("/dir/%2fpage.html", 404),
        ("/a.php%2fx", 404),
        ("/%2fa.php", 404),
        ("/dir%5cpage.html", 404),
        ("/dir//page.html", 200),
        ("//dir///page.html", 200),
    ] {
        assert_eq!(status(&server, target), expected, "{target}");
    }
    server.stop();
}

#[test]
fn uploads_are_never_run_as_php() {
    let server = started(guarded().allow("found one at byte 13"));
    for target in [
        "/upload/x.jpg/y.php",
        "/upload/x.jpg/.php",
        "/upload/x.jpg%2fy.php",
        "/upload/x.jpg%00.php",
        "/upload/x.jpg/%0ay.php",
        "/upload/x.jpg/y.php/z.php",
        "/upload/none.php",
        "/upload/none.php/x",
        "/index.html/a.php",
        "/a.php.jpg",
        "/a.php.",
        "/cgi-bin/a.php",
    ] {
        let status = status(&server, target);
        assert!(matches!(status, 400 | 403 | 404), "{target}: {status}");
    }
    let response = ask(&server.address, "GET", "test", "/upload/x.php.jpg");
    assert_eq!(response.field("content-type"), Some("image/jpeg"));
    assert!(
        response.text().contains("<?php"),
        "a name with .php inside is a picture"
    );
    // PATH_INFO does not lead to another script.
    let response = ask(&server.address, "GET", "test", "/a.php/upload/x.jpg");
    assert_eq!(response.text(), "ran /a.php");
    server.stop();
}

#[test]
fn no_trick_with_an_ending_shows_a_source() {
    let server = started(guarded());
    for target in [
        "/a.php.",
        "/a.php..",
        "/a.php%20",
        "/a.php%20%20.",
        "/a.php+",
        "/a.php::$DATA",
        "/a.php:$DATA",
        "/a.php::$data",
        "/a.php%5c",
        "/a.php\\",
        "/a.php~",
        "/a.php.bak",
        "/a.php.old",
        "/a.php.swp",
        "/.a.php.swp",
        "/%23a.php%23",
        "/a.php.save",
        "/a.php.gz",
        "/a.phps",
        "/a.inc",
        "/A.PHP",
        "/b.PHP5",
        "/b.php5",
        "/a.php%c2%a0",
        "/a.ph%70.",
        "/a%2ephp%2e",
        "/.git/config",
        "/.git/HEAD",
        "/.GIT/config",
        "/%2egit/config",
        "/.git%2fconfig",
        "/.git/./config",
        "//.git/config",
        "/dir/.hidden/page.html",
        "/.svn/entries",
        "/.htaccess",
        "/.htpasswd",
        "/.env",
        "/.env/",
        "/library.pm",
        "/not-executable.py~",
    ] {
        let status = status(&server, target);
        assert!(matches!(status, 400 | 404), "{target}: {status}");
    }
    // The log says which request was refused, and why.
    server.wait_for_log("GET /.htpasswd failed (404): names that begin with a dot are not served");
    server.wait_for_log("GET /a.php~ failed (404): backups and temporary files are not served");
    // The right names in the right spelling run.
    for target in ["/a.php", "/a.ph%70", "/a%2ephp", "/%61.php"] {
        let response = ask(&server.address, "GET", "test", target);
        assert_eq!(
            (response.status, response.text().as_str()),
            (200, "ran /a.php"),
            "{target}"
        );
    }
    // Compressed siblings of scripts are none.
    let response = request(&server.address, "GET", "/a.php", &[("Accept-Encoding", "gzip")], b"");
    assert_eq!(response.text(), "ran /a.php");
    server.stop();
}

#[test]
fn capitals_do_not_turn_a_script_into_text() {
    let setup = guarded();
    page(&setup, "site/B.PHP", PHP);
    script(&setup, "site/C.Sh", SH);
    let server = started(setup);
    for target in ["/B.PHP", "/C.Sh"] {
        let response = ask(&server.address, "GET", "test", target);
        assert_eq!(response.status, 200, "{target}");
        assert!(
            response.text().contains(&format!("SCRIPT_NAME={target}\n")),
            "{target} was not run"
        );
    }
    server.stop();
}

#[test]
fn scripts_that_cannot_run_are_errors_and_not_text() {
    let server = started(guarded().allow("not-executable.py: it is not executable"));
    let response = ask(&server.address, "GET", "test", "/not-executable.py");
    assert_keeps(&response, "/not-executable.py");
    assert!(matches!(response.status, 403 | 500 | 502), "{}", response.status);
    server.wait_for_log("not-executable.py: it is not executable (chmod +x it)");
    server.stop();
}

#[test]
fn without_php_no_source_is_sent() {
    let setup = guarded().allow("php-cgi");
    std::fs::create_dir(setup.path("bin")).expect("an empty directory");
    let bin = setup.path_text("bin");
    let server = started(setup.env("PATH", &bin));
    for target in ["/a.php", "/a.php/x", "/a.PHP"] {
        let response = ask(&server.address, "GET", "test", target);
        assert_keeps(&response, target);
        assert_eq!(response.status, if target == "/a.PHP" { 404 } else { 500 }, "{target}");
    }
    assert!(server.log().contains("apt install php-cgi"), "{}", server.log());
    server.stop();
}

#[test]
fn fields_of_clients_become_no_other_variables() {
    let setup = guarded();
    script(
        &setup,
        "site/env.sh",
        "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'\nenv\n",
    );
    page(
        &setup,
        "site/env.php",
        "<?php header('Content-Type: text/plain'); foreach ($_SERVER as $k => $v) if (is_string($v)) echo \"$k=$v\\n\";\n\
         echo 'getenv=', getenv('HTTP_PROXY'), \"\\n\";",
    );
    let server = started(setup);
    for target in ["/env.sh", "/env.php"] {
        let fields = [
            ("Proxy", "evil:1"),
            ("proxy", "evil:2"),
            ("PROXY", "evil:3"),
            ("X_Forwarded_User", "evil"),
            ("Remote_User", "evil"),
            ("Content_Length", "7"),
            ("X-Good", "good"),
            ("X_Good", "evil"),
        ];
        let response = request(&server.address, "GET", target, &fields, b"");
        assert_eq!(response.status, 200, "{}", server.log());
        let text = response.text();
        assert!(!text.contains("evil"), "{target}:\n{text}");
        assert!(text.contains("HTTP_X_GOOD=good\n"), "{target}:\n{text}");
        assert!(
            !text.contains("HTTP_PROXY=") && !text.contains("CONTENT_LENGTH="),
            "{target}:\n{text}"
        );
    }
    server.stop();
}

#[test]
fn links_out_of_the_root_are_followed_as_configured() {
    let setup = guarded();
    page(&setup, "site/real.html", "real\n");
    page(&setup, "other/page.html", format!("{SECRET}\n"));
    let link = |to: &str, name: &str| symlink(to, setup.path(name)).expect("a link");
    link("real.html", "site/inside.html");
    link(&setup.path_text("site/real.html"), "site/absolute.html");
    link("../secret.txt", "site/out.html");
    link("../other", "site/outdir");
    link("/etc/passwd", "site/passwd.html");
    link("/proc/self/environ", "site/environ.html");
    link("/dev/zero", "site/zero.html");
    link("loop.html", "site/loop.html");
    link(".git/config", "site/config.html");
    link("missing", "site/dangling.html");
    let site = setup.path_text("site");
    let sites: String = ["inside", "owner", "follow"]
        .map(|policy| {
            format!(
                "[[site]]\nhosts = ['{policy}.example']\nroot = {}\nsymlinks = '{policy}'\n",
                quoted(&site)
            )
        })
        .concat();
    let server = setup.tables(&sites).start();
    let get = |policy: &str, target: &str| ask(&server.address, "GET", &format!("{policy}.example"), target);
    for policy in ["inside", "owner", "follow"] {
        for target in ["/inside.html", "/absolute.html"] {
            assert_eq!(get(policy, target).text(), "real\n", "{policy} {target}");
        }
        for (target, statuses) in [
            ("/zero.html", [403, 404]),
            ("/loop.html", [403, 403]),
            ("/dangling.html", [404, 404]),
        ] {
            let response = get(policy, target);
            assert!(
                statuses.contains(&response.status),
                "{policy} {target}: {}",
                response.status
            );
        }
    }
    for target in ["/out.html", "/outdir/page.html", "/passwd.html", "/environ.html"] {
        let response = get("inside", target);
        assert_eq!(response.status, 403, "{target}");
        assert_keeps(&response, target);
    }
    // Whoever says `follow` means it; but files of /proc have no length, and nothing of them is sent.
    assert!(get("follow", "/environ.html").body.len() < 100);
    assert!(matches!(get("owner", "/environ.html").status, 403));
    // The link and what it leads to have the same owner here.
    assert!(get("owner", "/outdir/page.html").text().contains(SECRET));
    assert!(get("follow", "/outdir/page.html").text().contains(SECRET));
    assert!(
        server.log().contains("a symbolic link leads out of the root"),
        "{}",
        server.log()
    );
    let mark = server.log().len();
    assert_eq!(get("inside", "/loop.html").status, 403);
    let line = server.wait_for_log_after(mark, "/loop.html");
    assert!(line.contains("a loop of symbolic links"), "{line}");
    server.stop();
}

#[test]
fn files_and_directories_that_may_not_be_read_are_forbidden() {
    // Root reads everything, so the front is somebody else.
    assert!(
        nix::unistd::geteuid().is_root(),
        "only root can start a server that changes to another user"
    );
    let setup = guarded();
    page(&setup, "site/closed.html", format!("{SECRET}\n"));
    page(&setup, "site/closed/page.html", format!("{SECRET}\n"));
    let mode = |name: &str, mode| {
        std::fs::set_permissions(setup.path(name), std::fs::Permissions::from_mode(mode)).expect("a mode");
    };
    mode("", 0o755);
    mode("site/closed.html", 0o600);
    mode("site/closed", 0o700);
    mode("spool", 0o777);
    let site = setup.path_text("site");
    let setup = setup.with_text("user", "nobody").with_text("root", &site);
    let server = setup.start();
    for target in ["/closed.html", "/closed/page.html", "/closed", "/closed/"] {
        let status = status(&server, target);
        assert!(matches!(status, 301 | 403), "{target}: {status}");
    }
    assert_eq!(ask(&server.address, "GET", "test", "/index.html").text(), "front\n");
    server.stop();
}

#[test]
fn slashes_and_dots_lead_past_no_route() {
    let setup = Setup::new();
    script(
        &setup,
        "site/cgi-bin/report",
        format!("#!/bin/sh\n# {SECRET}\nprintf 'Content-Type: text/plain\\n\\nran\\n'\n"),
    );
    page(
        &setup,
        "site/cgi-bin/not-executable",
        format!("#!/bin/sh\n# {SECRET}\n"),
    );
    page(&setup, "site/private/secret.txt", SECRET);
    page(&setup, "site/private/a.php", format!("<?php echo '{SECRET}';"));
    let root = quoted(&setup.path_text("site"));
    // One site with nothing but a root, and one with routes.
    let tables = format!(
        "[pool.php]\nexec = ['php-cgi']\n[pool.cgi]\nprotocol = 'cgi'\n\
         [[site]]\nroot = {root}\n\
         [[site.route]]\npath = '/private'\nrefuse = 403\n\
         [[site.route]]\npath = '/cgi-bin/'\npool = 'cgi'\n\
         [[site.route]]\nsuffix = '.php'\npool = 'php'\n\
         [[site.route]]\nstatic = true\n"
    );
    let plain = Setup::new().allow("not-executable");
    script(
        &plain,
        "site/cgi-bin/report",
        format!("#!/bin/sh\n# {SECRET}\nprintf 'Content-Type: text/plain\\n\\nran\\n'\n"),
    );
    page(
        &plain,
        "site/cgi-bin/not-executable",
        format!("#!/bin/sh\n# {SECRET}\n"),
    );
    let with_routes = setup.tables(&tables).allow("not-executable").start();
    let with_root = started(plain);
    for server in [&with_root, &with_routes] {
        for target in ["//cgi-bin/report", "/cgi-bin//report", "///cgi-bin///report"] {
            let response = ask(&server.address, "GET", "test", target);
            assert_eq!((response.status, response.text().as_str()), (200, "ran\n"), "{target}");
        }
        for target in ["//cgi-bin/not-executable", "//cgi-bin/report.gz", "/cgi-bin/./report"] {
            let response = ask(&server.address, "GET", "test", target);
            assert!(response.status >= 400, "{target}: {}", response.status);
            assert!(!response.text().contains(SECRET), "{target}");
        }
    }
    for target in [
        "/private/secret.txt",
        "//private/secret.txt",
        "///private//secret.txt",
        "/private//a.php",
        "//private/a.php",
        "/./private/secret.txt",
        "/x/../private/secret.txt",
        "/%2e/private/secret.txt",
        "/x/%2e%2e/private/secret.txt",
        "/%2Fprivate/secret.txt",
    ] {
        let response = ask(&with_routes.address, "GET", "test", target);
        assert_eq!(response.status, 403, "{target}");
        assert!(!response.text().contains(SECRET), "{target}");
    }
    with_root.stop();
    with_routes.stop();
}

#[test]
fn what_is_never_sent_is_not_run_either() {
    let setup = guarded();
    let body = "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\nran\\n'\n";
    for name in [
        "site/.git/hooks/post.sh",
        "site/.x.sh",
        "site/cgi-bin/report~",
        "site/cgi-bin/.hidden",
        "site/cgi-bin/x.bak",
        "site/cgi-bin/x",
        "site/.well-known/x.sh",
    ] {
        script(&setup, name, body);
    }
    page(&setup, "site/.x.php", "<?php echo 'ran';");
    page(&setup, "site/.d/a.php", "<?php echo 'ran';");
    page(&setup, "site/.d/index.php", "<?php echo 'ran';");
    let server = started(setup);
    for target in [
        "/.git/hooks/post.sh",
        "/.x.sh",
        "/.x.sh/info",
        "/cgi-bin/report~",
        "/cgi-bin/.hidden",
        "/cgi-bin/x.bak",
        "/.x.php",
        "/.d/a.php",
        "/.d/a.php/info",
        "/.d/",
        "/.d",
        "/.git",
        "/.git/",
        "/.git/hooks",
    ] {
        let response = ask(&server.address, "GET", "test", target);
        assert_eq!(response.status, 404, "{target}: {}", response.text());
    }
    for target in ["/cgi-bin/x", "/.well-known/x.sh", "/run.sh/.git/info"] {
        assert_eq!(ask(&server.address, "GET", "test", target).status, 200, "{target}");
    }
    server.stop();
}

#[test]
fn pages_of_errors_are_never_the_source_of_a_script() {
    let setup = guarded().allow("it is a script");
    script(&setup, "site/cgi-bin/report", format!("#!/bin/sh\n# {SECRET}\n"));
    let root = quoted(&setup.path_text("site"));
    let outside = quoted(&format!("file:{}", setup.path_text("site/a.inc")));
    let tables = format!(
        "[[site]]\nroot = {root}\n\
         pages = {{ 404 = '/a.php', 403 = '/cgi-bin/report', 405 = '/run.sh', 416 = {outside} }}\n"
    );
    page(&setup, "site/empty/x.txt", "x");
    let server = setup.tables(&tables).start();
    for (method, target, status) in [
        ("GET", "/none", 404),
        ("GET", "/empty/", 403),
        ("PUT", "/index.html", 405),
    ] {
        let response = ask(&server.address, method, "test", target);
        assert_eq!(response.status, status, "{target}");
        assert!(!response.text().contains(SECRET), "{target}: {}", response.text());
        assert!(response.text().contains("<h1>"), "{target}: {}", response.text());
    }
    server.wait_for_log("it is a script, and pages are sent as they are");
    server.stop();
}
