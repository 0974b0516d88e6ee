"""Whether the daemon is near the number of files that it may have open. Does not cover: who has them."""

from __future__ import annotations

import os
import resource
import sys
from time import monotonic
from typing import Final

__all__ = ["FilesAlert"]

#: From then on it is told.
_ALARM_SHARE: Final = 0.8
_MANY_FILES: Final = (
    "almost all of the {} files that the daemon may have open are; each job takes up to three: raise the "
    "hard limit (`ulimit -Hn`) and start the daemon again, or have fewer jobs at a time"
)
#: To count them costs a millisecond where there are thousands.
_LOOK_AGAIN_S: Final = 1.0


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
