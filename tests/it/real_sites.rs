//! Other people's scripts and applications, as Debian ships them: git over HTTP, gitweb, cgit, DokuWiki; and nginx in
//! front of a site.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::harness::apps::run;
use crate::harness::peers::nginx;
use crate::harness::server::quoted;
use crate::harness::tree::{ask, image, legacy_site, put};
use crate::harness::{Address, Client, Response, Server, Setup, request};

/// git with nothing of this machine's configuration, in a directory.
fn git(dir: &Path) -> Command {
    let mut command = Command::new("git");
    command
        .current_dir(dir)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1");
    command.env("GIT_TERMINAL_PROMPT", "0").env("HOME", dir);
    for name in ["AUTHOR", "COMMITTER"] {
        command
            .env(format!("GIT_{name}_NAME"), "Test")
            .env(format!("GIT_{name}_EMAIL"), "test@example.org");
    }
    command
}

/// Where git keeps git-http-backend.
fn backend() -> String {
    let output = Command::new("git")
        .arg("--exec-path")
        .output()
        .expect("git; scripts/test installs it");
    format!("{}/git-http-backend", String::from_utf8_lossy(&output.stdout).trim())
}

fn installed(path: &str) -> &str {
    assert!(
        Path::new(path).exists(),
        "{path} is not there; scripts/test installs what the tests need"
    );
    path
}

/// A bare repository `repos/one.git` with a commit, served below /git/, /gitweb/ and /cgit/.
fn git_site(workers: &str) -> Setup {
    let setup = Setup::new();
    let repos = setup.path("repos");
    fs::create_dir_all(&repos).expect("a directory");
    run(git(&repos).args(["init", "--quiet", "--bare", "--initial-branch=main", "one.git"]));
    run(git(&repos.join("one.git")).args(["config", "http.receivepack", "true"]));
    fs::write(repos.join("one.git/description"), "The one repository\n").expect("a description");
    let work = setup.path("work");
    run(git(&repos).args(["clone", "--quiet", "one.git"]).arg(&work));
    fs::write(work.join("README"), "what the tests wrote\n").expect("a file");
    commit(&work, "the first commit");
    run(git(&work).args(["push", "--quiet", "origin", "HEAD:main"]));
    let place = repos.to_string_lossy().into_owned();
    put(
        &setup.path("gitweb.conf"),
        format!("our $projectroot = '{place}';\nour $site_name = 'tests';\n"),
        0o644,
    );
    put(
        &setup.path("cgitrc"),
        format!(
            "virtual-root=/cgit/\ncache-size=0\nrepo.url=one\nrepo.path={place}/one.git\nrepo.desc=The one repository\n"
        ),
        0o644,
    );
    let tables = format!(
        "[pool.git]\nexec = [{}]\nprotocol = 'cgi'\nworkers = {workers}\ntimeout = '60s'\n\
         env = {{ GIT_PROJECT_ROOT = {}, GIT_HTTP_EXPORT_ALL = '1', GIT_CONFIG_NOSYSTEM = '1' }}\n\
         [pool.gitweb]\nexec = [{}]\nprotocol = 'cgi'\nenv = {{ GITWEB_CONFIG = {} }}\n\
         [pool.cgit]\nexec = [{}]\nprotocol = 'cgi'\nenv = {{ CGIT_CONFIG = {} }}\n\
         [[site]]\n\
         [[site.route]]\npath = '/git/'\npool = 'git'\nscript_name = '/git'\n\
         [[site.route]]\npath = '/gitweb/'\npool = 'gitweb'\nscript_name = '/gitweb'\n\
         [[site.route]]\npath = '/cgit/'\npool = 'cgit'\nscript_name = '/cgit'\n",
        quoted(&backend()),
        quoted(&place),
        quoted(installed("/usr/share/gitweb/gitweb.cgi")),
        quoted(&setup.path_text("gitweb.conf")),
        quoted(installed("/usr/lib/cgit/cgit.cgi")),
        quoted(&setup.path_text("cgitrc")),
    );
    setup.tables(&tables)
}

fn commit(work: &Path, message: &str) {
    run(git(work).args(["add", "--all"]));
    run(git(work).args(["commit", "--quiet", "--allow-empty", "--message", message]));
}

fn url(server: &Server, path: &str) -> String {
    match &server.address {
        Address::Tcp(address) => format!("http://{address}{path}"),
        Address::Unix(path) => panic!("git needs a port, not {}", path.display()),
    }
}

/// Bytes that do not compress, the same each time.
fn noise(length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(7);
    std::iter::repeat_with(|| random.u8(..)).take(length).collect()
}

#[test]
fn git_clones_pushes_50_megabytes_and_fetches_with_compressed_bodies() {
    let server = git_site("4").start();
    let (clone, other) = (server.path("clone"), server.path("other"));
    let repository = url(&server, "/git/one.git");
    for dir in [&clone, &other] {
        run(git(&server.path("")).args(["clone", "--quiet", &repository]).arg(dir));
    }
    assert_eq!(
        fs::read_to_string(clone.join("README")).expect("a file"),
        "what the tests wrote\n"
    );

    // More than http.postBuffer: it is sent in chunks, without a length.
    let bytes = noise(50_000_000);
    fs::write(clone.join("big.bin"), &bytes).expect("a file");
    commit(&clone, "50 MB");
    run(git(&clone).args(["push", "--quiet", "origin", "HEAD:main"]));
    let output = git(&server.path("repos/one.git"))
        .args(["rev-parse", "main"])
        .output()
        .expect("git");
    let head = git(&clone).args(["rev-parse", "HEAD"]).output().expect("git");
    assert_eq!(output.stdout, head.stdout, "{}", server.log());

    // Many commits that the server does not know: what a fetch tells of them is sent compressed.
    for number in 0..80 {
        commit(&other, &format!("commit {number}"));
    }
    let trace = server.path("trace");
    let mut fetch = git(&other);
    fetch.env("GIT_TRACE_CURL", &trace).env("GIT_TRACE_CURL_NO_DATA", "1");
    run(fetch.args(["-c", "protocol.version=0", "fetch", "--quiet", "origin"]));
    let told = fs::read_to_string(&trace).expect("git's trace");
    assert!(told.to_lowercase().contains("content-encoding: gzip"), "{told}");
    run(git(&other).args(["checkout", "--quiet", "origin/main"]));
    assert!(fs::read(other.join("big.bin")).expect("a file") == bytes);
    // A repository that is not there, and one outside, which git itself refuses with 500.
    for name in [
        "/git/none.git/info/refs?service=git-upload-pack",
        "/git/../repos/one.git/HEAD",
    ] {
        let status = server.get(name).status;
        assert!(matches!(status, 403 | 404 | 500), "{name}: {status}");
    }
    server.stop();
}

#[test]
fn compressed_bodies_in_chunks_reach_git() {
    let server = git_site("2").start();
    // What `git clone` would ask, by hand: compressed, and in chunks.
    let head = git(&server.path("work"))
        .args(["rev-parse", "HEAD"])
        .output()
        .expect("git")
        .stdout;
    let head = String::from_utf8_lossy(&head).trim().to_owned();
    let line = format!("want {head}\n");
    let text = format!("{:04x}{line}00000009done\n", line.len() + 4);
    let mut gzip = Command::new("gzip");
    put(&server.path("body"), &text, 0o644);
    run(gzip.arg("--keep").arg(server.path("body")));
    let body = fs::read(server.path("body.gz")).expect("a file");
    let mut client = server.connect();
    client.send(
        "POST /git/one.git/git-upload-pack HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\
         Content-Encoding: gzip\r\nContent-Type: application/x-git-upload-pack-request\r\n\r\n",
    );
    for byte in body {
        client.send([b"1\r\n".as_slice(), &[byte], b"\r\n"].concat());
    }
    client.send("0\r\n\r\n");
    let response = client.response("POST");
    assert_eq!(response.status, 200, "{}", server.log());
    assert_eq!(
        response.field("content-type"),
        Some("application/x-git-upload-pack-result")
    );
    assert!(
        response.body.windows(4).any(|part| part == b"PACK"),
        "{}",
        response.text()
    );
    server.stop();
}

#[test]
fn gitweb_and_cgit_show_a_repository() {
    let server = git_site("2").start();
    for (target, expected) in [
        ("/gitweb/", "The one repository"),
        ("/gitweb/?p=one.git;a=summary", "the first commit"),
        (
            "/gitweb/?p=one.git;a=blob_plain;f=README;hb=main",
            "what the tests wrote",
        ),
        ("/cgit/", "The one repository"),
        ("/cgit/one/", "the first commit"),
        ("/cgit/one/tree/README", "what the tests wrote"),
        ("/cgit/one/plain/README", "what the tests wrote"),
        ("/cgit/one/log/?qt=grep&q=first", "the first commit"),
    ] {
        let response = server.get(target);
        assert_eq!(response.status, 200, "{target}: {}\n{}", response.text(), server.log());
        assert!(response.text().contains(expected), "{target}:\n{}", response.text());
    }
    assert_eq!(server.get("/gitweb/?p=none.git").status, 404);
    assert_eq!(server.get("/cgit/one/plain/none").status, 404);
    server.stop();
}

/// DokuWiki of the Debian package, copied, with data of its own; anybody may edit.
fn dokuwiki() -> Setup {
    let setup = Setup::new();
    let source = installed("/usr/share/dokuwiki");
    run(Command::new("cp")
        .args(["--recursive", "--dereference", source])
        .arg(setup.path("site")));
    let (conf, data) = (setup.path("conf"), setup.path("data"));
    run(Command::new("cp").args(["--recursive", "/etc/dokuwiki"]).arg(&conf));
    let links = fs::read_dir(&conf).expect("its configuration").flatten();
    for link in links.filter(|entry| entry.path().is_symlink()) {
        let _ = fs::remove_file(link.path());
    }
    for name in [
        "attic",
        "cache",
        "index",
        "locks",
        "log",
        "media",
        "media_attic",
        "media_meta",
        "meta",
        "pages",
        "tmp",
    ] {
        fs::create_dir_all(data.join(name)).expect("a directory");
    }
    put(
        &conf.join("local.php"),
        format!(
            "<?php\n$conf['title'] = 'Wiki of the tests';\n$conf['useacl'] = 0;\n$conf['userewrite'] = 2;\n$conf['savedir'] = '{}';\n",
            data.display()
        ),
        0o644,
    );
    put(
        &setup.path("site/inc/preload.php"),
        format!(
            "<?php\ndefine('DOKU_MAIN_CONF', '{0}/');\ndefine('DOKU_CONF', '{0}/');\n",
            conf.display()
        ),
        0o644,
    );
    let _ = fs::remove_file(setup.path("site/install.php"));
    setup
}

/// The value of a form's hidden field.
fn hidden(page: &str, name: &str) -> String {
    let place = page
        .find(&format!("name=\"{name}\""))
        .unwrap_or_else(|| panic!("no field {name} in\n{page}"));
    let start = page[..place].rfind('<').unwrap_or(0);
    let tag = &page[start..start + page[start..].find('>').unwrap_or(0)];
    let value = tag.split("value=\"").nth(1).unwrap_or_default();
    value.split('"').next().unwrap_or_default().to_owned()
}

/// A browser that keeps cookies.
struct Browser<'a> {
    server: &'a Server,
    cookies: Vec<String>,
}

impl Browser<'_> {
    fn send(&mut self, method: &str, target: &str, kind: &str, body: &[u8]) -> Response {
        let cookies = self.cookies.join("; ");
        let fields = [
            ("Cookie", cookies.as_str()),
            ("Content-Type", kind),
            ("User-Agent", "tests"),
        ];
        let fields = if body.is_empty() { &fields[..1] } else { &fields[..] };
        let response = request(&self.server.address, method, target, fields, body);
        for (_, value) in response
            .fields
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie"))
        {
            let pair = value.split(';').next().unwrap_or_default().to_owned();
            let name = pair.split('=').next().unwrap_or_default().to_owned();
            self.cookies.retain(|cookie| !cookie.starts_with(&format!("{name}=")));
            self.cookies.push(pair);
        }
        response
    }

    fn get(&mut self, target: &str) -> Response {
        self.send("GET", target, "", b"")
    }
}

#[test]
fn a_page_of_dokuwiki_is_edited_and_a_file_uploaded() {
    let setup = dokuwiki();
    let site = setup.path_text("site");
    // PHP's notices of an older application go to the log.
    let server = setup.arg("--root").arg(&site).start();
    let mut browser = Browser {
        server: &server,
        cookies: Vec::new(),
    };
    let page = browser.get("/doku.php?id=start");
    assert!(
        page.status == 200 && page.text().contains("Wiki of the tests"),
        "{}: {}\n{}",
        page.status,
        page.text(),
        server.log()
    );
    let style = browser.get("/lib/exe/css.php?t=dokuwiki");
    assert_eq!(style.status, 200);
    assert!(
        style
            .field("content-type")
            .is_some_and(|kind| kind.starts_with("text/css")),
        "{style:?}"
    );

    let form = browser.get("/doku.php?id=start&do=edit").text();
    let fields = ["sectok", "changecheck", "rev", "date", "prefix", "suffix", "target"]
        .into_iter()
        .filter(|name| form.contains(&format!("name=\"{name}\"")))
        .map(|name| format!("{name}={}&", hidden(&form, name)))
        .collect::<String>();
    let body = format!(
        "{fields}id=start&wikitext=%3D%3D%3D%3D%3D%3DHello%3D%3D%3D%3D%3D%3D%0Awritten+by+a+test&do%5Bsave%5D=1&summary=test"
    );
    let saved = browser.send(
        "POST",
        "/doku.php?id=start",
        "application/x-www-form-urlencoded",
        body.as_bytes(),
    );
    assert!(matches!(saved.status, 200 | 302), "{}: {}", saved.status, saved.text());
    let page = browser.get("/doku.php?id=start").text();
    assert!(page.contains("written by a test"), "{page}");
    // PATH_INFO names the page too.
    let page = browser.get("/doku.php/start");
    assert!(page.text().contains("written by a test"), "{}", page.text());

    let picture = image();
    let token = hidden(&browser.get("/doku.php?id=start&do=edit").text(), "sectok");
    let target = format!("/lib/exe/ajax.php?call=mediaupload&ns=&sectok={token}");
    let mut body = Vec::new();
    for (name, value) in [
        ("sectok", token.as_str()),
        ("ns", ""),
        ("mediaid", "logo.zip"),
        ("ow", "1"),
    ] {
        body.extend_from_slice(
            format!("--BOUND\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n").as_bytes(),
        );
    }
    body.extend_from_slice(
        b"--BOUND\r\nContent-Disposition: form-data; name=\"qqfile\"; filename=\"logo.zip\"\r\nContent-Type: application/zip\r\n\r\n",
    );
    body.extend_from_slice(&picture);
    body.extend_from_slice(b"\r\n--BOUND--\r\n");
    let uploaded = browser.send("POST", &target, "multipart/form-data; boundary=BOUND", &body);
    assert!(
        uploaded.text().contains("\"success\":true"),
        "{}: {}",
        uploaded.status,
        uploaded.text()
    );
    let fetched = browser.get("/lib/exe/fetch.php?media=logo.zip");
    assert_eq!(fetched.status, 200);
    assert!(fetched.body == picture, "{} bytes came back", fetched.body.len());

    // The wiki's own files are not for everybody.
    for target in ["/inc/init.php~", "/.htaccess", "/lib/.htaccess", "/VERSION.bak"] {
        assert_eq!(browser.get(target).status, 404, "{target}");
    }
    server.stop();
}

#[test]
fn a_legacy_site_answers_the_same_through_nginx() {
    let setup = Setup::new();
    legacy_site(&setup);
    let site = setup.path_text("site");
    let server = setup.on_unix_socket().arg("--root").arg(&site).start();
    let Address::Unix(socket) = &server.address else {
        panic!("no unix socket")
    };
    let front = nginx(socket);
    for target in [
        "/",
        "/index.html",
        "/logo.png",
        "/hello.php/a?b=c",
        "/hello.sh",
        "/hello.cgi?x",
        "/missing",
    ] {
        let through = ask(&front.address, "GET", "test", target);
        let direct = ask(&server.address, "GET", "test", target);
        assert_eq!((through.status, through.body), (direct.status, direct.body), "{target}");
    }
    let mut client = Client::connect(&front.address);
    for name in ["hello.php", "hello.py", "hello.rb", "hello.pl"] {
        let body = vec![b'x'; 1_000_000];
        client.send(format!(
            "POST /{name} HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n",
            body.len()
        ));
        client.send(&body);
        let response = client.response("POST");
        assert!(response.status == 200 && response.body.ends_with(&body), "{name}");
    }
    let response = request(&front.address, "GET", "/logo.png", &[("Range", "bytes=0-7")], b"");
    assert_eq!(
        (response.status, response.body.as_slice()),
        (206, &b"\x89PNG\r\n\x1a\n"[..])
    );
    server.stop();
}
