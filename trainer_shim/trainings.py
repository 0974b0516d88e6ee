"""The trainings of one process, one after the other, and the folder that each has.

Covers: which folder the next training gets, and what is said when one process trains more than once.
Does not cover: what is in a folder (checkpoint/), which folder is the first one's (surroundings.py).

A cross-validation trains several times in one process. With one folder the second training would begin
with the weights of the first. So each has its own: the first one's, then that name with `+2`, `+3`, which
no job can be called. They are told apart by their order alone, so that a process that was started again
finds each where it was: a training counts once it is over, whether it ended here or in a process before.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

__all__ = ["Training", "begin"]

Where = tuple[int, int]


class Training:
    """One session's; belongs to the thread that trains."""

    def __init__(self, first: Path, number: int, *, is_told: bool) -> None:
        """Take the folder of the first training, which of them this is, and whether the script said so."""
        #: Where its checkpoints are.
        self.folder = _nth(first, number)
        self._next = _nth(first, number + 1)
        #: The same by all the names that it may have, and wherever the script goes.
        self._place = os.path.realpath(self.folder)
        self._number = number
        self._is_told = is_told
        self._pid = os.getpid()
        self._begun_at: Where = (0, 0)
        self._has_run_out = self._is_done_with = False

    def begun(self, where: Where, *, is_new: bool) -> list[str]:
        """Note the step and the epoch that it begins with; return what a person should know about that."""
        self._begun_at = where
        before = _here.over.get(self._place)
        if self._is_told and before is not None:
            taken = "no checkpoint of it is taken" if is_new else "the weights of that training are taken"
            text = (
                f"this very process trained into `{self.folder}` before, up to step {before[0]}: {taken}, "
                "and after a restart the two cannot be told apart; give each training a folder of its own, "
                'checkpoints="..."'
            )
        elif is_new and self._number > 1 and _here.is_replaced:
            text = (
                f"training {self._number} of this process begins anew, not going on from step "
                f"{_here.last[0]} of the one before it; its checkpoints go to `{self.folder}`"
            )
        elif not is_new and _here.idle == self._place:
            text = (
                "attached again, and nothing was trained in between: the same checkpoint is taken once "
                'more; a further training wants a folder of its own, checkpoints="..."'
            )
        else:
            return []
        return [text]

    def ran_out(self) -> None:
        """Note that the loop is through its epochs."""
        self._has_run_out = True

    def leave(self) -> None:
        """Note that it is to be taken up where it is, be it by this process."""
        self._is_done_with = True

    def end(self, where: Where, *, is_replaced: bool = False) -> None:
        """Note how it ended; in a forked child it goes on elsewhere. May be repeated.

        `is_replaced`: nobody said that it is over, there is just another attach().
        """
        if self._is_done_with or os.getpid() != self._pid:
            return
        self._is_done_with = True
        if where == self._begun_at and not self._was_over(is_replaced=is_replaced):
            _here.idle = self._place
            return
        _here.over[self._place] = _here.last = where
        _here.is_replaced = is_replaced
        if not self._is_told:
            _here.num_over += 1

    def _was_over(self, *, is_replaced: bool) -> bool:
        """Whether it was over before this process, where this one has found nothing to do."""
        has_next = False
        with suppress(OSError):  # Where nobody may look.
            has_next = not self._is_told and self._next.is_dir()
        return self._begun_at > (0, 0) and (self._has_run_out or has_next or not is_replaced)


class _Process:
    """What this process has trained."""

    def __init__(self) -> None:
        #: Trainings that are over, of those in folders that no script named.
        self.num_over = 0
        #: The folders of all that are over, and how far each came; that of the last one.
        self.over: dict[str, Where] = {}
        self.last: Where = (0, 0)
        #: Whether nobody said that the last one is over, by detach().
        self.is_replaced = False
        #: The folder of a session that passed no boundary.
        self.idle = ""


_here = _Process()


def begin(default: Path, told: Path | None) -> Training:
    """Return the next training of this process, in the folder that the script names or in one of its own."""
    if told is not None:
        return Training(told, 1, is_told=True)
    return Training(default, _here.num_over + 1, is_told=False)


def _nth(first: Path, number: int) -> Path:
    # A name with a slash at its end, or `.`, has a sibling too.
    return first.absolute() if number == 1 else Path(f"{first.absolute()}+{number}")
