"""The loop of a worker with one slot: receive a request, run it, again.

Never here: how requests are answered (handler.py).
"""

import _socket

from rgunicorn.channel import BEAT, CLOEXEC, END, LARGEST, RIGHTS, SECOND, ChannelEnded, request_header
from rgunicorn.request import descriptor


class Retired(BaseException):
    """SIGTERM came while the worker was waiting for a message."""


class Loop:
    """One slot. `worker.alive` ends it after the request; `interrupt` ends its wait."""

    threads = False

    def __init__(self, worker, handler, queue, board, channel, slots):
        self.worker = worker
        self.handler = handler
        self.queue = queue
        self.cells = board.cells
        self.channel = channel
        self.slots = 1
        self.waiting = False
        self.buffer = bytearray(LARGEST)

    def interrupt(self):
        """Called by a signal handler: a wait is over, and a request that runs is not disturbed."""
        if self.waiting:
            self.waiting = False
            raise Retired

    def run(self):
        worker, cells, buffer, queue = self.worker, self.cells, self.buffer, self.queue
        view, into = memoryview(buffer), [buffer]
        receive, unpack = queue.receive, request_header
        # Other workers have the same socket, and set the same: a wait ends after a second, for a sign of life.
        queue.socket.setsockopt(_socket.SOL_SOCKET, _socket.SO_RCVTIMEO, SECOND)
        from_message, handle = self.handler.environs.from_message, self.handler.run
        try:
            while True:
                buffer[0] = 0  # Tells, if a signal comes at the moment a message does, whether there is one.
                self.waiting = True
                if not worker.alive:
                    return
                try:
                    count, rights, _, _ = receive(into, RIGHTS, CLOEXEC)
                except BlockingIOError:
                    # CPython 3.11 loses sight of the handler below where a loop goes back to its beginning.
                    self.waiting = False
                    cells[BEAT] += 1
                    continue
                self.waiting = False
                if not count:
                    raise ChannelEnded
                _, flags, id, _, size = unpack(buffer)
                cells[1] = id  # From here on the request counts as run, should this process die.
                if flags == END:
                    handle(id, from_message(view, count, size))
                else:
                    self.handle_file(view, count, size, id, descriptor(flags, rights))
                cells[1] = 0
        except Retired:
            if buffer[0]:
                self.channel.refuse(request_header(buffer)[2])
        finally:
            self.waiting = False

    def handle_file(self, view, count, size, id, fd):
        environ = self.handler.environs.from_file(view, count, size, fd)
        with environ["wsgi.input"]:
            self.handler.run(id, environ)
