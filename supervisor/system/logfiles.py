"""The output of a job on disk: `log`, which its processes write, and the older `log.1`, `log.2`, ...

Covers: which older files are there, finding a log whose name was taken away while a process writes it.
Does not cover: making them (rotation.py), reading them (cli/output/tail.py).

A higher number is older. `log.0` is what the daemon is about to make `log.1` of: whole once `log` is cut.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Final, NamedTuple

__all__ = ["STAGED", "Away", "FileId", "numbered", "older_numbers", "open_away"]

#: The number of the copy that is being made.
STAGED: Final = 0

_DELETED: Final = " (deleted)"


class FileId(NamedTuple):
    """One file, whatever it is called; the time tells it from a later one with the same number."""

    device: int
    inode: int
    mtime_ns: int = 0

    @classmethod
    def of(cls, info: os.stat_result) -> FileId:
        """Return the one of a log, which is written meanwhile, so that its time does not count."""
        return cls(info.st_dev, info.st_ino)

    @classmethod
    def of_older(cls, info: os.stat_result) -> FileId:
        """Return the one of a file that is not written any more."""
        return cls(info.st_dev, info.st_ino, info.st_mtime_ns)


class Away(NamedTuple):
    """The file that a process of a job writes instead of the one under the log's name."""

    #: Its open descriptor; whoever asked closes it.
    fd: int
    #: What it is called now; "": it was deleted.
    name: str


def numbered(name: str, number: int) -> str:
    """Return the name of an older file beside a log of that name."""
    return f"{name}.{number}"


def older_numbers(log: Path) -> list[int]:
    """Return the numbers of the older files that are there, the oldest first."""
    pattern = re.compile(re.escape(log.name) + r"\.(0|[1-9]\d{0,5})")
    try:
        found = [pattern.fullmatch(name) for name in os.listdir(log.parent)]  # noqa: PTH208  # names are enough
    except OSError:
        return []
    return sorted((int(match[1]) for match in found if match), reverse=True)


def open_away(log: Path, pid: int, flags: int) -> Away | None:
    """Open what a process has as its output, where that is the job's log but not under its name any more.

    The log it is while it lies in the job's own folder, or lay there when it was deleted: nothing else
    in there is anybody's output. One that was moved to another folder is not found.
    """
    folder = os.path.realpath(log.parent)
    for number in (1, 2):
        link = f"/proc/{pid}/fd/{number}"
        try:
            target = os.readlink(link)  # noqa: PTH115  # a Path would lose what is behind the name
            info = os.stat(link)  # noqa: PTH116
            is_log = os.path.dirname(target) == folder and stat.S_ISREG(info.st_mode)  # noqa: PTH120
            if not is_log or _is_under_name(log, info):
                continue
            fd = os.open(link, flags | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        except OSError:  # It is gone, or another user's.
            continue
        if FileId.of(os.fstat(fd)) != FileId.of(info):
            os.close(fd)
            continue
        return Away(fd, "" if target.endswith(_DELETED) and not info.st_nlink else target)
    return None


def _is_under_name(log: Path, info: os.stat_result) -> bool:
    try:
        return FileId.of(log.lstat()) == FileId.of(info)
    except OSError:
        return False
