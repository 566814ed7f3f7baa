"""The `cfg` object of hooks, loggers and workers: every Gunicorn setting by its name.

The arbiter reads, merges and judges configurations; here is their Python face.
Never: reading files or the command line, or a decision about what a setting does.
"""

import grp
import ipaddress
import importlib
import inspect
import os
import pwd

HOOK_ARITY = {
    "on_starting": 1,
    "on_reload": 1,
    "when_ready": 1,
    "pre_fork": 2,
    "post_fork": 2,
    "post_worker_init": 1,
    "worker_int": 1,
    "worker_abort": 1,
    "pre_exec": 1,
    "pre_request": 2,
    "post_request": 4,
    "child_exit": 2,
    "worker_exit": 2,
    "nworkers_changed": 3,
    "on_exit": 1,
    "ssl_context": 2,
    "on_dirty_starting": 1,
    "dirty_post_fork": 2,
    "dirty_worker_init": 1,
    "dirty_worker_exit": 2,
}

POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


# What a value may be. Each takes what a person wrote and gives the value of the type Gunicorn has there;
# the messages are those its users know.


def to_bool(value):
    if value is None or isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise TypeError("Invalid type for casting: %s" % (value,))
    word = value.strip().lower()
    if word not in ("true", "false"):
        raise ValueError("Invalid boolean: %s" % value)
    return word == "true"


def to_count(value):
    if value is None:
        return None
    number = int(value) if isinstance(value, int) else int(value, 0)
    if number < 0:
        raise ValueError("Value must be positive: %s" % number)
    return number


def to_text(value):
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError("Not a string: %s" % (value,))
    return value.strip()


def to_texts(value):
    if not value:
        return []
    return [to_text(item) for item in ([value] if isinstance(value, str) else value)]


def to_words(value):
    """A comma list; the arbiter sends it as the list it already is."""
    if isinstance(value, (list, tuple)):
        return [to_text(item) for item in value]
    return [word.strip() for word in (to_text(value) or "").split(",") if word]


def to_networks(value):
    words = to_words(value)
    for word in words:
        if word != "*":
            ipaddress.ip_network(word)
    return words


def to_dict(value):
    if not isinstance(value, dict):
        raise TypeError("Value is not a dictionary: %s " % (value,))
    return value


def to_class(value):
    if inspect.isfunction(value) or inspect.ismethod(value):
        value = value()
    return value if inspect.isclass(value) else to_text(value)


def to_user(value):
    if value is None:
        return os.geteuid()
    if isinstance(value, int) or value.isdigit():
        return int(value)
    try:
        return pwd.getpwnam(value).pw_uid
    except KeyError:
        raise ValueError("No such user: '%s'" % value) from None


def to_group(value):
    if value is None:
        return os.getegid()
    if isinstance(value, int) or value.isdigit():
        return int(value)
    try:
        return grp.getgrnam(value).gr_gid
    except KeyError:
        raise ValueError("No such group: '%s'" % value) from None


def to_statsd(value):
    """`HOST:PORT` as a pair for a datagram socket, `unix://PATH` as the path."""
    if value is None:
        return None
    if isinstance(value, (list, tuple)):
        return (value[0], int(value[1]))
    text = to_text(value)
    if text.startswith("unix://"):
        path = text[len("unix://") :]
        if not path:
            raise TypeError("Invalid unix socket address: %s" % value)
        return path
    if text.startswith("/"):
        return text
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, "8125"
    if not port.isdigit():
        raise TypeError("Value must be one of ('host:port', 'unix://PATH')")
    return (host.strip("[]").lower() or "localhost", int(port))


def to_proxy_protocol(value):
    if value is None or isinstance(value, bool):
        return "auto" if value else "off"
    if not isinstance(value, str):
        raise TypeError("proxy_protocol must be string or bool")
    mode = PROXY_MODES.get(value.strip().lower())
    if mode is None:
        raise ValueError("proxy_protocol must be: off, v1, v2, or auto")
    return mode


PROXY_MODES = {"v1": "v1", "v2": "v2"}
PROXY_MODES.update(dict.fromkeys(("off", "false", "0", "none"), "off"))
PROXY_MODES.update(dict.fromkeys(("auto", "true", "1"), "auto"))


def to_any(value):
    return value


def arity(function):
    """How many positional parameters a callable has."""
    return sum(parameter.kind in POSITIONAL for parameter in inspect.signature(function).parameters.values())


def to_callable(value):
    """A callable, or the object that the text `module.name` names."""
    if isinstance(value, str):
        module, dot, name = value.rpartition(".")
        if not dot:
            raise TypeError("Value '%s' is not import string. Format: module[.submodules...].object" % value)
        try:
            value = getattr(importlib.import_module(module), name)
        except ImportError as error:
            raise TypeError(str(error)) from error
        except AttributeError:
            raise TypeError("Can not load '%s' from '%s'" % (name, module)) from None
    if not callable(value):
        raise TypeError("Value is not callable: %s" % (value,))
    return value


def callable_kind(wanted):
    """The kind of a callable with so many parameters; -1 stands for any number."""

    def to_hook(value):
        value = to_callable(value)
        if wanted != -1 and arity(value) != wanted:
            raise TypeError("Value must have an arity of: %s" % wanted)
        return value

    return to_hook


def to_post_request(value):
    """The hook with its four arguments; one that takes fewer is given the first of them."""
    value = to_callable(value)
    count = arity(value)
    if count == 4:
        return value
    if count == 3:
        return lambda worker, req, environ, resp: value(worker, req, environ)
    if count == 2:
        return lambda worker, req, environ, resp: value(worker, req)
    raise TypeError("Value must have an arity of: 4")


def hook_kind(name):
    return to_post_request if name == "post_request" else callable_kind(HOOK_ARITY[name])


def no_hook(*arguments):
    """What stands where no hook is defined."""


# name, section, default, kind. The sections are Gunicorn's.
TABLE = (
    ("config", "Config File", "./gunicorn.conf.py", to_text),
    ("wsgi_app", "Config File", None, to_text),
    ("bind", "Server Socket", ["127.0.0.1:8000"], to_texts),
    ("backlog", "Server Socket", 2048, to_count),
    ("workers", "Worker Processes", 1, to_count),
    ("worker_class", "Worker Processes", "sync", to_class),
    ("threads", "Worker Processes", 1, to_count),
    ("worker_connections", "Worker Processes", 1000, to_count),
    ("max_requests", "Worker Processes", 0, to_count),
    ("max_requests_jitter", "Worker Processes", 0, to_count),
    ("timeout", "Worker Processes", 30, to_count),
    ("graceful_timeout", "Worker Processes", 30, to_count),
    ("keepalive", "Worker Processes", 2, to_count),
    ("asgi_loop", "Worker Processes", "auto", to_text),
    ("asgi_lifespan", "Worker Processes", "auto", to_text),
    ("asgi_disconnect_grace_period", "Worker Processes", 3, to_count),
    ("websocket_max_message_size", "Worker Processes", 16777216, to_count),
    ("http_parser", "Worker Processes", "auto", to_text),
    ("limit_request_line", "Security", 4094, to_count),
    ("limit_request_fields", "Security", 100, to_count),
    ("limit_request_field_size", "Security", 8190, to_count),
    ("reload", "Debugging", False, to_bool),
    ("reload_engine", "Debugging", "auto", to_text),
    ("reload_extra_files", "Debugging", [], to_texts),
    ("spew", "Debugging", False, to_bool),
    ("check_config", "Debugging", False, to_bool),
    ("print_config", "Debugging", False, to_bool),
    ("preload_app", "Server Mechanics", False, to_bool),
    ("sendfile", "Server Mechanics", None, to_bool),
    ("reuse_port", "Server Mechanics", False, to_bool),
    ("chdir", "Server Mechanics", None, to_text),
    ("daemon", "Server Mechanics", False, to_bool),
    ("raw_env", "Server Mechanics", [], to_texts),
    ("pidfile", "Server Mechanics", None, to_text),
    ("worker_tmp_dir", "Server Mechanics", None, to_text),
    ("user", "Server Mechanics", None, to_user),
    ("group", "Server Mechanics", None, to_group),
    ("umask", "Server Mechanics", 0, to_count),
    ("initgroups", "Server Mechanics", False, to_bool),
    ("tmp_upload_dir", "Server Mechanics", None, to_text),
    (
        "secure_scheme_headers",
        "Server Mechanics",
        {"X-FORWARDED-PROTOCOL": "ssl", "X-FORWARDED-PROTO": "https", "X-FORWARDED-SSL": "on"},
        to_dict,
    ),
    ("forwarded_allow_ips", "Server Mechanics", ["127.0.0.1", "::1"], to_networks),
    ("forwarder_headers", "Server Mechanics", ["SCRIPT_NAME", "PATH_INFO"], to_words),
    ("header_map", "Server Mechanics", "drop", to_text),
    ("pythonpath", "Server Mechanics", None, to_text),
    ("paste", "Server Mechanics", None, to_text),
    ("raw_paste_global_conf", "Server Mechanics", [], to_texts),
    ("proxy_protocol", "Server Mechanics", "off", to_proxy_protocol),
    ("proxy_allow_ips", "Server Mechanics", ["127.0.0.1", "::1"], to_networks),
    ("protocol", "Server Mechanics", "http", to_text),
    ("uwsgi_allow_ips", "Server Mechanics", ["127.0.0.1", "::1"], to_networks),
    ("permit_obsolete_folding", "Server Mechanics", False, to_bool),
    ("strip_header_spaces", "Server Mechanics", False, to_bool),
    ("permit_unconventional_http_method", "Server Mechanics", False, to_bool),
    ("permit_unconventional_http_version", "Server Mechanics", False, to_bool),
    ("casefold_http_method", "Server Mechanics", False, to_bool),
    ("root_path", "Server Mechanics", "", to_text),
    ("accesslog", "Logging", None, to_text),
    ("disable_redirect_access_to_syslog", "Logging", False, to_bool),
    (
        "access_log_format",
        "Logging",
        '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"',
        to_text,
    ),
    ("errorlog", "Logging", "-", to_text),
    ("loglevel", "Logging", "info", to_text),
    ("capture_output", "Logging", False, to_bool),
    ("logger_class", "Logging", "gunicorn.glogging.Logger", to_class),
    ("logconfig", "Logging", None, to_text),
    ("logconfig_dict", "Logging", {}, to_dict),
    ("logconfig_json", "Logging", None, to_text),
    ("syslog_addr", "Logging", "udp://localhost:514", to_text),
    ("syslog", "Logging", False, to_bool),
    ("syslog_prefix", "Logging", None, to_text),
    ("syslog_facility", "Logging", "user", to_text),
    ("enable_stdio_inheritance", "Logging", False, to_bool),
    ("statsd_host", "Logging", None, to_statsd),
    ("dogstatsd_tags", "Logging", "", to_text),
    ("statsd_prefix", "Logging", "", to_text),
    ("enable_backlog_metric", "Logging", False, to_bool),
    ("proc_name", "Process Naming", None, to_text),
    ("default_proc_name", "Process Naming", "gunicorn", to_text),
    ("keyfile", "SSL", None, to_text),
    ("certfile", "SSL", None, to_text),
    ("ssl_version", "SSL", 2, to_any),
    ("cert_reqs", "SSL", 0, to_count),
    ("ca_certs", "SSL", None, to_text),
    ("suppress_ragged_eofs", "SSL", True, to_bool),
    ("do_handshake_on_connect", "SSL", False, to_bool),
    ("ciphers", "SSL", None, to_text),
    ("http_protocols", "HTTP/2", ["h1"], to_words),
    ("http2_cleartext", "HTTP/2", "off", to_text),
    ("http2_max_concurrent_streams", "HTTP/2", 100, to_count),
    ("http2_initial_window_size", "HTTP/2", 65535, to_count),
    ("http2_max_frame_size", "HTTP/2", 16384, to_count),
    ("http2_max_header_list_size", "HTTP/2", 65536, to_count),
    ("dirty_apps", "Dirty Arbiters", [], to_texts),
    ("dirty_workers", "Dirty Arbiters", 0, to_count),
    ("dirty_timeout", "Dirty Arbiters", 300, to_count),
    ("dirty_threads", "Dirty Arbiters", 1, to_count),
    ("dirty_graceful_timeout", "Dirty Arbiters", 30, to_count),
    ("control_socket", "Control", None, to_text),
    ("control_socket_mode", "Control", 0o600, to_count),
    ("control_socket_disable", "Control", False, to_bool),
)


class Setting:
    """One setting and its value."""

    __slots__ = ("name", "section", "default", "order", "validator", "value")

    def __init__(self, name, section, default, order, validator):
        self.name = name
        self.section = section
        self.default = default
        self.order = order
        self.validator = validator
        self.value = default

    def get(self):
        return self.value

    def set(self, value):
        self.value = self.validator(value)

    def __lt__(self, other):
        return self.order < other.order

    def __repr__(self):
        return "<Setting %s = %r>" % (self.name, self.value)


def make_settings(ignore=()):
    """The settings by name, each with its default."""
    settings = {}
    for name, section, default, kind in TABLE:
        # A list or dict must not be shared between two objects.
        default = list(default) if isinstance(default, list) else dict(default) if isinstance(default, dict) else default
        settings[name] = Setting(name, section, default, len(settings), kind)
    for name in HOOK_ARITY:
        kind = hook_kind(name)
        settings[name] = Setting(name, "Server Hooks", no_hook, len(settings), kind)
    settings["chdir"].value = os.getcwd()
    settings["user"].value = os.geteuid()
    settings["group"].value = os.getegid()
    return {name: setting for name, setting in settings.items() if name not in ignore}


class Config:
    """Settings as attributes, with those that Gunicorn computes from others.

    `values` are final values by name, as the arbiter found them; `callables` are hooks and whatever else
    has no form outside of Python.
    """

    def __init__(self, values=None, callables=None):
        self.settings = make_settings()
        for given in (values or {}, callables or {}):
            for name, value in given.items():
                if value is None and name not in ("user", "group"):
                    self.settings[name].value = None
                else:
                    self.set(name, value)

    def __getattr__(self, name):
        # Only reached for names that are not properties. `settings` itself is missing while a copy is being made.
        if name == "settings" or name not in self.settings:
            raise AttributeError("No configuration setting for: %s" % name)
        return self.settings[name].value

    def __setattr__(self, name, value):
        if name != "settings" and name in self.settings:
            raise AttributeError("Invalid access!")
        super().__setattr__(name, value)

    def __str__(self):
        width = max(len(name) for name in self.settings)
        lines = []
        for name in sorted(self.settings):
            value = self.settings[name].value
            if callable(value):
                value = "<%s()>" % getattr(value, "__qualname__", type(value).__qualname__)
            lines.append("%-*s = %s" % (width, name, value))
        return "\n".join(lines)

    def set(self, name, value):
        if name not in self.settings:
            raise AttributeError("No configuration setting for: %s" % name)
        self.settings[name].set(value)

    def has_hook(self, name):
        return name in HOOK_ARITY and self.settings[name].value is not no_hook

    @property
    def worker_class_str(self):
        value = self.settings["worker_class"].value
        if not isinstance(value, str):
            return value.__name__
        if self.threads > 1 and is_sync(value):
            return "gthread"
        return value

    @property
    def worker_class(self):
        value = self.settings["worker_class"].value
        if isinstance(value, str) and self.threads > 1 and is_sync(value):
            value = "gthread"
        if isinstance(value, str):
            value = WORKER_CLASSES.get(value, value)
        return load_class(value)

    @property
    def logger_class(self):
        value = self.settings["logger_class"].value
        if value == "simple":
            value = "gunicorn.glogging.Logger"
        # Metrics are the arbiter's; a logger that counts too would count twice.
        return load_class(value)

    @property
    def address(self):
        return [parse_address(bind) for bind in self.settings["bind"].value]

    @property
    def uid(self):
        return self.settings["user"].value

    @property
    def gid(self):
        return self.settings["group"].value

    @property
    def proc_name(self):
        name = self.settings["proc_name"].value
        return self.settings["default_proc_name"].value if name is None else name

    @property
    def is_ssl(self):
        return self.certfile or self.keyfile

    @property
    def ssl_options(self):
        return {name: setting.value for name, setting in self.settings.items() if setting.section == "SSL"}

    @property
    def env(self):
        pairs = {}
        for entry in self.settings["raw_env"].value or ():
            name, equals, value = entry.partition("=")
            if not equals:
                raise RuntimeError("environment setting %r invalid" % entry)
            pairs[name] = value
        return pairs

    @property
    def sendfile(self):
        value = self.settings["sendfile"].value
        if value is not None:
            return value
        word = os.environ.get("SENDFILE")
        return True if word is None else word.lower() in ("y", "1", "yes", "true")

    @property
    def paste_global_conf(self):
        pairs = {}
        for entry in self.settings["raw_paste_global_conf"].value or ():
            # A `=` of the name is written `\=`.
            name, equals, value = entry.replace("\\=", "\0").partition("=")
            if not equals:
                raise RuntimeError("environment setting %r invalid" % entry)
            pairs[name.replace("\0", "=")] = value.replace("\0", "=")
        return pairs

    def forwarded_allow_networks(self):
        return [ipaddress.ip_network(word) for word in self.forwarded_allow_ips if word != "*"]

    def proxy_allow_networks(self):
        return [ipaddress.ip_network(word) for word in self.proxy_allow_ips if word != "*"]


WORKER_CLASSES = {
    "sync": "gunicorn.workers.sync.SyncWorker",
    "gthread": "gunicorn.workers.gthread.ThreadWorker",
    "gevent": "gunicorn.workers.ggevent.GeventWorker",
    "gevent_wsgi": "gunicorn.workers.ggevent.GeventPyWSGIWorker",
    "gevent_pywsgi": "gunicorn.workers.ggevent.GeventPyWSGIWorker",
}


def is_sync(name):
    return name == "sync" or name.endswith("SyncWorker")


def load_class(value):
    """The class that a dotted name, `module:name` or a class is."""
    if inspect.isclass(value):
        return value
    module, separator, name = value.rpartition(":" if ":" in value else ".")
    if not separator:
        raise RuntimeError("class uri %r invalid or not found" % value)
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise RuntimeError("class uri %r invalid or not found: %s" % (value, error)) from error


def parse_address(text, default_port=8000):
    """What `bind` says: a path, the number of a descriptor, or host and port."""
    if text.startswith("unix://"):
        return text[len("unix://") :]
    if text.startswith("unix:"):
        return text[len("unix:") :]
    if text.startswith("fd://"):
        try:
            return int(text[len("fd://") :])
        except ValueError:
            raise RuntimeError("%r is not a valid file descriptor." % text[len("fd://") :]) from None
    if text.startswith("tcp://"):
        text = text[len("tcp://") :]
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest[1:] if rest.startswith(":") else ""
    else:
        host, _, port = text.partition(":")
    if port and not port.isdigit():
        raise RuntimeError("%r is not a valid port number." % port)
    return (host.lower() or "0.0.0.0", int(port) if port else default_port)
