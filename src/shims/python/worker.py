"""A worker's life: boot, signals, serving, exit; and the object `worker` that hooks see.

Never here: frames and requests (channel.py, request.py), nor how slots wait for them (sync.py, gthread.py, ggevent.py).
"""

import _thread
import atexit
import faulthandler
import os
import random
import signal
import sys
import threading
import time
import traceback
from importlib import import_module

from rgunicorn import app as apps
from rgunicorn import logs, title
from rgunicorn.channel import Board, Channel, ChannelEnded, Queue

# Where the arbiter, or the host, has put a worker's descriptors.
CHANNEL, QUEUE, BOARD = 3, 4, 5

BOOT_ERROR = 3  # The worker could not start.
LOAD_ERROR = 4  # What names the app names none.

LOOPS = {"sync": "rgunicorn.sync", "gthread": "rgunicorn.gthread", "gevent": "rgunicorn.ggevent"}


class Heartbeat:
    """`worker.tmp`. The board tells the front how long a request runs, so nobody has to touch a file."""

    def notify(self):
        """Does nothing: see above."""

    def last_update(self):
        return time.monotonic()

    def close(self):
        """Does nothing: there is no file."""


class Worker:
    """What hooks and apps know of their process. Attributes may be added."""

    def __init__(self, age, ppid, app, timeout, cfg, log):
        self.age = age
        self.pid = "[booting]"
        self.ppid = ppid
        self.app = app
        self.timeout = timeout
        self.cfg = cfg
        self.log = log
        self.wsgi = None
        self.sockets = []
        self.server = None
        self.reloader = None
        self.booted = self.aborted = self.asked_to_quit = self.ended = False
        self.alive = True
        self.nr = 0
        self.max_requests = sys.maxsize
        if cfg.max_requests > 0:
            self.max_requests = cfg.max_requests + random.randint(0, cfg.max_requests_jitter)
        self.tmp = Heartbeat()
        self.loop = None

    def __str__(self):
        return "<Worker %s>" % self.pid

    def notify(self):
        self.tmp.notify()

    def is_booting(self):
        """True until requests may come, unless a signal has ended it. A child that the app forks at import is no worker."""
        return not (self.booted or self.asked_to_quit or self.aborted) and self.pid == os.getpid()

    # Signals. Python runs these between two instructions of the main thread.

    def init_signals(self):
        for number in (signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, self.handle_quit)
        signal.signal(signal.SIGTERM, self.handle_exit)
        signal.signal(signal.SIGUSR1, self.handle_usr1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        # Meant for the arbiter by people who signal all processes of a name. SIG_IGN would be inherited by programs
        # that the app starts; a handler is not.
        for number in (signal.SIGHUP, signal.SIGUSR2, signal.SIGWINCH):
            signal.signal(number, self.handle_nothing)
        for number in (signal.SIGUSR1, signal.SIGHUP, signal.SIGUSR2, signal.SIGWINCH):
            signal.siginterrupt(number, False)
        faulthandler.disable()
        signal.signal(signal.SIGABRT, self.handle_abort)
        # Its handler prints the stacks of all threads from C, so that it also shows one that is stuck outside of Python,
        # and then calls the handler that was there before: ours.
        faulthandler.enable(file=sys.__stderr__, all_threads=True)

    def handle_exit(self, number, frame):
        self.alive = False
        if self.booted:
            self.loop.interrupt()
        elif not (self.asked_to_quit or self.ended):  # A signal disturbs no code that runs at exit.
            self.asked_to_quit = True
            sys.exit(0)  # Nothing was promised to anyone yet.

    def handle_quit(self, number, frame):
        self.alive = False
        if self.asked_to_quit or self.ended and not self.booted:
            return
        self.asked_to_quit = True
        if hasattr(self.loop, "quit"):
            self.loop.quit(self.quit)
        else:
            self.quit()

    def quit(self):
        self.cfg.worker_int(self)
        sys.exit(0)

    def handle_abort(self, number, frame):
        self.alive = False
        self.aborted = True
        if hasattr(self.loop, "print_stacks"):
            self.loop.print_stacks()
        self.cfg.worker_abort(self)
        sys.exit(1)

    def handle_usr1(self, number, frame):
        if self.loop is not None and self.loop.waiting:
            self.reopen_files()
        else:
            # This very thread may be writing a line, in code that cannot be entered twice. Another one waits for its end.
            _thread.start_new_thread(self.reopen_files, ())

    def reopen_files(self):
        try:
            self.log.reopen_files()
        except OSError:
            # The old files go on; a log is no reason to disturb a request.
            self.log.error("Cannot open the log files again", exc_info=True)

    def handle_nothing(self, number, frame):
        """Leaves the worker as it is."""

    # Boot.

    def load_wsgi(self):
        """Loads the app. While code is watched, a mistake in it is shown to clients, and the worker lives to see it mended."""
        try:
            self.wsgi = self.app.wsgi()
        except Exception as error:
            if self.reloader is None:
                raise
            self.log.exception(error)
            self.reloader.watch_failure(error)
            self.wsgi = failing_app("".join(traceback.format_exception(type(error), error, error.__traceback__)))

    def serve(self, config):
        """From the start of the process to the last request."""
        loops = import_loop(config["worker_class"])
        if hasattr(loops, "patch"):
            loops.patch()  # Before the app can import what is to be replaced.
        title.set_title("gunicorn: worker [%s]" % config["proc_name"])
        self.init_signals()
        if self.cfg.spew:
            from rgunicorn import spew

            spew.start()
        channel = loops.make_channel(CHANNEL) if hasattr(loops, "make_channel") else Channel(CHANNEL)
        queue, board = Queue(QUEUE), Board(BOARD)
        if self.cfg.reload:
            from rgunicorn import reloader

            self.log.warning("Reloader is on. Use in development only!")
            self.reloader = reloader.Reloader(self, config)
        self.load_wsgi()
        if self.reloader:
            self.reloader.start()
        from rgunicorn.handler import Handler  # With gevent, only after patching.

        handler = Handler(self, channel, config, multithread=loops.Loop.threads)
        self.loop = loops.Loop(self, handler, queue, board, channel, config["slots"])
        guard_forks(self, handler, channel, queue, board)
        self.cfg.post_worker_init(self)
        channel.ready(self.loop.slots)
        self.booted = True
        self.loop.run()


def import_loop(worker_class):
    try:
        return import_module(LOOPS[worker_class])
    except ImportError as error:
        if worker_class != "gevent" or not (error.name or "").startswith("gevent"):
            raise
        raise RuntimeError("gevent worker requires gevent: %s" % error) from None


def failing_app(text):
    """An app that answers everything with this text."""
    body = text.encode("utf-8", "backslashreplace")
    fields = [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))]

    def application(environ, start_response):
        start_response("500 Internal Server Error", fields)
        return [body]

    return application


def guard_forks(worker, handler, channel, queue, board):
    """App code may fork. Its child is no worker: it can take no request, answer none, and dies by the usual signals."""
    ours = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGABRT)
    masks = threading.local()

    def before():
        # A signal for the child must not meet our handlers there, nor be forgotten while it gets rid of them.
        masks.old = signal.pthread_sigmask(signal.SIG_BLOCK, ours)

    def after():
        signal.pthread_sigmask(signal.SIG_SETMASK, masks.old)

    def in_child():
        handler.forked = True
        channel.lock = threading.Lock()  # Another thread may have held it.
        channel.listen = deaf  # An attempt to answer fails when it sends, and nowhere else.
        channel.close()
        queue.close()
        board.close()
        faulthandler.disable()
        signal.set_wakeup_fd(-1)
        for number in ours:
            if getattr(signal.getsignal(number), "__self__", None) is worker:
                signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        after()

    os.register_at_fork(before=before, after_in_parent=after, after_in_child=in_child)


def deaf():
    """Stands in for listen() of a channel that is closed."""


def serve(worker, config):
    """Runs a worker to its end, and ends the process. Words and exit codes are Gunicorn's."""
    code = 255
    try:
        code = run(worker, config)
    finally:
        leave(code)


def run(worker, config):
    """Serves, and returns the exit code."""
    log = worker.log
    try:
        worker.pid = os.getpid()
        try:
            worker.serve(config)
        finally:
            worker.ended = True  # Whoever else wants its end need not know: one that failed says why first.
        return 0
    except SystemExit as stop:
        if worker.is_booting():
            return failed_to_boot(worker, stop, exit_code(stop))
        return exit_code(stop)
    except (ChannelEnded, ConnectionError):
        return 1  # rgunicorn is gone, or what it reads from us is of no use any more.
    except apps.AppImportError as error:
        log.debug("Exception while loading the application", exc_info=True)
        print(error, file=sys.stderr, flush=True)
        return LOAD_ERROR
    except Exception as error:
        log.exception("Exception in worker process")
        print(cause(error), file=sys.stderr, flush=True)
        return 255 if worker.booted else BOOT_ERROR
    except BaseException as error:
        if worker.is_booting():
            return failed_to_boot(worker, error, 255)
        raise
    finally:
        log.info("Worker exiting (pid: %s)", worker.pid)
        try:
            worker.cfg.worker_exit(worker.server, worker)
        except Exception:
            log.warning("Exception during worker exit:\n%s", traceback.format_exc())


def failed_to_boot(worker, error, code):
    """Tells of an end of which Python says no more than a code, and gives that. The last line names the cause."""
    worker.log.exception("Exception in worker process")
    step = "importing the app" if worker.wsgi is None else "starting the worker"
    words = " ".join(traceback.format_exception_only(type(error), error)[-1].split())
    print("%s failed: %s" % (step, words), file=sys.stderr, flush=True)
    return code


def cause(error):
    """The last line of the log before the exit. Some exceptions have no words but their name."""
    return str(error) or type(error).__name__


def exit_code(stop):
    """What the interpreter makes of SystemExit."""
    if stop.code is None:
        return 0
    if isinstance(stop.code, int):
        return stop.code & 0xFF
    print(stop.code, file=sys.stderr, flush=True)
    return 1


def leave(code):
    """Ends the process as the interpreter would, but without taking the modules of the app down one by one."""
    try:
        threading._shutdown()  # Waits for threads that are no daemons.
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def main(config):
    """A worker that the arbiter has started itself."""
    try:
        worker = make_worker(config)
    except Exception as error:
        # Nothing is there yet to log with.
        traceback.print_exc()
        print(cause(error), file=sys.stderr, flush=True)
        leave(BOOT_ERROR)
    worker.log.info("Booting worker with pid: %s", os.getpid())
    serve(worker, config)


def make_worker(config):
    from rgunicorn.settings import Config

    os.environ["SERVER_SOFTWARE"] = "rgunicorn/" + config["version"]
    sys.argv[:] = config["argv"]
    cfg = Config(config["settings"], {})
    apps.set_import_path(config)
    log = cfg.logger_class(cfg) if config["access_by_app"] else logs.make_logger(cfg)
    age = int(config["given"].get("RGUNICORN_AGE", "0"))
    return Worker(age, os.getppid(), apps.App(cfg, config["app"]), cfg.timeout / 2, cfg, log)
