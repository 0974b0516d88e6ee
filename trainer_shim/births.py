"""Which torch DataLoaders begin to be iterated, by whomever, and where the generators stood then.

Covers: the look at `DataLoader.__iter__` while a session lives, and what is remembered of each beginning.
Does not cover: the passes that are made of them (weaving.py), loaders that are handed over as they are
(loader.py).

A loader inside a `zip`, a generator or an object of the script's begins out of sight of `batches()`, often
before that is called, and draws the seeds of its order and of its workers then.
"""
# ruff: noqa: SLF001 - how far an iterator of torch is, only it knows.

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from trainer_shim import rng
from trainer_shim.iterators import has_more
from trainer_shim.objects import Objects

if TYPE_CHECKING:
    from trainer_shim.carried import Carried

__all__ = ["Birth", "Births", "is_plain", "plain_iter"]


class Birth:
    """One beginning of a loader's iteration."""

    def __init__(
        self, loader: Any, iterator: Any, start: Mapping[str, Any], *, is_again: bool = False
    ) -> None:
        self.loader = weakref.ref(loader)
        #: The generators, and what the data keeps, before it began.
        self.start = start
        #: Whether workers that had served before went on.
        self.is_again = is_again
        #: Whether it belongs to a pass.
        self.is_woven = False
        self._iterator: Callable[[], Any] = weakref.ref(iterator)
        self._num_served = 0

    def served(self) -> int:
        """How many batches it has given."""
        iterator = self._iterator()
        if iterator is not None:
            self._num_served = iterator._num_yielded
        return self._num_served

    def close(self) -> None:
        """The same iterator begins again: this is what the time before came to."""
        self.served()
        self._iterator = _nothing

    def is_under_way(self) -> bool:
        """Whether somebody holds it between its first batch and its last."""
        iterator = self._iterator()
        return iterator is not None and self.served() > 0 and has_more(iterator)


class Births:
    """The beginnings that happened in one session, as long as somebody holds the iterators."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._of_iterator: weakref.WeakKeyDictionary[Any, Birth] = weakref.WeakKeyDictionary()
        self._carried: weakref.WeakKeyDictionary[Any, Carried] = weakref.WeakKeyDictionary()
        self._pid, self._thread = os.getpid(), threading.get_ident()
        #: Makes the iterators while a pass fetches its next batch.
        self.maker: Callable[[Any], Iterator[Any]] | None = None

    def watch(self) -> None:
        """Look on from now on, if torch's loaders are there to be looked at; may be repeated."""
        global _watching, _plain  # noqa: PLW0603  # There is one DataLoader.
        data = sys.modules.get("torch.utils.data")
        if data is None:
            return
        _watching = self
        if _plain is None:
            _plain = data.DataLoader.__iter__
            data.DataLoader.__iter__ = _iter

    def unwatch(self) -> None:
        """Leave torch as it was."""
        global _watching, _plain  # noqa: PLW0603
        if _watching is not self:
            return
        _watching = None
        data = sys.modules["torch.utils.data"]
        if _plain is not None and data.DataLoader.__iter__ is _iter:  # Else somebody else came after.
            data.DataLoader.__iter__ = _plain
            _plain = None

    def of(self, iterator: Any) -> Birth | None:
        """How an iterator began, None if nobody looked."""
        try:
            return self._of_iterator.get(iterator)
        except TypeError:
            return None

    def under_way(self) -> list[Birth]:
        """Those outside of all passes that somebody holds between their first batch and their last."""
        found = [birth for birth in list(self._of_iterator.values()) if not birth.is_woven]
        return [birth for birth in found if birth.is_under_way()]

    def begin(self, loader: Any) -> Iterator[Any]:
        """Begin an iteration as torch does, and remember it."""
        if os.getpid() != self._pid:  # A worker that iterates a loader of its own.
            return _torch_iter(loader)
        # A thread that reads ahead has no part in what the training thread fetches meanwhile.
        if self.maker is None or threading.get_ident() != self._thread:
            return self.made(loader, self.freeze(loader))[0]
        return self.maker(loader)

    def made(self, loader: Any, start: Mapping[str, Any]) -> tuple[Iterator[Any], Birth]:
        """A beginning whose generators stood at `start`."""
        iterator: Any = _torch_iter(loader)
        before = self.of(iterator)
        if before is not None:
            before.close()
        is_again = loader.persistent_workers and before is not None
        if not loader.persistent_workers:  # Such a one holds its iterator itself.
            # A loader that only its iterator is left of stays as long as that does.
            iterator.shim_loader = loader
        birth = self._of_iterator[iterator] = Birth(loader, iterator, start, is_again=is_again)
        return iterator, birth

    def stand_in(self, iterator: Any, other: Any) -> None:
        """From now on one iterator gives what the other one does."""
        birth = self.of(other)
        if birth is None:
            self._of_iterator.pop(iterator, None)
        else:
            self._of_iterator[iterator] = birth

    def freeze(self, loader: Any) -> dict[str, Any]:
        """The generators, and what the data keeps, as they are."""
        return {"rng": rng.capture_cpu(), "held": self._reached(loader).take()}

    def thaw(self, loader: Any, start: Mapping[str, Any]) -> list[str]:
        """Put all that where `freeze` found it; what cannot be is said."""
        rng.restore(start["rng"])
        return self._reached(loader).put_start(start["held"])

    def _reached(self, loader: Any) -> Carried:
        if loader not in self._carried:
            self._carried[loader] = self._look(loader)
        return self._carried[loader]

    def _look(self, loader: Any) -> Carried:
        from trainer_shim.carried import Carried

        return Carried.of(loader, self._objects)

    def reached(self, loader: Any) -> Carried:
        """What a loader, or anything else, reaches; looked for again where that takes next to no time."""
        if not is_plain(loader):
            return self._look(loader)
        known = self._carried.get(loader)
        if known is None or known.took_s < _SLOW_S:
            known = self._carried[loader] = self._look(loader)
        return known


#: A walk over what a loader reaches that is not made at each pass.
_SLOW_S = 0.05

#: The session that looks on, and `DataLoader.__iter__` as torch has it while it does.
_watching: Births | None = None
_plain: Callable[[Any], Iterator[Any]] | None = None


def _iter(loader: Any) -> Iterator[Any]:
    """What stands in the place of `DataLoader.__iter__`."""
    return _torch_iter(loader) if _watching is None else _watching.begin(loader)


def _torch_iter(loader: Any) -> Iterator[Any]:
    iterator: Iterator[Any] = (_plain or sys.modules["torch.utils.data"].DataLoader.__iter__)(loader)
    return iterator


def is_plain(loader: Any) -> bool:
    """Whether this is a loader of torch's that iterates as torch does."""
    data = sys.modules.get("torch.utils.data")
    return (
        data is not None
        and isinstance(loader, data.DataLoader)
        and type(loader).__iter__ is data.DataLoader.__iter__
    )


def plain_iter(loader: Any) -> Any:
    """`iter(loader)` as without anybody who looks on."""
    return _torch_iter(loader) if type(loader).__iter__ is _iter else iter(loader)


def _nothing() -> None:
    pass
