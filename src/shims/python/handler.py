"""Runs the app for one request after the other, and answers for it when it fails.

Never here: where requests come from (sync.py, gthread.py, ggevent.py), and how a response becomes frames (response.py).
"""

import logging
import os
import sys
import time
from datetime import timedelta

from rgunicorn import hookview, logs
from rgunicorn.channel import COPY, END, NOTE, NOTE_LIMIT, RESPONSE, ChannelEnded, counted, header
from rgunicorn.request import Environs
from rgunicorn.response import UNKNOWN, Departed, Exchange, FileWrapper, Head

ERROR_PAGE = b"""<html>
  <head>
    <title>Internal Server Error</title>
  </head>
  <body>
    <h1><p>Internal Server Error</p></h1>
    \n  </body>
</html>
"""
ERROR_HEAD = Head("500 Internal Server Error", [("Content-Type", "text/html"), ("Content-Length", str(len(ERROR_PAGE)))])


class Errors:
    """`wsgi.errors`: text goes to the error log as it is."""

    def streams(self):
        return [sys.stderr]

    def write(self, text):
        for stream in self.streams():
            try:
                stream.write(text)
            except UnicodeError:
                stream.buffer.write(text.encode("utf-8", "backslashreplace"))
            stream.flush()

    def writelines(self, lines):
        for line in lines:
            self.write(line)

    def flush(self):
        for stream in self.streams():
            stream.flush()


class LoggerErrors(Errors):
    """The same where the app configures logging: also to wherever its handlers of `gunicorn.error` write by now."""

    def __init__(self, cfg):
        self.shown = cfg.errorlog == "-"

    def streams(self):
        handlers = logging.getLogger("gunicorn.error").handlers
        # Like Gunicorn, which takes the first handler for that of standard error.
        own = [getattr(handler, "stream", None) for handler in handlers[self.shown :]]
        return [sys.stderr] * self.shown + [stream for stream in own if stream is not None]


def base_environ(cfg, errors, multithread):
    """What is the same in every environ."""
    return {
        "wsgi.version": (1, 0),
        "wsgi.errors": errors,
        "wsgi.multithread": multithread,
        "wsgi.multiprocess": cfg.workers > 1,
        "wsgi.run_once": False,
        "wsgi.file_wrapper": FileWrapper,
        "wsgi.input_terminated": True,
    }


def sendfile_is_on(cfg):
    """The setting if there is one, else the variable SENDFILE, else on."""
    if cfg.sendfile is not None:
        return bool(cfg.sendfile)
    word = os.environ.get("SENDFILE")
    return word is None or word.lower() in ("y", "1", "yes", "true")


class Handler:
    """Serves requests with one app over one channel. Slots share it; it keeps nothing of any request."""

    leaving = ChannelEnded  # What ends more than the request in which it is raised, once the worker retires.

    def __init__(self, worker, channel, config, multithread):
        self.worker = worker
        self.app = worker.wsgi
        self.log = worker.log
        self.cfg = worker.cfg
        self.send = channel.send
        self.channel = channel
        self.alone = not multithread
        errors = Errors() if isinstance(worker.log, logs.Logger) else LoggerErrors(self.cfg)
        self.environs = Environs(base_environ(self.cfg, errors, multithread))
        self.Exchange = type("Exchange", (Exchange,), {"channel": channel, "log": worker.log})
        self.sendfile = sendfile_is_on(self.cfg)
        self.names = frozenset(name.lower() for name in config.get("environ_names") or ())
        self.access = bool(config.get("access_by_app"))
        self.watched = self.access or self.cfg.has_hook("pre_request") or self.cfg.has_hook("post_request")
        self.forked = False  # True in a child that app code has forked.
        if self.watched or self.names:
            self.run = self.run_watched

    def run(self, id, environ):
        """Answers one request: the way of all requests where nobody but the app is interested in them."""
        exchange = self.Exchange()
        exchange.id = id
        exchange.method = method = environ["REQUEST_METHOD"]
        environ["wsgi.early_hints"] = exchange.early_hints
        result = None
        self.worker.nr += 1
        try:
            result = self.app(environ, exchange.start_response)
            # The usual case, made short: a list of one piece that fits its Content-Length. One frame, one call.
            if result.__class__ is list and len(result) == 1 and not exchange.begun and method != "HEAD":
                body, head = result[0], exchange.head
                if head is not None and body.__class__ is bytes:
                    size, length, data = len(body), head.length, head.data
                    if size <= COPY and (length == size or length == UNKNOWN):
                        exchange.begun = exchange.sending = exchange.ended = True
                        self.send(counted(RESPONSE, END, id, 4 + len(data) + size, len(data)) + data + body)
                        return
            self.respond(exchange, environ, result)
        except BaseException as error:
            self.fail(exchange, environ, error)
        finally:
            if result.__class__ is not list:
                self.close(result, environ)

    def run_watched(self, id, environ):
        """The same, where hooks, a logger of the app's or the access log want to know of the request."""
        exchange = self.Exchange()
        exchange.id = id
        exchange.method = environ["REQUEST_METHOD"]
        environ["wsgi.early_hints"] = exchange.early_hints
        began = time.monotonic()
        request = hookview.Request(environ) if self.watched else None
        result = None
        try:
            try:
                if request is not None:
                    self.cfg.pre_request(self.worker, request)
                    request.apply(environ)
                    began = time.monotonic()
                self.worker.nr += 1  # Not before: what a hook refuses does not count.
                result = self.app(environ, exchange.start_response)
                self.respond(exchange, environ, result)
            except BaseException as error:
                self.fail(exchange, environ, error)
            if request is not None:
                self.tell(exchange, request, environ, time.monotonic() - began)
        finally:
            self.close(result, environ)
            if request is not None:
                self.post_request(exchange, request, environ)

    def respond(self, exchange, environ, result):
        """Sends what the app returned."""
        exchange.uri = uri(environ)
        if result.__class__ is list or result.__class__ is tuple:
            self.note(exchange, environ)
            return exchange.send_list(result)
        if isinstance(result, FileWrapper) and self.sendfile:
            self.note(exchange, environ)
            if exchange.send_file(result):
                return None
        if isinstance(result, (str, bytes)):
            raise TypeError("the app returned a %s, not an iterable of bytes" % type(result).__name__)
        for data in result:
            exchange.write(data)
        self.note(exchange, environ)
        return exchange.end()

    def note(self, exchange, environ):
        """Values for `%({name}e)s` of the access log, to go just before the end. Names count in any case."""
        if self.names:
            pairs = [(name, value) for name, value in environ.items() if str(name).lower() in self.names]
            text = "".join("%s\0%s\0" % (name, str(value).replace("\0", "")) for name, value in pairs)
            data = text.encode("latin-1", "backslashreplace")[:NOTE_LIMIT]
            exchange.note = header(NOTE, 0, exchange.id, len(data)) + data

    def fail(self, exchange, environ, error):
        """The app raised: the error page, or, if the head is out, an end that the client sees to be none."""
        if self.forked:
            # App code has forked, and its child came back here: it has nobody to answer. What was raised at its try to
            # do so is no news, what the app raised is.
            if isinstance(error, Exception) and not exchange.sending:
                self.tell_of_child(exchange.method, environ)
            os._exit(0)
        if isinstance(error, ChannelEnded) or not self.worker.alive and isinstance(error, self.leaving):
            raise error
        if exchange.sending and isinstance(error, ConnectionError):
            raise ChannelEnded from None
        if isinstance(error, Departed) and not exchange.ended:
            self.log.debug("Ignoring EPIPE")
            return exchange.abort()
        self.log.exception("Error handling request %s %s", exchange.method, uri(environ))
        if exchange.sending:
            # The exception of a signal handler has cut a frame: nothing that follows would be understood.
            raise ChannelEnded
        if exchange.ended:
            return
        self.note(exchange, environ)
        if exchange.begun:
            exchange.abort()
        else:
            exchange.replace(ERROR_HEAD, ERROR_PAGE)

    def close(self, result, environ):
        try:
            if hasattr(result, "close"):
                result.close()
        except (Exception, SystemExit) as error:
            self.fail_afterwards(environ, error)

    def fail_afterwards(self, environ, error):
        """Something raised after the answer, which costs no worker."""
        if self.forked:
            if isinstance(error, Exception):
                self.tell_of_child(environ.get("REQUEST_METHOD"), environ)
            os._exit(0)
        self.log.exception("Error handling request %s %s", environ.get("REQUEST_METHOD"), uri(environ))

    def tell_of_child(self, method, environ):
        """Logs the exception of a child that app code has forked. Another thread may have held the locks of the logger or
        of standard error when it did so, hence one plain write."""
        text = logs.line(logging.ERROR, "Error handling request %s %s" % (method, uri(environ)), sys.exc_info())
        os.write(2, text.encode("utf-8", "backslashreplace"))

    def tell(self, exchange, request, environ, seconds):
        """One line of the access log, where Python writes it."""
        if not self.access:
            return
        try:
            response = hookview.Response(exchange, request, self.alone)
            self.log.access(response, request, environ, timedelta(seconds=seconds))
        except (Exception, SystemExit) as error:
            self.fail_afterwards(environ, error)

    def post_request(self, exchange, request, environ):
        try:
            response = hookview.Response(exchange, request, self.alone)
            self.cfg.post_request(self.worker, request, environ, response)
        except Exception:
            self.log.exception("Exception in post_request hook")


def uri(environ):
    """The target as the client sent it."""
    return environ.get("RAW_URI") or environ.get("REQUEST_URI", "")
