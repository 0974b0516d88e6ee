"""One pass over a data loader that can be left at a batch boundary and taken up in a fresh process.

Covers: plain torch DataLoaders (the order is replayed without loading data, the
workers' random numbers are recorded), loaders with a `state_dict()` of their
own, and any other iterable (read again and dropped).
Does not cover: the global generators at the boundary; the session saves them
with rng.py and restores them after `open_pass`.

What is exact and what is not: docs/EXACTNESS.md. Imports neither torch nor
numpy.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from trainer_shim.births import Births
from trainer_shim.carried import Carried
from trainer_shim.errors import CannotRestore
from trainer_shim.loader_replay import Replayed
from trainer_shim.loader_strategies import Indexed, StatefulStrategy, is_torchdata
from trainer_shim.objects import Objects
from trainer_shim.streams import Streams

__all__ = ["Pass", "check_kind", "open_pass"]


def open_pass(
    loader: Any,
    resume: Mapping[str, Any] | None = None,
    carried: Carried | None = None,
    streams: Streams | None = None,
) -> Pass:
    """Start a pass over `loader`, or take one up where `state_dict()` left it.

    `carried` is what the loader reaches, if that was looked for already; `streams` know of iterators
    that go on from pass to pass.
    Without `resume` it draws exactly what `iter(loader)` draws. With it the global generators are left
    anywhere, for the caller to restore. The state of a pass that ended gives a pass that ends at once:
    opening it brings persistent workers back to where the next pass expects them.

    Raises CannotRestore when the state belongs to another kind of loader.
    """
    kind = _kind(loader)
    check_kind(kind, resume)
    carried = carried or Carried.of(loader, Objects())
    if kind == "replayed":
        return Pass(Replayed(loader, resume, carried, streams or Streams(Births(Objects()))), resume)
    return Pass((Indexed if kind == "indexed" else StatefulStrategy)(loader, resume, carried), resume)


def check_kind(kind: str, resume: Mapping[str, Any] | None) -> None:
    """Raise CannotRestore where a pass of another kind was left."""
    if resume is not None and resume["kind"] != kind:
        raise CannotRestore(
            f"cannot take up the data loader: the checkpoint was made with a `{resume['kind']}` loader, "
            f"the script brings a `{kind}` one",
            hint="bring the same kind of loader as the run had, or start the run anew",
        )


def _kind(loader: Any) -> str:
    data = sys.modules.get("torch.utils.data")
    is_torch = data is not None and isinstance(loader, data.DataLoader)
    if is_torchdata(loader) or (not is_torch and hasattr(loader, "load_state_dict")):
        return "stateful"
    # A subclass with an __iter__ of its own may read ahead or move batches: only reading again repeats that.
    if is_torch and data is not None and type(loader).__iter__ is data.DataLoader.__iter__:
        return "replayed" if isinstance(loader.dataset, data.IterableDataset) else "indexed"
    return "replayed"


class AnyWay(Protocol):
    """What a pass asks of the way in which its data is left and taken up."""

    kind: str
    notes: list[str]
    is_exact: bool
    length: int | None
    carried: Carried

    def fetch(self) -> Any:
        """The next batch."""

    def look(self) -> None:
        """Note what can be seen by now."""

    def save(self) -> dict[str, Any]:
        """What a fresh process needs."""

    def let_go(self) -> Callable[[], Mapping[str, Any]]:
        """The pass is over."""


class Pass:
    """The batches of one pass. Used by the thread that trains, and by no other.

    `state_dict()` is called between two batches, after `taken` of them were trained on. When the pass has
    ended, the state may still be asked for, and says so.
    """

    def __init__(self, way: AnyWay, resume: Mapping[str, Any] | None) -> None:
        self._way = way
        self._has_ended = resume is not None and bool(resume["ended"])
        #: Batches handed out in this pass, with those before it was taken up.
        self.taken: int = resume["taken"] if resume else 0
        #: Whether the loop has a batch whose turn is not over.
        self.is_out = bool(resume and resume.get("out"))
        #: Batches in the pass, None where the loader cannot tell.
        self.length: int | None = way.length

    @property
    def exact(self) -> bool:
        """False once something was seen that makes a pass taken up differ from an unbroken one."""
        self._way.look()
        return self._way.is_exact

    @property
    def notes(self) -> list[str]:
        """What a person should know about taking up this pass, one sentence each."""
        self._way.look()
        return list(self._way.notes)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if self._has_ended:
            raise StopIteration
        try:
            batch = self._way.fetch()
        except StopIteration:
            self._has_ended = True
            raise
        self.taken += 1
        self.is_out = True
        return batch

    def turned(self) -> None:
        """The loop is through with the last batch."""
        self.is_out = False

    def state_dict(self) -> dict[str, Any]:
        """The position as plain values and bytes, and the states of the objects that it uses."""
        return {**self.place(), "held": self._way.carried.take()}

    def place(self) -> dict[str, Any]:
        """The position alone."""
        where = {"taken": self.taken, "out": self.is_out, "ended": self._has_ended}
        return {"kind": self._way.kind, **where, **self._way.save()}

    def let_go(self) -> Callable[[], Mapping[str, Any]]:
        """Let go of the iterator: the pass is over, and its workers end with it.

        Returns a look at what is different of its place when a checkpoint is written later.
        """
        return self._way.let_go()
