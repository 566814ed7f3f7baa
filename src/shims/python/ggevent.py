"""The loop of a worker on greenlets. One of them receives, and starts another for each request.

Never here: how requests are answered (handler.py).
"""

import os
import sys
import traceback

import gevent
import gevent.monkey
from gevent.event import Event
from gevent.hub import get_hub
from gevent.lock import RLock

from rgunicorn.channel import BEAT, CLOEXEC, DONTWAIT, END, LARGEST, RIGHTS, Channel, ChannelEnded, request_header
from rgunicorn.request import descriptor

BATCH = 8  # Requests that are begun before greenlets that can go on have their turn.


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
        self.ears = RLock()  # Held by the greenlet that waits for a block; it hears for all.
        self.send = self.send_green
        self.writable = self.readable = None

    def wait(self):
        if self.writable is None:
            self.writable = get_hub().loop.io(self.socket.fileno(), 2)
        get_hub().wait(self.writable)

    def listen(self):
        if self.ears.acquire(blocking=False):
            try:
                super().listen()
            finally:
                self.ears.release()

    def hear(self, flags=0):
        while True:
            try:
                return super().hear(DONTWAIT)
            except BlockingIOError:
                if flags:
                    raise
            if self.readable is None:
                self.readable = get_hub().loop.io(self.socket.fileno(), 1)
            get_hub().wait(self.readable)

    def take_block(self):
        with self.ears:
            return super().take_block()

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
    waiting = False  # A signal may come amid any greenlet.

    def __init__(self, worker, handler, queue, board, channel, slots):
        self.worker = worker
        self.handler = handler
        handler.leaving = gevent.GreenletExit
        self.queue = queue
        self.cells = board.cells
        self.channel = channel
        self.slots = slots
        self.free = list(range(slots, 0, -1))  # Cells that no greenlet has.
        self.running = {}  # Greenlets by their cells.
        self.stopped = Event()
        self.ended = None
        self.buffer = bytearray(LARGEST)
        self.view, self.into = memoryview(self.buffer), [self.buffer]
        loop = get_hub().loop
        self.readable = loop.io(queue.socket.fileno(), 1)
        self.pulse = loop.timer(1, repeat=1)
        self.bell = loop.async_()
        self.bell.start(self.stopped.set)
        # gevent learns of ends of children from its first fork on; a child that ends before that is waited for forever.
        os.register_at_fork(before=loop.install_sigchld)

    def interrupt(self):
        """Wakes the main greenlet. For signal handlers too: that is what the loop's `async` is for."""
        self.bell.send()

    def quit(self, act):
        """Does what INT and QUIT ask for outside of the signal handler, where hooks may wait."""
        gevent.spawn(act)

    def print_stacks(self):
        """Where each request stands: the stacks of threads show the hub only."""
        for greenlet in list(self.running.values()):
            if greenlet.gr_frame is not None:
                print("\nGreenlet %#x (most recent call last):" % id(greenlet), file=sys.__stderr__)
                traceback.print_stack(greenlet.gr_frame, file=sys.__stderr__)
        sys.__stderr__.flush()

    def run(self):
        self.readable.start(self.receive)
        self.pulse.start(self.beat)
        self.stopped.wait()
        self.readable.stop()
        with gevent.Timeout(self.worker.cfg.graceful_timeout, False):
            while self.running and not self.ended:
                self.stopped.clear()
                self.stopped.wait()
        if self.ended:
            raise self.ended
        if self.running:
            self.worker.log.warning("Worker graceful timeout (pid:%s)", self.worker.pid)
            gevent.killall(list(self.running.values()), timeout=1)

    def beat(self):
        """Called by the hub each second: a sign that it turns."""
        if self.handler.forked:
            self.pulse.stop()  # A child of app code has no board.
        else:
            self.cells[BEAT] += 1

    def receive(self):
        """Called by the hub when there are messages. Each is run until it waits before the next is taken, so that none
        is tied to this worker without being run."""
        try:
            for _ in range(BATCH):
                if not self.worker.alive:
                    return self.stopped.set()
                if not self.free:
                    return self.readable.stop()
                count, rights, _, _ = self.queue.receive(self.into, RIGHTS, CLOEXEC | DONTWAIT)
                if not count:
                    raise ChannelEnded
                _, flags, id, _, size = request_header(self.buffer)
                cell = self.free.pop()
                self.cells[cell] = id  # From here on the request counts as run, should this process die.
                if flags == END:
                    environ = self.handler.environs.from_message(self.view, count, size)
                else:
                    fd = descriptor(flags, rights)
                    environ = self.handler.environs.from_file(self.view, count, size, fd)
                # One for each request: thread-locals and context variables are its own, and the next client must not
                # find what the app has left there for this one.
                self.running[cell] = greenlet = gevent.Greenlet(self.serve, cell, id, environ)
                del environ  # Nothing of a request is kept until the next.
                greenlet.switch()
        except BlockingIOError:
            pass  # No more for now.
        except BaseException as error:
            if self.handler.forked:
                # A child that app code has forked came back to the hub; it has nothing to receive from.
                self.readable.stop()
            else:
                self.end(error)

    def serve(self, cell, id, environ):
        """What each greenlet does: one request."""
        try:
            with environ["wsgi.input"]:
                self.handler.run(id, environ)
        except ChannelEnded as error:
            self.end(error)
        finally:
            self.cells[cell] = 0
            del self.running[cell]
            if not self.worker.alive:
                self.stopped.set()
            elif not self.free:
                self.readable.start(self.receive)
            self.free.append(cell)

    def end(self, error):
        self.ended = error
        self.worker.alive = False
        self.stopped.set()
