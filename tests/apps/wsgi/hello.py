"""The two apps that everyone copies: one returns a list, one is its own iterator."""


def application(environ, start_response):
    """Simplest possible application object."""
    status = "200 OK"
    headers = [("Content-Type", "text/plain"), ("Content-Length", "13")]
    start_response(status, headers)
    return [b"Hello, World!"]


class iterator:
    """The same as a class."""

    def __init__(self, environ, start_response):
        self.environ = environ
        self.start = start_response

    def __iter__(self):
        self.start("200 OK", [("Content-Type", "text/plain")])
        yield b"Hello, "
        yield b"World!"


def factory(greeting, end="!"):
    """Makes an app, for specifications with a call."""

    def made(environ, start_response):
        body = (greeting + end).encode()
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
        return [body]

    return made


not_callable = "a text"


def gives_nothing():
    """A factory that forgets its return."""
