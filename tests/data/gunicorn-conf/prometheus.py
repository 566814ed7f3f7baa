"""prometheus_client in multiprocess mode, as its documentation says."""

import os
import shutil

from prometheus_client import multiprocess
from recorder import rec

wsgi_app = "metrics:application"
workers = 2
directory = os.environ["PROMETHEUS_MULTIPROC_DIR"]


def on_starting(server):
    shutil.rmtree(directory, ignore_errors=True)
    os.makedirs(directory)
    rec("on_starting", os.listdir(directory))


def child_exit(server, worker):
    multiprocess.mark_process_dead(worker.pid)
    rec("child_exit", "age=%d" % worker.age, sorted(name.split("_")[0] for name in os.listdir(directory)
                                                   if name.endswith("_%d.db" % worker.pid)))
