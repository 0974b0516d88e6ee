"""What earlier starts left and was to end when the daemon died meanwhile.

Covers: whose leftovers are to end, by what became of the job.
Does not cover: finding and ending them (launcher/).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from supervisor.core.jobs.effects import EndGroup
from supervisor.core.jobs.job import Job
from supervisor.core.jobs.states import JobState

__all__ = ["to_end"]


def to_end(jobs: Iterable[Job], left: Mapping[str, Collection[int]]) -> Iterator[EndGroup]:
    """Yield what has to be ended, given the starts of which processes live.

    What the newest start left stays where it runs, or came to its own end; all others were asked to go.
    """
    for job in jobs:
        is_its_own = job.state in (JobState.COMPLETED, JobState.FAILED) and job.restart_at is None
        last = job.incarnation - 1 if job.alive or is_its_own else job.incarnation
        if not job.spec.keep_children and any(start <= last for start in left.get(job.name, ())):
            yield EndGroup(job.name, last, job.kill_grace_s)
