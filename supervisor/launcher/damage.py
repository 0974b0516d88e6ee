"""Records of starts as far as they can be read, and what is said of those that cannot.

Covers: the command and its end, for the launcher. Does not cover: reading them (records.py).
"""

from __future__ import annotations

import os
from pathlib import Path

from supervisor.core.jobs.job import Exit, Pid
from supervisor.launcher import records
from supervisor.set_aside import SetAside

__all__ = ["Damage"]


class Damage:
    """Reads records; what makes no sense is told by name for as long as it lies there."""

    def __init__(self) -> None:
        """Begin with nothing to tell."""
        self._aside: dict[Path, SetAside] = {}

    def exit(self, run_dir: Path) -> Exit | None:
        """Return how a command ended; None where that is not on disk."""
        try:
            return records.read_exit(run_dir)
        except records.DamagedRecord as error:
            self._put_aside(error)
            return Exit(error=f"exit status unknown: {error}")

    def process(self, run_dir: Path) -> Pid | None:
        """Return which process became the command; None where none is known."""
        try:
            return records.read_process(run_dir)
        except records.DamagedRecord as error:
            self._put_aside(error)
            return None

    def aside(self) -> tuple[SetAside, ...]:
        """Return the records that make no sense and are still there."""
        self._aside = {path: one for path, one in self._aside.items() if os.path.lexists(path)}
        return tuple(self._aside.values())

    def _put_aside(self, damage: records.DamagedRecord) -> None:
        path, hint = damage.path, "nothing has to be done; the folder goes with the job's others"
        self._aside[path] = SetAside(kind="file", name=path.name, where=str(path), why=str(damage), hint=hint)
