"""One writer per folder.

Covers: taking and giving back the lock, naming its holder.
Does not cover: the lock file itself (lock_file.py), anything under the lock.

A forked child (a data-loader worker) inherits the descriptor and would keep the
folder locked after its parent's death, so each child closes it at birth.
"""

from __future__ import annotations

import os
import sys
import weakref
from contextlib import suppress
from functools import cache
from pathlib import Path

from trainer_shim.errors import FolderInUse
from trainer_shim.lock_file import HeldLock, take_lock

__all__ = ["FolderLock"]


class FolderLock:
    """Held from `take()` to `give_back()` by this process; not by its children."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    @property
    def is_held(self) -> bool:
        """Whether this process holds it, and the file is still the one that others would try.

        Raises OSError where nobody can tell.
        """
        if self._descriptor is None:
            return False
        try:
            there = self._path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        return os.path.samestat(there, os.fstat(self._descriptor))

    @property
    def device(self) -> int | None:
        """The file system that the locked file lies on; None while nothing is locked."""
        return None if self._descriptor is None else os.fstat(self._descriptor).st_dev

    def take(self) -> None:
        """Take it, or raise FolderInUse with its holder; raises OSError where files cannot be locked."""
        try:
            self._descriptor = take_lock(self._path, _own_line())
        except HeldLock as held:
            raise _in_use(self._path.parent, held.holder) from None
        _watch_forks()
        _HELD.add(self)

    def give_back(self) -> None:
        """Let others in; may be repeated."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with suppress(
                OSError
            ):  # A disk that could not keep the name in it; the lock is gone all the same.
                os.close(descriptor)


_HELD: weakref.WeakSet[FolderLock] = weakref.WeakSet()


@cache
def _watch_forks() -> None:
    """Make every child of this process close its copies; closing a copy does not unlock."""
    os.register_at_fork(after_in_child=_close_all)


def _close_all() -> None:
    for lock in list(_HELD):
        lock.give_back()


def _own_line() -> str:
    import shlex

    command = " ".join(shlex.join(sys.orig_argv).split())  # One line, also for `python -c`.
    return f"pid {os.getpid()} on `{os.uname().nodename}`: {command}"


def _in_use(folder: Path, holder: str) -> FolderInUse:
    return FolderInUse(
        f"cannot use the checkpoint folder `{folder}`: it is in use by {holder or 'another process'}",
        hint="wait for that process or stop it, or give this run a checkpoint folder of its own",
    )
