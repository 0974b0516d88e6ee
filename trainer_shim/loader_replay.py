"""How an iterable that is no plain loader is left at a batch boundary and taken up: it is read again.

Covers: streams, objects and iterators of the script's, also with loaders inside; who draws from which
generator meanwhile.
Does not cover: what the loaders inside do (weaving.py), plain loaders (loader_strategies.py).
"""

# ruff: noqa: SLF001 - whether a loader has living workers, only it knows.

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from trainer_shim import rng
from trainer_shim.carried import Carried
from trainer_shim.loader_strategies import LoaderStrategy
from trainer_shim.streams import Streams
from trainer_shim.values import printed_batch

__all__ = ["Replayed"]


class Replayed(LoaderStrategy):
    """Any other iterable: its loaders are set to where they were, and the rest is read again and dropped."""

    kind = "replayed"

    def __init__(
        self, loader: Any, resume: Mapping[str, Any] | None, carried: Carried, streams: Streams
    ) -> None:
        super().__init__(loader, resume, carried)
        #: Generators (by name) that the iterable drew from, and those that the training drew from.
        self._drawn: dict[str, set[str]] = {"loading": set(), "training": set()}
        self._seen: dict[str, Any] = {}
        self._num_fetched = 0
        self._is_watched = not getattr(loader, "num_workers", 0)  # Workers have generators of their own.
        is_persistent = bool(getattr(loader, "persistent_workers", False))
        self._is_reused = bool(resume["reused"]) if resume else is_persistent and loader._iterator is not None
        if self._is_reused:
            self._doubt("persistent workers over an IterableDataset start anew when a later pass is taken up")
        self._weaving, self._places = streams.of(loader)
        #: What the last batch was.
        self._last: str | None = None
        if resume is None:
            self._open(loader, streams)
            return
        self._drawn = {who: set(names) for who, names in resume["drawn"].items()}
        self._last = resume.get("last")
        if is_persistent:
            loader._iterator = None
        self._reopen(loader, resume, streams)

    def fetch(self) -> Any:
        """The next batch; notices who draws from which generator."""
        self._num_fetched += 1
        if not self._is_watched or not self.is_exact or not _is_looked_at(self._num_fetched):
            self._seen = {}
            batch = self._weaving.fetch(self._iterator)
        else:
            batch = self._watched()
        self._last = printed_batch(batch)
        return batch

    def save(self) -> dict[str, Any]:
        """The start, who drew from which generator, and of what it is made."""
        self.look()
        drawn = {who: sorted(names) for who, names in self._drawn.items()}
        woven = {**self._weaving.save(), "in_pass": self._weaving.num_in_pass, "places": self._places}
        return {
            **super().save(),
            "reused": self._is_reused,
            "drawn": drawn,
            "last": self._last,
            "woven": woven,
        }

    def let_go(self) -> Callable[[], Mapping[str, Any]]:
        """The pass is over; what others hold of it may go on."""
        super().let_go()
        weaving = self._weaving
        return lambda: {"woven": {**weaving.save(), "in_pass": 0, "places": weaving.goes_on()}}

    def _open(self, loader: Any, streams: Streams) -> None:
        if self._weaving.start is None:
            self._weaving.start = self._start
        self._iterator = self._weaving.open(loader)
        streams.know(self._iterator, self._weaving)
        self.look()

    def _reopen(self, loader: Any, saved: Mapping[str, Any], streams: Streams) -> None:
        woven: Any = saved.get("woven")
        goes_on = woven is not None and bool(woven["places"])
        if saved["ended"] and (not goes_on or self._places):
            # Over, and nothing of it goes on; or that was brought to its place by another pass.
            self._put(saved["held"], is_open=False)
            return
        start = woven["start"] if goes_on else self._start
        self._thaw(start)
        if woven is None:  # By a version before.
            woven = {
                "start": self._start,
                "strands": [],
                "num_given": saved["taken"],
                "in_pass": saved["taken"],
            }
        places = woven.get("places", [])
        began = time.monotonic()
        self._iterator = self._weaving.load(
            woven, loader, start=start, num_in_pass=woven["in_pass"], places=places
        )
        streams.know(self._iterator if woven["in_pass"] else loader, self._weaving)
        self._check_mixed()  # Now the loaders inside are known.
        num_read = self._weaving.num_read
        if num_read:
            self._tell_cost(began, f"; {_SPARE}" if self._weaving.strands else "")
        if num_read and not self._mixed() and self._last != printed_batch(self._weaving.last):
            self._doubt("the data that was read again is not what it was before the pause")
        self._weaving.last = None
        self._put(saved["held"], is_open=not saved["ended"])
        self.look()

    def _watched(self) -> Any:
        before = rng.capture_cpu()
        if self._seen:
            self._drawn["training"] |= _changed(self._seen, before)
        # A loader that begins a turn draws its order; it will do that again with the same generators.
        is_beginning, num_turns = self._weaving.is_beginning(), self._weaving.num_turns
        batch = self._weaving.fetch(self._iterator)
        self._seen = rng.capture_cpu()
        if not self._weaving.strands or not (is_beginning or num_turns != self._weaving.num_turns):
            self._drawn["loading"] |= _changed(before, self._seen)
        self._check_mixed()
        return batch

    def _mixed(self) -> set[str]:
        return self._drawn["loading"] & self._drawn["training"]

    def _check_mixed(self) -> None:
        # Read again without the training in between, the iterable draws other numbers. That is harmless
        # unless it remembers some, as a shuffle buffer does, and that cannot be seen from here.
        if self._mixed() and self.is_exact and not self._weaving.hands_on():
            names = ", ".join(sorted(self._mixed()))
            self._doubt(f"loading and training draw from the same generator ({names}): give the data its own")

    def look(self) -> None:
        """Note what keeps a weave of loaders from being taken up, and what cannot be kept."""
        super().look()
        self._weaving.check()
        for reason in self._weaving.notes:
            text = f"what was handed to batches() cannot be taken up exactly: {reason}; {_SPARE}"
            if text not in self.notes:
                self._doubt(text)


def _is_looked_at(number: int) -> bool:
    # A look costs some 100 us and who draws from what hardly changes: the first batches, then two in a row
    # now and then, because the training is seen between two.
    return number <= _LOOKS or number % _LOOKS < 2


_LOOKS = 64
_SPARE = "hand over the data loader itself where you can: `shim.batches(loader)`"


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> set[str]:
    return {name for name in after if after[name] != before.get(name, after[name])}
