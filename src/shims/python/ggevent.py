"""The loop of a worker on greenlets. One of them receives, and starts another for each request.

Never here: how requests are answered (handler.py).
"""

from _socket import MSG_DONTWAIT

import gevent
import gevent.monkey
from gevent.event import Event
from gevent.hub import get_hub
from gevent.lock import RLock
from gevent.pool import Group

from rgunicorn.channel import CLOEXEC, END, LARGEST, RIGHTS, Channel, ChannelEnded, request_header
from rgunicorn.request import descriptor


def patch():
    """Replaces what blocks in the standard library. Before the app is imported."""
    gevent.monkey.patch_all()


class GreenChannel(Channel):
    """Written to by greenlets: one that has to wait lets the others run, but not write."""

    def __init__(self, fd):
        super().__init__(fd)
        # The front holds the other end; nobody else has this one, so its flags may change.
        self.socket.settimeout(0.0)
        self.lock = RLock()
        self.send = self.send_green
        self.writable = None

    def wait(self):
        if self.writable is None:
            self.writable = get_hub().loop.io(self.socket.fileno(), 2)
        get_hub().wait(self.writable)

    def send_green(self, data):
        with self.lock:
            self.send_rest([data])

    def send_pieces(self, pieces):
        with self.lock:
            self.send_rest(pieces)

    def send_rest(self, pieces):
        for piece in pieces:
            view = memoryview(piece)
            while view:
                try:
                    view = view[self.socket.send(view) :]
                except BlockingIOError:
                    self.wait()

    def send_with_descriptor(self, frame, fd):
        with self.lock:
            while True:
                try:
                    sent = self.send_first(frame, fd)
                    break
                except BlockingIOError:
                    self.wait()
            self.send_rest([memoryview(frame)[sent:]])


class Loop:
    """As many greenlets as requests run, up to the worker's slots."""

    threads = True

    def __init__(self, worker, handler, queue, board, channel, slots):
        self.worker = worker
        self.handler = handler
        handler.fatal += (gevent.GreenletExit,)
        self.queue = queue
        self.cells = board.cells
        self.channel = channel
        self.slots = slots
        self.free = list(range(slots, 0, -1))
        self.has_free = Event()
        self.running = Group()
        self.stopped = Event()
        self.ended = None
        self.bell = get_hub().loop.async_()
        self.bell.start(self.stopped.set)

    def interrupt(self):
        """Wakes the main greenlet. For signal handlers too: that is what the loop's `async` is for."""
        self.bell.send()

    def quit(self, act):
        """Does what INT and QUIT ask for outside of the signal handler, where hooks may wait."""
        gevent.spawn(act)

    def run(self):
        reader = gevent.spawn(self.receive)
        self.stopped.wait()
        # It waits for a message or for a free slot: between a message and its greenlet there is no wait.
        reader.kill()
        if self.ended is None and not self.running.join(timeout=self.worker.cfg.graceful_timeout):
            self.worker.log.warning("Worker graceful timeout (pid:%s)", self.worker.pid)
            self.running.kill(timeout=1)
        if self.ended:
            raise self.ended

    def receive(self):
        worker, cells, buffer = self.worker, self.cells, bytearray(LARGEST)
        view, into = memoryview(buffer), [buffer]
        receive, environs = self.queue.receive, self.handler.environs
        hub = get_hub()
        readable = hub.loop.io(self.queue.socket.fileno(), 1)
        try:
            while worker.alive:
                if not self.free:
                    self.has_free.clear()
                    self.has_free.wait()
                    continue
                try:
                    count, rights, _, _ = receive(into, RIGHTS, CLOEXEC | MSG_DONTWAIT)
                except BlockingIOError:
                    hub.wait(readable)
                    continue
                if not count:
                    raise ChannelEnded
                _, flags, id, _, size = request_header(buffer)
                cell = self.free.pop()
                cells[cell] = id  # From here on the request counts as run, should this process die.
                worker.nr += 1
                if flags == END:
                    environ = environs.from_message(view, count, size)
                else:
                    environ = environs.from_file(view, count, size, descriptor(flags, rights))
                self.running.spawn(self.serve, cell, id, environ)
                gevent.sleep(0)  # It runs until it waits; only then is there time for another.
        except ChannelEnded as error:
            self.end(error)

    def serve(self, cell, id, environ):
        try:
            with environ["wsgi.input"]:
                self.handler.run(id, environ)
        except ChannelEnded as error:
            self.end(error)
        finally:
            self.cells[cell] = 0
            self.free.append(cell)
            self.has_free.set()
            if not self.worker.alive:
                self.stopped.set()

    def end(self, error):
        self.ended = error
        self.worker.alive = False
        self.stopped.set()
