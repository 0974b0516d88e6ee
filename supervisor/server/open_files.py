"""How many files the daemon may have open: how many connections that makes, and whether it is near it.

Does not cover: who has them.
"""

from __future__ import annotations

import os
import resource
import sys
from time import monotonic
from typing import Final

__all__ = ["FilesAlert", "max_connections"]

#: More would be a mistake, or an attack; fewer where the process may have fewer descriptors.
_MAX_CONNECTIONS: Final = 4096
#: Journal, launcher, folders that are watched, SQLite's temporary files.
_RESERVED_FILES: Final = 64

#: From then on it is told.
_ALARM_SHARE: Final = 0.8
_MANY_FILES: Final = (
    "almost all of the {} files that the daemon may have open are; each job takes up to three: raise the "
    "hard limit (`ulimit -Hn`) and start the daemon again, or have fewer jobs at a time"
)
#: To count them costs a millisecond where there are thousands.
_LOOK_AGAIN_S: Final = 1.0


def max_connections() -> int:
    """Return how many there may be: half of the descriptors, because jobs need them as well."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return _MAX_CONNECTIONS
    return max(16, min(_MAX_CONNECTIONS, (soft - _RESERVED_FILES) // 2))


class FilesAlert:
    """Looks at most once a second."""

    def __init__(self) -> None:
        self._text = ""
        self._at = -_LOOK_AGAIN_S

    def text(self) -> str:
        """Return what to tell, or ""."""
        now = monotonic()
        if now - self._at >= _LOOK_AGAIN_S:
            self._at = now
            soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            is_near = soft != resource.RLIM_INFINITY and _num_files() >= _ALARM_SHARE * soft
            self._text = _MANY_FILES.format(soft) if is_near else ""
        return self._text


def _num_files() -> int:
    try:
        return sum(1 for _ in os.scandir("/proc/self/fd"))
    except OSError:  # Not even one is left to count them with.
        return sys.maxsize
