//! What goes wrong after an answer has been sent: the client has it, and the other requests of the worker get theirs.

use crate::harness::{Setup, procs};

const CLASSES: [&[&str]; 3] = [&[], &["--threads", "3"], &["-k", "gevent"]];

#[test]
fn exceptions_after_the_answer_cost_no_worker() {
    const CONF: &str = "\
import gunicorn.glogging
accesslog = '-'
class logger_class(gunicorn.glogging.Logger):
    def access(self, resp, req, environ, request_time):
        raise ValueError('no line')
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
        for (conf, words) in [(CONF, "no line"), ("", "no close")] {
            let who = format!("{class:?} {words}");
            let setup = Setup::bare(&[class, &["odd"]].concat())
                .allow("Error handling request GET /")
                .allow("ValueError");
            std::fs::write(setup.path("gunicorn.conf.py"), conf).expect("a conf file");
            std::fs::write(setup.path("odd.py"), APP).expect("an app");
            let server = setup.start_unready();
            let worker = server.wait_for_workers(1)[0];
            for _ in 0..5 {
                let response = server.get("/");
                assert_eq!((response.status, response.text()), (200, worker.to_string()), "{who}");
            }
            server.wait_for_log(&format!("ValueError: {words}"));
            assert!(server.log().contains("Error handling request GET /\n"), "{who}");
            assert!(procs::is_alive(worker), "{who}");
            server.stop();
        }
    }
}
