"""The host: one Python process beside the arbiter that evaluates the configuration file, runs the hooks of the
arbiter's side, imports a preloaded app, and forks the workers.

It does what the arbiter asks for, one message after the other. Never: a decision about workers.
"""

import functools
import gc
import json
import logging
import os
import signal
import socket
import sys
import threading
import traceback
from os import close  # before a configuration has gevent replace it by one that closes later

from . import conf, logs, settings, spawn
from .server import Server

ARBITER = 3  # the socket to the arbiter; each message is a packet
WORKER_PLACES = (3, 4, 5, 2)  # where a worker has channel, queue, board and standard error
PACKET = 256 * 1024
MOST_DESCRIPTORS = 4

BOOT_ERROR = 3  # Gunicorn's exit code of a worker that could not start
LOAD_ERROR = 4  # the same, because the app could not be loaded

# Hooks that Gunicorn runs before its main loop, where an exception ends it with 1, and after it.
OUTSIDE_LOOP = ("on_starting", "when_ready", "on_exit", "pre_exec")


def main(config):
    """Run by the boot code; never returns."""
    spawn.ignore_shared_signals()
    arbiter = socket.socket(fileno=ARBITER)
    arbiter.setblocking(True)
    arbiter.set_inheritable(False)
    spawn.reserve((4, 5))
    code = 1
    try:
        code = Host(config, arbiter).run()
    except (BrokenPipeError, ConnectionResetError):
        pass  # the arbiter is gone
    except BaseException:
        traceback.print_exc()
    finally:
        leave(code)


def speak_for(pid):
    """What hooks log on the server's side bears the number of the arbiter, as under Gunicorn, where they are one. What
    workers log later bears their own."""
    make, host = logging.getLogRecordFactory(), os.getpid()

    def record(*args, **kwargs):
        made = make(*args, **kwargs)
        if made.process == host:
            made.process = pid
        return made

    logging.setLogRecordFactory(record)


def heed_own_signals(ask):
    """Under Gunicorn, hooks of the server's side signal the server by `os.kill(os.getpid(), ...)`. What this process sends
    itself is what they mean; the same signals from elsewhere are for the arbiter, which gets them too."""
    pid = os.getpid()

    def is_meant(number):
        return number in spawn.SHARED and os.getpid() == pid and signal.getsignal(number) is spawn.heed_nothing

    def pass_on(send, target_of):
        @functools.wraps(send)
        def wrapper(*args):
            number = args[-1] if args else None
            if target_of(args) == pid and isinstance(number, int) and is_meant(number):
                ask(signal.Signals(number).name)
            else:
                send(*args)

        return wrapper

    os.kill = pass_on(os.kill, lambda args: args[0] if len(args) == 2 else None)
    signal.raise_signal = pass_on(signal.raise_signal, lambda args: pid if len(args) == 1 else None)


def leave(code):
    """Ends the process without waiting for threads that a hook may have left running."""
    import atexit

    try:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


class Refused(Exception):
    """A request of the arbiter failed, and the cause has been printed. `exit` is what Gunicorn would end with."""

    def __init__(self, error, exit):
        super().__init__(error)
        self.exit = exit


class Host:
    def __init__(self, config, arbiter):
        self.config = config
        self.arbiter = arbiter
        self.sending = threading.Lock()
        self.callables = {}
        self.cfg = None
        self.server = None
        self.luggage = ""  # As the arbiter has it.
        self.is_worker = False

    def run(self):
        """Evaluates, then serves the arbiter until it closes the connection. Gives the exit code."""
        heed_own_signals(self.ask)
        try:
            evaluated = conf.evaluate(self.config.get("conf"), self.config["start"])
        except conf.Failed as failure:
            self.send({"type": "failed", "error": str(failure), "exit": failure.exit})
            return failure.exit
        self.callables = evaluated.callables
        self.send(evaluated.report)
        while True:
            message, descriptors = self.receive()
            if message is None:
                return 0
            self.answer(message, descriptors)

    def send(self, message):
        packet = json.dumps(message).encode("ascii")
        # A thread started by a hook may ask for something at any time.
        with self.sending:
            self.arbiter.send(packet)

    def receive(self):
        try:
            packet, ancillary, flags, _ = self.arbiter.recvmsg(
                PACKET, socket.CMSG_SPACE(4 * MOST_DESCRIPTORS), socket.MSG_CMSG_CLOEXEC
            )
        except ConnectionResetError:
            return None, ()
        descriptors = []
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                whole = len(data) - len(data) % 4
                descriptors += memoryview(data)[:whole].cast("i").tolist()
        if not packet:
            return None, ()
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            raise RuntimeError("a message of the arbiter has more than %d bytes" % PACKET)
        return json.loads(packet), descriptors

    def answer(self, message, descriptors):
        """Does what the message asks for, and says so."""
        kind = message["type"]
        answer = {"type": "done", "of": kind}
        answer.update((key, message[key]) for key in ("name", "worker") if key in message)
        try:
            if self.server is None and kind not in ("configure", "reopen"):
                # Asked before the arbiter heard that it could not be configured.
                raise Refused("it is not configured", 1)
            if HANDLERS[kind](self, message, descriptors) is ANSWERED:
                return
        except Refused as failure:
            answer.update(type="failed", error=str(failure), exit=failure.exit)
        finally:
            for descriptor in descriptors:
                close(descriptor)
            # Whatever a hook has printed is in the log when the arbiter hears that it is done.
            sys.stdout.flush()
            sys.stderr.flush()
        if self.server is not None and kind != "log":
            luggage = self.server.luggage()
            if luggage != self.luggage:
                self.luggage = answer["luggage"] = luggage
        self.send(answer)

    # What the arbiter may ask for.

    def configure(self, message, _):
        config = message["config"]
        self.config = config
        try:
            # Only what changes: a variable that is set moves, and setproctitle finds the arguments in front of the first.
            changed = (item for item in config.get("env", {}).items() if os.environ.get(item[0]) != item[1])
            os.environ.update(changed)
            values, callables = with_precedence(config["settings"], self.callables)
            self.cfg = cfg = settings.Config(values, callables)
            os.environ.update(cfg.env)
            os.environ["SERVER_SOFTWARE"] = "rgunicorn/%s" % config["version"]
            sys.argv[:] = config["argv"]
            self.capture_output()
            from . import app, title

            app.set_import_path(config)
            title.set_title("rgunicorn: host [%s]" % config["proc_name"])
            log = cfg.logger_class(cfg) if config["access_by_app"] else logs.make_logger(cfg)
            speak_for(config["arbiter_pid"])
            self.server = Server(app.App(cfg, config["app"]), cfg, log, config["arbiter_pid"], self.ask)
            if config.get("luggage"):
                self.server.unpack(config["luggage"])
        except RuntimeError as error:
            # Gunicorn's word for a setting that cannot be followed; the text says it all.
            raise Refused(str(error), 1) from error
        except Exception as error:
            raise self.at_start(error) from error

    def capture_output(self):
        """What is printed goes where errors go, if that is asked for."""
        if self.config["capture_output"]:
            if logs.error_log is not None:
                os.dup2(logs.error_log.fileno(), 2)
            os.dup2(2, 1)

    def ask(self, command, pid=None):
        """Passes on what code wants of the server: from here by a message, from a worker by a signal."""
        if self.is_worker:
            number = COMMAND_SIGNALS[command]
            os.kill(self.server.pid if pid is None else pid, number)
            return
        message = {"type": "command", "command": command}
        if pid is not None:
            message["pid"] = pid
        self.send(message)

    def preload(self, message, _):
        try:
            self.server.app.wsgi()
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            raise self.at_start(error) from error
        # What is frozen is never touched by the collector, and so stays shared with the workers.
        gc.collect()
        gc.freeze()

    def hook(self, message, _):
        name = message["name"]
        arguments = (self.server,)
        if name == "nworkers_changed":
            self.server.count_is(message["new"])
            arguments = (self.server, message["new"], message.get("old"))
        self.call(name, arguments, name in OUTSIDE_LOOP or message.get("old", 0) is None)

    def fork(self, message, descriptors):
        server = self.server
        age = server.worker_age = message["age"]
        try:
            worker = self.cfg.worker_class(age, server.pid, [], server.app, self.cfg.timeout / 2, self.cfg, server.log)
        except Exception as error:
            raise self.in_loop(error, "starting a worker") from error
        worker.server = server
        self.call("pre_fork", (server, worker), False)

        def run():
            self.be_worker(worker, descriptors)

        def announce(pid):
            worker.pid = pid
            server.WORKERS[pid] = worker
            self.send({"type": "forked", "worker": message["worker"], "pid": pid})

        try:
            spawn.spawn(run, announce)
        except OSError as error:
            raise self.in_loop(error, "starting a worker") from error
        return ANSWERED

    def child_exit(self, message, _):
        worker = self.server.WORKERS.pop(message["pid"], None)
        if worker is not None and message["code"] not in (BOOT_ERROR, LOAD_ERROR):
            self.call("child_exit", (self.server, worker), False)

    def log(self, message, _):
        """A line of the arbiter's, for the logger of the configuration."""
        try:
            getattr(self.server.log, message["level"])(message["text"])
        except Exception:
            traceback.print_exc()

    def reopen(self, message, descriptors):
        logs.use_file(descriptors[0])
        if self.server is None:
            return
        self.capture_output()
        try:
            self.server.log.reopen_files()
        except OSError:
            # The old files go on; a log is no reason to end.
            self.server.log.error("Cannot open the log files again", exc_info=True)

    # How a failure looks.

    def call(self, name, arguments, outside_loop):
        try:
            getattr(self.cfg, name)(*arguments)
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
            raise Refused("%s ended the program by SystemExit: %s" % (name, stop.code), code & 0xFF) from stop
        except Exception as error:
            raise (self.at_start(error) if outside_loop else self.in_loop(error, "%s hook" % name)) from error

    def at_start(self, error):
        conf.print_traceback(error)
        code = error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else 1
        return Refused(conf.one_line(error), code & 0xFF or 1)

    def in_loop(self, error, where):
        """Gunicorn's master would end of it; here it is told, and everything goes on."""
        self.server.log.error("Exception in %s", where, exc_info=conf.trimmed(error))
        return Refused(conf.one_line(error), 255)

    # The other side of a fork.

    def be_worker(self, worker, descriptors):
        """In the new process; does not return."""
        from .worker import leave, serve

        code = 255
        try:
            # The number is about to be the channel's; closing it is not for an object that knows nothing of that.
            self.arbiter.detach()
            self.is_worker = True
            spawn.place(descriptors, WORKER_PLACES)
            if logs.error_log is not None:
                logs.use_file(2)  # A worker's lines pass through the front.
            self.capture_output()
            if os.getppid() != self.server.pid:
                return  # the arbiter is gone
            after_fork()
            worker.pid = os.getpid()
            code = self.before_app(worker)
            if code is None:
                serve(worker, self.config)
        finally:
            leave(code)

    def before_app(self, worker):
        """What a worker does with the rights of the host. Gives the exit code if it gets no further."""
        config = self.config
        self.server.log.info("Booting worker with pid: %s", worker.pid)
        try:
            self.cfg.post_fork(self.server, worker)
            spawn.drop_privileges(config["user"], config["group"], config["initgroups"])
            spawn.die_with_parent()
        except SystemExit as stop:
            return self.last_words(worker, stop)
        except Exception as error:
            self.server.log.error("Exception in worker process", exc_info=conf.trimmed(error))
            print(error, file=sys.stderr, flush=True)
            return self.last_words(worker, None)
        return None

    def last_words(self, worker, stop):
        from .worker import exit_code

        try:
            self.cfg.worker_exit(self.server, worker)
        except Exception:
            self.server.log.warning("Exception during worker exit:\n%s", traceback.format_exc())
        return BOOT_ERROR if stop is None else exit_code(stop)


ANSWERED = object()  # a fork: before the new process could do anything
COMMAND_SIGNALS = {
    "reload": signal.SIGHUP,
    "stop": signal.SIGTERM,
    "ttin": signal.SIGTTIN,
    "ttou": signal.SIGTTOU,
    "kill_worker": signal.SIGTERM,
}

HANDLERS = {
    "configure": Host.configure,
    "preload": Host.preload,
    "hook": Host.hook,
    "fork": Host.fork,
    "child_exit": Host.child_exit,
    "reopen": Host.reopen,
    "log": Host.log,
}


def with_precedence(values, callables):
    """A class or dictionary of the file counts unless a later source named something else."""
    default = settings.make_settings()

    def counts(name):
        value = values.get(name)
        if name in settings.HOOK_ARITY or value in (None, default[name].value):
            return True
        # The arbiter knows this one by the name of the class it derives from.
        return name == "worker_class" and conf.derives_from(callables[name], value)

    callables = {name: value for name, value in callables.items() if counts(name)}
    return {name: value for name, value in values.items() if name not in callables}, callables


def after_fork():
    """What libraries need that do not see our fork, since it is not the one they put into `os`."""
    gevent = sys.modules.get("gevent")
    if gevent is not None and hasattr(gevent, "reinit"):
        gevent.reinit()
