"""The checkpoints of an earlier run, kept out of the way of a new one.

Covers: moving a folder with checkpoints aside, under a name of its own.
Does not cover: which run is a new one (restoring.py).
"""

from __future__ import annotations

import itertools
import os
from pathlib import Path

from trainer_shim.checkpoint import layout, reader, refusal
from trainer_shim.checkpoint.lock import FolderLock

__all__ = ["keep_aside"]


def keep_aside(root: Path) -> Path | None:
    """Rename a folder that has checkpoints to the first free `NAME.before-N`; None if it has none.

    Raises FolderInUse while another process writes there, CannotSave where it cannot be renamed.
    """
    try:
        if not reader.visible(root):
            return None
        lock = FolderLock(root / layout.LOCK)
        lock.take()
        try:
            names = (Path(f"{root}.before-{number}") for number in itertools.count(1))
            aside = next(name for name in names if not os.path.lexists(name))
            root.rename(aside)
        finally:
            lock.give_back()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise refusal.cannot("keep the checkpoints of the run before", root, error) from error
    return aside
