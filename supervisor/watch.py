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
        self._observer = Observer()
        self._watched: dict[Path, tuple[int, ObservedWatch]] = {}
        #: Folders that were taken away since the last look; written by watchdog's thread.
        self._gone: set[Path] = set()
        self._problems: dict[Path, str] = dict.fromkeys(folders, "")
        self._observer.start()
        self.refresh()

    @property
    def problem(self) -> str:
        """Why changes are not seen, or ""."""
        found = "; ".join(problem for problem in self._problems.values() if problem)
        return f"{found}; it is tried again, until then use `supervisorctl reload`" if found else ""

    def refresh(self) -> bool:
        """Watch what is there now; say whether a folder is new: it may have another content.

        A folder that was replaced is another one, though its name is the same, and its number may be too.
        """
        is_new = False
        for folder in self._problems:
            try:
                number = folder.stat().st_ino
                before = self._watched.get(folder)
                if before is not None and before[0] == number and folder not in self._gone:
                    continue
                self._forget(folder)
                self._watched[folder] = (number, self._observer.schedule(self, str(folder), recursive=False))
                self._problems[folder] = ""
                is_new = True
            except OSError as error:
                # The folder is gone, or inotify has no watches left (fs.inotify.max_user_watches).
                self._forget(folder)
                self._problems[folder] = f"cannot watch `{folder}` for changes: {error.strerror}"
        return is_new

    def _forget(self, folder: Path) -> None:
        self._gone.discard(folder)
        before = self._watched.pop(folder, None)
        if before is not None:
            self._observer.unschedule(before[1])

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Wake the loop; called by watchdog's thread."""
        if event.event_type in ("deleted", "moved") and event.is_directory:
            self._gone.add(Path(os.fsdecode(event.src_path)))
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
