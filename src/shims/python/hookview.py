"""What hooks and loggers see of a request and its response: objects with the attributes that Gunicorn's have.

They are made only where a hook or a logger wants them. Never here: anything the app or the front sees.
"""

from io import BytesIO


class Request:
    """`req`. Changes to `headers` and `scheme` that pre_request makes reach the app."""

    def __init__(self, environ):
        self.method = environ.get("REQUEST_METHOD", "")
        self.uri = environ.get("RAW_URI") or environ.get("REQUEST_URI", "")
        target = self.uri
        if not target.startswith("/") and "://" in target:
            target = "/" + target.split("://", 1)[1].partition("/")[2]
        target, _, self.fragment = target.partition("#")
        self.path, _, self.query = target.partition("?")
        version = environ.get("SERVER_PROTOCOL", "HTTP/1.1").rpartition("/")[2].partition(".")
        self.version = (int(version[0] or 1), int(version[2] or 0))
        self.scheme = environ.get("wsgi.url_scheme", "http")
        self.remote_addr = self.peer_addr = (environ.get("REMOTE_ADDR", ""), int(environ.get("REMOTE_PORT") or 0))
        self.headers = headers_of(environ)
        self.given = (list(self.headers), self.scheme)
        self.body = environ.get("wsgi.input") or BytesIO()
        self.trailers = []
        self.req_number = 1
        self.must_close = False
        self.proxy_protocol_info = None
        if "PROXY_PROTOCOL" in environ:
            self.proxy_protocol_info = {
                "proxy_protocol": environ["PROXY_PROTOCOL"],
                "client_addr": environ.get("REMOTE_ADDR"),
                "client_port": environ.get("REMOTE_PORT"),
                "proxy_addr": environ.get("PROXY_ADDR"),
                "proxy_port": environ.get("PROXY_PORT"),
            }

    def apply(self, environ):
        """Carries over what a hook has changed."""
        if self.scheme != self.given[1]:
            environ["wsgi.url_scheme"] = self.scheme
        if self.headers == self.given[0]:
            return
        for name in [name for name in environ if is_field(name)]:
            del environ[name]
        for name, value in self.headers:
            name = name.upper().replace("-", "_")
            key = name if name in ("CONTENT_TYPE", "CONTENT_LENGTH") else "HTTP_" + name
            environ[key] = environ[key] + "," + value if key in environ else value

    def should_close(self):
        if self.must_close:
            return True
        for name, value in self.headers:
            if name == "CONNECTION":
                words = [word.strip(" \t") for word in value.lower().split(",")]
                if "close" in words or "keep-alive" in words:
                    return "close" in words
                break
        return self.version <= (1, 0)

    def force_close(self):
        self.must_close = True


class Response:
    """`resp`. With `alone`, which is one request at a time, Gunicorn closes every connection by force; here those only
    that would be closed anyway."""

    def __init__(self, exchange, request, alone):
        head = exchange.head
        self.req = request
        self.status = head.status if head else None
        self.status_code = head.code if head else None
        self.headers = list(head.headers) if head else []
        self.headers_sent = exchange.begun
        self.sent = exchange.sent
        self.response_length = head.announced if head and head.announced >= 0 else None
        bodiless = request.method == "HEAD" or self.status_code in (204, 304)
        self.chunked = self.response_length is None and request.version > (1, 0) and not bodiless
        self.must_close = alone and request.should_close()

    def should_close(self):
        return self.must_close or self.req.should_close()


def is_field(name):
    return name.startswith("HTTP_") or name in ("CONTENT_TYPE", "CONTENT_LENGTH")


def headers_of(environ):
    """The header fields, by the names that Gunicorn gives them."""
    fields = ((name[5:] if name.startswith("HTTP_") else name, value) for name, value in environ.items() if is_field(name))
    return [(name.replace("_", "-"), value) for name, value in fields]
