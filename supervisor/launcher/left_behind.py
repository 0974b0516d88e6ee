"""Who was left of ended commands, as far as we saw them end, and who of them is on the way out.

Does not cover: finding them again by their folder, and ending them (group.py).
"""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from pathlib import Path

from supervisor.core.jobs.job import Pid
from supervisor.launcher import group, stop
from supervisor.system.procfs import boot_id

__all__ = ["LeftBehind"]


class LeftBehind:
    """Processes by the job and incarnation that they come from, while any of them lives."""

    def __init__(self) -> None:
        """Begin with nobody."""
        self._by_start: dict[tuple[str, int], set[Pid]] = {}
        self._run_dirs: dict[tuple[str, int], Path] = {}
        self._endings: list[group.GroupEnding] = []

    @property
    def is_ending(self) -> bool:
        """Say whether `push` is to be called again."""
        return bool(self._endings)

    def end(self, job: str, run_dirs: Sequence[Path], grace_s: float) -> None:
        """End what starts of a job left: SIGTERM, after the grace time SIGKILL."""
        present = [run_dir for run_dir in run_dirs if run_dir.is_dir()]
        ending = group.GroupEnding(present, self.of_job(job), time.monotonic() + grace_s)
        group.send(ending.run_dirs, ending.known, signal.SIGTERM if grace_s else signal.SIGKILL)
        self._endings.append(ending)

    def push(self) -> None:
        """Insist where it is time to."""
        now = time.monotonic()
        self._endings = [ending for ending in self._endings if ending.push(now)]

    def note(self, key: tuple[str, int], run_dir: Path, process: Pid) -> None:
        """Look who is left of a command that has just ended."""
        table = stop.read_table()
        before = {old: stop.living(left, table) for old, left in self._by_start.items()}
        self._by_start = {old: left for old, left in before.items() if left}
        self._run_dirs = {old: self._run_dirs[old] for old in self._by_start}
        by_session = stop.leftovers(process, table, boot_id())
        if left := group.members([run_dir], by_session, table):
            self._by_start[key], self._run_dirs[key] = left, run_dir

    def signal(self, key: tuple[str, int], number: int) -> None:
        """Signal who was left of one start."""
        if left := self._by_start.get(key):
            group.send([self._run_dirs[key]], left, number)

    def of_job(self, job: str) -> set[Pid]:
        """Return who was left of all starts of a job."""
        return set[Pid]().union(*(left for (name, _), left in self._by_start.items() if name == job))
