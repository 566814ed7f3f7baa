"""Logger classes and logging configurations, in workers that a real host forks."""

import os
import pathlib
import re
import select
import signal
import socket
import sys
import unittest

from support import HERE
from test_host import NOTE, Case

APP = """
import logging
log = logging.getLogger("gunicorn.error")
def application(environ, start_response):
    log.info("asked for %s", environ["PATH_INFO"])
    start_response("201 Created", [("Content-Length", "2"), ("X-One", "1")])
    return [b"hi"]
"""

LOGGER = """
from gunicorn.glogging import Logger
class Mine(Logger):
    def setup(self, cfg):
        super().setup(cfg)
        self.error_log.addFilter(lambda record: "secret" not in record.getMessage())
    def now(self):
        return "[now]"
    def atoms(self, resp, req, environ, request_time):
        atoms = super().atoms(resp, req, environ, request_time)
        atoms["h"] = "hidden"
        atoms["kinds"] = "%s %s" % (type(req).__name__, type(resp).__name__)
        return atoms
    def access(self, resp, req, environ, request_time):
        if environ["PATH_INFO"] != "/health":
            super().access(resp, req, environ, request_time)
"""

LINE = r"^\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [-+]\d{4}\] \[\d+\] \[INFO\] asked for /x$"


def without_life(lines):
    """All but the lines that every worker's life begins and ends with."""
    return [line for line in lines if not re.search(r"Booting worker with pid: \d+$|Worker exiting \(pid: \d+\)$", line)]


class Logging(Case):
    def serve(self, conf, paths=("/x",), **more):
        """The lines that a worker wrote: to standard error, and to its access log."""
        more.setdefault("app", APP)
        more.setdefault("access_by_app", True)
        self.start(conf, **more)
        worker = self.fork()
        if not worker.wait_ready():
            self.fail(worker.said())
        for path in paths:
            worker.request(path)
        self.assertEqual(worker.stop(), 0)
        return without_life(worker.said().splitlines())

    def access_lines(self):
        return without_life(self.arbiter.read("access.log").splitlines())

    def test_a_class_in_the_file(self):
        said = self.serve(
            LOGGER + "import os\nlogger_class = Mine\naccesslog = os.path.dirname(__file__) + '/access.log'\n"
            "access_log_format = '%(h)s %(t)s \"%(r)s\" %(s)s %(b)s %(kinds)s %({X-ONE}o)s %({host}i)s %(nothing)s'\n"
            "def post_worker_init(worker): worker.log.info('a secret')\n",
            paths=("/health", "/x"),
        )
        self.assertEqual([re.sub(r"^.*\] ", "", line) for line in said], ["asked for /health", "asked for /x"])
        self.assertEqual(
            self.access_lines(),
            ['hidden [now] "GET /x HTTP/1.1" 201 2 Request Response 1 127.0.0.1:8000 -'],
        )

    def test_a_class_by_name(self):
        said = self.serve(
            "import os\nlogger_class = 'loggers.Mine'\naccesslog = os.path.dirname(__file__) + '/access.log'\n",
            files={"loggers.py": LOGGER},
        )
        self.assertRegex(said[0], LINE)
        self.assertEqual(self.access_lines(), ['hidden - - [now] "GET /x HTTP/1.1" 201 2 "-" "-"'])

    def test_the_command_line_counts_more_than_the_file(self):
        self.serve(
            LOGGER + "import os\nlogger_class = Mine\naccesslog = os.path.dirname(__file__) + '/access.log'\n",
            files={"loggers.py": LOGGER.replace("hidden", "other")},
            settings={"logger_class": "loggers.Mine"},
        )
        self.assertRegex(self.access_lines()[0], "^other ")

    def test_the_errors_of_a_file_go_to_standard_error(self):
        said = self.serve(LOGGER + "logger_class = Mine\nerrorlog = '/nowhere/error.log'\n")
        self.assertRegex(said[0], LINE)

    def test_a_dictionary(self):
        self.serve(
            "import os\nhere = os.path.dirname(__file__)\n"
            "class Upper:\n"
            "    def filter(self, record):\n        record.name = record.name.upper()\n        return True\n"
            "logconfig_dict = {\n"
            "    'filters': {'upper': {'()': Upper}},\n"
            "    'formatters': {'short': {'format': '%(name)s:%(message)s'}},\n"
            "    'handlers': {\n"
            "        'console': {'class': 'logging.StreamHandler', 'formatter': 'short'},\n"
            "        'file': {'class': 'logging.FileHandler', 'filename': here + '/access.log',"
            " 'formatter': 'short', 'filters': ['upper']},\n"
            "    },\n"
            "    'loggers': {\n"
            "        'gunicorn.error': {'level': 'INFO', 'handlers': ['file'], 'propagate': False},\n"
            "        'gunicorn.access': {'level': 'INFO', 'handlers': ['file'], 'propagate': False},\n"
            "    },\n"
            "}\n"
            "access_log_format = '%(m)s %(U)s'\n"
        )
        self.assertEqual(self.access_lines(), ["GUNICORN.ERROR:asked for /x", "GUNICORN.ACCESS:GET /x"])

    def test_the_errors_of_an_app_reach_all_handlers(self):
        app = APP.replace("    log.info", "    environ['wsgi.errors'].write('oh\\n')\n    log.info")
        conf = (
            "import os\nhere = os.path.dirname(__file__)\n"
            "logconfig_dict = {\n"
            "    'handlers': {\n"
            "        'console': {'class': 'logging.StreamHandler'},\n"
            "        'null': {'class': 'logging.NullHandler'},\n"
            "        'late': {'class': 'logging.FileHandler', 'filename': here + '/late.log', 'delay': True, 'level': 'ERROR'},\n"
            "        'file': {'class': 'logging.FileHandler', 'filename': here + '/access.log'},\n"
            "    },\n"
            "    'loggers': {'gunicorn.error': {'level': 'INFO', 'handlers': ['console', 'null', 'late', 'file']}},\n"
            "    'root': {'handlers': []},\n"
            "}\n"
        )
        self.assertEqual(self.serve(conf, app=app), ["oh", "asked for /x"])
        self.assertEqual(self.access_lines(), ["oh", "asked for /x"])

    def test_a_file_of_json(self):
        said = self.serve(
            "logconfig_json = 'log.json'\naccess_log_format = '%(m)s %(U)s'\n",
            files={
                "log.json": '{"formatters": {"generic": {"format": "%(name)s:%(message)s"}}, "handlers": '
                '{"console": {"class": "logging.StreamHandler", "formatter": "generic"}, '
                '"error_console": {"class": "logging.NullHandler"}}}'
            },
        )
        # The loggers are those of the defaults, which pass on to the root.
        self.assertEqual(
            said, ["gunicorn.error:asked for /x", "gunicorn.access:GET /x", "gunicorn.access:GET /x"], said
        )

    def test_a_file_of_json_that_is_missing_changes_nothing(self):
        said = self.serve("logconfig_json = 'nowhere.json'\n")
        self.assertRegex(said[0], LINE)

    def test_an_ini_file(self):
        said = self.serve(
            "logconfig = 'log.ini'\naccess_log_format = '%(m)s %(U)s'\n",
            files={
                "log.ini": "[loggers]\nkeys=root, access\n[handlers]\nkeys=console, file\n[formatters]\nkeys=short\n"
                "[logger_root]\nlevel=INFO\nhandlers=console\n"
                "[logger_access]\nlevel=INFO\nhandlers=file\npropagate=0\nqualname=gunicorn.access\n"
                "[handler_console]\nclass=StreamHandler\nformatter=short\nargs=(sys.stderr,)\n"
                "[handler_file]\nclass=FileHandler\nformatter=short\nargs=('access.log',)\n"
                "[formatter_short]\nformat=%(name)s:%(message)s\n"
            },
        )
        self.assertRegex(said[0], LINE)
        self.assertEqual(self.access_lines(), ["gunicorn.access:GET /x"])

    def test_files_are_opened_again(self):
        self.start(
            LOGGER + NOTE + "logger_class = Mine\naccesslog = os.path.dirname(__file__) + '/access.log'\n"
            "def post_worker_init(worker):\n"
            "    old = worker.log.reopen_files\n"
            "    def reopen():\n        old()\n        os.write(ring, b'!')\n"
            "    ring = os.open(os.path.dirname(__file__) + '/ring', os.O_RDWR)\n"
            "    worker.log.reopen_files = reopen\n",
            access_by_app=True,
            before=lambda start: os.mkfifo(os.path.join(start, "ring")),
        )
        ring = os.open(os.path.join(self.arbiter.start, "ring"), os.O_RDWR)
        self.addCleanup(os.close, ring)
        worker = self.fork()
        if not worker.wait_ready():
            self.fail(worker.said())
        worker.request("/one")
        worker.request("/two", number=2)
        os.rename(os.path.join(self.arbiter.start, "access.log"), os.path.join(self.arbiter.start, "old.log"))
        os.kill(worker.pid, signal.SIGUSR1)
        # A worker that waits acts on the signal with its next request; one that writes a line, when that is written.
        worker.request("/three", number=3)
        self.assertTrue(select.select([ring], [], [], 30)[0])
        worker.request("/four", number=4)
        self.assertEqual(worker.stop(), 0)
        self.assertIn("GET /one ", self.arbiter.read("old.log"))
        self.assertIn("GET /four ", self.access_lines()[-1])

    def test_a_signal_amid_a_line_waits_for_its_end(self):
        self.start(
            LOGGER + "import os, signal\n"
            "logger_class = Mine\naccesslog = os.path.dirname(__file__) + '/access.log'\n"
            "class Slow:\n"
            '    """A stream that is signalled while it writes, which cannot be closed meanwhile."""\n'
            "    def __init__(self, stream):\n        self.stream, self.writes = stream, False\n"
            "    def write(self, text):\n"
            "        self.writes = True\n        os.kill(os.getpid(), signal.SIGUSR1)\n"
            "        self.stream.write(text)\n        self.writes = False\n"
            "    def flush(self):\n        self.stream.flush()\n"
            "    def close(self):\n        assert not self.writes\n        self.stream.close()\n"
            "        os.write(os.open(os.path.dirname(__file__) + '/ring', os.O_RDWR), b'!')\n"
            "def post_worker_init(worker):\n"
            "    handler = worker.log._get_gunicorn_handler(worker.log.access_log)\n"
            "    handler.stream = Slow(handler.stream)\n",
            access_by_app=True,
            before=lambda start: os.mkfifo(os.path.join(start, "ring")),
        )
        ring = os.open(os.path.join(self.arbiter.start, "ring"), os.O_RDWR)
        self.addCleanup(os.close, ring)
        worker = self.fork()
        if not worker.wait_ready():
            self.fail(worker.said())
        worker.request("/one")
        self.assertTrue(select.select([ring], [], [], 30)[0])
        worker.request("/two", number=2)
        self.assertEqual(worker.stop(), 0)
        self.assertEqual(len(self.access_lines()), 2)
        self.assertNotIn("Traceback", worker.said())

    def test_syslog(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as syslog:
            syslog.settimeout(30)

            def listen(start):
                syslog.bind(os.path.join(start, "log.sock"))

            self.serve(
                "import os\nsyslog = True\nsyslog_prefix = '100%'\nsyslog_facility = 'local3'\n"
                "syslog_addr = 'unix://' + os.path.dirname(__file__) + '/log.sock#dgram'\n"
                "access_log_format = '%(m)s %(U)s'\n",
                before=listen,
            )
            self.assertRegex(syslog.recv(4096), rb"^<158>gunicorn\.100%\.error: \[\d+\] Booting worker with pid: \d+\0$")
            self.assertRegex(syslog.recv(4096), rb"^<158>gunicorn\.100%\.error: \[\d+\] asked for /x\0$")
            self.assertRegex(syslog.recv(4096), rb"^<158>gunicorn\.100%\.access: \[\d+\] GET /x\0$")

    def test_metrics_of_a_subclass(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as statsd:
            statsd.settimeout(30)
            statsd.bind(("127.0.0.1", 0))
            self.serve(
                "from gunicorn.instrument.statsd import Statsd\n"
                "class logger_class(Statsd): pass\n"
                "statsd_host = '127.0.0.1:%d'\nstatsd_prefix = 'web..'\ndogstatsd_tags = 'a:b'\n"
                "def post_worker_init(worker):\n"
                "    worker.log.info('', extra={'metric': 'mine', 'value': 3, 'mtype': 'gauge'})\n"
                "    worker.log.warning('oh')\n" % statsd.getsockname()[1]
            )
            got = [statsd.recv(4096).decode() for _ in range(5)]
        self.assertRegex(got.pop(2), r"^web\.gunicorn\.request\.duration:[\d.]+\|ms\|#a:b$")
        self.assertEqual(
            got,
            [
                "web.mine:3|g|#a:b",
                "web.gunicorn.log.warning:1|c|@1.0|#a:b",
                "web.gunicorn.requests:1|c|@1.0|#a:b",
                "web.gunicorn.request.status.201:1|c|@1.0|#a:b",
            ],
        )


class Names(unittest.TestCase):
    """What does not need a process."""

    @classmethod
    def setUpClass(cls):
        # As packages of files, which is what they are before they are embedded.
        source = pathlib.Path(HERE, "..", "..", "src", "shims", "python").resolve()
        cls.before = set(sys.modules)
        cls.path = str(source)
        import types

        package = types.ModuleType("rgunicorn")
        package.__path__ = [str(source)]
        sys.modules["rgunicorn"] = package
        sys.path.insert(0, str(source))

    @classmethod
    def tearDownClass(cls):
        sys.path.remove(cls.path)
        for name in set(sys.modules) - cls.before:
            if name.split(".")[0] in ("rgunicorn", "gunicorn"):
                del sys.modules[name]

    def test_atoms(self):
        from gunicorn.glogging import SafeAtoms

        atoms = SafeAtoms({"a": 'say "x"', "B": 3, "{host}i": "h"})
        self.assertEqual('%(a)s %(B)05d %({HOST}i)s %(c)s %({d}e)s' % atoms, 'say \\"x\\" 00003 h - -')

    def test_syslog_addresses(self):
        from gunicorn.glogging import parse_syslog_address as parse

        for text, expected in (
            ("unix:///dev/log", (None, "/dev/log")),
            ("unix:///dev/log#dgram", (socket.SOCK_DGRAM, "/dev/log")),
            ("unix:///dev/log#other", (None, "/dev/log")),
            ("udp://Host:99", (socket.SOCK_DGRAM, ("host", 99))),
            ("tcp://[::1]:99", (socket.SOCK_STREAM, ("::1", 99))),
            ("udp://", (socket.SOCK_DGRAM, ("localhost", 514))),
            ("tcp://a", (socket.SOCK_STREAM, ("a", 514))),
        ):
            self.assertEqual(parse(text), expected, text)
        for text in ("host:514", "http://a", "udp://a:b"):
            self.assertRaises(RuntimeError, parse, text)

    def test_users(self):
        import base64
        import types

        from gunicorn.glogging import Logger

        for secret, user in ((b"me:pass", "me"), (b"me", "me"), ("é:1".encode(), "é"), (b"\xff:1", None)):
            environ = {"HTTP_AUTHORIZATION": "basic " + base64.b64encode(secret).decode()}
            log = types.SimpleNamespace(debug=lambda *_: None)
            self.assertEqual(Logger._get_user(log, environ), user)
        for value in ("Basic", "Basic %%%", "Bearer abc", ""):
            self.assertFalse(Logger._get_user(log, {"HTTP_AUTHORIZATION": value}))

    def test_settings_are_gunicorns(self):
        from gunicorn.config import Config

        cfg = Config()
        self.assertEqual(len(cfg.settings), 120)
        self.assertEqual((cfg.workers, cfg.timeout, cfg.bind), (1, 30, ["127.0.0.1:8000"]))
        self.assertEqual(cfg.address, [("127.0.0.1", 8000)])
        self.assertEqual((cfg.uid, cfg.gid), (os.geteuid(), os.getegid()))
        self.assertFalse(cfg.has_hook("on_exit"))
        self.assertIsNone(cfg.on_exit(None))
        self.assertIn("timeout", str(cfg))
        with self.assertRaises(AttributeError):
            cfg.workers = 3
        with self.assertRaises(AttributeError):
            cfg.no_such_name
        with self.assertRaises(AttributeError):
            cfg.set("no_such_name", 1)

    def test_values_are_judged_as_gunicorn_does(self):
        from gunicorn.config import Config

        cfg = Config()
        for name, given, value in (
            ("workers", "0x10", 16),
            ("workers", True, 1),
            ("preload_app", " TRUE ", True),
            ("bind", "a:1", ["a:1"]),
            ("raw_env", None, []),
            ("forwarded_allow_ips", "10.0.0.0/8, *", ["10.0.0.0/8", "*"]),
            ("proc_name", " x ", "x"),
            ("proxy_protocol", True, "auto"),
            ("proxy_protocol", None, "off"),
            ("statsd_host", "Host", ("host", 8125)),
            ("statsd_host", "host:9", ("host", 9)),
            ("statsd_host", "unix:///x", "/x"),
            ("user", "root", 0),
            ("group", "7", 7),
        ):
            cfg.set(name, given)
            self.assertEqual(cfg.settings[name].get(), value)
        for name, given in (
            ("workers", -1),
            ("workers", "0022"),
            ("workers", 1.5),
            ("preload_app", 1),
            ("preload_app", "yes"),
            ("bind", [1]),
            ("forwarded_allow_ips", "10.0.0.1/8"),
            ("secure_scheme_headers", []),
            ("user", "no such user"),
            ("on_exit", lambda: None),
            ("proxy_protocol", 3),
        ):
            with self.assertRaises((TypeError, ValueError), msg=name):
                cfg.set(name, given)

    def test_what_is_computed(self):
        from gunicorn.config import Config

        cfg = Config()
        cfg.set("raw_env", ["A=b=c", "D="])
        self.assertEqual(cfg.env, {"A": "b=c", "D": ""})
        cfg.set("raw_env", ["A"])
        self.assertRaises(RuntimeError, lambda: cfg.env)
        self.assertEqual(cfg.worker_class_str, "sync")
        cfg.set("threads", 2)
        self.assertEqual(cfg.worker_class_str, "gthread")
        self.assertEqual(cfg.worker_class.__name__, "ThreadWorker")
        self.assertEqual(cfg.proc_name, "gunicorn")
        self.assertEqual(cfg.logger_class.__name__, "Logger")
        cfg.set("raw_paste_global_conf", [r"a\=b=c"])
        self.assertEqual(cfg.paste_global_conf, {"a=b": "c"})
        cfg.set("bind", ["", ":1", "[::1]", "Host:2", "unix:/a", "unix://b", "fd://3", "tcp://h:4"])
        self.assertEqual(
            cfg.address,
            [("0.0.0.0", 8000), ("0.0.0.0", 1), ("::1", 8000), ("host", 2), "/a", "b", 3, ("h", 4)],
        )

    def test_post_request_takes_two_to_four(self):
        from gunicorn.config import Config

        cfg = Config()
        for hook in (lambda w, r: (w, r), lambda w, r, e: (w, r, e), lambda w, r, e, s: (w, r, e, s)):
            cfg.set("post_request", hook)
            self.assertEqual(cfg.post_request(1, 2, 3, 4)[:2], (1, 2))

    def test_programs_that_embed_are_told(self):
        import contextlib
        import io

        from gunicorn.app.base import BaseApplication

        class Program(BaseApplication):
            def load_config(self):
                self.cfg.set("workers", 4)

            def load(self):
                return print

        program = Program()
        self.assertEqual((program.cfg.workers, program.wsgi()), (4, print))
        said = io.StringIO()
        with contextlib.redirect_stderr(said), self.assertRaises(SystemExit):
            program.run()
        self.assertIn("rgunicorn -c", said.getvalue())


if __name__ == "__main__":
    unittest.main()
