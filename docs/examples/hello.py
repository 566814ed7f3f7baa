#!/usr/bin/env python3
"""Hello, web. Start it with:  rgunicorn --exec docs/examples/hello.py

A whole worker, on one screen: docs/protocols/pipe.md says what the bytes mean.
"""
import os
import socket
import struct
import sys

if "RGUNICORN_FD" not in os.environ:
    sys.exit(f"start me with: rgunicorn --exec {sys.argv[0]}")

REQUEST, RESPONSE, BODY, ABORT, REFUSED, READY, DRAIN, END = 1, 2, 3, 4, 6, 0x10, 0x12, 1
channel = socket.socket(fileno=int(os.environ["RGUNICORN_FD"]))
frames = channel.makefile("rb")
channel.sendall(struct.pack("!BBHIH", READY, 0, 0, 2, 1))  # one request at a time
unfinished = 0  # the request whose body is still coming

while len(header := frames.read(8)) == 8:
    kind, flags, id, length = struct.unpack("!BBHI", header)
    payload = frames.read(length)
    if kind == DRAIN or len(payload) < length:
        break
    if kind == ABORT and id == unfinished:
        channel.sendall(struct.pack("!BBHI", REFUSED, 0, id, 0))
        unfinished = 0
    if kind not in (REQUEST, BODY):
        continue
    if kind == REQUEST:
        (size,) = struct.unpack_from("!I", payload)
        pieces = payload[4 : 4 + size].decode("latin-1").split("\0")
        variables = dict(zip(pieces[::2], pieces[1::2]))
    unfinished = 0 if flags & END else id
    if not unfinished:
        text = f"Hello, {variables['REMOTE_ADDR'] or 'neighbour'}! You asked process {os.getpid()}"
        text += f" for {variables['REQUEST_METHOD']} {variables['REQUEST_URI']}\n"
        head, body = b"200 OK\0Content-Type\0text/plain; charset=iso-8859-1", text.encode("latin-1")
        payload = struct.pack("!I", len(head)) + head + body
        channel.sendall(struct.pack("!BBHI", RESPONSE, END, id, len(payload)) + payload)
