#!/usr/bin/env python3
"""A worker in Python. Start it with:  rgunicorn --exec docs/examples/pipe_worker.py"""
import hashlib
import os
import socket
import struct
import sys

REQUEST, RESPONSE, BODY, ABORT, REFUSED, READY, DRAIN = 1, 2, 3, 4, 6, 0x10, 0x12
END = 1
HEADER = struct.Struct("!BBHI")


def app(variables, body):
    """Returns status, fields, and the body: bytes, or an iterator of bytes that are sent one by one."""
    path = variables["PATH_INFO"]
    text = {"Content-Type": "text/plain"}
    if path == "/":
        return "200 OK", text, b"Hello from Python\n"
    if path == "/echo":
        return "200 OK", {"X-Length": len(body), "X-SHA256": hashlib.sha256(body).hexdigest()}, body
    if path == "/big":
        return "200 OK", text, b"x" * int(variables["QUERY_STRING"].removeprefix("n="))
    if path == "/sse":
        return "200 OK", {"Content-Type": "text/event-stream"}, (b"data: %d\n\n" % n for n in range(5))
    if path == "/broken":
        return "200 OK", text, broken()
    if path == "/vars":
        return "200 OK", text, "".join(f"{k}={v}\n" for k, v in sorted(variables.items())).encode("latin-1")
    return "404 Not Found", text, b"Not here\n"


def broken():
    yield b"half of it"
    raise RuntimeError("broken on purpose")


def read_exactly(length):
    data = stream.read(length)
    if len(data) < length:
        sys.exit(0)  # The channel has ended: so has rgunicorn.
    return data


def read_frame():
    kind, flags, id, length = HEADER.unpack(read_exactly(8))
    return kind, flags, id, read_exactly(length)


def send(kind, flags, id, payload=b""):
    channel.sendall(HEADER.pack(kind, flags, id, len(payload)) + payload)


def answer(id, variables, body):
    begun = False
    try:
        status, fields, body = app(variables, body)
        head = "\0".join([status, *(str(text) for field in fields.items() for text in field)]).encode("latin-1")
        head = struct.pack("!I", len(head)) + head
        whole = isinstance(body, bytes)
        begun = True
        send(RESPONSE, END if whole else 0, id, head + body if whole else head)
        if not whole:
            for part in body:
                send(BODY, 0, id, part)
            send(BODY, END, id)
    except ConnectionError:
        sys.exit(0)
    except Exception as error:
        print(f"{variables['PATH_INFO']}: {error!r}", file=sys.stderr)
        if begun:
            send(ABORT, 0, id)
        else:
            head = b"500 Internal Server Error\0Content-Type\0text/plain"
            send(RESPONSE, END, id, struct.pack("!I", len(head)) + head + b"The app failed\n")


if "RGUNICORN_FD" not in os.environ:
    sys.exit(f"start me with: rgunicorn --exec {sys.argv[0]}")
channel = socket.socket(fileno=int(os.environ["RGUNICORN_FD"]))
stream = channel.makefile("rb", 65536)
send(READY, 0, 0, struct.pack("!H", 1))
while True:
    kind, flags, id, payload = read_frame()
    if kind == DRAIN:
        break
    if kind != REQUEST:
        continue  # An ABORT that came too late, or a frame of a later version.
    (size,) = struct.unpack_from("!I", payload)
    pieces = payload[4 : 4 + size].decode("latin-1").split("\0")
    body = [payload[4 + size :]]
    while not flags & END and kind != ABORT:
        kind, more_flags, _, payload = read_frame()
        if kind == BODY:
            body.append(payload)
            flags = more_flags
    if kind == ABORT:
        send(REFUSED, 0, id)
    else:
        answer(id, dict(zip(pieces[::2], pieces[1::2])), b"".join(body))
