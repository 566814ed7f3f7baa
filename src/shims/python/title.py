"""The title of the process, as `ps` shows it. Never here: what the title says."""

import sys

SET_NAME = 15  # prctl(2)


def set_title(text):
    """Sets it by the package setproctitle if it is there, else in the memory where the kernel looks for the arguments."""
    try:
        from setproctitle import setproctitle
    except ImportError:
        overwrite(text)
    else:
        setproctitle(text)
        if not is_shown(text):
            # It looks for the arguments in front of the environment, and does not find them once that was changed.
            overwrite(text)


def is_shown(text):
    """False if the title is known to be another one."""
    try:
        with open("/proc/self/cmdline", "rb") as file:
            return file.read().startswith(text.encode("utf-8", "surrogateescape"))
    except OSError:
        return True


def overwrite(text):
    """Writes over the arguments the process was started with. They are no longer needed: Python has copied them."""
    try:
        import ctypes

        with open("/proc/self/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        start, end = int(fields[45]), int(fields[46])
    except (ImportError, OSError, ValueError, IndexError):
        return  # No such thing on this system: the title stays.
    room = end - start
    if sys.platform != "linux" or room < 3:
        return
    data = text.encode("utf-8", "surrogateescape")[: room - 2]
    # Where the last byte is not NUL, the kernel takes the text up to the first NUL for the whole of the title.
    ctypes.memmove(start, data + bytes(room - len(data) - 1) + b"\n", room)
    # By a call: a process that has become another user may not write its own files in /proc.
    ctypes.CDLL(None).prctl(SET_NAME, data[:15], 0, 0, 0)
