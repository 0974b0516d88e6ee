"""What a power cut leaves of the calls that a process made.

Covers: a file system in memory that is fed the log of syscalls.c and knows,
for each byte page, each length and each name, whether it was flushed; and the
states in which a real disk could be found after the power came back.
Does not cover: torn pages, disks that lie about a flush, metadata that breaks
by itself; a rename is lost or kept per name, so also by halves, which no
journal does.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import NamedTuple

__all__ = ["Call", "Disk", "Keeps", "Tree", "calls", "same", "write"]

PAGE_BYTES = 4096
#: A file's bytes, or a folder's entries; equal trees are equal values.
Tree = bytes | tuple[tuple[str, "Tree"], ...]


class Call(NamedTuple):
    """One line of the log."""

    kind: str
    ino: int
    ino2: int
    a: int
    name: str
    name2: str
    data: bytes


def calls(log: bytes) -> Iterator[Call]:
    """Every call of a log, in order."""
    at = 0
    while at < len(log):
        end = log.index(b"\n", at)
        kind, ino, ino2, a, _, name, name2, length = log[at:end].decode().split(" ")
        at = end + 1 + int(length)
        yield Call(kind, int(ino), int(ino2), int(a), name, name2, log[end + 1 : at])


class Keeps(NamedTuple):
    """What the disk wrote on its own before the power went, besides what it had to."""

    name: str
    #: Asked for each name that changed, each page and each length that was not flushed.
    names: Callable[[], bool]
    pages: Callable[[], bool]

    @classmethod
    def extremes(cls) -> list[Keeps]:
        """Nothing, or all of one sort."""

        def yes() -> bool:
            return True

        def no() -> bool:
            return False

        return [
            cls("nothing", no, no),
            cls("names", yes, no),
            cls("bytes", no, yes),
            cls("everything", yes, yes),
        ]

    @classmethod
    def some(cls, seed: int) -> Keeps:
        """Each by the toss of a coin: everything out of order."""
        toss = random.Random(seed)
        return cls(f"some, seed {seed}", lambda: toss.random() < 0.5, lambda: toss.random() < 0.5)


@dataclass
class _File:
    """Bytes now, and those that were flushed."""

    now: bytearray = field(default_factory=bytearray)
    flushed: bytes = b""

    def after(self, keeps: Keeps) -> bytes:
        found = bytearray(self.flushed)
        size = len(self.now) if len(self.now) != len(found) and keeps.pages() else len(found)
        found = found[:size].ljust(size, b"\0")
        for at in range(0, min(size, len(self.now)), PAGE_BYTES):
            page = self.now[at : min(at + PAGE_BYTES, size)]
            if found[at : at + len(page)] != page and keeps.pages():
                found[at : at + len(page)] = page
        return bytes(found)


@dataclass
class _Folder:
    """Names now, and every value that each had since it was flushed."""

    now: dict[str, int] = field(default_factory=dict)
    flushed: dict[str, int] = field(default_factory=dict)

    def after(self, keeps: Keeps) -> dict[str, int]:
        found = {}
        for name in sorted(self.now.keys() | self.flushed.keys()):
            before, now = self.flushed.get(name), self.now.get(name)
            thing = now if before != now and keeps.names() else before
            if thing is not None:
                found[name] = thing
        return found


class Disk:
    """A file system that is told of each call; `ino` of its folder is the root's."""

    def __init__(self, ino: int) -> None:
        self._numbers = count()
        self._things: dict[int, _File | _Folder] = {}
        self._by_ino: dict[int, int] = {}
        self.root = self._new(ino, _Folder())

    def _new(self, ino: int, thing: _File | _Folder) -> int:
        number = next(self._numbers)
        # Inode numbers are used again, while an unflushed name may still mean the old one.
        self._by_ino[ino] = number
        self._things[number] = thing
        return number

    def _file(self, ino: int) -> _File:
        thing = self._things[self._by_ino[ino]]
        assert isinstance(thing, _File)
        return thing

    def _folder(self, ino: int) -> _Folder:
        thing = self._things[self._by_ino[ino]]
        assert isinstance(thing, _Folder)
        return thing

    def feed(self, call: Call) -> None:
        """Let a call happen."""
        getattr(self, f"_{call.kind}")(call)

    def _create(self, call: Call) -> None:
        self._folder(call.ino).now[call.name] = self._new(call.ino2, _File())

    def _mkdir(self, call: Call) -> None:
        self._folder(call.ino).now[call.name] = self._new(call.ino2, _Folder())

    def _write(self, call: Call) -> None:
        file = self._file(call.ino)
        file.now.extend(bytes(max(0, call.a + len(call.data) - len(file.now))))
        file.now[call.a : call.a + len(call.data)] = call.data

    def _allocate(self, call: Call) -> None:
        file = self._file(call.ino)
        file.now.extend(bytes(max(0, call.a - len(file.now))))

    def _cut(self, call: Call) -> None:
        file = self._file(call.ino)
        del file.now[call.a :]
        file.now.extend(bytes(call.a - len(file.now)))

    def _flush(self, call: Call) -> None:
        thing = self._things[self._by_ino[call.ino]] if call.ino in self._by_ino else None
        if isinstance(thing, _File):
            thing.flushed = bytes(thing.now)
        elif isinstance(thing, _Folder):
            thing.flushed = dict(thing.now)

    def _rename(self, call: Call) -> None:
        self._folder(call.ino2).now[call.name2] = self._folder(call.ino).now.pop(call.name)

    def _link(self, call: Call) -> None:
        self._folder(call.ino2).now[call.name] = self._by_ino[call.ino]

    def _unlink(self, call: Call) -> None:
        del self._folder(call.ino).now[call.name]

    def _mark(self, call: Call) -> None:
        """A word of the process's own."""

    def after(self, keeps: Keeps) -> Tree:
        """What is found when the power comes back."""
        # By number, so that a file with two names survives alike under both.
        found: dict[int, Tree] = {}
        return self._tree(self.root, keeps, found)

    def _tree(self, number: int, keeps: Keeps, found: dict[int, Tree]) -> Tree:
        thing = self._things[number]
        if isinstance(thing, _File):
            if number not in found:
                found[number] = thing.after(keeps)
            return found[number]
        entries = thing.after(keeps)
        return tuple((name, self._tree(entry, keeps, found)) for name, entry in entries.items())


def write(tree: Tree, target: Path) -> None:
    """Write what was found into a fresh folder."""
    if isinstance(tree, bytes):
        target.write_bytes(tree)
        return
    target.mkdir()
    for name, child in tree:
        write(child, target / name)


def same(tree: Tree, path: Path) -> bool:
    """Whether that is what really is there: otherwise a call escaped the log."""
    if isinstance(tree, bytes):
        return path.is_file() and path.read_bytes() == tree
    there = sorted(entry.name for entry in path.iterdir())
    return there == [name for name, _ in tree] and all(same(child, path / name) for name, child in tree)
