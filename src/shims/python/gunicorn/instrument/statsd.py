"""A logger that sends metrics, for subclasses that code defines. Without one, the metrics are the arbiter's."""

import logging
import socket

from gunicorn.glogging import Logger

METRIC_VAR = "metric"
VALUE_VAR = "value"
MTYPE_VAR = "mtype"
GAUGE_TYPE = "gauge"
COUNTER_TYPE = "counter"
HISTOGRAM_TYPE = "histogram"
TIMER_TYPE = "timer"


class Statsd(Logger):
    def __init__(self, cfg):
        super().__init__(cfg)
        prefix = (cfg.statsd_prefix or "").rstrip(".")
        self.prefix = prefix + "." if prefix else ""
        self.dogstatsd_tags = cfg.dogstatsd_tags
        self.sock = None
        if cfg.statsd_host is not None:
            family = socket.AF_UNIX if isinstance(cfg.statsd_host, str) else socket.AF_INET
            try:
                self.sock = socket.socket(family, socket.SOCK_DGRAM)
                self.sock.connect(cfg.statsd_host)
            except OSError:
                self.sock = None  # logging works without metrics

    def critical(self, msg, *args, **kwargs):
        super().critical(msg, *args, **kwargs)
        self.increment("gunicorn.log.critical", 1)

    def error(self, msg, *args, **kwargs):
        super().error(msg, *args, **kwargs)
        self.increment("gunicorn.log.error", 1)

    def warning(self, msg, *args, **kwargs):
        super().warning(msg, *args, **kwargs)
        self.increment("gunicorn.log.warning", 1)

    def exception(self, msg, *args, **kwargs):
        super().exception(msg, *args, **kwargs)
        self.increment("gunicorn.log.exception", 1)

    def info(self, msg, *args, **kwargs):
        self.log(logging.INFO, msg, *args, **kwargs)

    def debug(self, msg, *args, **kwargs):
        self.log(logging.DEBUG, msg, *args, **kwargs)

    def log(self, lvl, msg, *args, **kwargs):
        """A line, a metric in `extra`, or both."""
        extra = kwargs.get("extra") or {}
        metric, value = extra.get(METRIC_VAR), extra.get(VALUE_VAR)
        send = {
            GAUGE_TYPE: self.gauge,
            COUNTER_TYPE: self.increment,
            HISTOGRAM_TYPE: self.histogram,
            TIMER_TYPE: self.timer,
        }.get(extra.get(MTYPE_VAR))
        if metric and value is not None and send is not None:
            send(metric, value)
        if msg:
            super().log(lvl, msg, *args, **kwargs)

    def access(self, resp, req, environ, request_time):
        super().access(resp, req, environ, request_time)
        status = resp.status.decode("utf-8") if isinstance(resp.status, bytes) else resp.status
        if isinstance(status, str):
            status = int(status.split(None, 1)[0])
        self.timer("gunicorn.request.duration", request_time.seconds * 1000 + request_time.microseconds / 1000)
        self.increment("gunicorn.requests", 1)
        self.increment("gunicorn.request.status.%d" % status, 1)

    def gauge(self, name, value):
        self._sock_send("%s%s:%s|g" % (self.prefix, name, value))

    def increment(self, name, value, sampling_rate=1.0):
        self._sock_send("%s%s:%s|c|@%s" % (self.prefix, name, value, sampling_rate))

    def decrement(self, name, value, sampling_rate=1.0):
        self._sock_send("%s%s:-%s|c|@%s" % (self.prefix, name, value, sampling_rate))

    def timer(self, name, value):
        self._sock_send("%s%s:%s|ms" % (self.prefix, name, value))

    def histogram(self, name, value):
        self._sock_send("%s%s:%s|h" % (self.prefix, name, value))

    def _sock_send(self, msg):
        if self.sock is None:
            return
        data = msg.encode("ascii") if isinstance(msg, str) else msg
        if self.dogstatsd_tags:
            data += b"|#" + self.dogstatsd_tags.encode("ascii")
        try:
            self.sock.send(data)
        except OSError:
            Logger.warning(self, "Error sending message to statsd", exc_info=True)
