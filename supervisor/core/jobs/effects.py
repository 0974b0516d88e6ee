"""What the core can ask of the world, as data. Adapters carry it out after the journal has it.

Every effect is safe to carry out twice: after a crash the engine cannot know
whether the last ones were.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from supervisor.core.jobs.job import Job, Pid
from supervisor.core.jobs.states import Depth

__all__ = [
    "AskCheckpoint",
    "AskPause",
    "AskResume",
    "AskStop",
    "Effect",
    "EndGroup",
    "Launch",
    "Signal",
    "Suspend",
    "TakeUp",
    "Unsuspend",
]


class Launch(msgspec.Struct, frozen=True):
    """Start the command of this incarnation."""

    job: Job


class TakeUp(msgspec.Struct, frozen=True):
    """Watch a process that runs already, and that a person started."""

    job: Job


class AskPause(msgspec.Struct, frozen=True):
    """Tell the shim to checkpoint at its next batch boundary and yield."""

    name: str
    request: str
    depth: Depth
    #: A shim without a daemon goes on by itself only where a rule paused it.
    by_rule: bool


class AskResume(msgspec.Struct, frozen=True):
    """Tell the shim to go on."""

    name: str
    request: str


class AskStop(msgspec.Struct, frozen=True):
    """Tell the shim to checkpoint at its next batch boundary and end the process."""

    name: str
    request: str


class AskCheckpoint(msgspec.Struct, frozen=True):
    """Tell the shim to checkpoint at its next batch boundary and go on."""

    name: str
    request: str


class Signal(msgspec.Struct, frozen=True):
    """Send a signal to every process of the job."""

    name: str
    incarnation: int
    signal: Literal["TERM", "KILL", "STOP", "CONT"]


class EndGroup(msgspec.Struct, frozen=True):
    """End what the starts up to this one have left: SIGTERM, and SIGKILL after the grace time."""

    name: str
    incarnation: int
    grace_s: float


class Suspend(msgspec.Struct, frozen=True):
    """Free the CUDA context of a process that waits at a boundary."""

    name: str
    process: Pid


class Unsuspend(msgspec.Struct, frozen=True):
    """Take the CUDA context of a process back, if it is not there."""

    name: str
    process: Pid


Effect = (
    Launch | TakeUp | AskPause | AskResume | AskStop | AskCheckpoint | Signal | EndGroup | Suspend | Unsuspend
)
