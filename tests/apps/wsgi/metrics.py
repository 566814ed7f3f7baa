"""An app that counts with prometheus_client in multiprocess mode; `/metrics` shows the sum over the workers."""

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest, multiprocess

REQUESTS = Counter("app_requests", "Requests of the app.")
ALIVE = Gauge("app_alive", "Workers that are alive.", multiprocess_mode="livesum")
ALIVE.set(1)


def application(environ, start_response):
    """Counts, or shows."""
    body = b"counted\n"
    if environ["PATH_INFO"] == "/metrics":
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)
        body = generate_latest(registry)
    elif environ["PATH_INFO"] == "/pid":
        body = b"%d\n" % os.getpid()
    else:
        REQUESTS.inc()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
