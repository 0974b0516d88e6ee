"""A lock that is a file: taken by one process at a time, with a line on who that is.

Covers: taking it, replacing a file that has a second name, telling its holder.
Does not cover: what is done under the lock.

The kernel drops the lock with its holder, however it dies; the file stays and means
nothing by itself. To give it back is to close the descriptor.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

from trainer_shim.safe_files import open_regular

__all__ = ["HeldLock", "take_lock"]

#: Enough to recognize a command, short enough for an error message.
_MAX_LINE_BYTES = 400

#: Others may take and replace it at the same moment, but not for ever.
_MAX_TRIES = 100


class HeldLock(BlockingIOError):
    """Another process has the lock; `holder` is its line, or "" where it left none that can be read."""

    def __init__(self, path: Path, holder: str) -> None:
        super().__init__(errno.EWOULDBLOCK, "another process has the lock", str(path))
        self.holder = holder


def take_lock(path: Path, line: str) -> int:
    """Return a descriptor that has the lock, with the line as the file's contents; closed by exec.

    Raises HeldLock, Unsafe for what is no file, and OSError where files cannot be locked. A file that has
    a second name is left as it is, because its contents belong to that name too; the lock gets a new one.
    """
    for _ in range(_MAX_TRIES):
        descriptor = open_regular(path, os.O_RDWR | os.O_CREAT)
        try:
            if _lock(descriptor, path):
                os.fchmod(descriptor, 0o600)
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, line.encode(errors="replace")[:_MAX_LINE_BYTES], 0)
                return descriptor
        except BaseException:
            os.close(descriptor)  # Whatever else fails: a lock kept by mistake would lock ourselves out.
            raise
        os.close(descriptor)
    raise OSError(errno.EBUSY, "it is replaced again and again", str(path))


def _lock(descriptor: int, path: Path) -> bool:
    """Lock it; False when it is not, or no longer, the file to lock."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise HeldLock(path, _line(descriptor)) from None
    try:
        is_there = os.path.samestat(path.lstat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
    if is_there and os.fstat(descriptor).st_nlink > 1:
        path.unlink()
        return False
    return is_there


def _line(descriptor: int) -> str:
    try:
        return os.pread(descriptor, _MAX_LINE_BYTES, 0).decode(errors="replace").strip()
    except OSError:
        return ""
