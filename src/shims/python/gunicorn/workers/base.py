"""The worker class that others derive from, with the constructor and the steps that Gunicorn's has.

Never: what a worker does.
"""

import signal

import rgunicorn.worker


class Worker(rgunicorn.worker.Worker):
    SIGNALS = [getattr(signal, "SIG" + name) for name in "ABRT HUP QUIT INT TERM USR1 USR2 WINCH CHLD".split()]
    PIPE = []

    def __init__(self, age, ppid, sockets, app, timeout, cfg, log):
        super().__init__(age, ppid, app, timeout, cfg, log)
        self.sockets = sockets

    def serve(self, config):
        self.serve_config = config
        self.init_process()

    def init_process(self):
        """Loads the app and serves until the end; a subclass may do something before."""
        super().serve(self.serve_config)
