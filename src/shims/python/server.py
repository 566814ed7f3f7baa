"""The `server` object of hooks: what Gunicorn's users know as the arbiter, as seen from the host.

It describes the real arbiter, which is another process; what it cannot do itself, it asks for by a message.
Never: processes, or the connection to the arbiter.
"""

import base64
import os
import pickle
import signal

LUGGAGE = 65536  # Characters; free attributes that take more are not taken along.


class Listener:
    """A socket that the arbiter holds: its address, and no way to accept from it."""

    def __init__(self, address, is_ssl=False):
        self.address = address
        self.is_ssl = is_ssl

    def getsockname(self):
        return self.address

    def __str__(self):
        if isinstance(self.address, str):
            return "unix:%s" % self.address
        if isinstance(self.address, int):
            return "fd://%d" % self.address
        host, port = self.address[:2]
        host = "[%s]" % host if ":" in host else host
        return "%s://%s:%d" % ("https" if self.is_ssl else "http", host, port)


class Server:
    """Free attributes are welcome; `WORKERS` maps the pids of living workers to their objects."""

    def __init__(self, app, cfg, log, pid, ask):
        self.app = app
        self.cfg = cfg
        self.log = log
        self.pid = pid
        self.address = cfg.address
        self.timeout = cfg.timeout
        self.proc_name = cfg.proc_name
        self.master_name = "Master"
        self.master_pid = 0
        self.worker_age = 0
        self.WORKERS = {}
        self.LISTENERS = [Listener(address, cfg.is_ssl) for address in cfg.address]
        self._num_workers = cfg.workers
        self._ask = ask
        self._own = frozenset(self.__dict__) | {"_own"}

    def luggage(self):
        """The free attributes as text, for the host that takes over at HUP; those that cannot be pickled stay behind."""
        found = {}
        # A thread of a hook's may add one meanwhile.
        for name, value in list(self.__dict__.items()):
            if name not in self._own:
                try:
                    found[name] = pickle.dumps(value)
                except Exception:
                    continue
        text = base64.b64encode(pickle.dumps(found)).decode("ascii") if found else ""
        return text if len(text) <= LUGGAGE else ""

    def unpack(self, text):
        """Takes over what luggage() gave."""
        for name, value in pickle.loads(base64.b64decode(text)).items():
            try:
                setattr(self, name, pickle.loads(value))
            except Exception:
                self.log.warning("server.%s could not be taken over from before the reload", name, exc_info=True)

    @property
    def worker_class(self):
        return self.cfg.worker_class

    @property
    def num_workers(self):
        return self._num_workers

    @num_workers.setter
    def num_workers(self, wanted):
        # The number itself changes when the arbiter has changed it, and nworkers_changed tells.
        difference = wanted - self._num_workers
        for _ in range(abs(difference)):
            self._ask("ttin" if difference > 0 else "ttou")

    def count_is(self, number):
        """The arbiter says how many workers it keeps."""
        self._num_workers = number

    def reload(self):
        self._ask("reload")

    def stop(self, graceful=True):
        self._ask("stop")

    def halt(self, reason=None, exit_status=0):
        self._ask("stop")

    def ttin(self):
        self._ask("ttin")

    def ttou(self):
        self._ask("ttou")

    def manage_workers(self):
        """Nothing to do: the arbiter sees to it that there are as many workers as there should be."""

    def kill_worker(self, pid, sig=signal.SIGTERM):
        """TERM retires the worker in good order; any other signal is sent as it is."""
        if pid not in self.WORKERS:
            return
        if sig == signal.SIGTERM:
            self._ask("kill_worker", pid)
        else:
            os.kill(pid, sig)

    def kill_workers(self, sig=signal.SIGTERM):
        for pid in list(self.WORKERS):
            self.kill_worker(pid, sig)

    handle_hup = reload
    handle_term = stop
    handle_int = stop
    handle_quit = stop
    handle_ttin = ttin
    handle_ttou = ttou

    def __getattr__(self, name):
        if name in ELSEWHERE:
            raise AttributeError(
                "server.%s is not available: in rgunicorn the arbiter is another process and does this itself" % name
            )
        raise AttributeError("%r object has no attribute %r" % (type(self).__name__, name))


# What public code was seen to call, and cannot here.
ELSEWHERE = frozenset(
    "murder_workers reap_workers reexec run setup spawn_worker spawn_workers start wakeup init_signals"
    " pidfile systemd reexec_pid START_CTX SIG_QUEUE".split()
)
