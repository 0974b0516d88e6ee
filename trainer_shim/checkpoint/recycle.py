"""The files of a retired checkpoint, overwritten by the next save.

Covers: which folder is the spare one, and whether a file in it may be
overwritten.
Does not cover: which checkpoints retire (retention.py), the writing.

Blocks that are there already are written a quarter faster than new ones, and
nothing has to be freed. A spare is a checkpoint that retention gave up: it
lost its name, and that is on the disk, before any byte of it changes. So it
costs no checkpoint, only its room: one more than are kept.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
from pathlib import Path

from trainer_shim.checkpoint.layout import is_doomed, is_tensors

__all__ = ["find", "size", "take"]


def find(root: Path) -> Path | None:
    """A folder under `root` that was given up and still has something to overwrite."""
    found = (path for path in sorted(root.iterdir()) if is_doomed(path.name) and not path.is_symlink())
    return next((path for path in found if path.is_dir() and _has_tensors(path)), None)


def _has_tensors(folder: Path) -> bool:
    return any(is_tensors(path.name) for path in folder.iterdir())


def size(spare: Path, file_name: str) -> int:
    """How many bytes of a file in the spare folder can be overwritten."""
    try:
        there = (spare / file_name).lstat()
    except OSError:
        return 0
    return there.st_size if _is_ours_alone(there) else 0


def take(spare: Path, file_name: str, target: Path) -> bool:
    """Move a file of the spare folder to `target`, unless anybody could still need its bytes."""
    source = spare / file_name
    try:
        if not _is_ours_alone(source.lstat()):
            return False
        source.rename(target)
    except OSError:
        return False
    # Looked at under its new name, under which nobody else can find it any more.
    if _nobody_reads(target):
        return True
    target.unlink()
    return False


def _nobody_reads(path: Path) -> bool:
    """Whether no other name, open file or mapping leads to the file."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        if not _is_ours_alone(os.fstat(descriptor)):
            return False
        # The kernel grants a write lease only on a file that nobody else has open. Should somebody open it
        # right now, it tells us by a signal; the usual one would end the process, this one is ignored.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        # In use; or a file system without leases, where nobody can tell.
        if error.errno in (errno.EAGAIN, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOLCK, errno.EACCES):
            return False
        raise
    finally:
        os.close(descriptor)
    return True


def _is_ours_alone(there: os.stat_result) -> bool:
    """Whether it is a plain file of this user without a second name, as backups have."""
    return stat.S_ISREG(there.st_mode) and there.st_nlink == 1 and there.st_uid == os.geteuid()
