"""The way of a script from where it begins again to where its loop goes on.

Covers: when that way begins and ends, and that all is as the checkpoint has it then.
Does not cover: random numbers on the way (epoch_marks.py), how a thing is put back (redone.py, variables.py).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING

from trainer_shim.checkpoint import Live, load
from trainer_shim.light_values import LightValues
from trainer_shim.made import Made
from trainer_shim.script_values import ScriptValues

if TYPE_CHECKING:
    from trainer_shim.redone import Redone

__all__ = ["WayBack"]


class WayBack:
    """Begins with `restored()`; belongs to the thread that trains."""

    def __init__(
        self, values: ScriptValues, made: Made, light: LightValues, live: Callable[[], Live]
    ) -> None:
        self._values, self._made, self._light, self._live = values, made, light, live
        #: What the run was restored from.
        self._checkpoint: Path | None = None
        #: What stood where the way began; None when the loop is there.
        self._redone: Redone | None = None
        self._is_under_way = False

    def restored(self, checkpoint: Path, *, is_pending: bool) -> None:
        """Note what was brought back; `is_pending`: the loop has yet to come to where it goes on."""
        self._checkpoint = checkpoint
        if is_pending:
            self._redone = self._stand(checkpoint)

    def begin(self, *, is_head: bool) -> None:
        """The script runs again what leads to where the loop goes on, from the head of an epoch or not."""
        if is_head and not self._is_under_way and self._checkpoint is not None:
            # What it did since attach() stands; a loop that counts epochs by itself has no such moment.
            self._redone = self._stand(self._checkpoint)
        self._is_under_way = True

    def end(self) -> None:
        """The loop goes on: all is as the checkpoint has it, whatever was done on the way."""
        redone, self._redone = self._redone, None
        if redone is not None and self._is_under_way:
            redone.undo()
        self._is_under_way = False
        self._values.variables.settle()

    def _stand(self, checkpoint: Path) -> Redone:
        from trainer_shim.redone import Redone

        def give(names: Collection[str]) -> None:
            self._made.give_again(names, load(checkpoint).state["parts"])

        values = self._values
        return Redone(values.parts, lambda: values.extra, self._light, self._live(), give)
