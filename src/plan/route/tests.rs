use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Files by their paths; directories are what stands before a slash.
#[derive(Default)]
struct Files(BTreeMap<Vec<u8>, Look>);

impl Files {
    fn new(files: &[&str]) -> Self {
        Self(
            files
                .iter()
                .map(|path| (path.as_bytes().to_vec(), Look::File))
                .collect(),
        )
    }

    fn with(mut self, path: &str, look: Look) -> Self {
        self.0.insert(path.as_bytes().to_vec(), look);
        self
    }
}

impl Tree for Files {
    fn look(&mut self, path: &[u8]) -> Look {
        assert!(!path.starts_with(b"/"), "{}", path.escape_ascii());
        for segment in path.split(|byte| *byte == b'/') {
            let is_whole = path.is_empty() || !segment.is_empty();
            assert!(
                is_whole && segment != b"." && segment != b"..",
                "{}",
                path.escape_ascii()
            );
        }
        if let Some(look) = self.0.get(path) {
            return *look;
        }
        let below = [path, b"/"].concat();
        if path.is_empty() || self.0.keys().any(|known| known.starts_with(&below)) {
            return Look::Directory;
        }
        let is_in_file = |known: &Vec<u8>| path.starts_with(&[known, &b"/"[..]].concat());
        if self.0.keys().any(is_in_file) {
            return Look::NotADirectory;
        }
        Look::Missing
    }
}

fn route(path: &str, suffixes: &[&str], act: Act) -> Route {
    Route {
        path: PathMatch::Prefix(path.to_owned()),
        suffixes: suffixes.iter().map(|suffix| (*suffix).to_owned()).collect(),
        act,
        streams: None,
    }
}

fn files() -> Route {
    route("/", &[], Act::Files { fallback: None })
}

/// What `--root` makes: PHP in pool 0, scripts in pool 1.
fn site() -> Site {
    site_with(vec![
        route("/", &[".php"], Act::Script { pool: 0 }),
        route("/cgi-bin/", &[], Act::Script { pool: 1 }),
        route("/", &[".cgi", ".pl"], Act::Script { pool: 1 }),
        files(),
    ])
}

fn site_with(routes: Vec<Route>) -> Site {
    Site {
        root: Some("/srv".into()),
        index: vec!["index.php".to_owned(), "index.html".to_owned()],
        routes,
        ..Site::default()
    }
}

fn tree() -> Files {
    Files::new(&[
        "index.html",
        "a.php",
        "dir/index.php",
        "dir/b.cgi",
        "plain/x.txt",
        "cgi-bin/any",
        "cgi-bin/index.html",
        "x.jpg",
    ])
    .with("secret.php", Look::Denied)
    .with("out.php", Look::Escapes)
}

/// The decision in short, with what it made of the path.
fn decide(site: &Site, path: &str, tree: &mut Files) -> String {
    let mut router = Router::default();
    let decision = router.route(site, path.as_bytes(), true, tree);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match decision {
        Decision::App { pool, mount } => format!("app {pool} {} {}", &path[..mount], &path[mount..]),
        Decision::Script { pool, name } => {
            let (name, info) = router.path().split_at(name);
            format!("script {pool} {} {}", text(name), text(info)).trim().to_owned()
        }
        Decision::NoScript { why } => format!("no script: {why}"),
        Decision::File => format!("file {}", text(router.path())),
        Decision::Slash => "slash".to_owned(),
        Decision::Server => "server".to_owned(),
        Decision::Redirect { status, to } => format!("{status} {to}"),
        Decision::Refuse { status, .. } => status.to_string(),
    }
}

#[test]
fn paths_of_a_legacy_site() {
    for (path, expected) in [
        ("/", "file /index.html"),
        ("//", "file /index.html"),
        ("/index.html", "file /index.html"),
        ("/a.php", "script 0 /a.php"),
        ("/a.php/", "script 0 /a.php /"),
        ("/a.php/b/c", "script 0 /a.php /b/c"),
        ("//a.php//b", "script 0 /a.php /b"),
        ("/dir/", "script 0 /dir/index.php"),
        ("/dir", "slash"),
        ("/dir/b.cgi/x.php", "script 1 /dir/b.cgi /x.php"),
        ("/cgi-bin/any/more", "script 1 /cgi-bin/any /more"),
        ("/cgi-bin/", "script 1 /cgi-bin/index.html"),
        ("/plain/", "403"),
        ("/plain/x.txt", "file /plain/x.txt"),
        // A picture is no script, whatever stands behind it.
        ("/x.jpg/y.php", "404"),
        ("/x.jpg/", "404"),
        ("/missing.php", "404"),
        ("/missing/a.php", "404"),
        ("/secret.php", "403"),
        ("/out.php", "403"),
        ("/../etc/passwd", "404"),
        ("/dir/../a.php", "404"),
        ("/./a.php", "404"),
        ("/a.php\n", "404"),
        ("*", "server"),
        ("", "404"),
    ] {
        assert_eq!(decide(&site(), path, &mut tree()), expected, "{path:?}");
    }
}

#[test]
fn suffixes_are_compared_without_regard_to_case() {
    let mut tree = Files::new(&["A.PHP"]);
    assert_eq!(decide(&site(), "/A.PHP", &mut tree), "script 0 /A.PHP");
}

#[test]
fn an_encoded_slash_names_no_file() {
    let mut router = Router::default();
    let site = site();
    let decision = router.route(&site, b"/dir/b.cgi", false, &mut tree());
    assert_eq!(decision, NOT_FOUND);
}

#[test]
fn a_front_controller_gets_what_is_no_file() {
    let fallback = Some(Fallback::Path("/a.php".to_owned()));
    let routes = vec![
        route("/", &[".php"], Act::Script { pool: 0 }),
        route("/", &[], Act::Files { fallback }),
    ];
    let site = site_with(routes.clone());
    for (path, expected) in [
        ("/nice/url", "script 0 /a.php"),
        ("/plain/", "script 0 /a.php"),
        ("/x.jpg", "file /x.jpg"),
        ("/x.jpg/more", "script 0 /a.php"),
        ("/a.php/info", "script 0 /a.php /info"),
        ("/../up", "script 0 /a.php"),
        ("*", "server"),
    ] {
        assert_eq!(decide(&site, path, &mut tree()), expected, "{path:?}");
    }
    // It is missing itself: no loop.
    assert_eq!(decide(&site, "/nice", &mut Files::default()), "404");
}

#[test]
fn an_app_gets_what_is_no_file() {
    let fallback = Some(Fallback::Pool(3));
    let site = site_with(vec![route("/", &[], Act::Files { fallback })]);
    assert_eq!(decide(&site, "/", &mut tree()), "file /index.html");
    assert_eq!(decide(&site, "/x/y", &mut tree()), "app 3  /x/y");
    assert_eq!(decide(&site, "*", &mut tree()), "app 3  *");
}

#[test]
fn the_first_route_counts_and_apps_need_no_files() {
    let app = |pool, script_name: &str| Act::App {
        pool,
        script_name: script_name.to_owned(),
    };
    let site = Site {
        routes: vec![
            route(
                "/old/",
                &[],
                Act::Redirect {
                    status: 301,
                    to: "/new".into(),
                },
            ),
            Route {
                path: PathMatch::Exact("/api/ping".into()),
                ..route("", &[], Act::Refuse { status: 410 })
            },
            route("/api/", &[], app(1, "/api")),
            route("/", &[".json"], app(2, "")),
            route("/", &[], app(0, "")),
        ],
        ..Site::default()
    };
    for (path, expected) in [
        ("/old", "301 /new"),
        ("/old/x", "301 /new"),
        ("/older", "app 0  /older"),
        ("/api/ping", "410"),
        ("/api/ping/", "app 1 /api /ping/"),
        ("/api", "app 1 /api "),
        ("/x.json", "app 2  /x.json"),
        ("*", "app 0  *"),
    ] {
        assert_eq!(decide(&site, path, &mut Files::default()), expected, "{path:?}");
    }
}

#[test]
fn what_cannot_be_run_is_not_sent_either() {
    let act = Act::NoScript {
        why: "no php-cgi".to_owned(),
    };
    let site = site_with(vec![route("/", &[".php"], act), files()]);
    assert_eq!(decide(&site, "/a.php", &mut tree()), "no script: no php-cgi");
    assert_eq!(decide(&site, "/dir/", &mut tree()), "no script: no php-cgi");
}

#[test]
fn sites_are_found_by_their_hosts() {
    let site = |hosts: &[Host]| Site {
        hosts: hosts.to_vec(),
        ..Site::default()
    };
    let exact = |name: &str| Host::Exact(name.to_owned());
    let below = |name: &str| Host::Below(name.to_owned());
    let sites = [
        site(&[exact("a.example"), below(".a.example")]),
        site(&[]),
        site(&[below(".deep.a.example"), exact("[::1]")]),
        site(&[]),
    ];
    let mut hosts = Hosts::new(&sites);
    for (host, place) in [
        ("a.example", 0),
        ("A.Example:8080", 0),
        ("a.example.", 0),
        ("x.a.example", 0),
        ("y.x.a.example", 0),
        ("x.deep.a.example", 2),
        ("deep.a.example", 0),
        (".a.example", 1),
        ("[::1]:80", 2),
        ("[::1]", 2),
        ("other", 1),
        ("", 1),
    ] {
        assert_eq!(hosts.find(host.as_bytes()), Some(place), "{host}");
    }
    assert_eq!(Hosts::new(&sites[..1]).find(b"other"), None);
}

proptest! {
    /// Whatever the path, the tree is asked for names below the root only (`Files` claims it), and a script's name and
    /// the rest are the path.
    #[test]
    fn no_path_leads_out_of_the_root(path in "(/|[.]{1,2}|[ab]|a[.]php|index[.]html|%|\\PC|\n){0,12}") {
        let mut tree = tree();
        let mut router = Router::default();
        let site = site();
        match router.route(&site, path.as_bytes(), true, &mut tree) {
            Decision::Script { name, .. } => prop_assert_eq!(tree.look(&router.path()[1..name]), Look::File),
            Decision::File => prop_assert_eq!(tree.look(&router.path()[1..]), Look::File),
            _ => {}
        }
    }
}

#[test]
fn a_file_that_a_web_server_names_is_run_by_the_first_route_for_its_ending() {
    let suffixes = |list: &[&str]| list.iter().map(|suffix| (*suffix).to_owned()).collect::<Vec<_>>();
    let route = |path: &str, endings: &[&str], act: Act| Route {
        path: PathMatch::Prefix(path.to_owned()),
        suffixes: suffixes(endings),
        act,
        streams: None,
    };
    let why = "no php-cgi".to_owned();
    let site = Site {
        routes: vec![
            route(
                "/api",
                &[],
                Act::App {
                    pool: 9,
                    script_name: String::new(),
                },
            ),
            route("/admin", &[".php"], Act::Script { pool: 1 }),
            route("/old", &[".php"], Act::NoScript { why: why.clone() }),
            route("/", &[".php"], Act::Script { pool: 2 }),
            route("/cgi-bin/", &[], Act::Script { pool: 3 }),
            route("/", &[".cgi", ".sh"], Act::Script { pool: 4 }),
            route("/", &[], Act::Files { fallback: None }),
        ],
        ..Site::default()
    };
    let rows = [
        ("/x.php", "/srv/x.php", Runner::Pool(2)),
        ("/x.PHP", "/srv/x.PHP", Runner::Pool(2)),
        ("/admin/x.php", "/srv/admin/x.php", Runner::Pool(1)),
        ("/old/x.php", "/srv/old/x.php", Runner::Missing { why: &why }),
        // Without a SCRIPT_NAME only routes for all paths count.
        ("", "/srv/admin/x.php", Runner::Pool(2)),
        ("", "/srv/cgi-bin/x", Runner::None),
        ("/cgi-bin/x", "/srv/cgi-bin/x", Runner::Pool(3)),
        ("/cgi-bin/x.sh", "/srv/cgi-bin/x.sh", Runner::Pool(3)),
        ("/x.sh", "/srv/x.sh", Runner::Pool(4)),
        ("/api/x.sh", "/srv/x.sh", Runner::Pool(4)),
        ("/x.html", "/srv/x.html", Runner::None),
        ("/x.php.txt", "/srv/x.php.txt", Runner::None),
    ];
    for (path, file, expected) in rows {
        assert_eq!(
            runner(&site, path.as_bytes(), file.as_bytes()),
            expected,
            "{path} {file}"
        );
    }
}

#[test]
fn the_route_that_counts_says_whether_bodies_stream() {
    let streams = |path: &str, act: Act, streams: Option<bool>| Route {
        streams,
        ..route(path, &[], act)
    };
    let app = |pool: usize| Act::App {
        pool,
        script_name: String::new(),
    };
    let to_index = Act::Files {
        fallback: Some(Fallback::Path("/dir/index.php".to_owned())),
    };
    let to_app = Act::Files {
        fallback: Some(Fallback::Pool(3)),
    };
    let php = Route {
        suffixes: vec![".php".to_owned()],
        ..streams("/", Act::Script { pool: 0 }, Some(true))
    };
    let site = site_with(vec![
        streams("/upload", app(1), Some(true)),
        streams("/form", app(1), Some(false)),
        streams("/plain", app(1), None),
        streams("/app", to_app, Some(true)),
        php,
        streams("/", to_index, Some(false)),
    ]);
    let mut router = Router::default();
    for (path, expected) in [
        ("/upload", Some(true)),
        ("/form/x", Some(false)),
        ("/plain", None),
        ("/app/none", Some(true)),
        ("/a.php", Some(true)),
        // By way of the fallback, it is the script's route that counts.
        ("/none", Some(true)),
        ("/index.html", Some(false)),
        ("/plain/x.txt", None),
    ] {
        let _ = router.route(&site, path.as_bytes(), true, &mut tree());
        assert_eq!(router.streams(), expected, "{path}");
    }
    let one = |streams| Site {
        routes: vec![Route {
            streams,
            ..route("/", &[], app(0))
        }],
        ..Site::default()
    };
    assert!(is_plain(&[one(None)]) && !is_plain(&[one(Some(true))]));
}

#[test]
fn routes_see_every_spelling_of_a_path() {
    let exact = Route {
        path: PathMatch::Exact("/old".to_owned()),
        ..route("/", &[], Act::Refuse { status: 410 })
    };
    let app = Act::App {
        pool: 0,
        script_name: String::new(),
    };
    let site = site_with(vec![
        route("/private", &[], Act::Refuse { status: 403 }),
        exact,
        route("/cgi-bin/", &[], Act::Script { pool: 7 }),
        route("/app", &[], app),
        files(),
    ]);
    let mut files = Files::new(&["cgi-bin/report", "private/secret.txt", "dir/page.html"]);
    let mut router = Router::default();
    let refused = |status| Decision::Refuse { status, why: "" };
    for (path, expected) in [
        ("//private/secret.txt", refused(403)),
        ("/private//secret.txt", refused(403)),
        ("///private///secret.txt", refused(403)),
        ("/./private/x", refused(403)),
        ("/x/../private/x", refused(403)),
        ("/../private", refused(403)),
        ("/x/..//private/", refused(403)),
        ("/private/../dir/page.html", refused(403)),
        ("/private/.", refused(403)),
        ("//old", refused(410)),
        ("/x/../old", refused(410)),
        ("/old/.", NOT_FOUND),
        ("//cgi-bin/report", Decision::Script { pool: 7, name: 15 }),
        ("/cgi-bin//report", Decision::Script { pool: 7, name: 15 }),
        ("//app/x", Decision::App { pool: 0, mount: 0 }),
        ("//dir//page.html", Decision::File),
        ("/x/../dir/page.html", NOT_FOUND),
        ("/privateer", NOT_FOUND),
    ] {
        assert_eq!(
            router.route(&site, path.as_bytes(), true, &mut files),
            expected,
            "{path}"
        );
    }
}

proptest! {
    #[test]
    fn what_is_refused_is_refused_however_it_is_spelled(
        before in proptest::collection::vec("[a-c]{1,2}", 0..3),
        after in "[a-c./]{0,6}",
        slashes in proptest::collection::vec("/{1,3}(\\./{1,2}){0,2}", 8),
    ) {
        let site = site_with(vec![route("/private", &[], Act::Refuse { status: 403 }), files()]);
        let mut path = String::new();
        let mut slashes = slashes.iter();
        for name in &before {
            path += slashes.next().unwrap();
            path += name;
        }
        for _ in &before {
            path += slashes.next().unwrap();
            path += "..";
        }
        path += slashes.next().unwrap();
        path += "private/";
        path += &after;
        // What goes up again and elsewhere need not be refused, but nothing of it is a file.
        let decision = Router::default().route(&site, path.as_bytes(), true, &mut tree());
        let goes_up = after.split('/').any(|segment| segment == "..");
        let refused = Decision::Refuse { status: 403, why: "" };
        prop_assert!(decision == refused || goes_up && decision == NOT_FOUND, "{} {:?}", path, decision);
    }
}
