"""Watches the app's code and ends the worker when it changes; the arbiter then starts one with the new code.

Only with the setting `reload`. Never here: starting workers.
"""

import glob
import os
import select
import signal
import sys
import threading
import time

INTERVAL = 1.0  # Between two looks, and with inotify between two looks for modules that were loaded meanwhile.

# inotify(7): written, truncated, renamed, created, removed, given another date.
CHANGES = 0x002 | 0x008 | 0x004 | 0x080 | 0x100 | 0x200 | 0x040
NONBLOCK = os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0)


class Poll:
    """The engine that looks at every file once in a while."""

    def wait(self, directories):
        time.sleep(INTERVAL)
        return True


class Inotify:
    """The engine that is told by the kernel. Raises OSError or ImportError where there is no such thing."""

    def __init__(self):
        import ctypes

        self.libc = ctypes.CDLL(None, use_errno=True)
        self.fd = self.libc.inotify_init1(NONBLOCK)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        self.watched = set()
        self.blind = False  # The kernel allows no more watches: from then on this is no better than the other engine.

    def wait(self, directories):
        """True if something may have changed."""
        added = False
        for directory in directories - self.watched:
            if self.libc.inotify_add_watch(self.fd, os.fsencode(directory), CHANGES) < 0:
                self.blind = self.blind or os.path.isdir(directory)
            else:
                self.watched.add(directory)
                added = True
        if added:
            return True  # Nobody tells of what changed there before it was watched.
        if not select.select([self.fd], [], [], INTERVAL)[0]:
            return self.blind
        os.read(self.fd, 65536)
        return True


def engine(name):
    if name != "poll":
        try:
            return Inotify()
        except (OSError, ImportError, AttributeError):
            if name == "inotify":
                raise RuntimeError("inotify is not available: use --reload-engine poll") from None
    return Poll()


def stamp(path):
    """What changes when the file does; None if it is not there."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def module_files():
    """The source files of all loaded modules."""
    found = set()
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None)
        if isinstance(path, str) and os.path.isabs(path):
            found.add(path[:-1] if path.endswith((".pyc", ".pyo")) else path)
    return found


class Reloader:
    """`worker.reloader`: a thread that watches. Files may be added."""

    def __init__(self, worker, config):
        self.worker = worker
        self.preload = worker.cfg.preload_app
        self.patterns = [os.path.join(config["start"], pattern) for pattern in worker.cfg.reload_extra_files or ()]
        self.extra = set()
        self.engine = engine(worker.cfg.reload_engine)
        self.stamps = {}  # As each file was when it was first seen.

    def start(self):
        self.note_new_files()  # Here, since a change may come before the thread has begun.
        threading.Thread(target=self.watch, name="reloader", daemon=True).start()

    def add_extra_file(self, path):
        path = os.path.abspath(path)
        self.extra.add(path)
        self.stamps.setdefault(path, stamp(path))

    def watch_failure(self, error):
        """The app did not load: the files that had a part in it may be mended."""
        if isinstance(error, SyntaxError) and error.filename:
            self.add_extra_file(error.filename)
        trace = error.__traceback__
        while trace is not None:
            path = trace.tb_frame.f_code.co_filename
            if os.path.exists(path):
                self.add_extra_file(path)
            trace = trace.tb_next

    def files(self):
        found = module_files() | self.extra
        for pattern in self.patterns:
            found.update(glob.glob(pattern, recursive=True))
        return found

    def note_new_files(self):
        files = self.files()
        for path in files - self.stamps.keys():
            self.stamps[path] = stamp(path)
        return files

    def changed(self):
        """A file that is not as it was when it was first seen, or None."""
        for path in self.files():
            now = stamp(path)
            if self.stamps.setdefault(path, now) != now and now is not None:
                return path
        return None

    def watch(self):
        while True:
            files = self.note_new_files()
            maybe = self.engine.wait({os.path.dirname(path) for path in files})
            path = self.changed() if maybe else None
            if path is not None:
                return self.reload(path)

    def reload(self, path):
        worker = self.worker
        worker.log.info("Worker reloading: %s modified", path)
        if self.preload:
            # The app lives in the host: only a reload imports it anew.
            os.kill(os.getppid(), signal.SIGHUP)
            return
        try:
            worker.cfg.worker_int(worker)
        finally:
            # As if retired: the request that runs is finished first.
            os.kill(os.getpid(), signal.SIGTERM)
