#!/usr/bin/env python3
"""A worker of the pipe protocol with FLOW: one thread reads the channel, each request has a thread and its windows.

  /echo       sends the request body back as it arrives    /count  answers how many body bytes came
  /read?ms=N  the same, sleeping after each frame          /big?n=N  answers N bytes
  /sleep?ms=N /pid  /sse?n=N  and "hello" for all other paths

The argument `slots=N` says how many requests it takes at once. What it saw is appended to the file named by the
variable RECORD_FILE: "begin PATH", "body PATH" with the first bytes of a body, "abort PATH". A front that breaks the
protocol ends the worker with status 3 and a line that says how.
"""

import os
import queue
import socket
import struct
import sys
import threading
import time
import urllib.parse

REQUEST, RESPONSE, BODY, ABORT, WINDOW, READY, DRAIN = 1, 2, 3, 4, 5, 0x10, 0x12
END = 1
FLOW = 2
INITIAL = 256 * 1024
STEP = 64 * 1024

channel = socket.socket(fileno=int(os.environ["RGUNICORN_FD"]))
stream = channel.makefile("rb", 1 << 16)
writing = threading.Lock()
exchanges = {}


def breach(text):
    os.write(2, f"breach of the protocol: {text}\n".encode())
    os._exit(3)


def send(kind, flags, number, payload=b""):
    with writing:
        channel.sendall(struct.pack("!BBHI", kind, flags, number, len(payload)) + payload)


class Aborted(Exception):
    pass


class Exchange:
    def __init__(self, number, variables):
        self.number, self.variables = number, variables
        self.parts = queue.SimpleQueue()
        self.may_send, self.may_come = INITIAL, INITIAL
        self.changed = threading.Condition()
        self.aborted = self.whole = False

    def note(self, what):
        record = os.open(self.variables["RECORD_FILE"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.write(record, f"{what} {self.variables['PATH_INFO']}\n".encode())
        os.close(record)

    def arrived(self, data, end):
        if self.whole or self.aborted:
            breach("body bytes after the end")
        with self.changed:
            self.may_come -= len(data)
            if self.may_come < 0:
                breach("more body bytes than the window allows")
        self.whole = end
        if data:
            self.parts.put(data)
        if end:
            self.parts.put(None)

    def body(self):
        """The parts of the request body; the window opens as they are taken."""
        taken, first = 0, True
        while True:
            part = self.parts.get()
            if self.aborted:
                raise Aborted
            if part is None:
                return
            if first:
                self.note("body")
                first = False
            yield part
            taken += len(part)
            if taken >= STEP and not self.whole:
                with self.changed:
                    self.may_come += taken
                send(WINDOW, 0, self.number, struct.pack("!I", taken))
                taken = 0

    def write(self, data):
        view = memoryview(data)
        while view:
            with self.changed:
                self.changed.wait_for(lambda: self.may_send > 0 or self.aborted)
                if self.aborted:
                    raise Aborted
                count = min(len(view), self.may_send, STEP)
                self.may_send -= count
            send(BODY, 0, self.number, view[:count].tobytes())
            view = view[count:]

    def run(self):
        self.note("begin")
        query = dict(urllib.parse.parse_qsl(self.variables.get("QUERY_STRING", "")))
        path, nap = self.variables["PATH_INFO"], int(query.get("ms", "0")) / 1000
        try:
            if path in ("/count", "/read"):
                total = 0
                for part in self.body():
                    total += len(part)
                    time.sleep(nap)
                self.head()
                self.write(b"%d\n" % total)
            elif path == "/echo":
                self.head()
                for part in self.body():
                    self.write(part)
            else:
                for _ in self.body():
                    pass
                time.sleep(nap)
                self.head()
                if path == "/big":
                    left = int(query["n"])
                    while left:
                        count = min(left, STEP)
                        self.write(b"x" * count)
                        left -= count
                elif path == "/sse":
                    for event in range(int(query["n"])):
                        self.write(b"data: %d\n\n" % event)
                        time.sleep(0.02)
                else:
                    self.write(b"%d\n" % os.getpid() if path == "/pid" else b"hello\n")
            del exchanges[self.number]
            send(BODY, END, self.number)
        except Aborted:
            self.note("abort")
            del exchanges[self.number]
            send(ABORT, 0, self.number)

    def head(self):
        head = b"200 OK\0Content-Type\0text/plain\0"
        send(RESPONSE, 0, self.number, struct.pack("!I", len(head)) + head)

    def abort(self):
        with self.changed:
            self.aborted = True
            self.changed.notify_all()
        self.parts.put(None)


def read_exactly(count):
    data = stream.read(count)
    if len(data) < count:
        os._exit(0)
    return data


def main():
    slots = next((int(word.partition("=")[2]) for word in sys.argv if word.startswith("slots=")), 8)
    send(READY, FLOW, 0, struct.pack("!H", slots))
    while True:
        kind, flags, number, size = struct.unpack("!BBHI", read_exactly(8))
        payload = read_exactly(size)
        exchange = exchanges.get(number)
        if kind == DRAIN:
            while exchanges:
                time.sleep(0.01)
            os._exit(0)
        elif kind == REQUEST:
            if exchange is not None:
                breach("a request by the number of another")
            (length,) = struct.unpack_from("!I", payload)
            block = payload[4 : 4 + length].decode("latin-1").split("\0")
            exchange = exchanges[number] = Exchange(number, dict(zip(block[0::2], block[1::2])))
            if len(exchanges) > slots:
                breach("more requests than slots")
            exchange.arrived(payload[4 + length :], bool(flags & END))
            threading.Thread(target=exchange.run, daemon=True).start()
        elif kind == BODY:
            if exchange is not None:
                exchange.arrived(payload, bool(flags & END))
        elif kind == ABORT and exchange is not None:
            exchange.abort()
        elif kind == WINDOW and exchange is not None:
            with exchange.changed:
                exchange.may_send += struct.unpack("!I", payload)[0]
                exchange.changed.notify_all()


main()
