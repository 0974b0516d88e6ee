"""The daemon's own log: readable lines on a terminal, JSON otherwise, and never a reason to wait.

Covers: setting up, the level, a stream that nobody reads.
Does not cover: what is logged; the output of jobs (their own files).

A terminal that was stopped with Ctrl-S, a pipe whose reader hangs, an ssh connection that broke: a
write to one of them may take for ever. So lines are written by a thread of their own; what it cannot
get rid of is counted and dropped.
"""

from __future__ import annotations

import logging
import os
import queue
import sys
import threading
from types import MappingProxyType

import structlog

__all__ = ["LineWriter", "set_level", "set_up"]

_STDERR = 2

#: Some hundred bytes each.
_MAX_LINES = 10_000

#: At the end, what is left gets this long.
_CLOSE_S = 1.0

_LEVELS = MappingProxyType({"debug": 10, "info": 20, "warning": 30, "error": 40})


class LineWriter(logging.Handler):
    """Writes lines to a descriptor from a thread of its own; giving it one never waits."""

    def __init__(self, fd: int = _STDERR, *, max_lines: int = _MAX_LINES) -> None:
        super().__init__()
        self._fd = fd
        self._lines: queue.Queue[str | None] = queue.Queue(max_lines)
        self._num_lost = 0
        self._thread = threading.Thread(target=self._write_forever, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Take a line, or count it as lost."""
        try:
            self._lines.put_nowait(self.format(record) + "\n")
        except queue.Full:
            self._num_lost += 1

    def close(self) -> None:
        """Write what is left, for a moment."""
        try:
            self._lines.put(None, timeout=_CLOSE_S)
        except queue.Full:
            return
        self._thread.join(_CLOSE_S)
        super().close()

    def _write_forever(self) -> None:
        while (line := self._lines.get()) is not None:
            lost, self._num_lost = self._num_lost, 0
            self._write(f"{lost} lines were lost here: nobody read them\n" + line if lost else line)

    def _write(self, text: str) -> None:
        # Not through sys.stderr: its lock would be held at the end of the process, which is then fatal.
        data = text.encode(errors="backslashreplace")
        try:
            while data:
                data = data[os.write(self._fd, data) :]
        except OSError:
            # The terminal is gone, or the disk is full. There is nowhere to say so.
            return


def set_up() -> LineWriter:
    """Log to stderr from now on; `close()` what is returned at the end."""
    terminal = sys.stderr.isatty()
    renderer = structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer()
    writer = LineWriter()
    logging.basicConfig(format="%(message)s", handlers=[writer], level=_LEVELS["info"])
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=not terminal),
            structlog.processors.format_exc_info,
            renderer,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    return writer


def set_level(level: str) -> None:
    """Log from this severity on."""
    logging.getLogger().setLevel(_LEVELS[level])
