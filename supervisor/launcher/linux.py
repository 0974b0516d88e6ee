"""What Linux lets this process do for its children and its descriptors.

Covers: becoming the foster parent of orphans, a timer with a descriptor, the limit of open files.
Does not cover: processes (identity.py, stop.py).
"""

from __future__ import annotations

import ctypes
import os
import resource

__all__ = ["adopt_orphans", "allow_many_files", "open_timer", "set_timer"]

_PR_SET_CHILD_SUBREAPER = 36
_CLOCK_MONOTONIC = 1

#: Each job takes up to three descriptors, and each client one.
_MAX_FILES = 65536
_LIBC = ctypes.CDLL(None, use_errno=True)


class _TimerSpec(ctypes.Structure):
    """`struct itimerspec`: two times of seconds and nanoseconds."""

    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("first_s", ctypes.c_long),
        ("first_ns", ctypes.c_long),
    )


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def adopt_orphans() -> None:
    """From now on, descendants that lose their parent become children of this process."""
    _checked(_LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))


def allow_many_files() -> int:
    """Allow this process all the descriptors it may have; returns the limit until now, for its children.

    The usual limit of 1024 is there for programs that use `select`. It is reached with some 300 jobs, and
    then nothing can be started and nobody new be answered.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, _MAX_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return soft


def open_timer() -> int:
    """Return a descriptor that is readable after its time has come."""
    return int(_checked(_LIBC.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)))


def set_timer(fd: int, every_ms: int) -> None:
    """Ring every so often from now on; 0 switches the timer off."""
    second, nanosecond = divmod(every_ms * 1_000_000, 1_000_000_000)
    spec = _TimerSpec(second, nanosecond, second, nanosecond)
    _checked(_LIBC.timerfd_settime(fd, 0, ctypes.byref(spec), None))
