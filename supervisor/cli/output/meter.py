"""How far a long reading is, on a terminal."""

from __future__ import annotations

import sys
import threading
import time
from typing import Final, Self

from supervisor.cli.output.progress import Progress
from supervisor.cli.output.screen import screen
from supervisor.cli.output.text import size
from trainer_shim.checkpoint.survey import SeenFolder

__all__ = ["Meter"]

_DRAW_S: Final = 0.1


class Meter:
    """Shows nothing without a terminal, and nothing for what is done at once."""

    def __init__(self, one: SeenFolder) -> None:
        files = one.manifest.files.values() if one.manifest is not None else ()
        self._name = one.folder.name
        self._all_bytes = sum(file.size_bytes for file in files)
        self._terminal = screen(sys.stderr)
        self._progress = Progress(sys.stderr, self._terminal)
        self._lock = threading.Lock()
        self._done_bytes, self._next_s = 0, time.monotonic() + _DRAW_S

    def add(self, num_bytes: int) -> None:
        """So many bytes were read; called by several threads."""
        with self._lock:
            self._done_bytes += num_bytes
            now = time.monotonic()
            if self._terminal.live and now >= self._next_s:
                self._next_s = now + _DRAW_S
                text = f"{size(self._done_bytes)} of {size(self._all_bytes)}"
                self._progress.update(self._name, text, key="")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.close()
