"""What the client and the log see when an app breaks the rules or raises."""

import unittest

from support import Shim, stop

APP = '''
import os, subprocess, sys, threading

class Closing:
    def __init__(self, pieces):
        self.pieces = pieces
    def __iter__(self):
        for piece in self.pieces:
            if isinstance(piece, BaseException):
                raise piece
            yield piece
    def close(self):
        print("closed", file=sys.stderr, flush=True)
        if ValueError in self.pieces:
            raise ValueError("in close")

def fork_in_stream():
    yield b"before "
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
    yield b"after"

def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/hello":
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
        return [b"ok"]
    if path == "/raise":
        raise KeyError("before the head")
    if path == "/exit":
        sys.exit(7)
    if path == "/interrupt":
        raise KeyboardInterrupt
    if path == "/raise-late":
        start_response("200 OK", [])
        return Closing([b"some", KeyError("after the head")])
    if path == "/raise-first":
        start_response("200 OK", [])
        return Closing([KeyError("before a byte")])
    if path == "/raise-in-close":
        start_response("200 OK", [])
        return Closing([b"whole"] + [ValueError][:0] or [b"whole"]) if environ["QUERY_STRING"] else Raising()
    if path == "/no-start":
        return [b"no head"]
    if path == "/no-start-generator":
        return Closing([b"no head"])
    if path == "/no-start-empty":
        return []
    if path == "/none":
        start_response("200 OK", [])
        return None
    if path == "/str":
        start_response("200 OK", [])
        return ["text"]
    if path == "/bare":
        start_response("200 OK", [])
        return b"bytes, not a list of them"
    if path == "/str-late":
        start_response("200 OK", [])
        return Closing([b"some", "text"])
    if path == "/write-str":
        start_response("200 OK", [])("text")
        return []
    if path == "/twice":
        start_response("200 OK", [])
        start_response("200 OK", [])
        return []
    if path == "/exc-info-late":
        write = start_response("200 OK", [])
        write(b"out already")
        try:
            raise KeyError("the first")
        except KeyError:
            start_response("500 Oops", [], sys.exc_info())
        return []
    if path == "/head":
        status, *fields = eval(environ["HTTP_X_HEAD"])
        start_response(status, fields)
        return [b"ok"]
    if path == "/short":
        start_response("200 OK", [("Content-Length", "10")])
        return [b"12345"]
    if path == "/short-generator":
        start_response("200 OK", [("Content-Length", "10")])
        return Closing([b"123", b"45"])
    if path == "/long":
        start_response("200 OK", [("Content-Length", "3")])
        return [b"12345"]
    if path == "/long-generator":
        start_response("200 OK", [("Content-Length", "3")])
        return Closing([b"12", b"34", b"56"])
    if path == "/two-lengths":
        start_response("200 OK", [("Content-Length", "3"), ("X-A", "b"), ("content-length", "5")])
        return [b"12345"]
    if path == "/large-head":
        start_response("200 OK", [("X-Large", "a" * 66000)])
        return [b"never"]
    if path == "/large-hint":
        environ["wsgi.early_hints"]([("Link", "a" * 66000)])
    if path == "/huge-length":
        start_response("200 OK", [("Content-Length", "9" * 5000)])
        return [b"never"]
    if path == "/no-body":
        start_response(environ["HTTP_X_STATUS"], [("Content-Length", "5")])
        return Closing([b"12", b"345"]) if environ["QUERY_STRING"] else [b"12345"]
    if path == "/hints":
        hint = environ["wsgi.early_hints"]
        hint([("Link", "</style.css>; rel=preload")])
        hint([(b"Link", b"</more.css>")])
        start_response("200 OK", [])
        return [b"done"]
    if path == "/bad-hints":
        environ["wsgi.early_hints"]([("Link", "a\\r\\nb")])
    if path == "/print":
        print("to stdout", flush=True)
        print("to stderr", file=sys.stderr)
        text = sys.stdin.read()
        start_response("200 OK", [])
        return [repr(text).encode()]
    if path == "/write-later":
        global kept
        kept = start_response("200 OK", [])
        return [b"done"]
    if path == "/kept":
        start_response("200 OK", [])
        try:
            kept(b"smuggled")
        except AssertionError as error:
            return [str(error).encode()]
        return [b"written"]
    if path == "/fork":
        sys.stdout.flush()
        pid = os.fork()
        if pid:
            status = os.waitpid(pid, 0)[1]
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"%d %d" % (pid > 0, pid and status)]
    if path == "/fork-in-stream":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return fork_in_stream()
    if path == "/fork-raise":
        pid = os.fork()
        if not pid:
            raise KeyError("in the child")
        status = os.waitpid(pid, 0)[1]
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"%d" % status]
    if path == "/children":
        shown = subprocess.run(["ls", "-l", "/proc/self/fd"], stdout=subprocess.PIPE, close_fds=False).stdout
        start_response("200 OK", [])
        return [shown]
    raise LookupError(path)

class Raising:
    def __iter__(self):
        return iter([b"whole"])
    def close(self):
        raise ValueError("in close")
'''

PAGE = b"<title>Internal Server Error</title>"


class Failures(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.shim = Shim("failing", {"failing.py": APP})
        cls.shim.wait_ready()

    @classmethod
    def tearDownClass(cls):
        try:
            # Whatever happened, the worker lives and serves.
            assert cls.shim.get("/hello").body == b"ok"
            code = stop(cls.shim)
            assert code == 0, code
        finally:
            cls.shim.__exit__()

    def logged(self):
        """What was logged since the last look, once the worker is done with its request."""
        self.shim.wait_until(lambda: self.shim.cells[1] == 0, "idle worker")
        log = self.shim.log()
        new, self.__class__.seen = log[len(getattr(self, "seen", "")) :], log
        return new

    def setUp(self):
        self.logged()

    def is_error_page(self, path, cause, **more):
        answer = self.shim.get(path, **more)
        log = self.logged()
        self.assertEqual(answer.status, "500 Internal Server Error", log)
        self.assertIn(PAGE, answer.body)
        self.assertEqual(answer.field("Content-Type"), "text/html")
        self.assertFalse(answer.aborted)
        self.assertIn("[ERROR] Error handling request GET %s" % path, log)
        self.assertIn("Traceback (most recent call last):", log)
        self.assertIn(cause, log)
        return log

    def test_exceptions_before_the_head(self):
        log = self.is_error_page("/raise", "KeyError: 'before the head'")
        self.assertIn('raise KeyError("before the head")', log)
        self.is_error_page("/exit", "SystemExit: 7")
        self.is_error_page("/interrupt", "KeyboardInterrupt")
        self.assertIn("closed", self.is_error_page("/raise-first", "KeyError: 'before a byte'"))

    def test_exceptions_after_the_head(self):
        answer = self.shim.get("/raise-late")
        self.assertEqual((answer.status, answer.body, answer.aborted), ("200 OK", b"some", True))
        log = self.logged()
        self.assertIn("KeyError: 'after the head'", log)
        self.assertIn("closed", log)

    def test_an_exception_in_close(self):
        answer = self.shim.get("/raise-in-close")
        self.assertEqual((answer.body, answer.aborted), (b"whole", False))
        self.shim.wait_for_log("ValueError: in close")

    def test_start_response_was_not_called(self):
        for path in ("/no-start", "/no-start-generator", "/no-start-empty"):
            self.is_error_page(path, "start_response() was not called")

    def test_what_is_no_iterable_of_bytes(self):
        self.is_error_page("/none", "TypeError: 'NoneType' object is not iterable")
        self.is_error_page("/str", "TypeError: 'text' is not a byte")
        self.is_error_page("/bare", "TypeError: the app returned a bytes")
        self.is_error_page("/write-str", "TypeError: 'text' is not a byte")
        answer = self.shim.get("/str-late")
        self.assertEqual((answer.body, answer.aborted), (b"some", True))

    def test_start_response_a_second_time(self):
        self.is_error_page("/twice", "AssertionError: Response headers already set!")
        answer = self.shim.get("/exc-info-late")
        self.assertEqual((answer.body, answer.aborted), (b"out already", True))
        self.assertIn("KeyError: 'the first'", self.logged())

    def test_heads_that_may_not_be_sent(self):
        cases = [
            ("200", True),
            ("200 ", True),
            ("299 \u00e9t\u00e9", True),
            ("20 OK", False),
            ("2000 OK", False),
            ("OK", False),
            ("", False),
            ("200 OK\r\nX: y", False),
            ("200 OK\n", False),
            ("099 Low", False),
            ("103 Early", False),
            (b"200 OK", False),
            (200, False),
        ]
        for status, fine in cases:
            self.head((status,), fine)
        cases = [
            (("X-A", "b"), True),
            (["X-A", "b"], True),
            (("X-A", " trimmed\t"), True),
            (("X-A", ""), True),
            (("X-A", "\u00ff\t~"), True),
            (("X-A", "b\r\nX: y"), False),
            (("X-A", "b\n"), False),
            (("X-A", "b\0"), False),
            (("X-A", "\u20ac"), False),
            (("X-A", "\x7f"), False),
            (("X A", "b"), False),
            (("X-A:", "b"), False),
            (("", "b"), False),
            (("X-\u00e9", "b"), False),
            ((b"X-A", "b"), False),
            (("X-A", b"b"), False),
            (("X-A", 1), False),
            (("X-A", None), False),
            (("Content-Length", "x"), False),
            (("Content-Length", "-1"), False),
            (("Content-Length", "2"), True),
            (("X-A",), False),
            ("X-A", False),
        ]
        for field, fine in cases:
            self.head(("200 OK", field), fine)

    def head(self, head, fine):
        answer = self.shim.get("/head", HTTP_X_HEAD=ascii(head))
        log = self.logged()
        self.assertEqual(answer.status == head[0], fine, (head, answer.status, log))
        if fine:
            self.assertEqual((answer.body, log), (b"ok", ""), head)
            if len(head) > 1:
                self.assertEqual(answer.fields, [(head[1][0], head[1][1].strip(" \t"))])
        else:
            self.assertIn(PAGE, answer.body, head)
            if "InvalidHeader" in log:
                self.assertNotIn("X: y", log)  # A value may be secret.

    def test_less_than_announced(self):
        for path in ("/short", "/short-generator"):
            answer = self.shim.get(path)
            self.assertEqual((answer.body, answer.aborted), (b"12345", True))
            self.assertIn("[WARNING] WSGI app sent 5 of the 10 bytes it had announced, GET " + path, self.logged())

    def test_heads_that_the_front_would_not_take(self):
        for path in ("/large-head", "/large-hint", "/huge-length"):
            answer = self.shim.get(path)
            self.assertEqual((answer.status, answer.aborted), ("500 Internal Server Error", False))
            self.assertIn("Error handling request GET " + path, self.logged())

    def test_the_last_of_two_lengths_counts(self):
        answer = self.shim.get("/two-lengths")
        self.assertEqual((answer.body, answer.field("Content-Length"), answer.field("X-A")), (b"12345", "5", "b"))

    def test_more_than_announced(self):
        for path in ("/long", "/long-generator"):
            answer = self.shim.get(path)
            self.assertEqual((answer.body, answer.aborted), (b"123", False))
            self.assertEqual(self.logged().count("sent more than the 3 bytes"), 1)

    def test_bodies_where_none_belongs(self):
        for query in ("", "generator"):
            answer = self.shim.get("/no-body", query, HTTP_X_STATUS="204 No Content")
            self.assertEqual((answer.body, answer.field("Content-Length"), answer.aborted), (b"", None, False))
            self.assertEqual(self.logged().count("dropping per RFC 9110"), 1)
            answer = self.shim.get("/no-body", query, HTTP_X_STATUS="304 Not Modified")
            self.assertEqual((answer.body, answer.field("Content-Length"), answer.aborted), (b"", "5", False))
            self.assertEqual(self.logged().count("(method=GET status=304)"), 1)
            answer = self.shim.request("HEAD", "/no-body", query, HTTP_X_STATUS="200 OK")
            self.assertEqual((answer.field("Content-Length"), answer.aborted), ("5", False))
            self.assertNotIn("dropping", self.logged())

    def test_early_hints(self):
        answer = self.shim.get("/hints")
        link = ("103 Early Hints", [("Link", "</style.css>; rel=preload")])
        self.assertEqual(answer.interim, [link, ("103 Early Hints", [("Link", "</more.css>")])])
        self.assertEqual((answer.status, answer.body), ("200 OK", b"done"))
        self.is_error_page("/bad-hints", "the value of Link has characters")

    def test_standard_streams(self):
        self.assertEqual(self.shim.get("/print").body, b"''")
        log = self.logged()
        self.assertIn("to stdout\n", log)
        self.assertIn("to stderr\n", log)

    def test_write_after_the_end(self):
        self.shim.get("/write-later")
        self.assertEqual(self.shim.get("/kept").body, b"write() after the end of the response")

    def test_a_forked_child_answers_nobody(self):
        self.assertEqual(self.shim.get("/fork").body, b"1 0")
        self.assertEqual(self.shim.get("/fork-in-stream").body, b"before after")
        self.assertEqual(self.logged(), "")

    def test_what_a_forked_child_raises_is_logged(self):
        self.assertEqual(self.shim.get("/fork-raise").body, b"0")
        log = self.logged()
        self.assertRegex(log, r"\A\[.*\] \[\d+\] \[ERROR\] Error handling request GET /fork-raise\nTraceback ")
        self.assertRegex(log, r"KeyError: 'in the child'\n\Z")
        self.assertEqual(log.count("Traceback"), 1)
        self.assertNotIn("[%d]" % self.shim.pid, log)

    def test_programs_inherit_none_of_our_descriptors(self):
        shown = self.shim.get("/children").body.decode()
        numbers = {line.split(" -> ")[0].split()[-1] for line in shown.splitlines() if " -> " in line}
        self.assertEqual(numbers & {"4", "5", "6", "7"}, set(), shown)
        self.assertNotIn("socket:", shown)
        self.assertNotIn("memfd", shown)


if __name__ == "__main__":
    unittest.main()
