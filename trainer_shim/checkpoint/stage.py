"""A whole checkpoint in memory that was allocated once, so that training goes on while it is written.

Covers: the memory, filling it. Does not cover: when (periodic.py), writing.

Copying is the only thing the loop waits for, so the memory must be there
already: fresh memory is several times slower than a copy. It lies as the
files will, so it is written without another copy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from trainer_shim.checkpoint import arrays
from trainer_shim.checkpoint.chunks import Chunk, copy, each, each_chunk, num_processors
from trainer_shim.checkpoint.pages import padded, take
from trainer_shim.checkpoint.tensorfile import Block, Plan
from trainer_shim.checkpoint.writer import Draft

__all__ = ["StagingFolder"]

#: Of a block on a device, so much at a time comes to the host in each thread.
_DEVICE_PART_BYTES = 4 << 20
#: Of any other, so much is copied by one call. Measured: few long calls take a tenth less time than many
#: short ones, for the memory is in no cache before and need not be in one afterwards. No longer, so that all
#: threads end at about the same time.
_PART_BYTES = 16 << 20


class StagingFolder:
    """Memory for one checkpoint at a time; `grow` and `fill` may run in different threads, not at once."""

    def __init__(self, pin: Callable[[memoryview], Callable[[], None]] = arrays.pin) -> None:
        self._pin = pin
        self._unpin: Callable[[], None] = _nothing
        self._memory = memoryview(b"")

    def has_room(self, draft: Draft) -> bool:
        """Whether the tensors of a draft fit."""
        return _need_bytes(draft) <= self._memory.nbytes

    def grow(self, draft: Draft) -> None:
        """Take memory for the tensors of a draft, and touch all of it; raises MemoryError or OSError."""
        self.close()  # The smaller one first, or both would be there at once.
        self._memory = take(_need_bytes(draft))
        each_chunk(self._memory.nbytes, self._touch)
        self._unpin = self._pin(self._memory)

    def close(self) -> None:
        """Give the memory back; may be repeated."""
        self._unpin()
        self._unpin, self._memory = _nothing, memoryview(b"")

    def fill(self, draft: Draft) -> Draft:
        """Copy the tensors here; what returns can be written when the tensors are already others."""
        staged, begin = {}, 0
        moves: list[_Move] = []
        for file, plan in draft.plans.items():
            memory = self._memory[begin : begin + padded(plan.size_bytes)]
            staged[file] = _Staged(memory, plan.size_bytes)
            moves += _moves(plan, memory)
            begin += memory.nbytes
        each(moves, _Move.make, num_processors())
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


class _Move(NamedTuple):
    """A part of a block, and where it goes."""

    target: memoryview
    block: Block
    begin: int

    def make(self) -> None:
        """Copy it."""
        if self.block.copy_to is not None:
            self.block.copy_to(self.target, self.begin)
        else:
            source = self.block.fetch(self.begin, self.begin + self.target.nbytes)
            copy(self.target, source, step_bytes=_PART_BYTES)


def _moves(plan: Plan, memory: memoryview) -> list[_Move]:
    """All that a file consists of; a large block in several parts, so that threads can share it."""
    copy(memory[: len(plan.header)], memoryview(plan.header))
    moves = []
    for start, block in plan.ranges():
        part_bytes = _PART_BYTES if block.copy_to is None else _DEVICE_PART_BYTES
        step = block.size_bytes if block.is_costly else part_bytes
        for begin in range(0, block.size_bytes, step or 1):
            end = min(begin + step, block.size_bytes)
            moves.append(_Move(memory[start + begin : start + end], block, begin))
    return moves


def _nothing() -> None:
    pass


def _need_bytes(draft: Draft) -> int:
    return sum(padded(plan.size_bytes) for plan in draft.plans.values())
