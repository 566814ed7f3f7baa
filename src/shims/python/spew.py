"""Prints every line of Python that runs, before it does: the setting `spew`. Never here: anything else."""

import linecache
import sys
import threading


def show(frame, event, argument):
    if event == "line":
        number, path = frame.f_lineno, frame.f_globals.get("__file__") or frame.f_code.co_filename
        line = linecache.getline(path, number, frame.f_globals).rstrip()
        print("%s:%d: %s" % (frame.f_globals.get("__name__", "[unknown]"), number, line))
    return show


def start():
    """In this thread and in those it starts from now on."""
    threading.settrace(show)
    sys.settrace(show)
