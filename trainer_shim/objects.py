"""One place for each object of the data, whoever uses it.

Covers: which place an object has, and of which kind.
Does not cover: what an object keeps (held.py), what a loader reaches (carried.py).
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from trainer_shim import reach
from trainer_shim.parts import ODD

if TYPE_CHECKING:
    from trainer_shim.held import Held

__all__ = ["Objects"]

_MAX_BARE = 16
#: Parts of a loader whose own word on their state is taken.
_STATEFUL = frozenset({"sampler", "batch_sampler", "dataset"})


def _tells(thing: Any) -> bool:
    """Whether an object tells its state itself, and can: some refuse while nobody iterates."""
    if not (hasattr(thing, "state_dict") and hasattr(thing, "load_state_dict")):
        return False
    try:
        thing.state_dict()
    except ODD:
        return False
    return True


class Bare:
    """Holds a list."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items


class Objects:
    """All objects that loaders share or do not share, each with one state."""

    def __init__(self, *, is_small: bool = False) -> None:
        self._held: weakref.WeakValueDictionary[int, Held] = weakref.WeakValueDictionary()
        #: Whether these are a worker's, which sends their states home with each batch.
        self.is_small = is_small
        self._bare: list[Bare] = []

    def held(self, thing: Any, path: str) -> Held:
        """The one place for an object's state."""
        found = self._held.get(id(thing))
        if found is None or found.thing() is not thing:  # Another object may lie where one lay that is gone.
            found = self._held[id(thing)] = self._new(thing, path)
        return found

    def bare(self, items: list[Any]) -> Bare:
        """What stands for a list that is a part of a loader by itself, and has no attributes."""
        known = next((one for one in self._bare if one.items is items), None)
        if known is None:
            known = Bare(items)
            # A loop may make one for each pass.
            self._bare = [*self._bare[-_MAX_BARE:], known]
        return known

    def living(self) -> list[Held]:
        """All that somebody still holds."""
        return list(self._held.values())

    def _new(self, thing: Any, path: str) -> Held:
        from trainer_shim import standing
        from trainer_shim.held import HeldGenerator, HeldOwn, HeldPlace, HeldValues

        if reach.is_generator(thing):
            return HeldGenerator(thing)
        if standing.stands(thing):
            return HeldPlace(thing)
        if path in _STATEFUL and not self.is_small and _tells(thing):
            return HeldOwn(thing)
        return HeldValues(thing, is_small=self.is_small)
