"""The name that hooks and type annotations use for a worker. Never: what a worker does."""

import signal

import rgunicorn.worker


class Worker(rgunicorn.worker.Worker):
    SIGNALS = [getattr(signal, "SIG" + name) for name in "ABRT HUP QUIT INT TERM USR1 USR2 WINCH CHLD".split()]
    PIPE = []
