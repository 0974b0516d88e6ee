"""Checkpoints that a run writes while it trains on, as the session sees them.

Covers: beginning one at a boundary, what becomes of it and is told, ends of epochs that are saved; nothing at
all in a run that does not save so.
Does not cover: when one is due, copying, the thread that writes (periodic.py).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from trainer_shim.checkpoint import Saved, Store
from trainer_shim.drafts import Drafts
from trainer_shim.errors import ShimError
from trainer_shim.link_report import LinkReport
from trainer_shim.telling import Telling, say_notices

if TYPE_CHECKING:
    from trainer_shim.periodic import Periodic

__all__ = ["BackgroundSaves"]


class BackgroundSaves:
    """Those of one session, from `start()` on; belongs to the thread that trains."""

    def __init__(self, store: Store, drafts: Drafts, telling: Telling, report: LinkReport) -> None:
        self._store, self._drafts, self._telling, self._report = store, drafts, telling, report
        self._periodic: Periodic | None = None
        self._every_epochs: int | None = None
        #: Whether the state of this very boundary is being written.
        self._is_begun = False

    def start(self, periodic: Periodic, every_epochs: int | None) -> None:
        """Save from now on, when `periodic` says so and after so many epochs."""
        self._periodic, self._every_epochs = periodic, every_epochs
        self.restart()

    @property
    def due_step(self) -> float:
        """The step from which on the loop is to look whether one is due."""
        return math.inf if self._periodic is None else self._periodic.due_step

    def restart(self) -> None:
        """Count anew from here: something was just saved, or could not be lost meanwhile."""
        if self._periodic is not None:
            self._periodic.restart(self._report.step)

    def epoch_is_over(self, num_done: int) -> bool:
        """Note the end of an epoch; True where the next boundary is to save it."""
        if self._periodic is None or not self._every_epochs or num_done % self._every_epochs != 0:
            return False
        self._periodic.make_due()
        return True

    def wait_if_late(self) -> None:
        """Return when the one that is written is done, if another waits for it."""
        if self._periodic is not None:
            self._periodic.wait_if_late()

    def is_due(self) -> bool:
        """Whether one may begin at this boundary."""
        return self._periodic is not None and self._periodic.is_due(self._report.step)

    def begin(self) -> None:
        """Copy the state of this boundary and let it be written while training goes on."""
        if self._periodic is None:
            return
        try:
            self._is_begun = self._periodic.begin(self._drafts.make(is_asked=False))
        except ShimError as error:
            self.restart()
            self._telling.failed(error)

    def tell_ended(self) -> None:
        """Tell what became of those that ended since this was last called."""
        if self._periodic is None:
            return
        for ended in self._periodic.ended():
            if ended.saved is not None:
                self._telling.tell(self._telling.is_newest(ended.saved, ended.epoch))
            elif ended.error is not None:
                self.restart()
                self._telling.failed(ended.error)
        say_notices(self._store, self._telling.say)

    def waited(self) -> Saved | None:
        """Return when nothing is written, with what was if that is this boundary's state."""
        if self._periodic is None:
            return None
        self._periodic.wait()
        self.tell_ended()
        last = self._periodic.last_saved
        return last if self._is_begun and last is not None and last.step == self._report.step else None

    def leave_boundary(self) -> None:
        """The loop goes on: what is being written is of a boundary that is over."""
        self._is_begun = False

    def has_news(self) -> bool:
        """Whether the loop is to look here soon."""
        return self._periodic is not None and self._periodic.has_news()

    def close(self) -> bool:
        """Let the one that is being written end, and begin no more; False where nothing was to be closed."""
        if self._periodic is None:
            return False
        self._periodic.close()
        self.tell_ended()
        self._periodic = None
        return True
