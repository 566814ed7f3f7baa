//! What a PHP page finds in `$_SERVER` here, and under nginx with php-fpm, for the same requests to the same files, and
//! what becomes of a page without a header.

use std::collections::{BTreeMap, BTreeSet};

use crate::harness::peers::{nginx_with_php, php_fpm_with};
use crate::harness::server::quoted;
use crate::harness::tree::page;
use crate::harness::{Address, Client, Response, Setup};

/// Prints everything, each value on one line.
const PAGE: &str = "<?php header('Content-Type: text/plain');\n\
    foreach ($_SERVER as $name => $value) echo $name, '=', rawurlencode(is_array($value) ? json_encode($value) : $value), \"\\n\";\n\
    echo 'php://input=', rawurlencode(file_get_contents('php://input')), \"\\n\";\n\
    echo '$_POST=', rawurlencode(json_encode($_POST)), \"\\n\";\n";

/// Names whose values differ for a reason, or that only one side has.
const EXCEPTIONS: &[(&str, &str)] = &[
    ("SERVER_SOFTWARE", "each side names itself"),
    ("SERVER_PORT", "each side listens on a port of its own"),
    ("REMOTE_PORT", "each request has a connection of its own"),
    ("REQUEST_TIME", "they are asked one after the other"),
    ("REQUEST_TIME_FLOAT", "they are asked one after the other"),
    ("HTTP_X_REQUEST_ID", "ours: the identifier that the log has too"),
    (
        "PATH",
        "ours: programs that a page starts are found; php-fpm with clear_env has none",
    ),
    ("USER", "php-fpm's own, for the pool's user"),
    ("HOME", "php-fpm's own, for the pool's user"),
    (
        "PHP_FCGI_CHILDREN",
        "ours, for php-cgi: recycling is the arbiter's work",
    ),
    (
        "PHP_FCGI_MAX_REQUESTS",
        "ours, for php-cgi: recycling is the arbiter's work",
    ),
    (
        "DOCUMENT_URI",
        "nginx's try_files takes PATH_INFO from it; without try_files it is the whole path, as ours",
    ),
    (
        "PATH_TRANSLATED",
        "ours, as RFC 3875 4.1.6 asks; nginx has no such parameter",
    ),
    (
        "RAW_URI",
        "ours, for absolute targets: REQUEST_URI is without scheme and host on both sides",
    ),
    (
        "REMOTE_USER",
        "nginx takes it from Authorization, though nobody has checked that; PHP_AUTH_USER says the same",
    ),
    (
        "HTTP_CONTENT_TYPE",
        "nginx says it twice; RFC 3875 4.1.18 wants CONTENT_TYPE only",
    ),
    (
        "HTTP_CONTENT_LENGTH",
        "nginx says it twice; RFC 3875 4.1.18 wants CONTENT_LENGTH only",
    ),
    (
        "HTTP_TRANSFER_ENCODING",
        "the body comes with its length, no longer in chunks",
    ),
];

/// What nginx's `fastcgi.conf` sends empty for requests without a body, and RFC 3875 wants left out then.
const EMPTY_IS_UNSET: &[&str] = &["CONTENT_TYPE", "CONTENT_LENGTH"];

type Variables = BTreeMap<String, String>;

fn variables(response: &Response, what: &str) -> Variables {
    assert_eq!(response.status, 200, "{what}: {}", response.text());
    let text = response.text();
    let mut found: Variables = text
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    for (name, _) in EXCEPTIONS {
        found.remove(*name);
    }
    for name in EMPTY_IS_UNSET {
        if found.get(*name).is_some_and(String::is_empty) {
            found.remove(*name);
        }
    }
    assert!(found.len() > 15, "{what}: {text}");
    found
}

fn ask(address: &Address, head: &str, body: &str) -> Response {
    let mut client = Client::connect(address);
    client.send(format!("{head}\r\nHost: test\r\nConnection: close\r\n\r\n{body}"));
    client.response(head.split(' ').next().unwrap_or_default())
}

#[test]
fn every_variable_is_the_same_as_under_nginx_with_php_fpm() {
    let setup = Setup::new();
    for name in [
        "index.php",
        "page.php",
        "dir/index.php",
        "dir/a b.php",
        "x.php.d/y.php",
        "caf\u{e9}/\u{fc}.php",
    ] {
        page(&setup, &format!("site/{name}"), PAGE);
    }
    let site = setup.path("site");
    let fpm = php_fpm_with("");
    let nginx = nginx_with_php(&site, &fpm);
    let tables = format!(
        "[pool.php]\nexec = ['php-cgi']\nworkers = 2\n[[site]]\nhosts = ['test']\nroot = {}\n\
         index = ['index.php', 'index.html']\n[[site.route]]\nsuffix = '.php'\npool = 'php'\n\
         [[site.route]]\nstatic = true\nfallback = '/index.php'\n",
        quoted(&site.to_string_lossy())
    );
    let server = setup.tables(&tables).start();
    let form = "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 11";
    let mut differences = BTreeSet::new();
    for (head, body) in [
        ("GET /page.php HTTP/1.1", ""),
        ("GET /page.php?a=b&c=%20d+e HTTP/1.1", ""),
        ("GET /page.php? HTTP/1.1", ""),
        ("GET /page.php?word HTTP/1.1", ""),
        ("GET /page.php/path/info HTTP/1.1", ""),
        ("GET /page.php/ HTTP/1.1", ""),
        ("GET /page.php/a%20b/%C3%A9?x=/y HTTP/1.1", ""),
        ("GET / HTTP/1.1", ""),
        ("GET /?q=1 HTTP/1.1", ""),
        ("GET /dir/ HTTP/1.1", ""),
        ("GET /dir/a%20b.php HTTP/1.1", ""),
        ("GET /dir/%61%20b.php/more HTTP/1.1", ""),
        ("GET /caf%C3%A9/%C3%BC.php HTTP/1.1", ""),
        ("GET /x.php.d/y.php/z HTTP/1.1", ""),
        ("GET //dir///index.php HTTP/1.1", ""),
        ("GET /page.php//a///b/ HTTP/1.1", ""),
        ("GET /a/front/controller?page=2 HTTP/1.1", ""),
        ("GET http://test/page.php?absolute HTTP/1.1", ""),
        ("GET /page.php HTTP/1.0", ""),
        ("DELETE /page.php/1 HTTP/1.1", ""),
        (&format!("POST /page.php?get=1 HTTP/1.1\r\n{form}"), "a=1&b=two+2"),
        (&format!("POST /a/front/controller HTTP/1.1\r\n{form}"), "a=1&b=two+2"),
        (
            "PUT /page.php HTTP/1.1\r\nTransfer-Encoding: chunked",
            "5\r\nhello\r\n0\r\n\r\n",
        ),
        ("POST /page.php HTTP/1.1\r\nContent-Length: 0", ""),
        (
            "GET /page.php HTTP/1.1\r\nCookie: a=1; b=2\r\nAuthorization: Basic dXNlcjpwYXNz\r\nX-Own-Field: va lue \r\n\
             Accept: */*\r\nAccept-Language: de, en;q=0.5\r\nUser-Agent: test/1 (x; y)\r\nReferer: http://test/?a=b\r\n\
             X-Forwarded-For: 1.2.3.4\r\nX_Under: 1\r\nX.Own.Field: 1\r\nX-Empty:\r\nIf-None-Match: \"x\"\r\nX-Latin: caf\u{e9}\r\n\
             Range: bytes=0-1\r\nExpect-CT: x\r\nX-Http-Method-Override: PUT\r\nTE: trailers\r\nUpgrade-Insecure-Requests: 1",
            "",
        ),
    ] {
        let theirs = variables(&ask(&nginx.address, head, body), head);
        let ours = variables(&ask(&server.address, head, body), head);
        let names: BTreeSet<&String> = theirs.keys().chain(ours.keys()).collect();
        for name in names {
            let (theirs, ours) = (theirs.get(name), ours.get(name));
            if theirs != ours {
                differences.insert(format!("{head}: {name}: nginx {theirs:?}, ours {ours:?}"));
            }
        }
    }
    let told: Vec<String> = differences.into_iter().collect();
    assert!(told.is_empty(), "{}", told.join("\n"));
    server.stop();
}

#[test]
fn a_page_without_a_type_is_answered_as_by_nginx() {
    let setup = Setup::new();
    for (name, fields) in [
        ("none", ""),
        ("one", "header('X-A: 1');"),
        ("status", "http_response_code(404);"),
    ] {
        let text = format!("<?php ini_set('default_mimetype', ''); header_remove(); {fields} echo 'body';");
        page(&setup, &format!("site/{name}.php"), text);
    }
    let site = setup.path("site");
    let fpm = php_fpm_with("");
    let nginx = nginx_with_php(&site, &fpm);
    let root = quoted(&site.to_string_lossy());
    let tables = format!("[pool.php]\nexec = ['php-cgi']\nworkers = 1\n[[site]]\nroot = {root}\npool = 'php'\n");
    let server = setup.tables(&tables).start();
    for (name, status) in [("none", 200), ("one", 200), ("status", 404)] {
        let head = format!("GET /{name}.php HTTP/1.1");
        let [theirs, ours] = [&nginx.address, &server.address].map(|address| {
            let response = ask(address, &head, "");
            let fields = ["content-type", "x-a"].map(|name| response.field(name).map(str::to_owned));
            (response.status, fields, response.text())
        });
        assert_eq!(ours, theirs, "{name}");
        assert_eq!((ours.0, ours.2.as_str()), (status, "body"), "{name}");
    }
    server.stop();
}
