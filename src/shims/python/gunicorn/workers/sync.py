"""The class behind `worker_class = "sync"`, as a name."""

from gunicorn.workers.base import Worker


class StopWaiting(Exception):
    """Known to code that handles the end of a wait."""


class SyncWorker(Worker):
    pass
