"""Digests that name their algorithm, `sha256:9f86d0...`.

Covers: making one, and telling whether one can be checked here.
Does not cover: what is digested.

Every digest on disk names its algorithm so that another one can follow. A
new one needs a new format version: a reader of this version must be able to
tell "from the future" from "damaged" (see manifest.py).

Two are in use. `sha256` is for what is small or must name a whole checkpoint.
`xxh3-128-2MiB` is for tensors: the XXH3 digest of the joined XXH3 digests of
all chunks of 2 MiB, so that several threads can share one file. Measured, it
takes a tenth of the time of the fastest disk here; sha256 takes twice as long
as that disk.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Protocol

__all__ = [
    "ALGORITHM",
    "CHUNK_BYTES",
    "LENGTH",
    "Running",
    "combine",
    "finish",
    "is_chunked",
    "is_known",
    "of_bytes",
    "of_chunk",
    "start_like",
]

ALGORITHM = "sha256"
_CHUNKED = "xxh3-128-2MiB"
#: The unit of the chunked digest; part of the format, for its name says it.
CHUNK_BYTES = 2 << 20
_KNOWN = re.compile(rf"{ALGORITHM}:[0-9a-f]{{64}}|{_CHUNKED}:[0-9a-f]{{32}}")
#: Characters of a finished digest of `of_bytes`.
LENGTH = len(ALGORITHM) + 1 + 64


class Running(Protocol):
    """A digest that is still being fed."""

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        """Add bytes."""

    def hexdigest(self) -> str:
        """Return the digest of all bytes so far."""


def of_bytes(data: bytes) -> str:
    """The digest of bytes that are all here."""
    import hashlib

    return finish(hashlib.sha256(data))


def finish(running: Running) -> str:
    """The digest as it stands in a manifest."""
    name = _CHUNKED if isinstance(running, _Chunked) else ALGORITHM
    return f"{name}:{running.hexdigest()}"


def of_chunk(pieces: Iterable[memoryview]) -> bytes:
    """The digest of one chunk; gives other threads the interpreter meanwhile."""
    import xxhash

    running = xxhash.xxh3_128()
    for piece in pieces:
        running.update(piece)
    return running.digest()


def combine(chunks: Sequence[bytes]) -> str:
    """The digest of a file of which these are the digests of its chunks, in order."""
    import xxhash

    return f"{_CHUNKED}:{xxhash.xxh3_128_hexdigest(b''.join(chunks))}"


def start_like(text: str) -> Running:
    """A digest of nothing yet, of the algorithm of a known digest."""
    import hashlib

    return _Chunked() if is_chunked(text) else hashlib.sha256()


def is_chunked(text: str) -> bool:
    """Whether a digest is made of chunks, as those of tensor files are."""
    return text.startswith(f"{_CHUNKED}:")


def is_known(text: str) -> bool:
    """Whether this version can check `text`."""
    return _KNOWN.fullmatch(text) is not None


class _Chunked:
    """The chunked digest of bytes that come in any portions."""

    def __init__(self) -> None:
        import xxhash

        self._chunks: list[bytes] = []
        self._new = xxhash.xxh3_128
        self._open = self._new()
        self._room_bytes = CHUNK_BYTES

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        left = memoryview(data)
        while left.nbytes:
            part, left = left[: self._room_bytes], left[self._room_bytes :]
            self._open.update(part)
            self._room_bytes -= part.nbytes
            if not self._room_bytes:
                self._chunks.append(self._open.digest())
                self._open, self._room_bytes = self._new(), CHUNK_BYTES

    def hexdigest(self) -> str:
        rest = [self._open.digest()] if self._room_bytes < CHUNK_BYTES else []
        return combine([*self._chunks, *rest]).partition(":")[2]
