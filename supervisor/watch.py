"""Tells the loop that files of the configuration changed; reads and decides nothing.

watchdog's thread sets a flag and wakes the loop. The loop reads after a short
quiet time, because editors write a file in several steps.
"""

from __future__ import annotations

import os
from pathlib import Path

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

__all__ = ["FolderWatch"]


class FolderWatch(FileSystemEventHandler):
    """Watches folders, not what lies deeper. `fileno()` is readable after a change, until `drain()`."""

    def __init__(self, folders: list[Path]) -> None:
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        #: Why changes are not seen, or "".
        self.problem = ""
        self._observer = Observer()
        try:
            for folder in folders:
                self._observer.schedule(self, str(folder), recursive=False)
            self._observer.start()
        except OSError as error:
            # Out of inotify watches (fs.inotify.max_user_watches), or no inotify at all.
            self.problem = (
                f"cannot watch `{folders[0]}` for changes: {error.strerror}; use `supervisorctl reload`"
            )

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Wake the loop; called by watchdog's thread."""
        # Reading is no change; without this our own reading of a file would wake us again.
        if event.event_type not in ("opened", "closed_no_write"):
            os.eventfd_write(self._fd, 1)

    def fileno(self) -> int:
        """Return the descriptor to poll."""
        return self._fd

    def drain(self) -> None:
        """Make `fileno()` unreadable until the next change."""
        try:
            os.eventfd_read(self._fd)
        except BlockingIOError:
            return

    def close(self) -> None:
        """Stop watching."""
        if self._observer.is_alive():
            self._observer.stop()
            self._observer.join()
        os.close(self._fd)
