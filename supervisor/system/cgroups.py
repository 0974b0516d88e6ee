"""The limits of the control group that this process lives in, and where its files are. Versions 1 and 2.

Covers: finding the groups of a controller from our own up to the highest that
we see, and the limits on memory and CPU that hold there; where groups could be made.
Does not cover: what is used (monitors/), groups that we make (launcher/).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

__all__ = ["CpuGroup", "MemoryGroup", "cpu_groups", "memory_folder", "memory_groups", "own_groups"]

#: Version 1 says "no limit" with the greatest number of pages there is.
_NO_LIMIT_BYTES: Final = 1 << 60


class MemoryGroup(msgspec.Struct, frozen=True):
    """A group with a limit on memory: ours, or one around it."""

    folder: Path
    version: int
    limit_bytes: int


class CpuGroup(msgspec.Struct, frozen=True):
    """A group with a limit on CPU time: ours, or one around it."""

    folder: Path
    version: int
    #: CPUs that it may use all the time, also parts of one.
    cpus: float
    #: The file in which the kernel counts the CPU time that it used.
    usage: Path


class _Place(msgspec.Struct, frozen=True):
    """Where our group of one controller lies."""

    version: int
    mount: Path
    folder: Path

    def upwards(self) -> Iterator[Path]:
        """Yield our own group and all around it that we see."""
        yield self.folder
        if self.folder != self.mount:
            for folder in self.folder.parents:
                yield folder
                if folder == self.mount:
                    return


def own_groups(*, proc: Path = Path("/proc")) -> list[Path]:
    """Return our own group in version 2, and in a hierarchy of version 1 where a group limits nothing."""
    places = (_place(proc, ""), _place(proc, "freezer"))
    return list(dict.fromkeys(place.folder for place in places if place is not None))


def memory_folder(*, proc: Path = Path("/proc")) -> Path | None:
    """Return our own group of the controller of memory, limited or not."""
    place = _place(proc, "memory")
    return place.folder if place is not None else None


def memory_groups(*, proc: Path = Path("/proc")) -> list[MemoryGroup]:
    """Return the groups that limit our memory, ours first."""
    place = _place(proc, "memory")
    if place is None:
        return []
    found = []
    for folder in place.upwards():
        # Above memory.high a group is slowed down until it is hardly there: a limit like the other.
        names = ("memory.max", "memory.high") if place.version == 2 else ("memory.limit_in_bytes",)
        limit = min(_number(folder / name, float("inf")) for name in names)
        if limit < _NO_LIMIT_BYTES:
            found.append(MemoryGroup(folder, place.version, int(limit)))
    return found


def cpu_groups(*, proc: Path = Path("/proc")) -> list[CpuGroup]:
    """Return the groups that limit our CPU time, ours first."""
    place, accounts = _place(proc, "cpu"), _place(proc, "cpuacct")
    if place is None:
        return []
    found = []
    for folder in place.upwards():
        if place.version == 2:
            words = _text(folder / "cpu.max").split()
            quota = _float(words[0]) if words else None
            period = _float(words[1]) if len(words) > 1 else None
            usage = folder / "cpu.stat"
        else:
            quota = _number(folder / "cpu.cfs_quota_us", -1)
            period = _number(folder / "cpu.cfs_period_us", 0)
            root = accounts.mount if accounts else place.mount
            usage = root / folder.relative_to(place.mount) / "cpuacct.usage"
        if quota and period and quota > 0 and period > 0:
            found.append(CpuGroup(folder, place.version, quota / period, usage))
    return found


def _place(proc: Path, controller: str) -> _Place | None:
    """Return where our group of a controller is; where both versions are mounted, version 1 has it or not."""
    paths = {}
    for line in _text(proc / "self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        for name in names.split(",") if number != "0" else ["0"]:
            paths[name] = path
    for line in _text(proc / "self/mountinfo").splitlines():
        left, _, right = line.partition(" - ")
        fields, kind = left.split(), right.split()
        if len(fields) < 5 or len(kind) < 3:
            continue
        root, mount = fields[3], Path(_unescaped(fields[4]))
        if kind[0] == "cgroup" and controller in kind[2].split(",") and controller in paths:
            return _Place(1, mount, _below(mount, root, paths[controller]))
        if kind[0] == "cgroup2" and controller not in paths and "0" in paths:
            return _Place(2, mount, _below(mount, root, paths["0"]))
    return None


def _below(mount: Path, root: str, path: str) -> Path:
    """Return the folder of a group; in a container the mount shows only what lies below `root`."""
    inner = os.path.relpath(path, root) if root != "/" else path.lstrip("/")
    folder = mount / inner
    return folder if ".." not in folder.parts and folder.is_dir() else mount


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _number(path: Path, default: float) -> float:
    number = _float(_text(path).strip())
    return default if number is None else number


def _float(text: str) -> float | None:
    """Return a number; None for `max`, and for what is no number."""
    try:
        return float(text)
    except ValueError:
        return None


def _unescaped(path: str) -> str:
    """Return a path of mountinfo, where spaces are written as octal numbers."""
    return path.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
