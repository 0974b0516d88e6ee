"""A boundary at which the loop looks: what is checked, what is begun unasked, then what is wanted.

Covers: which boundary is the next to look, boundaries that are none, the steps of one that looks.
Does not cover: counting them, which is the session's (session.py), what is done of all that is wanted
(at_boundary.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

from trainer_shim.at_boundary import AtBoundary
from trainer_shim.background_saves import BackgroundSaves
from trainer_shim.checks import Checks
from trainer_shim.gate import Gate, Want

__all__ = ["Boundaries"]


class Boundaries:
    """Those of one session; belongs to the thread that trains."""

    def __init__(
        self, gate: Gate, checks: Checks, background: BackgroundSaves, at_boundary: AtBoundary
    ) -> None:
        self._gate, self._checks, self._background = gate, checks, background
        self._at_boundary = at_boundary
        self._num_critical = 0

    @contextmanager
    def critical(self) -> Iterator[None]:
        """Make boundaries inside no boundaries."""
        self._num_critical += 1
        try:
            yield
        finally:
            self._num_critical -= 1

    def look(self, step: int) -> int | None:
        """Do all that is wanted at the boundary of this step, until nothing is.

        Returns the code with which the process is to end, None where the loop goes on.
        """
        if self._num_critical:
            return None
        self._checks.at(step)
        want = self._gate.take(Want())
        self._at_boundary.look_at_depths()
        self._checks.at_first()
        self._background.tell_ended()
        if not want and self._background.is_due():
            self._background.begin()
            want = self._gate.take(Want())
        exit_code = self._at_boundary.do(want)
        if exit_code is None:
            self.set_due()
            if self._background.has_news():
                # Its call may have come while this boundary was at work, and was taken for another's.
                self._gate.ask()
        return exit_code

    def epoch_is_over(self, num_done: int) -> None:
        """Let the next boundary save, if the end of this epoch is to be saved."""
        if self._background.epoch_is_over(num_done):
            self._gate.ask()

    def set_due(self) -> None:
        """Reckon at which boundary there is something to do without being asked."""
        self._gate.due_at(float(min(self._background.due_step, self._checks.due_step)))

    def close(self) -> None:
        """No more is saved in the background once this returns; may be repeated."""
        if self._background.close():
            self._gate.due_at(math.inf)
