"""One place for the state of each object that data loaders use, whoever uses it.

Covers: which objects of a fresh process stand for those of a checkpoint; setting each of them where it was.
Does not cover: how a state is read and set (carried.py), where passes begin and end (position.py).

A generator that a training and a validation loader share has one state, that of now, and not one for each
pass that used it. In a checkpoint the states are a list; what uses an object names its number there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trainer_shim.objects import Objects

if TYPE_CHECKING:
    from trainer_shim.carried import Carried
    from trainer_shim.held import Held

__all__ = ["Shared", "SharedPlace", "Table"]


class SharedPlace:
    """One object of a run: the living one, or its state in the checkpoint until there is one."""

    def __init__(self, held: Held | None = None, pending: Any = None) -> None:
        self.held = held
        #: The state that the checkpoint has, until the loop goes on from there.
        self.pending = pending

    def state(self) -> Any:
        """What the object is, or has to become."""
        return self.held.take() if self.held is not None and self.pending is None else self.pending


class Table:
    """The states of objects, each once, in the order in which they are asked for."""

    def __init__(self) -> None:
        self.states: list[Any] = []
        self._numbers: dict[int, int] = {}

    def numbers(self, places: Mapping[str, SharedPlace]) -> dict[str, int]:
        """The numbers of some objects, by path; one without a state has none."""
        return {path: self._number(place) for path, place in places.items() if self._has_state(place)}

    def _has_state(self, place: SharedPlace) -> bool:
        if id(place) not in self._numbers:
            state = place.state()
            if state is None:
                return False
            self._numbers[id(place)] = len(self.states)
            self.states.append(state)
        return True

    def _number(self, place: SharedPlace) -> int:
        return self._numbers[id(place)]


class Shared:
    """The objects of all loaders of a run. Belongs to the training thread."""

    def __init__(self) -> None:
        self.objects = Objects()

    def places(self, carried: Carried) -> dict[str, SharedPlace]:
        """The places of all that a loader reaches."""
        return {path: _place(held) for path, held in carried.held.items()}

    def bind(self, carried: Carried, places: Mapping[str, SharedPlace]) -> None:
        """Let what a loader reaches stand for the objects of a checkpoint, by path."""
        for path, place in places.items():
            held = carried.held.get(path)
            if held is None or held.place is not None:
                continue  # Said by whoever sets the states; or it stands for another one already.
            if place.held is None:
                place.held, held.place = held, place
            else:  # What was one object are two now.
                held.place = SharedPlace(held, place.pending)

    def states(self, carried: Carried, places: Mapping[str, SharedPlace]) -> dict[str, Any]:
        """What each object has to be, by path: of those a loader reaches, and those it does not any more."""
        found = {path: place.state() for path, place in places.items() if path not in carried.held}
        for path, held in carried.held.items():
            if held.place is not None:
                found[path] = held.place.state()
            elif path not in carried.generators:  # A new one is told by whoever sets the states.
                found[path] = held.take()
        return {path: state for path, state in found.items() if state is not None}

    def settle(self, opened: Carried | None = None) -> None:
        """Put each object where the checkpoint had it, for the last time; those of `opened` are there."""
        there = set() if opened is None else set(map(id, opened.held.values()))
        for held in self.objects.living():
            if held.place is not None and held.place.pending is not None:
                if id(held) not in there:
                    held.put(held.place.pending, is_open=False)
                held.place.pending = None


def _place(held: Held) -> SharedPlace:
    place: SharedPlace = held.place or SharedPlace(held)
    held.place = place
    return place
