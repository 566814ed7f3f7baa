//! Raw requests and what the app sees of them; responses of the app and what the client sees of those.

use super::{Seen, compare, note};
use crate::harness::Client;
use crate::harness::contest::{Contest, Contestant};

/// Names of `environ` that differ on purpose.
const OWN_NAMES: &[&str] = &[
    // The socket of the client is in another process.
    "gunicorn.socket",
    // Objects of the server's own types.
    "wsgi.errors",
    "wsgi.input",
    "wsgi.file_wrapper",
    "wsgi.early_hints",
    "REMOTE_PORT",
    // The front gives every request an identifier, which also stands in its log lines.
    "HTTP_X_REQUEST_ID",
    // A well-known way to turn a request into a proxy setting of the app's own clients.
    "HTTP_PROXY",
];

/// What is compared of a response to `dump`: the status, and `environ` if there is one.
fn note_dump(it: &Contestant, name: &str, raw: &[u8], seen: &mut Seen) {
    let mut client = Client::connect(&it.address);
    client.send(raw);
    let name = format!("{name}: {}", String::from_utf8_lossy(raw).escape_debug());
    let Ok(response) = client.try_response("GET") else {
        note(seen, &name, "no response");
        return;
    };
    note(seen, &name, response.status);
    if response.status == 200 {
        for line in it.plain(&response.text()).lines() {
            if !OWN_NAMES.iter().any(|own| line.starts_with(&format!("{own}="))) {
                note(seen, &name, line);
            }
        }
    }
}

/// Sends every request on a connection of its own to both.
fn compare_dumps(contest: &Contest, requests: &[(&str, &[u8])]) {
    compare(contest, |it| {
        let mut seen = Seen::new();
        it.get("/?200%20OK");
        for (name, raw) in requests {
            note_dump(it, name, raw, &mut seen);
        }
        it.stop(nix::sys::signal::Signal::SIGTERM);
        seen
    });
}

fn dumping(words: &[&str]) -> Contest {
    Contest::new(&[&["-b", "127.0.0.1:0"], words, &["recorder:dump"]].concat())
}

#[test]
fn targets() {
    compare_dumps(
        &dumping(&[]),
        &[
            ("plain", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
            ("query", b"GET /a/b?c=d&e=%20f HTTP/1.1\r\nHost: x\r\n\r\n"),
            // %00 is refused by us: http_rules shows it.
            ("encoded", b"GET /%C3%BC%2Fa%01b%zz;p=1 HTTP/1.1\r\nHost: x\r\n\r\n"),
            ("slashes", b"GET //a//b/../c/. HTTP/1.1\r\nHost: x\r\n\r\n"),
            ("fragment", b"GET /a?b#c HTTP/1.1\r\nHost: x\r\n\r\n"),
            // Where Host differs, we believe the target, as RFC 9112 §3.2.2 demands.
            ("absolute", b"GET http://x/a?b HTTP/1.1\r\nHost: x\r\n\r\n"),
            ("star", b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n"),
            ("version 1.0", b"GET /a HTTP/1.0\r\n\r\n"),
            ("question marks", b"GET /a??b?c HTTP/1.1\r\nHost: x\r\n\r\n"),
        ],
    );
}

#[test]
fn fields() {
    compare_dumps(
        &dumping(&[]),
        &[
            (
                "many",
                b"GET / HTTP/1.1\r\nHost: x:80\r\nAccept:  a b \r\nX-One: 1\r\nx-one: 2\r\nX-Empty:\r\nX.Dot!: d\r\n\r\n",
            ),
            ("eight bit", b"GET / HTTP/1.1\r\nHost: x\r\nX-Latin: \xfc\xc3\xbc\r\n\r\n"),
            ("underscore", b"GET / HTTP/1.1\r\nHost: x\r\nX_One: 1\r\nX-Two: 2\r\n\r\n"),
            ("type", b"GET / HTTP/1.1\r\nHost: x\r\nContent-Type: text/x\r\n\r\n"),
            ("one cookie", b"GET / HTTP/1.1\r\nHost: x\r\nCookie: a=b; c=d\r\n\r\n"),
            ("hop by hop", b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close, X-Y\r\nX-Y: 1\r\nTE: trailers\r\n\r\n"),
            // Without Host we refuse HTTP/1.1, as RFC 9112 §3.2 demands.
            ("no host", b"GET / HTTP/1.0\r\n\r\n"),
            ("authorization", b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Basic YTpi\r\n\r\n"),
            ("proxy", b"GET / HTTP/1.1\r\nHost: x\r\nProxy: evil\r\n\r\n"),
        ],
    );
}

#[test]
fn bodies() {
    compare_dumps(
        &dumping(&[]),
        &[
            ("length", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody"),
            ("length 0", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"),
            ("get", b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody"),
            ("none", b"POST / HTTP/1.1\r\nHost: x\r\n\r\n"),
            (
                "expect",
                b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx",
            ),
        ],
    );
}

#[test]
fn trusted_peers() {
    let requests: &[(&str, &[u8])] = &[
        (
            "https",
            b"GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-Proto: https\r\n\r\n",
        ),
        ("http", b"GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-Proto: http\r\n\r\n"),
        ("ssl", b"GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-Ssl: on\r\n\r\n"),
        (
            "contradiction",
            b"GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-Ssl: on\r\nX-Forwarded-Proto: http\r\n\r\n",
        ),
        ("for", b"GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 9.9.9.9\r\n\r\n"),
        (
            "script name",
            b"GET /app/x HTTP/1.1\r\nHost: x\r\nSCRIPT_NAME: /app\r\n\r\n",
        ),
        (
            "path info",
            b"GET /app/x HTTP/1.1\r\nHost: x\r\nPATH_INFO: /other\r\n\r\n",
        ),
        (
            "other underscore",
            b"GET / HTTP/1.1\r\nHost: x\r\nREMOTE_USER: me\r\n\r\n",
        ),
    ];
    for words in [
        &[][..],
        &["--forwarded-allow-ips", "10.0.0.0/8"],
        &["--forwarded-allow-ips", "*", "--forwarder-headers", "*"],
        &["--header-map", "dangerous"],
        &["--header-map", "refuse"],
    ] {
        compare_dumps(&dumping(words), requests);
    }
}

#[test]
fn mounted() {
    let contest = dumping(&[]).env("SCRIPT_NAME", "/app");
    compare_dumps(
        &contest,
        &[
            ("inside", b"GET /app/x?y HTTP/1.1\r\nHost: x\r\n\r\n"),
            ("itself", b"GET /app HTTP/1.1\r\nHost: x\r\n\r\n"),
            ("encoded slash", b"GET /app%2fx%2fy?z HTTP/1.1\r\nHost: x\r\n\r\n"),
            ("upper case", b"GET /app%2F HTTP/1.1\r\nHost: x\r\n\r\n"),
            ("encoded letter", b"GET /ap%70/x HTTP/1.1\r\nHost: x\r\n\r\n"),
            ("outside", b"GET /other HTTP/1.1\r\nHost: x\r\n\r\n"),
        ],
    );
}

#[test]
fn concurrency() {
    for words in [
        &["--workers", "2"][..],
        &["--threads", "2"],
        &["-k", "gevent"],
        &["-b", "127.0.0.1:0", "-b", "127.0.0.1:0"],
    ] {
        compare_dumps(&dumping(words), &[("plain", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")]);
    }
}

#[test]
fn refused() {
    compare_dumps(
        &dumping(&[]),
        &[
            ("no version", b"GET /\r\n\r\n"),
            ("lower case", b"get / HTTP/1.1\r\nHost: x\r\n\r\n"),
            ("no slash", b"GET a HTTP/1.1\r\nHost: x\r\n\r\n"),
            ("space in name", b"GET / HTTP/1.1\r\nHost : x\r\n\r\n"),
            ("no colon", b"GET / HTTP/1.1\r\nHost\r\n\r\n"),
            ("two hosts", b"GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n"),
            (
                "two types",
                b"GET / HTTP/1.1\r\nHost: x\r\nContent-Type: a\r\nContent-Type: a\r\n\r\n",
            ),
            ("folded", b"GET / HTTP/1.1\r\nHost: x\r\nX-A: a\r\n b\r\n\r\n"),
            (
                "two lengths",
                b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
            ),
            (
                "length and chunks",
                b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            ),
            (
                "negative length",
                b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
            ),
            (
                "unknown coding",
                b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: zip\r\n\r\n",
            ),
            (
                "expectation",
                b"POST / HTTP/1.1\r\nHost: x\r\nExpect: more\r\nContent-Length: 1\r\n\r\nx",
            ),
        ],
    );
}

#[test]
fn response_heads() {
    let contest = Contest::new(&["-b", "127.0.0.1:0", "recorder:headers"]);
    compare(&contest, |it| {
        let mut seen = Seen::new();
        it.get("/?200%20OK");
        for query in [
            "200 OK;Content-Type: text/plain;Content-Length: 4",
            "200 OK",
            "404 Not Here;X-A: 1;X-A: 2;Set-Cookie: a=b;Set-Cookie: c=d",
            "302 Found;Location: /x;Content-Length: 4",
            "200 OK;Server: mine;Date: never;Connection: upgrade;Keep-Alive: 1;X-Kept: yes;Content-Length: 4",
            "299 Very Own;X-Latin: %FC;Content-Length: 4",
            "500 Own Error;Content-Length: 4",
        ] {
            let target = format!("/?{}", query.replace(' ', "%20"));
            for version in ["1.0", "1.1"] {
                let mut client = Client::connect(&it.address);
                client.send(format!(
                    "GET {target} HTTP/{version}\r\nHost: x\r\nConnection: close\r\n\r\n"
                ));
                let response = client.response("GET");
                let name = format!("{query} by {version}");
                note(&mut seen, &name, format!("{} {}", response.status, response.reason));
                note(&mut seen, &name, response.text());
                for (key, value) in &response.fields {
                    let own = [
                        "x-request-id",
                        "date",
                        "server",
                        "connection",
                        "transfer-encoding",
                        "content-length",
                    ];
                    // What the server decides; a body in one piece has a length with us, and chunks with Gunicorn.
                    if !own.contains(&key.to_ascii_lowercase().as_str()) {
                        note(&mut seen, &name, format!("{key}: {value}"));
                    }
                }
            }
        }
        it.stop(nix::sys::signal::Signal::SIGTERM);
        seen
    });
}
