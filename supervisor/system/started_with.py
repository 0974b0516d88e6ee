"""The words and the environment that a process was started with, read without waiting for it.

Covers: both of any process; one whose user keeps us waiting.
Does not cover: what they mean (marks.py, server/adopting.py).

Both lie in the memory of the process. Who reads them waits while that is being changed, and a user with a
file system of his own (FUSE) can have that take as long as he likes. So what is another user's is read in a
thread, and whoever kept one waiting is not read for a while.
"""

from __future__ import annotations

import os
import threading
import time
from math import inf
from typing import Final, Literal

from supervisor.system.procfs import users_of

__all__ = ["started_with"]

#: An environment is at most that large: the kernel takes no more with one `exec`.
_MOST_BYTES: Final = 8 << 20
#: As much of another user's: it is looked at by the dozen.
_MOST_OF_OTHERS: Final = 256 << 10

#: A look takes some microseconds; a machine that has too much to do may take a part of a second.
_WAIT_S: Final = 1.0
#: So many times as long as a look took its user is not looked at again, where that was longer than we wait.
_REST: Final = 10.0


class _Look(threading.Thread):
    """One look at a process of another user."""

    def __init__(self, path: str) -> None:
        super().__init__(name=f"read {path}", daemon=True)
        self._path = path
        self._begun_at = time.monotonic()
        self.rests_until = inf
        self.found = b""

    def run(self) -> None:
        self.found = _read(self._path, _MOST_OF_OTHERS)
        now = time.monotonic()
        self.rests_until = now + _REST * (now - self._begun_at)


#: The last look at a process of each user who kept us waiting.
_stuck: Final[dict[int, _Look]] = {}


def started_with(pid: int, what: Literal["cmdline", "environ"], *, proc: str = "/proc") -> bytes:
    """Return what it says; nothing where it is gone, we may not read it, or would have to wait for it."""
    path = f"{proc}/{pid}/{what}"
    # Nobody but root may read what is another user's. Who owns the file says nothing (`users_of`).
    strangers = set(users_of(pid, proc)) - {0} if os.geteuid() == 0 else set()
    if not strangers:
        return _read(path, _MOST_BYTES)
    uid = min(strangers)
    if uid in _stuck and time.monotonic() < _stuck[uid].rests_until:
        return b""
    look = _Look(path)
    look.start()
    look.join(_WAIT_S)
    if look.is_alive():
        _stuck[uid] = look
        return b""
    _stuck.pop(uid, None)
    return look.found


def _read(path: str, most: int) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    text = b""
    try:
        while len(text) < most and (part := os.read(fd, 1 << 17)):
            text += part
    except OSError:
        # It ended after it was opened, or became another user's program.
        return b""
    else:
        return text
    finally:
        os.close(fd)
