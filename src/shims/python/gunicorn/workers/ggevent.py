"""The classes behind `worker_class = "gevent"`, as names."""

from gunicorn.workers.base import Worker


class GeventWorker(Worker):
    pass


class GeventPyWSGIWorker(GeventWorker):
    pass
