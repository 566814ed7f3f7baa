"""What stands in for Gunicorn when code asks for it by name: configuration files, logger classes, apps.

Only what such code uses is here. Where a real Gunicorn is installed, its other modules are found behind these.
"""

import os

# Code compares versions; this is the one whose behaviour is followed.
version_info = (26, 1, 0)
__version__ = "26.1.0"
SERVER = "gunicorn"
SERVER_SOFTWARE = "%s/%s" % (SERVER, __version__)


def _look_behind(path, package):
    """Lets a package of ours find the modules it lacks in a Gunicorn that is installed."""
    path += [os.path.join(entry, package) for entry in __path__ if os.path.isdir(os.path.join(entry, package))]
