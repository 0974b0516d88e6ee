"""How each kind of data loader is left at a batch boundary and taken up in a fresh process.

Covers: the three ways behind `open_pass`.
Does not cover: the order of a map-style dataset (loader_order.py), what runs
inside the workers (loader_workers.py).

torch's DataLoader has no public way to say "begin at batch k", so this reads and
sets a few private names of its iterator, all of them older than torch 2.0:
`_sampler_iter`, `_index_sampler`, `_worker_queue_idx_cycle`, `_try_put_index`.
"""
# ruff: noqa: SLF001 - see the docstring.

from __future__ import annotations

import itertools
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from trainer_shim import loader_workers, rng
from trainer_shim.carried import Carried
from trainer_shim.loader_order import Order, draws_at_once

__all__ = ["READS_AGAIN", "Indexed", "LoaderStrategy", "StatefulStrategy", "is_torchdata"]

READS_AGAIN = "taking up this pass reads the batches before it again"
#: Reading again is a cost, and no doubt: told where somebody waits for it.
_LONG_S = 1.0


class LoaderStrategy:
    """How one kind of loader is left and taken up again."""

    kind = ""

    def __init__(self, loader: Any, resume: Mapping[str, Any] | None, carried: Carried) -> None:
        self.notes: list[str] = []
        self.is_exact = True
        self.length = _length(loader)
        self._iterator: Any = iter(())
        self._log: loader_workers.Log | None = None
        self.carried = carried
        self._has_workers = bool(getattr(loader, "num_workers", 0))
        for path in carried.unseen:
            self._doubt(
                f"the data holds too much to look for generators in all of it; not looked at: `{path}` and on"
            )
        #: What is the same in every process that brings the same data.
        self._same = _shape(loader) | carried.made()
        #: The generators, and what the data keeps, before the pass began.
        self._start: Mapping[str, Any] = self._freeze() if resume is None else resume["start"]
        if resume is not None and not resume["ended"]:
            self._doubt_all(_differences(resume.get("same", {}), self._same))

    def fetch(self) -> Any:
        """The next batch; StopIteration at the end."""
        return next(self._iterator)

    def save(self) -> dict[str, Any]:
        """What a fresh process needs beside the number of batches taken, and beside what is carried."""
        return {"start": self._start, "same": self._same}

    def let_go(self) -> Callable[[], Mapping[str, Any]]:
        """The pass is over; returns a look at what is true of it when a checkpoint is written later."""
        self._iterator = iter(())
        return dict

    def look(self) -> None:
        """Note what can be seen by now."""
        self._doubt_all(
            f"`{path}` was changed by the run, and holds objects that cannot be kept: {_KEEP}"
            for path in self.carried.unkept()
        )
        self._doubt_all(
            f"`{path}` is an iterator that goes on from batch to batch, and where it stands cannot be kept: "
            f"{_KEEP}"
            for path in self.carried.went_on(has_workers=self._has_workers)
        )

    def _tell_cost(self, began: float, hint: str = "") -> None:
        """Note what reading again took since `began`, if that was long."""
        took_s = time.monotonic() - began
        if took_s >= _LONG_S:
            self.notes.append(f"{READS_AGAIN}, which took {took_s:.0f} s{hint}")

    def _doubt(self, reason: str) -> None:
        self.notes.append(reason)
        self.is_exact = False

    def _freeze(self) -> dict[str, Any]:
        return {"rng": rng.capture_cpu(), "held": self.carried.take()}

    def _thaw(self, state: Mapping[str, Any]) -> None:
        rng.restore(state["rng"])
        self._doubt_all(self.carried.put_start(state["held"]))

    def _put(self, states: Any, *, is_open: bool) -> None:
        self._doubt_all(self.carried.put(states, is_open=is_open))

    def _doubt_all(self, reasons: Iterable[str]) -> None:
        for reason in reasons:
            if reason not in self.notes:
                self._doubt(reason)

    def _make(self, loader: Any, states: list[Any] | None) -> None:
        self._iterator, self._log = loader_workers.recorded(loader, states, self._start)
        if loader.num_workers and self._log is None:
            self._doubt("the workers are older than the first pass through the shim, which did not see them")
        if loader.num_workers and not getattr(loader, "in_order", True):
            self._doubt("the loader has in_order=False: which batch comes next depends on timing")

    def _watch_log(self) -> None:
        if self._log is not None and self._log.is_torn and self.is_exact:
            self._doubt("a worker carries other random generators than before; make them with the dataset")

    def _worker_states(self, loader: Any, saved: list[Any] | None) -> list[Any] | None:
        if len(saved or []) == loader.num_workers:
            return saved
        self._doubt(f"the loader had {len(saved or [])} recorded workers and has {loader.num_workers} now")
        return None


class Indexed(LoaderStrategy):
    """A torch DataLoader over a map-style dataset: the order is drawn again, the data is not loaded again."""

    kind = "indexed"

    def __init__(self, loader: Any, resume: Mapping[str, Any] | None, carried: Carried) -> None:
        super().__init__(loader, resume, carried)
        self._order = Order(loader._index_sampler)
        #: The generators when the workers were made, if that was in an earlier pass: persistent workers got
        #: their seeds there.
        self._birth: Mapping[str, Any] | None = None
        #: The state to hand on, when this pass had ended and was not opened again.
        self._closed: Mapping[str, Any] | None = None
        if resume is None:
            self._install(loader, None)
            if self._log is not None and self._log.birth is not self._start:
                self._birth = self._log.birth
        elif not resume["ended"] or loader.persistent_workers:
            self._reopen(loader, resume)
        else:
            self._closed = resume
            self._put(resume["held"], is_open=False)

    def fetch(self) -> Any:
        """The next batch; its index is used even when the batch cannot be made."""
        try:
            batch = next(self._iterator)
        except StopIteration:
            raise
        except Exception:
            self._order.use()
            raise
        self._order.use()
        self._watch_log()
        return batch

    def save(self) -> dict[str, Any]:
        """The start, the order and the workers' generators."""
        if self._closed is not None:
            return {
                name: self._closed[name]
                for name in ("start", "same", "birth", "order", "workers")
                if name in self._closed
            }
        recorded = None if self._log is None else list(self._log.used)
        return {**super().save(), "birth": self._birth, "order": self._order.save(), "workers": recorded}

    def _install(self, loader: Any, states: list[Any] | None) -> None:
        """Make the iterator over `self._order`, and leave no trace of it in the loader."""
        name = "sampler" if loader.batch_sampler is None else "batch_sampler"
        sampler = getattr(loader, name)
        living = loader._iterator
        if living is not None:
            living._index_sampler = self._order
        try:
            with loader_workers.swapped(loader, **{name: self._order}):
                self._make(loader, states)
        finally:
            if living is not None:
                living._index_sampler = sampler
        self._iterator._index_sampler = sampler
        # Without workers iter() is not called again, and with them the last iter() made the walk.
        self._iterator._sampler_iter = self._order

    def _reopen(self, loader: Any, saved: Mapping[str, Any]) -> None:
        self._birth = saved["birth"]
        birth = self._birth or self._start
        self._thaw(birth)
        loader._iterator = None
        # Silent, so that the new workers get no index before the place to go on is found. Making the iterator
        # draws what it drew then, in the same order: the workers' base seed is the same.
        self._order.is_silent = True
        self._install(loader, self._worker_states(loader, saved["workers"]))
        self._order.is_silent = False
        if self._log is not None:
            self._log.birth = birth
        if self._birth is not None:
            self._thaw(self._start)
            iter(self._order)
        if not self._order.skip(saved["order"]):
            self._doubt(
                "the sampler gave other indices than before, from something that cannot be seen: give it "
                "state_dict() and load_state_dict()"
            )
        if loader.num_workers:
            self._prime(loader, saved["order"]["used"])
        self._put(saved["held"], is_open=not saved["ended"])

    def _prime(self, loader: Any, used: int) -> None:
        # Batch i comes from worker i modulo their number, here as in the unbroken run: the numbers of the
        # workers, and with them their seeds and their ids, stay what they were.
        for _ in range(used % loader.num_workers):
            next(self._iterator._worker_queue_idx_cycle)
        for _ in range(loader.prefetch_factor * loader.num_workers):
            self._iterator._try_put_index()


class StatefulStrategy(LoaderStrategy):
    """A loader with a `state_dict()` of its own, above all torchdata's; its workers' numbers are added."""

    kind = "stateful"

    def __init__(self, loader: Any, resume: Mapping[str, Any] | None, carried: Carried) -> None:
        super().__init__(loader, resume, carried)
        self._loader = loader
        self._is_torchdata = is_torchdata(loader)
        self._is_reused = resume is not None and bool(resume["reused"])
        if resume is None:
            self._open(None)
        else:
            self._reopen(resume)

    def fetch(self) -> Any:
        """The next batch."""
        batch = next(self._iterator)
        self._watch_log()
        return batch

    def save(self) -> dict[str, Any]:
        """The loader's own state and what it leaves out."""
        recorded = None if self._log is None else list(self._log.used)
        saved = {**super().save(), "loader": self._loader.state_dict(), "workers": recorded}
        return {**saved, "reused": self._is_reused}

    def _open(self, states: list[Any] | None) -> None:
        loader = self._loader
        if not self._is_torchdata:
            self._iterator = iter(loader)
            return
        self._make(loader, states)
        if loader.num_workers and loader.snapshot_every_n_steps != 1:
            self._doubt("snapshot_every_n_steps is not 1: batches made again draw new random numbers")
        self._is_reused = self._is_reused or (self._log is not None and self._log.birth is not self._start)
        if _is_stream(loader):
            return
        if self._is_reused and not _keeps_place(loader):
            self._doubt("the sampler has no state_dict(), and persistent workers move what it draws")
        elif loader.num_workers and not _keeps_place(loader) and not draws_at_once(loader.batch_sampler):
            self._doubt("the sampler has no state_dict(): if it draws as it goes, torchdata repeats it wrong")

    def _reopen(self, saved: Mapping[str, Any]) -> None:
        self._thaw(self._start)
        if self._is_torchdata and _is_stateless_stream(saved["loader"]):
            # torchdata would read again too, but counts those batches twice in its next state.
            began = time.monotonic()
            self._open(None)
            deque(itertools.islice(self._iterator, saved["taken"] + saved["ended"]), maxlen=0)
            self._tell_cost(began)
            self._put(saved["held"], is_open=not saved["ended"])
            return
        place = dict(saved["loader"])
        if "_iterator_finished" in place:
            place["_iterator_finished"] = False  # Else torchdata starts the next pass; here that comes later.
        self._loader.load_state_dict(place)
        if not self._is_torchdata:
            if not saved["ended"]:
                self._open(None)
            return
        self._open(self._worker_states(self._loader, saved["workers"]))
        walk = self._iterator._sampler_iter
        if isinstance(walk, itertools.islice) and not self._loader.num_workers:
            # torchdata would skip at the first batch, when the generators are no longer those of the start.
            walk = iter(self._iterator._index_sampler)
            deque(itertools.islice(walk, self._iterator._sampler_iter_yielded), maxlen=0)
            self._iterator._sampler_iter = walk
        self._put(saved["held"], is_open=not saved["ended"])


def _length(loader: Any) -> int | None:
    # Asking an IterableDataset's loader makes it warn later, unless this is put back.
    called = getattr(loader, "_IterableDataset_len_called", None)
    try:
        return len(loader)
    except (TypeError, NotImplementedError):
        return None
    finally:
        if hasattr(loader, "_IterableDataset_len_called"):
            loader._IterableDataset_len_called = called


_KEEP = "keep plain values there, or give the sampler or data set state_dict() and load_state_dict()"


def _is_stream(loader: Any) -> bool:
    data = sys.modules["torch.utils.data"]
    return isinstance(loader.dataset, data.IterableDataset)


def _shape(loader: Any) -> dict[str, Any]:
    """How many items and of what size the batches are, for a torch loader over a map-style dataset."""
    dataset = getattr(loader, "dataset", None)
    if dataset is None or not hasattr(dataset, "__getitem__"):
        return {}
    with suppress(TypeError, NotImplementedError):
        return {"": [len(dataset), getattr(loader, "batch_size", None)]}
    return {}


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Say what is other data than the pass had before."""
    names = ["the data set had {} items and has {} now", "batches had {} items and have {} now"]
    for text, was, here in zip(names, before.get("", ()), now.get("", ()), strict=False):
        if was != here:
            yield (
                f"{text.format(was, here)}: places count in batches, and an epoch begun with other data does "
                "not go on as it was; make the change where an epoch begins, or begin a new run"
            )
    for name in before:
        if name and name in now and now[name] != before[name]:
            yield (
                f"`{name}` holds other items than before the pause, or in another order: sort what lists "
                "files, and seed what orders them"
            )


def _keeps_place(loader: Any) -> bool:
    """Whether the sampler draws nothing from a generator that others use, or has a state of its own."""
    sampler = loader.sampler if loader.batch_sampler is None else loader.batch_sampler
    inner = getattr(sampler, "sampler", sampler)
    name = type(inner).__name__
    # The random sampler of torchdata is stateful in its iterator only.
    is_stateful = hasattr(inner, "state_dict") or str(type(inner).__module__).startswith("torchdata")
    return is_stateful or name in {"SequentialSampler", "DistributedSampler"}


def _is_stateless_stream(place: Mapping[str, Any]) -> bool:
    """Whether a state of torchdata's says nothing about how far a stream was read."""
    parts = [place]
    if "_snapshot" in place:
        parts = list(place["_snapshot"].get("_worker_snapshots", {}).values())
    fetchers = [one["fetcher_state"] for one in parts if one and one["dataset_state"] is None]
    return any(one is not None and one["dataset_iter_state"] is None for one in fetchers)


def is_torchdata(loader: Any) -> bool:
    """Whether this is torchdata's StatefulDataLoader, and not a subclass that iterates its own way."""
    torchdata = sys.modules.get("torchdata.stateful_dataloader")
    if torchdata is None or not isinstance(loader, torchdata.StatefulDataLoader):
        return False
    return bool(type(loader).__iter__ is torchdata.StatefulDataLoader.__iter__)
