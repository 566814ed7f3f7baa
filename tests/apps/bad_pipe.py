#!/usr/bin/env python3
"""A worker of the pipe protocol that misbehaves on request. Standard library only.

The path says how: see BAD below. Words on the command line change how the whole process behaves:
  exit-zero    exits with 0 before READY       exit-one       the same with 1
  never-ready  says nothing and waits          boot-garbage   prints text into the channel instead of READY
  slots=0      says READY with no slots        ignore-term    ignores SIGTERM and DRAIN
"""

import os
import signal
import socket
import struct
import sys
import time

REQUEST, RESPONSE, BODY, ABORT, WINDOW, REFUSED, LOG, READY, DRAIN = 1, 2, 3, 4, 5, 6, 7, 0x10, 0x12
FLAG_END = 1


def frame(kind, flags=0, request=0, payload=b""):
    return struct.pack("!BBHI", kind, flags, request, len(payload)) + payload


def response(request, body=b"hello\n", head=b"200 OK\0Content-Type\0text/plain\0", flags=FLAG_END):
    return frame(RESPONSE, flags, request, struct.pack("!I", len(head)) + head + body)


def read_exactly(link, count):
    data = b""
    while len(data) < count:
        part = link.recv(count - len(data))
        if not part:
            raise EOFError
        data += part
    return data


def sleeping_child(ignore=()):
    pid = os.fork()
    if pid == 0:
        for number in ignore:
            signal.signal(number, signal.SIG_IGN)
        while True:
            time.sleep(3600)
    return pid


def die_before(link, request):
    os._exit(1)


def die_during(link, request):
    link.sendall(response(request, b"half", b"200 OK\0Content-Type\0text/plain\0Content-Length\x00100\0", 0))
    time.sleep(0.05)  # so that the half is seen before the end
    os._exit(1)


def die_in_frame(link, request):
    link.sendall(response(request)[:20])
    os._exit(1)


def die_after(link, request):
    link.sendall(response(request))
    os._exit(1)


def exit_zero(link, request):
    os._exit(0)


def aborts(link, request):
    link.sendall(frame(ABORT, 0, request))


def aborts_in_body(link, request):
    link.sendall(response(request, b"half", flags=0) + frame(ABORT, 0, request))


def garbage(link, request):
    link.sendall(b"Traceback (most recent call last):\r\n\x1b[31m" * 4)


def unknown_type(link, request):
    link.sendall(frame(0x42, 0, request, b"what is this") + response(request))


def skipped_type(link, request):
    link.sendall(frame(0x99, 0, request, b"from the future") + response(request))


def too_long(link, request):
    link.sendall(struct.pack("!BBHI", RESPONSE, 0, request, 0xFFFFFFFF))


def wrong_id(link, request):
    link.sendall(response(request ^ 0x5555))


def twice(link, request):
    link.sendall(response(request) + response(request))


def bad_status(link, request):
    link.sendall(response(request, head=b"20 OK\0"))


def bad_field(link, request):
    link.sendall(response(request, head=b"200 OK\0X-Bad\0a\r\nInjected: b\0"))


def bad_name(link, request):
    link.sendall(response(request, head=b"200 OK\0X Bad\0a\0"))


def odd_head(link, request):
    link.sendall(response(request, head=b"200 OK\0X-Name\0"))


def head_too_long(link, request):
    link.sendall(response(request, head=b"200 OK\0X-Long\0" + b"a" * 70_000 + b"\0"))


def body_first(link, request):
    link.sendall(frame(BODY, FLAG_END, request, b"hello\n"))


def short_body(link, request):
    link.sendall(response(request, b"short", b"200 OK\0Content-Length\x00100\0"))


def long_body(link, request):
    link.sendall(response(request, b"hello and more", b"200 OK\0Content-Length\x005\0"))


def ready_again(link, request):
    link.sendall(frame(READY, 0, 0, struct.pack("!H", 1)) + response(request))


def own_stderr_flood(link, request):
    block = (b"y" * 99 + b"\n") * 655
    for _ in range(160):  # 10 MB on descriptor 2
        os.write(2, block)
    link.sendall(response(request))


def log_flood(link, request):
    for _ in range(2000):
        link.sendall(frame(LOG, 0, request, b"\x01" + b"z" * 4000))
    link.sendall(response(request))


def prints(link, request):
    os.write(1, b"printed by the app\n")
    link.sendall(response(request))


def forks(link, request):
    child = sleeping_child([signal.SIGTERM, signal.SIGHUP])
    link.sendall(response(request, b"%d\n" % child))


def forks_and_dies(link, request):
    sleeping_child([signal.SIGTERM, signal.SIGHUP])
    os._exit(1)


def hangs(link, request):
    sleeping_child([signal.SIGTERM])
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(3600)


def refuses_once(link, request):
    """REFUSED the first time, by a file; then an answer."""
    try:
        os.close(os.open("refused", os.O_CREAT | os.O_EXCL))
        link.sendall(frame(REFUSED, 0, request))
    except FileExistsError:
        link.sendall(response(request))


def pid(link, request):
    link.sendall(response(request, b"%d\n" % os.getpid()))


BAD = {
    b"/die-before": die_before,
    b"/die-during": die_during,
    b"/die-in-frame": die_in_frame,
    b"/die-after": die_after,
    b"/exit-zero": exit_zero,
    b"/aborts": aborts,
    b"/aborts-in-body": aborts_in_body,
    b"/garbage": garbage,
    b"/unknown-type": unknown_type,
    b"/skipped-type": skipped_type,
    b"/too-long": too_long,
    b"/wrong-id": wrong_id,
    b"/twice": twice,
    b"/bad-status": bad_status,
    b"/bad-field": bad_field,
    b"/bad-name": bad_name,
    b"/odd-head": odd_head,
    b"/head-too-long": head_too_long,
    b"/body-first": body_first,
    b"/short-body": short_body,
    b"/long-body": long_body,
    b"/ready-again": ready_again,
    b"/own-stderr": own_stderr_flood,
    b"/log": log_flood,
    b"/stdout": prints,
    b"/forks": forks,
    b"/forks-and-dies": forks_and_dies,
    b"/hangs": hangs,
    b"/refuses-once": refuses_once,
    b"/pid": pid,
}


def main():
    words = sys.argv[1:]
    if "exit-zero" in words:
        os._exit(0)
    if "exit-one" in words:
        os.write(2, b"cannot start: the database is gone\n")
        os._exit(1)
    if "ignore-term" in words:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "never-ready" in words:
        while True:
            time.sleep(3600)
    link = socket.socket(fileno=int(os.environ["RGUNICORN_FD"]))
    if "boot-garbage" in words:
        link.sendall(b"Loading the app...\n")
        time.sleep(3600)
    slots = 1
    for word in words:
        if word.startswith("slots="):
            slots = int(word.partition("=")[2])
    link.sendall(frame(READY, 0, 0, struct.pack("!H", slots)))
    while True:
        kind, flags, request, size = struct.unpack("!BBHI", read_exactly(link, 8))
        payload = read_exactly(link, size)
        if kind == DRAIN and "ignore-term" not in words:
            os._exit(0)
        if kind != REQUEST:
            continue
        while not flags & FLAG_END:
            _, flags, _, size = struct.unpack("!BBHI", read_exactly(link, 8))
            read_exactly(link, size)
        block = payload[4 : 4 + struct.unpack_from("!I", payload)[0]].split(b"\0")
        path = dict(zip(block[0::2], block[1::2])).get(b"PATH_INFO", b"/")
        BAD.get(path, lambda link, request: link.sendall(response(request)))(link, request)


if __name__ == "__main__":
    try:
        main()
    except (EOFError, OSError):
        sys.exit(0)
