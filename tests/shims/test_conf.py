"""Configuration files in Python, evaluated by a real host process."""

import unittest

from fake_arbiter import Arbiter


def evaluate(text, **more):
    """The host's first message, what it printed, and its exit code."""
    files = {"gunicorn.conf.py": text}
    files.update(more.pop("files", {}))
    arbiter = Arbiter(files, **more)
    message = arbiter.receive()
    code, said = arbiter.close()
    return message, said, code


class Values(unittest.TestCase):
    def values(self, text, **more):
        message, said, code = evaluate(text, **more)
        self.assertEqual((message["type"], code), ("evaluated", 0), said)
        return message

    def test_no_file_at_all(self):
        message = self.values("", conf=None)
        self.assertEqual(message["values"], [])
        self.assertIsNone(message["file"])

    def test_plain_values_keep_type_order_and_line(self):
        message = self.values(
            "import os\n"
            "workers = 2 * 2 + 1\n"
            "bind = ('127.0.0.1:8000', 'unix:/tmp/x')\n"
            "timeout = '0x10'\n"
            "preload_app = True\n"
            "accesslog = None\n"
            "secure_scheme_headers = {'X-FORWARDED-PROTO': 'https'}\n"
            "keepalive = 1.5\n"
            "if os.environ.get('NO_SUCH_VARIABLE'):\n"
            "    threads = 2\n"
            "else:\n"
            "    threads = 4\n"
        )
        self.assertEqual(
            message["values"],
            [
                ["workers", 5, 2],
                ["bind", ["127.0.0.1:8000", "unix:/tmp/x"], 3],
                ["timeout", "0x10", 4],
                ["preload_app", True, 5],
                ["accesslog", None, 6],
                ["secure_scheme_headers", {"X-FORWARDED-PROTO": "https"}, 7],
                ["keepalive", 1.5, 8],
                # Which of the two ran is not in the text.
                ["threads", 4, None],
            ],
        )
        self.assertEqual(message["file"], "gunicorn.conf.py")

    def test_lists_may_be_any_iterable(self):
        message = self.values("bind = ('127.0.0.1:%d' % port for port in (1, 2))\nraw_env = {'A=b': 1}.keys()\n")
        self.assertEqual([value for _, value, _ in message["values"]], [["127.0.0.1:1", "127.0.0.1:2"], ["A=b"]])

    def test_paths_may_be_path_objects(self):
        message = self.values("import pathlib\npidfile = pathlib.Path('/run') / 'x.pid'\n")
        self.assertEqual(message["values"], [["pidfile", "/run/x.pid", 2]])

    def test_enumerations_are_what_they_derive_from(self):
        message = self.values(
            "import enum\n"
            "class Level(str, enum.Enum):\n    LOW = 'debug'\n"
            "class Count(enum.IntEnum):\n    FEW = 2\n"
            "loglevel = Level.LOW\nworkers = Count.FEW\n"
        )
        self.assertEqual(message["values"], [["loglevel", "debug", 6], ["workers", 2, 7]])

    def test_other_names_are_told_if_they_look_like_settings(self):
        message = self.values(
            "import os\nfrom os import path\npreload = True\n_hidden = 1\ndef helper(): pass\nclass Thing: pass\n"
        )
        self.assertEqual(message["others"], ["preload"])

    def test_classes_go_by_name_and_functions_are_asked(self):
        message = self.values(
            "from gunicorn.workers.gthread import ThreadWorker as worker_class\n"
            "def logger_class():\n    return 'gunicorn.glogging.Logger'\n"
        )
        self.assertEqual(
            message["values"],
            [
                ["worker_class", "gunicorn.workers.gthread.ThreadWorker", None],
                ["logger_class", "gunicorn.glogging.Logger", 2],
            ],
        )

    def test_a_subclass_of_a_worker_goes_by_the_name_of_its_base(self):
        for text in (
            "from gunicorn.workers.sync import SyncWorker\n"
            "class Mine(SyncWorker):\n    def init_process(self): super().init_process()\n"
            "class worker_class(Mine): pass\n",
            "worker_class = 'mine.Mine'\n",
        ):
            message = self.values(
                text, files={"mine.py": "from gunicorn.workers.sync import SyncWorker\nclass Mine(SyncWorker): pass\n"}
            )
            self.assertEqual([value[:2] for value in message["values"]], [["worker_class", "gunicorn.workers.sync.SyncWorker"]])
            self.assertEqual(message["opaque"], ["worker_class"])
        for name in ("gevent", "uvicorn.workers.UvicornWorker", "gunicorn.workers.gthread.ThreadWorker"):
            message = self.values("worker_class = %r\n" % name)
            self.assertEqual(message["values"], [["worker_class", name, 1]])
            self.assertEqual(message["opaque"], [])

    def test_what_has_no_form_in_json_stays(self):
        message = self.values(
            "from functools import partial\n"
            "from gunicorn.glogging import Logger\n"
            "class logger_class(Logger): pass\n"
            "logconfig_dict = {'version': 1, 'filters': {'f': {'()': object}}}\n"
            "def on_starting(server): pass\n"
            "class Hook:\n"
            "    def __call__(self, server, worker): pass\n"
            "post_fork = Hook()\n"
            "pre_fork = partial(lambda kind, server, worker: None, 'x')\n"
            "post_request = lambda worker, req: None\n"
        )
        self.assertEqual(message["opaque"], ["logger_class", "logconfig_dict"])
        self.assertEqual(message["callables"], ["on_starting", "post_fork", "pre_fork", "post_request"])
        self.assertEqual(message["values"], [])

    def test_hooks_may_be_named(self):
        message = self.values("when_ready = 'hooks.ready'\n", files={"hooks.py": "def ready(server): pass\n"})
        self.assertEqual(message["callables"], ["when_ready"])

    def test_environment_and_import_path(self):
        message = self.values(
            "import os, sys\n"
            "os.environ['ADDED'] = 'yes'\n"
            "os.environ['HOME'] = '/nowhere'\n"
            "del os.environ['GONE']\n"
            "sys.path.insert(0, '/extra/place')\n",
            environ={"GONE": "1", "KEPT": "1"},
        )
        self.assertEqual(message["environ"], {"ADDED": "yes", "HOME": "/nowhere", "GONE": None})
        self.assertEqual(message["sys_path"], ["/extra/place"])

    def test_the_file_is_a_module_of_its_own(self):
        message = self.values(
            "import os, sys\n"
            "import neighbour\n"
            "workers = neighbour.count\n"
            "proc_name = '%s %s' % (__name__, sys.modules['__config__'].__file__ == __file__)\n"
            "chdir = os.getcwd()\n"
            "accesslog = os.path.dirname(__file__)\n",
            files={"neighbour.py": "count = 7\n"},
        )
        values = {name: value for name, value, _ in message["values"]}
        self.assertEqual((values["workers"], values["proc_name"]), (7, "__config__ True"))
        self.assertEqual(values["chdir"], values["accesslog"])

    def test_a_module_by_name(self):
        message = self.values("", conf="python:settings_module", files={"settings_module.py": "workers = 3\n"})
        self.assertEqual(message["values"], [["workers", 3, 1]])
        self.assertEqual(message["file"], "python:settings_module")

    def test_an_unusual_name_is_warned_about(self):
        message, said, code = evaluate("", conf="settings.conf", files={"settings.conf": "workers = 3\n"})
        self.assertEqual((message["values"], code), ([["workers", 3, 1]], 0))
        self.assertIn("WARNING: configuration file should have a valid Python extension.", said)

    def test_gunicorn_need_not_be_installed(self):
        message = self.values(
            "import gunicorn, gunicorn.config, gunicorn.util\n"
            "from gunicorn.glogging import Logger, CONFIG_DEFAULTS\n"
            "from gunicorn.arbiter import Arbiter\n"
            "from gunicorn.workers.base import Worker\n"
            "from gunicorn.workers.sync import SyncWorker\n"
            "from gunicorn.workers.ggevent import GeventWorker\n"
            "from gunicorn.app.base import BaseApplication\n"
            "from gunicorn.app.wsgiapp import WSGIApplication\n"
            "from gunicorn.errors import HaltServer, ConfigError, AppImportError\n"
            "from gunicorn.http.errors import ParseException\n"
            "from gunicorn.http.message import Request\n"
            "from gunicorn.http.wsgi import Response\n"
            "from gunicorn.instrument.statsd import Statsd\n"
            "proc_name = '%d %s' % (gunicorn.version_info[0], gunicorn.SERVER_SOFTWARE)\n"
            "class Mine(SyncWorker): pass\n"
        )
        self.assertEqual(message["values"], [["proc_name", "26 gunicorn/26.1.0", 14]])


class Failures(unittest.TestCase):
    def fails(self, text, **more):
        message, said, code = evaluate(text, **more)
        self.assertEqual(message["type"], "failed", message)
        self.assertEqual(message["exit"], code)
        return message["error"], said, code

    def test_missing(self):
        error, _, code = self.fails("", conf="other.py")
        self.assertEqual((error, code), ("'other.py' doesn't exist", 1))

    def test_an_exception_shows_where(self):
        error, said, code = self.fails("workers = 2\n1 / 0\n")
        self.assertEqual((error, code), ("gunicorn.conf.py: ZeroDivisionError: division by zero", 1))
        self.assertTrue(said.startswith("Failed to read config file: gunicorn.conf.py\nTraceback"), said)
        self.assertIn('gunicorn.conf.py", line 2, in <module>\n    1 / 0\n', said)
        self.assertNotIn("rgunicorn/", said)
        self.assertNotIn("importlib", said)

    def test_a_syntax_error_shows_its_line(self):
        error, said, _ = self.fails("workers = 2\nbind = = 3\n")
        self.assertRegex(error, "^gunicorn.conf.py: SyntaxError: invalid syntax")
        self.assertIn('gunicorn.conf.py", line 2', said)

    def test_a_missing_module(self):
        error, said, _ = self.fails("", conf="python:no_such_module")
        self.assertEqual(error, "python:no_such_module: ModuleNotFoundError: No module named 'no_such_module'")

    def test_sys_exit(self):
        self.assertEqual(self.fails("import sys; sys.exit(7)\n")[2], 7)
        self.assertEqual(self.fails("import sys; sys.exit(0)\n")[2], 1)
        error, _, code = self.fails("import sys; sys.exit('no database')\n")
        self.assertEqual((error, code), ("gunicorn.conf.py ended the program by SystemExit: no database", 1))

    def test_arity(self):
        for text, words in (
            ("def on_starting(): pass\n", "Value must have an arity of: 1"),
            ("def pre_fork(server, worker, more): pass\n", "Value must have an arity of: 2"),
            ("def post_request(worker): pass\n", "Value must have an arity of: 4"),
            ("on_exit = None\n", "Value is not callable: None"),
            ("on_exit = 'nowhere'\n", "Value 'nowhere' is not import string. Format: module[.submodules...].object"),
        ):
            error, said, code = self.fails(text)
            hook = text.replace("def ", "").split("(")[0].split(" ")[0]
            self.assertEqual((error, code), ("gunicorn.conf.py:1: %s: %s" % (hook, words), 1))
            self.assertIn("Invalid value for %s: " % hook, said)

    def test_values_without_a_form(self):
        for text, words in (
            ("workers = object\n", "workers: a value of type builtins.type is of no use here: <class 'object'>"),
            ("timeout = float('inf')\n", "timeout: not a number to count with: inf"),
            ("bind = b'127.0.0.1:8000'\n", "bind: a value of type builtins.bytes is of no use here: b'127.0.0.1:8000'"),
            ("proc_name = '\\udcff'\n", "proc_name: not text that has a form in UTF-8: '\\udcff'"),
            ("secure_scheme_headers = {1: 2}\n", "secure_scheme_headers: a dictionary whose keys are not all text"),
        ):
            error, _, code = self.fails(text)
            self.assertEqual((error, code), ("gunicorn.conf.py:1: " + words, 1))

    def test_a_worker_class_that_serves_requests_itself(self):
        error, _, code = self.fails(
            "from gunicorn.workers.sync import SyncWorker\n"
            "class Mine(SyncWorker):\n    def handle_request(self, *args): pass\nworker_class = Mine\n"
        )
        words = "worker_class: Mine.handle_request would replace what serves requests here"
        self.assertEqual((error, code), ("gunicorn.conf.py:4: " + words, 1))

    def test_too_much(self):
        error, _, _ = self.fails("raw_env = ['A=' + 'x' * 200000]\n")
        self.assertIn("more than the limit", error)

    def test_text_outside_of_utf_8_in_the_environment(self):
        error, _, _ = self.fails("import os\nos.environ['ODD'] = '\\udcff'\n")
        self.assertIn("environment variable 'ODD'", error)


if __name__ == "__main__":
    unittest.main()
