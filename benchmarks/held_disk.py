"""A disk that is no faster than said, for whoever has one that is faster than most.

Covers: unbuffered access of this process, through a control group of version 1 or 2 (root only).
Does not cover: what the kernel writes back for others, which version 1 does not hold.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.common import wait_for

__all__ = ["held_disk"]


@contextmanager
def held_disk(folder: Path, bytes_per_s: float) -> Iterator[None]:
    """Read and write no faster on the disk of `folder`; raises OSError where groups cannot be made."""
    disk, limit = _disk_of(folder), int(bytes_per_s)
    lines = Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines()
    own = {
        name: path for _, names, path in (line.split(":", 2) for line in lines) for name in names.split(",")
    }
    if "blkio" in own:
        parent = Path("/sys/fs/cgroup/blkio", own["blkio"].lstrip("/"))
        limits = {f"blkio.throttle.{way}_bps_device": f"{disk} {limit}" for way in ("read", "write")}
    else:
        parent = Path("/sys/fs/cgroup", own[""].lstrip("/"))
        limits = {"io.max": f"{disk} rbps={limit} wbps={limit}"}
    group = parent / f"ts-held-{os.getpid()}"
    group.mkdir()
    try:
        for name, text in limits.items():
            (group / name).write_text(text, encoding="ascii")
        (group / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")
        yield
    finally:
        (parent / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")
        wait_for(lambda: _is_removed(group), "the group to be empty")


def _disk_of(folder: Path) -> str:
    """The numbers of the whole disk, which alone can be held."""
    number = folder.stat().st_dev
    place = Path("/sys/dev/block", f"{os.major(number)}:{os.minor(number)}").resolve(strict=True)
    if (place / "partition").exists():
        place = place.parent
    return (place / "dev").read_text(encoding="ascii").strip()


def _is_removed(group: Path) -> bool:
    try:
        group.rmdir()
    except OSError:
        return False
    return True
