"""Which job a process belongs to by what it was started with: its environment names the folder of its start.

Covers: reading that mark of any process of our user, also long after the job's command ended.
Does not cover: parents and sessions (launcher/, monitors/), which find who cleared his environment.

A mark is believed only of processes of our own user: another's program could
name any folder, and would be ended for it, or not be counted as foreign.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, NamedTuple

__all__ = ["Marks", "Start"]

_NAME: Final = b"\0TRAINING_SUPERVISOR_RUN_DIR="
#: An environment is at most that large: the kernel takes no more with one `exec`.
_MOST_BYTES: Final = 8 << 20


class Start(NamedTuple):
    """One start of a job's command."""

    job: str
    incarnation: int


class Marks:
    """Marks of the jobs whose files lie below one folder, those of one daemon."""

    def __init__(self, folder: Path, *, proc: Path = Path("/proc")) -> None:
        self._folder = os.fsencode(folder) + b"/"
        self._proc = str(proc)

    def of(self, pid: int) -> Start | None:
        """Return the start that a process comes from; None where it has no mark of ours, or is gone."""
        _, is_there, rest = (b"\0" + self._environment(pid)).partition(_NAME)
        value = rest.partition(b"\0")[0]
        if not is_there or not value.startswith(self._folder):
            return None
        job, _, run = os.fsdecode(value[len(self._folder) :]).partition("/")
        number = run.removeprefix("run-")
        return Start(job, int(number)) if job and run != number and number.isdecimal() else None

    def left_of(self, job: str) -> list[int]:
        """Return the numbers of all processes that come from any start of a job; reads all of /proc."""
        found = []
        for name in os.listdir(self._proc):  # noqa: PTH208  # A Path each costs more.
            start = self.of(int(name)) if name.isdecimal() else None
            if start is not None and start.job == job:
                found.append(int(name))
        return sorted(found)

    def _environment(self, pid: int) -> bytes:
        try:
            fd = os.open(f"{self._proc}/{pid}/environ", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            # Another user's, or gone.
            return b""
        try:
            if os.fstat(fd).st_uid != os.geteuid():
                return b""
            text = b""
            while len(text) < _MOST_BYTES and (part := os.read(fd, 1 << 17)):
                text += part
        except OSError:
            # It ended after it was opened, or became another user's program.
            return b""
        else:
            return text
        finally:
            os.close(fd)
