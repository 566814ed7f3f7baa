"""The app is imported once, before the workers are forked; a thread of the arbiter's side goes on."""

import os
import threading

from recorder import rec

preload_app = True
workers = 2
worker_class = "gthread"
threads = 2
ticks = threading.Event()


def background():
    ticks.set()
    rec("background", os.getpid() == int(os.environ["PRELOADED_BY"]))


def on_starting(server):
    rec("on_starting", "PRELOADED_BY" in os.environ)


def when_ready(server):
    thread = threading.Thread(target=background, daemon=True)
    thread.start()
    thread.join()
    rec("when_ready", ticks.is_set(), callable(server.app.callable))


def post_fork(server, worker):
    rec("post_fork", "age=%d" % worker.age, ticks.is_set(), callable(worker.app.callable))


def post_worker_init(worker):
    rec("post_worker_init", "age=%d" % worker.age, worker.wsgi is worker.app.callable)
