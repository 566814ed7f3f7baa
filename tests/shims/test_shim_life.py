"""A worker's boot, its signals and its end."""

import os
import signal
import struct
import unittest

from support import ABORT, REFUSED, Shim, modules, stop, variables

HELLO = """
import os, signal, sys, threading, time

def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/wait":
        # Until the test has seen that the request runs, and lets it go on.
        open("running", "w").close()
        while not os.path.exists("go"):
            time.sleep(0.005)
    if path == "/stuck":
        open("running", "w").close()
        stuck_here()
    if path == "/stream":
        start_response("200 OK", [])
        return stream()
    if path == "/handlers":
        start_response("200 OK", [])
        pid = os.fork()
        if pid == 0:
            signal.pause()
        os.kill(pid, signal.SIGTERM)
        return [b"%d" % os.waitpid(pid, 0)[1]]
    if path == "/facts":
        start_response("200 OK", [])
        facts = [sys.argv, sys.path[:2], os.getcwd(), os.environ["SERVER_SOFTWARE"], sorted(n for n in os.environ if n.startswith("RGUNICORN")), __name__]
        return [repr(facts).encode()]
    if path == "/exit":
        os._exit(9)
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]

def stuck_here():
    while True:
        time.sleep(0.005)

def stream():
    yield b"first"
    open("running", "w").close()
    stuck_here()
"""


class Life(unittest.TestCase):
    def start(self, app="hello", text=HELLO, **changes):
        shim = Shim(app, {"hello.py": text}, **changes)
        self.addCleanup(shim.__exit__)
        return shim

    def running(self, shim, path="/wait"):
        id = shim.send(variables(path=path))
        shim.wait_until(lambda: os.path.exists(os.path.join(shim.directory, "running")), "running request")
        return id

    def go(self, shim):
        open(os.path.join(shim.directory, "go"), "w").close()


class Signals(Life):
    def test_term_while_idle(self):
        shim = self.start()
        shim.wait_ready()
        self.assertEqual(stop(shim), 0)
        self.assertEqual(shim.log(), "")

    def test_term_lets_the_request_end_and_takes_no_other(self):
        shim = self.start()
        shim.wait_ready()
        id = self.running(shim)
        shim.signal(signal.SIGTERM)
        other = shim.send(variables())
        self.go(shim)
        self.assertEqual(shim.take(id).body, b"ok")
        self.assertEqual(shim.wait(), 0)
        # The other one is for another worker: still in the queue.
        self.assertEqual(struct.unpack_from("!BBH", shim.queue_end.recv(131072))[2], other)

    def test_many_terms_lose_no_message(self):
        for _ in range(10):
            shim = self.start()
            shim.wait_ready()
            ids = [shim.send(variables()) for _ in range(4)]
            shim.signal(signal.SIGTERM)
            ended = set()
            while True:
                frame = shim.read_frame()
                if frame is None:
                    break
                if shim.apply(frame):
                    ended.add(frame.id)
            self.assertEqual(shim.wait(), 0)
            shim.queue_end.setblocking(False)
            left = set()
            try:
                while True:
                    left.add(struct.unpack_from("!BBH", shim.queue_end.recv(131072))[2])
            except BlockingIOError:
                pass
            self.assertEqual(ended | left, set(ids))
            self.assertEqual(ended & left, set())
            shim.__exit__()

    def test_quit_and_int_end_the_request(self):
        for number in (signal.SIGINT, signal.SIGQUIT):
            shim = self.start()
            shim.wait_ready()
            id = self.running(shim, "/stuck")
            shim.signal(number)
            answer = shim.take(id)
            self.assertEqual(answer.status, "500 Internal Server Error")
            self.assertEqual(shim.wait(), 0)
            self.assertIn("SystemExit: 0", shim.log())

    def test_quit_while_idle(self):
        shim = self.start()
        shim.wait_ready()
        shim.signal(signal.SIGQUIT)
        self.assertEqual(shim.wait(), 0)

    def test_abort_shows_where_it_is_stuck(self):
        shim = self.start()
        shim.wait_ready()
        id = self.running(shim, "/stuck")
        shim.signal(signal.SIGABRT)
        answer = shim.take(id)
        self.assertEqual(answer.status, "500 Internal Server Error")
        self.assertEqual(shim.wait(), 0)
        log = shim.log()
        self.assertIn("in stuck_here\n", log)
        self.assertIn("most recent call first", log)
        self.assertIn("Error handling request GET /stuck", log)
        self.assertIn("SystemExit: 1", log)

    def test_abort_in_a_stream_cuts_it(self):
        shim = self.start()
        shim.wait_ready()
        id = self.running(shim, "/stream")
        shim.signal(signal.SIGABRT)
        answer = shim.take(id)
        self.assertEqual((answer.body, answer.aborted), (b"first", True))
        self.assertEqual(shim.wait(), 0)

    def test_signals_for_the_arbiter_do_no_harm(self):
        shim = self.start()
        shim.wait_ready()
        id = self.running(shim)
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH):
            shim.signal(number)
        self.go(shim)
        self.assertEqual(shim.take(id).body, b"ok")
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH):
            shim.signal(number)
        self.assertEqual(shim.get().body, b"ok")
        self.assertEqual(stop(shim), 0)
        self.assertEqual(shim.log(), "")

    def test_a_forked_child_dies_by_the_usual_signals(self):
        shim = self.start()
        shim.wait_ready()
        self.assertEqual(shim.get("/handlers").body, b"%d" % signal.SIGTERM)

    def test_the_end_of_rgunicorn_is_the_end_of_the_worker(self):
        shim = self.start()
        shim.wait_ready()
        shim.queue.close()
        self.assertEqual(shim.wait(), 1)
        self.assertEqual(shim.log(), "")
        shim = self.start()
        shim.wait_ready()
        self.running(shim)
        shim.channel.close()
        self.go(shim)
        self.assertEqual(shim.wait(), 1)
        self.assertEqual(shim.log(), "")


class Board(Life):
    def test_the_cell_names_what_runs(self):
        shim = self.start()
        shim.wait_ready()
        self.assertEqual(shim.cells[1], 0)
        id = self.running(shim)
        self.assertEqual(shim.cells[1], id)
        self.go(shim)
        shim.take(id)
        shim.wait_until(lambda: shim.cells[1] == 0, "empty cell")
        shim.take(shim.send(variables(), id=65535))

    def test_it_still_names_it_after_a_sudden_death(self):
        shim = self.start()
        shim.wait_ready()
        id = shim.send(variables(path="/exit"))
        self.assertEqual(shim.wait(), 9)
        self.assertEqual(shim.cells[1], id)


class Surroundings(Life):
    def test_what_the_app_finds(self):
        shim = self.start("hello:application")
        shim.wait_ready()
        found = eval(shim.get("/facts").body)
        argv = ["/usr/bin/rgunicorn", "hello:application"]
        paths = [shim.config["pythonpath"][0], shim.directory]
        self.assertEqual(found, [argv, paths, shim.directory, "rgunicorn/0.1.0", [], "hello"])

    def test_the_title(self):
        with open(os.path.join(self.start().directory, "sitecustomize.py"), "w") as file:
            file.write("import sys; sys.modules['setproctitle'] = None")
        shim = self.start(proc_name="my-app", environ={"PYTHONPATH": os.path.dirname(file.name)})
        shim.wait_ready()
        with open("/proc/%d/cmdline" % shim.pid, "rb") as file:
            self.assertEqual(file.read().rstrip(b"\0"), b"gunicorn: worker [my-app]")
        # The variables behind the arguments are as they were.
        with open("/proc/%d/environ" % shim.pid, "rb") as file:
            self.assertIn(b"\0PATH=", b"\0" + file.read())

    def test_without_ctypes(self):
        text = HELLO.replace("import os,", "import sys; sys.modules['ctypes'] = None\nimport os,", 1)
        shim = self.start(text=text, settings={"reload": True})
        shim.wait_ready()
        self.assertEqual(shim.get().body, b"ok")
        self.assertEqual(stop(shim), 0)

    def test_the_error_logger_is_there_before_the_app(self):
        text = """
import logging
seen = logging.getLogger("gunicorn.error")
mine = logging.getLogger("mine")
mine.handlers, mine.level = seen.handlers, seen.level
mine.error("through %s", "my logger")
logging.getLogger("gunicorn.access").error("nowhere")
def application(environ, start_response):
    start_response("200 OK", [])
    return [repr((len(seen.handlers), seen.level, seen.propagate)).encode()]
"""
        shim = self.start(text=text, settings={"loglevel": "warning"})
        shim.wait_ready()
        self.assertEqual(shim.get().body, b"(1, 30, False)")
        self.assertRegex(shim.log(), r"\A\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}\] \[%d\] \[ERROR\] through my logger\n\Z" % shim.pid)

    ACCESS = """
import logging
seen = logging.getLogger("gunicorn.access")
seen.info("at import")
def application(environ, start_response):
    seen.handlers[0].handle(logging.makeLogRecord({"msg": "asked for %s", "args": (environ["PATH_INFO"],)}))
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""

    def test_the_access_logger_appends_to_the_file_of_the_access_log(self):
        shim = self.start(text=self.ACCESS, settings={"accesslog": "access.log"})
        shim.wait_ready()
        log, old = (os.path.join(shim.directory, name) for name in ("access.log", "old.log"))
        with open(log, "a") as front:
            front.write("a line of the front's\n")
        self.assertEqual(shim.get("/one").body, b"ok")
        os.rename(log, old)
        shim.signal(signal.SIGUSR1)
        # A worker that waits acts on the signal with its next request.
        shim.wait_until(lambda: shim.get("/two").body and os.path.exists(log), "a new file")
        self.assertEqual(shim.get("/three").body, b"ok")
        self.assertEqual(stop(shim), 0)
        with open(old) as file:
            self.assertEqual(file.read().splitlines()[:3], ["at import", "a line of the front's", "asked for /one"])
        with open(log) as file:
            self.assertEqual(file.read().splitlines()[-1], "asked for /three")
        self.assertEqual(shim.log(), "")

    def test_the_access_logger_writes_to_standard_output(self):
        shim = self.start(text=self.ACCESS, settings={"accesslog": "-"})
        shim.wait_ready()
        self.assertEqual(shim.get("/one").body, b"ok")
        self.assertEqual(stop(shim), 0)
        self.assertEqual(shim.log(), "at import\nasked for /one\n")

    def test_an_access_log_that_cannot_be_opened_fails_no_request(self):
        shim = self.start(text=self.ACCESS, settings={"accesslog": "/nowhere/access.log"})
        shim.wait_ready()
        self.assertEqual(shim.get("/one").body, b"ok")
        self.assertEqual(stop(shim), 0)
        self.assertIn("No such file or directory: '/nowhere/access.log'", shim.log())


class Boot(Life):
    def fails(self, app, code, last, text=HELLO, traceback=False, **changes):
        shim = self.start(app, text, **changes)
        self.assertEqual(shim.wait(), code, shim.log())
        log = shim.log()
        self.assertEqual(log.rstrip("\n").rpartition("\n")[2], last)
        self.assertEqual("Exception in worker process\nTraceback" in log, traceback, log)

    def test_specs_that_name_no_app(self):
        self.fails("hello:nothing", 4, "Failed to find attribute 'nothing' in 'hello'.")
        self.fails("hello:__name__", 4, "Application object must be callable.")
        self.fails("hello:none", 4, "Failed to find application object: 'none'", HELLO + "none = None")

    def test_a_signal_amid_the_last_words_changes_nothing(self):
        text = """
import os, signal, sys
class Errors:
    def write(self, text):
        os.kill(os.getpid(), signal.%s)
        return sys.__stderr__.write(text)
    def flush(self):
        sys.__stderr__.flush()
sys.stderr = Errors()
"""
        for name in ("SIGTERM", "SIGQUIT", "SIGINT"):
            self.fails("hello:nothing", 4, "Failed to find attribute 'nothing' in 'hello'.", text % name)
            self.fails("hello", 3, "division by zero", text % name + "1 / 0\n", traceback=True)
        self.fails("hello:a.b", 4, "Failed to parse 'a.b' as an attribute name or function call.")
        self.fails("hello:a(", 4, "Failed to parse 'a(' as an attribute name or function call.")
        self.fails("hello:a.b()", 4, "Function reference must be a simple name: 'a.b()'")
        self.fails("hello:application(x)", 4, "Failed to parse arguments as literal values: 'application(x)'")
        self.fails("hello:stream(1)", 4, "TypeError: stream() takes 0 positional arguments but 1 was given")

    def test_modules_that_do_not_load(self):
        self.fails("nowhere", 3, "No module named 'nowhere'", traceback=True)
        self.fails("hello.py", 3, "Failed to find application, did you mean 'hello:application'?", traceback=True)
        self.fails("hello", 3, "at import", "raise ValueError('at import')", True)
        self.fails("hello", 3, "AssertionError", "assert False", True)
        self.fails("hello", 3, "invalid syntax (hello.py, line 1)", "import import", True)
        self.fails("hello:f()", 3, "in the factory", "def f(): raise TypeError('in the factory')", True)

    def test_system_exit_at_import(self):
        for settings in ({}, {"reload": True}):
            for code, text, words in (
                (9, "import sys; sys.exit(9)", "SystemExit: 9"),
                (0, "import sys; sys.exit()", "SystemExit"),
                (1, "import sys; sys.exit('two\\nlines')", "SystemExit: two lines"),
                (255, "print('loading', flush=True); raise KeyboardInterrupt", "KeyboardInterrupt"),
            ):
                self.fails("hello", code, "importing the app failed: " + words, text, True, settings=settings)

    def test_the_end_of_a_child_forked_at_import_is_no_failure(self):
        shim = self.start(text="import os, sys\nif not os.fork(): sys.exit(3)\nos.wait()\n" + HELLO)
        shim.wait_ready()
        self.assertEqual(stop(shim), 0)
        self.assertNotIn("Traceback", shim.log())

    def test_gevent_that_is_not_there(self):
        text = "gevent worker requires gevent: import of gevent halted; None in sys.modules"
        with open(os.path.join(self.start().directory, "sitecustomize.py"), "w") as file:
            file.write("import sys; sys.modules['gevent'] = None")
            file.flush()
            environ = {"PYTHONPATH": os.path.dirname(file.name)}
            self.fails("hello", 3, text, traceback=True, worker_class="gevent", environ=environ)

    def test_term_while_booting(self):
        text = "import time; open('running', 'w').close()\nwhile True: time.sleep(0.01)"
        shim = self.start(text=text)
        shim.wait_until(lambda: os.path.exists(os.path.join(shim.directory, "running")), "import")
        self.assertEqual(stop(shim), 0)

    def test_factories_and_arguments(self):
        text = """
def make(*args, **kwargs):
    def application(environ, start_response):
        start_response("200 OK", [])
        return [repr((args, kwargs)).encode()]
    return application
"""
        shim = self.start("hello:make(1, 'a:b', n={'x': None})", text)
        shim.wait_ready()
        self.assertEqual(shim.get().body, b"((1, 'a:b'), {'n': {'x': None}})")

    def test_every_module_of_the_shim_compiles(self):
        for name, text in modules().items():
            compile(text, name, "exec")


if __name__ == "__main__":
    unittest.main()
