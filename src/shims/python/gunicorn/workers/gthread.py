"""The class behind `worker_class = "gthread"`, as a name."""

from gunicorn.workers.base import Worker


class ThreadWorker(Worker):
    pass
