"""Reading a log from its end, and following it while it grows, is truncated or replaced."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO, Final, Self

from supervisor.errors import Refused
from trainer_shim.safe_files import open_regular

__all__ = ["Tail"]

_BLOCK_BYTES: Final = 64 * 1024


class Tail:
    """A log file that may not be there yet. Reads bytes as they are: progress bars and colours included."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def skip_to_last(self, num_lines: int | None) -> None:
        """Make `more()` begin at the last lines; None: at the beginning."""
        file = self._open()
        if file is None or num_lines is None:
            return
        end = file.seek(0, os.SEEK_END)
        begin, missing = end, num_lines
        while missing and begin > 0:
            size = min(_BLOCK_BYTES, begin)
            begin -= size
            file.seek(begin)
            block = file.read(size)
            # The newline at the very end ends the last line; it does not begin another.
            at = len(block) - (begin + size == end)
            while missing and (at := block.rfind(b"\n", 0, at)) >= 0:
                missing -= 1
            begin += at + 1 if not missing else 0
        file.seek(begin)

    def more(self) -> bytes:
        """Return some of what was written since; b"" when there is nothing (yet)."""
        file = self._open()
        if file is None:
            return b""
        self._start_over_if_new(file)
        return self._file.read(_BLOCK_BYTES) if self._file else b""

    def _open(self) -> BinaryIO | None:
        if self._file is None:
            try:
                self._file = os.fdopen(open_regular(self._path, os.O_RDONLY), "rb", buffering=0)
            except FileNotFoundError:
                return None
            except OSError as error:
                raise Refused(
                    f"cannot read the log `{self._path}`: {error.strerror}",
                    hint="a log belongs to the user whose job it is",
                ) from None
        return self._file

    def _start_over_if_new(self, file: BinaryIO) -> None:
        """Read from the beginning after a truncation, and the new file after a rotation."""
        mine = os.fstat(file.fileno())
        if mine.st_size < file.tell():
            file.seek(0)
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return
        # What is left of the old file comes first.
        if (there.st_dev, there.st_ino) != (mine.st_dev, mine.st_ino) and file.tell() >= mine.st_size:
            self.close()
            self._open()
