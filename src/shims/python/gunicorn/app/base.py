"""Base classes of programs that embed Gunicorn. They can be defined, configured and asked, but not run."""

import sys

from gunicorn.arbiter import Arbiter
from gunicorn.config import Config


class BaseApplication:
    def __init__(self, usage=None, prog=None):
        self.usage = usage
        self.cfg = None
        self.callable = None
        self.prog = prog
        self.logger = None
        self.do_load_config()

    def do_load_config(self):
        try:
            self.load_default_config()
            self.load_config()
        except Exception as error:
            print("\nError: %s" % error, file=sys.stderr, flush=True)
            sys.exit(1)

    def load_default_config(self):
        self.cfg = Config(self.usage, prog=self.prog)

    def init(self, parser, opts, args):
        raise NotImplementedError

    def load(self):
        raise NotImplementedError

    def load_config(self):
        raise NotImplementedError

    def reload(self):
        self.do_load_config()

    def wsgi(self):
        if self.callable is None:
            self.callable = self.load()
        return self.callable

    def run(self):
        try:
            Arbiter(self)
        except RuntimeError as error:
            print("\nError: %s\n" % error, file=sys.stderr, flush=True)
            sys.exit(1)


class Application(BaseApplication):
    def load_config(self):
        """The command line is the arbiter's."""
