"""Digests that name their algorithm, `sha256:9f86d0...`.

Covers: making one, and telling whether one can be checked here.
Does not cover: what is digested.

Every digest on disk names its algorithm so that a faster one can follow. A
new one needs a new format version: a reader of this version must be able to
tell "from the future" from "damaged" (see manifest.py).
"""

from __future__ import annotations

import hashlib
import re
from typing import Protocol

__all__ = ["ALGORITHM", "LENGTH", "Running", "finish", "is_known", "of_bytes", "start"]

ALGORITHM = "sha256"
_KNOWN = re.compile(rf"{ALGORITHM}:[0-9a-f]{{64}}")
#: Characters of a finished digest.
LENGTH = len(ALGORITHM) + 1 + 64


class Running(Protocol):
    """A digest that is still being fed."""

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        """Add bytes."""

    def hexdigest(self) -> str:
        """Return the digest of all bytes so far."""


def start() -> Running:
    """A digest of nothing yet."""
    return hashlib.sha256()


def finish(running: Running) -> str:
    """The digest as it stands in a manifest."""
    return f"{ALGORITHM}:{running.hexdigest()}"


def of_bytes(data: bytes) -> str:
    """The digest of bytes that are all here."""
    running = start()
    running.update(data)
    return finish(running)


def is_known(text: str) -> bool:
    """Whether this version can check `text`."""
    return _KNOWN.fullmatch(text) is not None
