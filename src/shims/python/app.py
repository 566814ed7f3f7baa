"""From the text that names the app to the callable: parsing, import path, loading.

Never here: what happens to a worker whose app does not load (worker.py).
"""

import ast
import importlib
import inspect
import logging
import os
import sys
import traceback


class AppImportError(Exception):
    """The text names nothing that could be an app. The message alone says enough."""


def set_import_path(config):
    """Goes to the app's directory, and imports from `pythonpath`, there, and where the arbiter was started first."""
    os.chdir(config["chdir"])
    for path in [config["start"], config["chdir"], *config["pythonpath"]]:
        if path not in sys.path:
            sys.path.insert(0, path)


def parse(spec):
    """Splits `module`, `module:name` or `module:factory(1, n="x")` into module, name and arguments, or None for these."""
    module, colon, expression = spec.partition(":")
    if not colon:
        return module, "application", None
    try:
        node = ast.parse(expression, mode="eval").body
    except (SyntaxError, ValueError):
        raise unreadable(expression) from None
    if isinstance(node, ast.Name):
        return module, node.id, None
    if not isinstance(node, ast.Call):
        raise unreadable(expression)
    if not isinstance(node.func, ast.Name):
        raise AppImportError("Function reference must be a simple name: %r" % expression)
    try:
        args = [ast.literal_eval(arg) for arg in node.args]
        kwargs = {keyword.arg: ast.literal_eval(keyword.value) for keyword in node.keywords}
        if None in kwargs:
            raise ValueError("a dictionary of keywords")
    except ValueError:
        raise AppImportError("Failed to parse arguments as literal values: %r" % expression) from None
    return module, node.func.id, (args, kwargs)


def unreadable(expression):
    return AppImportError("Failed to parse %r as an attribute name or function call." % expression)


def load(spec):
    """The app that `spec` names. Gunicorn's order: the module is imported before the rest of the text is looked at."""
    module = spec.partition(":")[0]
    if not module:
        raise ValueError("Empty module name: the app is named %r" % spec)
    try:
        found = importlib.import_module(module)
    except ImportError:
        if module.endswith(".py") and os.path.exists(module):
            hint = "Failed to find application, did you mean '%s:%s'?"
            raise ImportError(hint % (module[:-3], spec.partition(":")[2] or "application")) from None
        raise
    module, name, call = parse(spec)
    try:
        app = getattr(found, name)
    except AttributeError:
        if logging.root.level == logging.DEBUG:
            traceback.print_exc()
        raise AppImportError("Failed to find attribute %r in %r." % (name, module)) from None
    if call is not None:
        app = make(app, *call)
    if app is None:
        raise AppImportError("Failed to find application object: %r" % (spec.partition(":")[2] or "application"))
    if not callable(app):
        raise AppImportError("Application object must be callable.")
    return app


def make(factory, args, kwargs):
    """Calls the factory. Arguments that do not fit it are the text's fault, and need no traceback."""
    try:
        inspect.signature(factory).bind(*args, **kwargs)
    except TypeError:
        try:
            return factory(*args, **kwargs)  # For Python's own words.
        except TypeError as error:
            raise AppImportError("".join(traceback.format_exception_only(TypeError, error)).strip()) from None
    except ValueError:
        pass  # Made in C, without a signature.
    return factory(*args, **kwargs)


class App:
    """`worker.app` and `server.app`."""

    def __init__(self, cfg, app_uri):
        self.cfg = cfg
        self.app_uri = app_uri
        self.callable = None

    def load(self):
        """Imports the app; each call makes a factory's product anew."""
        return load(self.app_uri)

    def wsgi(self):
        """The callable, loaded at the first call."""
        if self.callable is None:
            self.callable = self.load()
        return self.callable
