"""An arbiter as the host sees it: starts the host as the real one does, and speaks its messages.

Everything else is real: processes, descriptors, and the Python sources as they are embedded.
"""

import array
import ctypes
import fcntl
import json
import os
import signal
import socket
import sys
import tempfile
import threading

from support import boot_text, modules, variables

PATIENCE = 30  # seconds until a test that waits has failed
SUBREAPER = 36  # prctl(2)


def memory_file(content):
    # Seen by nobody else; a name in /proc is all it has.
    fd = os.memfd_create("test") if hasattr(os, "memfd_create") else os.dup(tempfile.TemporaryFile().fileno())
    os.write(fd, content)
    return fd


class Worker:
    """The front's ends of what a worker has."""

    def __init__(self):
        self.channel, self.channel_end = socket.socketpair()
        self.queue, self.queue_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.board = memory_file(bytes(16384))
        self.errors, self.errors_end = os.pipe()
        self.pid = None

    def descriptors(self):
        return [self.channel_end.fileno(), self.queue_end.fileno(), self.board, self.errors_end]

    def handed_over(self):
        self.channel_end.close()
        self.queue_end.close()
        os.close(self.errors_end)

    def wait_ready(self):
        """Waits for READY; gives its payload, or b"" if the worker ended instead."""
        self.channel.settimeout(PATIENCE)
        head = self.channel.recv(8)
        return self.channel.recv(int.from_bytes(head[4:8], "big")) if head and head[0] == 0x10 else b""

    def request(self, path="/", number=1):
        """Sends one request and gives the text of its answer's frame."""
        block = "".join("%s\0%s\0" % pair for pair in variables(path=path).items()).encode("latin-1")
        payload = len(block).to_bytes(4, "big") + block
        self.queue.send(bytes((1, 1)) + number.to_bytes(2, "big") + len(payload).to_bytes(4, "big") + payload)
        self.channel.settimeout(PATIENCE)
        text = b""
        while True:
            head = self.exactly(8)
            text += self.exactly(int.from_bytes(head[4:8], "big"))
            if head[1] & 1 and head[0] in (2, 3):
                return text

    def exactly(self, count):
        data = b""
        while len(data) < count:
            piece = self.channel.recv(count - len(data))
            if not piece:
                raise EOFError("the worker closed its channel")
            data += piece
        return data

    def stop(self):
        os.kill(self.pid, signal.SIGTERM)
        return self.wait_exit()

    def wait_exit(self):
        """The exit code, or the negative number of the signal."""
        return wait(self.pid)

    def said(self):
        """All it wrote to standard error; waits for its end."""
        with os.fdopen(os.dup(self.errors), "rb") as file:
            return file.read().decode()

    def close(self):
        for end in (self.channel, self.queue):
            end.close()
        os.close(self.board)
        os.close(self.errors)


class Arbiter:
    """Starts a host in a directory of its own, where `files` are laid down first, and `before` may do more."""

    def __init__(self, files=(), conf="gunicorn.conf.py", environ=(), python=sys.executable, before=None):
        ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
        self.directory = tempfile.TemporaryDirectory(prefix="rgunicorn-host-")
        self.start = os.path.realpath(self.directory.name)
        for name, text in dict(files).items():
            self.write(name, text)
        if before is not None:
            before(self.start)
        if conf and ":" not in conf:
            conf = "file:" + os.path.join(self.start, conf)
        self.workers = []
        self.host, self.output = self.spawn(python, conf, dict(environ))

    def write(self, name, text):
        with open(os.path.join(self.start, name), "w") as file:
            file.write(text)

    def read(self, name):
        with open(os.path.join(self.start, name)) as file:
            return file.read()

    def spawn(self, python, conf, environ):
        job = {
            "modules": modules(),
            "run": "host",
            "config": {
                "version": "0.1.0",
                "argv": ["rgunicorn", "app:application"],
                "start": self.start,
                "conf": conf,
            },
        }
        bundle = memory_file(json.dumps(job).encode())
        self.socket, end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(PATIENCE)
        output, output_end = os.pipe()
        nothing = os.open(os.devnull, os.O_RDONLY)
        # High numbers first, so that none is overwritten before it has been placed.
        wanted = {0: nothing, 1: output_end, 2: output_end, 3: end.fileno(), 6: bundle}
        high = {place: fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 50) for place, fd in wanted.items()}
        env = dict(os.environ, RGUNICORN_SHIM_FD="6", RGUNICORN_HOST_FD="3", **environ)
        env.pop("PYTHONPATH", None)
        pid = os.posix_spawn(
            python,
            [python, "-c", boot_text()],
            env,
            file_actions=[(os.POSIX_SPAWN_DUP2, fd, place) for place, fd in high.items()],
        )
        end.close()
        for fd in (nothing, bundle, output_end, *high.values()):
            os.close(fd)
        return pid, output

    def send(self, message, descriptors=()):
        ancillary = []
        if descriptors:
            ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
        self.socket.sendmsg([json.dumps(message).encode()], ancillary)

    def receive(self):
        """The host's next message, or None at its end."""
        packet = self.socket.recv(256 * 1024)
        return json.loads(packet) if packet else None

    def ask(self, message, descriptors=()):
        self.send(message, descriptors)
        return self.receive()

    def configure(self, evaluated=None, **changes):
        """Sends the configuration, with what the file set; `settings` and others can be given."""
        values = {name: value for name, value, _ in (evaluated or {"values": ()})["values"]}
        values.update(changes.pop("settings", {}))
        values.setdefault("chdir", self.start)
        config = {
            "version": "0.1.0",
            "app": "app:application",
            "argv": ["rgunicorn", "app:application"],
            "start": self.start,
            "chdir": self.start,
            "pythonpath": [],
            "worker_class": "sync",
            "slots": 1,
            "settings": values,
            "proc_name": "app:application",
            "address": ["127.0.0.1:8000"],
            "environ_names": [],
            "access_by_app": False,
            "capture_output": False,
            "user": None,
            "group": None,
            "initgroups": False,
            "arbiter_pid": os.getpid(),
        }
        config.update(changes)
        return self.ask({"type": "configure", "config": config})

    def hook(self, name, **more):
        return self.ask(dict({"type": "hook", "name": name}, **more))

    def fork(self, number=1, age=1):
        """Asks for a worker. Gives it and the host's answer."""
        worker = Worker()
        self.workers.append(worker)
        answer = self.ask({"type": "fork", "worker": number, "age": age}, worker.descriptors())
        worker.handed_over()
        worker.pid = answer.get("pid")
        return worker, answer

    def child_exit(self, worker, code, number=1):
        return self.ask({"type": "child_exit", "worker": number, "pid": worker.pid, "code": code})

    def close(self):
        """Ends the connection, and gives the host's exit code and everything it printed."""
        self.socket.close()
        # Read beside the wait: a host that has much to say must not wait for a reader.
        said = []

        def read():
            with os.fdopen(self.output, "rb") as file:
                said.append(file.read().decode())

        for worker in self.workers:
            if worker.pid is not None and still_ours(worker.pid):
                os.kill(worker.pid, signal.SIGKILL)
                os.waitpid(worker.pid, 0)
            worker.close()
        reader = threading.Thread(target=read)
        reader.start()
        code = wait(self.host)
        reader.join(PATIENCE)
        self.directory.cleanup()
        return code, "".join(said)


def wait(pid):
    """The exit code of a child, or the negative number of the signal; one that does not end is killed."""
    alarm = threading.Timer(PATIENCE, os.kill, (pid, signal.SIGKILL))
    alarm.start()
    try:
        status = os.waitpid(pid, 0)[1]
    finally:
        alarm.cancel()
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def still_ours(pid):
    try:
        return os.waitpid(pid, os.WNOHANG) == (0, 0)
    except ChildProcessError:
        return False
