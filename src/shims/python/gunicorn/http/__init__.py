"""Gunicorn's HTTP classes, as names. Requests are parsed in front of the workers."""

from gunicorn import _look_behind

_look_behind(__path__, "http")
