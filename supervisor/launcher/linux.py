"""Two Linux calls that Python 3.11 does not offer.

Covers: becoming the foster parent of orphans, a timer with a descriptor.
Does not cover: anything that the standard library has.
"""

from __future__ import annotations

import ctypes
import os

__all__ = ["adopt_orphans", "open_timer", "set_timer"]

_PR_SET_CHILD_SUBREAPER = 36
_CLOCK_MONOTONIC = 1
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


def open_timer() -> int:
    """Return a descriptor that is readable after its time has come."""
    return int(_checked(_LIBC.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)))


def set_timer(fd: int, every_ms: int) -> None:
    """Ring every so often from now on; 0 switches the timer off."""
    second, nanosecond = divmod(every_ms * 1_000_000, 1_000_000_000)
    spec = _TimerSpec(second, nanosecond, second, nanosecond)
    _checked(_LIBC.timerfd_settime(fd, 0, ctypes.byref(spec), None))
