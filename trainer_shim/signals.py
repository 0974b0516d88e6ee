"""Signals that ask a training process to yield. Handlers set a flag; nothing is saved inside one.

SIGTERM, and the first Ctrl-C: checkpoint at the next boundary, then end. A
second one acts at once, as it would have without us. SIGUSR1: checkpoint and
go on (Slurm sends it as an early notice where it is told to).

Handlers can be set in the main thread only. A training in another one is reached by handlers that
`handle_signals()` sets there; when such a training leaves, SystemExit ends no more than its
thread, so the main thread is woken by a signal of ours and raises it as well.

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
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from types import FrameType
from typing import Any, Final

from trainer_shim.errors import NotSupported

__all__ = ["SignalWatch", "end_process", "handle_signals", "shield_worker", "stop_here"]

#: One byte that forked workers share: 1 once the training process has no more use for them.
_ending: mmap.mmap | None = None

_FIRST_INTERRUPT = (
    b"\ntrainer_shim: checkpoint at the next batch boundary, then end; Ctrl-C again interrupts at once\n"
)
_FIRST_STOP = (
    b"\ntrainer_shim: checkpoint at the next batch boundary, then stop; Ctrl-Z again stops at once\n"
)
_LEAVE: Final = (signal.SIGTERM, signal.SIGINT)
_NAMES: Final = {signal.SIGTERM: "SIGTERM", signal.SIGINT: "Ctrl-C"}
_DEFAULT: Final = (signal.SIG_DFL, signal.default_int_handler)


class SignalWatch:
    """What signals mean to one session; made, installed and removed in the thread that attaches."""

    def __init__(
        self,
        on_leave: Callable[[int], None],
        on_save: Callable[[], None],
        on_hold: Callable[[], None],
        leave: frozenset[int] = frozenset(_LEAVE),
    ) -> None:
        #: Signals that ask to leave; others stay the script's.
        self.leave = leave
        self._on_leave = on_leave
        self._on_save, self._on_hold = on_save, on_hold
        #: Whether Ctrl-Z waits for its boundary.
        self._is_holding = False
        self._seen: set[int] = set()
        self._pid = os.getpid()
        self._thread = threading.current_thread()
        self._ending: mmap.mmap | None = None

    def install(self) -> str:
        """Take the signals whose handling is still the default; a script's own handlers stay.

        Outside the main thread Python allows that to nobody: there they are taken by `handle_signals()`.
        Returns what a person should know about that, once in a process.
        """
        _process.watch = self
        if _is_main():
            _process.take()
        if _process.previous:
            self.share_ending()
        unheard = [
            name
            for number, name in _NAMES.items()
            if number in self.leave and signal.getsignal(number) in _DEFAULT
        ]
        if not unheard or _process.has_told:
            return ""
        _process.has_told = True
        return (
            f"this training runs in a thread: {' and '.join(unheard)} will end the process without a "
            "checkpoint, unless the main thread calls `trainer_shim.handle_signals()`"
        )

    def share_ending(self) -> None:
        """Let workers that are forked from now on know when this session ends."""
        global _ending  # noqa: PLW0603  # what workers that are forked from now on share with us
        if self._ending is None:
            _ending = self._ending = mmap.mmap(-1, 1)

    def remove(self) -> None:
        """Let signals act as before; from now on workers end as torch and multiprocessing ask them."""
        if self._ending is not None and os.getpid() == self._pid:
            self._ending[0] = 1
        if _process.watch is self:
            _process.watch = None
            # Where training runs in another thread the handler itself puts it back.
            if _is_main() and not _process.is_standing:
                _process.put_back()

    def obey(self, number: int) -> bool:
        """Do what a signal asks for; False when it asks a second time, and is to act at once."""
        if number == signal.SIGUSR1:
            self._on_save()
            return True
        if number == signal.SIGTSTP:
            self._hold()
            return True
        if number not in self.leave:
            return False
        if number in self._seen:
            if self._thread is not threading.main_thread():
                # An exception in the main thread would not interrupt this one.
                _process.previous[number] = signal.SIG_DFL
            return False
        self._seen.add(number)
        if number == signal.SIGINT:
            # os.write: print() is not reentrant. Words without a reader must not raise in mid-step.
            with suppress(OSError):
                os.write(2, _FIRST_INTERRUPT)
        self._on_leave(number)
        return True

    def _hold(self) -> None:
        """Stop at the next boundary; asked once more, at once."""
        if self._is_holding:
            stop_here()
            return
        self._is_holding = True
        with suppress(OSError):
            os.write(2, _FIRST_STOP)
        self._on_hold()

    def held(self) -> None:
        """Go on: the next Ctrl-Z is a first one."""
        self._is_holding = False


def stop_here() -> None:
    """Stop this process until it is continued (`fg`, SIGCONT)."""
    os.kill(os.getpid(), signal.SIGSTOP)


class _Process:
    """The handlers of this process: they act on whatever session there is when a signal comes."""

    def __init__(self) -> None:
        self.watch: SignalWatch | None = None
        #: What was there before, of the signals that are ours now.
        self.previous: dict[int, Any] = {}
        #: Whether they stay when a session ends, for the next one.
        self.is_standing = False
        #: What the main thread is to end with, once a session in another thread has left.
        self.exit_code: int | None = None
        self.has_told = False

    def take(self) -> None:
        leave = _LEAVE if self.watch is None else self.watch.leave
        for number in (*leave, signal.SIGUSR1, signal.SIGTSTP):
            before = signal.getsignal(number)
            if before in _DEFAULT:
                self.previous[number] = before
                signal.signal(number, self.handle)
        _watch_forks()

    def put_back(self) -> None:
        for number, before in self.previous.items():
            if signal.getsignal(number) == self.handle:
                signal.signal(number, before)
        self.previous = {}

    def taken(self) -> list[int]:
        return [number for number in self.previous if signal.getsignal(number) == self.handle]

    def handle(self, number: int, frame: FrameType | None) -> None:
        before = self.previous.get(number, signal.SIG_DFL)
        if self.watch is None and not self.is_standing:
            self.put_back()
        code, self.exit_code = self.exit_code, None
        if code is not None:
            # In a main thread that only waits for the others nobody would hear it.
            if threading.main_thread().is_alive():
                raise SystemExit(code)
            return
        if self.watch is not None and self.watch.obey(number):
            return
        before = self.previous.get(number, before)
        if callable(before):
            before(number, frame)
            return
        signal.signal(number, before)
        os.kill(os.getpid(), number)


_process = _Process()


def handle_signals() -> None:
    """Let SIGTERM, Ctrl-C and SIGUSR1 reach a training that runs in a thread; call it in the main thread.

    `attach()` in the main thread does that by itself. Before or after the thread's `attach()`, once for all
    trainings of the process: the signals act on the one that there is when they come, and as before while
    there is none. When it has left, be it by a signal or because the daemon asked, the main thread raises
    SystemExit where it stands, with the exit code that the training would have had there.

    Raises:
        NotSupported: Called outside the main thread.

    """
    if not _is_main():
        raise NotSupported(
            "cannot handle signals outside the main thread: Python allows it nowhere else",
            hint="call `trainer_shim.handle_signals()` in the main thread, before or after it starts others",
        )
    _process.is_standing = True
    _process.take()
    if _process.watch is not None:
        _process.watch.share_ending()


def end_process(code: int, say: Callable[[str], None]) -> SystemExit:
    """Return what ends this thread; if the main one is another, it is made to end the process, now."""
    main = threading.main_thread()
    if not _is_main():
        taken, has_main = _process.taken(), main.is_alive() and main.ident is not None
        if has_main and taken:
            _process.exit_code = code
            # To that thread: it may wait in a system call.
            signal.pthread_kill(main.ident or 0, taken[-1])
        elif has_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            say(
                "the main thread is interrupted as by Ctrl-C; had it called "
                f"`trainer_shim.handle_signals()`, it would end with exit code {code}"
            )
            signal.pthread_kill(main.ident or 0, signal.SIGINT)
        else:
            say(
                f"this thread ends; the process ends when the main thread does, and not with exit code {code}"
            )
    return SystemExit(code)


def _is_main() -> bool:
    return threading.current_thread() is threading.main_thread()


#: By thread: the signals that were blocked before it forked.
_masks: dict[int, set[int]] = {}


@cache
def _watch_forks() -> None:
    os.register_at_fork(before=_block, after_in_parent=_unblock, after_in_child=_remove_all)


def _block() -> None:
    # A child that is ended at once would run our handler, and live on.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, (*_LEAVE, signal.SIGUSR1, signal.SIGTSTP))
    _masks[threading.get_ident()] = {int(number) for number in mask}


def _unblock() -> None:
    mask = _masks.pop(threading.get_ident(), None)
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _remove_all() -> None:
    try:
        _process.watch, _process.is_standing, _process.exit_code = None, False, None
        _process.put_back()
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
    # The batch that the training waits for before it can stop comes from here.
    signal.signal(signal.SIGTSTP, lambda *_: None)
