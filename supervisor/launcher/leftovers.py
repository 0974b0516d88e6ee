"""What lies in the run folders of which nobody told us: other journals' runs, commands that still run.

Covers: whether a folder may be used for a start, which commands live unknown, the keeper of a command
whose folder was removed.
Does not cover: taking them up (spawn.py).
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Container, Iterator
from pathlib import Path

from supervisor.core.jobs.job import Pid
from supervisor.core.jobs.names import is_user_folder
from supervisor.launcher import records
from supervisor.launcher.identity import identify, is_alive
from supervisor.launcher.runs import Run
from supervisor.launcher.stop import read_table
from supervisor.ports import LaunchSpec, Orphan
from supervisor.system.marks import marks_of
from supervisor.system.procfs import read_stat
from supervisor.system.started_with import started_with

__all__ = ["foreign", "keeper_of", "last_incarnation", "left", "orphans"]

_KEEPER = b"keeper.py"


def last_incarnation(job_dir: Path) -> int:
    """Return the highest number of an incarnation that left a folder there, 0 if none did."""
    return max((folder.incarnation for folder in records.run_folders(job_dir)), default=0)


def orphans(jobs_dir: Path, known: Container[tuple[str, int]]) -> list[Orphan]:
    """Return the commands that still run although nobody knows of them."""
    found = []
    for folder in _folders(jobs_dir):
        process = None if (folder.job, folder.incarnation) in known else _running(folder.path)
        if process is not None:
            found.append(Orphan(folder.job, folder.incarnation, process, folder.path))
    return found


def left(jobs_dir: Path) -> dict[str, set[int]]:
    """Return the starts of which processes live, or whose keeper does, by job."""
    marks, found = marks_of(jobs_dir), defaultdict[str, set[int]](set)
    for start in filter(None, map(marks.of, read_table())):
        found[start.job].add(start.incarnation)
    for folder in _folders(jobs_dir):
        keeper = records.read_keeper(folder.path)
        if keeper is not None and is_alive(keeper):
            found[folder.job].add(folder.incarnation)
    return found


def _folders(jobs_dir: Path) -> Iterator[records.RunFolder]:
    for folder in _within(jobs_dir):
        for job_dir in _within(folder) if is_user_folder(folder.name) else [folder]:
            yield from records.run_folders(job_dir)


def _within(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def foreign(spec: LaunchSpec) -> str:
    """Return why the folder of a start cannot be used, because it is another run's; or ""."""
    owner = records.read_owner(spec.run_dir)
    is_others = bool(owner and spec.journal and owner != spec.journal)
    is_used = spec.is_first and (records.has_record(spec.run_dir) or records.is_claimed(spec.run_dir))
    if not is_others and not is_used:
        return ""
    whose = "of another journal" if is_others else "that this journal does not know of"
    return f"`{spec.run_dir}` holds a run {whose}; `supervisorctl restart {spec.job}` takes the next folder"


def keeper_of(run: Run) -> Pid | None:
    """Return the keeper of a start, by its folder or above its command."""
    keeper = records.read_keeper(run.run_dir)
    if keeper is None and run.known is not None:
        return _keeper_above(run.known, f"{run.job}.{run.incarnation}")
    return keeper


def _keeper_above(process: Pid, label: str) -> Pid | None:
    """Return the keeper of a command whose folder does not tell it any more: its parent, by its label."""
    stat = read_stat(process.pid)
    if stat is None:
        return None
    words = started_with(stat.parent, "cmdline").split(b"\0")
    is_keeper = label.encode() in words and any(os.path.basename(word) == _KEEPER for word in words)  # noqa: PTH119
    return identify(stat.parent) if is_keeper else None


def _running(run_dir: Path) -> Pid | None:
    """Return the command of a folder, or its keeper, while it lives."""
    try:
        process = records.read_process(run_dir)
    except records.DamagedRecord:
        process = None
    if process is None and records.is_claimed(run_dir):
        process = records.read_keeper(run_dir)
    candidates = (process, records.read_heir(run_dir))
    return next((one for one in candidates if one is not None and is_alive(one)), None)
