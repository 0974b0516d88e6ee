"""Who a process is: pid, start ticks and boot id, read and compared.

Covers: reading an identity from /proc, opening exactly that process.
Does not cover: what is done with a process (stop.py), how it ended (reap.py).

A pid alone is never believed. The descriptor of a process is opened first and
the start ticks are read afterwards: if they fit, the descriptor cannot mean a
later process with the same number.
"""

# A Path for each file of /proc costs more than reading it.
# ruff: noqa: PTH123
from __future__ import annotations

import errno
import os
import select
from functools import cache
from typing import NamedTuple

from supervisor.core.job import Pid

__all__ = ["Stat", "boot_id", "has_ended", "identify", "is_alive", "open_process", "parse_stat", "read_stat"]


class Stat(NamedTuple):
    """The part of `/proc/PID/stat` that tells processes apart and ties them together."""

    state: str
    parent: int
    session: int
    start_ticks: int


def parse_stat(text: bytes) -> Stat:
    """Return the fields behind the name, which may itself hold spaces, newlines and parentheses."""
    fields = text[text.rindex(b")") + 1 :].split()
    return Stat(
        state=fields[0].decode(),
        parent=int(fields[1]),
        session=int(fields[3]),
        start_ticks=int(fields[19]),
    )


def read_stat(pid: int) -> Stat | None:
    """Return who runs under this number now; None when nobody does."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            return parse_stat(file.read())
    # The second one: the process ended between open and read.
    except (FileNotFoundError, ProcessLookupError):
        return None


@cache
def boot_id() -> str:
    """Return the name of this boot of the machine; it cannot change while we run."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def identify(pid: int) -> Pid | None:
    """Return the identity of the process that has this number now."""
    stat = read_stat(pid)
    return None if stat is None else Pid(pid, stat.start_ticks, boot_id())


def open_process(process: Pid) -> int | None:
    """Open a descriptor for exactly this process, zombies included; None when it is gone."""
    if process.boot_id != boot_id():
        return None
    try:
        fd = os.pidfd_open(process.pid)
    except OSError as error:
        # EINVAL: the number now names a thread, or could never name a process.
        if error.errno in (errno.ESRCH, errno.EINVAL):
            return None
        raise
    stat = read_stat(process.pid)
    if stat is None or stat.start_ticks != process.start_ticks:
        os.close(fd)
        return None
    return fd


def has_ended(pidfd: int) -> bool:
    """Say whether all threads of the process behind this descriptor are over."""
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(0))


def is_alive(process: Pid) -> bool:
    """Say whether this very process still runs; one that waits to be reaped does not."""
    fd = open_process(process)
    if fd is None:
        return False
    try:
        return not has_ended(fd)
    finally:
        os.close(fd)
