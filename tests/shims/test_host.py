"""The host: hooks, preloading and forking, with real processes and a fake arbiter."""

import os
import pathlib
import signal
import sys
import unittest

from fake_arbiter import PATIENCE, Arbiter, wait

APP = """
def application(environ, start_response):
    body = environ["PATH_INFO"].encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""

NOTE = """
import os
def note(*words):
    with open(os.path.join(os.path.dirname(__file__), "notes"), "a") as file:
        file.write(" ".join(map(str, words)) + "\\n")
"""

# Every hook, with what identifies its arguments.
ALL_HOOKS = NOTE + """
def on_starting(server): note("on_starting", server.pid == os.getppid())
def on_reload(server): note("on_reload")
def when_ready(server): note("when_ready", server.num_workers, server.address, server.LISTENERS[0])
def nworkers_changed(server, new, old): note("nworkers_changed", new, old, server.num_workers)
def pre_fork(server, worker):
    worker.number = len(server.WORKERS) + 1
    os.environ["NUMBER"] = str(worker.number)
    note("pre_fork", worker.age, worker.pid)
def post_fork(server, worker): note("post_fork", worker.number, worker.pid == os.getpid(), os.getppid() == server.pid)
def post_worker_init(worker): note("post_worker_init", callable(worker.app.callable), os.environ["NUMBER"])
def worker_exit(server, worker): note("worker_exit", worker.number, server.cfg.workers)
def child_exit(server, worker): note("child_exit", worker.number, worker.age, len(server.WORKERS))
def pre_exec(server): note("pre_exec")
def on_exit(server): note("on_exit")
"""


def python_for_all():
    """A Python that any user may run, or None."""
    for python in (os.path.realpath(sys.executable), "/usr/bin/python3"):
        parents = list(pathlib.Path(python).parents)
        if os.path.exists(python) and all(parent.stat().st_mode & 0o001 for parent in parents):
            return python
    return None


class Case(unittest.TestCase):
    def start(self, conf, app=APP, fails=None, settings=(), files=(), environ=(), python=sys.executable, before=None, error_log=None, **changes):
        named = {"gunicorn.conf.py": conf, "app.py": app}
        named.update(files)
        self.arbiter = Arbiter(named, environ=environ, python=python, before=before)
        self.ended = None
        self.addCleanup(self.finish)
        evaluated = self.arbiter.receive()
        self.assertEqual(evaluated["type"], "evaluated", evaluated)
        if error_log is not None:
            self.done(self.arbiter.ask({"type": "reopen"}, [error_log]))
        answer = self.arbiter.configure(evaluated, settings=dict(settings), **changes)
        if answer["type"] == fails:
            return answer
        self.assertEqual(answer, {"type": "done", "of": "configure"})
        return self.arbiter

    def finish(self):
        """Ends the host; its exit code and what it printed."""
        if self.ended is None:
            self.ended = self.arbiter.close()
        return self.ended

    def fork(self, **more):
        worker, answer = self.arbiter.fork(**more)
        self.assertEqual(answer["type"], "forked", answer)
        return worker

    def done(self, answer):
        self.assertEqual(answer["type"], "done", answer)


class Hooks(Case):
    def test_each_is_called_in_order_with_its_objects(self):
        arbiter = self.start(ALL_HOOKS, settings={"workers": 2})
        self.done(arbiter.hook("nworkers_changed", new=2, old=None))
        self.done(arbiter.hook("on_starting"))
        self.done(arbiter.hook("when_ready"))
        first = self.fork(age=1)
        self.assertTrue(first.wait_ready())
        second = self.fork(age=2)
        self.assertTrue(second.wait_ready())
        self.assertIn("/hello", first.request("/hello").decode("latin-1"))
        self.assertEqual(first.stop(), 0)
        self.done(arbiter.child_exit(first, 0))
        self.done(arbiter.hook("nworkers_changed", new=3, old=2))
        self.done(arbiter.hook("on_reload"))
        self.done(arbiter.hook("pre_exec"))
        self.assertEqual(second.stop(), 0)
        self.done(arbiter.child_exit(second, 0))
        self.done(arbiter.hook("on_exit"))
        notes = arbiter.read("notes").splitlines()
        self.assertEqual(
            notes,
            [
                "nworkers_changed 2 None 2",
                "on_starting True",
                "when_ready 2 [('127.0.0.1', 8000)] http://127.0.0.1:8000",
                "pre_fork 1 [booting]",
                "post_fork 1 True True",
                "post_worker_init True 1",
                "pre_fork 2 [booting]",
                "post_fork 2 True True",
                "post_worker_init True 2",
                "worker_exit 1 2",
                "child_exit 1 1 1",
                "nworkers_changed 3 2 3",
                "on_reload",
                "pre_exec",
                "worker_exit 2 2",
                "child_exit 2 2 0",
                "on_exit",
            ],
        )
        self.assertEqual(self.finish(), (0, ""))

    def test_hooks_that_are_not_defined_are_done_at_once(self):
        arbiter = self.start("workers = 1\n")
        for name in ("on_starting", "when_ready", "on_reload", "pre_exec", "on_exit"):
            self.assertEqual(arbiter.hook(name), {"type": "done", "of": "hook", "name": name})
        self.done(arbiter.hook("nworkers_changed", new=1, old=None))

    def test_child_exit_is_not_called_for_a_worker_that_did_not_start(self):
        arbiter = self.start(NOTE + "def child_exit(server, worker): note(len(server.WORKERS))\n", app="1 / 0\n")
        worker = self.fork()
        self.assertEqual(worker.wait_exit(), 3)
        self.done(arbiter.child_exit(worker, 3))
        self.done(arbiter.child_exit(worker, 0))  # unknown by now
        self.assertFalse(os.path.exists(os.path.join(arbiter.start, "notes")))

    def test_an_exception_before_the_main_loop(self):
        arbiter = self.start("def on_starting(server):\n    raise ValueError('no\\nluck')\n")
        answer = arbiter.hook("on_starting")
        self.assertEqual(
            answer,
            {"type": "failed", "of": "hook", "name": "on_starting", "error": "ValueError: no luck", "exit": 1},
        )
        _, said = self.finish()
        self.assertTrue(said.startswith("Traceback (most recent call last):\n  File"), said)
        self.assertIn('gunicorn.conf.py", line 2, in on_starting', said)
        self.assertNotIn("host.py", said)

    def test_an_exception_in_the_main_loop(self):
        arbiter = self.start("def on_reload(server):\n    1 / 0\n")
        answer = arbiter.hook("on_reload")
        self.assertEqual((answer["type"], answer["exit"]), ("failed", 255))
        _, said = self.finish()
        self.assertRegex(said, r"^\[[-0-9]+ [:0-9]+ [-+0-9]+\] \[\d+\] \[ERROR\] Exception in on_reload hook\n")
        self.assertIn("ZeroDivisionError: division by zero", said)

    def test_sys_exit_in_a_hook(self):
        arbiter = self.start("import sys\ndef when_ready(server): sys.exit(9)\n")
        answer = arbiter.hook("when_ready")
        self.assertEqual((answer["type"], answer["exit"]), ("failed", 9))

    def test_the_host_goes_on_after_a_failure(self):
        arbiter = self.start("def on_reload(server): 1 / 0\n")
        self.assertEqual(arbiter.hook("on_reload")["type"], "failed")
        self.assertTrue(self.fork().wait_ready())

    def test_threads_of_hooks_live_on(self):
        arbiter = self.start(
            NOTE + "import threading\n"
            "go = threading.Event()\n"
            "met = threading.Event()\n"
            "def work():\n    go.wait()\n    note('worked')\n    met.set()\n"
            "def on_starting(server): threading.Thread(target=work).start()\n"
            "def when_ready(server):\n    go.set()\n    met.wait(%d)\n" % PATIENCE
        )
        self.done(arbiter.hook("on_starting"))
        self.assertTrue(self.fork().wait_ready())
        self.done(arbiter.hook("when_ready"))
        self.assertEqual(arbiter.read("notes"), "worked\n")

    def test_a_thread_that_never_ends_does_not_hold_the_host(self):
        arbiter = self.start(
            "import threading\n"
            "def on_starting(server): threading.Thread(target=threading.Event().wait).start()\n"
        )
        self.done(arbiter.hook("on_starting"))
        self.assertEqual(self.finish()[0], 0)

    def test_hooks_may_ask_the_arbiter(self):
        arbiter = self.start(
            "def when_ready(server):\n"
            "    server.num_workers += 2\n"
            "    server.manage_workers()\n"
            "    server.reload()\n"
            "def on_reload(server):\n"
            "    for pid in server.WORKERS: server.kill_worker(pid, 15)\n"
            "def on_exit(server): server.spawn_worker()\n"
        )
        worker = self.fork()
        arbiter.send({"type": "hook", "name": "when_ready"})
        got = [arbiter.receive() for _ in range(4)]
        self.assertEqual([message.get("command") for message in got], ["ttin", "ttin", "reload", None])
        arbiter.send({"type": "hook", "name": "on_reload"})
        self.assertEqual(arbiter.receive(), {"type": "command", "command": "kill_worker", "pid": worker.pid})
        self.done(arbiter.receive())
        answer = arbiter.hook("on_exit")
        self.assertIn("server.spawn_worker is not available", answer["error"])


    def test_signals_that_it_sends_itself_are_the_arbiters(self):
        arbiter = self.start(
            "import os, signal, threading\n"
            "from os import kill\n"
            "def when_ready(server):\n"
            "    os.kill(os.getpid(), signal.SIGHUP)\n"
            "    kill(os.getpid(), 15)\n"
            "    signal.raise_signal(signal.SIGTTIN)\n"
            "    thread = threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGUSR2))\n"
            "    thread.start()\n"
            "    thread.join()\n"
            "    os.kill(os.getpid(), 0)\n"
            "    os.kill(os.getppid(), 0)\n"
            "def on_reload(server):\n"
            "    got = []\n"
            "    signal.signal(signal.SIGUSR1, lambda number, frame: got.append(number))\n"
            "    os.kill(os.getpid(), signal.SIGUSR1)\n"
            "    assert got == [signal.SIGUSR1]\n"
            "def post_fork(server, worker):\n"
            "    got = []\n"
            "    signal.signal(signal.SIGTERM, lambda number, frame: got.append(number))\n"
            "    kill(os.getpid(), signal.SIGTERM)\n"
            "    os.kill(os.getpid(), signal.SIGTERM)\n"
            "    assert len(got) == 2\n"
        )
        arbiter.send({"type": "hook", "name": "when_ready"})
        got = [arbiter.receive().get("command") for _ in range(5)]
        self.assertEqual(got, ["SIGHUP", "SIGTERM", "SIGTTIN", "SIGUSR2", None])
        # A handler of its own is left alone, and so is a worker.
        self.done(arbiter.hook("on_reload"))
        self.assertTrue(self.fork().wait_ready())


class Forking(Case):
    def test_a_worker_is_our_child_in_a_group_of_its_own(self):
        arbiter = self.start(
            NOTE + "import signal\n"
            "def descriptors():\n"
            "    listing = os.open('/proc/self/fd', os.O_RDONLY)\n"
            "    found = sorted(set(map(int, os.listdir(listing))) - {listing})\n"
            "    os.close(listing)\n"
            "    return found\n"
            "before = descriptors()\n"
            "def post_fork(server, worker):\n"
            "    note(os.getpgid(0) == os.getpid(), signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)\n"
            "    note(descriptors() == before, before[:6])\n"
            "    note([os.get_inheritable(fd) for fd in (3, 4, 5)])\n"
            "    note(signal.pthread_sigmask(signal.SIG_BLOCK, []))\n"
        )
        worker = self.fork()
        self.assertTrue(worker.wait_ready())
        # Nothing is left of passing them, and where the host has its way to the arbiter there is the channel.
        self.assertEqual(
            arbiter.read("notes").splitlines(),
            ["True True", "True [0, 1, 2, 3, 4, 5]", "[False, False, False]", "set()"],
        )
        with open("/proc/%d/stat" % worker.pid) as file:
            self.assertEqual(int(file.read().rpartition(")")[2].split()[1]), os.getpid())
        self.assertEqual(worker.stop(), 0)

    def test_files_of_the_configuration_are_not_overwritten(self):
        self.start(
            NOTE + "files = [open(__file__) for _ in range(8)]\n"
            "def post_fork(server, worker): note([file.readline() == 'import os\\n' for file in files])\n"
            "files[0].readline()\n"
            "for file in files: file.seek(1)\n"
        )
        worker = self.fork()
        self.assertTrue(worker.wait_ready())
        self.assertEqual(self.arbiter.read("notes"), "%s\n" % ([True] * 8))

    def test_functions_that_libraries_replace_are_not_used(self):
        # gevent puts functions in these places that fork, wait and close in its own time.
        self.start(
            "import os\n"
            "host = os.getpid()\n"
            "def replace(name, old):\n"
            "    def new(*args):\n        return 1 / 0 if os.getpid() == host else old(*args)\n"
            "    setattr(os, name, new)\n"
            "for name in ('fork', 'waitpid', 'close', 'read', 'write', 'pipe', '_exit'): replace(name, getattr(os, name))\n"
        )
        self.assertTrue(self.fork().wait_ready())

    def test_no_zombie_is_left(self):
        self.start("")
        workers = [self.fork(number=number, age=number) for number in range(1, 4)]
        for worker in workers:
            self.assertTrue(worker.wait_ready())
        with open("/proc/%d/task/%d/children" % (self.arbiter.host, self.arbiter.host)) as file:
            self.assertEqual(file.read(), "")

    def test_what_a_worker_prints_goes_to_its_own_pipe(self):
        self.start("def post_fork(server, worker): worker.log.info('from %d', worker.age)\n")
        worker = self.fork(age=12)
        self.assertTrue(worker.wait_ready())
        self.assertEqual(worker.stop(), 0)
        self.assertRegex(worker.said(), r"(?m)^\[.*\] \[%d\] \[INFO\] from 12$" % worker.pid)
        self.assertEqual(self.finish()[1], "")

    def test_post_fork_that_fails_is_a_boot_error(self):
        arbiter = self.start(
            NOTE + "def post_fork(server, worker): raise ValueError('no port')\n"
            "def worker_exit(server, worker): note('worker_exit')\n"
        )
        worker = self.fork()
        self.assertEqual(worker.wait_exit(), 3)
        said = worker.said()
        self.assertIn("[ERROR] Exception in worker process\nTraceback (most recent call last):\n", said)
        self.assertIn("ValueError: no port\nno port\n", said)
        self.assertNotIn("host.py", said)
        self.assertEqual(arbiter.read("notes"), "worker_exit\n")

    def test_sys_exit_in_post_fork(self):
        self.start("import sys\ndef post_fork(server, worker): sys.exit(5)\n")
        self.assertEqual(self.fork().wait_exit(), 5)

    def test_pre_fork_that_fails_makes_no_worker(self):
        arbiter = self.start("def pre_fork(server, worker): 1 / 0\n")
        _, answer = arbiter.fork(number=4)
        self.assertEqual(
            answer,
            {
                "type": "failed",
                "of": "fork",
                "worker": 4,
                "error": "ZeroDivisionError: division by zero",
                "exit": 255,
            },
        )

    def test_exit_codes_of_an_app_that_does_not_load(self):
        for text, code in (("1 / 0\n", 3), ("", 4), ("application = 5\n", 4)):
            self.start("", app=text)
            self.assertEqual(self.fork().wait_exit(), code)
            self.finish()

    def test_an_app_that_is_preloaded_is_imported_once(self):
        arbiter = self.start(
            "preload_app = True\n", app=NOTE + "note('imported', os.getpid())\nOWNER = os.getpid()\n" + APP
        )
        self.done(arbiter.ask({"type": "preload"}))
        for age in (1, 2):
            self.assertTrue(self.fork(number=age, age=age).wait_ready())
        self.assertEqual(arbiter.read("notes"), "imported %d\n" % arbiter.host)

    def test_a_preloaded_app_that_raises_no_exception_of_the_usual_kind(self):
        arbiter = self.start("preload_app = True\n", app="raise KeyboardInterrupt\n")
        answer = arbiter.ask({"type": "preload"})
        self.assertEqual((answer["type"], answer["error"], answer["exit"]), ("failed", "KeyboardInterrupt", 1))

    def test_a_preloaded_app_that_fails(self):
        arbiter = self.start("preload_app = True\n", app="import nowhere\n")
        answer = arbiter.ask({"type": "preload"})
        self.assertEqual(
            answer,
            {
                "type": "failed",
                "of": "preload",
                "error": "ModuleNotFoundError: No module named 'nowhere'",
                "exit": 1,
            },
        )
        self.assertIn('app.py", line 1, in <module>', self.finish()[1])

    def test_the_environment_of_the_configuration_reaches_workers(self):
        self.start(
            NOTE + "os.environ['FROM_FILE'] = 'yes'\n"
            "raw_env = ['FROM_SETTING=too']\n"
            "def post_worker_init(worker): note(os.environ['FROM_FILE'], os.environ['FROM_SETTING'])\n"
        )
        self.assertTrue(self.fork().wait_ready())
        self.assertEqual(self.arbiter.read("notes"), "yes too\n")

    @unittest.skipUnless(os.geteuid() == 0 and python_for_all(), "only root can become somebody else")
    def test_rights_are_dropped_after_post_fork(self):
        self.start(
            NOTE + "os.chmod(os.path.dirname(__file__), 0o777)\n"
            "def post_fork(server, worker):\n    note(os.getresuid())\n    os.chmod(__file__[:-16] + 'notes', 0o666)\n"
            "def post_worker_init(worker): note(os.getresuid(), os.getresgid(), os.getgroups())\n",
            python=python_for_all(),
            user=65534,
            group=65533,
        )
        worker = self.fork()
        if not worker.wait_ready():
            self.fail(worker.said())
        self.assertEqual(
            self.arbiter.read("notes").splitlines(),
            ["(0, 0, 0)", "(65534, 65534, 65534) (65533, 65533, 65533) [65533]"],
        )

    def test_a_worker_dies_with_its_arbiter(self):
        # The arbiter of this one is a process in between, which becomes the subreaper.
        told, tell = os.pipe()
        middle = os.fork()
        if middle == 0:
            try:
                arbiter = Arbiter({"gunicorn.conf.py": "", "app.py": APP})
                arbiter.configure(arbiter.receive())
                worker, answer = arbiter.fork()
                worker.wait_ready()
                os.write(tell, b"%d" % answer["pid"])
            finally:
                os._exit(0)
        os.close(tell)
        pid = int(os.read(told, 32))
        os.close(told)
        self.assertEqual(wait(middle), 0)
        # We are a subreaper, so that both come to us.
        self.assertIn(wait(pid), (0, 1, -signal.SIGKILL))

    def test_signals_of_the_terminal_are_not_for_the_host(self):
        arbiter = self.start("")
        for name in "INT QUIT HUP TERM USR1 USR2 TTIN TTOU WINCH".split():
            os.kill(arbiter.host, getattr(signal, "SIG" + name))
        self.done(arbiter.hook("on_starting"))

    def test_the_log_is_reopened(self):
        (first, write_first), (second, write_second) = os.pipe(), os.pipe()
        arbiter = self.start("def on_reload(server): server.log.info('here')\n", error_log=write_first)
        os.close(write_first)
        self.done(arbiter.hook("on_reload"))
        self.done(arbiter.ask({"type": "reopen"}, [write_second]))
        os.close(write_second)
        with os.fdopen(first) as file:
            self.assertEqual(file.read().count("[INFO] here\n"), 1)
        self.done(arbiter.hook("on_reload"))
        self.finish()
        with os.fdopen(second) as file:
            self.assertEqual(file.read().count("[INFO] here\n"), 1)

    def test_a_worker_class_of_the_file(self):
        arbiter = self.start(
            NOTE + "from gunicorn.workers.sync import SyncWorker\n"
            "class Mine(SyncWorker):\n"
            "    def __init__(self, *args, **kwargs):\n"
            "        super().__init__(*args, **kwargs)\n        self.mine = 1\n"
            "    def init_process(self):\n        note('before', self.mine)\n        super().init_process()\n"
            "    def init_signals(self):\n        super().init_signals()\n        note('signals')\n"
            "    def handle_exit(self, sig, frame):\n        note('exit')\n        super().handle_exit(sig, frame)\n"
            "worker_class = Mine\n"
            "def post_worker_init(worker): note(type(worker).__name__, worker.sockets)\n"
        )
        worker = self.fork()
        if not worker.wait_ready():
            self.fail(worker.said())
        self.assertEqual(worker.stop(), 0)
        self.assertEqual(arbiter.read("notes").split("\n"), ["before 1", "signals", "Mine []", "exit", ""])

    def test_a_hook_of_a_worker_reaches_the_arbiter_by_signals(self):
        arrived, ring = os.pipe()
        self.addCleanup(os.close, arrived)
        self.addCleanup(os.close, ring)
        old = signal.signal(signal.SIGTTIN, lambda *_: os.write(ring, b"!"))
        self.addCleanup(signal.signal, signal.SIGTTIN, old)
        self.start("def post_worker_init(worker): worker.server.num_workers += 1\n")
        self.assertTrue(self.fork().wait_ready())
        self.assertEqual(os.read(arrived, 1), b"!")

    def test_a_configuration_that_cannot_be_followed(self):
        for settings, words in (
            ({"logconfig": "/nowhere/log.ini"}, "Error: log config '/nowhere/log.ini' not found"),
            ({"logger_class": "nowhere.Logger"}, "class uri 'nowhere.Logger' invalid or not found"),
            ({"syslog": True, "syslog_facility": "local9"}, "unknown facility name"),
        ):
            answer = self.start("", fails="failed", settings=settings, access_by_app=True)
            self.assertEqual(answer["exit"], 1)
            self.assertIn(words, answer["error"])
            self.finish()

    def test_the_title_is_not_a_masters(self):
        arbiter = self.start("")
        with open("/proc/%d/cmdline" % arbiter.host) as file:
            self.assertEqual(file.read().rstrip("\0"), "rgunicorn: host [app:application]")


if __name__ == "__main__":
    unittest.main()
