"""Lines of jobs that have no process, kept for a moment, so that hundreds of another user cost nobody much.

Covers: which line is still good. Does not cover: what it says (rows.py), who may see it (views.py).

Of a job without a process nothing changes but ages, as long as its record is the same one, and what it waits
for. Both are told a second late at most.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from supervisor import api
from supervisor.core.jobs.job import Job

__all__ = ["KeptRows"]

#: Nobody is shown ages more finely than that.
_KEPT_S: Final = 1.0


class _Kept(NamedTuple):
    job: Job
    at: float
    row: api.JobRow


class KeptRows:
    """By job, once whole and once as others see it."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, bool], _Kept] = {}

    def find(self, job: Job, now: float, *, is_whole: bool) -> api.JobRow | None:
        """Return the line of a job if it is still good."""
        kept = self._kept.get((job.name, is_whole))
        is_good = kept is not None and kept.job is job and now - kept.at < _KEPT_S
        return kept.row if kept is not None and is_good else None

    def keep(self, job: Job, now: float, row: api.JobRow, *, is_whole: bool) -> None:
        """Keep a line that was made just now, where it can be kept."""
        if job.process is None and not job.alive:
            self._kept[job.name, is_whole] = _Kept(job, now, row)

    def forget(self, job: str) -> None:
        """Let go of the lines of a job that has changed, or is no more."""
        self._kept.pop((job, True), None)
        self._kept.pop((job, False), None)
