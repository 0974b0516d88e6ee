"""Which of the programs that rules name run now, started by somebody else.

Covers: names as `ps -o comm` shows them; the kernel cuts them at 15 characters.
Does not cover: finding the processes (processes.py), command lines.

A process changes its name when it starts another program, mostly right after it
was made. So the young are asked at every look, and of the others a few, in turn.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from itertools import islice
from pathlib import Path

from supervisor.core.readings.sample import Missing
from supervisor.monitors.files import read_text

__all__ = ["Programs"]

_COMM_CHARS = 15
#: Looks after which a process is not young any more.
_YOUNG = 5
#: Of those that are not young, so many are asked again at each look.
_AT_ONCE = 64


class Programs:
    """For one thread; costs nothing while no program is asked for."""

    def __init__(self, *, proc: Path = Path("/proc")) -> None:
        self._proc = str(proc)
        #: As they were named, by what the kernel makes of it.
        self._wanted: dict[str, set[str]] = {}
        self._names: dict[int, str] = {}
        self._age: dict[int, int] = {}

    def watch(self, names: Collection[str]) -> bool:
        """Look for these from now on; say whether they are others than before."""
        wanted: dict[str, set[str]] = {}
        for name in names:
            wanted.setdefault(name[:_COMM_CHARS], set()).add(name)
        before, self._wanted = self._wanted, wanted
        return before != wanted

    def running(self, foreign: Mapping[int, str]) -> tuple[str, ...] | Missing:
        """Return which of the named run, given number and first name of all processes that are not ours."""
        if not self._wanted:
            self._names.clear()
            self._age.clear()
            return ()
        # The first process is somebody else's, and always there.
        if not os.access(f"{self._proc}/1/comm", os.R_OK):
            return Missing("/proc hides the processes of others (hidepid)")
        for pid in self._names.keys() - foreign.keys():
            del self._names[pid], self._age[pid]
        # At the first look all are asked once; most of them have been what they are for long.
        new_age = _YOUNG if not self._age else 0
        for pid, name in foreign.items():
            self._names.setdefault(pid, name)
            self._age[pid] = self._age.get(pid, new_age) + 1
        if new_age:
            for pid in foreign:
                self._ask(pid)
        # Who was asked longest ago stands in front: being asked moves one to the end.
        for pid in list(islice((pid for pid, age in self._age.items() if age > _YOUNG), _AT_ONCE)):
            self._age[pid] = self._age.pop(pid)
            self._ask(pid)
        for pid in [pid for pid, age in self._age.items() if age <= _YOUNG]:
            self._ask(pid)
        found = set(self._names.values()) & self._wanted.keys()
        return tuple(sorted(name for comm in found for name in self._wanted[comm]))

    def _ask(self, pid: int) -> None:
        try:
            self._names[pid] = read_text(f"{self._proc}/{pid}/comm").rstrip("\n")
        except OSError:
            # It is over; the next list lacks it.
            self._names[pid] = ""
