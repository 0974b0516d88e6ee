"""Marks beside the checkpoints that are to stay for ever.

Covers: making, reading and removing marks, and when a pin may be called done.
Does not cover: what heeds them (retention.py, removal.py).

`step-000001200.pin` lies beside the folder `step-000001200`, never in it: a
manifest lists every file of its folder. Pins are made by other processes than
the one that trains, which holds the folder's lock, so no lock protects them.
The order does: the remover looks for a mark after it has taken the
checkpoint's name away, and gives the name back if there is one; the pinner
looks for the checkpoint after its mark is durable. Whichever comes second
sees the other.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from trainer_shim.checkpoint import layout
from trainer_shim.checkpoint.commit import FILE_MODE, Disk, LocalDisk
from trainer_shim.errors import CannotRestore, CannotSave

__all__ = ["MAX_NOTE_CHARS", "Pin", "is_pinned", "pin", "read_all", "unpin"]

#: Longer notes are for a file of one's own.
MAX_NOTE_CHARS = 200
_MAX_MARK_BYTES = 4096
#: A remover that took the name away gives it back within a few flushes, or never.
_PATIENCE_S, _NAP_S = 3.0, 0.05


class Pin(msgspec.Struct, frozen=True):
    """What a mark says; its being there is what counts."""

    note: str = ""
    #: UTC, ISO 8601.
    pinned_at: str = ""


class _Nap:
    """Waits a little, a limited number of times."""

    def __init__(self) -> None:
        self._left = round(_PATIENCE_S / _NAP_S)

    def __call__(self) -> bool:
        time.sleep(_NAP_S)
        self._left -= 1
        return self._left > 0


def is_pinned(root: Path, name: layout.Name) -> bool:
    """Whether there is a mark, whatever is in it; raises OSError where nobody can tell."""
    try:
        _mark(root, name).lstat()
    except FileNotFoundError:
        return False
    return True


def read_all(root: Path) -> dict[layout.Name, Pin]:
    """Every mark below `root`; one that cannot be read is a pin without a note."""
    found = {}
    for path in root.iterdir():
        name = layout.parse_pin(path.name)
        if name is not None:
            found[name] = _read(path)
    return found


def pin(
    root: Path,
    name: layout.Name,
    note: str = "",
    *,
    disk: Disk | None = None,
    wait: Callable[[], bool] | None = None,
) -> None:
    """Return when the checkpoint will stay for ever; raises CannotRestore when it is gone, or CannotSave.

    `wait` is called while the checkpoint is not there; it returns False when it is enough.
    """
    folder, disk = root / str(name), disk or LocalDisk()
    wait = wait or _Nap()
    if not folder.is_dir():
        raise _gone(folder)
    was_pinned = is_pinned(root, name)
    try:
        _write(_mark(root, name), Pin(note[:MAX_NOTE_CHARS], datetime.now(UTC).isoformat()), disk)
    except OSError as error:
        if not was_pinned:
            with suppress(OSError):
                _mark(root, name).unlink()
        raise CannotSave(
            f"cannot pin `{folder}`: {error.strerror}",
            hint="look at owner and mode of the folder, and at the disk",
        ) from error
    while not folder.is_dir():
        if not wait():
            if not was_pinned:
                unpin(root, name, disk=disk)
            raise _gone(folder)


def unpin(root: Path, name: layout.Name, *, disk: Disk | None = None) -> bool:
    """Remove the mark; return whether there was one. Raises CannotSave."""
    try:
        _mark(root, name).unlink()
        (disk or LocalDisk()).sync(root)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise CannotSave(
            f"cannot unpin `{root / str(name)}`: {error.strerror}",
            hint="look at owner and mode of the folder",
        ) from error
    return True


def _mark(root: Path, name: layout.Name) -> Path:
    return root / layout.pin_name(name)


def _write(mark: Path, pin: Pin, disk: Disk) -> None:
    """Make the mark and its note durable; an older mark is there at every moment."""
    descriptor = os.open(mark, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, FILE_MODE)
    try:
        if os.geteuid() == 0:
            # Root may pin for others; the mark is the owner's to remove.
            owner = mark.parent.stat()
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
        os.fchmod(descriptor, FILE_MODE)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, msgspec.json.encode(pin) + b"\n")
    finally:
        os.close(descriptor)
    disk.sync(mark)
    disk.sync(mark.parent)


def _read(mark: Path) -> Pin:
    try:
        descriptor = os.open(mark, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return Pin()
    try:
        return msgspec.json.decode(os.read(descriptor, _MAX_MARK_BYTES), type=Pin)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return Pin()
    finally:
        os.close(descriptor)


def _gone(folder: Path) -> CannotRestore:
    return CannotRestore(
        f"cannot pin `{folder}`: there is no such checkpoint, or it was just removed",
        hint="`supervisorctl checkpoints list` shows what is there",
    )
