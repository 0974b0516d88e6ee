"""Signals that ask a training process to yield. Handlers set a flag; nothing is saved inside one.

SIGTERM, and the first Ctrl-C: checkpoint at the next boundary, then end. A
second one acts at once, as it would have without us. SIGUSR1: checkpoint and
go on (Slurm sends it as an early notice where it is told to).

A handler is inherited by fork. In a child it would swallow the SIGTERM with
which torch and multiprocessing end their workers, so a child gets back what
was there before; a signal that comes before that waits for it.

Data-loader workers are the exception. systemd, Slurm and a terminal signal
every process of a run at once; workers that die of it make torch raise in the
middle of a step, and the checkpoint is lost. So they outlive such a signal
until the training process itself ends (`shield_worker`).
"""

from __future__ import annotations

import mmap
import os
import signal
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from types import FrameType
from typing import Any

__all__ = ["SignalWatch", "shield_worker"]

#: One byte that forked workers share: 1 once the training process has no more use for them.
_ending: mmap.mmap | None = None

_FIRST_INTERRUPT = (
    b"\ntrainer_shim: checkpoint at the next batch boundary, then end; Ctrl-C again interrupts at once\n"
)
_LEAVE = (signal.SIGTERM, signal.SIGINT)


class SignalWatch:
    """Installed from the main thread, or not at all: Python allows no other."""

    def __init__(self, on_leave: Callable[[int], None], on_save: Callable[[], None]) -> None:
        self._on_leave = on_leave
        self._on_save = on_save
        self._previous: dict[int, Any] = {}
        self._seen: set[int] = set()
        self._pid = os.getpid()
        self._is_over = False
        self._ending: mmap.mmap | None = None

    def install(self) -> None:
        """Take the signals whose handling is still the default; a script's own handlers stay."""
        if threading.current_thread() is not threading.main_thread():
            return
        global _ending  # noqa: PLW0603  # what workers that are forked from now on share with us
        # A new one for each session: workers that an older one left behind end when they are asked to.
        _ending = self._ending = mmap.mmap(-1, 1)
        for number in (*_LEAVE, signal.SIGUSR1):
            before = signal.getsignal(number)
            if before in (signal.SIG_DFL, signal.default_int_handler):
                self._previous[number] = before
                signal.signal(number, self._handle)
        _INSTALLED.add(self)
        _watch_forks()

    def remove(self) -> None:
        """Put back what was there before; from now on workers end as torch and multiprocessing ask them."""
        if self._ending is not None and os.getpid() == self._pid:
            self._ending[0] = 1
        self._is_over = True
        if threading.current_thread() is not threading.main_thread():
            return  # Where training runs in another thread: then the handler itself puts it back.
        for number, before in self._previous.items():
            if signal.getsignal(number) == self._handle:
                signal.signal(number, before)
        self._previous = {}

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGUSR1 and not self._is_over:
            self._on_save()
            return
        if number in self._seen or self._is_over:
            before = self._previous.get(number, signal.SIG_DFL)
            signal.signal(number, before)
            os.kill(os.getpid(), number)
            return
        self._seen.add(number)
        if number == signal.SIGINT:
            # os.write: print() is not reentrant. Words without a reader must not raise in mid-step.
            with suppress(OSError):
                os.write(2, _FIRST_INTERRUPT)
        self._on_leave(number)


#: Weak, because a hook on fork stays for ever: it must not keep a session, and so a model, alive.
_INSTALLED: weakref.WeakSet[SignalWatch] = weakref.WeakSet()


#: By thread: the signals that were blocked before it forked.
_masks: dict[int, set[int]] = {}


@cache
def _watch_forks() -> None:
    os.register_at_fork(before=_block, after_in_parent=_unblock, after_in_child=_remove_all)


def _block() -> None:
    # A child that is ended at once would run our handler, and live on.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, (*_LEAVE, signal.SIGUSR1))
    _masks[threading.get_ident()] = {int(number) for number in mask}


def _unblock() -> None:
    mask = _masks.pop(threading.get_ident(), None)
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _remove_all() -> None:
    try:
        for watch in list(_INSTALLED):
            watch.remove()
    finally:
        _unblock()


def shield_worker() -> None:
    """Make a data-loader worker outlive a signal to the whole group, as long as its parent trains.

    Called inside the worker. One that was spawned shares no memory with its parent and stays as it is.
    """
    if _ending is None:
        return
    ending, parent = _ending, os.getppid()

    def outlive(number: int, _frame: FrameType | None) -> None:
        if ending[0] or os.getppid() != parent:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    # A function, not SIG_IGN: that would be inherited by programs which the worker starts.
    for number in _LEAVE:
        signal.signal(number, outlive)
