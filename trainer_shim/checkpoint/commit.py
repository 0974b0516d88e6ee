"""The moments at which a checkpoint appears and disappears.

Covers: the order of flushes and renames, setting aside, removing, leftovers.
Does not cover: what is in the files, what the errors are called (refusal.py).

A checkpoint's visible name is given and taken by one rename each, and each
rename is flushed before anything relies on it. Everything here goes through
the port `Disk` where its order matters, so that a test can cut the power.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

from trainer_shim.checkpoint.layout import LATEST, PARTIAL, aside_name, doomed_name, is_leftover

__all__ = [
    "Disk",
    "Free",
    "LocalDisk",
    "commit",
    "discard",
    "erase",
    "give_up",
    "make_folder",
    "point_latest",
    "set_aside",
    "settle_names",
    "sweep",
]

FOLDER_MODE = 0o700
FILE_MODE = 0o600
_NUM_FLUSHES = 4


class Free(NamedTuple):
    """What a file system has left for this user."""

    size_bytes: int
    #: None where the file system does not count them.
    num_files: int | None


class Disk(Protocol):
    """What the store needs of a disk beyond reading and writing; every method may raise OSError."""

    def sync(self, path: Path) -> None:
        """Return when the file's bytes, or the folder's list of names, survive a power cut."""

    def sync_files(self, paths: Sequence[Path]) -> None:
        """Return when the bytes of all these files do; in whatever order."""

    def rename(self, source: Path, target: Path) -> None:
        """Give `source` the name `target` in one step."""

    def free(self, path: Path) -> Free:
        """Tell what is left where `path` lies."""


class LocalDisk:
    """The file system as the kernel offers it."""

    def sync(self, path: Path) -> None:
        """Flush one file or folder."""
        # A fresh descriptor flushes what another one wrote, and the kernel
        # reports a write error that nobody has seen yet on it (since 4.13).
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def sync_files(self, paths: Sequence[Path]) -> None:
        """Flush them at once, so that a journalling file system commits them together."""
        from trainer_shim.checkpoint.chunks import each

        # Measured on a busy ext4: a third of the time of one after the other.
        each(paths, self.sync, _NUM_FLUSHES)

    def rename(self, source: Path, target: Path) -> None:
        """Rename within one file system."""
        source.rename(target)

    def free(self, path: Path) -> Free:
        """Ask the file system; space kept back for root does not count."""
        found = os.statvfs(path)
        return Free(found.f_bavail * found.f_frsize, found.f_favail if found.f_files else None)


def make_folder(path: Path, disk: Disk) -> None:
    """Make `path` and what is missing above it, so that it survives a power cut; 0700 whatever the umask."""
    if path.is_dir():
        return
    make_folder(path.parent, disk)
    path.mkdir(mode=FOLDER_MODE, exist_ok=True)
    path.chmod(FOLDER_MODE)
    disk.sync(path.parent)


def settle_names(root: Path, disk: Disk) -> None:
    """Make the names in `root` survive a power cut, and where one may look, its own up to the mount point."""
    disk.sync(root)
    root = root.resolve()
    with suppress(OSError):  # A folder that may be passed but not read.
        for folder in root.parents:
            if folder.stat().st_dev != root.stat().st_dev:
                break
            disk.sync(folder)


def commit(staging: Path, final: Path, disk: Disk, on_stage: Callable[[str], None] = lambda _: None) -> None:
    """Make `staging` appear as `final` in one step that survives a power cut.

    The order is the point: the files, the folder that names them, the rename,
    the parent. Until the rename a reader sees the older checkpoint; a crash
    leaves only a `*.partial`, which the next start removes.
    """
    on_stage("flushing")
    disk.sync_files(sorted(staging.iterdir()))
    disk.sync(staging)
    on_stage("committing")
    disk.rename(staging, final)
    disk.sync(final.parent)


def point_latest(folder: Path, disk: Disk) -> None:
    """Write the hint for people; it is not flushed, because readers trust manifests only."""
    hint = folder.parent / LATEST
    draft = hint.with_name(LATEST + PARTIAL)
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, FILE_MODE)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(descriptor, FILE_MODE)
        file.write(f"{folder.name}\n")
    disk.rename(draft, hint)


def discard(path: Path) -> None:
    """Remove what is of no use, as far as that can be done; the error that led here is the one to tell."""
    import shutil

    with suppress(OSError):  # `ignore_errors` does not ignore one of close().
        shutil.rmtree(path, ignore_errors=True)


def give_up(folder: Path, disk: Disk) -> Path:
    """Take a checkpoint's name away, for ever; return where its files are now.

    From here on they may be removed or overwritten: at no moment is half of
    it visible under its name, not even after a power cut.
    """
    doomed = folder.with_name(doomed_name(folder.name))
    erase(doomed)
    disk.rename(folder, doomed)
    # Without this flush a power cut could bring the old name back for a folder that is no longer whole.
    disk.sync(folder.parent)
    return doomed


def set_aside(folders: Sequence[Path], disk: Disk) -> list[Path | OSError]:
    """Take damaged checkpoints out of the readers' sight and keep them; where each is now, or why it is not.

    With one flush and without a list of what is there: a crash can leave thousands.
    """
    found: list[Path | OSError] = []
    for folder in folders:
        root = folder.parent
        # A link that leads nowhere has a name as well.
        aside = root / aside_name(folder.name, partial(_is_name, root))
        try:
            disk.rename(folder, aside)
        except OSError as error:
            found.append(error)
        else:
            found.append(aside)
    for root in {folder.parent for folder in folders}:
        disk.sync(root)
    return found


def _is_name(root: Path, name: str) -> bool:
    return os.path.lexists(root / name)


def sweep(root: Path, spare: Path | None = None) -> list[tuple[Path, OSError]]:
    """Remove what a crash left behind, all but `spare`; return what could not be removed."""
    failed = []
    for path in sorted(root.iterdir()):
        if is_leftover(path.name) and path != spare:
            try:
                erase(path)
            except OSError as error:
                failed.append((path, error))
    return failed


def erase(path: Path) -> None:
    """Remove a file, link or folder; nothing a link points to."""
    if path.is_dir() and not path.is_symlink():
        import shutil

        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
