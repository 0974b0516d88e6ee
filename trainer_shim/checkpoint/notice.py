"""Something a person should hear that is no reason to stop.

Covers: the record. Does not cover: who says it, and where.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Notice"]


@dataclass(frozen=True)
class Notice:
    """`text` says what happened to `path`, `hint` what to do about it."""

    text: str
    hint: str
    path: Path
