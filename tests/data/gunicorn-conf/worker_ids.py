"""A number for each worker through the environment of the arbiter, and attributes of the user's own."""

import os

from recorder import rec

workers = 3


def on_starting(server):
    server.ids_given = 0


def pre_fork(server, worker):
    worker.wanted = [other.number for other in server.WORKERS.values()]
    used = set(worker.wanted)
    worker.number = next(number for number in range(100) if number not in used)
    server.ids_given += 1
    os.environ["APP_WORKER_ID"] = str(worker.number)
    rec("pre_fork", "age=%d" % worker.age, worker.number, sorted(worker.wanted), server.ids_given)


def post_fork(server, worker):
    with open("pid-%d" % worker.age, "w") as file:
        file.write(str(os.getpid()))
    rec("post_fork", "age=%d" % worker.age, worker.number, os.environ["APP_WORKER_ID"], server.ids_given)


def post_worker_init(worker):
    rec("post_worker_init", "age=%d" % worker.age)


def worker_exit(server, worker):
    rec("worker_exit", "age=%d" % worker.age, worker.number)


def child_exit(server, worker):
    rec("child_exit", "age=%d" % worker.age, worker.number)
