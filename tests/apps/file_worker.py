#!/usr/bin/env python3
"""A worker of the pipe protocol that answers with files (flag FD), and with large bodies. Standard library only.

The file holds 100,000 times "0123456789". A query `a=N&n=N` names a stretch of it (default: all).
  /file     one frame with the file             /more     the same, and END in a frame of its own
  /parts    "<", the file, "|", the file, ">"   /sparse?n=N  N zeros in a file, one frame
  /many?n=N N frames with one byte of the file  /short    ten bytes more than the file has
  /chunks?n=N&size=N  N BODY frames of that size
  /shared?n=N&size=N  N stretches of shared memory, each filled with another letter
  /pipe /write-only /no-fd /stray /two /unsealed /beyond   what must not be sent
A word `declared=N` in the query adds a Content-Length; `status=N` is the status.
  /digest   the length of the request's body and its SHA-256
The argument `pull` makes it pull. What has been written is appended to the file named by RECORD_FILE: "wrote PATH".
"""

import array
import fcntl
import hashlib
import os
import signal
import socket
import struct
import sys
import tempfile
import urllib.parse

REQUEST, RESPONSE, BODY, READY, DRAIN, RETURN = 1, 2, 3, 0x10, 0x12, 0x13
END, FD, SHARED, PULL = 1, 2, 8, 1
CONTENT = b"0123456789" * 100_000

channel = socket.socket(fileno=int(os.environ["RGUNICORN_FD"]))
file = tempfile.TemporaryFile()
file.write(CONTENT)
file.flush()


def send(data, *fds):
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    sent = channel.sendmsg([data], rights)
    channel.sendall(memoryview(data)[sent:])


def body(request, data=b"", flags=0, fds=()):
    send(struct.pack("!BBHI", BODY, flags, request, len(data)) + data, *fds)


def place(offset, length):
    return struct.pack("!QQ", offset, length)


def memory(size, seals):
    made = os.memfd_create("memory", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(made, size)
    fcntl.fcntl(made, 1033, seals)
    return made


def share(request, count, size):
    """One stretch, written to again when it has come back."""
    shared = memory(size, 2)
    for n in range(count):
        os.pwrite(shared, bytes([97 + n % 26]) * size, 0)
        body(request, place(0, size), FD | SHARED, [shared])
        kind, _, _, length = struct.unpack("!BBHI", read_exactly(8))
        assert (kind, read_exactly(length)) == (RETURN, bytes(8))
    os.close(shared)


def answer(request, variables, content):
    path = variables["PATH_INFO"]
    query = dict(urllib.parse.parse_qsl(variables.get("QUERY_STRING", "")))
    number = lambda name, default: int(query.get(name, default))
    stretch = place(number("a", 0), number("n", len(CONTENT)))
    head = b"%d\0Content-Type\0text/plain\0" % number("status", 200)
    if "declared" in query:
        head += b"Content-Length\0%s\0" % query["declared"].encode()

    def response(data=b"", flags=0, *fds):
        payload = struct.pack("!I", len(head)) + head + data
        send(struct.pack("!BBHI", RESPONSE, flags, request, len(payload)) + payload, *fds)

    if path == "/digest":
        response(b"%d %s" % (len(content), hashlib.sha256(content).hexdigest().encode()), END)
    elif path == "/file":
        response(stretch, FD | END, file.fileno())
    elif path == "/more":
        response(stretch, FD, file.fileno())
        body(request, flags=END)
    elif path == "/parts":
        response(b"<")
        body(request, stretch, FD, [file.fileno()])
        body(request, b"|")
        body(request, stretch, FD, [file.fileno()])
        body(request, b">", END)
    elif path == "/sparse":
        with tempfile.TemporaryFile() as sparse:
            sparse.truncate(number("n", 0))
            response(place(0, number("n", 0)), FD | END, sparse.fileno())
    elif path == "/many":
        response()
        for n in range(number("n", 0)):
            body(request, place(n, 1), FD, [file.fileno()])
        body(request, flags=END)
    elif path == "/short":
        response(place(0, len(CONTENT) + 10), FD | END, file.fileno())
    elif path == "/chunks":
        response()
        data = bytes(number("size", 0))
        for n in range(number("n", 0)):
            body(request, data)
        body(request, flags=END)
    elif path == "/shared":
        response()
        share(request, number("n", 1), number("size", 1))
        body(request, flags=END)
    elif path == "/unsealed":
        response(place(0, 1), FD | SHARED | END, memory(10, 4))
    elif path == "/beyond":
        response(place(9, 2), FD | SHARED | END, memory(10, 2))
    elif path == "/pipe":
        response(place(0, 1), FD | END, os.pipe()[0])
    elif path == "/write-only":
        response(place(0, 1), FD | END, os.open("written", os.O_WRONLY | os.O_CREAT))
    elif path == "/no-fd":
        response(stretch, FD | END)
    elif path == "/stray":
        response(b"hello\n", END, file.fileno())
    elif path == "/two":
        response(stretch, FD | END, file.fileno(), file.fileno())
    else:
        response(b"hello\n", END)
    record = os.open(variables["RECORD_FILE"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(record, f"wrote {path}\n".encode())
    os.close(record)


def pull():
    queue = socket.socket(fileno=int(os.environ["RGUNICORN_QUEUE_FD"]))
    board = int(os.environ["RGUNICORN_BOARD_FD"])
    queue.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", 1, 0))
    beat = 0
    while True:
        try:
            message, rights, _, _ = queue.recvmsg(131072, socket.CMSG_SPACE(4))
        except BlockingIOError:
            beat += 1
            os.pwrite(board, struct.pack("=Q", beat), 16376)
            continue
        if not message:
            return
        _, flags, request, _ = struct.unpack_from("!BBHI", message)
        os.pwrite(board, struct.pack("=Q", request), 8)
        payload = message[8:]
        if flags & FD:
            with open(struct.unpack("=i", rights[0][2])[0], "rb") as rest:
                rest.seek(0)
                payload += rest.read()
        serve(request, payload)
        os.pwrite(board, bytes(8), 8)


def serve(request, payload):
    end = 4 + struct.unpack_from("!I", payload)[0]
    pieces = payload[4:end].decode("latin-1").split("\0")
    answer(request, dict(zip(pieces[0::2], pieces[1::2])), payload[end:])


def read_exactly(count):
    data = bytearray()
    while len(data) < count:
        part = channel.recv(min(count - len(data), 1 << 20))
        if not part:
            sys.exit(0)
        data += part
    return bytes(data)


def take():
    while True:
        kind, flags, request, size = struct.unpack("!BBHI", read_exactly(8))
        payload = read_exactly(size)
        if kind == DRAIN:
            return
        while not flags & END:
            _, flags, _, size = struct.unpack("!BBHI", read_exactly(8))
            payload += read_exactly(size)
        if kind == REQUEST:
            serve(request, payload)


if "pull" in sys.argv:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    send(struct.pack("!BBHIH", READY, PULL, 0, 2, 1))
    pull()
else:
    send(struct.pack("!BBHIH", READY, 0, 0, 2, 1))
    take()
