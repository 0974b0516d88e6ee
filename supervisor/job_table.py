"""All jobs by name, and without looking at all of them: which are not over, whose timer is next.

Covers: finding them. Does not cover: what a job is, how one changes (core/jobs/apply.py).

A daemon that runs for a year remembers thousands of jobs that are over. The loop turns several
times a second and may not look at each of them.
"""

from __future__ import annotations

import difflib
import math
import sys
from collections.abc import Iterable

from supervisor.core.jobs import apply as core
from supervisor.core.jobs.job import Job

__all__ = ["JobTable", "sharing"]


#: A shim finds a new daemon within a heartbeat or two.
_HEAR_S = 5.0


class JobTable:
    """Jobs as they are now. Change it by `put` and `drop` only."""

    def __init__(self, jobs: Iterable[Job] = (), taken_up_at: float = -math.inf) -> None:
        """Take jobs that an earlier daemon left; those that live have a moment to tell what they did."""
        self.all: dict[str, Job] = {}
        #: Jobs that are not over, by name: the only ones that anything can happen to by itself.
        self.present: dict[str, Job] = {}
        self._timers: dict[str, float] = {}
        for job in jobs:
            self.put(job)
        # Else a pause that was reached in time would count as late, and its job be ended for it.
        is_awaited = any(job.alive for job in self.present.values())
        self._quiet_until = taken_up_at + _HEAR_S if is_awaited else -math.inf

    def put(self, job: Job) -> Job | None:
        """Take a new job, or one as it is from now on; returns it as it was."""
        before = self.all.get(job.name)
        if before is None or before.spec is not job.spec:
            sharing(job)
        self.all[job.name] = job
        if job.is_over:
            self.present.pop(job.name, None)
        else:
            self.present[job.name] = job
        due_at = core.next_due(job)
        if due_at is None:
            self._timers.pop(job.name, None)
        else:
            self._timers[job.name] = due_at
        return before

    def drop(self, name: str) -> None:
        """Forget a job."""
        del self.all[name]
        self.present.pop(name, None)
        self._timers.pop(name, None)

    def nearest(self, name: str) -> str:
        """Return the name that somebody may have meant, or ""."""
        return next(iter(difflib.get_close_matches(name, self.all, n=1)), "")

    def next_due(self) -> float | None:
        """Return when the next timer of any job fires."""
        return max(min(self._timers.values()), self._quiet_until) if self._timers else None

    def due(self, now: float) -> list[Job]:
        """Return the jobs with a timer that fires now."""
        is_quiet = now < self._quiet_until
        return [] if is_quiet else [self.all[name] for name, at in self._timers.items() if at <= now]


def sharing(job: Job) -> Job:
    """Return the job, equal values of environments kept once: each takes 10 kB, and is mostly the same."""
    env = job.spec.env
    for name, value in env.items():
        env[name] = sys.intern(value)
    return job
