"""Something a person should hear that is no reason to stop.

Covers: the record. Does not cover: who says it, and where.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

__all__ = ["Notice"]


class Notice(msgspec.Struct, frozen=True):
    """`text` says what happened to `path`, `hint` what to do about it."""

    text: str
    hint: str
    path: Path
