"""Whose a process is now, as the kernel says. Covers: whether its user might signal it himself."""

from __future__ import annotations

from pathlib import Path

from supervisor.core.jobs.job import Job

__all__ = ["is_users_to_signal", "users_of_process"]


def users_of_process(pid: int) -> tuple[int, ...]:
    """Return the real, effective and saved user of a process; empty where there is none."""
    try:
        text = Path("/proc", str(pid), "status").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ()
    line = next(line for line in text.splitlines() if line.startswith("Uid:"))
    return tuple(map(int, line.split()[1:4]))


def is_users_to_signal(job: Job) -> bool:
    """Say whether a signal for a job goes where its user could send it himself (kill(2)).

    A process that was started by hand and then runs a program of root has the number that it had.
    """
    if job.spec.owner is None or not job.is_by_hand or job.process is None:
        return True
    users = users_of_process(job.process.pid)
    return not users or job.spec.owner.uid in (users[0], users[2])
