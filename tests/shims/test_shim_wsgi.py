"""PEP 3333 through the real shim: an app that uses every corner of it, under wsgiref.validate."""

import os
import tempfile
import unittest

from support import Shim, stop

CORNERS = '''
import os, sys
from wsgiref.validate import validator

HERE = os.path.dirname(os.path.abspath(__file__))

class Closing:
    def __init__(self, pieces, note):
        self.pieces, self.note = iter(pieces), note
    def __iter__(self):
        return self
    def __next__(self):
        return next(self.pieces)
    def close(self):
        print("closed", self.note, file=sys.stderr, flush=True)

def plain(*more):
    return [("Content-Type", "text/plain"), *more]

def application(environ, start_response):
    path = environ["PATH_INFO"]
    body = environ["wsgi.input"]
    if path == "/list":
        start_response("200 OK", plain(("Content-Length", "5")))
        return [b"he", b"", b"llo"]
    if path == "/tuple":
        start_response("200 OK", plain())
        return (b"a", b"b")
    if path == "/generator":
        start_response("200 OK", plain())
        return Closing([b"one", b"", b"two"], "generator")
    if path == "/write":
        write = start_response("201 Created", plain(("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")))
        write(b"by write, ")
        write(b"twice, ")
        return [b"and at last"]
    if path == "/empty":
        start_response("204 No Content", [])
        return []
    if path == "/replaced":
        start_response("200 OK", plain(("X-First", "yes")))
        try:
            raise ValueError("never mind")
        except ValueError:
            start_response("503 Service Unavailable", plain(("X-Second", "yes")), sys.exc_info())
        return [b"sorry"]
    if path == "/read":
        pieces = [body.read(3), body.read(0), body.readline(), body.readline(2), *body.readlines()]
        assert body.read(1) == b"" and body.readline() == b"" and body.readlines() == [] and list(body) == []
        start_response("200 OK", plain())
        return [b"|".join(pieces)]
    if path == "/lines":
        start_response("200 OK", plain())
        return [b"|".join(iter(body))]
    if path == "/errors":
        errors = environ["wsgi.errors"]
        errors.write("written\\n")
        errors.writelines(["line one\\n", "line \\u00e9\\n"])
        errors.flush()
        start_response("200 OK", plain())
        return [b"ok"]
    if path == "/file":
        start_response("200 OK", plain())
        return environ["wsgi.file_wrapper"](open(os.path.join(HERE, "corners.py"), "rb"), 1000)
    if path == "/environ":
        start_response("200 OK", plain())
        text = "\\n".join("%s=%r" % pair for pair in sorted(environ.items()) if not pair[0].startswith("wsgi.") or isinstance(pair[1], (tuple, bool, str)))
        return [text.encode()]
    start_response("404 Not Found", plain())
    return [b"no"]

application = validator(application)
'''


class Corners(unittest.TestCase):
    """Each runs under the validator, which answers 500 by its AssertionError where the shim is wrong."""

    @classmethod
    def setUpClass(cls):
        cls.shim = Shim("corners", {"corners.py": CORNERS}, settings={"workers": 2})
        cls.shim.wait_ready()

    @classmethod
    def tearDownClass(cls):
        try:
            code = stop(cls.shim)
            assert code == 0, code
            log = cls.shim.log()
            assert "Error" not in log and "Warning" not in log, log
        finally:
            cls.shim.__exit__()

    def check(self, path, status, expected, method="GET", **more):
        answer = self.shim.request(method, path, **more)
        self.assertEqual((answer.status, answer.body), (status, expected), self.shim.log())
        self.assertFalse(answer.aborted)
        return answer

    def test_bodies_of_each_kind(self):
        self.assertEqual(self.check("/list", "200 OK", b"hello").field("Content-Length"), "5")
        self.check("/tuple", "200 OK", b"ab")
        answer = self.check("/generator", "200 OK", b"onetwo")
        self.assertGreaterEqual(answer.frames, 3)
        self.shim.wait_for_log("closed generator")
        answer = self.check("/write", "201 Created", b"by write, twice, and at last")
        self.assertEqual(answer.fields[1:], [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])
        self.check("/empty", "204 No Content", b"")
        self.check("/nowhere", "404 Not Found", b"no")

    def test_exc_info_replaces_status_and_fields(self):
        answer = self.check("/replaced", "503 Service Unavailable", b"sorry")
        self.assertIsNone(answer.field("X-First"))
        self.assertEqual(answer.field("X-Second"), "yes")

    def test_input(self):
        self.check("/read", "200 OK", b"abc||\n|de|fg\n|\n|rest", "POST", body=b"abc\ndefg\n\nrest", CONTENT_TYPE="text/plain")
        self.check("/lines", "200 OK", b"a\n|b", "POST", body=b"a\nb")
        self.check("/lines", "200 OK", b"", "POST")

    def test_input_from_a_file(self):
        with tempfile.TemporaryFile() as file:
            file.write(b"abc\ndefg\n\nrest")
            file.flush()
            self.check("/read", "200 OK", b"abc||\n|de|fg\n|\n|rest", "POST", file=file, CONTENT_LENGTH="14")
            self.check("/lines", "200 OK", b"abc\n|defg\n|\n|rest", "POST", file=file, CONTENT_LENGTH="14")

    def test_errors_go_to_the_log_as_they_are(self):
        self.check("/errors", "200 OK", b"ok")
        self.shim.wait_for_log("written\nline one\nline \u00e9\n")

    def test_environ(self):
        text = self.shim.get("/environ", "a=%20b", HTTP_X_LATIN="\u00e9", HTTP_EMPTY="").body.decode()
        for line in [
            "PATH_INFO='/environ'",
            "QUERY_STRING='a=%20b'",
            "HTTP_X_LATIN='\u00e9'",
            "HTTP_EMPTY=''",
            "wsgi.version=(1, 0)",
            "wsgi.multithread=False",
            "wsgi.multiprocess=True",
            "wsgi.run_once=False",
            "wsgi.url_scheme='http'",
            "wsgi.input_terminated=True",
        ]:
            self.assertIn(line, text.split("\n"))

    def test_a_file_under_the_validator(self):
        self.check("/file", "200 OK", CORNERS.encode())


NOTING = """
def application(environ, start_response):
    environ["App.User"] = "ann \u20ac \xe9"
    environ["number"] = 7
    environ["long"] = "x" * 100000
    environ.pop("HTTP_HOST")
    start_response("200 OK", [])
    if environ["PATH_INFO"] == "/fail":
        raise ValueError("asked to")
    return iter([b"a", b"b"]) if environ["PATH_INFO"] == "/parts" else [b"ab"]
"""


class Notes(unittest.TestCase):
    def notes(self, names, path="/"):
        with Shim("app", {"app.py": NOTING}, environ_names=names) as shim:
            shim.wait_ready()
            return shim.get(path).notes

    def test_values_as_the_app_left_them_whatever_the_case_of_their_names(self):
        expected = {"App.User": "ann \\u20ac \xe9", "REQUEST_METHOD": "GET", "number": "7"}
        for path in ["/", "/parts", "/fail"]:
            notes = self.notes(["app.user", "request_method", "NUMBER", "HTTP_HOST", "none"], path)
            self.assertEqual({name: value for name, value in notes.items() if name}, expected, path)

    def test_a_value_beyond_the_limit_costs_no_more_than_itself(self):
        notes = self.notes(["number", "long"])
        self.assertEqual(notes["number"], "7")
        self.assertLess(len(notes["long"]), 65536)


class Files(unittest.TestCase):
    """`wsgi.file_wrapper`."""

    APP = """
import io, os
NAME = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data")
def application(environ, start_response):
    path, headers = environ["PATH_INFO"], []
    for name, value in (pair.split("=") for pair in environ["QUERY_STRING"].split("&") if pair):
        headers.append((name, value))
    start_response("304 Not Modified" if path == "/304" else "200 OK", headers)
    file = io.BytesIO(b"x" * 20000) if path == "/memory" else open(NAME, "rb")
    if path == "/offset":
        file.seek(4)
    if path == "/pipe":
        read, write = os.pipe()
        os.write(write, b"through a pipe")
        os.close(write)
        file = os.fdopen(read, "rb")
    return environ["wsgi.file_wrapper"](file)
"""

    def run_with(self, work, **changes):
        with Shim("files", {"files.py": self.APP, "data": "0123456789"}, **changes) as shim:
            shim.wait_ready()
            work(shim)
            self.assertEqual(stop(shim), 0)
            self.assertNotIn("Traceback", shim.log())

    def test_a_descriptor_is_passed(self):
        def work(shim):
            answer = shim.get("/")
            self.assertEqual((answer.body, answer.files, answer.frames), (b"0123456789", 1, 1))
            answer = shim.get("/offset")
            self.assertEqual((answer.body, answer.files), (b"456789", 1))
            answer = shim.get("/offset", "Content-Length=3")
            self.assertEqual((answer.body, answer.files), (b"456", 1))
            self.assertFalse(shim.get("/", "Content-Length=10").aborted)

        self.run_with(work)

    def test_a_file_shorter_than_announced_is_seen_to_be(self):
        def work(shim):
            answer = shim.get("/", "Content-Length=11")
            self.assertEqual((answer.body, answer.aborted), (b"0123456789", True))
            shim.wait_for_log("10 of the 11 bytes")

        self.run_with(work)

    def test_what_is_no_file_is_read(self):
        def work(shim):
            answer = shim.get("/memory")
            self.assertEqual((answer.body, answer.files), (b"x" * 20000, 0))
            answer = shim.get("/pipe")
            self.assertEqual((answer.body, answer.files), (b"through a pipe", 0))
            answer = shim.request("HEAD", "/")
            self.assertEqual((answer.files, answer.body), (0, b""))
            answer = shim.get("/304")
            self.assertEqual((answer.files, answer.body), (0, b""))

        self.run_with(work)

    def test_sendfile_can_be_switched_off(self):
        def work(shim):
            answer = shim.get("/")
            self.assertEqual((answer.body, answer.files), (b"0123456789", 0))

        self.run_with(work, settings={"sendfile": False})
        self.run_with(work, environ={"SENDFILE": "no"})

    def test_the_setting_beats_the_variable(self):
        def work(shim):
            self.assertEqual(shim.get("/").files, 1)

        self.run_with(work, settings={"sendfile": True}, environ={"SENDFILE": "no"})

    def test_no_descriptor_is_left_open(self):
        def work(shim):
            for _ in range(3):
                shim.get("/")
            shim.wait_until(lambda: shim.cells[1] == 0, "idle worker")
            before = len(os.listdir("/proc/%d/fd" % shim.pid))
            for _ in range(20):
                shim.get("/")
                with tempfile.TemporaryFile() as file:
                    file.write(b"some")
                    file.flush()
                    shim.request("POST", "/", file=file)
            shim.wait_until(lambda: len(os.listdir("/proc/%d/fd" % shim.pid)) == before, "end of open files")

        self.run_with(work)


if __name__ == "__main__":
    unittest.main()
