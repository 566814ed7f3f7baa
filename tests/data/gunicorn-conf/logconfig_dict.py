"""Logging by a dictionary: own format, own file for access lines."""

logconfig_dict = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "short": {"format": "%(levelname)s|%(name)s|%(message)s"},
        "access": {"format": "ACCESS|%(message)s"},
    },
    "handlers": {
        "errors": {"class": "logging.FileHandler", "filename": "errors.txt", "formatter": "short"},
        "requests": {"class": "logging.FileHandler", "filename": "requests.txt", "formatter": "access"},
        "console": {"class": "logging.StreamHandler", "formatter": "short", "stream": "ext://sys.stderr"},
    },
    "root": {"level": "INFO", "handlers": ["console"]},
    "loggers": {
        "gunicorn.error": {"level": "INFO", "handlers": ["errors", "console"], "propagate": False},
        "gunicorn.access": {"level": "INFO", "handlers": ["requests"], "propagate": False},
    },
}
access_log_format = "%(m)s %(U)s %(s)s"
workers = 1
