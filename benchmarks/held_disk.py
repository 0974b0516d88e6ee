"""A disk that is no faster than said, for whoever has one that is faster than most.

Covers: unbuffered access of this process, through a control group of version 1 (root only).
Does not cover: what the kernel writes back for others; bursts, which the kernel lets pass for some 30 ms.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.groups import limited

__all__ = ["held_disk"]


@contextmanager
def held_disk(folder: Path, bytes_per_s: float) -> Iterator[None]:
    """Read and write no faster on the disk of `folder`; raises OSError where groups cannot be made."""
    limit = f"{_disk_of(folder)} {int(bytes_per_s)}"
    limits = {f"blkio.throttle.{way}_bps_device": limit for way in ("read", "write")}
    with limited("held", "blkio", limits) as group:
        (group / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")
        try:
            yield
        finally:
            (group.parent / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")


def _disk_of(folder: Path) -> str:
    """The numbers of the whole disk, which alone can be held."""
    number = folder.stat().st_dev
    place = Path("/sys/dev/block", f"{os.major(number)}:{os.minor(number)}").resolve(strict=True)
    if (place / "partition").exists():
        place = place.parent
    return (place / "dev").read_text(encoding="ascii").strip()
