"""Who was left of ended commands, as far as we saw them end, and who of them is on the way out.

Does not cover: finding them again by their folder, and ending them (group.py).
"""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from supervisor.core.jobs.job import Pid
from supervisor.launcher import group, stop
from supervisor.ports import Ended
from supervisor.system.procfs import boot_id

__all__ = ["LeftBehind"]


class _JustEnded(NamedTuple):
    """A command that is over, and since when that is known."""

    run_dir: Path
    process: Pid
    ended: Ended
    at: float


class LeftBehind:
    """Processes by the job and incarnation that they come from, while any of them lives."""

    def __init__(self, looks: group.ProcessLooks) -> None:
        """Begin with nobody."""
        self._looks = looks
        self._by_start: dict[tuple[str, int], set[Pid]] = {}
        self._run_dirs: dict[tuple[str, int], Path] = {}
        self._endings: list[group.GroupEnding] = []
        self._just_ended: list[_JustEnded] = []

    @property
    def is_ending(self) -> bool:
        """Say whether `push` and `look` are to be called again."""
        return bool(self._endings or self._just_ended)

    @property
    def is_new(self) -> bool:
        """Say whether it is to be called soon."""
        return any(ending.is_new for ending in self._endings)

    def end(self, job: str, run_dirs: Sequence[Path], grace_s: float) -> None:
        """End what starts of a job left: with the next push SIGTERM, after the grace time SIGKILL."""
        present = [run_dir for run_dir in run_dirs if run_dir.is_dir()]
        self._endings.append(group.GroupEnding(present, self.of_job(job), time.monotonic() + grace_s))

    def push(self) -> None:
        """Ask those to end that were not asked yet, and insist where it is time to; few looks serve all."""
        now = time.monotonic()
        if not self._endings or not self._looks.is_ready(now):
            return
        look = self._looks.since(now)
        left = [ending for ending in self._endings if group.members(ending.run_dirs, ending.known, look)]
        for number, chosen in (
            (signal.SIGTERM, [one for one in left if one.is_new and now < one.kill_at]),
            (signal.SIGKILL, [one for one in left if now >= one.kill_at]),
        ):
            if chosen:
                group.send_to_all([(one.run_dirs, one.known) for one in chosen], number)
        for ending in left:
            ending.is_new = False
        self._endings = left

    def note(self, run_dir: Path, process: Pid, ended: Ended, at: float) -> None:
        """Have `look` tell that a command ended, at this moment of the steady clock or before."""
        self._just_ended.append(_JustEnded(run_dir, process, ended, at))

    def look(self) -> list[Ended]:
        """Look who is left of all commands that have just ended; returns whose that was."""
        newest = max((one.at for one in self._just_ended), default=0.0)
        if not self._just_ended or not self._looks.is_ready(newest):
            return []
        look = self._looks.since(newest)
        before = {old: stop.living(left, look.table) for old, left in self._by_start.items()}
        self._by_start = {old: left for old, left in before.items() if left}
        self._run_dirs = {old: self._run_dirs[old] for old in self._by_start}
        over, self._just_ended = self._just_ended, []
        for run_dir, process, ended, _ in over:
            by_session = stop.leftovers(process, look.table, boot_id())
            if left := group.members([run_dir], by_session, look):
                key = ended.job, ended.incarnation
                self._by_start[key], self._run_dirs[key] = left, run_dir
        return [one.ended for one in over]

    def signal(self, key: tuple[str, int], number: int) -> None:
        """Signal who was left of one start."""
        if left := self._by_start.get(key):
            group.send([self._run_dirs[key]], left, number)

    def of_job(self, job: str) -> set[Pid]:
        """Return who was left of all starts of a job."""
        return set[Pid]().union(*(left for (name, _), left in self._by_start.items() if name == job))
