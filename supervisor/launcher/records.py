"""What the folder of an incarnation tells: whose it is, who runs it, who keeps it, how it ended.

Covers: reading the files that a keeper writes, asking for its claim, whose journal the folder belongs to.
Does not cover: writing what a keeper writes (keeper.py, which shares nothing with us).

Asking for the claim never takes it: a daemon that held it for a moment would
send a keeper away that had every right to run. Nothing is read through a link, and
nothing that lies in the place of a file is waited for: it is `DamagedRecord`.
"""

from __future__ import annotations

import fcntl
import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

import msgspec

from supervisor.core.jobs.job import Exit, Pid
from supervisor.core.jobs.names import key_of_folder
from supervisor.core.replacing import replace
from supervisor.system.marks import jobs_folder, marks_of, start_of
from supervisor.system.procfs import has_ended, users_of
from trainer_shim.safe_files import make_folder, open_checked, open_in, read_in

__all__ = [
    "DamagedRecord",
    "RunFolder",
    "foreign_owner",
    "has_record",
    "is_claimed",
    "is_in_unit",
    "read_exit",
    "read_heir",
    "read_heir_exit",
    "read_keeper",
    "read_owner",
    "read_process",
    "run_folders",
    "write_heir",
    "write_owner",
]

_FLOCK = "hhqqi"
#: A path and what is wrong with it.
_MOST_WORDS: Final = 5000
#: No process has this user.
_NOBODY: Final = -1
_ABSENT = (FileNotFoundError, NotADirectoryError)
_T = TypeVar("_T")

#: Holds the id of the journal that knows of the run.
_OWNER = "journal"
_FOLDER = re.compile(r"run-(\d{1,12})")


class DamagedRecord(Exception):  # A state of a file, as the checkpoints have it.
    """Something lies in the place of a record that is none."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"cannot read `{path}`: {why}")
        self.path = path


class RunFolder(NamedTuple):
    """The folder of one incarnation."""

    job: str
    incarnation: int
    path: Path


def _read(run_dir: Path, name: str) -> bytes | None:
    """Return the contents, None where nothing is; raises DamagedRecord."""
    try:
        return read_in(run_dir, name)
    except _ABSENT:
        return None
    except OSError as error:
        raise DamagedRecord(run_dir / name, error.strerror or str(error)) from error


def _record(run_dir: Path, name: str, kind: type[_T]) -> _T | None:
    text = _read(run_dir, name)
    try:
        return None if text is None else msgspec.json.decode(text, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise DamagedRecord(run_dir / name, str(error)) from error


def _named(run_dir: Path, name: str) -> Pid | None:
    """Return the process that a record names; raises DamagedRecord, also where it is another user's.

    A user writes into the folders of their jobs what they like, and root signals whoever is named there.
    """
    process = _record(run_dir, name, Pid)
    owner = None if process is None else foreign_owner(run_dir)
    if process is None or owner is None or has_ended(process):
        return process
    if set(users_of(process.pid)) <= {owner}:  # Nobody, where it has just ended.
        return process
    # One that became another user's by a program with a set-user-id bit is still in the unit of the start.
    if not is_in_unit(run_dir, process):
        raise DamagedRecord(run_dir / name, "it names a process of another user")
    return process


def is_in_unit(run_dir: Path, process: Pid) -> bool:
    """Say whether a process is in the control group of this start, as its keeper may be."""
    start = start_of(run_dir)
    return start is not None and marks_of(jobs_folder(run_dir)).group_of(process.pid) == start


def foreign_owner(run_dir: Path) -> int | None:
    """Return whose the folder is, where that is not our user; None where it is not there."""
    try:
        owner = run_dir.lstat().st_uid
    except _ABSENT:
        return None
    except OSError:
        # A user can lay a file system of his own over it, which keeps root out: then it is nobody's.
        return _NOBODY
    return None if owner == os.geteuid() else owner


def read_exit(run_dir: Path) -> Exit | None:
    """Return how the command ended; None when that is not on disk; raises DamagedRecord."""
    return _exit(run_dir, "exit.json")


def _exit(run_dir: Path, name: str) -> Exit | None:
    end = _record(run_dir, name, Exit)
    # It is a user's word, which the journal keeps and every `status` of that user tells.
    if end is None or len(end.error) <= _MOST_WORDS:
        return end
    return replace(end, error=end.error[: _MOST_WORDS - 3] + "...")


def read_process(run_dir: Path) -> Pid | None:
    """Return which process became the command; None when none is known; raises DamagedRecord."""
    return _named(run_dir, "process.json")


def read_heir(run_dir: Path) -> Pid | None:
    """Return who goes on, or would, when the command has ended well; None when none is known."""
    try:
        return _named(run_dir, "heir.json")
    except DamagedRecord:
        return None


def read_heir_exit(run_dir: Path) -> Exit | None:
    """Return how that one ended; None when the keeper did not see it."""
    try:
        return _exit(run_dir, "heir-exit.json")
    except DamagedRecord:
        return None


def write_heir(run_dir: Path, heir: Pid) -> None:
    """Name the process whose end the keeper is to write down as well, in the place of the last one."""
    (run_dir / "heir-exit.json").unlink(missing_ok=True)
    staging = run_dir / ".heir.json"
    staging.unlink(missing_ok=True)
    fd = open_checked(staging, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        # In the keeper's own words, which it compares.
        os.write(fd, msgspec.json.encode(heir))
        if (owner := foreign_owner(run_dir)) is not None:
            os.fchown(fd, owner, -1)  # Its keeper reads it.
    finally:
        os.close(fd)
    staging.rename(run_dir / "heir.json")


def read_keeper(run_dir: Path) -> Pid | None:
    """Return who last took the claim; None when it has not said so yet."""
    try:
        return _named(run_dir, "claim")
    except DamagedRecord:
        return None


def read_owner(run_dir: Path) -> str:
    """Return the id of the journal that the folder belongs to; "" where it does not say."""
    try:
        return (_read(run_dir, _OWNER) or b"").decode(errors="replace").strip()
    except DamagedRecord:
        return ""


def write_owner(run_dir: Path, journal: str) -> None:
    """Make a folder for an incarnation, and say whose it is."""
    make_folder(run_dir)
    if journal and not os.path.lexists(run_dir / _OWNER):
        fd = open_checked(run_dir / _OWNER, os.O_WRONLY | os.O_CREAT)
        try:
            os.write(fd, f"{journal}\n".encode())
        finally:
            os.close(fd)


def has_record(run_dir: Path) -> bool:
    """Say whether a command was started or found impossible to start, readable or not."""
    return any(os.path.lexists(run_dir / name) for name in ("process.json", "exit.json"))


def is_claimed(run_dir: Path) -> bool:
    """Say whether a keeper, or a child on its way to become the command, holds the claim."""
    try:
        fd = open_in(run_dir, "claim")
    except OSError:
        # Not there, or nothing that a keeper could have opened for writing.
        return False
    try:
        question = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        answer = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, question)
    except OSError:
        return False
    finally:
        os.close(fd)
    return bool(struct.unpack(_FLOCK, answer)[0] != fcntl.F_UNLCK)


def run_folders(job_dir: Path) -> Iterator[RunFolder]:
    """Yield the folders of one job's incarnations; none where the folder cannot be read."""
    try:
        names = [entry.name for entry in os.scandir(job_dir)]
    except OSError:
        return
    for name in names:
        if match := _FOLDER.fullmatch(name):
            yield RunFolder(key_of_folder(job_dir.parent.name, job_dir.name), int(match[1]), job_dir / name)
