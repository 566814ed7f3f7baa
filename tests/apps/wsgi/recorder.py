"""What conf files and apps of the comparison with Gunicorn share: a record of what happened, and an app that tells
what it sees. The record is appended to `record.log` in the start directory, a line at a time."""

import os
import sys

START = os.getcwd()


def rec(name, *facts):
    """Appends one line."""
    line = " ".join([name, *map(str, facts)]) + "\n"
    handle = os.open(os.path.join(START, "record.log"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(handle, line.encode())
    finally:
        os.close(handle)


def environ_lines(environ):
    """The WSGI environ as text, sorted; objects by their type."""
    plain = (str, int, float, bool, tuple, type(None))
    return ["%s=%r" % (name, value if isinstance(value, plain) else type(value).__name__)
            for name, value in sorted(environ.items())]


def process_lines():
    """What the process looks like from inside."""
    lines = ["%s=%r" % pair for pair in sorted(os.environ.items())]
    lines += ["argv=%r" % (sys.argv,), "cwd=%r" % os.getcwd(), "path0=%r" % sys.path[0]]
    lines += ["parent_is_arbiter=%r" % (os.getppid() == int(os.environ.get("ARBITER_PID", os.getppid())))]
    lines += ["stdin=%r" % (sys.stdin and sys.stdin.read())]
    return lines


def application(environ, start_response):
    """The app."""
    path = environ["PATH_INFO"]
    body = "hello\n"
    if path == "/environ":
        body = "\n".join(environ_lines(environ)) + "\n"
    elif path == "/process":
        body = "\n".join(process_lines()) + "\n"
    elif path == "/pid":
        body = "%d\n" % os.getpid()
    elif path == "/fail":
        raise ValueError("asked to fail")
    elif path == "/note":
        environ["app.note"] = "noted"
    elif path == "/echo":
        body = environ["wsgi.input"].read().decode("latin-1")
    data = body.encode("latin-1")
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(data)))])
    return [data]


app = application


def dump(environ, start_response):
    """An app that answers every request with what it was given, the body at the end."""
    lines = environ_lines(environ)
    lines.append("body=%r" % environ["wsgi.input"].read())
    data = ("\n".join(lines) + "\n").encode("latin-1")
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(data)))])
    return [data]


class Headers:
    """An app whose response head is the query: `?Name: value;Name: value`, status first."""

    def __call__(self, environ, start_response):
        from urllib.parse import unquote

        status, *fields = unquote(environ["QUERY_STRING"], "latin-1").split(";")
        start_response(status, [tuple(field.split(": ", 1)) for field in fields])
        return [b"body"]


headers = Headers()
