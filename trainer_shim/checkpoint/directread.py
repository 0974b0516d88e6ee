"""One file, read by several threads past the kernel's cache, and digested on the way.

Covers: chunks into the memory where they belong, the digest of all.
Does not cover: where they belong (tensorfile.py), comparing digests (reader.py).

Past the cache, because a checkpoint is read once: the cache would copy every
byte once more and throw out what the machine's other users have there.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Sequence

from trainer_shim.checkpoint import digest
from trainer_shim.checkpoint.chunks import Chunk, copy, each_chunk, set_direct, unless_direct
from trainer_shim.checkpoint.pages import padded
from trainer_shim.errors import Damaged

__all__ = ["fill", "read"]


def read(descriptor: int, size_bytes: int, places: Sequence[tuple[int, memoryview]]) -> str:
    """Fill each memory with the bytes that begin there in the file; return the digest of the whole file.

    `places` are in the file's order and do not overlap; bytes that have none
    are only digested. Raises Damaged where the file is too short.
    """
    digests = [b""] * -(-size_bytes // digest.CHUNK_BYTES)
    parts = [(begin, memory) for begin, memory in places if memory.nbytes]
    begins = [begin for begin, _ in parts]
    set_direct(descriptor, is_on=True)

    def work(chunk: Chunk, buffer: memoryview) -> None:
        fill(descriptor, chunk, buffer)
        digests[chunk.number] = digest.of_chunk([buffer[: chunk.end - chunk.begin]])
        for begin, memory in parts[max(0, bisect_right(begins, chunk.begin) - 1) :]:
            if begin >= chunk.end:
                break
            first, last = max(chunk.begin, begin), min(chunk.end, begin + memory.nbytes)
            if first < last:
                copy(memory[first - begin : last - begin], buffer[first - chunk.begin : last - chunk.begin])

    each_chunk(size_bytes, work)
    return digest.combine(digests)


def fill(descriptor: int, chunk: Chunk, buffer: memoryview) -> None:
    """Read the chunk into the beginning of the buffer."""
    at, end = chunk.begin, chunk.begin + padded(chunk.end - chunk.begin)
    while at < chunk.end:
        left = buffer[at - chunk.begin : end - chunk.begin]
        got = unless_direct(descriptor, lambda left=left, at=at: os.preadv(descriptor, [left], at))  # type: ignore[misc]
        if not got:
            raise Damaged("cannot use the tensor file: it ends too early")
        at += got
