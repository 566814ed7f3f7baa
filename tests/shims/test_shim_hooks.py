"""Hooks that run in the worker, and what they and loggers are shown; notes for the access log."""

import signal
import unittest

from support import Shim, stop, variables

APP = """
import os, sys, time
def application(environ, start_response):
    print("app", environ["wsgi.url_scheme"], environ.get("HTTP_X_ADDED"), environ.get("HTTP_X_GONE"), file=sys.stderr)
    environ["REMOTE_USER"] = "ann"
    environ["NUMBER"] = 7
    if environ["PATH_INFO"] == "/raise":
        raise KeyError("no")
    if environ["PATH_INFO"] == "/for-ever":
        print("running", file=sys.stderr, flush=True)
        while True:
            time.sleep(0.01)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return pieces() if environ["QUERY_STRING"] else [b"hello"]

def pieces():
    yield b"hel"
    yield b"lo"
"""

HOOKS = """
def say(*words):
    print("hook", *words, file=sys.stderr, flush=True)

def post_worker_init(worker):
    say("init", worker.pid == os.getpid(), worker.age, worker.ppid == os.getppid(), worker.alive, worker.booted,
        callable(worker.wsgi), worker.app.callable is worker.wsgi, worker.app.app_uri, worker.cfg.workers, str(worker)[:8])
    worker.mine = 1

def pre_request(worker, req):
    worker.mine += 1
    say("pre", worker.mine, worker.nr, req.method, req.uri, req.path, req.query, req.fragment, req.version, req.scheme,
        req.remote_addr, ("HOST", "127.0.0.1:8000") in req.headers, req.body.read())
    if req.path == "/change":
        req.scheme = "https"
        req.headers = [pair for pair in req.headers if pair[0] != "X-GONE"] + [("X-ADDED", "1"), ("X-ADDED", "2")]
    if req.path == "/refuse":
        raise ValueError("by the hook")

def post_request(worker, req, environ, resp):
    say("post", req.uri, environ.get("NUMBER"), resp.status, resp.status_code, resp.headers[:1], resp.sent,
        resp.response_length, resp.headers_sent)
    if req.path == "/bad-post":
        raise ValueError("after it")

def worker_int(worker):
    say("int", worker.pid)

def worker_abort(worker):
    say("abort", worker.aborted)

def worker_exit(server, worker):
    say("exit", server, worker.nr)
"""

LOGGER = """
class Log(logs.Logger):
    def access(self, resp, req, environ, request_time):
        print("access", resp.status, resp.sent, req.uri, environ["REMOTE_ADDR"], request_time.total_seconds() >= 0, file=sys.stderr)
"""


class Hooks(unittest.TestCase):
    def start(self, hooks=HOOKS, **changes):
        shim = Shim("hooked", {"hooked.py": APP}, hooks=hooks, **changes)
        self.addCleanup(shim.__exit__)
        shim.wait_ready()
        return shim

    def lines(self, shim, word="hook"):
        return [line.partition(" ")[2] for line in shim.log().splitlines() if line.startswith(word + " ")]

    def test_their_order_and_what_they_see(self):
        shim = self.start(settings={"workers": 3})
        self.assertEqual(self.lines(shim), ["init True 3 True True False True True hooked 3 <Worker "])
        self.assertEqual(shim.get("/a", "b=c").body, b"hello")
        self.assertEqual(stop(shim), 0)
        self.assertEqual(
            self.lines(shim)[1:],
            [
                "pre 2 0 GET /a?b=c /a b=c  (1, 1) http ('127.0.0.1', 40000) True b''",
                "post /a?b=c 7 200 OK 200 [('Content-Type', 'text/plain')] 5 5 True",
                "exit the server 1",
            ],
        )

    def test_changes_reach_the_app(self):
        shim = self.start()
        shim.get("/change", HTTP_X_GONE="here")
        shim.get("/same", HTTP_X_GONE="here")
        self.assertEqual(self.lines(shim, "app"), ["https 1,2 None", "http None here"])

    def test_exceptions_in_hooks(self):
        shim = self.start()
        self.assertEqual(shim.get("/refuse").status, "500 Internal Server Error")
        self.assertIn("ValueError: by the hook", shim.log())
        self.assertEqual(self.lines(shim, "app"), [])
        self.assertEqual(shim.get("/bad-post").body, b"hello")
        shim.wait_for_log("Exception in post_request hook")
        self.assertEqual(shim.get("/raise").status, "500 Internal Server Error")
        shim.wait_for_log("post /raise 7 500 Internal Server Error 500")
        self.assertEqual(stop(shim), 0)

    def test_whether_the_connection_closes(self):
        hooks = """
def post_request(worker, req, environ, resp):
    print("hook", req.should_close(), resp.should_close(), resp.must_close, resp.chunked, file=sys.stderr, flush=True)
"""
        cases = [
            ({}, "False False False False"),
            ({"HTTP_CONNECTION": "close"}, "True True True False"),
            ({"HTTP_CONNECTION": "Keep-Alive"}, "False False False False"),
            ({"HTTP_CONNECTION": "upgrade , CLOSE"}, "True True True False"),
            ({"SERVER_PROTOCOL": "HTTP/1.0"}, "True True True False"),
            ({"SERVER_PROTOCOL": "HTTP/1.0", "HTTP_CONNECTION": "keep-alive"}, "False False False False"),
            ({"SERVER_PROTOCOL": "HTTP/1.0", "HTTP_CONNECTION": "upgrade"}, "True True True False"),
        ]
        shim = self.start(hooks)
        for more, _ in cases:
            shim.get("/", **more)
        self.assertEqual(stop(shim), 0)
        self.assertEqual(self.lines(shim), [said for _, said in cases])
        # Gunicorn's threads force nothing.
        shim = self.start(hooks, worker_class="gthread", slots=2)
        shim.get("/", HTTP_CONNECTION="close")
        self.assertEqual(stop(shim), 0)
        self.assertEqual(self.lines(shim), ["True True False False"])

    def test_a_short_post_request(self):
        shim = self.start("def post_request(worker, req):\n    print('hook', req.method, file=sys.stderr, flush=True)")
        shim.get("/")
        shim.wait_for_log("hook GET")

    def test_int_and_exit(self):
        shim = self.start()
        shim.send(variables(path="/for-ever"))
        shim.wait_for_log("running")
        shim.signal(signal.SIGINT)
        self.assertEqual(shim.wait(), 0)
        said = self.lines(shim)
        self.assertEqual((said[2], said[-1]), ("int %d" % shim.pid, "exit the server 1"))

    def test_abort_and_exit(self):
        shim = self.start()
        shim.send(variables(path="/for-ever"))
        shim.wait_for_log("running")
        shim.signal(signal.SIGABRT)
        self.assertEqual(shim.wait(), 0)
        said = self.lines(shim)
        self.assertEqual((said[2], said[-1]), ("abort True", "exit the server 1"))

    def test_errors_at_boot_and_exit(self):
        hooks = """
def post_worker_init(worker):
    raise ValueError("not today")
def worker_exit(server, worker):
    raise ValueError("nor then")
"""
        shim = Shim("hooked", {"hooked.py": APP}, hooks=hooks)
        self.addCleanup(shim.__exit__)
        self.assertEqual(shim.wait(), 3)
        log = shim.log()
        self.assertIn("Exception in worker process\nTraceback", log)
        self.assertIn("\nnot today\n", log)
        self.assertIn("[WARNING] Exception during worker exit:\nTraceback", log)
        self.assertIn("ValueError: nor then", log)

    def test_alive_can_be_set_to_false(self):
        shim = self.start("def pre_request(worker, req):\n    worker.alive = False")
        self.assertEqual(shim.get("/").body, b"hello")
        self.assertEqual(shim.wait(), 0)
        shim = self.start("def pre_request(worker, req):\n    worker.alive = False", worker_class="gthread", slots=3)
        self.assertEqual(shim.get("/").body, b"hello")
        self.assertEqual(shim.wait(), 0)

    def test_a_logger_of_the_apps(self):
        shim = self.start(LOGGER, access_by_app=True)
        shim.get("/x")
        shim.get("/y", "generator")
        shim.request("POST", "/raise")
        self.assertEqual(stop(shim), 0)
        said = ["200 OK 5 /x 127.0.0.1 True", "200 OK 5 /y?generator 127.0.0.1 True"]
        said.append("500 Internal Server Error %d /raise 127.0.0.1 True" % len(shim_page()))
        self.assertEqual(self.lines(shim, "access"), said)


def shim_page():
    from rgunicorn.handler import ERROR_PAGE

    return ERROR_PAGE


class Notes(unittest.TestCase):
    def test_values_for_the_access_log(self):
        names = ["REMOTE_USER", "NUMBER", "ABSENT", "wsgi.version"]
        with Shim("hooked", {"hooked.py": APP}, environ_names=names) as shim:
            shim.wait_ready()
            expected = {"REMOTE_USER": "ann", "NUMBER": "7", "wsgi.version": "(1, 0)"}
            for query in ("", "generator"):
                answer = shim.get("/", query)
                self.assertEqual((answer.body, answer.notes), (b"hello", expected))
            self.assertEqual(shim.get("/raise").notes, expected)


if __name__ == "__main__":
    unittest.main()
