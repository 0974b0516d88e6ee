"""Signals to the daemon: which end it, which has it read its files, which mean nothing; and waking its poll.

Covers: SIGTERM, Ctrl-C, SIGHUP, and what a terminal sends whose window is closed.
Does not cover: what follows (daemon.py), signals to jobs (launcher/).
"""

from __future__ import annotations

import contextlib
import os
import signal
from types import FrameType

__all__ = ["Signals", "survive_a_closed_terminal"]


#: Each would end a program that says nothing of it; the others tell of a fault, or do nothing by themselves.
_MEANINGLESS = (
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGALRM,
    signal.SIGVTALRM,
    signal.SIGPROF,
    signal.SIGIO,
    signal.SIGPWR,
    signal.SIGXCPU,
    *range(signal.SIGRTMIN, signal.SIGRTMAX + 1),
)


def survive_a_closed_terminal() -> None:
    """Call it first of all: a program of which a shell says `&` gets SIGHUP when the terminal is closed."""
    # Until there are files to read again it means nothing, and without this it would end us.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    # Where `stty tostop` is set, a line to its terminal would stop a background process, the whole of it.
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)


class Signals:
    """What was asked by signal. Made, used and closed in the main thread."""

    def __init__(self) -> None:
        self.is_end_asked = False
        self.is_reload_asked = False
        self._pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def heed(self) -> None:
        """Mind them from now on; what came before had its usual effect."""
        # Python runs handlers between two bytecodes only: a signal that arrives just before the poll would
        # wait for its end. The descriptor is written at once, so it wakes the poll.
        signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, self._ask_end)
        signal.signal(signal.SIGHUP, self._ask_reload)
        for number in _MEANINGLESS:
            # Not SIG_IGN, which commands would inherit.
            signal.signal(number, _mean_nothing)

    def fileno(self) -> int:
        """Return a descriptor that is readable when a signal has come."""
        return self._pipe[0]

    def drain(self) -> None:
        """Make it unreadable until the next one."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._pipe[0], 4096)

    def close(self) -> None:
        """Wake nobody any more; the handlers stay, so that a second Ctrl-C does not cut a clean end short."""
        signal.set_wakeup_fd(-1)
        for fd in self._pipe:
            os.close(fd)

    def _ask_end(self, _number: int, _frame: FrameType | None) -> None:
        self.is_end_asked = True

    def _ask_reload(self, _number: int, _frame: FrameType | None) -> None:
        self.is_reload_asked = True


def _mean_nothing(_number: int, _frame: FrameType | None) -> None:
    pass
