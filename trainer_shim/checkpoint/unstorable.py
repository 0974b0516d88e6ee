"""Why a value cannot be stored, and what to do about it.

Covers: the words for values that no table has a name for.
Does not cover: tensors (arrays.py), what only lacks its live object (live.py).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from trainer_shim.errors import CannotStore

__all__ = ["HINT", "refusal_of"]

#: A class that a `class` statement made may get another method.
_MADE_IN_PYTHON = 1 << 9
HINT = "keep numbers, text, bytes, lists, tuples, maps, sets, tensors and arrays; leave the rest out"


def refusal_of(value: Any, path: str) -> CannotStore:
    """The error for a value that has no safe form on disk."""
    kind = type(value)
    name = f"`{kind.__module__}.{kind.__qualname__}`"
    if isinstance(value, Mapping):
        return CannotStore(path, f"a map of type {name}", hint="store `dict()` of it")
    hint = "leave it out of the part's `state_dict()`"
    if kind.__flags__ & _MADE_IN_PYTHON and kind.__module__.partition(".")[0] not in sys.stdlib_module_names:
        hint += (
            f"; or give the class {name} itself `state_dict()` and `load_state_dict()`, and let the part "
            "hold the object when attach() is called"
        )
    else:
        hint += ", and make it anew in `load_state_dict()` from numbers and text that the state holds"
    return CannotStore(path, f"an object of type {name}", hint=hint)
