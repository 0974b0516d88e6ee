"""What the daemon could not use and put aside, so that everything else goes on: the one record of it.

Covers: the record, and its line for people; the name under which something is kept.
Does not cover: catching (the module at each border does that), showing it (server/, cli/).
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Literal

import msgspec

__all__ = ["SetAside", "keep_aside", "make_way"]


class SetAside(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One file, row, folder, sensor or process that is not used as it should be."""

    kind: Literal["file", "folder", "journal", "row", "sensor", "process"]
    #: What it is called: a file's name, a job's, a sensor's.
    name: str
    #: Path of the file or folder that it is, or is in.
    where: str = ""
    #: A sentence that begins with what could not be done.
    why: str
    #: The next thing to do about it; "": nothing can be done.
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.why} ({self.hint})" if self.hint else self.why


def keep_aside(path: Path) -> Path:
    """Give what lies there another name, which is returned: nothing that a person may want is deleted."""
    number = 1
    while os.path.lexists(kept := path.with_name(f"{path.name}.aside-{number}")):
        number += 1
    return path.rename(kept)


def make_way(path: Path, *, links: bool) -> SetAside | None:
    """Keep aside what lies where a file of ours belongs and is none: a folder, a pipe, perhaps a link."""
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    if stat.S_ISREG(mode) or (stat.S_ISLNK(mode) and not links):
        return None
    kept = keep_aside(path)
    return SetAside(
        kind="file",
        name=path.name,
        where=str(kept),
        why=f"cannot use `{path}`: it is not a file; it is kept as `{kept.name}`, and a new one is made",
        hint="look whose it is, and remove it",
    )
