"""User ids to names, and what settings say of users and groups.

Covers: the looks into the user database. Does not cover: who may do what (server/access.py).
"""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Final, NamedTuple

__all__ = ["UserEntry", "entry_of", "unknown_in", "user_name", "weights_of"]

_GROUP: Final = "group:"

#: Of a user whom nobody knows by name: the group that is nobody's.
_NO_GROUP: Final = 65534

#: What stands before the names of jobs of a user whose own name is no safe part of a path.
_NUMBERED: Final = "uid-"


@cache
def user_name(uid: int) -> str:
    """Return the name, or a word with the number; cached, because the database may be a slow server."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


class UserEntry(NamedTuple):
    """What a process needs to become a user."""

    gid: int
    groups: list[int]
    home: str


def entry_of(uid: int) -> UserEntry:
    """Return what the user database has of a number; of one that it does not know, what gives no rights."""
    try:
        known = pwd.getpwuid(uid)
    except KeyError:
        return UserEntry(_NO_GROUP, [], "/")
    return UserEntry(known.pw_gid, os.getgrouplist(known.pw_name, known.pw_gid), known.pw_dir)


def weights_of(users: Iterable[str], said: Mapping[str, float]) -> dict[str, float]:
    """Return the weights of users by what is said of them, or the most that is said of a group of theirs."""
    groups: dict[int, float] = {}
    for word, weight in said.items():
        gid = _gid(word.removeprefix(_GROUP)) if word.startswith(_GROUP) else None
        if gid is not None:
            groups[gid] = weight
    found = {}
    for user in users:
        of_groups = [groups[gid] for gid in _gids(user) if gid in groups] if groups else []
        found[user] = said.get(user, max(of_groups, default=1.0))
    return found


def unknown_in(said: Iterable[str]) -> list[str]:
    """Return the words that name no user and no group of this machine."""
    return [
        word
        for word in said
        if (_gid(word.removeprefix(_GROUP)) if word.startswith(_GROUP) else _entry(word)) is None
    ]


def _gid(group: str) -> int | None:
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        return None


def _entry(user: str) -> pwd.struct_passwd | None:
    number = user.removeprefix(_NUMBERED)
    try:
        is_numbered = number != user and number.isascii() and number.isdigit()
        return pwd.getpwuid(int(number)) if is_numbered else pwd.getpwnam(user)
    except (KeyError, OverflowError):
        return None


def _gids(user: str) -> list[int]:
    entry = _entry(user)
    return [] if entry is None else os.getgrouplist(entry.pw_name, entry.pw_gid)
