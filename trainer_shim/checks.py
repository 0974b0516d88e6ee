"""What is looked at before anything is done at a boundary, so that it is told while it can still be mended.

Covers: which looks there are and when the next is due; what is known to keep the run from going on exactly.
Does not cover: whether the state can be stored (storable.py), what no checkpoint has (strays.py), each doubt
by itself (determinism.py, position.py).
"""

from __future__ import annotations

from trainer_shim.determinism import doubts
from trainer_shim.kept import Kept
from trainer_shim.late_imports import import_late
from trainer_shim.link_report import LinkReport
from trainer_shim.manifest_facts import ManifestFacts
from trainer_shim.one_time_warnings import OneTimeWarnings
from trainer_shim.run_state import RunState
from trainer_shim.storable import Looks
from trainer_shim.strays import Strays

__all__ = ["Checks"]

_UNCLAIMED = (
    "the checkpoint has {} of shim.state(), which this script did not ask for by its first boundary: the "
    "next checkpoint is without [unclaimed]"
)


class Checks:
    """Those of one session, which begin with the end of attach(); belongs to the thread that trains."""

    def __init__(
        self, run: RunState, kept: Kept, facts: ManifestFacts, report: LinkReport, warnings: OneTimeWarnings
    ) -> None:
        self._run, self._report, self._say = run, report, warnings.say
        self._looks = Looks(report.step, lambda: run.check(facts.now()), warnings.say_error)
        self._strays = Strays(kept, self._say, report.step)
        self._is_first = True
        #: The step that ended a pass with fewer batches than are accumulated.
        self._rest_at: int | None = None

    @property
    def due_step(self) -> float:
        """The boundary of the next look that nobody asks for."""
        return min(self._looks.due_step, self._strays.due_step)

    def loop_begins(self, *, is_by_hand: bool) -> None:
        """Compare with the end of attach(); once, where the loop is first heard of."""
        if not self._strays.is_begun:
            self._strays.begin(is_by_hand=is_by_hand)

    def at(self, step: int) -> None:
        """Look at what is due at a boundary; raises CannotStore at the first one."""
        self._run.made.close()
        self._looks.at(step)
        self._strays.at(step, is_by_hand=self._run.cursor.is_by_hand)

    def at_first(self) -> None:
        """Tell at the first boundary what is known by then, not first at a pause; once."""
        if not self._is_first:
            return
        self._is_first = False
        import_late()
        self.say_notes()
        if names := self._run.values.variables.unclaimed():
            self._say(_UNCLAIMED.format(", ".join(f"`{name}`" for name in names)))

    def before_save(self, *, is_asked: bool) -> None:
        """Look at what no checkpoint has; by itself only while looks take a small part of the time."""
        self._strays.again(is_asked=is_asked)

    def end_after_first(self) -> None:
        """Leave out later looks at what can be saved: each save is one."""
        self._looks.end_after_first()

    def has_rest(self) -> None:
        """The step that was just counted had fewer batches than are accumulated."""
        self._rest_at = self._report.step

    def notes(self) -> list[str]:
        """Return what is known to keep this run from going on exactly, one sentence each."""
        has_rest = self._rest_at == self._report.step
        return [*self._run.cursor.notes(), *doubts(self._run.values.parts, has_rest=has_rest)]

    def say_notes(self) -> None:
        """Say it."""
        for text in self.notes():
            self._say(text)
