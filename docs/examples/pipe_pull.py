#!/usr/bin/env python3
"""A worker in Python that pulls. Start it with:  rgunicorn --exec docs/examples/pipe_pull.py

It takes requests from the pool's queue with one system call and answers with one (docs/protocols/pipe.md §9).
Where pulling is off, it takes what the front assigns to it.
"""
import hashlib
import mmap
import os
import signal
import socket
import struct
import sys

REQUEST, RESPONSE, BODY, ABORT, REFUSED, READY, DRAIN = 1, 2, 3, 4, 6, 0x10, 0x12
END, FD, PULL = 1, 2, 1
HEADER = struct.Struct("!BBHI")
COUNTED = struct.Struct("!BBHII")  # A header and the length of the block or head that the payload begins with.
BEAT = 2047  # The cell that says that we live, counted up once a second while we wait.
RIGHTS = socket.CMSG_SPACE(4)  # Room for one descriptor beside a message.


def app(variables, body):
    """Returns the head, ready to send, and the body: bytes, or an iterator of bytes that are sent one by one."""
    path = variables["PATH_INFO"]
    if path == "/":
        return b"200 OK\0Content-Type\0text/plain", b"Hello from Python\n"
    if path == "/echo":
        return b"200 OK\0X-Length\0%d\0X-SHA256\0%s" % (len(body), hashlib.sha256(body).hexdigest().encode()), body
    if path == "/big":
        return b"200 OK\0Content-Type\0text/plain", b"x" * int(variables["QUERY_STRING"].removeprefix("n="))
    if path == "/sse":
        return b"200 OK\0Content-Type\0text/event-stream", (b"data: %d\n\n" % n for n in range(5))
    if path == "/broken":
        return b"200 OK\0Content-Type\0text/plain", broken()
    if path == "/vars":
        lines = "".join(f"{k}={v}\n" for k, v in sorted(variables.items()))
        return b"200 OK\0Content-Type\0text/plain", lines.encode("latin-1")
    return b"404 Not Found\0Content-Type\0text/plain", b"Not here\n"


def broken():
    yield b"half of it"
    raise RuntimeError("broken on purpose")


def send(kind, flags, id, payload=b""):
    channel.sendall(HEADER.pack(kind, flags, id, len(payload)) + payload)


def answer(id, block, body):
    pieces = str(block, "latin-1").split("\0")
    begun = False
    try:
        head, result = app(dict(zip(pieces[::2], pieces[1::2])), body)
        begun = True
        if result.__class__ is bytes:
            send_all(COUNTED.pack(RESPONSE, END, id, 4 + len(head) + len(result), len(head)) + head + result)
            return
        send_all(COUNTED.pack(RESPONSE, 0, id, 4 + len(head), len(head)) + head)
        for part in result:
            send(BODY, 0, id, part)
        send(BODY, END, id)
    except ConnectionError:
        raise
    except Exception as error:
        print(repr(error), file=sys.stderr)
        if begun:
            send(ABORT, 0, id)
        else:
            head, result = b"500 Internal Server Error\0Content-Type\0text/plain", b"The app failed\n"
            send_all(COUNTED.pack(RESPONSE, END, id, 4 + len(head) + len(result), len(head)) + head + result)


class Retired(Exception):
    """SIGTERM came while the worker was waiting for a message."""


def retire(*_):
    global retired, waiting
    retired = True
    if waiting:
        waiting = False
        raise Retired


def pull():
    """Serves from the queue until SIGTERM or its end. No message that was received is lost on the way."""
    global waiting
    queue = socket.socket(fileno=int(os.environ["RGUNICORN_QUEUE_FD"]))
    queue.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", 1, 0))
    cells = memoryview(mmap.mmap(int(os.environ["RGUNICORN_BOARD_FD"]), 16384)).cast("Q")
    buffer = bytearray(131072)
    view, into, receive, unpack = memoryview(buffer), [buffer], queue.recvmsg_into, COUNTED.unpack_from
    try:
        while True:
            buffer[0] = 0  # Tells, if a signal comes at the moment a message does, whether there is one.
            waiting = True
            if retired:
                return
            try:
                count, rights, _, _ = receive(into, RIGHTS)
            except BlockingIOError:
                waiting = False  # A signal in the jump of `continue` would not be caught below, by CPython 3.11.
                cells[BEAT] += 1
                continue
            waiting = False
            if not count:
                return
            _, flags, id, _, size = unpack(buffer)
            cells[1] = id  # From here on the request counts as run, should this process die.
            if flags & FD:
                payload = b"".join([view[8:count], *read_file(struct.unpack("=i", rights[0][2])[0])])
                (size,) = struct.unpack_from("!I", payload)
                answer(id, payload[4 : 4 + size], payload[4 + size :])
            else:
                answer(id, view[12 : 12 + size], bytes(view[12 + size : count]))
            cells[1] = 0
    except Retired:
        if buffer[0]:
            send(REFUSED, 0, HEADER.unpack_from(buffer)[2])


def read_file(fd):
    with open(fd, "rb") as file:  # Closes it, too.
        file.seek(0)
        yield file.read()


def read_frames():
    """Frames from the channel until its end; one that was cut is left out."""
    read = channel.makefile("rb", 65536).read
    while len(header := read(8)) == 8:
        kind, flags, id, length = HEADER.unpack(header)
        payload = read(length)
        if len(payload) == length:
            yield kind, flags, id, payload


def serve():
    """Serves what the front assigns, until DRAIN or the end of the channel."""
    unfinished = {}
    for kind, flags, id, payload in read_frames():
        if kind == DRAIN:
            return
        if kind == REQUEST:
            end = 4 + struct.unpack_from("!I", payload)[0]
            if flags & END:
                answer(id, payload[4:end], payload[end:])
            else:
                unfinished[id] = (payload[4:end], [payload[end:]])
        elif kind == BODY:
            unfinished[id][1].append(payload)
            if flags & END:
                block, parts = unfinished.pop(id)
                answer(id, block, b"".join(parts))
        elif kind == ABORT and unfinished.pop(id, None):
            send(REFUSED, 0, id)


if "RGUNICORN_FD" not in os.environ:
    sys.exit(f"start me with: rgunicorn --exec {sys.argv[0]}")
channel = socket.socket(fileno=int(os.environ["RGUNICORN_FD"]))
send_all = channel.sendall
waiting = retired = False
try:
    if "RGUNICORN_QUEUE_FD" in os.environ:
        signal.signal(signal.SIGTERM, retire)
        send(READY, PULL, 0, struct.pack("!H", 1))
        pull()
    else:
        send(READY, 0, 0, struct.pack("!H", 1))
        serve()
except (BrokenPipeError, ConnectionResetError):
    pass  # The channel has ended: so has rgunicorn.
