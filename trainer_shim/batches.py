"""The batches of one pass, as a loop takes them: what `Shim.batches()` returns.

Covers: when a pass begins and ends, and which turns of the loop are boundaries.
Does not cover: what is done at a boundary (session.py), where a pass is (position.py, loader.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Protocol

from trainer_shim.loader import Pass
from trainer_shim.position import Cursor

__all__ = ["Batches", "Loop"]


class Loop(Protocol):
    """What a pass tells the session."""

    def boundary(self) -> None:
        """A step is done."""

    def pass_is_over(self, num_rest: int) -> None:
        """The pass ended, with so many batches behind its last boundary."""

    def pass_is_inside(self) -> None:
        """The pass is made inside another one and has no boundaries."""


class Batches(Iterator[Any]):
    """An iterator over the batches of one pass, which was begun with it.

    Where another pass is being made, it begins with its first batch, and only if that other one is over by
    then; else it has no boundaries. Left before its end, by `break` or `close()`, the pass is over.
    """

    def __init__(self, cursor: Cursor, loader: Any, accumulate: int, loop: Loop) -> None:
        self._cursor, self._loader, self._accumulate, self._loop = cursor, loader, accumulate, loop
        self._turns: Iterator[Any] = iter(())
        self._pass: Pass | None = None
        self._is_begun = False
        if not cursor.is_inside():
            self._begin()

    def __iter__(self) -> Batches:
        return self

    def __len__(self) -> int:
        """The batches of a whole pass, also where it was taken up late."""
        return len(self._loader)

    def __next__(self) -> Any:
        if not self._is_begun:
            self._begin()
        return next(self._turns)

    def close(self) -> None:
        """Leave the pass, which is over then."""
        turns, self._turns = self._turns, iter(())
        self._is_begun = True
        if self._pass is None:
            return
        close = getattr(turns, "close", None)
        if close is not None:
            close()
        self._end(0)

    def __del__(self) -> None:
        # An interpreter that ends has taken parts of this away.
        with suppress(AttributeError, TypeError):
            self.close()

    def _begin(self) -> None:
        self._is_begun = True
        if self._cursor.is_inside():
            self._loop.pass_is_inside()
            self._turns = iter(self._loader)
            return
        self._pass = self._cursor.begin(self._loader, self._accumulate)
        if self._pass is not None:
            self._turns = self._turn(self._pass, self._accumulate)

    def _turn(self, made: Pass, accumulate: int) -> Iterator[Any]:
        try:
            for batch in made:
                yield batch
                if made.taken % accumulate == 0:
                    made.is_turning = True
                    self._loop.boundary()
                    made.is_turning = False
        except GeneratorExit:
            raise
        except BaseException:
            # Nobody can go on with this pass; a script that catches it may begin another.
            self._pass = None
            self._cursor.close()
            raise
        self._end(made.taken % accumulate)

    def _end(self, num_rest: int) -> None:
        made, self._pass = self._pass, None
        if made is not None:
            self._loop.pass_is_over(num_rest)
            self._cursor.end(made)
