"""Standard streams that are always there, however a program was started.

Covers: descriptors 0 to 2 and `sys.stdout`, `sys.stderr`. Does not cover: what is written.

Some service managers and cron lines start programs with closed streams (`2>&-`). Then the next file
that is opened gets the number of one: what a library prints would be written into the journal.
"""

from __future__ import annotations

import os
import sys

__all__ = ["fill_in"]


def fill_in() -> None:
    """Open what is closed of the three, on nothing. Call it before anything else is opened."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        continue
    os.close(fd)
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w", closefd=False, errors="backslashreplace"))
