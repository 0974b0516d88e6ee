"""Iterators that go on from pass to pass: a generator that gives so many batches to each epoch.

Covers: knowing them again when they are handed over, whatever is around them.
Does not cover: taking them up (weaving.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trainer_shim.births import Births
from trainer_shim.iterators import Look, inside, outermost

if TYPE_CHECKING:
    from trainer_shim.weaving import Weaving

__all__ = ["Streams"]


class Streams:
    """Those of one session, as long as the script holds them."""

    def __init__(self, births: Births) -> None:
        self.births = births
        self._known: list[tuple[Look, Weaving]] = []

    def of(self, iterable: Any) -> tuple[Weaving, list[int]]:
        """The weaving of what is handed over, and where inside lies what had passes before."""
        self._known = [(look, weaving) for look, weaving in self._known if look.iterator() is not None]
        weavings = {id(look.iterator()): weaving for look, weaving in self._known}
        old = {place: one for place, one in enumerate(inside(iterable)) if id(one) in weavings}
        places = outermost(old)
        from trainer_shim.weaving import Weaving

        return (weavings[id(old[places[0]])] if places else Weaving(self.births)), places

    def let_go(self) -> None:
        """Keep no iterator that nobody else has."""
        for look, _ in self._known:
            look.let_go()

    def know(self, iterable: Any, weaving: Weaving) -> None:
        """Remember the iterators that are, or lie inside of, what a pass is made over."""
        known = {id(look.iterator()): look for look, _ in self._known}
        weaving.inside = []
        for iterator in inside(iterable):
            look = known.get(id(iterator)) or Look(iterator)
            weaving.inside.append(look)
            if look.is_kept:
                # The last one is enough: who hands such a one over again does so in the next pass.
                self._known = [one for one in self._known if not one[0].is_kept]
            if id(iterator) not in known:
                self._known.append((look, weaving))
