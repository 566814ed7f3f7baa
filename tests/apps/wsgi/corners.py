"""An app that uses every corner of PEP 3333, one path each, and the same under `wsgiref.validate`."""

import io
import itertools
import os
import sys
import tempfile
from wsgiref.validate import validator

from recorder import environ_lines, rec


class Body:
    """An iterable whose end is recorded."""

    def __init__(self, name, parts):
        self.name = name
        self.parts = iter(parts)

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.parts)

    def close(self):
        rec("closed", self.name)


def plain(start_response, body=b"ok\n", status="200 OK", extra=()):
    """A whole response."""
    start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body))), *extra])
    return [body]


def unsized(start_response, status="200 OK", exc_info=None):
    """Starts a response of unknown length."""
    return start_response(status, [("Content-Type", "text/plain")], exc_info)


def failing(parts, error):
    """Parts, and then an error."""
    yield from parts
    raise error


def read_input(environ, start_response):
    """Every way to read; each part of the body is read by another one."""
    source = environ["wsgi.input"]
    seen = [source.read(3), source.readline(), source.readline(), source.read(0)]
    seen.append(b"|".join(source.readlines()))
    seen.append(source.read(10) + source.read(10))
    return plain(start_response, repr(seen).encode())


def iterate_input(environ, start_response):
    """Lines by iteration."""
    return plain(start_response, repr(list(environ["wsgi.input"])).encode())


def echo(environ, start_response):
    """The body, in the pieces it was read in."""
    source = environ["wsgi.input"]
    start_response("200 OK", [("Content-Type", environ.get("CONTENT_TYPE") or "application/octet-stream")])
    return iter(lambda: source.read(65536), b"")


def written(environ, start_response):
    """By `write`, and by the iterable behind it."""
    write = unsized(start_response)
    write(b"one\n")
    write(b"two\n")
    return Body("write", [b"three\n"])


def replaced(environ, start_response):
    """A head that is replaced before anything was sent."""
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-First", "1")])
    try:
        raise ValueError("too late")
    except ValueError:
        start_response("503 Service Unavailable", [("Content-Type", "text/plain"), ("X-Second", "2")], sys.exc_info())
    return Body("replaced", [b"replaced\n"])


def replaced_too_late(environ, start_response):
    """A head that cannot be replaced any more."""
    write = unsized(start_response)
    write(b"sent\n")
    try:
        raise ValueError("after the head")
    except ValueError:
        unsized(start_response, "500 Oops", sys.exc_info())
    return [b"never\n"]


def started_twice(environ, start_response):
    """Without exc_info, which is a mistake of the app."""
    unsized(start_response)
    unsized(start_response)
    return [b"never\n"]


def from_file(environ, start_response, wrapped=True, offset=0, length=None):
    """A file by the server's wrapper."""
    handle = tempfile.TemporaryFile()
    handle.write(b"0123456789" * 100000)
    handle.seek(offset)
    fields = [("Content-Type", "application/octet-stream")]
    if length is not None:
        fields.append(("Content-Length", str(length)))
    start_response("200 OK", fields)
    return environ["wsgi.file_wrapper"](handle, 8192)


def from_memory(environ, start_response):
    """A file-like object without a descriptor, which is closed."""

    class Memory(io.BytesIO):
        def close(self):
            rec("closed", "memory")
            super().close()

    unsized(start_response)
    return environ["wsgi.file_wrapper"](Memory(b"from memory\n" * 2000))


def hints(environ, start_response):
    """103 before the response."""
    environ["wsgi.early_hints"]([("Link", "</style.css>; rel=preload"), ("Link", "</app.js>; rel=preload")])
    return plain(start_response)


def errors(environ, start_response):
    """What goes to the error log."""
    stream = environ["wsgi.errors"]
    stream.write("to wsgi.errors\n")
    stream.writelines(["line one\n", "line two \u00fc\n"])
    stream.flush()
    print("by print")
    print("by print to stderr", file=sys.stderr)
    return plain(start_response)


def bad_field(name, value):
    """An app whose head is not allowed."""

    def answer(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain"), (name, value)])
        return [b"never\n"]

    return answer


def bad_status(status):
    """An app whose status is not allowed."""

    def answer(environ, start_response):
        start_response(status, [("Content-Type", "text/plain")])
        return [b"never\n"]

    return answer


def gated(environ, start_response):
    """Waits between its parts until the client has seen the one before, and says so by writing into a pipe."""
    unsized(start_response)
    for number in range(3):
        yield b"part %d\n" % number
        with open("gate") as gate:
            gate.read()


def announced(length, parts, status="200 OK"):
    """An app that announces a length and sends something else."""

    def answer(environ, start_response):
        start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(length))])
        return Body("announced", parts)

    return answer


def parts_of(*parts):
    """An app that sends these parts without a length."""

    def answer(environ, start_response):
        unsized(start_response)
        return Body("parts", parts)

    return answer


def endless(environ, start_response):
    """More than any client reads."""
    unsized(start_response)
    return Body("endless", itertools.repeat(b"and so on\n" * 100))


def endless_write(environ, start_response):
    """The same by `write`, with the error that a socket would give."""
    write = unsized(start_response)
    try:
        while True:
            write(b"and so on\n" * 100)
    except BrokenPipeError:
        rec("broken pipe")
        raise


def no_body(status):
    """An app that sends a body with a status that has none."""

    def answer(environ, start_response):
        start_response(status, [("X-One", "1")])
        return Body("no body", [b"not allowed\n"])

    return answer


def fail_first(environ, start_response):
    """An error before the head."""
    raise ValueError("before the head")


def fail_in_iteration(environ, start_response):
    """An error before the first part, after the head was given."""
    unsized(start_response)
    return Body("fails at once", failing([], ValueError("no part at all")))


def fail_later(environ, start_response):
    """An error after the first part."""
    unsized(start_response)
    return Body("fails later", failing([b"part\n"], ValueError("in the middle")))


def exit_here(environ, start_response):
    """SystemExit in the app."""
    sys.exit(7)


def never_started(environ, start_response):
    """Forgets start_response."""
    return [b"never\n"]


def returns_none(environ, start_response):
    """Forgets its return."""
    unsized(start_response)


def text_parts(environ, start_response):
    """Text where bytes belong."""
    unsized(start_response)
    return ["text"]


def text_write(environ, start_response):
    """Text where bytes belong, by write."""
    unsized(start_response)("text")
    return []


def environ_dump(environ, start_response):
    """What the app sees."""
    return plain(start_response, ("\n".join(environ_lines(environ)) + "\n").encode("latin-1"))


PATHS = {
    "/": lambda environ, start_response: plain(start_response),
    "/environ": environ_dump,
    "/input": read_input,
    "/lines": iterate_input,
    "/echo": echo,
    "/write": written,
    "/replaced": replaced,
    "/replaced-too-late": replaced_too_late,
    "/twice": started_twice,
    "/file": from_file,
    "/file-offset": lambda environ, start_response: from_file(environ, start_response, offset=999000),
    "/file-length": lambda environ, start_response: from_file(environ, start_response, offset=5, length=500),
    "/memory": from_memory,
    "/hints": hints,
    "/errors": errors,
    "/empty": parts_of(),
    "/empty-parts": parts_of(b"", b"a", b"", b"b"),
    "/stream": parts_of(*[b"%d\n" % number for number in range(5)]),
    "/gated": gated,
    "/endless": endless,
    "/endless-write": endless_write,
    "/no-body-204": no_body("204 No Content"),
    "/no-body-304": no_body("304 Not Modified"),
    "/short": announced(10, [b"12345"]),
    "/long": announced(5, [b"123", b"45678"]),
    "/bad-length": announced("many", [b"1"]),
    "/field-newline": bad_field("X-Bad", "a\r\nX-Injected: 1"),
    "/field-null": bad_field("X-Bad", "a\0b"),
    "/field-name": bad_field("X Bad", "a"),
    "/field-bytes": bad_field("X-Bad", b"bytes"),
    "/field-unicode": bad_field("X-Bad", "\u20ac"),
    "/field-latin": lambda environ, start_response: plain(start_response, extra=[("X-Latin", "\u00fc")]),
    "/field-hop": lambda environ, start_response: plain(
        start_response, extra=[("Transfer-Encoding", "chunked"), ("Server", "mine"), ("X-Kept", "1")]),
    "/status-newline": bad_status("200 OK\r\nX-Injected: 1"),
    "/status-word": bad_status("OK"),
    "/status-bytes": bad_status(b"200 OK"),
    "/status-none": bad_status(None),
    "/status-299": lambda environ, start_response: plain(start_response, status="299 Own Words"),
    "/fail": fail_first,
    "/fail-in-iteration": fail_in_iteration,
    "/fail-later": fail_later,
    "/exit": exit_here,
    "/never-started": never_started,
    "/none": returns_none,
    "/text": text_parts,
    "/text-write": text_write,
}


def application(environ, start_response):
    """One corner a path; `/repeated` is for the values of fields that came twice."""
    found = PATHS.get(environ["PATH_INFO"])
    if found is None:
        return plain(start_response, b"no such corner\n", "404 Not Found")
    return found(environ, start_response)


validated = validator(application)


def pid(environ, start_response):
    """Who serves."""
    return plain(start_response, b"%d\n" % os.getpid())


PATHS["/pid"] = pid
