"""Taking a checkpoint away, unless somebody wants it.

Covers: the order in which locks and pins are looked at, and what a crash in
between leaves.
Does not cover: which ones retire (retention.py), what becomes of the files
afterwards (recycle.py, store.py).
"""

from __future__ import annotations

from pathlib import Path

from trainer_shim.checkpoint import layout, pins, reading
from trainer_shim.checkpoint.commit import Disk, give_up

__all__ = ["bring_back", "take_away"]


def take_away(root: Path, name: layout.Name, disk: Disk) -> Path | None:
    """Take a checkpoint's name away for ever; where its files are now, None if it is read or pinned."""
    folder = root / str(name)
    with reading.alone(folder) as is_alone:
        if not is_alone or pins.is_pinned(root, name):
            return None
        doomed = give_up(folder, disk)
        # A pin that was made meanwhile is done only when its maker sees the folder, so this look is the last.
        if not pins.is_pinned(root, name):
            return doomed
        _rename_back(doomed, folder, disk)
    return None


def bring_back(root: Path, disk: Disk) -> list[Path]:
    """Give pinned checkpoints their names back whose remover died before it could; what was brought back."""
    found = []
    for doomed in sorted(root.iterdir()):
        name = layout.doomed_of(doomed.name)
        if name is None or not pins.is_pinned(root, name) or (root / str(name)).exists():
            continue
        from trainer_shim.checkpoint.verify import verify

        # One that was pinned too late may be half overwritten already.
        if not verify(doomed, name).problems:
            _rename_back(doomed, root / str(name), disk)
            found.append(root / str(name))
    return found


def _rename_back(doomed: Path, folder: Path, disk: Disk) -> None:
    disk.rename(doomed, folder)
    disk.sync(folder.parent)
