"""What the folder of an incarnation tells: who runs it, who keeps it, how it ended.

Covers: reading the files that a keeper writes, and asking for its claim.
Does not cover: writing them (keeper.py, which shares nothing with us).

Asking for the claim never takes it: a daemon that held it for a moment would
send a keeper away that had every right to run. Nothing is read through a link, and
nothing that lies in the place of a file is waited for.
"""

from __future__ import annotations

import fcntl
import os
import struct
from pathlib import Path
from typing import TypeVar

import msgspec

from supervisor.core.job import Exit, Pid
from trainer_shim.safe_files import Unsafe, open_in, read_in

__all__ = ["has_record", "is_claimed", "read_exit", "read_keeper", "read_process"]

_FLOCK = "hhqqi"
_ABSENT = (FileNotFoundError, NotADirectoryError)
#: What is no word of a keeper: half of one, or a link, a folder, a pipe, a file of somebody else.
_DAMAGED = (msgspec.DecodeError, Unsafe, IsADirectoryError)
_T = TypeVar("_T")


def _read(run_dir: Path, name: str, kind: type[_T]) -> _T | None:
    try:
        return msgspec.json.decode(read_in(run_dir, name), type=kind)
    except _ABSENT:
        return None


def read_exit(run_dir: Path) -> Exit | None:
    """Return how the command ended; None when that is not on disk."""
    try:
        return _read(run_dir, "exit.json", Exit)
    except _DAMAGED:
        return Exit(error=f"exit status unknown: `{run_dir / 'exit.json'}` is damaged")


def read_process(run_dir: Path) -> Pid | None:
    """Return which process became the command; None when none is known."""
    try:
        return _read(run_dir, "process.json", Pid)
    except _DAMAGED:
        return None


def read_keeper(run_dir: Path) -> Pid | None:
    """Return who last took the claim; None when it has not said so yet."""
    try:
        return _read(run_dir, "claim", Pid)
    except _DAMAGED:
        return None


def has_record(run_dir: Path) -> bool:
    """Say whether a command was started or found impossible to start, readable or not."""
    return any(os.path.lexists(run_dir / name) for name in ("process.json", "exit.json"))


def is_claimed(run_dir: Path) -> bool:
    """Say whether a keeper, or a child on its way to become the command, holds the claim."""
    try:
        fd = open_in(run_dir, "claim")
    except (*_ABSENT, *_DAMAGED):
        return False
    try:
        question = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        answer = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, question)
    finally:
        os.close(fd)
    return bool(struct.unpack(_FLOCK, answer)[0] != fcntl.F_UNLCK)
