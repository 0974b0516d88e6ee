"""What the daemon could not use and put aside, so that everything else goes on: the one record of it.

Covers: the record, and its line for people.
Does not cover: catching (the module at each border does that), showing it (server/, cli/).
"""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = ["SetAside"]


class SetAside(msgspec.Struct, frozen=True, kw_only=True):
    """One file, row, folder, sensor or process that is not used as it should be."""

    kind: Literal["file", "folder", "journal", "row", "sensor", "process"]
    #: What it is called: a file's name, a job's, a sensor's.
    name: str
    #: Path of the file or folder that it is, or is in.
    where: str
    #: A sentence that begins with what could not be done.
    why: str
    #: What to do about it.
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.why} ({self.hint})" if self.hint else self.why
