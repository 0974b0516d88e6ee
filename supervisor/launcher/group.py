"""All processes of a job: found anew in /proc each time, and signalled until nobody new appears.

Covers: who belongs to starts of a job, by session, parents and marks; ending what they left.
Does not cover: one process (stop.py), when a group is ended (core/).

Three ways, because a program may leave each of them. `setsid` leaves the
session, a second `fork` the parents, an empty environment the mark. Who lost
his parent is a child of the keeper, which stays as long as there is one. Where
the system allows a control group for each start, that is a mark, too.

A look at all of /proc costs some 0.1 ms a process, so one serves all starts that are
asked about at that moment: a user may have hundreds that end at once.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Final

import msgspec

from supervisor.core.jobs.job import Pid
from supervisor.launcher import records, stop
from supervisor.launcher.identity import is_alive
from supervisor.system.marks import JobStart, jobs_folder, marks_of, start_of
from supervisor.system.procfs import boot_id, users_of

__all__ = ["GroupEnding", "ProcessLook", "ProcessLooks", "members", "send", "send_to_all"]

#: Who forks faster than this many looks at /proc is not caught by one call.
_MAX_PASSES = 8
#: So much longer than a look takes is waited for the next one.
_REST: Final = 10.0


class ProcessLook:
    """All processes at one moment, and which of them come from a start by their marks.

    Never ourselves, nor whoever is found by us alone: a daemon may have been started within a job.
    """

    def __init__(self) -> None:
        """Look now."""
        self.at = time.monotonic()
        self.table = stop.read_table()
        self.others = {pid: stat for pid, stat in self.table.items() if pid != os.getpid()}
        self.took_s = time.monotonic() - self.at
        self._by_start: dict[Path, dict[JobStart, list[Pid]]] = {}

    def marked(self, run_dirs: Iterable[Path]) -> list[Pid]:
        """Return who names one of these folders in his environment, or is in the control group of one."""
        found = []
        for run_dir in run_dirs:
            if (start := start_of(run_dir)) is not None:
                found += self._of(jobs_folder(run_dir)).get(start, [])
        return found

    def _of(self, folder: Path) -> dict[JobStart, list[Pid]]:
        if folder not in self._by_start:
            began = time.monotonic()
            marks, boot, found = marks_of(folder), boot_id(), defaultdict[JobStart, list[Pid]](list)
            for pid, stat in self.others.items():
                if (start := marks.of(pid)) is not None:
                    found[start].append(Pid(pid, stat.start_ticks, boot))
            self._by_start[folder] = found
            self.took_s += time.monotonic() - began
        return self._by_start[folder]


class ProcessLooks:
    """One look for all who want one, and a part of the time only: hundreds may end at once, on and on."""

    def __init__(self) -> None:
        """Begin with none."""
        self._last: ProcessLook | None = None

    def is_ready(self, at: float) -> bool:
        """Say whether there is time for a look that is begun at this moment of the steady clock, or later."""
        last = self._last
        return last is None or last.at >= at or time.monotonic() - last.at >= _REST * last.took_s

    def since(self, at: float) -> ProcessLook:
        """Return it."""
        if self._last is None or self._last.at < at:
            self._last = ProcessLook()
        return self._last


class GroupEnding(msgspec.Struct):
    """What starts of a job left, on its way out."""

    run_dirs: list[Path]
    #: Who was found when the command ended; some of them perhaps by nothing but their session.
    known: set[Pid]
    #: Steady clock; whoever is left then gets SIGKILL.
    kill_at: float
    #: It was not asked to end yet.
    is_new: bool = True


def members(run_dirs: Collection[Path], known: Iterable[Pid], look: ProcessLook) -> set[Pid]:
    """Return all living processes of some starts of a job, and of what is known of them, without keepers."""
    keepers = {keeper for run_dir in run_dirs if (keeper := _keeper(run_dir)) is not None}
    found = stop.tree([*known, *keepers, *look.marked(run_dirs)], look.others, boot_id())
    return _reachable(run_dirs, found - keepers)


def send(run_dirs: Collection[Path], known: Iterable[Pid], number: int) -> None:
    """Signal all of a group once each, and whoever they start meanwhile."""
    send_to_all([(run_dirs, set(known))], number)


def send_to_all(groups: Collection[tuple[Collection[Path], set[Pid]]], number: int) -> None:
    """Signal several groups, each as `send` does."""
    done: set[Pid] = set()
    for _ in range(_MAX_PASSES):
        look = ProcessLook()
        found: set[Pid] = set()
        for run_dirs, known in groups:
            found |= members(run_dirs, known, look)
            # A root that this call itself has ended still names its session.
            behind = [stop.leftovers(one, look.table, boot_id()) for one in known & done]
            found |= _reachable(run_dirs, set().union(*behind))
        new = {one for one in found if one.pid != os.getpid()} - done
        if not new:
            return
        for process in new:
            stop.send(process, number)
        done |= new


def _keeper(run_dir: Path) -> Pid | None:
    keeper = records.read_keeper(run_dir)
    return keeper if keeper is not None and is_alive(keeper) else None


def _reachable(run_dirs: Collection[Path], found: set[Pid]) -> set[Pid]:
    """Return those whom the job's user could signal himself (kill(2)), or who are in groups of its starts.

    Another user says in files of his which process is his command; with it come its session and its children.
    """
    owners = {owner for run_dir in run_dirs if (owner := records.foreign_owner(run_dir)) is not None}
    if not owners:
        return found
    return {
        one
        for one in found
        if not owners.isdisjoint(users_of(one.pid)[:3:2])
        or any(records.is_in_unit(it, one) for it in run_dirs)
    }
