"""The frames of the pipe protocol that a WSGI worker sends and receives (docs/protocols/pipe.md), and its three descriptors.

Frames are written whole, whatever thread or greenlet they come from. Never here: what a request or a response means.
"""

import _socket
import array
import fcntl
import mmap
import os
import struct
import threading

RESPONSE, BODY, ABORT, REFUSED, NOTE, READY, RETURN = 0x02, 0x03, 0x04, 0x06, 0x08, 0x10, 0x13
END, FD, SHARED = 0x01, 0x02, 0x08
PULL, LOOKS = 0x01, 0x10

header = struct.Struct("!BBHI").pack
counted = struct.Struct("!BBHII").pack  # A header and the length of the head that the payload begins with.
front_header = struct.Struct("!BBHI").unpack_from
request_header = struct.Struct("!BBHII").unpack_from
span = struct.Struct("!QQ").pack
place = struct.Struct("!Q").unpack_from

LARGEST = 131072  # Of a message in the pull queue, in bytes.
RIGHTS = _socket.CMSG_SPACE(4)  # Room for one descriptor beside a message.
DONTWAIT = _socket.MSG_DONTWAIT
BEAT = 2047  # The cell that a worker counts up, once a second, while it waits for a message.
BOARD = 16384  # Bytes.
SECOND = struct.pack("@ll", 1, 0)  # A struct timeval, for SO_RCVTIMEO.
CLOEXEC = getattr(_socket, "MSG_CMSG_CLOEXEC", 0)
COPY = 16384  # Bodies up to this size are copied behind their header; larger ones are sent from where they are.
PIECES = 1024  # The kernel takes no more pieces in one call.
NOTE_LIMIT = 65536  # Bytes of a NOTE frame; what is cut off at the end is ignored.
FRAME = 64 << 20  # Larger bodies are cut into frames of this size.
SHARE = 128 << 10  # Bodies from this size on go by way of shared memory.
BLOCK = 1 << 20  # Bytes of a block of it. Larger blocks mean fewer switches between us and the front.
BLOCKS = 2  # One is read while the other is written.
SEAL = 1033  # F_ADD_SEALS; the module has its name only since 3.9.
SHRINK, GROW = 0x2, 0x4


class ChannelEnded(BaseException):
    """rgunicorn is gone, or a frame was cut: nothing can be said any more. No `except Exception` of an app stops it."""


class Memory:
    """Memory shared with the front, in blocks. A frame names a block, and the front gives it back when it has read it."""

    def __init__(self):
        self.fd = os.memfd_create("rgunicorn-shared", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(self.fd, BLOCKS * BLOCK)
            fcntl.fcntl(self.fd, SEAL, SHRINK | GROW)
            self.map = mmap.mmap(self.fd, BLOCKS * BLOCK)
        except BaseException:
            os.close(self.fd)
            raise
        self.blocks = range(0, BLOCKS * BLOCK, BLOCK)
        self.unused = list(self.blocks)

    def give_back(self, offset):
        """The front has read this block."""
        if offset in self.blocks and offset not in self.unused:
            self.unused.append(offset)

    def close(self):
        os.close(self.fd)


class Channel:
    """The worker's end of the stream to the front, for a process that writes from one thread."""

    def __init__(self, fd):
        os.set_inheritable(fd, False)
        self.socket = _socket.socket(fileno=fd)
        self.socket.settimeout(None)
        self.send = self.socket.sendall
        self.heard = b""  # Of the front's frames, up to the last one's end.
        self.unwanted = set()  # Ids of requests whose clients have left.
        self.memory = None  # Made when it is first needed; False if it cannot be had.

    def send_pieces(self, pieces):
        """Sends the pieces, in order and whole, without joining them."""
        send = self.socket.sendmsg
        for start in range(0, len(pieces), PIECES):
            some = pieces[start : start + PIECES]
            sent = send(some)
            for piece in some:
                # A signal may have cut the call short.
                if sent < len(piece):
                    self.socket.sendall(memoryview(piece)[sent:] if sent else piece)
                sent = max(0, sent - len(piece))

    def send_with_descriptor(self, frame, fd):
        """Sends a frame; the descriptor travels with its first byte."""
        sent = self.send_first(frame, fd)
        if sent < len(frame):
            self.socket.sendall(frame[sent:])

    def send_first(self, frame, fd):
        return self.socket.sendmsg([frame], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array.array("i", [fd]))])

    def is_unwanted(self, id):
        """Looks, without waiting, whether the client of a request that is being answered has left."""
        self.listen()
        if id not in self.unwanted:
            return False
        self.unwanted.discard(id)
        return True

    def listen(self):
        """Takes note of what the front has said."""
        try:
            while self.hear(DONTWAIT):
                pass
        except BlockingIOError:
            pass  # That was all.

    def hear(self, flags=0):
        """Receives once; False if the front is gone."""
        data = self.socket.recv(4096, flags)
        if not data:
            return False
        data = self.heard + data
        while len(data) >= 8:
            kind, _, id, length = front_header(data)
            if len(data) < 8 + length:
                break
            if kind == ABORT:
                self.unwanted.add(id)
            elif kind == RETURN and self.memory:
                self.memory.give_back(*place(data, 8))
            data = data[8 + length :]
        self.heard = data
        return True

    def shares(self):
        """True if there is memory that the front can read."""
        if self.memory is None:
            try:
                self.memory = Memory()
            except OSError:
                self.memory = False  # The channel does as well, only slower.
        return bool(self.memory)

    def take_block(self):
        """The offset of a block that nobody reads, after a wait for the front if need be."""
        unused = self.memory.unused
        while not unused:
            if not self.hear():
                raise ChannelEnded
        return unused.pop()

    def ready(self, slots):
        self.send(header(READY, PULL | LOOKS, 0, 2) + struct.pack("!H", slots))

    def refuse(self, id):
        self.send(header(REFUSED, 0, id, 0))

    def close(self):
        self.socket.close()
        if self.memory:
            self.memory.close()
            self.memory = False


class SharedChannel(Channel):
    """The same, written to by several threads."""

    def __init__(self, fd, lock):
        super().__init__(fd)
        self.lock = lock
        self.ears = threading.Lock()  # Not `lock`, with which another thread may be waiting for its client.
        self.send = self.send_locked

    def send_locked(self, data):
        with self.lock:
            self.socket.sendall(data)

    def listen(self):
        # A thread that waits for a block hears for all.
        if self.ears.acquire(False):
            try:
                super().listen()
            finally:
                self.ears.release()

    def shares(self):
        with self.ears:
            return super().shares()

    def take_block(self):
        with self.ears:
            return super().take_block()

    def send_pieces(self, pieces):
        with self.lock:
            super().send_pieces(pieces)

    def send_with_descriptor(self, frame, fd):
        with self.lock:
            super().send_with_descriptor(frame, fd)


class Queue:
    """The receiving end of the pool's pull queue.

    Other workers hold the same open file: its flags are not ours to change, so not to block is a flag of each call.
    """

    def __init__(self, fd):
        os.set_inheritable(fd, False)
        self.socket = _socket.socket(fileno=fd)
        # The object alone is told, not the descriptor, which blocks as it was made.
        self.receive = self.socket.recvmsg_into

    def close(self):
        self.socket.close()


class Board:
    """The page whose cells say what each slot runs."""

    def __init__(self, fd):
        os.set_inheritable(fd, False)
        self.cells = memoryview(mmap.mmap(fd, BOARD)).cast("Q")
        os.close(fd)

    def close(self):
        self.cells.release()
