"""Where in a state a value is, as a person would write it.

Covers: the path of an entry. Does not cover: what is there.
"""

from __future__ import annotations

from typing import Any

__all__ = ["join"]


def join(path: str, key: Any) -> str:
    """The path of an entry."""
    text = str(key) if isinstance(key, str | int) else repr(key)
    return f"{path}.{text}" if path else text
