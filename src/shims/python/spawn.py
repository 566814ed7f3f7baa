"""From the host to a worker: a fork whose child belongs to the arbiter.

Never: hooks, or what the child runs.
"""

import errno
import os
import signal
import sys
from os import _exit, close, fork, pipe, read, waitpid, write

# Taken above, before any configuration runs: libraries replace these in `os` by functions of their own.

PARENT_DEATH_SIGNAL = 1  # prctl(2)

# Signals that people and terminals send to a process group. The arbiter acts on them for all of us.
SHARED = tuple(
    getattr(signal, "SIG" + name)
    for name in "INT QUIT HUP TERM USR1 USR2 TTIN TTOU WINCH".split()
)


def heed_nothing(number, frame):
    """A handler rather than SIG_IGN, which programs started by a configuration file would inherit."""


def ignore_shared_signals():
    for number in SHARED:
        signal.signal(number, heed_nothing)


def spawn(run, announce):
    """Forks a process that becomes a child of the nearest subreaper, and calls `run()` in it, which must not return.

    `announce(pid)` is called here before `run` begins. Raises OSError if there can be no process.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    news, news_end = pipe()
    gate, gate_end = pipe()
    # A signal for the child must not meet our handlers there.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, SHARED)
    middle = -1
    try:
        try:
            middle = fork()
            if middle == 0:
                be_middle(run, mask, (news, news_end), (gate, gate_end))
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        close(news_end)
        news_end = -1
        text = read(news, 32)
        # Only once it has been waited for is it certain that its child has its new parent.
        try:
            waitpid(middle, 0)
        except ChildProcessError:
            pass  # somebody in this process waits for all children; it is gone all the same
        if not text or text.startswith(b"-"):
            number = int(text[1:] or errno.ECHILD)
            raise OSError(number, os.strerror(number))
        pid = int(text)
        announce(pid)
        try:
            write(gate_end, b"!")
        except BrokenPipeError:
            pass  # it has been killed already, which the arbiter sees
        return pid
    finally:
        for descriptor in (news, news_end, gate, gate_end):
            if descriptor >= 0:
                close(descriptor)


def be_middle(run, mask, news, gate):
    """The process in between: forks the real one, tells its pid and is gone."""
    try:
        pid = fork()
        if pid == 0:
            be_child(run, mask, news, gate)
        write(news[1], b"%d" % pid)
    except OSError as error:
        write(news[1], b"-%d" % error.errno)
    finally:
        _exit(0)


def be_child(run, mask, news, gate):
    try:
        os.setpgid(0, 0)
        for number in SHARED:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for descriptor in (*news, gate[1]):
            close(descriptor)
        # Nothing to read: the host is gone, and with it whoever wants us.
        if read(gate[0], 1):
            close(gate[0])
            run()
    finally:
        _exit(255)


def place(descriptors, places):
    """Puts each descriptor at its number. The sources must be none of the places."""
    for descriptor, number in zip(descriptors, places):
        os.dup2(descriptor, number, inheritable=number < 3)
        close(descriptor)


def reserve(places):
    """Keeps numbers free of files that the configuration or the app opens, since workers need them."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number in places:
        if number == nothing:
            # The lowest free number is what open() gives; it may be one of them.
            nothing = os.dup(nothing)
            continue
        try:
            os.fstat(number)
        except OSError:
            os.dup2(nothing, number, inheritable=False)
    close(nothing)


def drop_privileges(user, group, initgroups):
    """Becomes the user and group for good; None stands for no change."""
    uid = os.geteuid() if user is None else user
    gid = group
    name = None
    if user is not None:
        import pwd

        try:
            entry = pwd.getpwuid(uid)
        except KeyError:
            pass  # a bare number is allowed; it has no groups of its own
        else:
            name = entry.pw_name
            if gid is None and uid != os.geteuid():
                gid = entry.pw_gid
    if gid is None:
        gid = os.getegid()
    if (uid, gid) == (os.geteuid(), os.getegid()):
        return
    # The groups of whoever started the arbiter are never kept.
    os.setgroups(os.getgrouplist(name, gid) if initgroups and name else [gid])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def die_with_parent():
    """Asks the kernel for KILL when the arbiter dies. Without ctypes the closed channel says so, a little later."""
    try:
        import ctypes

        ctypes.CDLL(None).prctl(PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    except (ImportError, OSError, AttributeError):
        pass
