"""Whether the newest checkpoints of jobs are still where they were written.

Covers: their folders. Does not cover: what is in them; free space, and how a file system is asked that may
not answer (user_folders.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from supervisor.core.jobs.job import Job
from supervisor.monitors.user_folders import Place, UserFolders

__all__ = ["Checkpoints"]


class Checkpoints:
    """For one thread; never waits."""

    def __init__(self) -> None:
        self._folders = UserFolders()
        self._places: dict[tuple[int | None, str], Place] = {}

    def gone(self, jobs: Iterable[Job], *, at: float) -> frozenset[str]:
        """Return the jobs whose newest checkpoint is not there any more, as last seen."""
        newest = {job.name: (job.spec.uid, job.checkpoint.path) for job in jobs if job.checkpoint is not None}
        # Of jobs that are over there may be thousands, and to make a path takes longer than to look at it.
        self._places = {
            key: self._places.get(key) or Place(key[0], Path(key[1])) for key in set(newest.values())
        }
        seen = self._folders.read(self._places.values(), at=at)
        return frozenset(name for name, key in newest.items() if not seen[self._places[key]].is_there)

    def close(self) -> None:
        """Look no more."""
        self._folders.close()
