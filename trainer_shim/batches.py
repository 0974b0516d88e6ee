"""The batches of one pass, as a loop takes them: what `Shim.batches()` returns.

Covers: when a pass begins and ends, and which turns of the loop are boundaries.
Does not cover: what is done at a boundary (boundaries.py), where a pass is (position.py, loader.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from trainer_shim.loader import Pass
    from trainer_shim.position import Cursor

__all__ = ["INSIDE", "Batches", "Loop"]

#: What a person is told of such a pass.
INSIDE = (
    "a pass of `batches()` inside another one, or beside one that was left without its end, has no "
    "boundaries and begins anew after a restart [inside]"
)


class Loop(Protocol):
    """What a pass tells the session."""

    def turn(self) -> None:
        """A step is done."""

    def left(self) -> None:
        """A step is done where nothing can be."""

    def pass_is_over(self, num_rest: int) -> None:
        """The pass ended, with so many batches behind its last boundary."""

    def pass_is_inside(self) -> None:
        """The pass is made inside another one and has no boundaries."""


class Batches(Iterator[Any]):
    """An iterator over the batches of one pass, which was begun with it.

    Where another pass is being made, it begins with its first batch, and only if that other one is over by
    then; else it has no boundaries. Left before its end, by `break` or `close()`, the pass is over.
    """

    def __init__(
        self,
        cursor: Cursor,
        loader: Any,
        accumulate: int,
        loop: Loop,
        *,
        over: Callable[[], None] | None = None,
        needs_a_turn: bool = False,
    ) -> None:
        self._cursor, self._loader, self._accumulate, self._loop = cursor, loader, accumulate, loop
        #: Called when it came to its end.
        self._over = over
        #: Whether the step of the last batch is no boundary: the script reads behind the loop what it sets.
        self._needs_a_turn = needs_a_turn
        self._pass: Pass | None = None
        #: What a pass inside another one gives.
        self._inner: Iterator[Any] = iter(())
        self._is_begun = False
        if not cursor.is_inside():
            self._begin()

    def __iter__(self) -> Batches:
        return self

    @property
    def is_over(self) -> bool:
        """Whether it has nothing to give any more."""
        return self._is_begun and self._pass is None

    def __len__(self) -> int:
        """The batches of a whole pass, also where it was taken up late; 0 once it is over."""
        return len(self._loader)

    def __next__(self) -> Any:
        if not self._is_begun:
            self._begin()
        made = self._pass
        if made is None:
            return next(self._inner)
        try:
            if made.is_out and made.taken % self._accumulate == 0:
                made.turned()
                if self._needs_a_turn and made.taken == made.length:
                    self._loop.left()
                else:
                    self._loop.turn()
            batch = next(made)
        except StopIteration:
            self._end(made.taken % self._accumulate)
            if self._over is not None:
                self._over()
            raise
        except BaseException:
            # Nobody can go on with this pass; a script that catches it may begin another.
            self._pass = None
            self._cursor.close()
            raise
        return batch

    def close(self) -> None:
        """Leave the pass, which is over then; the batch that the loop has counts as trained on."""
        self._is_begun, self._inner = True, iter(())
        num_rest = 0
        if self._pass is not None and self._pass.is_out:
            num_rest = self._pass.taken % self._accumulate
            if num_rest == 0:
                self._loop.left()
        self._end(num_rest)

    def __del__(self) -> None:
        # An interpreter that ends has taken parts of this away.
        with suppress(AttributeError, TypeError):
            self.close()

    def _begin(self) -> None:
        self._is_begun = True
        if self._cursor.is_inside():
            self._loop.pass_is_inside()
            self._inner = iter(self._loader)
        else:
            self._pass = self._cursor.begin(self._loader, self._accumulate)

    def _end(self, num_rest: int) -> None:
        made, self._pass = self._pass, None
        if made is not None:
            self._loop.pass_is_over(num_rest)
            self._cursor.end(made)
            # Its iterator goes with it, and the workers behind that.
            self._loader = ()
            self._cursor.let_go()
