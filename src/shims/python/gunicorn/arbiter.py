"""The name that hooks and type annotations use for the server."""

from rgunicorn.server import Server


class Arbiter(Server):
    WORKER_BOOT_ERROR = 3
    APP_LOAD_ERROR = 4

    def __init__(self, app):
        raise RuntimeError(
            "rgunicorn cannot be started from inside a program; run: rgunicorn -c gunicorn.conf.py MODULE:APP"
        )
