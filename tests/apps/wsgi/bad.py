"""An app that misbehaves as the path says, and is fine otherwise."""

import ctypes
import os
import re
import signal
import subprocess
import sys
import threading
import time


def flood(start_response):
    """More output than any buffer holds."""
    line = "x" * 1000
    for _ in range(20000):
        print(line)
        print(line, file=sys.stderr)
    return None


def endless_thread(start_response):
    """A thread that is no daemon and never ends."""
    threading.Thread(target=threading.Event().wait).start()
    return None


def fork(start_response):
    """A child that comes back from the handler, as if it were the worker."""
    child = os.fork()
    if child == 0:
        return b"the child answers\n"
    os.waitpid(child, 0)
    return b"the parent answers\n"


def fork_and_be_late(start_response):
    """A child that ends before its parent goes on."""
    sleep = time.sleep
    if "gevent" in sys.modules:
        from gevent.monkey import get_original

        sleep = get_original("time", "sleep")
    os.register_at_fork(after_in_parent=lambda: sleep(0.2))
    child = os.fork()
    if child == 0:
        os._exit(7)
    return b"%d\n" % os.WEXITSTATUS(os.waitpid(child, 0)[1])


def fork_and_stay(start_response):
    """A child that outlives the request with everything it inherited."""
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            time.sleep(1)
    return b"%d\n" % child


def keep_the_interpreter():
    """Python cannot interrupt this: it runs in C without a look at signals."""
    re.match("(a+)+$", "a" * 40 + "b")


def regular_expression(start_response):
    keep_the_interpreter()
    return None


def regular_expression_soon(start_response):
    """A thread of the app's own, which begins when the answer has gone out."""
    threading.Timer(0.2, keep_the_interpreter).start()
    return b"%d\n" % os.getpid()


def stop_soon(start_response):
    """The process stops when the answer is out and nothing runs any more."""
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGSTOP)).start()
    return b"stopping\n"


def deaf_once(start_response):
    """The next SIGTERM is not acted on, as one that comes in the instant before a wait for a request."""
    act = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, lambda number, frame: signal.signal(signal.SIGTERM, act))


def pause_in_c(start_response):
    """A wait in C that begins again after each signal."""
    library = ctypes.PyDLL(None)
    while True:
        library.pause()


def program_in_a_session_of_its_own(start_response):
    """A program that shall outlive the worker."""
    return b"%d\n" % subprocess.Popen(["sleep", "1000"], start_new_session=True).pid


def subprocess_keeps(start_response):
    """A program started by the app: which descriptors does it have?"""
    output = subprocess.run(["ls", "/proc/self/fd"], stdout=subprocess.PIPE, close_fds=False, check=True)
    return output.stdout


ACTS = {
    "/flood": flood,
    "/endless-thread": endless_thread,
    "/fork": fork,
    "/fork-and-be-late": fork_and_be_late,
    "/fork-and-stay": fork_and_stay,
    "/os-exit": lambda start_response: os._exit(0),
    "/os-exit-7": lambda start_response: os._exit(7),
    "/kill": lambda start_response: os.kill(os.getpid(), signal.SIGKILL),
    "/segfault": lambda start_response: ctypes.string_at(0),
    "/abort": lambda start_response: os.abort(),
    "/stop-soon": stop_soon,
    "/sleep": lambda start_response: time.sleep(1000),
    "/spin": lambda start_response: all(True for _ in iter(int, 1)),
    "/regular-expression": regular_expression,
    "/regular-expression-soon": regular_expression_soon,
    "/pause": pause_in_c,
    "/deaf-once": deaf_once,
    "/recursion": lambda start_response: ACTS["/recursion"](start_response),
    "/memory": lambda start_response: bytearray(1 << 60),
    "/close-descriptors": lambda start_response: os.closerange(3, 100),
    "/close-input": lambda start_response: os.close(0),
    "/new-session": program_in_a_session_of_its_own,
    "/stdin": lambda start_response: repr(sys.stdin.read()).encode(),
    "/descriptors": subprocess_keeps,
}


def until_gate():
    """A response that ends when there is a file named gate, and notes when it began."""
    with open("begun", "a") as file:
        file.write("%d\n" % os.getpid())
    while not os.path.exists("gate"):
        yield b"."
        time.sleep(0.1)
    yield b"end"


class Lingers:
    """A response that is not done when it is answered: until there is a file named gate, or for ever."""

    def __init__(self, gate=None):
        self.gate = gate

    def __iter__(self):
        yield b"%d\n" % os.getpid()

    def close(self):
        while self.gate is None or not os.path.exists(self.gate):
            time.sleep(0.1)
        print("lingered to the end", file=sys.stderr, flush=True)


def application(environ, start_response):
    """Does what the path says, and then answers."""
    if environ["PATH_INFO"] in ("/lingers", "/lingers-until-gate"):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return Lingers("gate" if environ["PATH_INFO"].endswith("gate") else None)
    if environ["PATH_INFO"] == "/until-gate":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return until_gate()
    act = ACTS.get(environ["PATH_INFO"])
    body = act(start_response) if act else b"%d\n" % os.getpid()
    body = body if isinstance(body, bytes) else b"done\n"
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
