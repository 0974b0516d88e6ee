"""Objects of libraries that a loop goes on from, and where they stand: a running mean of scikit-learn's, say.

Covers: variables whose class is no script's, by the values of their attributes.
Does not cover: which of them decide about something (loop_names.py), objects that torch knows (moving.py).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import FrameType, ModuleType
from typing import Any

from trainer_shim.kept import Kept
from trainer_shim.moving import Moves, is_known
from trainer_shim.reach import attributes, frame_variables
from trainer_shim.script_code import is_a, is_script_class
from trainer_shim.script_names import MISSING, Names
from trainer_shim.values import printed

__all__ = ["Place", "of_libraries"]

#: The function that a variable is in, by file and line, and what it is called there.
Place = tuple[str, int, str]

#: Attributes of one object that are named in what is said.
_MAX_NAMED = 6
_OBJECT = (
    "`{0}`, a {1}, goes on from turn to turn and no checkpoint has it: after a restart it begins anew. Hand "
    "over `trainer_shim.Fields({0}, {2})` as a part [carried]"
)


def of_libraries(
    frames: Sequence[FrameType], suspects: Iterable[Place], kept: Kept, before: Mapping[str, Any]
) -> Iterator[tuple[str, Moves]]:
    """Yield where the objects of libraries among some variables stand; `before` is what this gave last."""
    by_function: dict[tuple[str, int], list[str]] = {}
    for file, line, name in suspects:
        by_function.setdefault((file, line), []).append(name)
    for frame in frames:
        code = frame.f_code
        names = Names(dict(frame_variables(frame)), frame.f_globals)
        for name in by_function.get((code.co_filename, code.co_firstlineno), ()):
            thing = names.at(name)
            if not _is_of_library(thing) or _is_kept(name, thing, kept):
                continue
            place = f"{code.co_name}.{name}"
            stands = {own: printed(value) or _number(value) for own, value in attributes(thing)}
            was = before.get(place)
            changed = [own for own in stands if was is not None and was[1].get(own) != stands[own]]
            fields = ", ".join(f'"{own}"' for own in changed[:_MAX_NAMED])
            yield place, Moves(id(thing), _OBJECT.format(name, type(thing).__name__, fields), stands)


def _is_of_library(thing: Any) -> bool:
    kind: Any = type(thing)
    if thing is MISSING or is_a(thing, ModuleType | type) or kind.__module__ in sys.builtin_module_names:
        return False
    if kind.__module__.startswith("trainer_shim.") or not hasattr(kind, "__dict__"):
        return False
    return not is_script_class(kind) and not is_known(thing)


def _number(value: Any) -> str | None:
    """A number of NumPy's as text."""
    return repr(value) if getattr(value, "ndim", None) == 0 and hasattr(value, "dtype") else None


def _is_kept(name: str, thing: Any, kept: Kept) -> bool:
    is_own = kept.is_part(thing) or kept.has_object(thing) or kept.has_fields_of(thing)
    return is_own or kept.is_ignored(name) or kept.has(name, thing)
