//! What goes wrong after an answer has been sent: the client has it, and the other requests of the worker get theirs.

use crate::harness::{Client, Server, Setup, procs, wait_until};

const CLASSES: [&[&str]; 3] = [&[], &["--threads", "3"], &["-k", "gevent"]];

#[test]
fn exceptions_after_the_answer_cost_no_worker() {
    const CONF: &str = "\
import gunicorn.glogging
accesslog = '-'
class logger_class(gunicorn.glogging.Logger):
    def access(self, resp, req, environ, request_time):
        raise RAISED('no line')
";
    const APP: &str = "\
import os
class Body(list):
    @property
    def close(self):
        raise ValueError('no close')
def application(environ, start_response):
    start_response('200 OK', [])
    return Body([b'%d' % os.getpid()])
";
    for class in CLASSES {
        let conf = |raised: &str| CONF.replace("RAISED", raised);
        for (conf, words) in [
            (conf("ValueError"), "ValueError: no line"),
            (conf("SystemExit"), "SystemExit: no line"),
            (String::new(), "ValueError: no close"),
        ] {
            let who = format!("{class:?} {words}");
            let setup = Setup::bare(&[class, &["odd"]].concat())
                .allow("Error handling request GET /")
                .allow("ValueError")
                .allow("SystemExit");
            std::fs::write(setup.path("gunicorn.conf.py"), conf).expect("a conf file");
            std::fs::write(setup.path("odd.py"), APP).expect("an app");
            let server = setup.start_unready();
            let worker = server.wait_for_workers(1)[0];
            for _ in 0..5 {
                let response = server.get("/");
                assert_eq!((response.status, response.text()), (200, worker.to_string()), "{who}");
            }
            server.wait_for_log(words);
            assert!(server.log().contains("Error handling request GET /\n"), "{who}");
            assert!(procs::is_alive(worker), "{who}");
            server.stop();
        }
    }
}

/// A hook after the answer ends the worker, and another request may end once that had the time to do harm.
const LEAVING: &str = "\
import threading, time
def open_gate(worker):
    while worker.alive:
        time.sleep(0.01)
    time.sleep(0.5)
    open('gate', 'w').close()
def post_request(worker, req, environ, resp):
    if req.path == '/leave':
        if OPENS:
            threading.Thread(target=open_gate, args=(worker,), daemon=True).start()
        raise END
";

/// A worker of which one request runs until its gate opens when another has ended it after its answer.
fn leaving(words: &[&str], opens: &str, end: &str) -> (Server, i32, Client) {
    let setup = Setup::wsgi(&[&["--threads", "3"], words, &["bad"]].concat()).allow("orker");
    let conf = LEAVING.replace("OPENS", opens).replace("END", end);
    std::fs::write(setup.path("gunicorn.conf.py"), conf).expect("a conf file");
    let server = setup.start();
    let worker = server.wait_for_workers(1)[0];
    let mut other = server.connect();
    other.send("POST /until-gate HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    wait_until("the other request to run", || server.path("begun").exists());
    assert_eq!(server.get("/leave").status, 200, "{end}");
    (server, worker, other)
}

#[test]
fn a_thread_that_ends_its_worker_after_the_answer_waits_for_the_others() {
    for (end, code) in [("SystemExit(5)", 5), ("KeyboardInterrupt", 255)] {
        let (server, worker, mut other) = leaving(&[], "True", end);
        let response = other.response("POST");
        assert_eq!(response.status, 200, "{end}");
        assert!(response.text().ends_with("end"), "{end}: {}", response.text());
        server.wait_for_log(&format!("(pid:{worker}) exited with code {code}"));
        wait_until("another worker", || !server.workers().contains(&worker));
        assert_eq!(server.get("/").status, 200, "{end}");
        server.stop();
    }
}

#[test]
fn a_thread_that_ends_its_worker_waits_no_longer_than_graceful_timeout() {
    let (server, worker, _other) = leaving(&["--graceful-timeout", "1"], "False", "SystemExit(5)");
    server.wait_for_log(&format!("(pid:{worker}) exited with code 5"));
    server.stop();
}
