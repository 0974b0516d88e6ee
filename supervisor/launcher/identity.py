"""Who a process is: pid, start ticks and boot id, read and compared.

Covers: the identity of a process, opening exactly that process.
Does not cover: what is done with a process (stop.py), how it ended (reap.py).

A pid alone is never believed. The descriptor of a process is opened first and
the start ticks are read afterwards: if they fit, the descriptor cannot mean a
later process with the same number.
"""

from __future__ import annotations

import errno
import os
import select

from supervisor.core.jobs.job import Pid
from supervisor.system.procfs import boot_id, read_stat

__all__ = ["has_ended", "identify", "is_alive", "open_process"]


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
    except OverflowError:
        return None  # A record may hold any number; no process has this one.
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
