"""Gunicorn's instrumentation."""

from gunicorn import _look_behind

_look_behind(__path__, "instrument")
