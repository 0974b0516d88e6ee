"""What a script chooses when it attaches, checked: how many checkpoints stay, whether it goes on, signals."""

from __future__ import annotations

import signal
from collections.abc import Collection, Iterable
from typing import Literal, get_args

import msgspec

from trainer_shim.checkpoint import Keep

__all__ = ["Choices", "Resume"]

Resume = Literal["auto", "never", "must"]
_RESUMES = get_args(Resume)
_SIGNALS = {"SIGTERM": signal.SIGTERM, "SIGINT": signal.SIGINT}


class Choices(msgspec.Struct, frozen=True):
    """As `attach()` explains them."""

    keep: Keep
    resume: Resume
    #: Signals that mean: checkpoint, then end.
    signals: frozenset[int]
    #: Names of what the script knows to be lost at a restart.
    ignore: frozenset[str]
    #: After so many epochs it is saved in the background.
    every_epochs: int | None

    @classmethod
    def checked(
        cls,
        keep: int | Keep,
        resume: Resume,
        signals: Iterable[str | int],
        ignore: Collection[str],
        every_epochs: int | None,
    ) -> Choices:
        """Raise ValueError or TypeError for what is none."""
        if resume not in _RESUMES:
            raise ValueError(f"cannot resume {resume!r}: it is one of {', '.join(_RESUMES)}")
        if isinstance(signals, str | int) or isinstance(ignore, str):
            raise TypeError("cannot take one text for signals= or ignore=: write a list, ignore=['best']")
        numbers = {_SIGNALS.get(one, 0) if isinstance(one, str) else int(one) for one in signals}
        if not numbers <= set(_SIGNALS.values()):
            raise ValueError(f"cannot take these signals: it is some of {', '.join(_SIGNALS)}, or none")
        if every_epochs is not None and every_epochs < 1:
            raise ValueError(f"cannot save every {every_epochs} epochs")
        keep = keep if isinstance(keep, Keep) else Keep(last=keep)
        return cls(keep, resume, frozenset(numbers), frozenset(ignore), every_epochs)
