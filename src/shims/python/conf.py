"""A configuration file written in Python, evaluated once: what it sets, as plain data and as callables.

Never: judging a value that has a form in JSON; that is the arbiter's, which knows all the sources.
"""

import ast
import importlib
import importlib.machinery
import importlib.util
import inspect
import json
import os
import sys
import traceback

from . import settings

LISTS = frozenset(name for name, _, _, kind in settings.TABLE if kind is settings.to_texts)
PATHS = frozenset(
    "accesslog ca_certs certfile chdir control_socket errorlog keyfile logconfig logconfig_json pidfile"
    " tmp_upload_dir worker_tmp_dir".split()
)
PLAIN = (str, int, float, bool, list, tuple, dict, set, frozenset)
SERVER = "gunicorn"  # The field Server, unless the file puts another word into the module of this name.
LARGEST = 180 * 1024  # what a message to the arbiter may have


class Failed(Exception):
    """The file cannot be used. `exit` is the code the program ends with; the text is the cause in one line."""

    def __init__(self, cause, exit=1):
        super().__init__(cause)
        self.exit = exit


class Evaluated:
    """What the file said: `report` is for the arbiter, `callables` stay here."""

    def __init__(self, report, callables):
        self.report = report
        self.callables = callables


class FreshLoader(importlib.machinery.SourceFileLoader):
    """Compiles the file each time: compiled code on disk is told from a newer file only by size and second."""

    def get_code(self, fullname):
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


def prepare(start):
    """The directory and the import path that the file, and later the app, begins with."""
    os.chdir(start)
    # An empty entry means "wherever the process is", which changes.
    sys.path[:] = [entry for entry in sys.path if entry]
    if start not in sys.path:
        sys.path.insert(0, start)


def evaluate(conf, start):
    """Evaluates `file:PATH`, `python:MODULE` or a path; None stands for no file at all. Raises Failed."""
    prepare(start)
    if conf is None:
        return Evaluated(report_of(None, [], [], [], []), {})
    environ = dict(os.environ)
    path = list(sys.path)
    if conf.startswith("python:"):
        shown = conf
        module = import_module(conf[len("python:") :])
    else:
        filename = conf[len("file:") :] if conf.startswith("file:") else conf
        shown = os.path.relpath(filename, start) if filename.startswith(start + os.sep) else filename
        module = run_file(filename, shown)
    evaluated = sort_names(module, shown)
    server = getattr(sys.modules.get("gunicorn"), "SERVER", SERVER)
    if server != SERVER:
        evaluated.report["values"].append(["server_header", str(server), None])
    evaluated.report["environ"] = changes(environ, dict(os.environ), shown)
    evaluated.report["sys_path"] = [
        entry for entry in sys.path if isinstance(entry, str) and entry and entry not in path
    ]
    size = len(json.dumps(evaluated.report))
    if size > LARGEST:
        raise Failed("%s: the settings take %d bytes, more than the limit of %d" % (shown, size, LARGEST))
    return evaluated


def report_of(shown, values, callables, opaque, others):
    return {
        "type": "evaluated",
        "file": shown,
        "values": values,
        "callables": callables,
        "opaque": opaque,
        "others": others,
        "environ": {},
        "sys_path": [],
    }


def run_file(filename, shown):
    if not os.path.exists(filename):
        raise Failed("%r doesn't exist" % shown)
    extension = os.path.splitext(filename)[1]
    if extension == ".pyc":
        loader = importlib.machinery.SourcelessFileLoader("__config__", filename)
    else:
        loader = FreshLoader("__config__", filename)
        if extension != ".py":
            print(
                "\nWARNING: configuration file should have a valid Python extension.\n", file=sys.stderr, flush=True
            )
    spec = importlib.util.spec_from_file_location("__config__", filename, loader=loader)
    module = importlib.util.module_from_spec(spec)
    sys.modules["__config__"] = module
    try:
        loader.exec_module(module)
    except SystemExit as stop:
        raise stopped(stop, shown) from stop
    except Exception as error:
        print("Failed to read config file: %s" % shown, file=sys.stderr)
        raise broken(error, shown) from error
    return module


def import_module(name):
    try:
        return importlib.import_module(name)
    except SystemExit as stop:
        raise stopped(stop, "python:" + name) from stop
    except Exception as error:
        raise broken(error, "python:" + name) from error


def stopped(stop, shown):
    """The file called sys.exit(): its code is the program's, except that success is none."""
    code = stop.code if isinstance(stop.code, int) else 1
    text = "" if stop.code is None or isinstance(stop.code, int) else ": %s" % stop.code
    return Failed("%s ended the program by SystemExit%s" % (shown, text), code & 0xFF or 1)


def broken(error, shown):
    """Prints the traceback and sums it up."""
    print_traceback(error)
    return Failed("%s: %s" % (shown, one_line(error)))


def trimmed(error):
    """The error with a traceback that begins where code of ours ends."""
    entry = error.__traceback__
    while entry is not None and is_ours(entry.tb_frame):
        entry = entry.tb_next
    return error.with_traceback(entry)


def print_traceback(error):
    error = trimmed(error)
    traceback.print_exception(type(error), error, error.__traceback__)
    sys.stderr.flush()


def is_ours(frame):
    return frame.f_globals.get("__name__", "").partition(".")[0] in (__name__.partition(".")[0], "importlib")


def one_line(error):
    """`NameError: name 'x' is not defined`, whatever the message holds."""
    text = " ".join(str(error).split())
    name = type(error).__name__
    return "%s: %s" % (name, text) if text else name


def sort_names(module, shown):
    """Each public name goes where it belongs; the order is that of their definition."""
    lines = assignment_lines(module)
    report = report_of(shown, [], [], [], [])
    callables = {}
    for name, value in list(vars(module).items()):
        if name not in KNOWN:
            if not name.startswith("_") and isinstance(value, PLAIN):
                report["others"].append(name)
            continue
        line = lines.get(name)
        where = shown if line is None else "%s:%d" % (shown, line)
        try:
            if name in settings.HOOK_ARITY:
                # Judged here, since only Python can count its parameters.
                settings.hook_kind(name)(value)
                callables[name] = value
                report["callables"].append(name)
                continue
            if name in ("worker_class", "logger_class"):
                value = settings.to_class(value)
            if name == "logconfig_dict" and value:
                callables[name] = settings.to_dict(value)
                report["opaque"].append(name)
                continue
            if name == "logger_class" and inspect.isclass(value):
                callables[name] = value
                report["opaque"].append(name)
                continue
            if name == "worker_class":
                value, own = worker_class(value)
                if own is not None:
                    callables[name] = own
                    report["opaque"].append(name)
            report["values"].append([name, plain(name, value), line])
        except Exception as error:
            print("Invalid value for %s: %s\n" % (name, value), file=sys.stderr, flush=True)
            raise Failed("%s: %s: %s" % (where, name, " ".join(str(error).split()))) from error
    return Evaluated(report, callables)


def worker_class(value):
    """The name of a class of workers, and the class itself if it derives from one of ours."""
    if isinstance(value, str) and "." in value and value not in settings.WORKER_CLASSES.values():
        try:
            value = settings.load_class(value)
        except RuntimeError:
            return value, None  # the arbiter knows names that nothing here stands for
    if not inspect.isclass(value):
        return value, None
    for base in value.__mro__:
        name = "%s.%s" % (base.__module__, base.__qualname__)
        if name in settings.WORKER_CLASSES.values():
            refuse_own_loops(value, base)
            return name, value if value is not base else None
    return "%s.%s" % (value.__module__, value.__qualname__), None


def derives_from(own, name):
    name = settings.WORKER_CLASSES.get(name, name)
    return any("%s.%s" % (base.__module__, base.__qualname__) == name for base in own.__mro__)


def refuse_own_loops(value, base):
    """A subclass may add to what a worker does around requests, but not take their place."""
    for between in value.__mro__[: value.__mro__.index(base)]:
        for name in OWN_LOOPS:
            if name in vars(between):
                raise TypeError("%s.%s would replace what serves requests here" % (between.__qualname__, name))


# Methods of Gunicorn's workers that wait for connections, or read requests and write responses.
OWN_LOOPS = (
    "run accept listen handle handle_request handle_error wait run_for_one run_for_multiple enqueue_req finish_request"
    " finish_body murder_keepalived get_thread_pool patch timeout_ctx is_parent_alive".split()
)

KNOWN = frozenset(settings.make_settings())


def plain(name, value):
    """The value as JSON has it, or TypeError."""
    if name == "ssl_version" and (value is True or not isinstance(value, (int, str, type(None)))):
        return str(value)  # Gunicorn takes anything there, and uses it for nothing.
    if isinstance(value, os.PathLike) and name in PATHS:
        value = os.fspath(value)
    if name in LISTS and not isinstance(value, (str, bytes, dict)) and hasattr(value, "__iter__"):
        value = list(value)
    return as_json(value)


def as_json(value):
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            raise ValueError("not a number to count with: %s" % value)
        return float(value)
    if isinstance(value, str):
        value = str.__str__(value)
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise ValueError("not text that has a form in UTF-8: %r" % value) from None
        return value
    if isinstance(value, (list, tuple)):
        return [as_json(item) for item in value]
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise TypeError("a dictionary whose keys are not all text")
        return {as_json(key): as_json(item) for key, item in value.items()}
    kind = type(value)
    raise TypeError("a value of type %s.%s is of no use here: %r" % (kind.__module__, kind.__qualname__, value))


def assignment_lines(module):
    """The line that gave each name its value, where the text alone tells it."""
    filename = getattr(module, "__file__", None)
    if not filename:
        return {}
    try:
        with open(filename, "rb") as file:
            tree = ast.parse(file.read())
    except (OSError, SyntaxError, ValueError):
        # It ran, so only its text is out of reach. Messages then name the file alone.
        return {}
    found = {}  # name -> [(line, whether it always runs)]
    collect(tree.body, True, found)
    lines = {}
    for name, places in found.items():
        line, certain = places[-1]
        if certain or len(places) == 1:
            lines[name] = line
    return lines


def collect(statements, certain, found):
    for statement in statements:
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.setdefault(statement.name, []).append((statement.lineno, certain))
            continue
        targets = ()
        if isinstance(statement, ast.Assign):
            targets = statement.targets
        elif isinstance(statement, (ast.AnnAssign, ast.AugAssign)):
            targets = (statement.target,)
        for target in targets:
            for node in ast.walk(target):
                if isinstance(node, ast.Name):
                    found.setdefault(node.id, []).append((node.lineno, certain))
        for block in ("body", "orelse", "finalbody"):
            collect(getattr(statement, block, ()), False, found)
        for part in (*getattr(statement, "handlers", ()), *getattr(statement, "cases", ())):
            collect(part.body, False, found)


def changes(before, after, shown):
    """What the file did to the environment; the workers of the arbiter are to see it as well."""
    changed = {name: None for name in before if name not in after}
    changed.update((name, value) for name, value in after.items() if before.get(name) != value)
    for name, value in changed.items():
        try:
            as_json([name, value])
        except ValueError as error:
            raise Failed("%s: environment variable %s: %s" % (shown, ascii(name), error)) from error
    return changed
