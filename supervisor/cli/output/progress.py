"""One line a job while a command waits: rewritten in place on a terminal, else a line per change."""

from __future__ import annotations

from typing import TextIO

from supervisor.cli.output.screen import Screen
from supervisor.cli.output.text import cut

__all__ = ["Progress"]


class Progress:
    """Shows stages on a stream that is not the data's. Call `close()` before anything else is printed."""

    def __init__(self, stream: TextIO, screen: Screen) -> None:
        self._stream = stream
        self._screen = screen
        self._lines: dict[str, str] = {}
        self._keys: dict[str, str] = {}
        self._num_drawn = 0

    def update(self, job: str, text: str, *, key: str) -> None:
        """Show the text for a job; without a terminal only when `key` is not what it was."""
        line = f"{job}: {text}"
        self._lines[job] = line
        if self._screen.live:
            self._draw()
        elif self._keys.get(job) != key:
            self._print(line)
        self._keys[job] = key

    def note(self, line: str) -> None:
        """Print a line that stays."""
        self._erase()
        self._print(line)
        if self._screen.live:
            self._draw()

    def close(self) -> None:
        """Leave the terminal as if nothing had been drawn."""
        self._erase()
        self._lines.clear()
        self._stream.flush()

    def _draw(self) -> None:
        self._erase()
        for line in self._lines.values():
            # A wrapped line could not be erased again: cursor movement counts rows of the screen.
            self._stream.write(cut(line, (self._screen.width or 80) - 1) + "\n")
        self._num_drawn = len(self._lines)
        self._stream.flush()

    def _erase(self) -> None:
        if self._num_drawn:
            self._stream.write(f"\x1b[{self._num_drawn}A\x1b[J")
            self._num_drawn = 0

    def _print(self, line: str) -> None:
        self._stream.write(line + "\n")
        self._stream.flush()
