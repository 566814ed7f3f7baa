//! The end of CGI scripts that are too slow, that nobody waits for, that leave others behind, or whose runner dies.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::harness::apps::c_cgi;
use crate::harness::hammer::{Hammer, Plan};
use crate::harness::{Client, Server, Setup, procs, wait_for, wait_until};

fn send(server: &Server, method: &str, what: &str) -> Client {
    let mut client = server.connect();
    client.send(format!("{method} /bad.sh?{what} HTTP/1.1\r\nHost: a\r\n\r\n"));
    client
}

fn wait_for_mark(server: &Server) {
    wait_until("the script to run", || server.path("mark").exists());
}

/// The live children of the runner.
fn scripts(server: &Server) -> Vec<i32> {
    let runner = server.wait_for_workers(1)[0];
    let children = procs::children(runner).into_iter();
    children
        .filter(procs::Process::is_alive)
        .map(|child| child.pid)
        .collect()
}

fn wait_for_scripts(server: &Server, count: usize) -> Vec<i32> {
    wait_for(&format!("{count} scripts"), || {
        Some(scripts(server)).filter(|found| found.len() == count)
    })
}

#[test]
fn a_script_past_its_deadline_costs_only_itself() {
    let server = Setup::cgi().with_text("timeout", "1s").allow("SCRIPT TIMEOUT").start();
    let runner = server.wait_for_workers(1);
    for what in ["hangs", "closes", "stubborn"] {
        for method in ["GET", "POST"] {
            let mut client = send(&server, method, what);
            let script = wait_for_scripts(&server, 1)[0];
            let response = client.response(method);
            assert_eq!(response.status, 504, "{what}");
            let id = response.field("x-request-id").expect("an id").to_owned();
            let line = server.wait_for_log(&format!("request={id}"));
            let target = format!("{method} /bad.sh?{what}");
            let pid = format!("pid:{script}");
            for part in [target.as_str(), "cgi/any.cgi", "SCRIPT TIMEOUT", &pid] {
                assert!(line.contains(part), "no {part} in {line}");
            }
            wait_until("the end of its whole group", || {
                !procs::all()
                    .iter()
                    .any(|process| process.group == script && process.is_alive())
            });
            wait_for_scripts(&server, 0);
        }
    }
    // The head has gone out: the client can tell that the rest is missing.
    let mut client = send(&server, "GET", "stops");
    assert_eq!(client.try_head().expect("a head").status, 200);
    let rest = client.rest().unwrap_or_default();
    assert!(!rest.ends_with(b"0\r\n\r\n"));
    assert_eq!(server.get("/").status, 200);
    assert_eq!(server.workers(), runner, "the runner was not replaced");
    server.stop();
}

#[test]
fn a_script_that_goes_on_without_a_header_is_answered_and_ended() {
    let server = Setup::cgi().with_text("timeout", "60s").allow("failed (502)").start();
    let runner = server.wait_for_workers(1);
    // A change is not broken off half way.
    let mut change = send(&server, "POST", "mutters-and-waits");
    wait_for_mark(&server);
    for (what, words) in [
        ("babbles", "found \"no header\""),
        ("mutters", "found \"no header\""),
        ("endless", "at most 65536 bytes, found more after \"AAAA"),
    ] {
        let response = send(&server, "GET", what).response("GET");
        assert_eq!(response.status, 502, "{what}");
        let id = response.field("x-request-id").expect("an id").to_owned();
        let line = server.wait_for_log(&format!("request={id}"));
        for part in [what, "cgi/any.cgi[", words, "; it goes on, and is ended"] {
            assert!(line.contains(part), "no {part} in {line}");
        }
        // The one of the change is left.
        wait_for_scripts(&server, 1);
        assert_eq!(server.log().matches(&id).count(), 1, "it is logged once");
    }
    std::fs::remove_file(server.path("mark")).expect("the mark");
    assert_eq!(change.response("POST").status, 502);
    assert!(server.path("mark.done").exists(), "it came to its end");
    assert_eq!(server.workers(), runner, "the runner was not replaced");
    server.stop();
}

#[test]
fn a_script_that_never_stops_printing_ends_with_its_total_time() {
    let server = Setup::cgi()
        .with_text("timeout", "20s")
        .with_text("total_timeout", "1s")
        .allow("SCRIPT TIMEOUT")
        .start();
    let mut client = send(&server, "GET", "trickles");
    assert_eq!(client.try_head().expect("a head").status, 200);
    let rest = client.rest().unwrap_or_default();
    assert!(!rest.ends_with(b"0\r\n\r\n"), "the response looks complete");
    let line = server.wait_for_log("SCRIPT TIMEOUT");
    assert!(line.contains("GET /bad.sh?trickles"), "{line}");
    wait_for_scripts(&server, 0);
    server.stop();
}

#[test]
fn slots_are_free_again_after_deadlines() {
    let server = Setup::cgi()
        .with("workers", 2)
        .with_text("timeout", "1s")
        .allow("SCRIPT TIMEOUT")
        .start();
    for _ in 0..2 {
        let mut clients: Vec<Client> = (0..4).map(|_| send(&server, "GET", "hangs")).collect();
        for client in &mut clients {
            assert_eq!(client.response("GET").status, 504);
        }
        assert_eq!(server.get("/").text(), "hello\n");
    }
    server.stop();
}

#[test]
fn a_page_nobody_waits_for_is_ended_and_a_change_is_not() {
    for setup in [Setup::cgi(), Setup::cgi().on_unix_socket()] {
        let server = setup.start();
        for what in ["marks", "writes", "stubborn"] {
            let client = send(&server, "GET", what);
            wait_for_mark(&server);
            drop(client);
            wait_for_scripts(&server, 0);
            std::fs::remove_file(server.path("mark")).expect("the mark");
        }
        let client = send(&server, "POST", "waits");
        wait_for_mark(&server);
        drop(client);
        // Whoever came later is served, so the departure was seen.
        assert_eq!(server.get("/").status, 200);
        std::fs::remove_file(server.path("mark")).expect("the mark");
        wait_until("the end of the change", || server.path("mark.done").exists());
        wait_for_scripts(&server, 0);
        server.stop();
    }
}

#[test]
fn scripts_that_end_as_soon_as_they_start_are_all_noticed() {
    let server = Setup::exec(&[&c_cgi()])
        .with_text("protocol", "cgi")
        .with("workers", 16)
        .start();
    let plan = Plan {
        clients: 32,
        method: "GET",
        target: "/?{id}".to_owned(),
        per_connection: 50,
    };
    let hammer = Hammer::start(&server.address, &plan);
    hammer.wait_for_more(1500);
    hammer.stop_unharmed("scripts that end at once");
    wait_for_scripts(&server, 0);
    server.stop();
}

#[test]
fn clients_that_leave_while_their_script_is_being_started_leave_no_slot_taken() {
    let server = Setup::cgi().with_text("on_abort", "term").start();
    for _ in 0..60 {
        drop(send(&server, "GET", "waits"));
    }
    wait_for_scripts(&server, 0);
    let clients: Vec<Client> = (0..8).map(|_| send(&server, "GET", "waits")).collect();
    wait_for_scripts(&server, 8);
    drop(clients);
    wait_for_scripts(&server, 0);
    assert_eq!(server.get("/").status, 200);
    server.stop();
}

#[test]
fn what_happens_when_a_client_leaves_can_be_chosen() {
    let left = |on_abort: &str, method: &str, what: &str| {
        let server = Setup::cgi().with_text("on_abort", on_abort).start();
        let client = send(&server, method, what);
        wait_for_mark(&server);
        drop(client);
        server
    };
    let server = left("term", "POST", "marks");
    wait_for_scripts(&server, 0);
    server.stop();
    let server = left("close", "POST", "writes");
    wait_for_scripts(&server, 0);
    server.stop();
    let server = left("ignore", "GET", "waits");
    assert_eq!(server.get("/").status, 200);
    std::fs::remove_file(server.path("mark")).expect("the mark");
    wait_until("its own end", || server.path("mark.done").exists());
    server.stop();
}

#[test]
fn what_a_script_leaves_behind_is_kept_until_the_pool_ends() {
    let server = Setup::cgi().with_text("strays", "keep").start();
    for what in ["child", "quiet-child", "daemon"] {
        assert_eq!(server.get(&format!("/bad.sh?{what}")).text(), "hello\n");
    }
    server.wait_for_log(", which lives on");
    assert_eq!(wait_for_scripts(&server, 3).len(), 3);
    // The harness looks whether they are gone.
    server.stop();
}

/// What lives in the session of the runner, except for the runner.
fn session(server: &Server) -> Vec<i32> {
    let runner = server.wait_for_workers(1)[0];
    let all = procs::all().into_iter();
    all.filter(|process| process.session == runner && process.pid != runner && process.is_alive())
        .map(|process| process.pid)
        .collect()
}

#[test]
fn a_child_with_a_group_of_its_own_ends_with_its_script() {
    let server = Setup::cgi().start();
    let mark = server.log().len();
    assert_eq!(server.get("/bad.sh?leader").text(), "hello\n");
    let line = server.wait_for_log_after(mark, "(timeout 100 sleep 99), which was killed");
    assert!(line.contains("any.cgi[") && line.contains("it left process"), "{line}");
    wait_until("the end of all that it started", || session(&server).is_empty());
    let client = send(&server, "GET", "leader-hangs");
    wait_for_mark(&server);
    assert!(session(&server).len() >= 3);
    drop(client);
    wait_until("the end of what nobody waits for", || session(&server).is_empty());
    server.stop();
}

#[test]
fn a_child_with_a_group_of_its_own_ends_at_the_deadline() {
    let server = Setup::cgi().with_text("timeout", "1s").allow("SCRIPT TIMEOUT").start();
    for round in 0..2 {
        let mut client = send(&server, "GET", "leader-hangs");
        assert_eq!(client.response("GET").status, 504, "round {round}");
        wait_until("the end of all that it started", || session(&server).is_empty());
    }
    server.stop();
}

#[test]
fn what_another_script_may_have_started_is_left_alone() {
    let server = Setup::cgi().start();
    let mut client = send(&server, "GET", "leader-behind");
    wait_for_mark(&server);
    let before = session(&server);
    assert_eq!(server.get("/").text(), "hello\n");
    assert_eq!(server.get("/bad.sh?leader").text(), "hello\n");
    let all = procs::all().into_iter();
    let leaders = all.filter(|process| before.contains(&process.pid) && process.pid == process.group);
    assert_eq!(
        leaders.filter(procs::Process::is_alive).count(),
        2,
        "the script and what it started"
    );
    std::fs::remove_file(server.path("mark")).expect("the mark");
    assert_eq!(client.response("GET").text(), "done\n");
    wait_until("the end of what both have left", || session(&server).is_empty());
    server.stop();
}

#[test]
fn a_client_that_has_its_whole_answer_does_not_end_the_script_by_leaving() {
    let server = Setup::cgi().start();
    for method in ["GET", "HEAD"] {
        let mut client = send(&server, method, "afterwards");
        assert_eq!(client.response(method).status, 200);
        wait_for_mark(&server);
        drop(client);
        let line = wait_for("the line of the access log", || {
            let lines = server.access_log();
            lines
                .into_iter()
                .find(|line| line.contains(&format!("{method} /bad.sh")))
        });
        assert!(line.contains(" 200 "), "{line}");
        std::fs::remove_file(server.path("mark")).unwrap();
        wait_until("the end of the script", || server.path("mark.done").exists());
        std::fs::remove_file(server.path("mark.done")).unwrap();
        wait_for_scripts(&server, 0);
    }
    server.stop();
}

#[test]
fn hints_without_end_fill_no_memory_while_their_client_takes_nothing() {
    let server = Setup::cgi().start();
    let mut client = send(&server, "GET", "hints");
    wait_for_mark(&server);
    let resident = procs::resident_kib(server.front());
    assert!(resident < 40 << 10, "80 MB of hints, and {resident} KiB");
    assert_eq!(client.response("GET").text(), "hello\n");
    server.stop();
}

#[test]
fn a_runner_that_stops_is_replaced_though_nobody_asks_for_anything() {
    let server = Setup::cgi()
        .with_text("timeout", "2s")
        .allow("WORKER TIMEOUT")
        .allow("orker")
        .start();
    let runner = server.wait_for_workers(1)[0];
    procs::signal(runner, Signal::SIGSTOP);
    server.wait_for_log("no sign of life");
    wait_until("another runner", || {
        server.workers().iter().any(|pid| *pid != runner) && !server.workers().contains(&runner)
    });
    assert_eq!(server.get("/").text(), "hello\n");
    server.stop();
}

#[test]
fn scripts_die_with_their_runner_and_another_takes_its_place() {
    let server = Setup::cgi().allow("").start();
    let runner = server.wait_for_workers(1)[0];
    let mut client = send(&server, "POST", "hangs");
    let script = wait_for_scripts(&server, 1)[0];
    procs::signal(runner, Signal::SIGKILL);
    assert_eq!(client.response("POST").status, 502);
    wait_until("the end of the script and its child", || {
        !procs::all()
            .iter()
            .any(|process| process.group == script && process.is_alive())
    });
    wait_until("another runner", || server.workers().iter().any(|pid| *pid != runner));
    assert_eq!(server.get("/").text(), "hello\n");
    server.stop();
}

#[test]
fn scripts_die_with_the_arbiter() {
    let mut server = Setup::cgi().allow("").start();
    let _client = send(&server, "POST", "hangs");
    wait_for_scripts(&server, 1);
    server.note_processes();
    server.signal(Signal::SIGKILL);
    server.wait_for_nothing_left(Duration::from_secs(10));
    server.expect_killed();
}

#[test]
fn a_stop_waits_for_scripts_and_a_reload_lets_them_finish() {
    let server = Setup::cgi().start();
    let mut client = send(&server, "GET", "waits");
    wait_for_mark(&server);
    server.signal(Signal::SIGHUP);
    wait_until("another runner", || server.workers().len() == 2);
    wait_until("an answer of it", || server.get("/").status == 200);
    std::fs::remove_file(server.path("mark")).expect("the mark");
    assert_eq!(client.response("GET").text(), "done\n");
    wait_until("the end of the old runner", || server.workers().len() == 1);
    server.stop();
}
