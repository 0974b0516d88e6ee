"""The daemon as a parent: how its children ended, its own and those it inherited.

Covers: the exit status of one known child; orphans.
Does not cover: anybody else's children. Nothing here waits for "any" child,
so a `subprocess` object elsewhere in the daemon never loses its status.
"""

# A Path for each file of /proc costs more than reading it.
# ruff: noqa: PTH123, PTH208
from __future__ import annotations

import os
from collections.abc import Container
from contextlib import suppress

from supervisor.core.jobs.job import Exit
from supervisor.system.procfs import read_stat

__all__ = ["NOT_OURS", "reap", "reap_orphans"]

#: What `reap()` answers for a process whose parent is somebody else.
NOT_OURS = Exit(error="not a child of this process")


def reap(pidfd: int) -> Exit | None:
    """Return how a child ended and let it go; None while it runs, NOT_OURS for another's child."""
    try:
        info = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    except ChildProcessError:
        return NOT_OURS
    if info is None:
        return None
    if info.si_code == os.CLD_EXITED:
        return Exit(code=info.si_status)
    return Exit(signal=info.si_status)


def reap_orphans(*, spare: Container[int]) -> None:
    """Let go of ended children that came here as orphans, whatever session they made for themselves.

    A command's processes are never in our session; a child that somebody here started himself is.
    """
    own_session = os.getsid(0)
    for pid in _children():
        stat = None if pid in spare else read_stat(pid)
        if stat is not None and stat.state == "Z" and stat.session != own_session:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def _children() -> list[int]:
    found: list[int] = []
    for task in os.listdir("/proc/self/task"):
        # A helper thread may end meanwhile; its children move to another one and are seen next time.
        with (
            suppress(FileNotFoundError, ProcessLookupError),
            open(f"/proc/self/task/{task}/children") as file,
        ):
            found += map(int, file.read().split())
    return found
