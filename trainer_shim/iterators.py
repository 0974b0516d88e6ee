"""Living iterators inside of one another: a generator in an `islice`, loaders' iterators in a `zip`.

Covers: finding them, telling whether one has more to give and whether others hold it.
Does not cover: what is made of that (weaving.py, streams.py).
"""

from __future__ import annotations

import gc
import sys
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from types import GeneratorType
from typing import Any

from trainer_shim.reach import attributes, hands_on

__all__ = ["Look", "has_more", "inside", "is_of_loader", "outermost"]

#: How far iterators inside iterators are looked for.
_MAX_INSIDE = 200


def inside(iterable: Any) -> Iterator[Any]:
    """The living iterators that are, or lie in, what was handed over: generators, those of C, loaders'."""
    waiting = deque([iterable])
    if not _is_iterator(iterable):
        # A prefetcher, or a loader that keeps its iterator for ever.
        waiting.extend(one for _, one in attributes(iterable) if _is_iterator(one))
    seen: set[int] = set()
    while waiting and len(seen) < _MAX_INSIDE:
        thing = waiting.popleft()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if is_of_loader(thing):
            yield thing
        elif isinstance(thing, GeneratorType) or hands_on(thing):
            yield thing
            # Not through variables that are containers: those hold data.
            waiting.extend(one for one in gc.get_referents(thing) if _is_iterator(one) or type(one) is tuple)
        elif type(thing) is tuple and len(thing) <= 64:
            waiting.extend(one for one in thing if _is_iterator(one))


def outermost(iterators: Mapping[int, Any]) -> list[int]:
    """The places of those that lie inside of none of the others."""
    nested = {id(one) for outer in iterators.values() for one in inside(outer) if one is not outer}
    return [place for place, iterator in iterators.items() if id(iterator) not in nested]


def has_more(iterator: Any) -> bool:
    """Whether an iterator may still give something."""
    if isinstance(iterator, GeneratorType):
        return iterator.gi_frame is not None
    if is_of_loader(iterator):
        try:
            return bool(iterator._num_yielded < len(iterator))  # noqa: SLF001  # Only it knows.
        except TypeError:  # A stream cannot tell.
            return True
    return True


def is_of_loader(thing: Any) -> bool:
    """Whether this is what a loader of torch gives for `iter()`."""
    dataloader = sys.modules.get("torch.utils.data.dataloader")
    return dataloader is not None and isinstance(thing, dataloader._BaseDataLoaderIter)  # noqa: SLF001


def _is_iterator(thing: Any) -> bool:
    return isinstance(thing, GeneratorType) or hands_on(thing) or is_of_loader(thing)


class Look:
    """A look at an iterator, which does not keep it where that can be: those of C know no weak references."""

    def __init__(self, iterator: Any) -> None:
        self.is_kept = False
        try:
            self._iterator: Callable[[], Any] = weakref.ref(iterator)
        except TypeError:
            self.is_kept = True
            self._iterator = lambda: iterator

    def iterator(self) -> Any:
        """The iterator, None once it is gone."""
        return self._iterator()

    def let_go(self) -> None:
        """Keep an iterator no longer that nobody else has."""
        if self.is_kept and not self.is_held():
            self._iterator = _nothing

    def is_held(self) -> bool:
        """Whether anybody else has it."""
        # This look's cell, and the argument of the call.
        return self.iterator() is not None and (not self.is_kept or sys.getrefcount(self.iterator()) > 2)


def _nothing() -> None:
    pass
