"""How much of what a shim says ends in the journal: some words at once, then one a second.

Covers: keeping back what is beyond the measure of its job, the newest of each kind, until there is room.
Does not cover: what is said (shims.py); how much a peer may send (connections.py).

What the daemon asked for is answered beyond the measure. A word that changes nothing about its job
is not stored, and costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Protocol

from supervisor.core.jobs.events import CheckpointReported, JobEvent, PauseReached
from supervisor.core.jobs.job import Job
from supervisor.ports import Clock

__all__ = ["Jobs", "Measure", "Measured"]

#: How many words are let through at once, and how many more each second from then on.
_MOST: Final = 10.0
_PER_S: Final = 1.0

#: A pause and its end are told by two, a checkpoint or a failure by one.
_PER_REQUEST: Final = 3.0
#: For a shim that never answers.
_MOST_OWED: Final = 1000.0


class Jobs(Protocol):
    """What is needed of the engine."""

    def find(self, name: str) -> Job | None:
        """Return one job, or None."""
        ...

    def observe(self, name: str, event: JobEvent) -> None:
        """Apply a fact of the world."""
        ...


class Measure:
    """So many at once, then `_PER_S` of them each second."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._left, self._at = _MOST, clock.now()

    def wait_s(self) -> float:
        """Return how long it takes until there is room for another one."""
        now = self._clock.now()
        if self._left < _MOST:
            self._left = min(_MOST, self._left + (now - self._at) * _PER_S)
        self._at = now
        return max(0.0, 1.0 - self._left) / _PER_S

    def spend(self) -> None:
        """Count one."""
        self._left -= 1.0

    def owe(self) -> None:
        """Leave room for the answers to another request."""
        self._left = min(_MOST_OWED, self._left + _PER_REQUEST)


@dataclass
class _Told:
    """What one job's shim may say, and what it said beyond."""

    measure: Measure
    #: The request that it was asked last, for whose answers there is room already; "": none yet.
    request: str = ""
    incarnation: int = 0
    #: The newest of each kind, in the order in which they came.
    kept: dict[type, JobEvent] = field(default_factory=dict)


class Measured:
    """The words of all shims on their way to their jobs. Used from the loop's thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._told: dict[str, _Told] = {}
        #: Those of whom something is kept back.
        self._late: set[str] = set()

    def asked(self, job: str, request: str) -> None:
        """Leave room for the answers to a request; the same one, asked again, has its room already."""
        told = self._of(job)
        if told.request != request:
            told.request = request
            told.measure.owe()

    def observe(self, job: Job, event: JobEvent, jobs: Jobs) -> None:
        """Let the job hear it now where there is room, and in its turn where not."""
        told = self._of(job.name)
        if job.incarnation != told.incarnation:
            self._let_go(job.name, told, jobs)
            told.incarnation = job.incarnation
        if not told.kept and told.measure.wait_s() <= 0:
            self._say(job.name, told, event, jobs)
            return
        told.kept.pop(type(event), None)
        told.kept[type(event)] = event
        self._late.add(job.name)

    def next_due(self) -> float | None:
        """Return when there is room for something that was kept back."""
        waits = (self._told[name].measure.wait_s() for name in self._late)
        return min((self._clock.now() + wait_s for wait_s in waits), default=None)

    def turn(self, jobs: Jobs) -> None:
        """Let jobs hear what there is room for by now."""
        for name in tuple(self._late):
            told, job = self._told[name], jobs.find(name)
            if job is None or not job.alive or job.incarnation != told.incarnation:
                self._let_go(name, told, jobs)
            while told.kept and told.measure.wait_s() <= 0:
                self._say(name, told, told.kept.pop(next(iter(told.kept))), jobs)
            if not told.kept:
                self._late.discard(name)

    def settle(self, jobs: Jobs) -> None:
        """Let them hear all that was kept back: there is no later."""
        for name in tuple(self._late):
            told = self._told[name]
            while told.kept:
                self._say(name, told, told.kept.pop(next(iter(told.kept))), jobs)
        self._late.clear()

    def drop(self, job: str) -> None:
        """The job was removed."""
        self._told.pop(job, None)
        self._late.discard(job)

    def _of(self, job: str) -> _Told:
        if job not in self._told:
            self._told[job] = _Told(Measure(self._clock))
        return self._told[job]

    def _let_go(self, name: str, told: _Told, jobs: Jobs) -> None:
        """The process of these words is gone: of what it said only its newest checkpoint counts."""
        kept, told.kept = told.kept, {}
        found = [checkpoint for event in kept.values() if (checkpoint := _checkpoint_of(event)) is not None]
        if found:
            self._say(name, told, found[-1], jobs)

    def _say(self, name: str, told: _Told, event: JobEvent, jobs: Jobs) -> None:
        before = jobs.find(name)
        jobs.observe(name, event)
        if jobs.find(name) != before:
            told.measure.spend()


def _checkpoint_of(event: JobEvent) -> CheckpointReported | None:
    match event:
        case CheckpointReported():
            return event
        case PauseReached():
            return CheckpointReported(checkpoint=event.checkpoint)
        case _:
            return None
