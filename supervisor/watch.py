"""Tells the loop that files of the configuration changed; reads and decides nothing.

Two senses: inotify tells at once, and a look at names, sizes and times every few
seconds sees what it cannot: the target of a link, a folder that was swapped, a
machine whose inotify instances or watches are used up.

watchdog's thread sets a flag and wakes the loop. The loop reads after a short
quiet time, because editors write a file in several steps.
"""

from __future__ import annotations

import os
from pathlib import Path

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver, ObservedWatch

from supervisor.set_aside import SetAside

__all__ = ["LOOK_S", "FolderWatch"]

#: So late is a change seen that inotify does not tell.
LOOK_S = 2.0

_HINT = (
    f"changes are seen all the same, after up to {LOOK_S:g} s; "
    "`sysctl fs.inotify` shows what a user may have of it"
)


class FolderWatch(FileSystemEventHandler):
    """Watches folders, not what lies deeper. `fileno()` is readable after a change, until `drain()`."""

    def __init__(self, folders: list[Path]) -> None:
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._observer: BaseObserver | None = None
        self._watched: dict[Path, tuple[int, ObservedWatch]] = {}
        self._folders = folders
        #: Folders that were taken away since the last look; written by watchdog's thread.
        self._gone: set[Path] = set()
        self._problems: dict[Path, SetAside] = {}
        self._seen = self._fingerprint()
        self.refresh()

    @property
    def aside(self) -> tuple[SetAside, ...]:
        """Why changes are not seen at once, if so."""
        return tuple(self._problems.values())

    def refresh(self) -> bool:
        """Watch what is there now; say whether a folder is new: it may have another content.

        A folder that was replaced is another one, though its name is the same, and its number may be too.
        """
        self._problems = {}
        try:
            if self._observer is None:
                # Here and not at the start: making one opens an inotify instance, and there may be none left.
                observer = Observer()
                observer.start()
                self._observer = observer
        except OSError as error:
            self._cannot(self._folders[0], error)
            return False
        are_new = [self._watch(self._observer, folder) for folder in self._folders]
        return any(are_new)

    def look(self) -> None:
        """Make `fileno()` readable where anything is not as at the last look; call it every `LOOK_S`."""
        seen = self._fingerprint()
        if seen != self._seen:
            self._seen = seen
            os.eventfd_write(self._fd, 1)

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
        if self._observer is not None and self._observer.is_alive():
            self._observer.stop()
            self._observer.join()
        os.close(self._fd)

    def _watch(self, observer: BaseObserver, folder: Path) -> bool:
        """Say whether the folder is another one than before."""
        before = self._watched.get(folder)
        try:
            number = folder.stat().st_ino
            if before is not None and before[0] == number and folder not in self._gone:
                return False
            self._forget(observer, folder)
            self._watched[folder] = (number, observer.schedule(self, str(folder), recursive=False))
        except OSError as error:
            # The folder is gone, or inotify has no watches left (fs.inotify.max_user_watches).
            self._forget(observer, folder)
            self._cannot(folder, error)
            return False
        return True

    def _forget(self, observer: BaseObserver, folder: Path) -> None:
        self._gone.discard(folder)
        before = self._watched.pop(folder, None)
        if before is not None:
            observer.unschedule(before[1])

    def _cannot(self, folder: Path, error: OSError) -> None:
        why = f"cannot watch `{folder}` for changes: {error.strerror}"
        self._problems[folder] = SetAside(
            kind="sensor", name="inotify", where=str(folder), why=why, hint=_HINT
        )

    def _fingerprint(self) -> tuple[object, ...]:
        """Return what tells one state of the files from another, links followed."""
        return tuple(self._state(folder) for folder in self._folders)

    def _state(self, folder: Path) -> object:
        try:
            names = sorted(name for name in os.listdir(folder) if name.endswith(".toml"))  # noqa: PTH208
            return (_state_of(folder), *((name, _state_of(folder / name)) for name in names))
        except OSError as error:
            return error.errno


def _state_of(path: Path) -> object:
    try:
        there = path.stat()
    except OSError as error:
        return error.errno
    # The times of a folder change with every temporary file in it.
    times = () if path.is_dir() else (there.st_size, there.st_mtime_ns)
    return there.st_dev, there.st_ino, there.st_mode, there.st_uid, *times
