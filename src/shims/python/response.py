"""One request with its response, as the app sees it: start_response(), write(), early hints, files; and its frames.

Implements the server's side of PEP 3333. Never here: running the app, and what happens when it fails (handler.py).
"""

import os
import re
import stat

from rgunicorn.channel import (
    BLOCK,
    BODY,
    COPY,
    END,
    FD,
    FRAME,
    RESPONSE,
    SHARE,
    SHARED,
    ChannelEnded,
    counted,
    header,
    span,
)

STATUS = re.compile(r"[1-9][0-9][0-9](?: [\t\x20-\x7e\x80-\xff]*)?")
TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")

UNKNOWN = -1  # The length of a body without Content-Length.
SPECIAL = -2  # The status forbids a body.
HEAD_LIMIT = 65536  # Bytes of a head; the front takes no more (docs/protocols/pipe.md).
LENGTH_LIMIT = 1 << 63  # No body is that long.

heads = {}  # (status, pairs) -> Head. Apps send the same few heads again and again.
HEADS = 512  # When there are more, they are not the same few.


class InvalidHeader(ValueError):
    """A header field that may not be sent. Its value is not shown: it may be secret."""


class Departed(BrokenPipeError):
    """The client has left: nobody wants the rest. What the app sees is what a socket would have told it."""


class Head:
    """A status line and its fields, checked and encoded."""

    __slots__ = ("data", "length", "code", "status", "headers", "announced")

    def __init__(self, status, pairs):
        if not isinstance(status, str):
            raise TypeError("%r is not a string" % (status,))
        if not STATUS.fullmatch(status):
            raise ValueError("Invalid status %r" % status)
        code = int(status[:3])
        if code < 200:
            raise ValueError("Invalid status %r: an interim response is not the answer" % status)
        self.status = status
        self.code = code
        self.announced = UNKNOWN
        self.headers = []
        pieces = [status]
        for name, value in pairs:
            value = checked(name, value)
            self.headers.append((name, value))
            if name.lower() == "content-length":
                if not (value.isascii() and value.isdigit() and int(value) < LENGTH_LIMIT):
                    raise InvalidHeader("Content-Length is not a number")
                self.announced = int(value)
                continue
            pieces.append(name)
            pieces.append(value)
        if self.announced >= 0 and code != 204:
            # Once, wherever it stood, and the last value, as Gunicorn has it.
            pieces += ["Content-Length", str(self.announced)]
        self.length = SPECIAL if code in (204, 304) else self.announced
        self.data = encoded(pieces)


def checked(name, value):
    """The value as it is sent."""
    if not isinstance(name, str):
        raise TypeError("%r is not a string" % (name,))
    if not TOKEN.fullmatch(name):
        raise InvalidHeader("%r is not the name of a header field" % name)
    if not isinstance(value, str):
        raise TypeError("the value of %s is not a string: %r" % (name, type(value)))
    if not VALUE.fullmatch(value):
        raise InvalidHeader("the value of %s has characters that may not be sent" % name)
    return value.strip(" \t")


def encoded(pieces):
    """A head block."""
    data = "\0".join(pieces).encode("latin-1")
    if len(data) > HEAD_LIMIT:
        raise InvalidHeader("the header fields take %d bytes, more than the limit of %d" % (len(data), HEAD_LIMIT))
    return data


class FileWrapper:
    """`wsgi.file_wrapper`: an app that returns one lets the server send the file."""

    def __init__(self, filelike, blksize=8192):
        self.filelike = filelike
        self.blksize = blksize
        if hasattr(filelike, "close"):
            self.close = filelike.close

    def __iter__(self):
        return self

    def __next__(self):
        data = self.filelike.read(self.blksize)
        if data:
            return data
        raise StopIteration

    def __getitem__(self, key):
        data = self.filelike.read(self.blksize)
        if data:
            return data
        raise IndexError(key)


class Exchange:
    """One request with its response. A handler makes a subclass with its channel and log."""

    channel = log = None
    # Defaults of each exchange; most never need another value.
    id = 0
    method = uri = ""
    head = None
    begun = False  # Something of the head has been sent.
    sending = False  # A frame is on its way: if this is True at an exception, the frame was cut.
    ended = False
    sent = 0  # Body bytes.
    cut = False  # The app sent more than it had announced; said once.
    note = b""  # A NOTE frame, sent just before the end.

    def start_response(self, status, headers, exc_info=None):
        if exc_info is not None:
            try:
                if self.begun:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # PEP 3333: no circular reference through the traceback.
        elif self.head is not None:
            raise AssertionError("Response headers already set!")
        pairs = tuple(headers)
        try:
            head = heads.get((status, pairs))
        except TypeError:
            head = None  # Pairs that are lists have no hash: such a head is made anew each time.
        if head is None:
            head = Head(status, pairs)
            remember(head, status, pairs)
        self.head = head
        return self.write

    def early_hints(self, headers):
        """`wsgi.early_hints`: sends 103 at once. The front leaves it out where the client would not know it."""
        pieces = ["103 Early Hints"]
        for name, value in headers:
            name, value = [str(text, "latin-1") if isinstance(text, bytes) else text for text in (name, value)]
            pieces += [name, checked(name, value)]
        if self.begun:
            return
        data = encoded(pieces)
        self.transmit([counted(RESPONSE, 0, self.id, 4 + len(data), len(data)) + data])

    def write(self, data):
        """Sends some of the body, and the head before it."""
        if not isinstance(data, bytes):
            raise TypeError("%r is not a byte" % (data,))
        if self.ended:
            raise AssertionError("write() after the end of the response")
        data = self.admit(data)
        if len(data) >= SHARE and self.channel.shares():
            self.share([data], 0)
        elif not self.begun:
            self.channel.is_unwanted(self.id)  # What is there is about an earlier request that had this id.
            self.transmit(self.head_frame(0, [data] if data else []))
        elif data:
            if self.channel.is_unwanted(self.id):
                raise Departed
            self.transmit(frames(self.id, [data], 0))

    def send_list(self, pieces):
        """Sends a body that is there as a whole, in one frame with the head, and ends the response."""
        for data in pieces:
            if not isinstance(data, bytes):
                raise TypeError("%r is not a byte" % (data,))
        if self.begun:
            for data in pieces:
                self.write(data)
            return self.end()
        if self.head is None:
            raise AssertionError("start_response() was not called")
        pieces = [data for data in pieces if data]
        whole = self.method != "HEAD"
        if whole:
            pieces = [data for data in map(self.admit, pieces) if data]
        elif pieces:
            self.drop()  # Sent all the same: the front leaves it out, but counts what GET would have had.
        if whole and self.is_short():
            self.transmit(self.head_frame(0, pieces))
            return self.end()
        if sum(map(len, pieces)) >= SHARE and whole and self.channel.shares():
            if self.note:
                self.transmit([self.note])
            self.share(pieces, END)
            self.ended = True
            return
        self.ended = True
        self.transmit([self.note] * bool(self.note) + self.head_frame(END, pieces))

    def send_file(self, wrapper):
        """Sends a file's descriptor, from its offset on, and ends the response. False if it is not that kind of file."""
        try:
            fd = wrapper.filelike.fileno()
            status = os.fstat(fd)
            offset = os.lseek(fd, 0, os.SEEK_CUR)
        except (AttributeError, OSError, ValueError, TypeError):  # ValueError: a closed file, or io.UnsupportedOperation.
            return False
        if self.head is None or self.begun or not stat.S_ISREG(status.st_mode) or self.bodiless():
            return False
        length = max(0, status.st_size - offset)
        if self.head.announced >= 0:
            length = min(length, self.head.announced)
        self.sent = length
        short = self.is_short()
        if not length:
            return self.end() or True
        data = self.head.data
        flags = FD if short else FD | END
        frame = counted(RESPONSE, flags, self.id, 20 + len(data), len(data)) + data + span(offset, length)
        self.begun = self.sending = True
        if self.note:
            self.channel.send(self.note)
        self.channel.send_with_descriptor(frame, fd)
        self.sending = False
        if short:
            return self.end() or True
        self.ended = True
        return True

    def end(self):
        """Ends the response, if the app sent all it had announced."""
        if self.ended:
            return
        if not self.begun and self.head is None:
            raise AssertionError("start_response() was not called")
        if self.is_short():
            self.log.warning(
                "WSGI app sent %d of the %d bytes it had announced, %s %s; the response is cut",
                self.sent,
                self.head.announced,
                self.method,
                self.uri,
            )
            if not self.begun:
                self.transmit(self.head_frame(0, []))
            return self.abort()
        self.ended = True
        note = [self.note] * bool(self.note)
        self.transmit(note + ([header(BODY, END, self.id, 0)] if self.begun else self.head_frame(END, [])))

    def abort(self):
        """The response cannot be completed: the client sees that."""
        self.ended = True
        self.transmit([self.note] * bool(self.note) + [header(4, 0, self.id, 0)])

    def replace(self, head, body):
        """Answers with a page of ours instead of what the app had begun to say."""
        self.head, self.sent, self.ended = head, len(body), True
        self.transmit([self.note] * bool(self.note) + self.head_frame(END, [body]))

    def bodiless(self):
        return self.method == "HEAD" or self.head.length == SPECIAL

    def is_short(self):
        return self.sent < self.head.length and self.method != "HEAD"

    def admit(self, data):
        """What of a piece of the body may be sent. Counts it."""
        if self.head is None:
            raise AssertionError("start_response() was not called")
        if not data:
            return data
        if self.bodiless():
            self.drop()
            return b""
        if 0 <= self.head.length < self.sent + len(data):
            if not self.cut:
                self.cut = True
                self.log.warning(
                    "WSGI app sent more than the %d bytes it had announced, %s %s; the rest is dropped",
                    self.head.length,
                    self.method,
                    self.uri,
                )
            data = data[: self.head.length - self.sent]
        self.sent += len(data)
        return data

    def drop(self):
        """Says that a body is dropped. That of a response to HEAD is no mistake: frameworks leave it to the server."""
        if not self.cut:
            self.cut = True
            say = self.log.debug if self.method == "HEAD" else self.log.warning
            say(
                "WSGI app sent body bytes on a no-body response (method=%s status=%s); dropping per RFC 9110.",
                self.method,
                self.head.code,
            )

    def head_frame(self, flags, pieces):
        """The head and the first of the body."""
        self.begun = True
        data = self.head.data
        total = sum(map(len, pieces))
        if total > FRAME:
            first = counted(RESPONSE, 0, self.id, 4 + len(data), len(data)) + data
            return [first] + frames(self.id, pieces, flags)
        return [counted(RESPONSE, flags, self.id, 4 + len(data) + total, len(data)) + data] + pieces

    def share(self, pieces, flags):
        """Sends pieces of the body by way of memory that is shared with the front: neither side then has to wait for the
        other as often as a socket makes it. `flags` for the last of them."""
        channel, memory = self.channel, self.channel.memory
        left = sum(map(len, pieces))
        # With END they are the whole body, which the front cannot see from the first frame.
        length = b"\0Content-Length\0%d" % left if flags and self.head.length == UNKNOWN else b""
        pieces = iter(pieces)
        rest = memoryview(b"")
        while left:
            unwanted = channel.is_unwanted(self.id)
            if unwanted and self.begun:
                raise Departed
            offset = channel.take_block()
            filled = 0
            while left and filled < BLOCK:
                rest = rest or memoryview(next(pieces))
                part = rest[: BLOCK - filled]
                memory.map[offset + filled : offset + filled + len(part)] = part
                rest = rest[len(part) :]
                filled += len(part)
                left -= len(part)
            kind = FD | SHARED | (0 if left else flags)
            if self.begun:
                frame = header(BODY, kind, self.id, 16) + span(offset, filled)
            else:
                data = self.head.data + length
                frame = counted(RESPONSE, kind, self.id, 20 + len(data), len(data)) + data + span(offset, filled)
            self.begun = self.sending = True
            channel.send_with_descriptor(frame, memory.fd)
            self.sending = False

    def transmit(self, pieces):
        if self.channel is None:
            raise ChannelEnded
        self.sending = True
        if len(pieces) == 1:
            self.channel.send(pieces[0])
        elif sum(map(len, pieces)) <= COPY:
            self.channel.send(b"".join(pieces))
        else:
            self.channel.send_pieces(pieces)
        self.sending = False


def frames(id, pieces, flags):
    """BODY frames with these pieces, none of them copied."""
    if len(pieces) == 1 and len(pieces[0]) <= FRAME:
        return [header(BODY, flags, id, len(pieces[0])), pieces[0]]
    made = []
    for piece in pieces:
        view = memoryview(piece)
        for start in range(0, len(view), FRAME):
            part = view[start : start + FRAME]
            made += [header(BODY, 0, id, len(part)), part]
    if flags:
        made.append(header(BODY, flags, id, 0))
    return made


def remember(head, status, pairs):
    """Keeps a head for the next time it is sent, if it is of the plain kind: texts all the way down."""
    if len(heads) >= HEADS:
        heads.clear()
    try:
        heads[status, pairs] = head
    except TypeError:
        pass  # See start_response().
