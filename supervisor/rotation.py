"""Logs of jobs are kept short: what is longer than its limit is copied to `log.1` and cut.

Covers: when a log is copied and cut, full disks, copies that a crash cut short, logs that lost their name.
Does not cover: reading them (cli/output/tail.py), the daemon's own log (log.py).

The job writes to its file itself, always at the end of it (O_APPEND): it never waits for us and needs
nobody (docs/decisions/0010). So a log cannot be closed, only cut, and what is written between our last
look at it and the cut is lost. All of it happens in a thread of its own, which alone may wait for a disk.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import structlog

from supervisor.core.jobs.job import Job
from supervisor.core.jobs.names import user_of
from supervisor.core.units import format_bytes
from supervisor.monitors.background_call import BackgroundCall
from supervisor.paths import Paths
from supervisor.set_aside import keep_aside
from supervisor.settings.config import JobsConfig
from supervisor.system.logfiles import STAGED, Away, FileId, numbered, older_numbers, open_away
from trainer_shim.safe_files import Unsafe, open_checked, open_regular

__all__ = ["KeptLog", "Logs", "kept_logs"]

_BLOCK_BYTES: Final = 1 << 20
#: KeptLog of a log that there is no room to copy.
_LAST_BYTES: Final = 1 << 20
#: Checkpoints need the disk more than old output does.
_RESERVE_BYTES: Final = 64 << 20
#: Who writes faster than it can be copied is cut when that much more has come than there was.
_MOST_NEW_BYTES: Final = 256 << 20
_CLOSE_S: Final = 2.0

_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT)

# With the interpreter's lock held, unlike os.lseek(): to wait for it between the look at the end of the log
# and the cut would be time in which output is lost.
_LSEEK: Final = ctypes.PyDLL(None).lseek
_LSEEK.argtypes = (ctypes.c_int, ctypes.c_long, ctypes.c_int)
_LSEEK.restype = ctypes.c_long


class KeptLog(NamedTuple):
    """The log of one job, and how much of it is kept."""

    job: str
    log: Path
    #: Bytes; a longer one is cut, 0: none is.
    max_bytes: int
    #: How many older files stay beside it.
    num_older: int
    #: The process of the job's command; None: it does not live.
    pid: int | None = None


def kept_logs(jobs: Iterable[Job], usual: JobsConfig, paths: Paths) -> tuple[KeptLog, ...]:
    """Return the logs of these jobs; also of those that are over: what one left may go on writing."""
    return tuple(
        KeptLog(
            job=job.name,
            log=paths.log(job.name),
            max_bytes=usual.log_max_bytes if job.spec.log_max_bytes is None else job.spec.log_max_bytes,
            num_older=usual.log_files if job.spec.log_files is None else job.spec.log_files,
            pid=job.process.pid if job.alive and job.process is not None else None,
        )
        for job in jobs
    )


class Logs:
    """All logs. `keep()`, `reopen()` and `problems()` return at once."""

    def __init__(self, *, free_bytes: Callable[[int], int] | None = None) -> None:
        self._free_bytes = free_bytes or _free_bytes
        self._log = structlog.get_logger("logs")
        self._kept: Sequence[KeptLog] = ()
        #: Those of the last look, by job: who is not asked for any more may have written since.
        self._last: dict[str, KeptLog] = {}
        self._problems: dict[str, str] = {}
        self._is_reopen_asked = False
        #: Logs without a name: which file, and where in it the part begins that is ours.
        self._away: dict[str, tuple[FileId, int]] = {}
        #: Those of them whose output is brought back under the name.
        self._reopened: set[str] = set()
        self._call = BackgroundCall("the file system of the logs", self.look)

    def keep(self, kept: Sequence[KeptLog]) -> bool:
        """Look at these logs soon, and at those of the last time; False: that one is still under way."""
        if self._call.busy_s():
            return False
        self._kept = kept
        self._call.ask()
        return True

    def troubled(self) -> tuple[str, ...]:
        """Return the jobs with whose logs something could not be done."""
        return tuple(self._problems.copy())

    def reopen(self) -> None:
        """From the next look on, bring back what goes into files that lost their name."""
        self._is_reopen_asked = True

    def problems(self) -> tuple[str, ...]:
        """Return what could not be done at the last look, as sentences."""
        return tuple(self._problems.copy().values())

    def close(self) -> None:
        """Look no more; a copy that is under way gets a moment, and is put right by the next daemon."""
        self._call.close()
        self._call.join(_CLOSE_S)

    def look(self) -> None:
        """Look at all logs once, and do what is to be done; may wait for the disk."""
        now = {one.job: one for one in self._kept}
        # What a job wrote at its very end.
        kept = [*now.values(), *(one._replace(pid=None) for job, one in self._last.items() if job not in now)]
        self._last = now
        is_reopen_asked, self._is_reopen_asked = self._is_reopen_asked, False
        names = {one.job for one in kept}
        for job in [job for job in (*self._problems, *self._away) if job not in names]:
            self._problems.pop(job, None)
            self._away.pop(job, None)
        for one in kept:
            try:
                with _folder(one.log.parent) as folder:
                    _finish(one, folder)
                    self._shorten(one, folder)
                    self._look_for_away(one, folder, reopen=is_reopen_asked)
            except FileNotFoundError:
                # It has not been started yet, or somebody cleans up.
                self._problems.pop(one.job, None)
            except OSError as error:
                hint = f" ({error.hint})" if isinstance(error, Unsafe) else ""
                self._problems[one.job] = (
                    f"cannot keep the log of job `{one.job}` short: {error.strerror}{hint}"
                )
            else:
                self._problems.pop(one.job, None)

    def _shorten(self, one: KeptLog, folder: int) -> None:
        """Rotate the file under the log's name where it is too long."""
        try:
            info = os.stat(one.log.name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return
        if not one.max_bytes or info.st_size <= one.max_bytes or not stat.S_ISREG(info.st_mode):
            return
        fd = _open(one, one.log.name, os.O_RDWR, folder)
        try:
            if os.fstat(fd).st_nlink > 1:
                raise Unsafe(f"`{one.log}` has a second name, whose contents would be lost", hint="remove it")
            self._rotate(one, folder, fd, begin=0)
        finally:
            os.close(fd)

    def _look_for_away(self, one: KeptLog, folder: int, *, reopen: bool) -> None:
        """Hold the limit also where somebody took the log's name away, and bring it back when asked to."""
        away = None if one.pid is None else open_away(one.log, one.pid, os.O_RDWR)
        if away is None:
            self._away.pop(one.job, None)
            self._reopened.discard(one.job)
            return
        try:
            begin = self._begin_of(one.job, away)
            if reopen:
                self._reopened.add(one.job)
                self._log.info("log-reopened", job=one.job)
            size = os.fstat(away.fd).st_size - begin
            if one.max_bytes and size > one.max_bytes:
                self._rotate(one, folder, away.fd, begin=begin)
            elif one.job in self._reopened and (size > 0 or reopen):
                self._bring_back(one, folder, away.fd, begin)
        finally:
            os.close(away.fd)

    def _begin_of(self, job: str, away: Away) -> int:
        """Return where our part begins: what somebody moved away to keep it stays as it was."""
        info = os.fstat(away.fd)
        known, begin = self._away.get(job, (None, 0))
        if known != FileId.of(info):
            self._reopened.discard(job)
            begin = info.st_size if away.name else 0
            self._away[job] = FileId.of(info), begin
            where = f"moved to {away.name}" if away.name else "deleted"
            self._log.warning("log-away", job=job, was=where, hint="`supervisorctl reload` makes a new one")
        return begin

    def _bring_back(self, one: KeptLog, folder: int, fd: int, begin: int) -> None:
        """Move what was written since to the log's name: a file without a name cannot get one again.

        A new one gets its name when it is whole, so that no reader meets the same text in both.
        """
        is_new = not os.path.lexists(one.log)
        name = numbered(one.log.name, STAGED) if is_new else one.log.name
        to = _open(one, name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, folder)
        try:
            self._append(one, fd, to, begin)
        except OSError:
            if is_new:
                os.unlink(name, dir_fd=folder)
            raise
        finally:
            os.close(to)
        if is_new:
            os.rename(name, one.log.name, src_dir_fd=folder, dst_dir_fd=folder)

    def _append(self, one: KeptLog, fd: int, to: int, begin: int) -> None:
        """Move it to the end of another file, which is as before where that cannot be done."""
        if self._free_bytes(to) < os.fstat(fd).st_size - begin + _RESERVE_BYTES:
            raise OSError(errno.ENOSPC, f"no room to bring back `{one.log}`")
        size = os.fstat(to).st_size
        try:
            self._tell_lost(one, _move(fd, to, begin))
        except OSError:
            os.ftruncate(to, size)  # The output is still where it was, and must not be there twice.
            raise

    def _rotate(self, one: KeptLog, folder: int, fd: int, *, begin: int) -> None:
        """Make `log.1` of what is in a log from there on."""
        self._make_way(one)
        for number in older_numbers(one.log):
            if number >= max(one.num_older, 1):
                # It would go at the end of this; now it makes room.
                os.unlink(numbered(one.log.name, number), dir_fd=folder)
        if not one.num_older:
            os.ftruncate(fd, begin)
            return
        name = numbered(one.log.name, STAGED)
        to = _open(one, name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, folder)
        try:
            has_room = self._free_bytes(to) >= os.fstat(fd).st_size - begin + _RESERVE_BYTES
            if not (has_room and self._moved(one, fd, to, begin)):
                num_dropped = _keep_last(fd, to, begin)
                self._log.warning(
                    "log-cut", job=one.job, dropped_bytes=num_dropped, reason="no room to copy it"
                )
        finally:
            os.close(to)
        _shift(one, folder)

    def _make_way(self, one: KeptLog) -> None:
        """Keep folders aside that have the name of an older file: they cannot be replaced by one."""
        for number in older_numbers(one.log):
            odd = one.log.with_name(numbered(one.log.name, number))
            if number != STAGED and odd.is_dir() and not odd.is_symlink():
                self._log.warning("folder-aside", job=one.job, was=str(odd), kept=str(keep_aside(odd)))

    def _moved(self, one: KeptLog, fd: int, to: int, begin: int) -> bool:
        """Move it; False when there is no room for it after all, and then it is as it was."""
        try:
            self._tell_lost(one, _move(fd, to, begin))
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            os.ftruncate(to, 0)
            os.lseek(to, 0, os.SEEK_SET)
            return False
        return True

    def _tell_lost(self, one: KeptLog, num_bytes: int) -> None:
        if num_bytes:
            why = "it is written faster than it can be copied"
            self._log.warning("log-lost", job=one.job, lost_bytes=num_bytes, reason=why)


@contextlib.contextmanager
def _folder(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _open(one: KeptLog, name: str, flags: int, folder: int) -> int:
    """Open a log or an older one of it; that of another user's job belongs to that one, as what is made does.

    The folder is ours in either case, so that no name in it is anybody else's choice.
    """
    if not user_of(one.job):
        return open_checked(name, flags, dir_fd=folder)
    fd = open_regular(name, flags, dir_fd=folder)
    try:
        if flags & os.O_CREAT:
            owner = os.stat(one.log.name, dir_fd=folder, follow_symlinks=False)
            os.fchown(fd, owner.st_uid, owner.st_gid)
    except OSError:
        os.close(fd)
        raise
    return fd


def _free_bytes(fd: int) -> int:
    found = os.fstatvfs(fd)
    return found.f_bavail * found.f_frsize


def _write_all(fd: int, text: bytes) -> None:
    while text:
        text = text[os.write(fd, text) :]


def _move(fd: int, to: int, begin: int) -> int:
    """Copy until nothing new comes, then cut at once; returns how many bytes are known to be lost."""
    at, last = begin, os.fstat(fd).st_size + _MOST_NEW_BYTES
    is_safe = False
    while True:
        while at < last and (block := os.pread(fd, _BLOCK_BYTES, at)):
            _write_all(to, block)
            at += len(block)
        if not is_safe:
            # Before the cut: a power cut must not take both. It takes long, so what came meanwhile follows.
            os.fdatasync(to)
            is_safe = True
            continue
        end: int = _LSEEK(fd, 0, os.SEEK_END)
        if end <= at or at >= last:
            os.ftruncate(fd, begin)
            return max(0, end - at)


def _keep_last(fd: int, to: int, begin: int) -> int:
    """Cut a log that there is no room to copy; its last part goes through memory. Returns what it lost."""
    at = max(begin, os.fstat(fd).st_size - _LAST_BYTES)
    text = b""
    while len(text) < 2 * _LAST_BYTES and (block := os.pread(fd, _BLOCK_BYTES, at + len(text))):
        text += block
    os.ftruncate(fd, begin)
    num_dropped = at - begin
    line = f"training-supervisor: {format_bytes(num_dropped)} of output were dropped here: the disk is full\n"
    _write_all(to, line.encode() + text)
    return num_dropped


def _shift(one: KeptLog, folder: int) -> None:
    """Make each file one older, also where there are gaps."""
    for number in older_numbers(one.log):
        if number < one.num_older:
            old, new = numbered(one.log.name, number), numbered(one.log.name, number + 1)
            os.rename(old, new, src_dir_fd=folder, dst_dir_fd=folder)


def _finish(one: KeptLog, folder: int) -> None:
    """Put right what a crash left: a copy is whole if its log was cut, else the log still has it all."""
    name = numbered(one.log.name, STAGED)
    try:
        copy = _open(one, name, os.O_RDONLY, folder)
    except FileNotFoundError:
        return
    try:
        log = _open(one, one.log.name, os.O_RDONLY, folder)
    except FileNotFoundError:
        os.close(copy)
    else:
        with os.fdopen(copy, "rb") as begin, os.fdopen(log, "rb") as whole:
            if _begins_with(whole.read, begin.read):
                os.unlink(name, dir_fd=folder)
                return
    _shift(one._replace(num_older=max(one.num_older, 1)), folder)


def _begins_with(whole: Callable[[int], bytes], begin: Callable[[int], bytes]) -> bool:
    while block := begin(_BLOCK_BYTES):
        if whole(len(block)) != block:
            return False
    return True
