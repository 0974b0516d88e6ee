"""Whether the newest checkpoints of jobs are still where they were written.

Covers: their folders. Does not cover: what is in them; free space, and how a file system is asked that may
not answer (disks.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from supervisor.core.jobs.job import Job
from supervisor.monitors.disks import Disks

__all__ = ["Checkpoints"]


class Checkpoints:
    """For one thread; never waits."""

    def __init__(self) -> None:
        self._disks = Disks()
        self._places: dict[str, Path] = {}

    def gone(self, jobs: Iterable[Job], *, at: float) -> frozenset[str]:
        """Return the folders of newest checkpoints that are not there any more, as last seen."""
        newest = {job.checkpoint.path for job in jobs if job.checkpoint is not None}
        # Of jobs that are over there may be thousands, and to make a path takes longer than to look at it.
        self._places = {path: self._places.get(path) or Path(path) for path in newest}
        seen = self._disks.read(self._places.values(), at=at)
        return frozenset(path for path, place in self._places.items() if not seen[place].is_there)

    def close(self) -> None:
        """Look no more."""
        self._disks.close()
