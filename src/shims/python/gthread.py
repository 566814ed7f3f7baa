"""The loop of a worker with several threads: each is a slot and receives for itself; the main thread is left to signals.

Never here: how requests are answered (handler.py).
"""

import os
import signal
import threading
import time
from select import POLLIN, poll

from rgunicorn.channel import BEAT, CLOEXEC, DONTWAIT, END, LARGEST, RIGHTS, ChannelEnded, SharedChannel, request_header
from rgunicorn.request import descriptor


def make_channel(fd):
    return SharedChannel(fd, threading.Lock())


class Loop:
    """As many threads as the worker has slots."""

    threads = True
    waiting = True  # The main thread runs no request.

    def __init__(self, worker, handler, queue, board, channel, slots):
        self.worker = worker
        self.handler = handler
        self.queue = queue
        self.cells = board.cells
        self.channel = channel
        self.slots = slots
        self.ended = None  # What ended a thread for all of them.
        self.stopped = None  # What ends the worker once all requests are done.
        self.turn = threading.Lock()  # Held by the thread that waits for a message, so that one wakes no more of us.
        self.readable = poll()
        self.readable.register(queue.socket.fileno(), POLLIN)
        self.news, self.wake_end = os.pipe()
        os.set_blocking(self.wake_end, False)
        # A signal that comes just before the main thread begins to wait ends its wait as well.
        signal.set_wakeup_fd(self.wake_end, warn_on_full_buffer=False)

    def interrupt(self):
        """Wakes the main thread. For signal handlers too: a write is all it does."""
        try:
            os.write(self.wake_end, b"!")
        except BlockingIOError:
            pass  # Full: it is being woken already.

    def run(self):
        self.policy = os.sched_getscheduler(0)
        for number in range(self.slots):
            # Daemons: those that wait for a message when all others are done need not be waited for.
            threading.Thread(target=self.slot, args=(number,), name="slot-%d" % number, daemon=True).start()
        news, until = poll(), None
        news.register(self.news, POLLIN)
        while not self.ended and (self.worker.alive or self.busy()):
            if self.stopped and until is None:
                # The arbiter does not know of this end, and sets it no limit.
                until = time.monotonic() + self.worker.cfg.graceful_timeout
            if not news.poll(until and max(until - time.monotonic(), 0) * 1000):
                break
            os.read(self.news, 64)
        if self.ended or self.stopped:
            raise self.ended or self.stopped

    def busy(self):
        return any(self.cells[1 : 1 + self.slots])

    def slot(self, number):
        try:
            # The arbiter has given it to the main thread, which does not pass it on.
            os.sched_setscheduler(0, self.policy, os.sched_param(0))
            self.receive(number)
        except BaseException as error:
            self.ended = error
            self.worker.alive = False
            self.interrupt()

    def receive(self, number):
        """Receives and runs requests until the worker retires.

        No thread waits in the receive itself. The kernel would give it a message also while another thread runs C code
        that keeps the interpreter's lock, and the request would be stuck with that one. A thread that comes back from
        poll() without the lock has taken nothing yet, and another worker gets the message.

        A thread may get a message just as the worker retires. It then says that the request was not run; and if the
        process ends first, the front finds that in no cell and knows it as well.
        """
        worker, cells, buffer = self.worker, self.cells, bytearray(LARGEST)
        view, into = memoryview(buffer), [buffer]
        receive, unpack, cell = self.queue.receive, request_header, 1 + number
        from_message, handle = self.handler.environs.from_message, self.handler.run
        turn, wait, without_wait, has_turn = self.turn, self.readable.poll, CLOEXEC | DONTWAIT, False
        while worker.alive:
            try:
                count, rights, _, _ = receive(into, RIGHTS, without_wait)
            except BlockingIOError:
                # Nothing there, or another worker was faster.
                if not has_turn:
                    has_turn = turn.acquire()
                wait(1000)
                cells[BEAT] += 1  # A sign of life, of this thread and of the interpreter.
                continue
            if not count:
                raise ChannelEnded
            _, flags, id, _, size = unpack(buffer)
            cells[cell] = id  # From here on the request counts as run, should this process die.
            if has_turn:
                turn.release()
                has_turn = False
            if not worker.alive:
                # The store came first, so the main thread either sees it and waits, or retired before it and we see that.
                self.channel.refuse(id)
                cells[cell] = 0
                break
            try:
                if flags == END:
                    handle(id, from_message(view, count, size))
                else:
                    environ = self.handler.environs.from_file(view, count, size, descriptor(flags, rights))
                    with environ["wsgi.input"]:
                        handle(id, environ)
            except (SystemExit, KeyboardInterrupt) as stop:
                # Raised after the answer; what comes before it is the handler's. Other threads have answers to finish.
                self.stopped = stop
                worker.alive = False
            cells[cell] = 0
        self.interrupt()
