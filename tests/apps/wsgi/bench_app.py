"""What scripts/bench serves by every WSGI server: a small answer, a posted body, a large answer, a huge one in pieces."""

from itertools import repeat

HELLO = b"Hello, World!\n"
LARGE = b"x" * (1 << 20)


def count(body):
    """Reads what was uploaded, in pieces."""
    return sum(len(piece) for piece in iter(lambda: body.read(len(LARGE)), b""))


def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/download":
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(1 << 30))])
        return repeat(LARGE, 1 << 10)
    if path == "/large":
        body = LARGE
    elif path == "/post":
        body = b"%d\n" % len(environ["wsgi.input"].read())
    elif path == "/upload":
        body = b"%d\n" % count(environ["wsgi.input"])
    else:
        body = HELLO
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
