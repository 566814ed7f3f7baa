"""Small functions of Gunicorn that other code imports."""

import email.utils
import fcntl
import inspect
import os
import sys
import time

from rgunicorn import settings
from rgunicorn.settings import load_class as _load_class
from rgunicorn.settings import parse_address

positionals = settings.POSITIONAL
get_arity = settings.arity

hop_headers = frozenset(
    "connection keep-alive proxy-authenticate proxy-authorization te trailers transfer-encoding upgrade"
    " server date".split()
)

__all__ = [
    "bytes_to_str",
    "check_is_writable",
    "chown",
    "close_on_exec",
    "get_arity",
    "getcwd",
    "has_fileno",
    "hop_headers",
    "http_date",
    "import_app",
    "is_hoppish",
    "load_class",
    "parse_address",
    "positionals",
    "seed",
    "set_non_blocking",
    "to_bytestring",
    "unlink",
    "warn",
]


def load_class(uri, default="gunicorn.workers.sync.SyncWorker", section="gunicorn.workers"):
    if not inspect.isclass(uri) and section == "gunicorn.workers":
        uri = settings.WORKER_CLASSES.get(uri, uri)
    return _load_class(default if uri is None else uri)


def import_app(module):
    """The WSGI callable that an app specification names."""
    from rgunicorn.app import load

    return load(module)


def http_date(timestamp=None):
    return email.utils.formatdate(timestamp, localtime=False, usegmt=True)


def getcwd():
    """The current directory by the name the shell uses for it, if that is the same place."""
    here = os.getcwd()
    named = os.environ.get("PWD")
    try:
        return named if named and os.path.samefile(named, here) else here
    except OSError:
        return here


def is_hoppish(header):
    return header.lower().strip() in hop_headers


def to_bytestring(value, encoding="utf8"):
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise TypeError("%r is not a string" % value)
    return value.encode(encoding)


def bytes_to_str(value):
    return value if isinstance(value, str) else value.decode("latin1")


def check_is_writable(path):
    try:
        with open(path, "a"):
            pass
    except OSError as error:
        raise RuntimeError("Error: '%s' isn't writable [%r]" % (path, error)) from error


def chown(path, uid, gid):
    os.chown(path, uid, gid)


def unlink(filename):
    try:
        os.unlink(filename)
    except (FileNotFoundError, NotADirectoryError):
        pass


def close_on_exec(descriptor):
    fcntl.fcntl(descriptor, fcntl.F_SETFD, fcntl.fcntl(descriptor, fcntl.F_GETFD) | fcntl.FD_CLOEXEC)


def set_non_blocking(descriptor):
    os.set_blocking(descriptor, False)


def has_fileno(thing):
    try:
        thing.fileno()
    except (AttributeError, OSError):
        return False
    return True


def seed():
    """The random generator, seeded anew."""
    import random

    try:
        random.seed(os.urandom(64))
    except NotImplementedError:
        random.seed("%s.%s" % (time.time(), os.getpid()))


def warn(message):
    lines = str(message).strip().splitlines()
    print("\nWARNING: " + "\n".join(lines) + "\n", file=sys.stderr, flush=True)


def _setproctitle(title):
    from rgunicorn.title import set_title

    set_title("gunicorn: " + title)
