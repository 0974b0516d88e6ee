"""Python's own values as nodes, to the last bit.

Covers: None, booleans, numbers, text. Does not cover: containers and bytes (tree.py).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Any

from trainer_shim.errors import CannotStore

__all__ = ["READERS", "SCALARS", "scalar", "text"]

Node = Any

#: Integers beyond this are no longer exact in readers that know only doubles.
_EXACT_INT = 1 << 53
SCALARS = frozenset({type(None), bool, int, float, complex, str})


def scalar(value: Any, path: str) -> Node:
    """The node of one of Python's own values."""
    kind = type(value)
    if kind is str:
        return text(value, path)
    if kind is int and abs(value) > _EXACT_INT:
        return {"$": "int", "hex": hex(value)}
    if kind is float and not math.isfinite(value):
        return {"$": "float", "bits": struct.pack(">d", value).hex()}  # A NaN has 52 bits to say why.
    if kind is complex:
        return {"$": "complex", "bits": struct.pack(">dd", value.real, value.imag).hex()}
    return value


def text(value: str, path: str) -> str:
    """The string itself, which must be one that a file can hold."""
    if value.isascii():  # Almost all is, and that costs nothing to know.
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        reason = "text with half a surrogate pair, which no UTF-8 file can hold"
        raise CannotStore(path, reason, hint="store bytes") from None
    return value


READERS: dict[str, Callable[[Node], Any]] = {
    "int": lambda node: int(node["hex"], 16),
    "float": lambda node: struct.unpack(">d", bytes.fromhex(node["bits"]))[0],
    "complex": lambda node: complex(*struct.unpack(">dd", bytes.fromhex(node["bits"]))),
}
