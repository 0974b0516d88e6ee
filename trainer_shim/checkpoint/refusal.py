"""What the file system said, in words, with the next thing to do.

Covers: OSError to CannotSave. Does not cover: when one is raised.
"""

from __future__ import annotations

import errno
from pathlib import Path

from trainer_shim.errors import CannotSave
from trainer_shim.safe_files import Unsafe
from trainer_shim.units import format_bytes

__all__ = ["cannot", "no_room"]

_SPACE = "free some space there, or keep fewer checkpoints; the older checkpoints are untouched"
_RIGHTS = "look at owner and mode of the folder with `ls -ld`; the job's user must own it"
_DISK = "look at the kernel log (`dmesg`) and at the disk's health; the older checkpoints are untouched"
_FOLDER = "look at what took its place; the next save makes a folder that is missing anew"
_WORDS = {
    errno.ENOSPC: ("the disk is full", _SPACE),
    errno.EDQUOT: ("the disk quota is used up", _SPACE),
    errno.EFBIG: ("the file would be larger than this process may write", "look at `ulimit -f`"),
    errno.EROFS: ("the file system is read-only", _DISK),
    errno.EIO: ("the disk reports an input/output error", _DISK),
    errno.EACCES: ("permission denied", _RIGHTS),
    errno.EPERM: ("operation not permitted", _RIGHTS),
    errno.ENOENT: ("the folder is gone", _FOLDER),
    errno.ENOTDIR: ("it is not a folder", _FOLDER),
    errno.EEXIST: ("it is not a folder", _FOLDER),
    errno.ESTALE: ("the folder is gone", _FOLDER),
    errno.EMFILE: ("this process has too many open files", "look at `ulimit -n`"),
    errno.ENFILE: ("the machine has too many open files", "look at `sysctl fs.file-nr`"),
}


def cannot(what: str, root: Path, error: OSError) -> CannotSave:
    """The error for a script: what could not be done in `root`, and why."""
    if isinstance(error, Unsafe):
        return CannotSave(f"cannot {what} in `{root}`: {error.strerror}", hint=error.hint)
    words, hint = _WORDS.get(error.errno or 0, (error.strerror or str(error), _DISK))
    return CannotSave(f"cannot {what} in `{root}`: {words}", hint=hint)


def no_room(step: int, root: Path, *, need_bytes: int, free_bytes: int) -> CannotSave:
    """The error for a save that was not even begun."""
    amounts = f"it needs {format_bytes(need_bytes)}, {format_bytes(free_bytes)} are free"
    return CannotSave(f"cannot save step {step} in `{root}`: the disk is too full, {amounts}", hint=_SPACE)
