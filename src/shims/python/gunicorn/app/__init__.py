"""Gunicorn's application classes, as names."""

from gunicorn import _look_behind

_look_behind(__path__, "app")
