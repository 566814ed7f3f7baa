"""An app that remembers which process imported it."""

import os

from recorder import application as answer
from recorder import rec

os.environ["PRELOADED_BY"] = str(os.getpid())
rec("imported")


def application(environ, start_response):
    """Tells whether this process imported the app itself."""
    if environ["PATH_INFO"] != "/importer":
        return answer(environ, start_response)
    body = b"own\n" if os.environ["PRELOADED_BY"] == str(os.getpid()) else b"inherited\n"
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
