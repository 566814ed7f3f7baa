"""What scripts/bench serves by every WSGI server: a small answer, a posted body, a large answer."""

HELLO = b"Hello, World!\n"
LARGE = b"x" * (1 << 20)


def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/large":
        body = LARGE
    elif path == "/post":
        body = b"%d\n" % len(environ["wsgi.input"].read())
    else:
        body = HELLO
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
