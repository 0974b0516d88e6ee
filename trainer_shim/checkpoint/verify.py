"""Whether every byte of a checkpoint is the one that was saved.

Covers: the manifest, and size and digest of each file it names.
Does not cover: what is in the files; a state that was saved well decodes.

Needs neither torch nor numpy, keeps nothing in memory, and reads past the
kernel's cache where it can: it is the disk that is asked.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from trainer_shim.checkpoint import digest, directread, reader
from trainer_shim.checkpoint.chunks import Chunk, each_chunk, set_direct
from trainer_shim.checkpoint.layout import MANIFEST, Name
from trainer_shim.checkpoint.manifest import File
from trainer_shim.errors import CannotRestore, Damaged

__all__ = ["Problem", "Verified", "reason", "verify"]


class Problem(NamedTuple):
    """What is wrong with one file."""

    file: str
    why: str


class Verified(NamedTuple):
    """What became of it; good if there are no problems."""

    problems: list[Problem]
    size_bytes: int
    #: Of the manifest; "" where that is unusable.
    digest: str


#: File's identity -> digest of its bytes: files that several checkpoints share are read once.
Seen = dict[tuple[int, int], str]


def verify(
    folder: Path,
    name: Name,
    *,
    on_bytes: Callable[[int], None] = lambda _: None,
    seen: Seen | None = None,
) -> Verified:
    """Read all of a checkpoint that is or was called `name`; each bad file is a problem, not an error."""
    seen = {} if seen is None else seen
    try:
        with reader.opened_folder(folder) as at:
            manifest, own = reader.read_manifest(at, str(name))
            problems = []
            for file, entry in manifest.files.items():
                why = _why_bad(at, file, entry, on_bytes, seen)
                problems += [Problem(file, why)] if why else []
    except OSError as error:
        return Verified([Problem(MANIFEST, error.strerror or str(error))], 0, "")
    except CannotRestore as error:
        return Verified([Problem(MANIFEST, reason(error, "the manifest"))], 0, "")
    return Verified(problems, sum(entry.size_bytes for entry in manifest.files.values()), own)


def reason(error: CannotRestore, what: str) -> str:
    """What an error says of `what` that is new beside its name."""
    return str(error).removeprefix(f"cannot use {what}: ")


def _why_bad(at: int, file: str, entry: File, on_bytes: Callable[[int], None], seen: Seen) -> str:
    try:
        with reader.opened(at, file, entry.size_bytes) as source:
            there = os.fstat(source.fileno())
            identity = there.st_dev, there.st_ino
            # Two kinds of digest never share a file: the kind follows from its name.
            found = seen.get(identity) if there.st_nlink > 1 else None
            if found is None:
                found = _digest(source.fileno(), entry, on_bytes)
                seen[identity] = found
            else:
                on_bytes(entry.size_bytes)
    except OSError as error:
        return error.strerror or str(error)
    except Damaged as error:
        return reason(error, f"`{file}`")
    return "" if found == entry.digest else "its bytes are not those that were saved"


def _digest(descriptor: int, entry: File, on_bytes: Callable[[int], None]) -> str:
    """The digest of an open file, of the kind that its entry has."""
    if not digest.is_chunked(entry.digest):
        with os.fdopen(os.dup(descriptor), "rb") as source:
            data = source.read(entry.size_bytes)
        on_bytes(len(data))
        return digest.of_bytes(data)
    digests = [b""] * -(-entry.size_bytes // digest.CHUNK_BYTES)
    set_direct(descriptor, is_on=True)

    def work(chunk: Chunk, buffer: memoryview) -> None:
        size_bytes = chunk.end - chunk.begin
        directread.fill(descriptor, chunk, buffer)
        digests[chunk.number] = digest.of_chunk([buffer[:size_bytes]])
        on_bytes(size_bytes)

    each_chunk(entry.size_bytes, work)
    return digest.combine(digests)
