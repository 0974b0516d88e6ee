"""What the loops around a boundary carry from turn to turn and no checkpoint has, in words.

Covers: variables, attributes, globals and containers, by the source of the loops and what names stand for.
Does not cover: the source alone (loop_names.py), objects whose state shows in their values (strays.py).
"""

from __future__ import annotations

import ast
import functools
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import CodeType, FrameType, ModuleType
from typing import Any, NamedTuple

from trainer_shim.inlining import Inlining
from trainer_shim.kept import Kept
from trainer_shim.library_objects import Place
from trainer_shim.loop_names import CarriedVariable, carried_at, repeated_at, unset_behind
from trainer_shim.loop_uses import Uses
from trainer_shim.parts import is_of_torch
from trainer_shim.reach import attributes, frame_variables
from trainer_shim.script_code import is_a
from trainer_shim.script_names import MISSING, Names, member
from trainer_shim.source_places import forget
from trainer_shim.values import is_numbers
from trainer_shim.variables import State

__all__ = ["LookedAt", "Told", "decides", "look_at_loops", "needs_a_turn", "where"]

#: What a name may stand for that a loop counts or collects with.
_PLAIN = (int, float, complex, str, bytes, bool, type(None), list, dict, set, tuple, deque)

_CARRIED = (
    "`{0}` ({1}) goes on from turn to turn and no checkpoint has it: after a restart it begins anew. "
    "Write `state = shim.state({0}=...)` behind attach() and use `state.{0}` in its place, or reckon it from "
    "`shim.step` [carried]"
)
_COLLECTED = (
    "`{0}` ({1}) goes on from turn to turn and no checkpoint has it: after a restart it begins anew. "
    "Write `shim.state({0}={0})` behind attach(): it stays the object that it is [carried]"
)
#: What goes on being the object that was handed over.
_COLLECTING = (list, dict, set, deque)
_CARRIED_BY = (
    "{0} ({1}) {2} on from turn to turn and no checkpoint has {3}: after a restart {4} anew. "
    "Hand over `trainer_shim.Fields({5}, {6})` as a part; what is made anew in each epoch, keep in "
    "`shim.state()` [carried]"
)
_LEFT_OUT = (
    "{0} ({1}) {2} on from turn to turn, and `state_dict()` of `{5}` leaves {3} out: after a restart {4} "
    "anew. Add {3} there and in `load_state_dict()` [carried]"
)
_HEAD = (
    "`{0}` ({1}) is made of the network at the head of an epoch: a restart in its middle makes it again, of "
    "other weights. Write `state = shim.state({2}=None)` behind attach() and use `state.{2}` in its place "
    "[head]"
)
_REPEATED = (
    "line {}, in a loop over epochs that the shim does not know of, is done again for past epochs after a "
    "restart: write `for epoch in shim.epochs(num_epochs)` [epochs]"
)


class Told(NamedTuple):
    """A sentence, and the variables that it is about."""

    names: list[str]
    text: str


class LookedAt(NamedTuple):
    """What the source of some loops says."""

    #: What there is to say, of the innermost function first.
    told: list[Told]
    #: What a turn makes for itself alone, by name.
    made_anew: set[str]
    #: Variables that may be objects of libraries which the loops change.
    used: list[Place]


def look_at_loops(frames: Sequence[FrameType], kept: Kept) -> LookedAt:
    """Return what there is to know of the loops around the lines that functions are at."""
    told: list[list[Told]] = []
    made_anew, used = set[str](), list[Place]()
    using: frozenset[CodeType] = frozenset()
    # From outside inwards: whether a result matters shows where it is used.
    for frame in reversed(frames):
        code = frame.f_code
        variables = dict(frame_variables(frame))
        names = Names(variables, frame.f_globals, kept.is_of_run)
        found = carried_at(
            *where(frame), keepers=_holders(variables), names=names, is_result_used=code in using
        )
        told.append([*_sentences(found.carried, names, kept)])
        for one in found.at_head:
            if _is_kept_nowhere(one.name, names, kept)[0]:
                name = _shown(one.name)
                told[-1].append(Told([name], _HEAD.format(name, _at(one), name.rpartition(".")[2])))
        made_anew |= found.made_anew
        used += [(code.co_filename, code.co_firstlineno, name) for name in found.used]
        if line := repeated_at(*where(frame), partial(_is_given_back, names, kept)):
            told[-1].append(Told([], _REPEATED.format(line)))
        using = found.using
    forget()
    return LookedAt([one for some in reversed(told) for one in some], made_anew, used)


def _is_given_back(names: Names, kept: Kept, thing: ast.expr) -> bool:
    part = names.value(thing)
    return kept.is_part(part) and is_of_torch(part)


def needs_a_turn(depth: int) -> bool:
    """Whether the loop over `batches()`, `depth` calls away, must have a turn for what is read behind it."""
    frame = sys._getframe(depth + 1)  # noqa: SLF001  # There is no other way to one's caller.
    return _needs_a_turn(*where(frame))


@functools.lru_cache(maxsize=256)
def _needs_a_turn(file: str, first_line: int, line: int) -> bool:
    with suppress(Exception):  # However a script is written, a look costs no training.
        return bool(unset_behind(file, first_line, line))
    return False


def where(frame: FrameType) -> tuple[str, int, int]:
    """The file of a function, the line where it begins, and the line that it is at."""
    return frame.f_code.co_filename, frame.f_code.co_firstlineno, frame.f_lineno


def _sentences(found: Iterable[CarriedVariable], names: Names, kept: Kept) -> Iterator[Told]:
    by_owner: dict[str, list[CarriedVariable]] = {}
    for one in found:
        if one.matters and _is_lost(one.name, names, kept):
            by_owner.setdefault(_owner_of(one.name, names), []).append(one)
    for owner, some in by_owner.items():
        if owner:
            text = _LEFT_OUT if kept.is_part(names.at(owner)) else _CARRIED_BY
            yield Told([_shown(one.name) for one in some], _of(owner, some, text))
        else:
            for one in some:
                name, at = _shown(one.name), _at(one)
                text = _COLLECTED if is_a(names.at(one.name), _COLLECTING) else _CARRIED
                yield Told([name], text.format(name, at))


def _owner_of(place: str, names: Names) -> str:
    """The object whose attribute it is; the class, where all its objects share it."""
    owner, _, last = place.rpartition(".")
    value = names.at(owner) if owner else MISSING
    if value is MISSING or is_a(value, type | ModuleType) or last in dict(attributes(value)):
        return owner
    return owner if member(type(value), last) is MISSING else type(value).__name__


def decides(frame: FrameType, loop: ast.For, name: str, is_of_run: Callable[[Any], bool]) -> bool:
    """Whether a variable of a loop decides about more than what is shown, also where it is handed on."""
    names = Names(dict(frame_variables(frame)), frame.f_globals, is_of_run)
    with suppress(Exception):  # Whatever a script holds, a look costs no training.
        return Uses(Inlining(names).loop(loop), names).matters(name)
    return True


def _of(owner: str, some: list[CarriedVariable], text: str) -> str:
    """One sentence for all attributes of one object."""
    last = [one.name.rpartition(".")[2] for one in some]
    is_one = len(some) == 1
    return text.format(
        ", ".join(f"`{_shown(f'{owner}.{name}')}`" for name in last),
        _at(some[0]),
        "goes" if is_one else "go",
        "it" if is_one else "them",
        "it begins" if is_one else "they begin",
        _shown(owner),
        ", ".join(f'"{name}"' for name in last),
    )


def _at(one: CarriedVariable) -> str:
    return f"line {one.line} of {Path(one.file).name}" if one.file else f"line {one.line}"


def _shown(name: str) -> str:
    """What the script calls it; an object that no variable of the loop stands for goes by its class."""
    return name.rpartition(":")[2]


def _is_lost(place: str, names: Names, kept: Kept) -> bool:
    """Whether it is a value as loops carry them, and in no checkpoint."""
    is_lost, value = _is_kept_nowhere(place, names, kept)
    return is_lost and (
        is_a(value, _PLAIN) or is_numbers(value) or hasattr(type(value), "__dataclass_fields__")
    )


def _is_kept_nowhere(place: str, names: Names, kept: Kept) -> tuple[bool, Any]:
    """Whether it is in no checkpoint, and what it is."""
    shown = _shown(place)
    root, *rest = place.split(".")
    value: Any = names.at(root)
    for name in rest:
        if value is MISSING or kept.has_of(value, name):
            return False, value
        value = member(value, name)
    last = shown.rpartition(".")[2]
    return not (kept.is_ignored(shown) or kept.has(last, value) or kept.is_part(value)), value


def _holders(variables: Mapping[str, Any]) -> frozenset[str]:
    """What the script calls its `shim.state()`: a statement that names it keeps something."""
    found = (*variables.items(), *attributes(variables.get("self")))
    return frozenset(name for name, value in found if type(value) is State)
