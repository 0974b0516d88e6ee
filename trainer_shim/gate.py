"""What is wanted of the loop at its next batch boundary.

Covers: commands in (from the link thread and from signal handlers), one
decision out, at the boundary.
Does not cover: carrying the decision out (session.py).

`merge` is pure: what is wanted after one more command. `Gate` is the crossing
between threads: whoever commands puts and then raises the flag; the loop
lowers the flag and then takes. SimpleQueue.put is reentrant, so a signal
handler may call it at any moment.
"""

from __future__ import annotations

import queue
from dataclasses import dataclass, replace

from trainer_shim.protocol import Checkpoint, Pause, Resume, Stop

__all__ = ["Command", "Gate", "HoldBySignal", "LeaveBySignal", "Want", "merge"]


@dataclass(frozen=True)
class LeaveBySignal:
    """A signal asks for a checkpoint and the end of the process."""

    number: int


@dataclass(frozen=True)
class HoldBySignal:
    """A terminal asks to be given back: a checkpoint, and the process stops until it is continued."""


Command = Pause | Resume | Stop | Checkpoint | LeaveBySignal | HoldBySignal


@dataclass(frozen=True)
class Want:
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


class Gate:
    """Written by any thread, read by the one that trains."""

    __slots__ = ("_inbox", "asked")

    def __init__(self) -> None:
        #: The one thing that a boundary looks at.
        self.asked = False
        self._inbox: queue.SimpleQueue[Command] = queue.SimpleQueue()

    def put(self, command: Command) -> None:
        """Ask for something at the next boundary; wakes a loop that holds."""
        self._inbox.put(command)
        self.asked = True

    def take(self, want: Want) -> Want:
        """Return what is wanted by now, without waiting."""
        self.asked = False
        while True:
            try:
                want = merge(want, self._inbox.get_nowait())
            except queue.Empty:
                return want

    def wait(self, want: Want, *, at_most_s: float | None = None) -> Want:
        """Return what is wanted after the next command, however long that takes, or after that time."""
        try:
            return self.take(merge(want, self._inbox.get(timeout=at_most_s)))
        except queue.Empty:
            return want
