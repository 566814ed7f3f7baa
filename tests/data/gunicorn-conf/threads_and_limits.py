"""Threads, recycling, limits, and background work in each worker."""

import threading

from recorder import rec

workers = 1
threads = 4
max_requests = 5
max_requests_jitter = 0
timeout = 60
worker_tmp_dir = "/dev/shm"
limit_request_line = 200
limit_request_fields = 10
limit_request_field_size = 300
accesslog = "access.txt"
access_log_format = "%(m)s %(U)s %(s)s"


def post_worker_init(worker):
    worker.background = threading.Thread(target=rec, args=("background", "age=%d" % worker.age))
    worker.background.start()
    worker.background.join()
    rec("post_worker_init", "age=%d" % worker.age, worker.max_requests, worker.cfg.worker_class_str)


def worker_exit(server, worker):
    rec("worker_exit", "age=%d" % worker.age, worker.nr, worker.background.is_alive())
