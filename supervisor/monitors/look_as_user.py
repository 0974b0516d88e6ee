"""The space under folders, looked at as whoever runs this; also run as a script, as another user.

Covers: one folder; as a script, those of a list on standard input, a line of JSON for each.
Does not cover: who is asked and how long one waits (user_folders.py, disks.py).

As a script it imports the standard library only, because the user may be able to read no more of it.
"""

from __future__ import annotations

import os
from typing import NamedTuple

__all__ = ["Space", "space_under"]

_PR_SET_NO_NEW_PRIVS = 38


class Space(NamedTuple):
    """Bytes, and whether the folder itself is there; or why one cannot tell."""

    free_bytes: float = 0.0
    total_bytes: float = 0.0
    is_there: bool = True
    why: str = ""


def space_under(folder: str) -> Space:
    """Return the space under a folder, or under the nearest one above it that is there; may hang."""
    place = folder
    while True:
        try:
            found = os.statvfs(place)
        except (FileNotFoundError, NotADirectoryError):
            above = os.path.dirname(place)  # noqa: PTH120  # pathlib is more than all else here.
            if above == place or not above:
                return Space(is_there=False, why=f"no folder above {folder} is there")
            place = above
            continue
        # The second one: its name, which a peer may have sent, holds a zero byte.
        except (OSError, ValueError) as error:
            return Space(why=f"cannot look at {place}: {getattr(error, 'strerror', error)}")
        # What root has in reserve is not there for a job.
        free, total = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
        return Space(float(free), float(total), place == folder)


def main() -> None:
    """Answer for each folder of the list, in its order."""
    import ctypes
    import json
    import sys

    ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    for folder in json.load(sys.stdin):
        sys.stdout.write(json.dumps(space_under(folder)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
