# Started as `python -c`: reads the shim's modules and its configuration from a sealed memory file, makes the modules
# importable, and runs one of them. Never here: anything about requests, or about the app.
import json
import os
import sys
from importlib import import_module
from importlib.machinery import ModuleSpec


class Importer:
    """Finds and loads modules that exist only as text: `rgunicorn`, and stand-ins for what `gunicorn` offers."""

    def __init__(self, modules):
        self.modules = modules

    def is_package(self, name):
        return any(other.startswith(name + ".") for other in self.modules)

    def find_spec(self, name, path=None, target=None):
        if name not in self.modules:
            return None
        spec = ModuleSpec(name, self, origin=self.get_filename(name), is_package=self.is_package(name))
        spec.has_location = True
        return spec

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        name = module.__name__
        if name == "gunicorn":
            # What we do not stand in for is looked for in a Gunicorn that is installed, behind our modules.
            module.__path__ += [os.path.join(entry or ".", "gunicorn") for entry in sys.path]
        exec(compile(self.modules[name], self.get_filename(name), "exec", dont_inherit=True), module.__dict__)

    def get_source(self, name):
        return self.modules[name]

    def get_filename(self, name):
        return name.replace(".", "/") + ("/__init__.py" if self.is_package(name) else ".py")


def read():
    fd = int(os.environ["RGUNICORN_SHIM_FD"])
    text = os.pread(fd, os.fstat(fd).st_size, 0)
    os.close(fd)
    return json.loads(text)


def boot():
    job = read()
    job["modules"].setdefault("rgunicorn", "")
    sys.meta_path.insert(0, Importer(job["modules"]))
    if sys.path and sys.path[0] == "":
        del sys.path[0]  # -c put it there; the worker decides where modules come from.
    given = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("RGUNICORN_")}
    config = dict(job["config"], given=given)
    import_module("rgunicorn." + job["run"]).main(config)


boot()
