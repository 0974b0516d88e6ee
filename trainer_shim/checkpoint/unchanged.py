"""Tensors that do not change, kept in a file of their own that is linked instead of written.

Covers: which tensors are worth it, and whether the file of the checkpoint
before still says the same.
Does not cover: making the link (writer.py).

What to try is a guess, from the counter that torch raises at every change of
a tensor; a change behind its back is possible. What is linked is not: the
digest that the file would have now is computed from memory, and only an equal
one is linked. A wrong guess costs time, never a number.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path

import msgspec

from trainer_shim.checkpoint.manifest import File
from trainer_shim.checkpoint.tensorfile import Block

__all__ = ["Guesses", "StillFile"]

#: Smaller ones change more often than they are worth: a mistake costs a new file of all the others.
_MIN_BLOCK_BYTES = 64 << 10
#: A second file pays when it saves at least that part of the first.
_MIN_PART = 1 / 16


class StillFile(msgspec.Struct, frozen=True):
    """The file of unchanging tensors in a durable checkpoint, and what is in it."""

    path: Path
    file: File
    names: frozenset[str]


class Guesses:
    """What is likely to stay as it is, learned from one save to the next; for one thread at a time."""

    def __init__(self) -> None:
        #: In the newest checkpoint that was written or verified by this store.
        self.last: StillFile | None = None
        self._stamps: dict[str, Hashable] | None = None
        self._restless: set[str] = set()

    def split(self, blocks: Sequence[Block]) -> tuple[list[Block], list[Block]]:
        """The blocks that change and those that seem not to, as of now."""
        still = {block.name for block in blocks if self._seems_still(block)}
        if self.last is not None:
            # Whatever woke up once is not tried again: each time costs a new file.
            self._restless |= self.last.names - still
        still_bytes = sum(block.size_bytes for block in blocks if block.name in still)
        if still_bytes < _MIN_PART * sum(block.size_bytes for block in blocks):
            still = set()
        self._stamps = {block.name: block.stamp for block in blocks}
        return (
            [block for block in blocks if block.name not in still],
            [block for block in blocks if block.name in still],
        )

    def learn(self, now: StillFile | None) -> None:
        """Take note of the file in a checkpoint that is durable, or was just verified."""
        before = self.last
        if before is not None and now is not None and before.names == now.names and before.file != now.file:
            # Its bytes changed although no counter said so.
            self._restless |= now.names
        self.last = now

    def _seems_still(self, block: Block) -> bool:
        if block.size_bytes < _MIN_BLOCK_BYTES or block.name in self._restless or block.stamp is None:
            return False
        if self._stamps is None:  # The first save after a restore goes on where the run before left off.
            return self.last is not None and block.name in self.last.names
        return self._stamps.get(block.name) == block.stamp
