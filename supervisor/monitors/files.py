"""Small files of /proc and /sys that are read again and again.

Covers: keeping them open, and turning what goes wrong into a reason for people.
Does not cover: what they say (the other modules here).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from supervisor.core.readings.sample import Missing

__all__ = ["KeptFile", "attempt", "read_text"]

T = TypeVar("T")

#: The longest one, /proc/stat, lists every interrupt of the machine.
_MAX_BYTES = 1 << 18


class KeptFile:
    """One file, opened at its first reading; for one thread. Reading it again costs a third of opening it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = -1

    def read(self) -> str:
        """Return what it says now; raises OSError. The next call tries again."""
        try:
            if self._fd < 0:
                self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            text = os.pread(self._fd, 4096, 0)
            if len(text) == 4096:
                text = os.pread(self._fd, _MAX_BYTES, 0)
        except OSError:
            self.close()
            raise
        return text.decode("ascii", "replace")

    def close(self) -> None:
        """Let go of the descriptor; `read` opens it again."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with suppress(OSError):
                os.close(fd)


def read_text(path: str) -> str:
    """Return what a file says that is read now and then; raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, _MAX_BYTES).decode("ascii", "replace")
    finally:
        os.close(fd)


def attempt(what: str, read: Callable[[], T]) -> T | Missing:
    """Return what was read, or why it could not be: a kernel may lack a file or change its form."""
    try:
        return read()
    except OSError as error:
        return Missing(f"cannot read {what}: {error.strerror}")
    except (ValueError, LookupError, ArithmeticError):
        return Missing(f"cannot read {what}: it does not have the form that is known")
