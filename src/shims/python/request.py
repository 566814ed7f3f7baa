"""From a message of the pull queue to a WSGI environ: the variables, and `wsgi.input`.

Never here: waiting for messages (the loops do), and what the app makes of them.
"""

import io
import os
import sys
from io import BytesIO

from rgunicorn.channel import FD

BLOCK = 65536  # How much of a body in a file is read ahead for readline().


class Rest(io.RawIOBase):
    """A body that begins in the message and goes on in a file."""

    def __init__(self, start, fd, offset):
        self.start = start
        self.fd = fd
        self.offset = offset

    def readable(self):
        return True

    def readinto(self, buffer):
        if self.start:
            count = min(len(buffer), len(self.start))
            buffer[:count] = self.start[:count]
            self.start = self.start[count:]
            return count
        count = os.preadv(self.fd, [buffer], self.offset)
        self.offset += count
        return count

    def close(self):
        if not self.closed:
            os.close(self.fd)
        super().close()


def read_block(view, count, size, fd):
    """The variables' text and the body's first bytes, where the file begins in the middle of either.

    Returns both and the offset in the file at which the body goes on.
    """
    here = bytes(view[12:count])
    missing = size - len(here)
    offset = 0
    while missing > 0:
        piece = os.pread(fd, missing, offset)
        if not piece:
            raise EOFError("the file of a request is shorter than its variables")
        here += piece
        offset += len(piece)
        missing -= len(piece)
    return str(here[:size], "latin-1"), here[size:], offset


class Environs:
    """Makes the environ of each request from what all have in common and what the message says."""

    def __init__(self, base):
        self.base = base

    def from_message(self, view, count, size):
        """For a message that is the whole request. Called once per request: every step here is paid for each time."""
        environ = self.base.copy()
        end = 12 + size
        pieces = iter(str(view[12:end], "latin-1").split("\0"))
        environ.update(zip(pieces, pieces))
        environ["wsgi.input"] = BytesIO() if end == count else BytesIO(view[end:count])
        return environ

    def from_file(self, view, count, size, fd):
        """For a message that goes on in a file. The input owns the descriptor from here on."""
        environ = self.base.copy()
        if 12 + size <= count:
            text, start, offset = str(view[12 : 12 + size], "latin-1"), bytes(view[12 + size : count]), 0
        else:
            text, start, offset = read_block(view, count, size, fd)
        pieces = iter(text.split("\0"))
        environ.update(zip(pieces, pieces))
        if start or offset:
            environ["wsgi.input"] = io.BufferedReader(Rest(start, fd, offset), BLOCK)
        else:
            os.lseek(fd, 0, os.SEEK_SET)  # Nobody else moves it, and where it was means nothing.
            environ["wsgi.input"] = open(fd, "rb", BLOCK)
        return environ


def descriptor(flags, rights):
    """The descriptor that came with a message, or None."""
    if not flags & FD:
        return None
    if not rights:
        raise OSError("a request's file did not arrive: out of descriptors?")
    return int.from_bytes(rights[0][2][:4], sys.byteorder)
