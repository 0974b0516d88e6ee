"""A control group for each start of a command, where the system lets us make one.

Covers: finding out whether it does, making a group, removing those that are empty.
Does not cover: entering it (keeper.py), who is in it (marks.py).

Nothing depends on it: where no group can be made, a job's processes are found by
session, parents and environment alone. Who leaves all three is found by it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from supervisor.system.cgroups import own_groups
from supervisor.system.marks import GROUP, group_name, group_prefix, jobs_folder, start_of

__all__ = ["OwnGroups"]


class OwnGroups:
    """Groups below the one that this process is in, for starts of one daemon's jobs."""

    def __init__(self) -> None:
        """Try where a group can be made."""
        self._base = next((folder for folder in map(_outside_of_jobs, own_groups()) if _allows(folder)), None)

    def make(self, run_dir: Path) -> str:
        """Return the folder of the group for a start, or "" where there can be none."""
        start = start_of(run_dir)
        if self._base is None or start is None:
            return ""
        folder = self._base / group_name(jobs_folder(run_dir), start)
        try:
            folder.mkdir(exist_ok=True)
        except OSError:
            # A limit on their number, or they were taken away from us.
            return ""
        return str(folder)

    def sweep(self, jobs_dir: Path, spared: Iterable[Path]) -> None:
        """Remove the groups of starts in which nobody is any more, but for those that are about to begin."""
        if self._base is None:
            return
        prefix = group_prefix(jobs_dir)
        starts = (start_of(run_dir) for run_dir in spared)
        names = {group_name(jobs_dir, start) for start in starts if start is not None}
        for folder in self._base.glob(f"{prefix}*"):
            if folder.name not in names:
                # Somebody is in it, or has removed it.
                with suppress(OSError):
                    folder.rmdir()


def _outside_of_jobs(folder: Path) -> Path:
    """Return a group around it that is no job's: a daemon may have been started within one."""
    within = [one for one in (folder, *folder.parents) if GROUP.match(one.name)]
    return within[-1].parent if within else folder


def _allows(folder: Path) -> bool:
    trial = folder / f"training-supervisor-trial-{os.getpid()}"
    try:
        trial.mkdir()
        trial.rmdir()
    except OSError:
        return False
    # Version 2 asks for the right to write to the group around both as well.
    return os.access(folder / "cgroup.procs", os.W_OK)
