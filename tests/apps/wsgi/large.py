"""Large answers: `/list` and `/pieces` with `n` pieces of `size` bytes, each of another letter; `length` announces them."""

import os
from urllib.parse import parse_qsl


def application(environ, start_response):
    query = {name: int(value) for name, value in parse_qsl(environ["QUERY_STRING"])}
    n, size = query.get("n", 1), query.get("size", 2)
    fields = [("Content-Type", "text/plain"), ("X-Pid", str(os.getpid()))]
    if query.get("length"):
        fields.append(("Content-Length", str(n * size)))
    start_response("200 OK", fields)
    pieces = (bytes([97 + i % 26]) * size for i in range(n))
    return list(pieces) if environ["PATH_INFO"] == "/list" else pieces
