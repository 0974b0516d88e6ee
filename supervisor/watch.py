"""Tells the loop that files of the configuration changed; reads and decides nothing.

watchdog's thread sets a flag and wakes the loop. The loop reads after a short
quiet time, because editors write a file in several steps.
"""

from __future__ import annotations

import os
from pathlib import Path

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import ObservedWatch

__all__ = ["FolderWatch"]


class FolderWatch(FileSystemEventHandler):
    """Watches folders, not what lies deeper. `fileno()` is readable after a change, until `drain()`."""

    def __init__(self, folders: list[Path]) -> None:
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        #: Why changes are not seen, or "".
        self.problem = ""
        self._observer = Observer()
        self._watched: dict[Path, tuple[int, ObservedWatch]] = {}
        self._folders = folders
        try:
            self.refresh()
            self._observer.start()
        except OSError as error:
            self._cannot(error)

    def refresh(self) -> None:
        """Watch what is there now: a folder that was replaced is another one, though its name is the same."""
        for folder in self._folders:
            try:
                number = folder.stat().st_ino
                before = self._watched.get(folder)
                if before is not None and before[0] == number:
                    continue
                if before is not None:
                    self._observer.unschedule(before[1])
                self._watched[folder] = (number, self._observer.schedule(self, str(folder), recursive=False))
            except OSError as error:
                self._cannot(error)

    def _cannot(self, error: OSError) -> None:
        # The folder is gone, or inotify has no watches left (fs.inotify.max_user_watches).
        where = self._folders[0]
        self.problem = f"cannot watch `{where}` for changes: {error.strerror}; use `supervisorctl reload`"

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
