"""A front and an arbiter small enough to read, around the real shim: they start it as the program does, and talk to it
by docs/protocols/pipe.md, written anew here so that a mistake of the shim is not made twice.

Never here: anything the shim itself uses.
"""

import array
import fcntl
import json
import mmap
import os
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import types

HERE = os.path.dirname(os.path.abspath(__file__))
SHIMS = os.path.join(HERE, "..", "..", "src", "shims", "python")
DEADLINE = 30.0

# The shim's modules, importable here for tests of single functions.
PACKAGE = types.ModuleType("rgunicorn")
PACKAGE.__path__ = [SHIMS]
sys.modules.setdefault("rgunicorn", PACKAGE)

REQUEST, RESPONSE, BODY, ABORT, REFUSED, NOTE, READY, RETURN = 1, 2, 3, 4, 6, 8, 0x10, 0x13
END, FD, SHARED = 1, 2, 8


def modules():
    """The shim's sources by module name, as the program embeds them."""
    found = {}
    for directory, _, names in os.walk(SHIMS):
        for name in names:
            path = os.path.join(directory, name)
            relative = os.path.relpath(path, SHIMS)
            if not name.endswith(".py") or relative == "boot.py":
                continue
            parts = relative[:-3].split(os.sep)
            if parts[-1] == "__init__":
                parts.pop()
            if parts[:1] != ["gunicorn"]:
                parts.insert(0, "rgunicorn")
            with open(path) as file:
                found[".".join(parts)] = file.read()
    return found


def boot_text():
    with open(os.path.join(SHIMS, "boot.py")) as file:
        return file.read()


def config(app, **changes):
    """The configuration that the arbiter would send."""
    settings = changes.pop("settings", {})
    whole = {
        "version": "0.1.0",
        "app": app,
        "argv": ["/usr/bin/rgunicorn", app],
        "start": changes.get("chdir", os.getcwd()),
        "chdir": os.getcwd(),
        "pythonpath": [],
        "worker_class": "sync",
        "slots": 1,
        "settings": settings,
        "proc_name": app,
        "address": ["127.0.0.1:8000"],
        "environ_names": [],
        "access_by_app": False,
        "capture_output": False,
        "user": None,
        "group": None,
        "initgroups": False,
    }
    whole.update(changes)
    return whole


HOOKED = """
import os, sys
from rgunicorn import app, logs, settings, worker
import logging, traceback
%s
def main(config):
    hooks = {name: value for name, value in globals().items() if name in settings.HOOK_ARITY}
    if "Log" in globals():
        hooks["logger_class"] = Log
    cfg = settings.Config(config["settings"], hooks)
    app.set_import_path(config)
    log = cfg.logger_class(cfg) if config["access_by_app"] else logs.make_logger(cfg)
    made = worker.Worker(3, os.getppid(), app.App(cfg, config["app"]), cfg.timeout / 2, cfg, log)
    made.server = "the server"
    worker.serve(made, config)
"""


class Frame:
    def __init__(self, kind, flags, id, payload, fds):
        self.kind, self.flags, self.id, self.payload, self.fds = kind, flags, id, payload, fds

    def __repr__(self):
        return "Frame(%d, flags=%d, id=%d, %r)" % (self.kind, self.flags, self.id, self.payload[:80])


class Answer:
    """What came for one request."""

    def __init__(self):
        self.status = None
        self.fields = []
        self.interim = []
        self.chunks = []
        self.frames = 0
        self.aborted = self.refused = False
        self.notes = {}
        self.files = 0
        self.shared = []  # Offset and length of each stretch of shared memory.

    @property
    def body(self):
        return b"".join(self.chunks)

    def field(self, name):
        return dict((key.lower(), value) for key, value in self.fields).get(name.lower())


def variables(method="GET", path="/", query="", **more):
    """The variables of a request, as the front makes them for WSGI."""
    made = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "SCRIPT_NAME": "",
        "QUERY_STRING": query,
        "RAW_URI": path + ("?" + query if query else ""),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "8000",
        "REMOTE_ADDR": "127.0.0.1",
        "REMOTE_PORT": "40000",
        "SERVER_SOFTWARE": "rgunicorn/0.1.0",
        "wsgi.url_scheme": "http",
        "HTTP_HOST": "127.0.0.1:8000",
    }
    made.update(more)
    return made


class Shim:
    """One worker, started the way the arbiter starts one."""

    def __init__(self, app, files=None, python=sys.executable, environ=None, hooks=None, **changes):
        self.directory = tempfile.mkdtemp(prefix="rgunicorn-shim-")
        for name, text in (files or {}).items():
            with open(os.path.join(self.directory, name), "w") as file:
                file.write(text)
        changes.setdefault("chdir", self.directory)
        changes.setdefault("pythonpath", [HERE + "/apps"])
        self.config = config(app, **changes)
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.queue, self.queue_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        board = os.memfd_create("board") if hasattr(os, "memfd_create") else tempfile.TemporaryFile().fileno()
        os.ftruncate(board, 16384)
        self.cells = memoryview(mmap.mmap(board, 16384)).cast("Q")
        memory = os.memfd_create("shim")
        job = {"modules": modules(), "run": "worker", "config": self.config}
        if hooks is not None:
            # The host would have evaluated them. What it then does in the worker is this.
            job["modules"]["rgunicorn.hooked"] = HOOKED % hooks
            job["run"] = "hooked"
        job = json.dumps(job).encode()
        os.write(memory, job)
        self.errors = tempfile.TemporaryFile()
        places = (theirs.fileno(), self.queue_end.fileno(), board, memory)
        env = dict(os.environ, RGUNICORN_SHIM_FD="6", RGUNICORN_AGE="7", RGUNICORN_FD="3", **(environ or {}))

        def place():
            os.setpgid(0, 0)
            high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 200) for fd in places]
            for number, fd in enumerate(high):
                os.dup2(fd, 3 + number, inheritable=True)

        self.process = subprocess.Popen(
            [python, "-c", boot_text()],
            stdin=subprocess.DEVNULL,
            stdout=self.errors,
            stderr=self.errors,
            env=env,
            cwd=self.config["chdir"],
            preexec_fn=place,
            close_fds=False,
            pass_fds=(),
        )
        theirs.close()
        os.close(board)
        os.close(memory)
        self.pid = self.process.pid
        self.bytes, self.fds = bytearray(), []
        self.gives_back = True
        self.next_id = 0
        self.answers = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if not os.path.exists(self.directory):
            return
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for entry in (self.channel, self.queue, self.queue_end, self.errors):
            entry.close()
        shutil.rmtree(self.directory)

    # What the worker prints, and how it ends.

    def log(self):
        """All that was printed but the two lines that every life begins and ends with."""
        said = re.compile(r"\[[^]]*\] \[%d\] \[INFO\] (Booting worker with |Worker exiting \()pid: %d\)?" % (self.pid, self.pid))
        return "".join(line for line in self.whole_log().splitlines(True) if not said.fullmatch(line.rstrip("\n")))

    def whole_log(self):
        # The worker writes where this file's offset stands: reading must not move it.
        fd = self.errors.fileno()
        return os.pread(fd, os.fstat(fd).st_size, 0).decode()

    def wait(self):
        """The exit code; negative for a signal."""
        return self.process.wait(DEADLINE)

    def signal(self, number):
        os.kill(self.pid, number)

    def wait_for_log(self, text):
        self.wait_until(lambda: text in self.log(), "%r in the log" % text)

    def wait_until(self, true, what):
        deadline = time.monotonic() + DEADLINE
        while not true():
            if time.monotonic() > deadline:
                raise AssertionError("no %s; log:\n%s" % (what, self.log()))
            select.select([], [], [], 0.005)

    # Frames.

    def read_frame(self):
        """The next frame, or None at the end of the channel."""
        while True:
            if len(self.bytes) >= 8:
                kind, flags, id, length = struct.unpack_from("!BBHI", self.bytes)
                if len(self.bytes) >= 8 + length:
                    payload = bytes(self.bytes[8 : 8 + length])
                    del self.bytes[: 8 + length]
                    fds = [self.fds.pop(0)] if flags & FD and kind in (RESPONSE, BODY) else []
                    return Frame(kind, flags, id, payload, fds)
            if not select.select([self.channel], [], [], DEADLINE)[0]:
                raise AssertionError("nothing came; log:\n" + self.log())
            try:
                data, rights, _, _ = self.channel.recvmsg(1 << 20, socket.CMSG_SPACE(4 * 8))
            except ConnectionResetError:
                return None
            for _, _, packed in rights:
                found = array.array("i")
                found.frombytes(packed)
                self.fds += found
            if not data:
                return None
            self.bytes += data

    def wait_ready(self):
        frame = self.read_frame()
        if frame is None:
            raise AssertionError("the worker ended with %s; log:\n%s" % (self.wait(), self.log()))
        assert frame.kind == READY, frame
        return struct.unpack("!H", frame.payload)[0]

    def send(self, environ, body=b"", file=None, id=None):
        """Puts a request into the queue. `file` is what the payload goes on with."""
        if id is None:
            self.next_id += 1
            id = self.next_id
        if body:
            environ.setdefault("CONTENT_LENGTH", str(len(body)))
        block = "".join("%s\0%s\0" % pair for pair in environ.items()).encode("latin-1")
        payload = struct.pack("!I", len(block)) + block + body
        flags, rights = END, []
        if file is not None:
            flags |= FD
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [file.fileno()]))]
        self.queue.sendmsg([struct.pack("!BBHI", REQUEST, flags, id, len(payload)) + payload], rights)
        self.answers[id] = Answer()
        return id

    def send_cut(self, environ, body, cut):
        """A request of which the message has only `cut` bytes of the payload, and a file the rest."""
        environ.setdefault("CONTENT_LENGTH", str(len(body)))
        block = "".join("%s\0%s\0" % pair for pair in environ.items()).encode("latin-1")
        payload = struct.pack("!I", len(block)) + block + body
        self.next_id += 1
        with tempfile.TemporaryFile() as file:
            file.write(payload[cut:])
            file.flush()
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [file.fileno()]))]
            self.queue.sendmsg([struct.pack("!BBHI", REQUEST, END | FD, self.next_id, cut) + payload[:cut]], rights)
        self.answers[self.next_id] = Answer()
        return self.next_id

    def take(self, id):
        """Reads until the exchange has ended."""
        while True:
            frame = self.read_frame()
            if frame is None:
                raise AssertionError("the channel ended; log:\n" + self.log())
            if self.apply(frame) and frame.id == id:
                return self.answers.pop(id)

    def apply(self, frame):
        """True if the frame ends its exchange."""
        answer = self.answers[frame.id]
        answer.frames += 1
        payload = frame.payload
        if frame.kind == RESPONSE:
            size = struct.unpack_from("!I", payload)[0]
            pieces = payload[4 : 4 + size].decode("latin-1").split("\0")
            payload = payload[4 + size :]
            fields = list(zip(pieces[1::2], pieces[2::2]))
            if pieces[0].startswith("1"):
                answer.interim.append((pieces[0], fields))
                return False
            assert answer.status is None, "a second head"
            answer.status, answer.fields = pieces[0], fields
        elif frame.kind == NOTE:
            pieces = payload.decode("latin-1").split("\0")
            answer.notes.update(zip(pieces[::2], pieces[1::2]))
            return False
        elif frame.kind == ABORT:
            answer.aborted = True
            return True
        elif frame.kind == REFUSED:
            answer.refused = True
            return True
        else:
            assert frame.kind == BODY, frame
            assert answer.status is not None, "a body without a head"
        if frame.flags & FD:
            offset, length = struct.unpack("!QQ", payload)
            answer.chunks.append(os.pread(frame.fds[0], length, offset))
            os.close(frame.fds[0])
            if frame.flags & SHARED:
                answer.shared.append((offset, length))
                if self.gives_back:
                    self.give_back(offset)
            else:
                answer.files += 1
        elif payload:
            answer.chunks.append(payload)
        return bool(frame.flags & END)

    def give_back(self, offset):
        """Shared memory from there on was read."""
        self.channel.send(struct.pack("!BBHIQ", RETURN, 0, 0, 8, offset))

    def send_abort(self, id):
        """Its client has left."""
        self.channel.send(struct.pack("!BBHI", ABORT, 0, id, 0))

    def request(self, method="GET", path="/", query="", body=b"", file=None, **more):
        return self.take(self.send(variables(method, path, query, **more), body, file))

    def get(self, path="/", query="", **more):
        return self.request("GET", path, query, **more)


def stop(shim):
    """The usual end: TERM while idle."""
    shim.signal(signal.SIGTERM)
    return shim.wait()
