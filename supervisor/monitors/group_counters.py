"""What the kernel counts in the control group of a job's present start, where it has one. Versions 1 and 2.

Covers: finding the group by the job's process, and its counters.
Does not cover: what the processes of a job are (processes.py), which knows of those outside of it as well.

A group counts what is over, too: the CPU time of processes that lived between two looks at /proc, or that
nobody waited for. A counter that is not there, or holds something else, is no reading and no error: which
there are depends on the kernel, its controllers and the version.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from supervisor.core.jobs.job import Pid
from supervisor.core.readings.sample import Totals
from supervisor.system.cgroups import Group, named_groups
from supervisor.system.marks import Marks, names_of_groups

__all__ = ["GroupCounters", "GroupUse"]

#: So much of a file is read: what is longer is none of these.
_MOST_BYTES: Final = 1 << 16
#: No counter of the kernel is larger; what is, cannot be stored.
_LARGEST: Final = (1 << 63) - 1


class GroupUse(NamedTuple):
    """What a group holds at one moment."""

    #: Memory without pages of files, each page once; None: it is not counted here.
    memory_bytes: int | None
    totals: Totals


class GroupCounters:
    """For one thread; 40 to 70 us a job that has a group."""

    def __init__(self, jobs: Path | None, *, proc: Path = Path("/proc")) -> None:
        """`jobs` is the folder that the names of groups go by; without one there are none."""
        self._proc = proc
        self._jobs = jobs
        self._marks = None if jobs is None else Marks(jobs, proc=proc)
        #: By the process that it was looked for with: a process stays in its group.
        self._known: dict[Pid, dict[str, Group]] = {}

    def read(self, processes: Mapping[str, Pid]) -> dict[str, GroupUse]:
        """Return what the groups of these jobs hold, of those that have one."""
        wanted = set(processes.values())
        self._known = {one: groups for one, groups in self._known.items() if one in wanted}
        found = {}
        for job, process in processes.items():
            if process not in self._known:
                self._known[process] = self._find(job, process)
            if groups := self._known[process]:
                found[job] = _use(groups)
        return found

    def _find(self, job: str, process: Pid) -> dict[str, Group]:
        if self._marks is None or self._jobs is None:
            return {}
        start = self._marks.group_of(process.pid)
        if start is None or start.job != job:
            return {}
        return named_groups(process.pid, names_of_groups(self._jobs, start), proc=self._proc)


def _use(groups: Mapping[str, Group]) -> GroupUse:
    second = groups.get("")
    accounts, memory, disks = (groups.get(name) for name in ("cpuacct", "memory", "blkio"))
    cpu_s = peak = held = read = written = None
    if accounts is not None:
        cpu_s = _scaled(_number(_text(accounts.folder / "cpuacct.usage")), 1e9)
    elif second is not None:
        cpu_s = _scaled(_lines(second.folder / "cpu.stat").get("usage_usec"), 1e6)
    if memory is not None:
        peak = _number(_text(memory.folder / "memory.max_usage_in_bytes"))
        held = _sum(_lines(memory.folder / "memory.stat"), "total_rss", "total_shmem")
    elif second is not None:
        peak = _number(_text(second.folder / "memory.peak"))
        held = _sum(_lines(second.folder / "memory.stat"), "anon", "shmem")
    if disks is not None:
        read, written = _first_version_of_io(_text(disks.folder / "blkio.throttle.io_service_bytes"))
    elif second is not None:
        read, written = _second_version_of_io(_text(second.folder / "io.stat"))
    return GroupUse(held, Totals(cpu_s=cpu_s, peak_bytes=peak, read_bytes=read, written_bytes=written))


def _first_version_of_io(text: str) -> tuple[int | None, int | None]:
    """Return bytes read and written, of lines like `8:0 Read 4096`."""
    rows = [words for words in map(str.split, text.splitlines()) if len(words) == 3]
    return _column(rows, "Read"), _column(rows, "Write")


def _column(rows: list[list[str]], word: str) -> int | None:
    found = [number for _, name, value in rows if name == word and (number := _number(value)) is not None]
    return min(sum(found), _LARGEST) if found else None


def _second_version_of_io(text: str) -> tuple[int | None, int | None]:
    """Return bytes read and written, of lines like `8:0 rbytes=4096 wbytes=0 rios=1`."""
    pairs = [word.partition("=") for line in text.splitlines() for word in line.split()[1:]]
    rows = [["", name, value] for name, _, value in pairs]
    return _column(rows, "rbytes"), _column(rows, "wbytes")


def _lines(path: Path) -> dict[str, int]:
    """Return the numbers of a file with a name and a number in each line."""
    pairs = [words for words in map(str.split, _text(path).splitlines()) if len(words) == 2]
    return {name: number for name, value in pairs if (number := _number(value)) is not None}


def _sum(numbers: Mapping[str, int], first: str, *more: str) -> int | None:
    """Return the first of these with the others, as far as those are there."""
    if first not in numbers:
        return None
    return min(numbers[first] + sum(numbers.get(name, 0) for name in more), _LARGEST)


def _scaled(number: int | None, units: float) -> float | None:
    return None if number is None else number / units


def _number(text: str) -> int | None:
    digits = text.strip()
    if not (digits.isascii() and digits.isdigit() and len(digits) < 20):
        return None
    number = int(digits)
    return number if number <= _LARGEST else None


def _text(path: Path) -> str:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return ""
    try:
        return os.read(fd, _MOST_BYTES).decode("ascii", "replace")
    except OSError:
        return ""
    finally:
        os.close(fd)
