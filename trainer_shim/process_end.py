"""Being called when the process ends by itself.

Covers: Python's own atexit, and children of multiprocessing, which skip it.
Does not cover: making a process end (signals.py).
"""

from __future__ import annotations

import atexit
import sys
import threading
from collections.abc import Callable
from typing import Any

__all__ = ["ProcessEnd"]

#: Before multiprocessing ends the children of this process, data-loader workers among them.
_FIRST = 1000


class ProcessEnd:
    """Calls something once, when the process ends, unless it is cancelled before."""

    def __init__(self, what: Callable[[], object]) -> None:
        self._what = what
        self._thread = threading.current_thread()
        self._finalizer: Any = None
        atexit.register(what)
        # A process that multiprocessing made has it loaded.
        process = sys.modules.get("multiprocessing.process")
        if process is not None and process.parent_process() is not None:
            from multiprocessing.util import Finalize

            self._finalizer = Finalize(None, self._end_child, exitpriority=_FIRST)

    def cancel(self) -> None:
        """Forget it; may be repeated, from any thread."""
        atexit.unregister(self._what)
        if self._finalizer is not None:
            self._finalizer.cancel()

    def _end_child(self) -> None:
        # The function of the child is over. Another thread may train on: Python waits for it only later, and
        # waiting for it here could be for ever, as for one of a pool that is told to end later still.
        if self._thread is threading.current_thread() or not self._thread.is_alive():
            self._what()
