#!/usr/bin/env python3
"""A FastCGI app that misbehaves on request. Standard library only.

The path says how: see BAD below. Words on the command line change how the whole process behaves:
  exit-zero      exits with 0 before it accepts anything     exit-one    the same with 1
  never-ready    closes its listening socket and waits       ignore-term ignores SIGTERM
  close-channel  closes descriptor 3
  term-file=P    appends a line to P when SIGTERM arrives, then exits
"""

import os
import signal
import socket
import struct
import sys
import time

BEGIN, ABORT, END, PARAMS, STDIN, STDOUT, STDERR = 1, 2, 3, 4, 5, 6, 7
HELLO = b"Content-Type: text/plain\r\n\r\nhello\n"


def record(kind, content, request=1):
    return struct.pack("!BBHHBx", 1, kind, request, len(content), 0) + content


def records(kind, content):
    parts = [content[i : i + 32768] for i in range(0, len(content), 32768)]
    return b"".join(record(kind, part) for part in parts)


def end(request=1, app_status=0, protocol_status=0):
    return record(END, struct.pack("!IB3x", app_status, protocol_status), request)


def whole(content):
    return records(STDOUT, content) + record(STDOUT, b"") + end()


def read_exactly(link, count):
    data = b""
    while len(data) < count:
        part = link.recv(count - len(data))
        if not part:
            raise EOFError
        data += part
    return data


def pairs(block):
    place, found = 0, {}

    def length():
        nonlocal place
        size = block[place]
        if size < 128:
            place += 1
        else:
            size = struct.unpack_from("!I", block, place)[0] & 0x7FFFFFFF
            place += 4
        return size

    while place < len(block):
        name_size, value_size = length(), length()
        name = block[place : place + name_size].decode("latin-1")
        place += name_size
        found[name] = block[place : place + value_size].decode("latin-1")
        place += value_size
    return found


def read_request(link):
    params = b""
    while True:
        _, kind, _, size, padding = struct.unpack("!BBHHBx", read_exactly(link, 8))
        content = read_exactly(link, size + padding)[:size]
        if kind == PARAMS:
            params += content
        if kind == STDIN and not size:
            return pairs(params)


def sleeping_child(ignore=()):
    pid = os.fork()
    if pid == 0:
        for number in ignore:
            signal.signal(number, signal.SIG_IGN)
        while True:
            time.sleep(3600)
    return pid


def text(body):
    return b"Content-Type: text/plain\r\n\r\n" + body


def die_before(link):
    os._exit(1)


def killed_before(link):
    os.kill(os.getpid(), signal.SIGKILL)


def die_during(link):
    link.sendall(record(STDOUT, b"Content-Type: text/plain\r\nContent-Length: 100\r\n\r\nhalf"))
    time.sleep(0.05)  # so that the half is seen before the end
    os._exit(1)


def die_in_head(link):
    link.sendall(record(STDOUT, b"Content-Type: text/pl"))
    os._exit(1)


def die_after(link):
    link.sendall(whole(HELLO))
    os._exit(1)


def exit_zero(link):
    os._exit(0)


def no_end(link):
    link.sendall(records(STDOUT, HELLO) + record(STDOUT, b""))
    link.close()


def garbage(link):
    link.sendall(b"\x00\xff\x1b[31mnot FastCGI\r\n" * 4)


def wrong_version(link):
    link.sendall(b"\x09" + whole(HELLO)[1:])


def wrong_id(link):
    link.sendall(record(STDOUT, HELLO, request=7) + end(request=7))


def bad_head(link):
    link.sendall(whole(b"this is \x01 no header at all\n\nbody"))


def cut_head(link):
    link.sendall(whole(b"Content-Type: text/plain\r\n"))


def no_head(link):
    link.sendall(record(STDOUT, b"") + end())


def long_head(link):
    link.sendall(whole(b"X-Long: " + b"a" * 200_000 + b"\r\n\r\n"))


def split_field(link):
    link.sendall(whole(b"Content-Type: text/plain\r\nX-Bad: a\rInjected: b\r\n\r\nhello\n"))


def overloaded(link):
    link.sendall(end(protocol_status=2))


def overloaded_held(link):
    link.sendall(records(STDOUT, HELLO) + end(protocol_status=2))


def overloaded_late(link):
    link.sendall(records(STDOUT, text(b"x" * 200_000)) + end(protocol_status=1))


def short_body(link):
    link.sendall(whole(b"Content-Type: text/plain\r\nContent-Length: 100\r\n\r\nshort"))


def long_body(link):
    link.sendall(whole(b"Content-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello and more"))


def stderr_flood(link):
    line = b"x" * 99 + b"\n"
    for _ in range(160):  # 10 MB in records
        link.sendall(records(STDERR, line * 655))
    link.sendall(whole(HELLO))


def own_stderr_flood(link):
    block = (b"y" * 99 + b"\n") * 655
    for _ in range(160):  # 10 MB on descriptor 2
        os.write(2, block)
    link.sendall(whole(HELLO))


def prints(link):
    os.write(1, b"printed by the app\n")
    link.sendall(whole(HELLO))


def forks(link):
    link.sendall(whole(text(b"%d\n" % sleeping_child([signal.SIGTERM, signal.SIGHUP]))))


def forks_and_dies(link):
    sleeping_child([signal.SIGTERM, signal.SIGHUP])
    os._exit(1)


def hangs(link):
    sleeping_child([signal.SIGTERM])
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(3600)


def hangs_in_body(link):
    link.sendall(record(STDOUT, b"Content-Type: text/plain\r\n\r\nstart\n"))
    hangs(link)


def trickles(link):
    link.sendall(record(STDOUT, b"Content-Type: text/plain\r\n\r\n"))
    while True:
        link.sendall(record(STDOUT, b"x"))
        time.sleep(0.1)


def pid(link):
    link.sendall(whole(text(b"%d\n" % os.getpid())))


def hello(link):
    link.sendall(whole(HELLO))


BAD = {
    "/die-before": die_before,
    "/killed-before": killed_before,
    "/die-during": die_during,
    "/die-in-head": die_in_head,
    "/die-after": die_after,
    "/exit-zero": exit_zero,
    "/no-end": no_end,
    "/garbage": garbage,
    "/wrong-version": wrong_version,
    "/wrong-id": wrong_id,
    "/bad-head": bad_head,
    "/cut-head": cut_head,
    "/no-head": no_head,
    "/long-head": long_head,
    "/split-field": split_field,
    "/overloaded": overloaded,
    "/overloaded-held": overloaded_held,
    "/overloaded-late": overloaded_late,
    "/short-body": short_body,
    "/long-body": long_body,
    "/stderr": stderr_flood,
    "/own-stderr": own_stderr_flood,
    "/stdout": prints,
    "/forks": forks,
    "/forks-and-dies": forks_and_dies,
    "/hangs": hangs,
    "/hangs-in-body": hangs_in_body,
    "/trickles": trickles,
    "/pid": pid,
}


def note_term(path):
    def handler(number, frame):
        with open(path, "a") as file:
            file.write("%d\n" % os.getpid())
        os._exit(0)

    signal.signal(signal.SIGTERM, handler)


def main():
    words = sys.argv[1:]
    if "exit-zero" in words:
        os._exit(0)
    if "exit-one" in words:
        os.write(2, b"cannot start: the database is gone\n")
        os._exit(1)
    if "ignore-term" in words:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "close-channel" in words:
        os.close(3)
    for word in words:
        if word.startswith("term-file="):
            note_term(word.partition("=")[2])
    if "never-ready" in words:
        os.close(0)
        while True:
            time.sleep(3600)
    listener = socket.socket(fileno=0)
    while True:
        link, _ = listener.accept()
        try:
            while True:
                params = read_request(link)
                path = params.get("PATH_INFO") or params.get("SCRIPT_NAME") or "/"
                BAD.get(path, hello)(link)
        except (EOFError, OSError):
            link.close()


if __name__ == "__main__":
    main()
