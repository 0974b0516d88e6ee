"""Whether a run can be saved, found out before anybody needs it.

Covers: when the state is looked at, and what becomes of a refusal.
Does not cover: what can be stored (checkpoint/), the state itself (run_state.py).

Looked at is what a save would write, without reading a tensor: when attach()
is called, at the first boundary (an optimizer has its state only then), and
twice more. The first two refuse aloud, out of attach() and out of the loop;
later a run is worth more than its next checkpoint, and it is only said.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from trainer_shim import rng
from trainer_shim.errors import CannotStore, ShimError

__all__ = ["Looks", "but_loaders", "undisturbed"]

#: Boundaries after attach() at which the state is looked at.
_AT = (1, 10, 100)


class Looks:
    """The looks of one session; `look` checks the whole state and raises ShimError."""

    def __init__(self, step: int, look: Callable[[], None], said: Callable[[ShimError], None]) -> None:
        self._look = look
        self._said = said
        self._left = [step + num for num in _AT]
        self._is_first = True

    @property
    def due_step(self) -> float:
        """The boundary at which the next one is due."""
        return self._left[0] if self._left else math.inf

    def end_after_first(self) -> None:
        """Leave out the later ones."""
        del self._left[1 if self._is_first else 0 :]

    def at(self, step: int) -> None:
        """Look if it is time; raises CannotStore at the first boundary, and says it later."""
        if step < self.due_step:
            return
        self._left = [due for due in self._left if due > step]
        is_first, self._is_first = self._is_first, False
        try:
            self._look()
        except ShimError as error:
            if is_first and isinstance(error, CannotStore):
                raise
            self._said(error)


@contextmanager
def undisturbed() -> Iterator[dict[str, Any]]:
    """Leave the global generators as they were: some parts draw from them when they are asked for a state.

    Gives what `rng.capture` returns.
    """
    before = rng.capture()
    try:
        yield before
    finally:
        rng.restore(before)


def but_loaders(parts: Mapping[str, Any]) -> dict[str, Any]:
    """The parts that may be asked before the loop begins: a loader would start its workers for an answer."""
    return {
        name: part
        for name, part in parts.items()
        if not (hasattr(part, "dataset") and hasattr(part, "__iter__"))
    }
