"""Who goes on in the place of a command that ended well: `sh -c 'train &'`, `nohup run.sh &`.

Covers: which process that is, telling the keeper, how it ended.
Does not cover: when it comes to that (spawn.py), who may say hello (server/).

The heir is not the training process itself but the highest one above it that is
still of the job: a script around it, whose exit status is the job's as it would
be in the foreground. That one has lost its parent and is the keeper's child.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from supervisor.core.jobs.job import Exit, Pid
from supervisor.launcher import group, records, stop
from supervisor.launcher.identity import is_alive
from supervisor.launcher.reap import NOT_OURS, reap
from supervisor.launcher.runs import Run
from supervisor.system.procfs import boot_id, read_stat

__all__ = ["HANDOVER_S", "after", "name"]

#: Importing torch takes some seconds; whoever waits for a job that left a server behind waits that long.
HANDOVER_S: Final = 20.0

#: A look at all processes serves that long those who look now and then.
_STALE_S: Final = 0.1

#: Its keeper was killed, and it did not become our child either.
_UNSEEN: Final = Exit(error="exit status unknown: nobody was left to see it")


def name(run_dir: Path, process: Pid) -> None:
    """Let the keeper write down how this process ends."""
    if records.read_heir(run_dir) == process:
        return
    # A full disk, a folder that was removed: its exit status is unknown then, and told to be.
    with suppress(OSError):
        records.write_heir(run_dir, process)


def after(run: Run, end: Exit, handover_s: float, looks: group.ProcessLooks) -> Exit | Pid | None:
    """Return how a start ended whose command is over, or who goes on in its place; None: not known yet."""
    if run.is_handed_over and run.process is not None:
        reaped = reap(run.process_fd) if run.process_fd is not None else NOT_OURS
        found = _end_of(run.run_dir, run.process, run.keeper) if reaped is NOT_OURS else reaped
        run.is_unsettled = found is None
        if found is None:
            return None
        end = found
    if end != Exit(code=0):
        return end
    shim = run.shim or records.read_heir(run.run_dir)
    if shim is None:
        return None if _holds(run, handover_s, looks) else end
    run.hold_until = run.left = None
    if shim == run.process or run.process is None:
        return end
    if is_alive(shim):
        return _head(run.run_dir, shim, group.ProcessLook())
    if run.is_handed_over:
        return end
    # It may have ended right after the command.
    found = _end_of(run.run_dir, shim, run.keeper)
    run.is_unsettled = found is None
    return end if found is _UNSEEN else found


def _holds(run: Run, handover_s: float, looks: group.ProcessLooks) -> bool:
    """Say whether a shim may still speak in what the command left."""
    now = time.monotonic()
    if run.hold_until is None:
        run.held_at, run.hold_until = now, now + handover_s
        # With the next look, which serves all that are over by then.
        return handover_s > 0
    at = max(run.held_at, now - _STALE_S)
    if not looks.is_ready(at):
        return True
    look = looks.since(at)
    if run.left is None:
        run.left = set() if run.process is None else stop.leftovers(run.process, look.table, boot_id())
    run.left = group.members([run.run_dir], run.left, look)
    return bool(run.left) and now < run.hold_until


def _head(run_dir: Path, shim: Pid, look: group.ProcessLook) -> Pid:
    """Return the highest process above the shim's that is of the same start; itself if there is none."""
    table, ours = look.table, {one.pid for one in group.members([run_dir], [shim], look)}
    pid = shim.pid
    seen = {pid}
    while pid in table and table[pid].parent in ours - seen:
        pid = table[pid].parent
        seen.add(pid)
    return shim if pid == shim.pid else Pid(pid, table[pid].start_ticks, boot_id())


def _end_of(run_dir: Path, heir: Pid, keeper: Pid | None) -> Exit | None:
    """Return how an heir ended that is no child of ours, or _UNSEEN; None: the keeper is writing it down."""
    # Before the file is read: the keeper lets a process go only when it has written.
    stat = read_stat(heir.pid)
    is_there = stat is not None and stat.start_ticks == heir.start_ticks
    end = records.read_heir_exit(run_dir) if records.read_heir(run_dir) == heir else None
    if end is None and is_there and keeper is not None and stat is not None and stat.parent == keeper.pid:
        return None
    return end or _UNSEEN
