"""The data loaders that a script holds where it calls the shim.

Covers: finding them by the names of the caller's variables, its objects' attributes, and short containers.
Does not cover: what is done with them (position.py).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import FrameType, ModuleType
from typing import Any

from trainer_shim.reach import attributes, frame_variables
from trainer_shim.script_code import is_a

__all__ = ["loaders_of_caller", "variables_of"]

#: Frames of the script, from its call outwards, that are looked into; and of each so many variables.
_MAX_FRAMES = 4
_MAX_VALUES = 2000


def loaders_of_caller(depth: int) -> dict[str, Any]:
    """The loaders of the function `depth` calls away, and of those that called it, by where they lie."""
    torch_data = sys.modules.get("torch.utils.data")
    if torch_data is None:
        return {}
    found: dict[str, Any] = {}
    frame: FrameType | None = sys._getframe(depth + 1)  # noqa: SLF001  # There is no other way to one's caller.
    for number in range(_MAX_FRAMES):
        if frame is None:
            break
        for place, value in _loaders(frame, torch_data.DataLoader):
            # By the first place where it lies: the same in a fresh process.
            if not any(value is known for known in found.values()):
                found[f"{number}:{place}"] = value
        frame = frame.f_back
    return found


def _loaders(frame: FrameType, kind: type) -> Iterator[tuple[str, Any]]:
    for place, value in variables_of(frame):
        yield from ((where, one) for where, one in _inside(place, value) if is_a(one, kind))


def variables_of(frame: FrameType) -> list[tuple[str, Any]]:
    """The variables of a function, by the function's name and their own."""
    found = frame_variables(frame)[:_MAX_VALUES]
    return [(f"{frame.f_code.co_name}.{name}", value) for name, value in found]


def _inside(place: str, value: Any) -> Iterator[tuple[str, Any]]:
    """A value, and what it holds if it is a short container or an object of the script's."""
    yield place, value
    if type(value) is dict and len(value) <= 64:
        yield from ((f"{place}[{key!r}]", one) for key, one in value.items() if type(key) in (str, int))
    elif type(value) in (list, tuple) and len(value) <= 64:
        yield from ((f"{place}[{index}]", one) for index, one in enumerate(value))
    elif not is_a(value, type | ModuleType):
        yield from ((f"{place}.{name}", one) for name, one in attributes(value))
