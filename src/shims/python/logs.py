"""The loggers `gunicorn.error` and `gunicorn.access`, as apps expect to find them, and `worker.log`.

The first writes to standard error, which leads to the error log of workers, or to the error log itself; the second, which
only apps use, to where the access log is. Never here: what `logger_class` and `logconfig` ask for (the package `gunicorn`
has that), nor the lines of the access log, which the front writes.
"""

import logging
import os
import sys

LEVELS = {
    "critical": logging.CRITICAL,
    "error": logging.ERROR,
    "warning": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
}


error_log = None  # In a host whose error log is a file: a stream to that. Standard error is left for what hooks print.


def use_file(descriptor):
    """Has loggers write there; those that exist, if they have been writing to a file before."""
    global error_log
    if error_log is None:
        error_log = open(os.dup(descriptor), "w", encoding="utf-8", errors="backslashreplace")
    else:
        os.dup2(descriptor, error_log.fileno(), inheritable=False)


class AccessFile(logging.FileHandler):
    """Appends to the file of the access log, which is opened for the first record: most apps have none."""

    def __init__(self, path):
        super().__init__(path, encoding="utf-8", delay=True)

    def emit(self, record):
        try:
            if self.stream is None:
                self.stream = self._open()
        except OSError:
            self.handleError(record)  # No reason to fail the request.
        else:
            super().emit(record)


def open_again(handler):
    """Has a handler write to the file that has the name by now."""
    handler.acquire()
    try:
        if handler.stream:
            new = handler._open()  # First: if it fails, the old one goes on.
            handler.stream.close()
            handler.stream = new
    finally:
        handler.release()


def access_handler(accesslog):
    """Where records of `gunicorn.access` go."""
    if accesslog is None:
        return logging.NullHandler()
    handler = logging.StreamHandler(sys.stdout) if accesslog == "-" else AccessFile(accesslog)
    handler.setFormatter(logging.Formatter("%(message)s"))
    return handler


class Logger:
    """What the attribute `log` of workers offers."""

    error_fmt = "%(asctime)s [%(process)d] [%(levelname)s] %(message)s"
    datefmt = "[%Y-%m-%d %H:%M:%S %z]"

    def __init__(self, cfg):
        self.cfg = cfg
        self.error_log = logging.getLogger("gunicorn.error")
        self.error_log.propagate = False
        self.access_log = logging.getLogger("gunicorn.access")
        self.access_log.propagate = False
        self.loglevel = LEVELS.get(str(cfg.loglevel).lower(), logging.INFO)
        self.error_log.setLevel(self.loglevel)
        self.access_log.setLevel(logging.INFO)
        handler = logging.StreamHandler(error_log or sys.stderr)
        handler.setFormatter(logging.Formatter(self.error_fmt, self.datefmt))
        self.error_log.handlers[:] = [handler]
        self.access_log.handlers[:] = [access_handler(cfg.accesslog)]
        self.logger = self.error_log
        for name in ("critical", "error", "warning", "info", "debug", "exception", "log"):
            setattr(self, name, getattr(self.error_log, name))

    def access(self, resp, req, environ, request_time):
        """Does nothing: the front writes the access log."""

    def reopen_files(self):
        """The error log is the arbiter's, which opens it itself."""
        for handler in self.access_log.handlers:
            if isinstance(handler, AccessFile):
                open_again(handler)

    def close_on_exec(self):
        """Does nothing: Python opens all files like that."""


def line(level, text, exc_info):
    """What the logger would write, for a process that cannot use it."""
    record = logging.LogRecord("gunicorn.error", level, "", 0, text, None, exc_info)
    return logging.Formatter(Logger.error_fmt, Logger.datefmt).format(record) + "\n"


def make_logger(cfg):
    """The logger of a process whose app brings none."""
    return Logger(cfg)
