"""The worker classes by the names that settings know."""

from gunicorn import _look_behind

_look_behind(__path__, "workers")

SUPPORTED_WORKERS = {
    "sync": "gunicorn.workers.sync.SyncWorker",
    "gevent": "gunicorn.workers.ggevent.GeventWorker",
    "gevent_wsgi": "gunicorn.workers.ggevent.GeventPyWSGIWorker",
    "gevent_pywsgi": "gunicorn.workers.ggevent.GeventPyWSGIWorker",
    "gthread": "gunicorn.workers.gthread.ThreadWorker",
}
