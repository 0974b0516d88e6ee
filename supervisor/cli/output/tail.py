"""Reading a log from its end, and following it while it grows, is rotated, cut, moved or deleted.

Covers: the older files beside it, so that no byte is lost or shown twice; a log without a name.
Does not cover: printing it (look.py), rotating it (supervisor/rotation.py).

A log is cut while its job writes on, so its length alone does not tell: by the next look it may be
longer than before. What was read last does. Each read begins a little before its place, at text that is
known; where other text stands, the log was cut, and what is missing lies in the older files that are new.
"""

from __future__ import annotations

import os
import stat
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple, Self

from supervisor.errors import Refused
from supervisor.system.logfiles import STAGED, FileId, numbered, older_numbers, open_away
from trainer_shim.safe_files import open_regular

__all__ = ["MAX_TAIL_BYTES", "Tail", "last_states"]

_BLOCK_BYTES: Final = 64 * 1024
_MARK_BYTES: Final = 256
#: More is not shown of a log unless all of it is asked for: a line of a progress bar may have no end.
MAX_TAIL_BYTES: Final = 1 << 20
#: So much of an older file is searched for the place, where it does not have the same places as the log.
_SEARCHED_BYTES: Final = 4 << 20
#: A copy that nobody has written to for so long is what a daemon left that was killed.
_STALE_S: Final = 5.0
#: A daemon that was asked to brings output to its log in that time.
_BROUGHT_S: Final = 10.0
_MOMENT_S: Final = 0.01


class _Mark(NamedTuple):
    """Text that is known to stand somewhere in the log; "" at 0 while it is empty."""

    at: int = 0
    text: bytes = b""


class _Was(NamedTuple):
    """Where reading was in a log before it was cut."""

    at: int
    mark: _Mark
    #: The first bytes of the log, by which it is known again in an older file; b"": it was empty.
    head: bytes

    def place_in(self, fd: int) -> int | None:
        """Return where in a file reading goes on, if it has the rest of the log."""
        text = self.mark.text
        if os.pread(fd, len(text), self.mark.at) == text:
            return self.at
        if self.head and os.pread(fd, len(self.head), 0) == self.head:
            # What was read last was written just before the cut, and is in no file any more.
            return min(self.at, os.fstat(fd).st_size)
        found = os.pread(fd, _SEARCHED_BYTES, 0).rfind(text)
        return None if found < 0 else found + self.at - self.mark.at


class Tail:
    """A log file that may not be there yet. Reads bytes as they are: progress bars and colours included."""

    def __init__(
        self, path: Path, *, pid: int | None = None, say: Callable[[str], object] = lambda _: None
    ) -> None:
        """Take the log, the process of its job if it lives, and whom to tell what a person should know."""
        self._path = path
        self._pid = pid
        self._say = say
        self._told: set[str] = set()
        #: It was said that the job writes elsewhere: once is enough, in whatever words.
        self._is_told_away = False
        self._fd: int | None = None
        self._at = 0
        self._mark = _Mark()
        #: How the log begins, as far as it was there when it was looked at first.
        self._head = b""
        #: Older files that were there when the log began as it is now.
        self._known: set[FileId] = set()
        self._was_missing = False
        #: Bytes of older files that are to be read before the log; b"": none.
        self._first = b""
        self._older: deque[int] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the files."""
        for fd in (*self._older, *(() if self._fd is None else (self._fd,))):
            os.close(fd)
        self._older.clear()
        self._fd = None

    def last_bytes(self) -> bytes:
        """Return the end of all files as if they were one, a byte more than is shown; stand behind it."""
        fd = self._open()
        if fd is None:
            return b""
        while True:
            self._begin_anew(fd)
            older = self._open_older(set())
            text = self._end_of_all(fd, older)
            for one in older:
                os.close(one)
            if self._ids() == self._known:
                return text

    def skip_to_last(self, num_lines: int | None) -> bool:
        """Make `more()` begin at the last lines; None: at the beginning of the oldest file.

        A line ends at a newline or a carriage return. Says whether there was more in them than
        MAX_TAIL_BYTES, the most that `more()` then begins with.
        """
        if num_lines is None:
            if (fd := self._open()) is not None:
                self._older.extend(self._gather(fd, set()))
            return False
        text = self.last_bytes()
        lines = text.splitlines(keepends=True)[-num_lines:] if num_lines else []
        wanted = b"".join(lines)
        self._first = wanted[-MAX_TAIL_BYTES:]
        return len(text) > MAX_TAIL_BYTES and (len(lines) < num_lines or len(wanted) > MAX_TAIL_BYTES)

    def more(self) -> bytes:
        """Return some of what was written since; b"" when there is nothing (yet)."""
        if self._first:
            first, self._first = self._first, b""
            return first
        while True:
            while self._older:
                if block := os.read(self._older[0], _BLOCK_BYTES):
                    return block
                os.close(self._older.popleft())
            fd = self._open()
            if fd is None:
                return b""
            if self._older:
                continue
            block = os.pread(fd, _BLOCK_BYTES, self._mark.at)
            new = block[self._at - self._mark.at :]
            is_same = bool(self._mark.text) or self._ids() <= self._known
            if not is_same or not block.startswith(self._mark.text):
                self._look_behind(fd)
            elif new:
                self._head = block[:_MARK_BYTES] if self._mark.at == 0 else self._head
                self._at += len(new)
                known = block[-_MARK_BYTES:]
                self._mark = _Mark(self._at - len(known), known)
                return new
            elif not self._go_to_new_file(fd):
                return b""

    # --- files ----------------------------------------------------------------------------------

    def _open(self) -> int | None:
        if self._fd is None:
            try:
                self._fd = open_regular(self._path, os.O_RDONLY)
            except FileNotFoundError:
                self._fd = self._open_without_name()
            except OSError as error:
                raise self._unreadable(error) from None
            else:
                self._warn_of_away()
            if self._fd is not None:
                # One that was missing came, and was rotated perhaps, since it was looked for.
                self._older.extend(self._gather(self._fd, self._known if self._was_missing else self._ids()))
                self._was_missing = False
            elif not self._was_missing:
                self._known, self._was_missing = self._ids(), True
        return self._fd

    def _open_without_name(self) -> int | None:
        away = None if self._pid is None else open_away(self._path, self._pid, os.O_RDONLY)
        if away is not None:
            was = f"moved to `{away.name}`" if away.name else "deleted"
            self._tell_away(
                f"the log `{self._path}` was {was} while its job writes it: this is read from process "
                f"{self._pid}; `supervisorctl reload` makes a new one"
            )
            return away.fd
        if self._pid is not None:
            self._tell(
                f"the log `{self._path}` is not there, and process {self._pid} has it no more either; "
                "the job's next start makes a new one"
            )
        return None

    def _warn_of_away(self) -> None:
        """Say it where the job writes somewhere else; a daemon that brings that back has it in a moment."""
        away = None if self._pid is None else open_away(self._path, self._pid, os.O_RDONLY)
        if away is None or self._fd is None:
            self._is_told_away = False
            return
        there, here = os.fstat(away.fd), os.fstat(self._fd)
        os.close(away.fd)
        # What the daemon has brought here is not there any more, but for what it was moved with: then the log
        # was written after the other. What the daemon will bring is new.
        waits_s = (there.st_mtime - here.st_mtime) if away.name else time.time() - there.st_mtime
        if there.st_size and waits_s > _BROUGHT_S:
            self._tell_away(
                f"the job writes to another file than `{self._path}`, which was put in its place; "
                "`supervisorctl reload` brings its output here, some seconds late"
            )

    def _tell(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self._say(text)

    def _tell_away(self, text: str) -> None:
        if not self._is_told_away:
            self._is_told_away = True
            self._tell(text)

    def _unreadable(self, error: OSError) -> Refused:
        return Refused(
            f"cannot read the log `{self._path}`: {error.strerror}",
            hint="a log belongs to the user whose job it is",
        )

    def _begin_anew(self, fd: int) -> None:
        """Stand at the beginning of a file, as it is after all rotations so far."""
        while True:
            self._known = self._ids()
            self._head = os.pread(fd, _MARK_BYTES, 0)
            self._at, self._mark = 0, _Mark(0, self._head)
            if self._ids() == self._known:
                return

    def _gather(self, fd: int, seen: set[FileId]) -> list[int]:
        """Open the older files that were not seen and begin the log anew, both as of one moment."""
        found: list[int] = []
        while True:
            found += self._open_older(seen)
            seen = seen | {FileId.of_older(os.fstat(one)) for one in found}
            self._begin_anew(fd)
            if self._known <= seen:
                return found

    def _numbers(self) -> list[int]:
        """Return the numbers of the older files, oldest first, once none is being made."""
        while STAGED in (numbers := older_numbers(self._path)):
            try:
                age_s = time.time() - self._older_path(STAGED).lstat().st_mtime
            except FileNotFoundError:
                continue
            if abs(age_s) > _STALE_S:
                break
            time.sleep(_MOMENT_S)
        return numbers

    def _ids(self) -> set[FileId]:
        found = set()
        for number in self._numbers():
            try:
                found.add(FileId.of_older(self._older_path(number).lstat()))
            except FileNotFoundError:
                continue
        return found

    def _open_older(self, known: set[FileId]) -> list[int]:
        """Open the older files that are not known, the oldest first."""
        opened: list[int] = []
        ids: set[FileId] = set()
        for number in self._numbers():
            try:
                fd = open_regular(self._older_path(number), os.O_RDONLY)
            except FileNotFoundError:
                continue
            except OSError as error:
                self._tell(f"cannot read `{self._older_path(number)}`: {error.strerror}")
                continue
            one = FileId.of_older(os.fstat(fd))
            # A rotation meanwhile shows a file a second time, under its next number.
            if one in known | ids:
                os.close(fd)
            else:
                opened.append(fd)
                ids.add(one)
        return opened

    def _older_path(self, number: int) -> Path:
        return self._path.with_name(numbered(self._path.name, number))

    def _end_of_all(self, fd: int, older: list[int]) -> bytes:
        text = _end_of(fd, MAX_TAIL_BYTES + 1)
        # What is written between the two is left to `more()`, and not shown as the end.
        self._at = os.lseek(fd, 0, os.SEEK_CUR)
        known = text[-_MARK_BYTES:]
        self._mark = _Mark(self._at - len(known), known)
        for one in reversed(older):
            if (missing := MAX_TAIL_BYTES + 1 - len(text)) > 0:
                text = _end_of(one, missing) + text
        return text

    # --- what became of the log -----------------------------------------------------------------

    def _look_behind(self, fd: int) -> None:
        """Find what is missing of a log that was cut in the older files, and begin it anew."""
        was = _Was(self._at, self._mark, self._head)
        news = self._gather(fd, self._known)
        places = [was.place_in(one) for one in news]
        first = next((i for i, place in enumerate(places) if place is not None), 0)
        for one in news[:first]:
            os.close(one)
        if news:
            os.lseek(news[first], places[first] or 0, os.SEEK_SET)
            if places[first] is None:
                self._tell("some output was rotated away before it could be shown")
            self._older.extend(news[first:])
        elif self._is_other(fd):
            # What was in a file without a name was brought back under the name.
            os.close(fd)
            self._fd = None
            new = self._open()
            place = None if new is None else was.place_in(new)
            if new is not None and place:
                begin = max(0, place - _MARK_BYTES)
                self._at, self._mark = place, _Mark(begin, os.pread(new, place - begin, begin))

    def _is_other(self, fd: int) -> bool:
        """Say whether another file stands under the name."""
        try:
            there = self._path.lstat()
        except FileNotFoundError:
            return False
        return stat.S_ISREG(there.st_mode) and FileId.of(there) != FileId.of(os.fstat(fd))

    def _go_to_new_file(self, fd: int) -> bool:
        """Go on with a new file under the name, once all of the old one was read; say it if there is none."""
        if self._is_other(fd):
            os.close(fd)
            self._fd = None
            return self._open() is not None
        if not os.path.lexists(self._path):
            self._tell_away(
                f"the log `{self._path}` was moved or deleted: this goes on with the same file; "
                "`supervisorctl reload` makes a new one"
            )
        return False


def _end_of(fd: int, num_bytes: int) -> bytes:
    """Return the last bytes of a file and leave its position behind them."""
    os.lseek(fd, max(0, os.fstat(fd).st_size - num_bytes), os.SEEK_SET)
    return os.read(fd, num_bytes)


def last_states(text: bytes, *, num_lines: int, max_bytes: int) -> list[str]:
    """Return the last lines as a terminal shows them: of what a progress bar overwrote, its last state."""
    shown: list[str] = []
    for line in reversed(text.removesuffix(b"\n").split(b"\n") if text else ()):
        if len(shown) == num_lines or max_bytes <= 0:
            break
        states = [state for state in line.split(b"\r") if state]
        last = states[-1][-max_bytes:] if states else b""
        max_bytes -= len(last) + 1
        shown.append(last.decode(errors="replace"))
    return shown[::-1]
