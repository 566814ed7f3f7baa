"""A logger of one's own: health checks leave no line, a secret is hidden, lines say who wrote them."""

from gunicorn import glogging
from recorder import rec


class AppLogger(glogging.Logger):
    error_fmt = "own %(levelname)s %(message)s"

    def setup(self, cfg):
        super().setup(cfg)
        rec("logger_setup", cfg.accesslog.rsplit("/", 1)[-1], cfg.loglevel)

    def atoms(self, resp, req, environ, request_time):
        atoms = super().atoms(resp, req, environ, request_time)
        atoms["q"] = "HIDDEN" if "token" in atoms["q"] else atoms["q"]
        return atoms

    def access(self, resp, req, environ, request_time):
        if req.path == "/health":
            rec("health", resp.status, environ["PATH_INFO"], request_time.total_seconds() >= 0)
            return
        super().access(resp, req, environ, request_time)


logger_class = AppLogger
accesslog = "access.txt"
access_log_format = "%(m)s %(U)s %(q)s %(s)s %(B)s %({x-note}i)s %({content-type}o)s %({app.note}e)s"
loglevel = "info"
workers = 1
