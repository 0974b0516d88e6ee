"""A loader whose place is kept, for a loop that belongs to somebody else: what `Shim.follow()` returns.

Covers: a pass for each `iter()`, without boundaries.
Does not cover: where a pass is (position.py, loader.py), passes whose turns are boundaries (batches.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from trainer_shim.position import Cursor

__all__ = ["Followed"]


class Followed:
    """Stands for the loader: has its length and its attributes. A pass that is left by `break` is over."""

    def __init__(self, cursor: Cursor, loader: Any, on_pass: Callable[[], None]) -> None:
        self._cursor, self._loader, self._on_pass = cursor, loader, on_pass

    def __iter__(self) -> Iterator[Any]:
        self._on_pass()
        if self._cursor.is_inside():
            # An evaluation in the middle of a pass belongs to the step that it is made in.
            yield from self._loader
            return
        made = self._cursor.begin(self._loader, 1, is_followed=True)
        if made is None:
            return
        try:
            yield from made
        finally:
            self._cursor.end(made)
            self._cursor.let_go()

    def __len__(self) -> int:
        return len(self._loader)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # A copy that is being made has no loader yet.
            raise AttributeError(name)
        return getattr(self._loader, name)
