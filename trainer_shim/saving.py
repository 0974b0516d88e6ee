"""A checkpoint of the boundary that the loop is at: written once, however many ask for it.

Covers: whether there is one already, waiting for what is written in the background, what is told of it.
Does not cover: what it has (drafts.py), how it is stored (checkpoint/), saves that nobody asks for
(background_saves.py).
"""

from __future__ import annotations

from contextlib import suppress

from trainer_shim.background_saves import BackgroundSaves
from trainer_shim.checkpoint import Saved, Store
from trainer_shim.drafts import Drafts
from trainer_shim.errors import CannotSave
from trainer_shim.link_report import LinkReport
from trainer_shim.offload import Offloader
from trainer_shim.telling import Telling, say_notices

__all__ = ["Saver"]


class Saver:
    """Belongs to the thread that trains; `leave_boundary()` is called wherever the loop goes on."""

    def __init__(
        self,
        store: Store,
        drafts: Drafts,
        background: BackgroundSaves,
        offloader: Offloader,
        telling: Telling,
        report: LinkReport,
    ) -> None:
        self._store, self._drafts, self._background = store, drafts, background
        self._offloader, self._telling, self._report = offloader, telling, report
        #: The checkpoint of this boundary, if it was written already; its folder may be gone.
        self.fresh: Saved | None = None

    def save(self, request: str) -> Saved:
        """Return a durable checkpoint of this boundary; raises CannotSave or CannotStore."""
        if (fresh := self.still_there()) is not None:
            return fresh
        if self._offloader.is_away:
            raise CannotSave(
                f"cannot save step {self._report.step}: its checkpoint is gone, its tensors have no memory",
                hint="bring the folder back, or resume, which needs no checkpoint",
            )
        self._telling.saving(request)
        if (saved := self._background.waited()) is not None:
            self.fresh = saved
            return saved
        self.fresh = self._store.write(self._drafts.make(is_asked=True))
        self._telling.is_newest(self.fresh)
        say_notices(self._store, self._telling.say)
        self._background.restart()
        return self.fresh

    def save_for_script(self) -> Saved:
        """The same where the script itself asks, amid its loop: the next boundary is another one."""
        try:
            return self.save("")
        finally:
            self.fresh = None

    def still_there(self) -> Saved | None:
        """Return the checkpoint of this boundary, unless somebody removed it while the loop held."""
        with suppress(OSError):  # Where nobody can tell, it is believed to be.
            if self.fresh is not None and not self.fresh.path.is_dir():
                return None
        return self.fresh

    def count_anew(self) -> None:
        """The time that the loop held is none in which anything could be lost."""
        self._background.restart()

    def leave_boundary(self) -> None:
        """Whatever comes now: the next boundary is another one."""
        self.fresh = None
        self._background.leave_boundary()
