"""What a checkpoint of the boundary has that the loop is at, ready to be written.

Covers: the state with its step and its facts; what is looked at and said before.
Does not cover: writing it (checkpoint/), when (saving.py, background_saves.py).
"""

from __future__ import annotations

from trainer_shim.checkpoint import Store
from trainer_shim.checkpoint.writer import Draft
from trainer_shim.checks import Checks
from trainer_shim.link_report import LinkReport
from trainer_shim.manifest_facts import ManifestFacts
from trainer_shim.run_state import RunState

__all__ = ["Drafts"]


class Drafts:
    """Those of one session; belongs to the thread that trains."""

    def __init__(
        self, store: Store, run: RunState, facts: ManifestFacts, checks: Checks, report: LinkReport
    ) -> None:
        self._store, self._run, self._facts, self._checks, self._report = store, run, facts, checks, report

    def make(self, *, is_asked: bool) -> Draft:
        """Return everything that a run needs to go on exactly; the tensors are the live ones.

        Raises CannotStore and CannotSave.
        """
        self._checks.before_save(is_asked=is_asked)
        state = self._run.whole()
        self._checks.say_notes()
        report = self._report
        return self._store.prepare(state, step=report.step, epoch=report.epoch, facts=self._facts.now())
