"""What the script carries from boundary to boundary and no checkpoint has, said while it can still be mended.

Covers: when it is looked; what of the objects around a boundary moved (moving.py); weights that change and
numbers that are drawn between attach() and the loop.
Does not cover: variables of loops (loop_state.py), data loaders (births.py), whether what is saved can be
(storable.py).

The first two boundaries of a start are compared, then the 10th, 42nd, 170th and so on and those that are
saved, each with the one before: what lies there and is not used is silent. Kept between them are names, ids
and digests, no frame and no object of the script's.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from trainer_shim import rng
from trainer_shim.kept import Kept
from trainer_shim.module_tree import ODD
from trainer_shim.module_tree import walk as modules_of
from trainer_shim.nearby import variables_of
from trainer_shim.script_code import is_script
from trainer_shim.script_names import is_module

if TYPE_CHECKING:
    from trainer_shim.library_objects import Place

__all__ = ["Strays"]

_HERE = str(Path(__file__).parent)
#: Functions of the script around a boundary that are looked into.
_MAX_FRAMES = 3
#: A look is left out where less than so many times its duration has gone by since the last one.
_REST = 50
#: Boundaries between the second look and the next, and how much longer each gap is than the one before.
_FIRST_GAP, _GROWTH = 8, 4

_WEIGHTS = (
    "the weights of `{}` were changed between attach() and the loop: after a restart that would undo the "
    "training; do it before attach() [weights]"
)
_PENDING = (
    "gradients are added up over several boundaries, and no checkpoint has them: say how many batches make a "
    "step, `shim.batches(loader, accumulate=k)`, or call `shim.boundary()` behind the optimizer's step "
    "[gradients]"
)
_DRAWN = (
    "random numbers were drawn between attach() and the loop: after a restart the loop begins with others; "
    "call attach() right before the loop [drawn]"
)


class Strays:
    """The looks of one session, which begin with the end of attach()."""

    def __init__(self, kept: Kept, say: Callable[[str], None], step: int) -> None:
        self._kept, self._say = kept, say
        self._weights = dict(_weights(kept.parts))
        self._drawn: Any = rng.capture_cpu()
        #: Whether the loop has begun, as far as it is known.
        self.is_begun = False
        self._is_drawn = False
        self._first, self._second = step + 1, step + 2
        #: The looks behind them come ever more rarely: what moves at each fifth or hundredth step is seen.
        self._later, self._gap = step + 2 + _FIRST_GAP, _FIRST_GAP
        #: The weights and the gradients at the first look, by their counts of changes.
        self._gradients: _Counts | None = None
        #: What moves, as it stood at the last look.
        self._seen: dict[str, Any] = {}
        #: The lines at which loops were looked at.
        self._lines: set[tuple[tuple[str, int, int], ...]] = set()
        #: The variables that loops were told to carry, or make anew in each turn.
        self._told: set[str] = set()
        #: Variables that may be objects of libraries which loops change.
        self._used: set[Place] = set()
        self._rests_until = -math.inf

    @property
    def due_step(self) -> float:
        """The boundary of the next look that nobody asks for."""
        return self._second or self._later

    def begin(self, *, is_by_hand: bool) -> None:
        """The loop begins; one by hand has its random numbers as attach() left them."""
        if self.is_begun:
            return
        self.is_begun = True
        changed = [
            name
            for name, version in _weights(self._kept.parts)
            if self._weights.get(name, version) != version
        ]
        for name in dict.fromkeys(name.partition(".")[0] for name in changed):
            if not self._kept.is_ignored(name):
                self._say(_WEIGHTS.format(name))
        self._is_drawn = is_by_hand and rng.capture_cpu() != self._drawn
        self._weights, self._drawn = {}, None

    def at(self, step: int, *, is_by_hand: bool) -> None:
        """Look, at the first two boundaries and at some later ones."""
        if not self._second and step >= self._later:
            self._gap *= _GROWTH
            self._later = step + self._gap
            self.again(is_asked=True)  # They are too rare to take a part of the time.
        if not self._second or step < self._first:
            return
        if self._is_drawn and is_by_hand:
            self._is_drawn = False
            self._say(_DRAWN)
        if step >= self._second:
            self._first = self._second = 0
        with suppress(*ODD):
            now = _gradients(self._kept.parts)
            if self._gradients is not None and _are_added_up(self._gradients, now):
                self._say(_PENDING)
            self._gradients = now if self._second else None
        self._look()

    def again(self, *, is_asked: bool) -> None:
        """Look at a boundary that is saved; by itself only while looks take a small part of the time."""
        if not self._second and (is_asked or time.monotonic() >= self._rests_until):
            self._look()

    def _look(self) -> None:
        began = time.monotonic()
        frames = list(_frames())
        try:
            for text in self._found(frames):
                self._say(text)
        finally:
            frames.clear()
        now = time.monotonic()
        self._rests_until = now + _REST * (now - began)

    def _found(self, frames: list[FrameType]) -> list[str]:
        from trainer_shim.library_objects import of_libraries
        from trainer_shim.loop_state import look_at_loops, where
        from trainer_shim.moving import Moving

        found: list[str] = []
        # A script may hold anything and be written in any way: a look that fails costs no training.
        with suppress(Exception):
            lines = tuple(map(where, frames))
            if lines not in self._lines:
                self._lines.add(lines)
                looked_at = look_at_loops(frames, self._kept)
                found += [one.text for one in looked_at.told]
                self._told.update(looked_at.made_anew, *(one.names for one in looked_at.told))
                self._used.update(looked_at.used)
        with suppress(Exception):
            # The names that are nearest to the boundary first.
            moving, variables = Moving(self._kept), [one for frame in frames for one in variables_of(frame)]
            found += moving.loose(variables)
            now = dict(moving.inside(variables))
            now |= of_libraries(frames, self._used, self._kept, self._seen)
            found += [
                one.words
                for place, one in now.items()
                if place.partition(".")[2] not in self._told
                and (before := self._seen.get(place)) is not None
                and one.id == before[0]
                and one.stands != before[1]
            ]
            self._seen = {place: (one.id, one.stands) for place, one in now.items()}
        return list(dict.fromkeys(found))


def _frames() -> Iterator[FrameType]:
    """The functions of the script around this call, the innermost first."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001  # There is no other way to one's caller.
    num_found = 0
    while frame is not None and num_found < _MAX_FRAMES:
        file = frame.f_code.co_filename
        if not file.startswith((_HERE, "<")) and is_script(file):
            num_found += 1
            yield frame
        frame = frame.f_back


#: Changes of the weights in all, and of each gradient by the address of its memory.
_Counts = tuple[int, dict[int, int]]


def _gradients(parts: Mapping[str, Any]) -> _Counts:
    from trainer_shim.moving import versions

    weights = [one for part in parts.values() if is_module(part) for one in part.parameters()]
    gradients = [one.grad for one in weights if one.grad is not None]
    return (
        versions(weights),
        {one.data_ptr(): one._version for one in gradients},  # noqa: SLF001
    )


def _are_added_up(before: _Counts, now: _Counts) -> bool:
    """Whether no step was made between two boundaries, and what a backward pass gave was added to."""
    return before[0] == now[0] and any(now[1].get(at, 0) > version for at, version in before[1].items())


def _weights(parts: Mapping[str, Any]) -> Iterator[tuple[str, tuple[int, int]]]:
    """The count of changes in place of each parameter; a model that is moved to a device keeps it.

    Not of buffers: those change in a forward pass before the first batch is asked for, as of a loop that
    fetches ahead.
    """
    for name, part in parts.items():
        if is_module(part):
            for path, module in modules_of(part):
                for own, value in module._parameters.items():  # noqa: SLF001
                    # One of inference mode has no count, nor has None.
                    with suppress(RuntimeError, AttributeError):
                        yield f"{name}.{path}.{own}", value._version  # noqa: SLF001
