"""What is remembered of jobs that were removed: how often each was started, and whose the last one was.

Covers: both by key, also after a restart.
Does not cover: their events (store/), names that are taken (taken.py).

A key begins with the name of a user, and names are given to other people in time: what happened to a job
belongs to the number of the user whose it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from supervisor.core.jobs.job import Job

__all__ = ["PastJob", "PastJobs"]

_STARTS: Final = "starts."
_OWNER: Final = "owner."


class PastJob(NamedTuple):
    """The last job of a key that was removed, of a user that is not the daemon's own."""

    uid: int
    #: Steady clock when it was made; the first of several in a row that were of the same user.
    since: float


class PastJobs:
    """Used from the loop's thread."""

    def __init__(self, facts: Mapping[str, str], remember: Callable[[Mapping[str, str]], None]) -> None:
        """Take what the journal knows, and where it is told."""
        self._remember = remember
        self._starts: dict[str, int] = {}
        self._owners: dict[str, PastJob] = {}
        for fact, value in facts.items():
            if fact.startswith(_STARTS):
                self._starts[fact.removeprefix(_STARTS)] = int(value)
            elif fact.startswith(_OWNER):
                uid, _, since = value.partition(" ")
                self._owners[fact.removeprefix(_OWNER)] = PastJob(int(uid), float(since))

    def num_starts(self, key: str) -> int:
        """Return how often jobs of that key were started: a run folder is never used a second time."""
        return self._starts.get(key, 0)

    def owner(self, key: str) -> PastJob | None:
        """Return whose the last one of another user was; None where that is not known."""
        return self._owners.get(key)

    def removed(self, job: Job) -> None:
        """Take note of a job that is no more."""
        self._starts[job.name] = job.incarnation
        facts = {_STARTS + job.name: str(job.incarnation)}
        if job.spec.owner is not None:
            before, uid = self._owners.get(job.name), job.spec.owner.uid
            since = before.since if before is not None and before.uid == uid else job.created_at
            self._owners[job.name] = PastJob(uid, since)
            facts[_OWNER + job.name] = f"{uid} {since!r}"
        self._remember(facts)
