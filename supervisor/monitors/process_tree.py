"""What one process and all its descendants use: CPU seconds, memory, how many they are.

Covers: walking one tree down from its root. Linux only.
Does not cover: the rest of the machine (other processes are never looked at,
which is what makes this cheap), processes that left the tree by losing their
parent.

A child is found through its parent and read after it: a child that is waited
for in between is missed for one reading and never counted twice.
"""

# A Path for each file of /proc costs more than reading it.
# ruff: noqa: PTH123, PTH208
from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from supervisor.core.job import Pid

__all__ = ["ProcessTree", "Usage", "cpu_percent"]

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Usage(msgspec.Struct, frozen=True):
    """What a tree of processes has used up and holds at one moment."""

    #: Of the living and of those they have waited for.
    cpu_s: float
    rss_bytes: int
    num_processes: int


class _Stat(NamedTuple):
    state: str
    parent: int
    cpu_ticks: int
    start_ticks: int
    rss_pages: int


def cpu_percent(previous: Usage, current: Usage, dt_s: float) -> float:
    """Return the CPU use between two readings; 100 is one CPU fully used."""
    if dt_s <= 0:
        return 0.0
    return max(0.0, 100 * (current.cpu_s - previous.cpu_s) / dt_s)


class ProcessTree:
    """One root, read as often as wanted by one thread; costs some 20 us a process."""

    def __init__(self, root: Pid, *, proc: Path = Path("/proc")) -> None:
        self._root = root
        self._proc = str(proc)
        boot_id = (proc / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        self._is_this_boot = boot_id == root.boot_id
        self._last_cpu_s = 0.0

    def read(self) -> Usage | None:
        """Return what the tree uses now; None when its root has ended."""
        root = self._stat(self._root.pid)
        if (
            root is None
            or not self._is_this_boot
            or root.start_ticks != self._root.start_ticks
            or root.state in "ZX"
        ):
            return None
        cpu_ticks = rss_pages = num_processes = 0
        todo = [(self._root.pid, root)]
        while todo:
            pid, stat = todo.pop()
            cpu_ticks += stat.cpu_ticks
            rss_pages += stat.rss_pages
            num_processes += stat.state not in "ZX"
            for child in self._children(pid):
                found = self._stat(child)
                # Another parent: the number was given to somebody else since the list was made.
                if found is not None and found.parent == pid:
                    todo.append((child, found))
        # A child that nobody waits for takes its time with it, and one that is waited for
        # during the walk is missed once. Time that was used does not become less by that.
        self._last_cpu_s = max(self._last_cpu_s, cpu_ticks / _TICKS_PER_S)
        return Usage(self._last_cpu_s, rss_pages * _PAGE_BYTES, num_processes)

    def _stat(self, pid: int) -> _Stat | None:
        text = self._text(f"{self._proc}/{pid}/stat")
        return _parse(text) if text else None

    def _children(self, pid: int) -> list[int]:
        found: list[int] = []
        with suppress(FileNotFoundError, ProcessLookupError):
            for task in os.listdir(f"{self._proc}/{pid}/task"):
                found += map(int, self._text(f"{self._proc}/{pid}/task/{task}/children").split())
        return found

    def _text(self, path: str) -> bytes:
        """Return what a file of /proc says; nothing when its process is gone."""
        with suppress(FileNotFoundError, ProcessLookupError), open(path, "rb", buffering=0) as file:
            return file.readall()
        return b""


def _parse(text: bytes) -> _Stat:
    """Return the fields behind the name, which may itself hold spaces and parentheses."""
    fields = text[text.rindex(b")") + 1 :].split()
    return _Stat(
        state=fields[0].decode(),
        parent=int(fields[1]),
        # utime, stime, cutime, cstime: with the children's time, nothing is lost when one is waited for.
        cpu_ticks=sum(map(int, fields[11:15])),
        start_ticks=int(fields[19]),
        rss_pages=int(fields[21]),
    )
