#!/usr/bin/env python3
"""docs/examples/pipe_pull.py, every byte of it, with another `app`: one that keeps a record of what it ran.

  /record?id=X&ms=N   appends "X PID" to the file named by the variable RECORD_FILE, sleeps, answers; with &breach=1, in a way that breaks the protocol
  /stop-unnamed       stops the worker that receives it first, before it has said that it has it
  /sleep?ms=N  /pid  /sse  /echo  and "hello" for all other paths
"""

import ast
import os
import signal
import time
import urllib.parse

EXAMPLE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../docs/examples/pipe_pull.py")


def events():
    for number in range(1, 6):
        yield b"data: %d\n\n" % number
        time.sleep(0.06)


def recording_app(variables, body):
    head = b"200 OK\0Content-Type\0text/plain"
    query = dict(urllib.parse.parse_qsl(variables.get("QUERY_STRING", "")))
    path, nap = variables["PATH_INFO"], int(query.get("ms", "0")) / 1000
    if path == "/record":
        record = os.open(variables["RECORD_FILE"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.write(record, b"%s %d\n" % (query["id"].encode(), os.getpid()))
        os.close(record)
        time.sleep(nap)
        if "breach" in query:
            return head + b"\0Content-Length\0001\0Content-Length\0002", b"recorded\n"
        return head, b"recorded\n"
    if path == "/sleep":
        time.sleep(nap)
        return head, b"slept\n"
    if path == "/pid":
        return head, b"%d\n" % os.getpid()
    if path == "/echo":
        return head, body
    if path == "/sse":
        return b"200 OK\0Content-Type\0text/event-stream", events()
    return head, b"hello\n"


class Counted:
    """The struct of the example's messages. It is asked between the receipt of a message and the word of it."""

    def __init__(self, struct):
        self.pack = struct.pack
        self.unpack = struct.unpack_from

    def unpack_from(self, buffer):
        found = self.unpack(buffer)
        block = bytes(buffer[12 : 12 + found[4]]).decode("latin-1").split("\0")
        variables = dict(zip(block[::2], block[1::2]))
        if variables.get("PATH_INFO") == "/stop-unnamed":
            try:
                os.close(os.open(variables["RECORD_FILE"] + ".stopped", os.O_CREAT | os.O_EXCL))
                os.kill(os.getpid(), signal.SIGSTOP)
            except FileExistsError:
                pass
        return found


def main():
    with open(EXAMPLE) as file:
        tree = ast.parse(file.read(), EXAMPLE)
    places = [place for place, node in enumerate(tree.body) if getattr(node, "name", None) == "app"]
    assert len(places) == 1, "the example has one function `app`"
    tree.body[places[0] : places[0] + 1] = ast.parse("app, COUNTED = recording_app, Counted(COUNTED)").body
    exec(compile(tree, EXAMPLE, "exec"), {"__name__": "__main__", "recording_app": recording_app, "Counted": Counted})


main()
