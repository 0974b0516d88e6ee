"""What the machine as a whole uses: CPU, memory, swap, load.

Covers: the CPUs and the memory that we may use, which a control group around us
may make less than those of the machine.
Does not cover: whose use it is (processes.py, snapshot.py), pressure, sensors.

CPU time in /proc/stat is counted in ticks of 10 ms, and so is that of each
process: between two readings 1 s apart the difference of the two is off by up
to 1 % of a CPU for the machine and for each busy process of ours.

The kernel puts freed pages on a list of each CPU first, and MemAvailable leaves
those out. Since Linux 6.7 the lists may grow to an eighth of the memory, and they
shrink over minutes: half a GiB that was taken or given back did not show on a
machine with 24. So they are added; the kernel empties them before it gives up.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final, NamedTuple

from supervisor.core.readings.sample import Missing, Reading
from supervisor.monitors.files import KeptFile, attempt
from supervisor.system.cgroups import CpuGroup, MemoryGroup, cpu_groups, memory_groups

__all__ = ["Cpu", "CpuReading", "HostMemory", "MemoryReading", "load_1min"]

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
#: Limits change seldom.
_LIMITS_S: Final = 10.0
#: Fields of a line of /proc/stat: user, nice, system, idle, iowait, irq, softirq. The time that the
#: machine below us took (steal) is nobody's here, guests are in `user` already.
_BUSY_FIELDS: Final = (1, 2, 3, 6, 7)
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
#: Pages on the list of one CPU, in /proc/zoneinfo.
_LISTED: Final = re.compile(r"\n +count: +(\d+)\n")


class CpuReading(NamedTuple):
    """CPU use since the reading before."""

    num_cpus: float
    #: Of all these CPUs.
    pct: Reading


class Cpu:
    """For one thread."""

    def __init__(
        self,
        *,
        proc: Path = Path("/proc"),
        affinity: Callable[[], Collection[int]] = lambda: os.sched_getaffinity(0),
    ) -> None:
        self._proc = proc
        self._affinity = affinity
        self._stat = KeptFile(str(proc / "stat"))
        self._group: CpuGroup | None = None
        self._group_usage: KeptFile | None = None
        self._looked_at = float("-inf")
        #: What was busy, in seconds, when, and what it was measured of.
        self._before: tuple[float, float, object] | None = None

    def read(self, *, at: float) -> CpuReading:
        """Return how busy our CPUs were since the last call."""
        mine = self._affinity()
        if at - self._looked_at >= _LIMITS_S:
            self._looked_at = at
            self._look_at_limits()
        num_cpus: float = max(1, len(mine))
        limited = self._group if self._group is not None and self._group.cpus < num_cpus else None
        if limited is not None:
            num_cpus = limited.cpus
        scope: object = limited or frozenset(mine)
        busy_s = attempt(
            str(limited.usage if limited else self._stat.path),
            lambda: self._group_busy_s() if limited else _busy_s(self._stat.read(), mine),
        )
        if isinstance(busy_s, Missing):
            self._before = None
            return CpuReading(num_cpus, busy_s)
        before, self._before = self._before, (busy_s, at, scope)
        if before is None or before[2] != scope or at <= before[1]:
            return CpuReading(num_cpus, Missing("it takes two readings"))
        pct = 100 * (busy_s - before[0]) / (at - before[1]) / num_cpus
        return CpuReading(num_cpus, min(100.0, max(0.0, pct)))

    def close(self) -> None:
        """Let go of the files."""
        self._stat.close()
        if self._group_usage is not None:
            self._group_usage.close()

    def _look_at_limits(self) -> None:
        groups = cpu_groups(proc=self._proc)
        group = min(groups, key=lambda one: one.cpus, default=None)
        if group != self._group:
            if self._group_usage is not None:
                self._group_usage.close()
            self._group = group
            self._group_usage = KeptFile(str(group.usage)) if group else None

    def _group_busy_s(self) -> float:
        assert self._group is not None
        assert self._group_usage is not None
        text = self._group_usage.read()
        if self._group.version == 1:
            return int(text) / 1e9
        return _fields(text)["usage_usec"] / 1e6


def _busy_s(stat: str, mine: Collection[int]) -> float:
    """Return the busy time of these CPUs since the start of the machine."""
    busy_ticks = 0
    seen = 0
    for line in stat.splitlines():
        if not line.startswith("cpu"):
            break
        fields = line.split()
        if fields[0] != "cpu" and int(fields[0][3:]) in mine:
            busy_ticks += sum(int(fields[number]) for number in _BUSY_FIELDS)
            seen += 1
    if not seen:
        raise ValueError(stat[:80])
    return busy_ticks / _TICKS_PER_S


class MemoryReading(NamedTuple):
    """What there is and what is left."""

    total_bytes: Reading
    available_bytes: Reading
    swap_total_bytes: Reading
    swap_used_bytes: Reading


class HostMemory:
    """For one thread."""

    def __init__(self, *, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._meminfo = KeptFile(str(proc / "meminfo"))
        self._zoneinfo = KeptFile(str(proc / "zoneinfo"))
        self._groups: list[tuple[MemoryGroup, KeptFile, KeptFile]] = []
        self._looked_at = float("-inf")

    @property
    def groups(self) -> list[MemoryGroup]:
        """The groups around us that limit memory, as of the last reading."""
        return [group for group, _, _ in self._groups]

    def read(self, *, at: float) -> MemoryReading:
        """Return the memory of the machine, or of the narrowest group around us."""
        info = attempt(self._meminfo.path, lambda: _meminfo(self._meminfo.read()))
        if isinstance(info, Missing):
            return MemoryReading(info, info, info, info)
        total = info["MemTotal"]
        available = min(total, info["MemAvailable"] + self._listed_bytes())
        if at - self._looked_at >= _LIMITS_S:
            self._looked_at = at
            self._look_at_limits(total)
        for group, usage, stat in self._groups:
            left = attempt(str(group.folder), lambda g=group, u=usage, s=stat: _left(g, u, s))  # type: ignore[misc]
            if isinstance(left, Missing):
                return MemoryReading(left, left, info["SwapTotal"], info["SwapTotal"] - info["SwapFree"])
            total, available = min(total, group.limit_bytes), min(available, left)
        return MemoryReading(total, available, info["SwapTotal"], info["SwapTotal"] - info["SwapFree"])

    def close(self) -> None:
        """Let go of the files."""
        self._meminfo.close()
        self._zoneinfo.close()
        self._close_groups()

    def _listed_bytes(self) -> int:
        """Return what is free on the lists of the CPUs; 0 where the kernel does not tell."""
        try:
            return _PAGE_BYTES * sum(map(int, _LISTED.findall(self._zoneinfo.read())))
        except OSError:
            return 0

    def _look_at_limits(self, total_bytes: float) -> None:
        groups = [group for group in memory_groups(proc=self._proc) if group.limit_bytes < total_bytes]
        if groups == self.groups:
            return
        self._close_groups()
        for group in groups:
            name = "memory.current" if group.version == 2 else "memory.usage_in_bytes"
            files = (str(group.folder / name), str(group.folder / "memory.stat"))
            self._groups.append((group, KeptFile(files[0]), KeptFile(files[1])))

    def _close_groups(self) -> None:
        for _, usage, stat in self._groups:
            usage.close()
            stat.close()
        self._groups = []


def _meminfo(text: str) -> dict[str, float]:
    """Return the four lines that count, in bytes."""
    found = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name in ("MemTotal", "MemAvailable", "SwapTotal", "SwapFree"):
            found[name] = int(value.split()[0]) * 1024.0
    # All or none: a missing one raises.
    return {name: found[name] for name in ("MemTotal", "MemAvailable", "SwapTotal", "SwapFree")}


def _left(group: MemoryGroup, usage: KeptFile, stat: KeptFile) -> float:
    """Return what a group can still have: its limit, less what is used and cannot be dropped."""
    fields = _fields(stat.read())
    if group.version == 2:
        droppable = fields["inactive_file"] + fields["active_file"] + fields.get("slab_reclaimable", 0)
    else:
        droppable = fields["total_inactive_file"] + fields["total_active_file"]
    used = int(usage.read()) - droppable
    return max(0.0, group.limit_bytes - max(0.0, used))


def _fields(text: str) -> dict[str, float]:
    pairs = (line.split() for line in text.splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2}


def load_1min() -> Reading:
    """Return the load average of the last minute."""
    return attempt("the load average", lambda: os.getloadavg()[0])
