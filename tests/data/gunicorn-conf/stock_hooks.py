"""Every hook in the style of the well-known example: they log, and the log line is what is compared."""

import sys
import threading
import traceback

from recorder import rec

workers = 2
loglevel = "info"


def on_starting(server):
    rec("on_starting", server.num_workers, server.proc_name, len(server.WORKERS), server.cfg.loglevel)
    server.log.info("about to start")


def when_ready(server):
    rec("when_ready", server.num_workers, len(server.LISTENERS), len(server.address))
    server.log.info("Server is ready. Spawning workers")


def nworkers_changed(server, new_value, old_value):
    rec("nworkers_changed", new_value, old_value)


def on_reload(server):
    rec("on_reload", server.num_workers)
    server.log.warning("reloading")


def pre_fork(server, worker):
    rec("pre_fork", "age=%d" % worker.age, worker.pid, worker.booted, worker.alive)


def post_fork(server, worker):
    rec("post_fork", "age=%d" % worker.age, worker.pid == __import__("os").getpid())
    server.log.info("Worker spawned (pid: %s)", worker.pid)


def post_worker_init(worker):
    rec("post_worker_init", "age=%d" % worker.age, worker.app.app_uri, callable(worker.wsgi), worker.nr, worker.aborted)


def worker_int(worker):
    rec("worker_int", "age=%d" % worker.age)
    worker.log.info("worker received INT or QUIT signal")
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, stack in sys._current_frames().items():
        worker.log.debug("%s\n%s", names.get(ident), "".join(traceback.format_stack(stack)))


def worker_abort(worker):
    rec("worker_abort", "age=%d" % worker.age)
    worker.log.info("worker received SIGABRT signal")


def pre_request(worker, req):
    rec("pre_request", "age=%d" % worker.age, req.method, req.path, req.query, req.uri, req.version, req.scheme,
        sorted(name for name, _ in req.headers if name != "X-REQUEST-ID"))


def post_request(worker, req, environ, resp):
    rec("post_request", "age=%d" % worker.age, req.path, environ["PATH_INFO"], resp.status, resp.status_code,
        resp.sent, resp.headers_sent)


def worker_exit(server, worker):
    rec("worker_exit", "age=%d" % worker.age)
    worker.log.info("goodbye")


def child_exit(server, worker):
    rec("child_exit", "age=%d" % worker.age, worker.pid in server.WORKERS)


def on_exit(server):
    rec("on_exit", len(server.WORKERS))
    server.log.info("all done")
