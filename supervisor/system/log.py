"""The daemon's own log: lines on a terminal, entries with fields in systemd's journal, JSON otherwise.

Covers: setting up, the level, a stream that nobody reads: logging is never a reason to wait.
Does not cover: what is logged; the output of jobs (their own files); the journal's entries (systemd_log.py).

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
from collections.abc import MutableMapping
from types import MappingProxyType
from typing import Any

import structlog

from supervisor.system import systemd_log

__all__ = ["JournalWriter", "LineWriter", "set_level", "set_up"]

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
        self._lines: queue.Queue[tuple[logging.LogRecord, str] | None] = queue.Queue(max_lines)
        self._num_lost = 0
        self._thread = threading.Thread(target=self._write_forever, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Take a line, or count it as lost."""
        try:
            self._lines.put_nowait((record, self.format(record)))
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
        while (taken := self._lines.get()) is not None:
            lost, self._num_lost = self._num_lost, 0
            if lost:
                self._write(f"{lost} lines were lost here: nobody read them\n")
            self._put(*taken)

    def _put(self, record: logging.LogRecord, line: str) -> None:  # noqa: ARG002  # Others need the record.
        self._write(line + "\n")

    def _write(self, text: str) -> None:
        # Not through sys.stderr: its lock would be held at the end of the process, which is then fatal.
        data = text.encode(errors="backslashreplace")
        try:
            while data:
                data = data[os.write(self._fd, data) :]
        except OSError:
            # The terminal is gone, or the disk is full. There is nowhere to say so.
            return


class JournalWriter(LineWriter):
    """Writes entries to systemd's journal; what that does not take goes to its stream, as lines."""

    def __init__(self, fd: int = _STDERR, *, address: str = systemd_log.JOURNAL_SOCKET) -> None:
        self._address = address
        super().__init__(fd)

    def _put(self, record: logging.LogRecord, line: str) -> None:
        try:
            systemd_log.send(systemd_log.entry(record, line), self._address)
        except OSError:
            # It is being restarted, or the entry is longer than a datagram. The stream has no fields, but
            # is kept open, takes any length, and each line may name its severity (sd-daemon(3)).
            level = f"<{systemd_log.syslog_level(record.levelno)}>"
            self._write("".join(f"{level}{part}\n" for part in line.splitlines()))


def set_up() -> LineWriter:
    """Log to stderr from now on, or to the journal behind it; `close()` what is returned at the end."""
    terminal = sys.stderr.isatty()
    if systemd_log.is_journal(os.environ, _STDERR):
        return _set_up_journal()
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


def _set_up_journal() -> LineWriter:
    writer = JournalWriter()
    logging.basicConfig(format="%(message)s", handlers=[writer], level=_LEVELS["info"])
    # The journal has the time and the severity itself.
    text = structlog.dev.ConsoleRenderer(colors=False, pad_event=0)

    def with_text(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        return {**event, "text": text(logger, method, dict(event))}

    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.add_logger_name,
            structlog.processors.format_exc_info,
            with_text,
            systemd_log.as_record,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    return writer


def set_level(level: str) -> None:
    """Log from this severity on."""
    logging.getLogger().setLevel(_LEVELS[level])
