"""The style of most tutorials: plain values, some of them computed."""

import multiprocessing

from recorder import rec

bind = "127.0.0.1:0"
workers = min(multiprocessing.cpu_count() * 2 + 1, 2)
worker_class = "sync"
threads = 1
timeout = 120
keepalive = 5
graceful_timeout = 10
max_requests = 1000
max_requests_jitter = 50
worker_connections = 1000
backlog = 2048
accesslog = "-"
errorlog = "-"
loglevel = "info"
daemon = False
worker_tmp_dir = "/dev/shm"
proc_name = "tutorial"
limit_request_line = 4094
spam = "an unknown name is ignored"

rec("evaluated", __file__.rsplit("/", 1)[-1], __name__)
