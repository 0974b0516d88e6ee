"""What is wanted of the loop at its next batch boundary.

Covers: commands in (from the link thread and from signal handlers), one
decision out, at the boundary.
Does not cover: carrying the decision out (at_boundary.py).

A boundary compares two numbers, `Pace`; whoever asks for something sets one of them to zero.

`merge` is pure: what is wanted after one more command. `Gate` is the crossing
between threads: whoever commands puts and then raises the flag; the loop
lowers the flag and then takes. SimpleQueue.put is reentrant, so a signal
handler may call it at any moment.
"""

from __future__ import annotations

from _queue import Empty, SimpleQueue  # The module `queue` brings three others.

import msgspec
from msgspec.structs import replace

from trainer_shim.protocol import Checkpoint, Pause, Resume, Stop

__all__ = ["Command", "Gate", "HoldBySignal", "LeaveBySignal", "Pace", "Want", "merge"]


class LeaveBySignal(msgspec.Struct, frozen=True):
    """A signal asks for a checkpoint and the end of the process."""

    number: int


class HoldBySignal(msgspec.Struct, frozen=True):
    """A terminal asks to be given back: a checkpoint, and the process stops until it is continued."""


Command = Pause | Resume | Stop | Checkpoint | LeaveBySignal | HoldBySignal


class Want(msgspec.Struct, frozen=True):
    """What the loop is to do at a boundary; nothing of it set: go on."""

    pause: Pause | None = None
    leave: Stop | LeaveBySignal | None = None
    #: Requests for a checkpoint that are not answered yet.
    saves: tuple[str, ...] = ()
    #: A resume that is to be answered.
    resumed: str = ""
    #: Whether a terminal asked for a stop.
    is_stopped: bool = False

    def __bool__(self) -> bool:
        return bool(self.pause or self.leave or self.saves or self.resumed or self.is_stopped)


def merge(want: Want, command: Command) -> Want:
    """Return what is wanted after one more command; the later pause or resume counts."""
    match command:
        case Pause():
            return replace(want, pause=command, resumed="")
        case Resume(request=request):
            return replace(want, pause=None, resumed=request)
        case HoldBySignal():
            return replace(want, is_stopped=True)
        case Stop() | LeaveBySignal():
            # A request of the daemon is answered, so it goes before a bare signal.
            keep = isinstance(want.leave, Stop) and isinstance(command, LeaveBySignal)
            return want if keep else replace(want, leave=command)
        case Checkpoint(request=request):  # pragma: no branch  # there is no other command
            return want if request in want.saves else replace(want, saves=(*want.saves, request))


class Pace:
    """What a boundary looks at: the steps that were made, and from which one on there is something to do.

    It is a part of the session, in slots: a look into a second object would cost a boundary a tenth of its
    time, and one in the dictionary of an object with many attributes half of it. Floats, because Python
    keeps their memory at hand and that of integers not (measured, a tenth as well); every step below 2**53
    is exact.
    """

    __slots__ = ("_due", "_step")

    def __init__(self) -> None:
        self._step = self._due = 0.0


class Gate:
    """Written by any thread, read by the one that trains."""

    __slots__ = ("_inbox", "_pace", "asked")

    def __init__(self, pace: Pace | None = None) -> None:
        #: Whether the next boundary is to look, whatever its step.
        self.asked = False
        self._pace = Pace() if pace is None else pace
        self._inbox: SimpleQueue[Command] = SimpleQueue()

    def ask(self) -> None:
        """Let the next boundary look."""
        # In this order: whoever sets the step meanwhile, `due_at`, looks at the flag after that.
        self.asked = True
        self._pace._due = 0.0  # noqa: SLF001  # The session is no place for names of others to call.

    def due_at(self, step: float) -> None:
        """Let the boundary of that step look, or the next where that is asked for. Not for other threads."""
        self._pace._due = step  # noqa: SLF001
        if self.asked:
            self._pace._due = 0.0  # noqa: SLF001

    def put(self, command: Command) -> None:
        """Ask for something at the next boundary; wakes a loop that holds."""
        self._inbox.put(command)
        self.ask()

    def take(self, want: Want) -> Want:
        """Return what is wanted by now, without waiting."""
        self.asked = False
        while True:
            try:
                want = merge(want, self._inbox.get_nowait())
            except Empty:
                return want

    def wait(self, want: Want, *, at_most_s: float | None = None) -> Want:
        """Return what is wanted after the next command, however long that takes, or after that time."""
        try:
            return self.take(merge(want, self._inbox.get(timeout=at_most_s)))
        except Empty:
            return want
