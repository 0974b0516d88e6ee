"""Control groups, and where their files are. Versions 1 and 2.

Covers: finding the groups of a controller from our own up to the highest that
we see, and the limits on memory and CPU that hold there; where groups could be made; the groups of
another process by their name, and whose one is; which limits systemd can keep.
Does not cover: what is used (monitors/), groups that we make (launcher/).
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

__all__ = [
    "CpuGroup",
    "Group",
    "MemoryGroup",
    "cpu_groups",
    "group_owner",
    "limits_of_units",
    "memory_folder",
    "memory_groups",
    "named_groups",
    "own_groups",
]

#: Where systemd runs the manager of a user, below its root.
_MANAGER_OF_USER: Final = "user.slice/user-{0}.slice/user@{0}.service"

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


class Group(msgspec.Struct, frozen=True):
    """The files of one group in one hierarchy."""

    version: int
    folder: Path


class _Mount(msgspec.Struct, frozen=True):
    """A hierarchy as it is mounted for us; version 2 has the one controller ""."""

    version: int
    folder: Path
    #: The group that its folder shows.
    root: str
    controllers: tuple[str, ...]


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


def named_groups(pid: int, names: Collection[str], *, proc: Path = Path("/proc")) -> dict[str, Group]:
    """Return the groups of these names that a process is in, by controller: "" is that of version 2."""
    paths, found = _paths(proc, str(pid)), dict[str, Group]()
    for mount in _mounts(proc):
        for controller in mount.controllers:
            parts = paths.get(controller, "").split("/")
            # It may be in a group below, that it made itself.
            at = next((number for number, part in enumerate(parts) if part in names), None)
            folder = _inside(mount.folder, mount.root, "/".join(parts[: at + 1])) if at is not None else None
            if folder is not None:
                found.setdefault(controller, Group(mount.version, folder))
    return found


def group_owner(line: str, *, proc: Path = Path("/proc")) -> int | None:
    """Return who owns the group that a line of /proc/PID/cgroup names; None where it is not to be seen."""
    number, _, rest = line.partition(":")
    names, _, path = rest.partition(":")
    controllers = {""} if number == "0" else set(names.split(","))
    for mount in _mounts(proc):
        folder = (
            None if controllers.isdisjoint(mount.controllers) else _inside(mount.folder, mount.root, path)
        )
        if folder is not None:
            with suppress(OSError):
                return folder.stat().st_uid
    return None


def limits_of_units(uid: int, *, proc: Path = Path("/proc")) -> frozenset[str]:
    """Return what systemd can limit in units of the system (user 0) or of a user: "cpu", "memory".

    It takes any limit, and says nothing where there is no controller to keep it.
    """
    return frozenset(name for name in ("cpu", "memory") if _limits(_place(proc, name), name, uid))


def _limits(place: _Place | None, controller: str, uid: int) -> bool:
    if place is None or place.version == 1:
        # In version 1 users are handed none.
        return place is not None and uid == 0
    top = place.mount / _MANAGER_OF_USER.format(uid) if uid else place.mount
    return controller in _text(top / "cgroup.controllers").split()


def _paths(proc: Path, pid: str) -> dict[str, str]:
    """Return the group of a process for each controller; that of version 2 for ""."""
    paths = {}
    for line in _text(proc / pid / "cgroup").splitlines():
        number, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        for name in names.split(",") if number != "0" else [""]:
            paths[name] = path
    return paths


def _mounts(proc: Path) -> Iterator[_Mount]:
    for line in _text(proc / "self/mountinfo").splitlines():
        left, _, right = line.partition(" - ")
        fields, kind = left.split(), right.split()
        if len(fields) < 5 or len(kind) < 3 or kind[0] not in ("cgroup", "cgroup2"):
            continue
        is_first = kind[0] == "cgroup"
        controllers = tuple(kind[2].split(",")) if is_first else ("",)
        yield _Mount(1 if is_first else 2, Path(_unescaped(fields[4])), fields[3], controllers)


def _place(proc: Path, controller: str) -> _Place | None:
    """Return where our group of a controller is; where both versions are mounted, version 1 has it or not."""
    paths = _paths(proc, "self")
    # Of `""` too, which asks for version 2.
    is_first = bool(controller) and controller in paths
    for mount in _mounts(proc):
        if mount.version == 1 and is_first and controller in mount.controllers:
            return _Place(1, mount.folder, _below(mount.folder, mount.root, paths[controller]))
        if mount.version == 2 and not is_first and "" in paths:
            return _Place(2, mount.folder, _below(mount.folder, mount.root, paths[""]))
    return None


def _below(mount: Path, root: str, path: str) -> Path:
    """Return the folder of our group; in a container the mount shows only what lies below `root`."""
    return _inside(mount, root, path) or mount


def _inside(mount: Path, root: str, path: str) -> Path | None:
    """Return the folder of a group; None where the mount does not show it."""
    inner = os.path.relpath(path, root) if root != "/" else path.lstrip("/")
    folder = mount / inner
    return folder if ".." not in folder.parts and folder.is_dir() else None


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
