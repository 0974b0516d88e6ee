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
from typing import Final, Literal

from supervisor.system.procfs import users_of

__all__ = ["started_with"]

#: An environment is at most that large: the kernel takes no more with one `exec`.
_MOST_BYTES: Final = 8 << 20
#: As much of another user's: it is looked at by the dozen.
_MOST_OF_OTHERS: Final = 256 << 10

#: A look takes some microseconds, on a busy machine some milliseconds.
_WAIT_S: Final = 0.25
_NOT_AGAIN_S: Final = 60.0


class _Stuck:
    """Users whose processes kept us waiting."""

    def __init__(self) -> None:
        self._by_uid: dict[int, tuple[threading.Thread, float]] = {}

    def has(self, uid: int) -> bool:
        thread, until = self._by_uid.get(uid, (None, 0.0))
        return thread is not None and (thread.is_alive() or time.monotonic() < until)

    def add(self, uid: int, thread: threading.Thread) -> None:
        self._by_uid[uid] = thread, time.monotonic() + _NOT_AGAIN_S


_stuck: Final = _Stuck()


def started_with(pid: int, what: Literal["cmdline", "environ"], *, proc: str = "/proc") -> bytes:
    """Return what it says; nothing where it is gone, we may not read it, or would have to wait for it."""
    path = f"{proc}/{pid}/{what}"
    # Nobody but root may read what is another user's. Who owns the file says nothing (`users_of`).
    strangers = set(users_of(pid, proc)) - {0} if os.geteuid() == 0 else set()
    if not strangers:
        return _read(path, _MOST_BYTES)
    uid = min(strangers)
    if _stuck.has(uid):
        return b""
    found: list[bytes] = []
    thread = threading.Thread(
        target=lambda: found.append(_read(path, _MOST_OF_OTHERS)), name=f"read {path}", daemon=True
    )
    thread.start()
    thread.join(_WAIT_S)
    if thread.is_alive():
        _stuck.add(uid, thread)
    return found[0] if found else b""


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
