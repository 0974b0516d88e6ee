"""Folders of checkpoints of all users, each looked at as the user whose job it is.

Covers: the daemon's own, in its threads (disks.py); those of others, in a process of that user now and then.
Does not cover: what is looked at (look_as_user.py).

A folder that a user names may lead anywhere, and root would tell of it whether it is there. So root looks at
none: a short-lived process does, which is that user before it looks. It has a deadline and a bound on what it
says, which is that user's word on own folders. Until one that hangs in the kernel is gone, no other is made.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from supervisor.core.readings.sample import DiskReading, Missing
from supervisor.monitors import look_as_user
from supervisor.monitors.background_call import BackgroundCall
from supervisor.monitors.disks import NOT_YET, Disks, reading
from supervisor.monitors.look_as_user import Space
from supervisor.system.users import entry_of

__all__ = ["Place", "UserFolders", "look_as"]

#: A process costs some 20 ms.
_EVERY_S: Final = 30.0
_DEADLINE_S: Final = 3.0
#: A line of its answer, of the longest path.
_MOST_LINE_BYTES: Final = 8192
_MOST_WORDS: Final = 300
_NO_ANSWER: Final = "the file system has not answered in time"


class Place(NamedTuple):
    """A folder, and as whom it is looked at; None: as the daemon's own user."""

    uid: int | None
    path: Path


class UserFolders:
    """For one thread; never waits."""

    def __init__(self, *, own: Disks | None = None, python: str = sys.executable) -> None:
        """`python` runs the processes of other users."""
        self._own = own or Disks()
        self._python = python
        self._users: dict[int, _User] = {}

    def read(self, places: Collection[Place], *, at: float) -> dict[Place, DiskReading]:
        """Return what was last seen under each folder."""
        own = self._own.read([place.path for place in places if place.uid is None], at=at)
        found = {Place(None, path): seen for path, seen in own.items()}
        of_users: dict[int, set[str]] = {}
        for place in places:
            if place.uid is not None:
                of_users.setdefault(place.uid, set()).add(str(place.path))
        for uid in self._users.keys() - of_users.keys():
            self._users.pop(uid).call.close()
        for uid, folders in of_users.items():
            user = self._users.setdefault(uid, _User(uid, self._python))
            user.ask(folders, at=at)
            found |= {Place(uid, Path(one)): user.answers.get(one, NOT_YET) for one in folders}
        return found

    def close(self) -> None:
        """Look no more; what hangs is left to itself."""
        self._own.close()
        for user in self._users.values():
            user.call.close()


class _User:
    """The folders of one user."""

    def __init__(self, uid: int, python: str) -> None:
        self.answers: dict[str, DiskReading] = {}
        self.call = BackgroundCall(f"user {uid}", partial(self._look, uid, python))
        self._wanted: list[str] = []
        self._asked: set[str] = set()
        self._asked_at = float("-inf")

    def ask(self, folders: set[str], *, at: float) -> None:
        """Have them looked at again where it is time to."""
        if self.call.busy_s() or (at - self._asked_at < _EVERY_S and folders <= self._asked):
            return
        # Those that hung the last time stand last.
        hung = {one for one, seen in self.answers.items() if seen == _no_answer()}
        self._wanted = sorted(folders, key=lambda one: (one in hung, one))
        self._asked, self._asked_at = folders, at
        self.call.ask()

    def _look(self, uid: int, python: str) -> None:
        wanted = self._wanted
        found = look_as(uid, wanted, python)
        self.answers = dict(zip(wanted, found, strict=True))


def look_as(
    uid: int,
    folders: list[str],
    python: str = sys.executable,
    *,
    script: str = look_as_user.__file__,
    deadline_s: float = _DEADLINE_S,
) -> list[DiskReading]:
    """Return what a user sees under each folder; takes as long as the deadline, unless one hangs."""
    try:
        lines = _lines_of(uid, folders, [python, "-I", "-S", script], deadline_s)
    except OSError as error:
        why = Missing(f"cannot look as user id {uid}: {error.strerror}")
        return [DiskReading(why, why)] * len(folders)
    found = [_reading_of(line) for line in lines[: len(folders)]]
    return found + [_no_answer()] * (len(folders) - len(found))


def _no_answer() -> DiskReading:
    return DiskReading(Missing(_NO_ANSWER), Missing(_NO_ANSWER))


def _reading_of(line: bytes) -> DiskReading:
    try:
        space = msgspec.json.decode(line, type=Space)
        return reading(space._replace(why=space.why[:_MOST_WORDS]))
    except (msgspec.MsgspecError, UnicodeDecodeError):
        why = Missing("whoever was asked as its user said something else")
        return DiskReading(why, why)


def _lines_of(uid: int, folders: list[str], argv: list[str], deadline_s: float) -> list[bytes]:
    """Return whole lines that a process of that user writes before its time is over; raises OSError."""
    user = entry_of(uid)
    with os.fdopen(os.memfd_create("folders", os.MFD_CLOEXEC), "w+b") as question:
        question.write(msgspec.json.encode(folders))
        question.seek(0)
        with subprocess.Popen(
            argv,
            stdin=question,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={},
            cwd="/",
            user=uid,
            group=user.gid,
            extra_groups=user.groups,
        ) as process:
            try:
                assert process.stdout is not None
                text = _read(process.stdout.fileno(), len(folders) * _MOST_LINE_BYTES, deadline_s)
            finally:
                process.kill()
    return text.split(b"\n")[:-1]


def _read(fd: int, most: int, deadline_s: float) -> bytes:
    text, until = b"", time.monotonic() + deadline_s
    while len(text) < most and (left_s := until - time.monotonic()) > 0:
        if not select.select([fd], [], [], left_s)[0]:
            break
        if not (part := os.read(fd, 1 << 16)):
            break
        text += part
    return text
