"""All processes of a job: found anew in /proc each time, and signalled until nobody new appears.

Covers: who belongs to starts of a job, by session, parents and marks; ending what they left.
Does not cover: one process (stop.py), when a group is ended (core/).

Three ways, because a program may leave each of them. `setsid` leaves the
session, a second `fork` the parents, an empty environment the mark. Who lost
his parent is a child of the keeper, which stays as long as there is one. Where
the system allows a control group for each start, that is a mark, too.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from supervisor.core.jobs.job import Pid
from supervisor.launcher import records, stop
from supervisor.launcher.identity import is_alive
from supervisor.system.marks import JobStart, Marks, jobs_folder, start_of
from supervisor.system.procfs import Stat, boot_id, users_of

__all__ = ["GroupEnding", "is_in_unit", "members", "send"]

#: Who forks faster than this many looks at /proc is not caught by one call.
_MAX_PASSES = 8


class GroupEnding(msgspec.Struct):
    """What starts of a job left, on its way out."""

    run_dirs: list[Path]
    #: Who was found when the command ended; some of them perhaps by nothing but their session.
    known: set[Pid]
    #: Steady clock; whoever is left then gets SIGKILL.
    kill_at: float

    def push(self, now: float) -> bool:
        """Insist where it is time to; say whether anybody is left."""
        left = members(self.run_dirs, self.known, stop.read_table())
        if left and now >= self.kill_at:
            send(self.run_dirs, left, signal.SIGKILL)
        return bool(left)


def members(run_dirs: Iterable[Path], known: Iterable[Pid], table: Mapping[int, Stat]) -> set[Pid]:
    """Return all living processes of some starts of a job, and of what is known of them, without keepers.

    Never ourselves, nor whoever is found by us alone: a daemon may have been started within a job.
    """
    boot = boot_id()
    others = {pid: stat for pid, stat in table.items() if pid != os.getpid()}
    keepers = {keeper for run_dir in run_dirs if (keeper := _keeper(run_dir)) is not None}
    marked = _marked(run_dirs, others, boot)
    found = stop.tree([*known, *keepers, *marked], others, boot)
    return _reachable(run_dirs, found - keepers)


def is_in_unit(run_dir: Path, process: Pid) -> bool:
    """Say whether a process is in the control group of this start, as its keeper may be."""
    start = start_of(run_dir)
    return start is not None and Marks(jobs_folder(run_dir)).group_of(process.pid) == start


def send(run_dirs: Iterable[Path], known: Iterable[Pid], number: int) -> None:
    """Signal all of a group once each, and whoever they start meanwhile."""
    run_dirs, known = list(run_dirs), set(known)
    done: set[Pid] = set()
    for _ in range(_MAX_PASSES):
        table = stop.read_table()
        found = members(run_dirs, known, table)
        # A root that this call itself has ended still names its session.
        behind = [stop.leftovers(one, table, boot_id()) for one in known & done]
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


def _reachable(run_dirs: Iterable[Path], found: set[Pid]) -> set[Pid]:
    """Return those whom the job's user could signal himself (kill(2)), or who are in groups of its starts.

    Another user says in files of his which process is his command; with it come its session and its children.
    """
    owners = {owner for run_dir in run_dirs if (owner := records.foreign_owner(run_dir)) is not None}
    if not owners:
        return found
    return {
        one
        for one in found
        if not owners.isdisjoint(users_of(one.pid)[:3:2]) or any(is_in_unit(it, one) for it in run_dirs)
    }


def _marked(run_dirs: Iterable[Path], table: Mapping[int, Stat], boot: str) -> list[Pid]:
    """Return who names one of these folders in his environment, or is in the control group of one."""
    wanted: dict[Path, set[JobStart]] = {}
    for run_dir in run_dirs:
        if (start := start_of(run_dir)) is not None:
            wanted.setdefault(jobs_folder(run_dir), set()).add(start)
    found = []
    for folder, starts in wanted.items():
        marks = Marks(folder)
        found += [Pid(pid, stat.start_ticks, boot) for pid, stat in table.items() if marks.of(pid) in starts]
    return found
