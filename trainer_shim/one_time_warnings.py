"""What the shim says aloud, on stderr, each thing once an hour while it stays true.

Covers: saying it, unless the script knows; an error with its hint in one line; telling a proof of what may
not be exact.
Does not cover: what the daemon is told (link.py).
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Collection
from contextlib import suppress

from trainer_shim.errors import ShimError

__all__ = ["OneTimeWarnings", "words"]

#: The wire takes 4096: a longer answer would be dropped, and whoever asked would wait for ever.
_LONGEST = 4000

#: Who looks at a log late, or at its end only, is to see what is still wrong.
_AGAIN_S = 3600.0

#: The kind of a doubt, at its end.
_KIND = re.compile(r" \[([a-z-]+)\]$")
#: So many things are remembered to have been said: on a disk that stays full, each failure has its own step.
_MOST = 1000
#: So many doubts stand in a checkpoint.
_MOST_KEPT = 20


def words(error: ShimError) -> str:
    """Return an error and what to do about it."""
    return (f"{error} ({error.hint})" if error.hint else str(error))[:_LONGEST]


class OneTimeWarnings:
    """One session's; may be called from any thread. `doubted` hears of each doubt that is said."""

    def __init__(
        self,
        ignore: Collection[str] = (),
        clock: Callable[[], float] = time.monotonic,
        doubted: Callable[[str], None] | None = None,
    ) -> None:
        self._ignore, self._clock, self._doubted = ignore, clock, doubted
        #: The doubts that were said, the first ones of many: a checkpoint tells them, too.
        self.doubts: list[str] = []
        #: When each thing was said last.
        self._said: dict[str, float] = {}

    def say(self, text: str) -> None:
        """Tell whoever reads the run's output; the same thing again after an hour.

        A doubt whether the run goes on exactly ends with its kind in brackets; docs/WARNINGS.md has them all.
        """
        kind = _KIND.search(text)
        if kind is not None and kind[1] in self._ignore:
            return
        now = self._clock()
        if now - self._said.get(text, -_AGAIN_S) >= _AGAIN_S:
            if len(self._said) >= _MOST:
                self._said.clear()
            self._said[text] = now
            # A disk that is too full for a checkpoint is too full for the log too; a terminal may be gone.
            with suppress(OSError, ValueError):
                print(f"trainer_shim: {text}", file=sys.stderr, flush=True)  # noqa: T201
            if kind is not None and text not in self.doubts and len(self.doubts) < _MOST_KEPT:
                self.doubts.append(text)
            if kind is not None and self._doubted is not None:
                self._doubted(text)

    def say_error(self, error: ShimError) -> None:
        """Tell of an error that costs no training."""
        self.say(f"{words(error)}; training goes on")
