"""A whole checkpoint in memory that was allocated once, so that training goes on while it is written.

Covers: the memory, filling it. Does not cover: when (periodic.py), writing.

Copying is the only thing the loop waits for, so the memory must be there
already: fresh memory is several times slower than a copy. It lies as the
files will, so it is written without another copy.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable

from trainer_shim.checkpoint.chunks import Chunk, each_chunk, padded
from trainer_shim.checkpoint.tensorfile import Image
from trainer_shim.checkpoint.writer import Draft

__all__ = ["Stage"]


class Stage:
    """Memory for one checkpoint at a time; `grow` and `fill` may run in different threads, not at once."""

    def __init__(self) -> None:
        self._memory = memoryview(b"")

    def has_room(self, draft: Draft) -> bool:
        """Whether the tensors of a draft fit."""
        return _need_bytes(draft) <= self._memory.nbytes

    def grow(self, draft: Draft) -> None:
        """Take memory for the tensors of a draft, and touch all of it; raises MemoryError or OSError."""
        self._memory = memoryview(b"")  # The smaller one first, or both would be there at once.
        # Shared with forked children, as Python's default is: a private one would be copied, page by page,
        # at each save after a data-loader worker was forked.
        flags = mmap.MAP_SHARED | mmap.MAP_ANONYMOUS
        self._memory = memoryview(mmap.mmap(-1, _need_bytes(draft), flags=flags))
        each_chunk(self._memory.nbytes, self._touch)

    def fill(self, draft: Draft) -> Draft:
        """Copy the tensors here; what returns can be written when the tensors are already others."""
        staged, begin = {}, 0
        for file, plan in draft.plans.items():
            memory = self._memory[begin : begin + padded(plan.size_bytes)]
            staged[file] = _Staged(memory, plan.size_bytes)
            each_chunk(plan.size_bytes, _filler(Image(plan), memory))
            begin += memory.nbytes
        return draft._replace(staged=staged)

    def _touch(self, chunk: Chunk, buffer: memoryview) -> None:
        self._memory[chunk.begin : chunk.end] = buffer[: chunk.end - chunk.begin]


class _Staged:
    """A file's bytes as they lie in memory."""

    def __init__(self, memory: memoryview, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self._memory = memory

    def chunk(self, chunk: Chunk, buffer: memoryview) -> memoryview:
        del buffer  # The bytes are in whole pages here already.
        return self._memory[chunk.begin : chunk.begin + padded(chunk.end - chunk.begin)]

    def pieces(self, chunk: Chunk) -> list[memoryview]:
        return [self._memory[chunk.begin : chunk.end]]


def _filler(image: Image, memory: memoryview) -> Callable[[Chunk, memoryview], None]:
    def work(chunk: Chunk, _: memoryview) -> None:
        image.chunk(chunk, memory[chunk.begin : chunk.end])

    return work


def _need_bytes(draft: Draft) -> int:
    return sum(padded(plan.size_bytes) for plan in draft.plans.values())
