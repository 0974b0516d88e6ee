"""One file, written by several threads past the kernel's cache.

Covers: space ahead, chunks out of memory, their digests, files that existed
before, file systems that want it otherwise.
Does not cover: flushing (commit.py), what is in the file (tensorfile.py).

Measured for 2 GB against a plain `write` and `fsync`: a third of the time.
The cache would copy everything once more and write it later, all at once.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Protocol

from trainer_shim.checkpoint import digest
from trainer_shim.checkpoint.chunks import (
    Chunk,
    chunks_of,
    each,
    each_chunk,
    num_processors,
    set_direct,
    unless_direct,
)
from trainer_shim.checkpoint.pages import padded

__all__ = ["DirectSource", "digest_of", "write"]

_FILE_MODE = 0o600


class DirectSource(Protocol):
    """A file's bytes before there is a file; asked by several threads at once."""

    @property
    def size_bytes(self) -> int:
        """The length of the file."""

    def chunk(self, chunk: Chunk, buffer: memoryview) -> memoryview:
        """Return the chunk's bytes, in `buffer` or elsewhere in whole pages; what pads them means nothing."""

    def pieces(self, chunk: Chunk) -> Iterable[memoryview]:
        """Return the chunk's bytes where they are, for somebody who only looks at them."""


def write(path: Path, source: DirectSource) -> str:
    """Fill `path` and return its digest; a file that is there is overwritten, blocks and all."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW
    descriptor = os.open(path, flags, _FILE_MODE)
    try:
        os.fchmod(descriptor, _FILE_MODE)
        _allocate(descriptor, padded(source.size_bytes))
        set_direct(descriptor, is_on=True)
        found = _write_chunks(descriptor, source)
        os.ftruncate(descriptor, source.size_bytes)
    finally:
        os.close(descriptor)
    return found


def digest_of(source: DirectSource) -> str:
    """The digest that a file of these bytes would have."""
    digests = _Digests(source)

    def work(chunk: Chunk) -> None:
        digests.add(chunk, source.pieces(chunk))

    each(chunks_of(source.size_bytes), work, num_processors())
    return digests.combined()


class _Digests:
    """Those of a file's chunks, in order, however they come."""

    def __init__(self, source: DirectSource) -> None:
        self._chunks = [b""] * -(-source.size_bytes // digest.CHUNK_BYTES)

    def add(self, chunk: Chunk, pieces: Iterable[memoryview]) -> None:
        self._chunks[chunk.number] = digest.of_chunk(pieces)

    def combined(self) -> str:
        return digest.combine(self._chunks)


def _write_chunks(descriptor: int, source: DirectSource) -> str:
    """Write every chunk where it belongs; return the digest of all."""
    digests = _Digests(source)

    def work(chunk: Chunk, buffer: memoryview) -> None:
        pages = source.chunk(chunk, buffer)
        # Before the disk: the bytes are in the processor's cache now.
        digests.add(chunk, [pages[: chunk.end - chunk.begin]])
        at, end = chunk.begin, chunk.begin + padded(chunk.end - chunk.begin)
        while at < end:
            left = pages[at - chunk.begin : end - chunk.begin]
            at += unless_direct(descriptor, lambda left=left, at=at: os.pwrite(descriptor, left, at))  # type: ignore[misc]

    each_chunk(source.size_bytes, work)
    return digests.combined()


def _allocate(descriptor: int, size_bytes: int) -> None:
    """Make the file exactly so long, with blocks for all of it where the file system can do that."""
    os.ftruncate(descriptor, min(size_bytes, os.fstat(descriptor).st_size))
    if size_bytes == 0:
        return
    # Not `posix_fallocate`: where the file system cannot, it writes a byte into every block instead.
    code = _fallocate()(descriptor, size_bytes)
    if code == 0:
        return
    if code not in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
        raise OSError(code, os.strerror(code))


@cache
def _fallocate() -> Callable[[int, int], int]:
    """fallocate(2) of a descriptor and a size, which returns 0 or what went wrong."""
    import ctypes

    call = ctypes.CDLL(None, use_errno=True).fallocate
    call.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    return lambda descriptor, size_bytes: 0 if call(descriptor, 0, 0, size_bytes) == 0 else ctypes.get_errno()
