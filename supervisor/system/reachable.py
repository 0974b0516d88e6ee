"""Whether a user may reach a file: which folder on the way to it, or which file, keeps that user out.

Covers: owner, groups and others of all on the way, through links. Does not cover: access lists, which may let
somebody in; what has one is taken for open.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection
from pathlib import Path
from typing import Final

__all__ = ["barrier"]

_MAX_LINKS: Final = 40


def barrier(path: Path, uid: int | None = None, gids: Collection[int] = ()) -> Path | None:
    """Return what a user may not enter or read on the way to a path; without a user, what not all users may.

    None where nothing is in the way, or it cannot be told.
    """
    at, names, num_links = Path("/"), list(path.absolute().parts[:0:-1]), 0
    while names:
        name = names.pop()
        at = at.parent if name == ".." else at / name
        try:
            info = at.lstat()
            target = at.readlink() if stat.S_ISLNK(info.st_mode) else None
        except OSError:
            return None
        if target is not None:
            num_links += 1
            if num_links > _MAX_LINKS:
                return None
            names += target.parts[:0:-1] if target.is_absolute() else target.parts[::-1]
            at = Path("/") if target.is_absolute() else at.parent
            continue
        # A program may be run without being read.
        wanted = stat.S_IXOTH if stat.S_ISDIR(info.st_mode) else stat.S_IROTH | stat.S_IXOTH
        if not info.st_mode & _shifted(wanted, info, uid, gids) and not _has_list(at):
            return at
    return None


def _shifted(of_others: int, info: os.stat_result, uid: int | None, gids: Collection[int]) -> int:
    """Return the bit that counts for a user: of the owner, the group or all others."""
    if uid == info.st_uid:
        return of_others << 6
    return of_others << 3 if info.st_gid in gids else of_others


def _has_list(path: Path) -> bool:
    try:
        return bool(os.getxattr(path, "system.posix_acl_access"))
    except OSError:  # It has none, or its file system knows none.
        return False
