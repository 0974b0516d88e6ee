"""Free space under the folders of checkpoints, and whether they are there.

Covers: folders that are not there (yet), file systems that do not answer.
Does not cover: inodes, quotas.

One thread looks at all folders in turn. When it hangs at one (a network file
system without its server), it is left to that one and another takes the rest:
there are never more threads than folders that hang, and one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Final

from supervisor.core.readings.sample import DiskReading, Missing
from supervisor.monitors.background_call import BackgroundCall
from supervisor.monitors.look_as_user import Space, space_under

__all__ = ["NOT_YET", "Disks", "look", "reading"]

_EVERY_S: Final = 5.0
#: A folder that takes longer hangs, and the others do not wait for it.
_HANGS_S: Final = 2.0
_UNSEEN: Final = Missing("not measured yet")
#: Nobody has looked.
NOT_YET: Final = DiskReading(_UNSEEN, _UNSEEN)


class Disks:
    """For one thread; never waits."""

    def __init__(
        self,
        *,
        look_at: Callable[[Path], DiskReading] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._answers: dict[Path, DiskReading] = {}
        self._new_round = partial(_Round, look_at or look, self._answers, clock)
        self._round = self._new_round()
        self._hanging: list[_Round] = []
        self._asked_at = float("-inf")
        self._asked: frozenset[Path] = frozenset()

    def read(self, folders: Collection[Path], *, at: float) -> dict[Path, DiskReading]:
        """Return what was last seen under each folder."""
        for one in [one for one in self._hanging if not one.call.busy_s()]:
            self._hanging.remove(one)
            one.call.close()
        if self._round.call.busy_s() > _HANGS_S:
            self._round.is_left = True
            self._hanging.append(self._round)
            self._round = self._new_round()
            self._asked_at = float("-inf")
        wanted = frozenset(folders)
        is_due = at - self._asked_at >= _EVERY_S or not wanted <= self._asked
        if wanted and is_due and not self._round.call.busy_s():
            self._asked_at, self._asked = at, wanted
            hanging = {one.current for one in self._hanging}
            # To compare paths themselves would take most of the time.
            self._round.folders = sorted(wanted - hanging, key=str)
            self._round.call.ask()
        for folder in self._answers.keys() - wanted:
            del self._answers[folder]
        return {folder: self._newest(folder) for folder in wanted}

    def close(self) -> None:
        """Look no more; threads that hang are left to it."""
        for one in (self._round, *self._hanging):
            one.is_left = True
            one.call.close()

    def _newest(self, folder: Path) -> DiskReading:
        for one in self._hanging:
            if one.current == folder:
                why = Missing(f"the file system has not answered for {one.call.busy_s():.0f} s")
                return DiskReading(why, why)
        return self._answers.get(folder, NOT_YET)


class _Round:
    """One thread with its list."""

    def __init__(
        self,
        look_at: Callable[[Path], DiskReading],
        answers: dict[Path, DiskReading],
        clock: Callable[[], float],
    ) -> None:
        self.folders: list[Path] = []
        self.current: Path | None = None
        #: Others have taken over what stands behind the current one.
        self.is_left = False
        self.call = BackgroundCall("the file system", partial(self._go, look_at, answers), clock=clock)

    def _go(self, look_at: Callable[[Path], DiskReading], answers: dict[Path, DiskReading]) -> None:
        for folder in self.folders:
            self.current = folder
            answers[folder] = look_at(folder)
            if self.is_left:
                return


def look(folder: Path) -> DiskReading:
    """Return the space under a folder, or under the nearest one above it that is there; may hang."""
    return reading(space_under(str(folder)))


def reading(space: Space) -> DiskReading:
    """Return what was seen, as a reading."""
    free, total = (Missing(space.why),) * 2 if space.why else (space.free_bytes, space.total_bytes)
    return DiskReading(free, total, is_there=space.is_there)
