"""The random numbers of a DataLoader's worker processes, brought home with each batch.

Covers: what runs inside a worker (a collate function and an init function
around the user's own), and the iterator that takes the extra part off again
before anybody sees the batch.
Does not cover: which batch comes next; loader_strategies.py decides that.

A worker's generators advance with the batches it made, and workers run ahead of
the training loop. Only the state *after the last batch that was used* lets a
fresh worker go on, and only the worker knows it.

Under `spawn` the workers import this module, so it stays as light as rng.py.
"""
# ruff: noqa: SLF001 - torch has no public place to look into what comes back from a worker.

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from trainer_shim import rng, signals
from trainer_shim.births import plain_iter
from trainer_shim.carried import Carried
from trainer_shim.objects import Objects

__all__ = ["Log", "recorded", "swapped"]


class MadeWorkers:
    """A batch on its way home, with the generators of its worker after making it."""

    def __init__(self, batch: Any, worker: int, state: dict[str, Any] | None, *, is_torn: bool) -> None:
        self.batch = batch
        self.worker = worker
        #: None while nothing has changed since this worker's batch before.
        self.state = state
        self.is_torn = is_torn

    def pin_memory(self) -> MadeWorkers:
        """Torch's pinning thread asks every object it does not know for this."""
        from torch.utils.data._utils import pin_memory

        pin: Callable[[Any], Any] = pin_memory.pin_memory
        self.batch = pin(self.batch)
        return self


class Recorder:
    """The user's collate function, with the worker's generators added to what it returns."""

    def __init__(self, collate: Callable[[Any], Any]) -> None:
        self.collate = collate
        #: True when this worker could not be put back where the recorded one was.
        self.is_torn = False
        self._last: dict[str, Any] | None = None
        self._carried: Carried | None = None
        self._has_looked_again = False

    def __call__(self, samples: Any) -> Any:
        from torch.utils.data import get_worker_info

        batch = self.collate(samples)
        info = get_worker_info()
        if info is None:
            return batch
        carried = self.carried(info.dataset)
        if not self._has_looked_again:
            # With what the dataset made late, for its first batch.
            carried.look_again()
            self._has_looked_again = True
        state = {**rng.capture_cpu(), "held": carried.take()}
        is_new = state != self._last
        self._last = state
        return MadeWorkers(batch, info.id, state if is_new else None, is_torn=self.is_torn)

    def carried(self, dataset: Any) -> Carried:
        """What this worker's copy of the dataset keeps between batches; first asked at its beginning."""
        if self._carried is None:
            self._carried = Carried({"dataset": dataset, "collate_fn": self.collate}, Objects(is_small=True))
        return self._carried


class Resumer:
    """The user's worker_init_fn, followed by the generators that the worker of the same number had before."""

    def __init__(
        self, init: Callable[[int], Any] | None, states: list[dict[str, Any] | None], recorder: Recorder
    ) -> None:
        self._init = init
        self._states = states
        self._recorder = recorder

    def __call__(self, worker: int) -> None:
        from torch.utils.data import get_worker_info

        signals.shield_worker()
        if self._init is not None:
            self._init(worker)
        info = get_worker_info()
        assert info is not None
        carried = self._recorder.carried(info.dataset)
        state = self._states[worker]
        if state is not None:
            rng.restore(state)
            self._recorder.is_torn = bool(carried.put(state["held"]))


class Log:
    """Where the workers' generators stand; kept on the iterator, as long as the workers live."""

    def __init__(self, states: list[dict[str, Any] | None], birth: Mapping[str, Any]) -> None:
        #: After the last batch of each worker that the loop took; None before its first.
        self.used = list(states)
        #: The same after the last batch that came home, taken or not.
        self.arrived = list(states)
        #: The generators of this process when the workers were made.
        self.birth = birth
        self.is_torn = False

    def settle(self) -> None:
        """A new pass has begun: what was made ahead for the one before is spent."""
        self.used = list(self.arrived)


def recorded(
    loader: Any, states: list[dict[str, Any] | None] | None, birth: Mapping[str, Any]
) -> tuple[Any, Log | None]:
    """`iter(loader)` with its workers recorded, and put where `states` say.

    No log for a loader without workers, or whose workers are older than the first recorded pass.
    """
    if not loader.num_workers:
        return plain_iter(loader), None
    before = loader._iterator
    states = states or [None] * loader.num_workers
    recorder = Recorder(loader.collate_fn)
    resumer = Resumer(loader.worker_init_fn, states, recorder)
    with swapped(loader, collate_fn=recorder, worker_init_fn=resumer):
        iterator = plain_iter(loader)
    if iterator is before:
        log = getattr(iterator, "shim_log", None)
        if log is not None:
            log.settle()
        return iterator, log
    kind: type = type(iterator)
    iterator.__class__ = _recording(kind)
    iterator.shim_log = Log(states, birth)
    return iterator, iterator.shim_log


@contextmanager
def swapped(loader: Any, **parts: Any) -> Iterator[None]:
    """`loader` with other parts, while an iterator is made that takes them over."""
    before = {name: getattr(loader, name) for name in parts}
    try:
        for name, part in parts.items():
            object.__setattr__(loader, name, part)  # DataLoader forbids to set some of them.
        yield
    finally:
        for name, part in before.items():
            object.__setattr__(loader, name, part)


@functools.cache
def _recording(kind: type) -> type:
    """`kind` handing out bare batches.

    A class of its own rather than a wrapper around the iterator: persistent workers stay with the loader, and
    a loop that later uses the loader without the shim must get bare batches too.
    """
    plain: Any = kind

    def _get_data(self: Any) -> Any:
        answer = plain._get_data(self)
        # torchdata sends the batch in a tuple with its own state.
        made = answer[1][0] if isinstance(answer[1], tuple) and answer[1] else answer[1]
        if isinstance(made, MadeWorkers) and made.state is not None:
            self.shim_log.arrived[made.worker] = made.state
        return answer

    def _next_data(self: Any) -> Any:
        made = plain._next_data(self)
        if not isinstance(made, MadeWorkers):
            return made
        log = self.shim_log
        log.is_torn = log.is_torn or made.is_torn
        if made.state is not None:
            log.used[made.worker] = made.state
        return made.batch

    return type(kind.__name__, (kind,), {"_get_data": _get_data, "_next_data": _next_data})
