//! HUP where pools have names: what has not changed goes on in the same processes and on the same connections, and what
//! has is replaced without a failed request.

use std::fs;

use nix::sys::signal::Signal;

use crate::harness::apps::{app, c_app};
use crate::harness::hammer::{Hammer, Plan};
use crate::harness::server::{list, quoted};
use crate::harness::tree::{ask, page, put};
use crate::harness::{Client, Server, Setup, procs, wait_for, wait_until};

/// A tenant with the libfcgi app: a pool and a site of one name.
pub(crate) fn tenant(name: &str, more: &str) -> String {
    format!(
        "[pool.{name}]\nexec = {}\nprotocol = 'fastcgi'\n{more}\n\
         [[site]]\nhosts = ['{name}.example']\npool = '{name}'\n",
        list(&[&c_app()])
    )
}

pub(crate) fn setup() -> Setup {
    let setup = Setup::new();
    fs::create_dir(setup.path("conf.d")).expect("a directory");
    setup.with("include", quoted("conf.d/*.toml"))
}

pub(crate) fn write(setup: &Setup, name: &str, text: &str) {
    put(&setup.path(&format!("conf.d/{name}.toml")), text, 0o644);
}

/// As one step: a reload may be reading it.
pub(crate) fn rewrite(server: &Server, name: &str, text: &str) {
    let unseen = server.path(&format!("conf.d/.{name}"));
    put(&unseen, text, 0o644);
    fs::rename(unseen, server.path(&format!("conf.d/{name}.toml"))).expect("a tenant's file");
}

/// Asks for a reload and waits for the line that says what it did.
pub(crate) fn reload(server: &Server) -> String {
    let mark = server.log().len();
    server.signal(Signal::SIGHUP);
    server.wait_for_log_after(mark, "Reloaded: ")
}

pub(crate) fn host(name: &str) -> String {
    format!("{name}.example")
}

pub(crate) fn pid(server: &Server, name: &str) -> i32 {
    let response = ask(&server.address, "GET", &host(name), "/pid");
    response
        .text()
        .trim()
        .parse()
        .unwrap_or_else(|_| panic!("{name}: {} {}", response.status, response.text()))
}

pub(crate) fn status(server: &Server, name: &str) -> u16 {
    ask(&server.address, "GET", &host(name), "/pid").status
}

pub(crate) fn get(client: &mut Client, name: &str, target: &str) -> String {
    client.send(format!("GET {target} HTTP/1.1\r\nHost: {name}.example\r\n\r\n"));
    let response = client.response("GET");
    assert_eq!(response.status, 200, "{name} {target}");
    response.text()
}

pub(crate) fn hammer(server: &Server, name: &str, per_connection: usize) -> Hammer {
    Hammer::start(
        &server.address,
        &Plan {
            clients: 4,
            method: "GET",
            // In absolute form the Host field does not count.
            target: format!("http://{name}.example/pid"),
            per_connection,
        },
    )
}

#[test]
fn tenants_come_change_and_go_under_load_and_the_others_never_notice() {
    let setup = setup();
    for name in ["kept", "other", "changed", "gone"] {
        write(&setup, name, &tenant(name, "workers = 2"));
    }
    let server = setup.start();
    let workers = server.wait_for_workers(8);
    let front = server.front();
    let mut idle = server.connect();
    get(&mut idle, "kept", "/pid");
    let mut theirs = server.connect();
    get(&mut theirs, "changed", "/pid");
    let loads = [
        hammer(&server, "kept", usize::MAX),
        hammer(&server, "other", 20),
        hammer(&server, "changed", usize::MAX),
        hammer(&server, "changed", 5),
    ];
    for round in 0..6 {
        rewrite(
            &server,
            "changed",
            &tenant("changed", &format!("workers = 2\nenv = {{ ROUND = '{round}' }}")),
        );
        let new = format!("new{round}");
        rewrite(&server, &new, &tenant(&new, "workers = 1"));
        let old = if round == 0 {
            "gone".to_owned()
        } else {
            format!("new{}", round - 1)
        };
        fs::remove_file(server.path(&format!("conf.d/{old}.toml"))).expect("the old tenant's file");
        let line = reload(&server);
        assert!(
            line.contains(&format!(
                "2 pools go on untouched, replaced: changed, new: {new}, removed: {old}"
            )),
            "{line}"
        );
        // What is removed is as unknown as any other host.
        assert_eq!((status(&server, &old), status(&server, "nobody")), (404, 404));
        pid(&server, &new);
        let serves = pid(&server, "changed");
        assert_eq!(
            procs::environment(serves).get("ROUND").map(String::as_str),
            Some(round.to_string().as_str())
        );
        loads.iter().for_each(|load| load.wait_for_more(20));
    }
    for (load, who) in loads.into_iter().zip(["kept", "other", "changed", "changed anew"]) {
        load.stop_unharmed(who);
    }
    // The same front, the same connections, and of the workers only those of what has stayed.
    assert_eq!(server.front(), front);
    get(&mut idle, "kept", "/pid");
    get(&mut theirs, "changed", "/pid");
    let now = server.wait_for_workers(7);
    let kept: Vec<i32> = now.iter().copied().filter(|pid| workers.contains(pid)).collect();
    assert_eq!(kept.len(), 4, "{workers:?} {now:?}");
    for pid in now.iter().filter(|pid| !workers.contains(pid)) {
        let round = procs::environment(*pid).get("ROUND").cloned();
        assert!(round.is_none_or(|round| round == "5"), "an old worker is left");
    }
    server.stop();
}

#[test]
fn requests_that_run_in_what_changes_or_goes_are_finished() {
    let setup = setup();
    for name in ["changed", "gone"] {
        write(&setup, name, &tenant(name, "workers = 1"));
    }
    let server = setup.start();
    let workers = server.wait_for_workers(2);
    let mut running: Vec<Client> = Vec::new();
    for name in ["changed", "gone"] {
        // One runs, and one waits for its worker.
        for target in ["/sleep?ms=1500", "/pid"] {
            let mut client = server.connect();
            client.send(format!("GET {target} HTTP/1.1\r\nHost: {name}.example\r\n\r\n"));
            running.push(client);
        }
    }
    // What was sent before it was read before it.
    assert_eq!(ask(&server.address, "GET", "nobody.example", "/").status, 404);
    rewrite(&server, "changed", &tenant("changed", "workers = 1\nenv = { A = 'b' }"));
    fs::remove_file(server.path("conf.d/gone.toml")).expect("a tenant's file");
    reload(&server);
    let new = pid(&server, "changed");
    assert!(!workers.contains(&new));
    assert_eq!(status(&server, "gone"), 404);
    let answers: Vec<String> = running
        .iter_mut()
        .map(|client| {
            let response = client.response("GET");
            assert_eq!(response.status, 200);
            response.text().trim().to_owned()
        })
        .collect();
    assert_eq!((answers[0].as_str(), answers[2].as_str()), ("slept 1500", "slept 1500"));
    let waited: Vec<i32> = [1, 3].map(|place: usize| answers[place].parse().expect("a pid")).into();
    assert!(waited.iter().all(|pid| workers.contains(pid)), "{waited:?} {workers:?}");
    assert_eq!(server.wait_for_workers(1), [new]);
    server.stop();
}

#[test]
fn a_client_that_reads_slowly_keeps_no_worker_of_a_tenant_that_has_gone() {
    // More than sockets hold.
    const SIZE: usize = 32 * 1024 * 1024;
    let setup = setup();
    write(&setup, "kept", &tenant("kept", "workers = 1"));
    write(&setup, "gone", &tenant("gone", "workers = 1"));
    let server = setup.start();
    let (kept, gone) = (pid(&server, "kept"), pid(&server, "gone"));
    let mut slow = server.connect();
    slow.send(format!("GET /big?n={SIZE} HTTP/1.1\r\nHost: gone.example\r\n\r\n"));
    assert_eq!(ask(&server.address, "GET", "nobody.example", "/").status, 404);
    fs::remove_file(server.path("conf.d/gone.toml")).expect("a tenant's file");
    reload(&server);
    wait_until("its worker to be gone", || server.workers() == [kept]);
    assert!(!procs::is_alive(gone));
    // Others come and go meanwhile, and its number is not theirs.
    rewrite(&server, "new", &tenant("new", "workers = 1"));
    reload(&server);
    pid(&server, "new");
    assert_eq!(slow.response("GET").body.len(), SIZE);
    server.stop();
}

#[test]
fn what_has_not_ended_after_the_grace_is_cut_and_what_waits_is_refused() {
    let setup = setup().with_text("graceful_timeout", "1s").allow("");
    write(&setup, "kept", &tenant("kept", "workers = 1"));
    page(&setup, "site/sorry.html", "sorry\n");
    let pages = format!(
        "root = {}\npages = {{ 502 = '/sorry.html' }}\n",
        quoted(&setup.path_text("site"))
    );
    // The app gets every path, by a route of its own.
    let text = tenant("gone", "workers = 1").replace("pool = 'gone'", &(pages + "[[site.route]]\npool = 'gone'"));
    write(&setup, "gone", &text);
    let server = setup.start();
    let workers = server.wait_for_workers(2);
    let kept = pid(&server, "kept");
    let clients = ["/sleep?ms=20000", "/pid"].map(|target| {
        let mut client = server.connect();
        client.send(format!(
            "POST {target} HTTP/1.1\r\nHost: gone.example\r\nContent-Length: 0\r\n\r\n"
        ));
        client
    });
    assert_eq!(ask(&server.address, "GET", "nobody.example", "/").status, 404);
    fs::remove_file(server.path("conf.d/gone.toml")).expect("a tenant's file");
    reload(&server);
    let [cut, waiting] = clients.map(|mut client| client.response("POST"));
    // With the page of the site that it came to.
    assert_eq!((cut.status, cut.text().as_str()), (502, "sorry\n"));
    assert_eq!(waiting.status, 503);
    assert_eq!(server.wait_for_workers(1), [kept]);
    assert!(workers.contains(&kept));
    // The log was moved away before a reload: lines go to a new file.
    fs::rename(server.path("access.log"), server.path("access.log.1")).expect("the log is moved");
    reload(&server);
    assert_eq!(pid(&server, "kept"), kept);
    wait_until("a line in the new log", || !server.access_log().is_empty());
    server.stop();
}

#[test]
fn a_pool_that_does_not_come_up_leaves_everything_as_it_was() {
    let setup = setup().allow("");
    write(&setup, "a", &tenant("a", "workers = 1\nboot_timeout = '5s'"));
    write(&setup, "b", &tenant("b", "workers = 1"));
    let server = setup.start();
    let (front, workers) = (server.front(), server.wait_for_workers(2));
    let bad = |words: &[&str]| tenant("a", "workers = 1").replace(&list(&[&c_app()]), &list(words));
    let program = app("bad_fastcgi.py");
    for words in [[program.as_str(), "exit-one"], [program.as_str(), "never-ready"]] {
        rewrite(
            &server,
            "a",
            &bad(&words).replace("workers = 1", "workers = 1\nboot_timeout = '1s'"),
        );
        rewrite(&server, "c", &tenant("c", "workers = 2"));
        let mark = server.log().len();
        server.signal(Signal::SIGHUP);
        let line = server.wait_for_log_after(mark, "Reload failed");
        assert!(line.contains("[ERROR]"), "{line}");
        assert_eq!(server.wait_for_workers(2), workers);
        assert_eq!(server.front(), front);
        assert!(workers.contains(&pid(&server, "a")), "{words:?}");
        assert_eq!(status(&server, "c"), 404);
    }
    rewrite(&server, "a", &tenant("a", "workers = 1\nboot_timeout = '5s'"));
    assert!(reload(&server).contains("2 pools go on untouched, new: c"));
    assert_eq!(server.wait_for_workers(4)[..], {
        let mut all = workers.clone();
        all.extend(server.workers().into_iter().filter(|pid| !workers.contains(pid)));
        all.sort_unstable();
        all
    });
    assert_eq!(server.front(), front);
    server.stop();
}

/// Reloads with another environment for the tenant c, which alone is replaced. Returns what was logged meanwhile.
fn replace_c(server: &Server, env: &str) -> String {
    rewrite(server, "c", &tenant("c", &format!("workers = 1\nenv = {{ {env} }}")));
    let mark = server.log().len();
    let line = reload(server);
    assert!(line.contains("2 pools go on untouched, replaced: c"), "{line}");
    server.log()[mark..].to_owned()
}

#[test]
fn a_file_that_is_broken_by_now_keeps_its_tenant_and_the_others_change() {
    let setup = setup().allow("conf.d/");
    for name in ["a", "b", "c"] {
        write(&setup, name, &tenant(name, "workers = 1"));
    }
    write(&setup, "never", "[[site]]\nwrong = 1\n");
    let server = setup.start();
    server.wait_for_log("conf.d/never.toml is left out");
    let workers = server.wait_for_workers(3);
    let broken = [
        tenant("b", "workers = 'many'"),
        tenant("b", "workers = 1").replace("[[site]]", "[[site]"),
        tenant("b", "workers = 1").replace("b.example", "a.example"),
        tenant("b", "workers = 1").replace("pool = 'b'", "pool = 'a'"),
    ];
    for (round, text) in broken.iter().enumerate() {
        rewrite(&server, "b", text);
        let log = replace_c(&server, &format!("A = '{round}'"));
        let told = log.lines().find(|line| line.contains("conf.d/b.toml is broken"));
        let told = told.unwrap_or_else(|| panic!("nothing about {text}\n{log}"));
        assert!(told.contains("[ERROR]") && told.contains("conf.d/b.toml:"), "{told}");
        assert!(workers.contains(&pid(&server, "b")), "{text}");
    }
    // A newcomer takes neither a host nor the name of a pool from it, though its own name comes first.
    rewrite(&server, "b", &tenant("b", "workers = 1"));
    for (round, text) in [
        tenant("newer", "workers = 1").replace("newer.example", "b.example"),
        tenant("b", "workers = 1").replace("b.example", "newer.example"),
    ]
    .iter()
    .enumerate()
    {
        rewrite(&server, "aa", text);
        let log = replace_c(&server, &format!("B = '{round}'"));
        assert!(log.contains("conf.d/aa.toml is left out"), "{log}");
        assert!(workers.contains(&pid(&server, "b")), "{text}");
    }
    fs::remove_file(server.path("conf.d/aa.toml")).expect("the newcomer");
    // It is as good as ever, but the root that it names is not there any more.
    let rooted = |text: &str| {
        let root = quoted(&server.path("root").display().to_string());
        text.replace("pool = 'b'", &format!("root = {root}\npool = 'b'"))
    };
    fs::create_dir(server.path("root")).expect("a root");
    rewrite(&server, "b", &rooted(&tenant("b", "workers = 1")));
    assert!(reload(&server).contains("3 pools go on untouched"));
    fs::remove_dir(server.path("root")).expect("an empty root");
    rewrite(&server, "a", &tenant("a", "workers = 1\nenv = { A = 'b' }"));
    let mark = server.log().len();
    assert!(reload(&server).contains("2 pools go on untouched, replaced: a"));
    server.wait_for_log_after(mark, "conf.d/b.toml is broken, and what it said before stays: root is ");
    wait_until("the tenant's worker", || {
        server.workers().iter().any(|pid| workers.contains(pid))
    });
    // When it is good again, it is what it says that counts; when it is gone, so is the tenant.
    rewrite(&server, "b", &tenant("b", "workers = 1\nenv = { A = 'b' }"));
    assert!(reload(&server).contains("2 pools go on untouched, replaced: b"));
    fs::remove_file(server.path("conf.d/b.toml")).expect("a tenant's file");
    assert!(reload(&server).contains("removed: b"));
    assert_eq!(status(&server, "b"), 404);
    server.stop();
}

#[test]
fn workers_are_renewed_where_that_is_wanted_and_with_what_concerns_all() {
    let setup = setup();
    write(&setup, "a", &tenant("a", "workers = 1"));
    write(&setup, "b", &tenant("b", "workers = 1\nrenew = 'all'"));
    let mut server = setup.start();
    let front = server.front();
    let pids = |server: &Server| ["a", "b"].map(|name| pid(server, name));
    let before = pids(&server);
    assert!(reload(&server).contains("1 pool goes on untouched, replaced: b"));
    let [a, b] = pids(&server);
    assert_eq!(a, before[0]);
    assert_ne!(b, before[1]);
    server.wait_for_workers(2);
    // Said at the top level, it is for all that do not say otherwise.
    rewrite(&server, "a", &tenant("a", "workers = 1\nrenew = 'changed'"));
    rewrite(&server, "b", &tenant("b", "workers = 1"));
    let mark = server.log().len();
    server.reload_with("renew", quoted("all"));
    let line = server.wait_for_log_after(mark, "Reloaded: ");
    assert!(line.contains("1 pool goes on untouched, replaced: b"), "{line}");
    assert_eq!(server.front(), front);
    assert_eq!(pid(&server, "a"), a);
    server.wait_for_workers(2);
    // The front's own settings need a new one, and it says which.
    let mark = server.log().len();
    server.reload_with("keepalive", quoted("9s"));
    let line = server.wait_for_log_after(mark, "All workers and the front are replaced");
    assert!(
        line.contains("[INFO]") && line.ends_with("keepalive has changed"),
        "{line}"
    );
    wait_until("a new generation alone", || {
        let workers = server.workers();
        server.fronts().len() == 1 && server.front() != front && workers.len() == 2 && !workers.contains(&a)
    });
    let mark = server.log().len();
    server.reload_with("bind", list(&["127.0.0.1:0", "127.0.0.1:0"]));
    let line = server.wait_for_log_after(mark, "All workers and the front are replaced");
    assert!(line.ends_with("bind has changed"), "{line}");
    server.stop();
}

#[test]
fn a_front_that_dies_after_a_change_is_followed_by_one_that_knows_it() {
    let setup = setup().allow("");
    for name in ["a", "b", "c"] {
        write(&setup, name, &tenant(name, "workers = 1"));
    }
    let server = setup.start();
    server.wait_for_workers(3);
    let before = ["b", "c"].map(|name| pid(&server, name));
    // The first pool takes another number, and the others change their places.
    rewrite(&server, "a", &tenant("a", "workers = 1\nenv = { A = 'b' }"));
    rewrite(&server, "0", &tenant("first", "workers = { min = 0, max = 1 }"));
    reload(&server);
    server.wait_for_workers(3);
    let front = server.front();
    procs::signal(front, Signal::SIGKILL);
    wait_until("another front", || {
        server.fronts().len() == 1 && server.front() != front
    });
    for name in ["a", "first"] {
        let serves = pid(&server, name);
        assert_eq!(procs::environment(serves).contains_key("A"), name == "a");
    }
    assert_eq!(["b", "c"].map(|name| pid(&server, name)), before);
    // And it takes part in the next change.
    fs::remove_file(server.path("conf.d/b.toml")).expect("a tenant's file");
    assert!(reload(&server).contains("3 pools go on untouched, removed: b"));
    assert_eq!((pid(&server, "c"), status(&server, "b")), (before[1], 404));
    server.stop();
}

#[test]
fn reloads_that_come_faster_than_they_end_leave_nothing_behind() {
    let setup = setup();
    write(&setup, "kept", &tenant("kept", "workers = 1"));
    write(&setup, "changed", &tenant("changed", "workers = 1"));
    let server = setup.start();
    let kept = pid(&server, "kept");
    let change = |round: i32| {
        let text = tenant("changed", &format!("workers = 1\nenv = {{ ROUND = '{round}' }}"));
        rewrite(&server, "changed", &text);
    };
    let settled = |round: i32| {
        let serves = || procs::environment(pid(&server, "changed")).get("ROUND").cloned();
        wait_until("the newest to serve alone", || {
            serves() == Some(round.to_string()) && server.workers().len() == 2
        });
        let files = || {
            let front = server.front();
            (procs::descriptors(server.pid).len(), procs::descriptors(front).len())
        };
        wait_for("as few descriptors as can be", || Some(files()))
    };
    let mut running = server.connect();
    change(0);
    reload(&server);
    let before = settled(0);
    running.send("GET /sleep?ms=1000 HTTP/1.1\r\nHost: changed.example\r\n\r\n");
    let load = hammer(&server, "changed", 3);
    for round in 1..20 {
        change(round);
        server.signal(Signal::SIGHUP);
        load.wait_for_more(5);
    }
    assert_eq!(running.response("GET").text(), "slept 1000\n");
    load.stop_unharmed("hurried reloads");
    change(99);
    server.signal(Signal::SIGHUP);
    settled(99);
    drop(running);
    wait_until("as few descriptors as before", || {
        let now = settled(99);
        now.0 <= before.0 && now.1 <= before.1
    });
    assert_eq!(pid(&server, "kept"), kept);
    server.stop();
}

#[test]
fn one_of_five_hundred_sites_is_changed_and_nobody_else_is_touched() {
    let setup = setup();
    let name = |number: usize| format!("t{number}");
    for number in 0..500 {
        write(
            &setup,
            &name(number),
            &tenant(&name(number), "workers = { min = 0, max = 1 }"),
        );
    }
    let server = setup.start();
    let front = server.front();
    let busy = [0, 7, 250, 498, 499];
    let before = busy.map(|number| pid(&server, &name(number)));
    let load = hammer(&server, "t7", usize::MAX);
    for round in 0..3 {
        let text = format!("workers = {{ min = 0, max = 1 }}\nenv = {{ ROUND = '{round}' }}");
        rewrite(&server, "t250", &tenant("t250", &text));
        let line = reload(&server);
        assert!(line.contains("499 pools go on untouched, replaced: t250"), "{line}");
        let now = busy.map(|number| pid(&server, &name(number)));
        for (place, (now, before)) in now.iter().zip(&before).enumerate() {
            assert_eq!(now == before, place != 2, "tenant {}", busy[place]);
        }
        load.wait_for_more(10);
    }
    load.stop_unharmed("one of five hundred");
    server.wait_for_workers(5);
    assert_eq!(server.front(), front);
    server.stop();
}
