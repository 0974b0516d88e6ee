"""Being ended by a signal, for a command that has more to end than itself.

Covers: Ctrl-C, SIGTERM, a closed terminal; the exit code that says so.
Does not cover: what is to be ended (the command's affair).

A handler only takes note. The command looks where nothing is half done, so nothing that it started is
forgotten.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

__all__ = ["EndedBySignal", "Ending"]

_ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class EndedBySignal(Exception):
    """A signal came; raised where the command looks."""


class Ending:
    """Whether a signal came, and which was the first."""

    def __init__(self) -> None:
        self._number = 0

    @property
    def exit_code(self) -> int:
        """128 and the number of the signal; 0 where none came."""
        return 128 + self._number if self._number else 0

    def check(self) -> None:
        """Raise EndedBySignal if one came."""
        if self._number:
            raise EndedBySignal

    @contextmanager
    def watching(self) -> Iterator[Ending]:
        """Take note of these signals for a while; what is ignored, as under nohup, stays so."""
        before = {one: signal.getsignal(one) for one in _ENDING if signal.getsignal(one) != signal.SIG_IGN}
        for one in before:
            signal.signal(one, self._note)
        try:
            yield self
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._number = self._number or number
