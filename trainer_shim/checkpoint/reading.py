"""Who reads a checkpoint, and whoever wants to remove it.

Covers: a shared lock for readers, an exclusive one for removers.
Does not cover: reading (reader.py), removing (removal.py).

The locks lie on the checkpoint's own folder, by flock(2), so they end with
their holder however it dies. A file system without them (or with ones that
need more rights, as NFS) changes nothing: there a reader whose files vanish
says so, as anywhere.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from trainer_shim.errors import CannotRestore

__all__ = ["alone", "is_read", "reading"]


@contextmanager
def reading(folder: Path) -> Iterator[None]:
    """While inside, nobody removes the checkpoint; raises CannotRestore when somebody is about to."""
    gone = CannotRestore(
        f"cannot read the checkpoint `{folder}`: it was just removed",
        hint="look again at which checkpoints there are; pin one to keep it",
    )
    try:
        at = _open(folder)
    except OSError as error:
        reason = CannotRestore(
            f"cannot read the checkpoint `{folder}`: {error.strerror}", hint="look at it with `ls -ld`"
        )
        raise reason from error
    try:
        # It is waited for: a remover has the other kind for as long as a rename takes. Then the lock may have
        # been had on a folder that has lost its name.
        if not _locked(at, fcntl.LOCK_SH) or not _is_still(at, folder):
            raise gone
        yield
    finally:
        _close(at)


@contextmanager
def alone(folder: Path) -> Iterator[bool]:
    """Say whether nobody reads the checkpoint; if so, nobody begins to while inside. Raises OSError."""
    at = _open(folder)
    try:
        yield _locked(at, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        _close(at)


def is_read(folder: Path) -> bool:
    """Say whether somebody reads the checkpoint just now; for people."""
    try:
        with alone(folder) as is_alone:
            return not is_alone
    except OSError:
        return False


def _open(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)


def _close(at: int) -> None:
    # A child that was forked meanwhile has the lock too, until it is given back in so many words.
    with suppress(OSError):
        fcntl.flock(at, fcntl.LOCK_UN)
    os.close(at)


def _locked(at: int, kind: int) -> bool:
    """Whether the lock was had, or there are none here."""
    try:
        fcntl.flock(at, kind)
    except OSError as error:
        return error.errno != errno.EWOULDBLOCK
    return True


def _is_still(at: int, folder: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(at), folder.lstat())
    except OSError:
        return False
