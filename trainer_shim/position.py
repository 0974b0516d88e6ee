"""Where a training loop is: step, epoch, and the passes over its data loaders.

Covers: counting, and taking up each pass where a checkpoint left it.
Does not cover: what is done at a boundary (session.py), how a loader is taken
up (loader.py).

An epoch may make several passes (`shim.batches` called more than once); they
are told apart by their order. The random numbers are restored at the very
point where the loop goes on: inside the pass that was left, or between passes.
A pass inside another one belongs to the step of the outer one, as all that the
body of a loop does: it has no place of its own.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from trainer_shim import rng
from trainer_shim.errors import CannotSave
from trainer_shim.link import Report
from trainer_shim.loader import Pass, open_pass
from trainer_shim.parts import asked

__all__ = ["Cursor"]

#: Of loaders that are gone, so many passes are remembered: their generators may live on in other loaders.
_MAX_GONE = 32

_NOT_REACHED = (
    "the epoch is over, and the pass that the checkpoint had left was not made again: the rest of it "
    "was not trained on; let the script make the same passes after a restart as before"
)


class Cursor:
    """Belongs to the training thread.

    Passes are numbered from 0 within an epoch. After a restore the loop makes
    the passes of the epoch again, in order: those that were over yield
    nothing, the one that was left goes on, and the rest are new.
    """

    def __init__(self, report: Report) -> None:
        self._report = report
        self._num_begun = 0
        self._open: Pass | None = None
        self._open_loader: Any = None
        #: How the last pass of each number ended, for what lives on between passes: the generators of a
        #: sampler, persistent workers. Only the newest of a loader is kept.
        self._ended: dict[int, dict[str, Any] | None] = {}
        #: The loader of each of them, as long as it lives.
        self._loader_of: dict[int, Callable[[], Any]] = {}
        self._notes: list[str] = []
        #: After a restore: passes of this epoch that were over, and the state of the one that was left.
        self._num_over = 0
        self._left: dict[str, Any] | None = None
        self._from_before: set[int] = set()
        #: Random numbers to set where the loop goes on.
        self._pending_rng: Mapping[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return the position as plain values."""
        return {
            "step": self._report.step,
            "epoch": self._report.epoch,
            "num_begun": self._num_begun,
            "open": self._open.state_dict() if self._open is not None else None,
            "ended": self._ended,
        }

    def load_state_dict(self, state: Mapping[str, Any], random_numbers: Mapping[str, Any]) -> None:
        """Go to a saved position; random numbers are set where the loop goes on, or now if that is unseen.

        What a script draws between attach() and its loop (a split, synthetic data) it drew there before, too:
        from the generators as the script begins with them.
        """
        self._report.step = state["step"]
        self._report.epoch = state["epoch"]
        self._left = state["open"]
        self._num_over = state["num_begun"] - (self._left is not None)
        self._ended = dict(state["ended"])
        self._from_before = {number for number, ended in self._ended.items() if ended is not None}
        self._pending_rng = random_numbers
        if self._left is not None or state["num_begun"] or state["epoch"] or self._ended:
            # It has been in epochs() or batches(), and will be again.
            rng.check(random_numbers)
        else:
            rng.restore(random_numbers)

    def epochs(self, num_epochs: int) -> Iterator[int]:
        """Yield the epochs that are left; the caller checks the boundary after each."""
        report = self._report
        report.num_epochs = num_epochs
        while report.epoch < num_epochs:
            if self._left is None and self._num_over == 0:
                self._settle_rng()
            yield report.epoch
            if self._left is not None:
                self._notes = [_NOT_REACHED]
            report.epoch += 1
            self._num_begun = self._num_over = 0
            self._left = None
        # Of a run that was over, the generators of its end are what comes after it begins with.
        self._settle_rng()

    def begin(self, loader: Any, accumulate: int) -> Pass | None:
        """Start the next pass or take it up; None when it was over before the checkpoint."""
        number = self._num_begun
        self._num_begun += 1
        if number < self._num_over:
            self._bring_back(loader, number)
            if number == self._num_over - 1 and self._left is None:
                self._settle_rng()
            return None
        if self._left is not None:
            self._open = open_pass(loader, self._left)
            self._left = None
            self._settle_rng()
        else:
            now = rng.capture()
            if self._bring_back(loader, number):
                rng.restore(now)
            self._open = open_pass(loader)
        self._open_loader = loader
        self._estimate(self._open, accumulate)
        return self._open

    def is_inside(self) -> bool:
        """Whether a pass is being made."""
        return self._open is not None

    def end(self, made: Pass) -> None:
        """Note that a pass is over: it ran out, or the script left it."""
        if made is not self._open:
            return  # The session is over, or an error left this pass.
        loader, number = self._open_loader, self._num_begun - 1
        # Not by the id of a loader: another one may lie where one lay that is gone.
        self._forget(before for before, its_loader in self._loader_of.items() if its_loader() is loader)
        self._forget_gone()
        self._loader_of[number] = _reference(loader)
        try:
            self._ended[number] = {**asked("the place of the data loader", made.state_dict), "ended": True}
        except CannotSave as error:
            # Its passes need not depend on each other.
            self._notes = [f"{error}; its next pass begins as a new one after a restart"]
            self._forget([number])
        self.close()

    def notes(self) -> list[str]:
        """Return what a person should know about taking up the pass that is being made."""
        return [*self._notes, *(self._open.notes if self._open is not None else [])]

    def close(self) -> None:
        """Let go of the loader: its workers end with the loop, not when this session is collected."""
        self._open = self._open_loader = None

    def _forget_gone(self) -> None:
        """Keep what loaders left that are gone, but not for ever: a loop may make one for each pass."""
        gone = [number for number, its_loader in self._loader_of.items() if its_loader() is None]
        self._forget(number for number in gone if not _lives_on(self._ended[number]))
        self._forget(gone[:-_MAX_GONE])

    def _forget(self, numbers: Iterable[int]) -> None:
        for number in list(numbers):
            self._loader_of.pop(number, None)
            self._ended.pop(number, None)

    def _bring_back(self, loader: Any, number: int) -> bool:
        """Put what lives on between passes where the process before left it; once for each pass number."""
        if number not in self._from_before:
            return False
        self._from_before.discard(number)
        self._loader_of[number] = _reference(loader)
        open_pass(loader, self._ended[number])
        return True

    def _settle_rng(self) -> None:
        if self._pending_rng is not None:
            rng.restore(self._pending_rng)
            self._pending_rng = None

    def _estimate(self, made: Pass, accumulate: int) -> None:
        """Say how many steps there are in all, where one pass an epoch makes that known."""
        report = self._report
        if self._num_begun > 1:
            report.num_steps = None
        elif report.num_epochs is not None and made.length is not None:
            report.num_steps = report.num_epochs * -(-made.length // accumulate)


def _lives_on(ended: Mapping[str, Any] | None) -> bool:
    """Whether a pass that is over says anything about later ones of other loaders."""
    return ended is not None and (ended["kind"] == "stateful" or bool(ended["held"]))


def _reference(loader: Any) -> Callable[[], Any]:
    """A look at a loader that does not keep it; a list, of which there is none, counts as gone."""
    try:
        return weakref.ref(loader)
    except TypeError:
        return _gone


def _gone() -> None:
    pass
