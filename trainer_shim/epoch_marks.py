"""What a script had where it went on by itself: at the head of an epoch, and behind each pass.

Covers: random numbers, global ones and those that the script handed over; its small plain values.
Does not cover: where the loop goes on behind that (position.py, redone.py).

A restart in the middle of an epoch runs what stands at its head again. With what it had there the first time
it draws the same order, and reckons the same weight from what the epoch before left.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from trainer_shim import rng
from trainer_shim.light_values import LightValues

__all__ = ["HEAD", "EpochMarks"]

#: The mark at the head of an epoch; the one behind the n-th pass is number n.
HEAD = 0
#: A loop that counts its epochs by itself makes all its passes in one: of so many the marks are kept.
_MAX_MARKS = 16


class EpochMarks:
    """Those of the epoch that a loop is in.

    `own` gives the generators that the script handed over, by name; `light` are its small plain values.
    """

    def __init__(self, own: Callable[[], Mapping[str, Any]], light: LightValues) -> None:
        self._own, self._light = own, light
        self._marks: dict[int, Mapping[str, Any]] = {}
        #: Where the script's own generators were before the first mark was gone to.
        self._before: dict[str, bytes] | None = None

    def begin(self) -> None:
        """An epoch begins here."""
        self._marks = {}
        self.make(HEAD)

    def make(self, number: int) -> None:
        """Note how the numbers stand."""
        own, light = self._own_now(), self._light.now()
        self._marks[number] = {"global": rng.capture(), "own": own, "light": light}
        behind = sorted(self._marks.keys() - {HEAD})
        for old in behind[:-_MAX_MARKS]:
            del self._marks[old]

    def go_to(self, number: int) -> None:
        """Set the numbers as they were at a mark; without one, leave them."""
        mark = self._marks.get(number)
        if mark is None:
            return
        if self._before is None:
            self._before = self._own_now()
        if mark.get("light"):
            self._light.put_where_light(mark["light"])
        rng.restore(mark["global"])
        self._set(mark["own"])

    def leave(self) -> None:
        """The loop goes on: the script's own generators are again where the checkpoint has them."""
        before, self._before = self._before, None
        self._set(before or {})

    def state_dict(self) -> dict[int, Any]:
        """All marks, as plain values."""
        return dict(self._marks)

    def load_state_dict(self, marks: Mapping[int, Any]) -> None:
        """Take over what `state_dict` gave; raises CannotRestore for more devices than there are."""
        for mark in marks.values():
            rng.check(mark["global"])
        self._marks = dict(marks)

    def _own_now(self) -> dict[str, bytes]:
        return {name: rng.dump(one) for name, one in self._own().items()}

    def _set(self, states: Mapping[str, bytes]) -> None:
        own = self._own()
        for name in states.keys() & own.keys():
            # One of another kind than it was is refused elsewhere.
            with suppress(ValueError, TypeError, LookupError, RuntimeError, struct.error):
                rng.load(own[name], states[name])
