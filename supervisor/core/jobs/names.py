"""Names of jobs: one key inside, and how it stands in folders and groups. Pure.

A job of the daemon's own user has its NAME as key, one of another user USER/NAME: two users may both have
a `night`. Keys are what the journal, run folders and shims know a job by, so none ever changes.

Covers: taking keys apart, their folder, their word in the name of a control group.
Does not cover: what a person means by a name, and is told (server/access.py).
"""

from __future__ import annotations

import re
from typing import Final

__all__ = [
    "KEY",
    "NAME",
    "folder_of",
    "group_word",
    "is_user_folder",
    "key_of",
    "key_of_folder",
    "key_of_group_word",
    "key_of_path",
    "plain",
    "user_of",
    "user_part",
]

_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
_USER: Final = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}"

NAME: Final = re.compile(_NAME)
KEY: Final = re.compile(rf"(?:{_USER}/)?{_NAME}")

#: No number: another program may take that for a user id.
_PLAIN_USER: Final = re.compile(r"(?=.*[^0-9])[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")
_NUMBERED: Final = re.compile(r"uid-\d+")


def user_part(uid: int, name: str) -> str:
    """Return what stands before the names of a user's jobs: his name where that is safe in a path."""
    # Nobody may get the part of another by calling himself `uid-1234`.
    is_plain = _PLAIN_USER.fullmatch(name) is not None and _NUMBERED.fullmatch(name) is None
    return name if is_plain else f"uid-{uid}"


def key_of(user: str, name: str) -> str:
    """Return the key of a user's job; "" is the daemon's own user."""
    return f"{user}/{name}" if user else name


def user_of(key: str) -> str:
    """Return whose job it is by its key, "" for the daemon's own user."""
    return key.rpartition("/")[0]


def plain(key: str) -> str:
    """Return the name that the job's user calls it by."""
    return key.rpartition("/")[2]


def folder_of(key: str) -> str:
    """Return the folder of a job below that of all jobs."""
    # Without the sign a user could be called like a job of ours, and his jobs like what lies in its folder.
    return f"@{key}" if "/" in key else key


def is_user_folder(name: str) -> bool:
    """Say whether a folder among those of jobs holds the jobs of another user."""
    return name.startswith("@")


def key_of_folder(above: str, name: str) -> str:
    """Return the key of a job by its folder and the one above it."""
    return key_of(above[1:], name) if is_user_folder(above) else name


def key_of_path(path: str) -> str:
    """Return the key of a job by its folder below that of all jobs; "" where it is no job's."""
    above, _, name = path.rpartition("/")
    key = key_of_folder(above, name)
    return key if KEY.fullmatch(key) and folder_of(key) == path else ""


def group_word(key: str) -> str:
    """Return the key without a slash, as it stands in the name of a control group."""
    return key.replace("/", "@")


def key_of_group_word(word: str) -> str:
    """Return the key; the other way round as `group_word`."""
    return word.replace("@", "/")
