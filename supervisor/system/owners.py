"""Whether a signal for a job goes where its user could send it himself. Does not cover: sending it."""

from __future__ import annotations

from supervisor.core.jobs.job import Job
from supervisor.system.procfs import users_of

__all__ = ["is_users_to_signal"]


def is_users_to_signal(job: Job) -> bool:
    """Say whether a signal for a job goes where its user could send it himself (kill(2)).

    A process that was started by hand and then runs a program of root has the number that it had.
    """
    if job.spec.owner is None or not job.is_by_hand or job.process is None:
        return True
    users = users_of(job.process.pid)
    return not users or job.spec.owner.uid in (users[0], users[2])
