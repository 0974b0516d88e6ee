"""Signals to one process, and who belongs to a command by session and parents.

Covers: trees and leftovers in a table of all processes, and sending to exactly one.
Does not cover: whole groups (group.py), when to insist (the engine's deadlines).

A command's tree is its session and all descendants of it. A descendant that
made a session of its own and lost its parent belongs to the keeper by then,
which is why the keeper is handed in as a root too.
"""

# A Path for each file of /proc costs more than reading it.
# ruff: noqa: PTH208
from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Mapping
from contextlib import suppress

from supervisor.core.jobs.job import Pid
from supervisor.launcher.identity import open_process
from supervisor.system.procfs import Stat, read_stat

__all__ = ["leftovers", "living", "read_table", "send", "tree", "wake"]


def read_table() -> dict[int, Stat]:
    """Return everybody who is in /proc and not yet over."""
    stats = ((int(name), read_stat(int(name))) for name in os.listdir("/proc") if name.isdecimal())
    return {pid: stat for pid, stat in stats if stat is not None}


def tree(roots: Iterable[Pid], table: Mapping[int, Stat], boot: str) -> set[Pid]:
    """Return all living members of the roots' sessions with all their descendants."""
    true_roots = {root.pid for root in roots if root.boot_id == boot and _fits(root, table)}
    found = {pid for pid, stat in table.items() if pid in true_roots or stat.session in true_roots}
    return _with_descendants(found, table, boot)


def leftovers(root: Pid, table: Mapping[int, Stat], boot: str) -> set[Pid]:
    """Return who is still in the session of a command that has just ended.

    A number is not given out again while a session is named by it, so this is
    right at the moment of the end and may be wrong at any later one.
    """
    if root.boot_id != boot or (root.pid in table and not _fits(root, table)):
        return set()
    found = {
        pid
        for pid, stat in table.items()
        if stat.session == root.pid and pid != root.pid and stat.start_ticks >= root.start_ticks
    }
    return _with_descendants(found, table, boot)


def living(processes: Iterable[Pid], table: Mapping[int, Stat]) -> set[Pid]:
    """Return those of these processes that are still there."""
    return {process for process in processes if _fits(process, table)}


def _fits(process: Pid, table: Mapping[int, Stat]) -> bool:
    stat = table.get(process.pid)
    return stat is not None and stat.start_ticks == process.start_ticks


def _with_descendants(found: set[int], table: Mapping[int, Stat], boot: str) -> set[Pid]:
    children: dict[int, list[int]] = {}
    for pid, stat in table.items():
        children.setdefault(stat.parent, []).append(pid)
    found, todo = set(found), list(found)
    while todo:
        for pid in children.get(todo.pop(), ()):
            if pid not in found:
                found.add(pid)
                todo.append(pid)
    return {Pid(pid, table[pid].start_ticks, boot) for pid in found if table[pid].state != "Z"}


def wake(process: Pid) -> None:
    """Let a process go on that somebody has stopped; nothing happens where nobody did."""
    stat = read_stat(process.pid)
    if stat is not None and stat.state == "T":
        send(process, signal.SIGCONT)


def send(process: Pid, number: int) -> None:
    """Signal exactly this process; nothing happens when it is gone.

    A set-uid program that we may not signal is left alone: that it still runs
    is seen by whoever waits for its end.
    """
    fd = open_process(process)
    if fd is None:
        return
    try:
        with suppress(ProcessLookupError, PermissionError):
            signal.pidfd_send_signal(fd, number)
    finally:
        os.close(fd)
