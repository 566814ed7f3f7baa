"""Hooks around each request: they time it, change it, count it, and end a worker that has done enough."""

import time

from recorder import rec

workers = 1
proc_name = "hooked"


def pre_request(worker, req):
    req.began = time.monotonic()
    req.headers.append(("X-ADDED", "by the hook"))
    if req.path == "/environ":
        req.scheme = "https"
    if req.path == "/refuse":
        raise RuntimeError("refused by the hook")
    worker.seen = getattr(worker, "seen", 0) + 1
    worker.log.info("%s %s", req.method, req.path)


def post_request(worker, req, environ):
    rec("post_request", "age=%d" % worker.age, worker.seen, worker.nr, req.path, environ.get("HTTP_X_ADDED"),
        time.monotonic() >= req.began)
    if req.path == "/enough":
        worker.alive = False


def worker_exit(server, worker):
    rec("worker_exit", "age=%d" % worker.age, worker.seen)


def child_exit(server, worker):
    rec("child_exit", "age=%d" % worker.age)
