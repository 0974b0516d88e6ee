"""Disks that lose, refuse and run full, at the port of `trainer_shim.checkpoint.commit`.

`LossyDisk` keeps its own account of what was flushed, by inode: a file's
bytes and a folder's names are two things, and each survives a power cut only
if it was synced itself.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any, Self

from trainer_shim.checkpoint.commit import Free, LocalDisk

#: A file's bytes, or a folder's entries.
Image = bytes | dict[str, "Image"]


class PowerCut(BaseException):
    """Not an Exception: no handler may take it for a failing disk and go on."""


class Survives(Enum):
    """What a file system may have written on its own, besides what was flushed."""

    NOTHING = "nothing"
    #: Renames and new names reach the disk before the bytes do.
    NAMES = "names"
    #: Files are gone although the rename of their folder is not there yet.
    REMOVALS = "removals"
    #: Bytes reach the disk at once, names only when they are flushed.
    BYTES = "bytes"


class LossyDisk(LocalDisk):
    """Cuts the power before its call number `cut_at`; `restore` writes what was left.

    Its calls are those of the port, and every one that changes names, modes
    or lengths below `root` by way of Python's own functions.
    """

    def __init__(self, root: Path, cut_at: int | None, survives: Survives) -> None:
        self.num_calls = 0
        self._root, self._cut_at, self._survives = root, cut_at, survives
        self._bytes: dict[int, bytes] = {}
        self._names: dict[int, dict[str, int]] = {}
        self._held: dict[int, int] = {}
        self._image: Image | None = None
        self._is_busy = False
        self._learn(root)
        _watch(self)

    def sync(self, path: Path) -> None:
        if not path.is_relative_to(self._root):
            return  # What lies above is there for ever.
        self._call()
        with self._busy():
            self._flush(path)

    def sync_files(self, paths: Sequence[Path]) -> None:
        _in_turn(self, paths)

    def rename(self, source: Path, target: Path) -> None:
        self._call()
        with self._busy():
            super().rename(source, target)

    def restore(self, target: Path) -> None:
        """Write what is there after the power comes back."""
        _watch(None)
        _write(self._image if self._image is not None else self._survivors(), target)
        for descriptor in self._held.values():
            os.close(descriptor)
        self._held.clear()

    def audited(self, event: str, args: tuple[object, ...]) -> None:
        """Python is about to do something to some file."""
        if not self._is_busy and self._image is None and _is_change(event, args, self._root):
            self._call()

    def _call(self) -> None:
        if self._image is not None:
            raise PowerCut  # The dying process tries to go on, or to tidy up.
        if self.num_calls == self._cut_at:
            with self._busy():
                self._image = self._survivors()
            raise PowerCut
        self.num_calls += 1

    @contextmanager
    def _busy(self) -> Iterator[None]:
        """What this disk does itself is nobody's call."""
        self._is_busy = True
        try:
            yield
        finally:
            self._is_busy = False

    def _learn(self, path: Path) -> None:
        """Everything that is there at the start is on the disk."""
        self._flush(path)
        if path.is_dir():
            for entry in path.iterdir():
                self._learn(entry)

    def _flush(self, path: Path) -> None:
        inode = self._hold(path)
        if path.is_dir():
            self._names[inode] = {entry.name: self._hold(entry) for entry in path.iterdir()}
        else:
            self._bytes[inode] = path.read_bytes()

    def _hold(self, path: Path) -> int:
        inode = path.stat().st_ino
        if inode not in self._held:
            # Not for reading: a file that somebody reads is not overwritten.
            self._held[inode] = os.open(path, os.O_PATH)
        return inode

    def _survivors(self) -> Image:
        if self._survives is Survives.NAMES:
            return self._as_named_now(self._root)
        return self._as_flushed(self._root.stat().st_ino)

    def _as_named_now(self, path: Path) -> Image:
        if path.is_dir():
            return {entry.name: self._as_named_now(entry) for entry in path.iterdir()}
        return self._bytes.get(path.stat().st_ino, b"")

    def _as_flushed(self, inode: int) -> Image:
        if not stat.S_ISDIR(os.fstat(self._held[inode]).st_mode):
            if self._survives is Survives.BYTES:
                return Path(f"/proc/self/fd/{self._held[inode]}").read_bytes()
            return self._bytes.get(inode, b"")
        names = self._names.get(inode, {})
        return {name: self._as_flushed(child) for name, child in names.items() if not self._is_lost(child)}

    def _is_lost(self, inode: int) -> bool:
        # Files only: the worst moment is the one between emptying a folder and removing it.
        found = os.fstat(self._held[inode])
        return self._survives is Survives.REMOVALS and stat.S_ISREG(found.st_mode) and found.st_nlink == 0


_CHANGES = {
    "open", "os.rename", "os.remove", "os.rmdir", "os.mkdir",
    "os.chmod", "os.truncate", "os.link",
}  # fmt: skip
_watching: list[LossyDisk | FailingCalls] = []


def _is_change(event: str, args: tuple[Any, ...], root: Path) -> bool:
    if event not in _CHANGES:
        return False
    if event == "open" and not (isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)):
        return False
    return isinstance(args[0], int) or str(root) in os.fsdecode(args[0])


@cache
def _install() -> None:
    """Audit hooks stay for ever, so there is one."""
    sys.addaudithook(lambda event, args: _watching[-1].audited(event, args) if _watching else None)


def _watch(disk: LossyDisk | FailingCalls | None) -> None:
    _install()
    _watching[:] = [] if disk is None else [disk]


class FailingCalls:
    """Inside, the call number `fail_at` that would change something below `root` fails."""

    def __init__(self, root: Path, errno: int, fail_at: int, *, for_ever: bool) -> None:
        self.num_calls = 0
        self._root, self._errno, self._fail_at, self._for_ever = root, errno, fail_at, for_ever

    def audited(self, event: str, args: tuple[object, ...]) -> None:
        """Python is about to do something to some file."""
        if not _is_change(event, args, self._root):
            return
        self.num_calls += 1
        at = self.num_calls - 1
        if at == self._fail_at or (self._for_ever and at > self._fail_at):
            raise OSError(self._errno, os.strerror(self._errno), "injected")

    def __enter__(self) -> Self:
        _watch(self)
        return self

    def __exit__(self, *_: object) -> None:
        _watch(None)


class FailingDisk(LocalDisk):
    """Fails its call number `fail_at` with `errno`; every call where that is None."""

    def __init__(self, errno: int, fail_at: int | None) -> None:
        self.num_calls = 0
        self._errno, self._fail_at = errno, fail_at

    def sync(self, path: Path) -> None:
        self._call(path)
        super().sync(path)

    def sync_files(self, paths: Sequence[Path]) -> None:
        _in_turn(self, paths)

    def rename(self, source: Path, target: Path) -> None:
        self._call(source)
        super().rename(source, target)

    def _call(self, path: Path) -> None:
        self.num_calls += 1
        if self._fail_at in (None, self.num_calls - 1):
            raise OSError(self._errno, os.strerror(self._errno), str(path))


class MeasuredDisk(LocalDisk):
    """Reports the room that the test says; None tells the truth."""

    def __init__(self, size_bytes: int, num_files: int | None = None) -> None:
        self.left: Free | None = Free(size_bytes, num_files)

    def free(self, path: Path) -> Free:
        return self.left if self.left is not None else super().free(path)


def _in_turn(disk: LocalDisk, paths: Sequence[Path]) -> None:
    """One after the other, so that a call's number always means the same one."""
    for path in paths:
        disk.sync(path)


def _write(image: Image, target: Path) -> None:
    if isinstance(image, bytes):
        target.write_bytes(image)
        return
    target.mkdir()
    for name, child in image.items():
        _write(child, target / name)
