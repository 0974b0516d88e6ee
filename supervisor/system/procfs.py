"""What /proc says of a process and of this boot: the one place that reads it for the launcher and the server.

Covers: the fields of `/proc/PID/stat` that tell processes apart and tie them
together, its users, the boot id.
Does not cover: what they use (monitors/), and the keeper, which imports nothing of ours.
"""

# A Path for each file of /proc costs more than reading it.
# ruff: noqa: PTH123
from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from supervisor.core.jobs.job import Pid

__all__ = ["Stat", "boot_id", "has_ended", "line_of", "parse_stat", "read_stat", "sees_host_pids", "users_of"]

#: A process tree is never that deep; a loop in what we read must end.
_MAX_DEPTH = 100

_BOOT_ID: Final = "sys/kernel/random/boot_id"

#: The first pid namespace has the same name in every kernel.
_HOST_PIDS = "pid:[4026531836]"


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


def line_of(pid: int) -> Iterator[tuple[int, Stat | None]]:
    """Yield a process and all above it, the nearest first; None in the place of one that is gone."""
    for _ in range(_MAX_DEPTH):
        stat = read_stat(pid)
        yield pid, stat
        if stat is None or stat.parent <= 1:
            return
        pid = stat.parent


def users_of(pid: int, proc: str = "/proc") -> tuple[int, ...]:
    """Return the real, effective, saved and file user ids of a process; none where it is gone.

    Who owns its folder in /proc says nothing: root owns those of all that cannot be dumped.
    """
    try:
        with open(f"{proc}/{pid}/status", "rb", buffering=0) as file:
            text = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return ()
    # The name comes first, and the kernel writes a line end in it as two characters.
    return tuple(map(int, text.partition(b"\nUid:")[2].partition(b"\n")[0].split()))


def has_ended(process: Pid) -> bool:
    """Say whether a process is over, also while its parent has not taken note."""
    stat = read_stat(process.pid)
    return stat is None or stat.state == "Z" or stat.start_ticks != process.start_ticks


@cache
def boot_id(proc: Path = Path("/proc")) -> str:
    """Return the name of this boot of the machine; it cannot change while we run.

    Containers lay their own over the kernel's, and a sandbox of systemd has a /proc without it: what counts
    is what PID 1 sees, where we may look. The keeper does the same.
    """
    try:
        return (proc / "1/root/proc" / _BOOT_ID).read_text(encoding="ascii").strip()
    except OSError:
        return (proc / _BOOT_ID).read_text(encoding="ascii").strip()


def sees_host_pids(proc: Path = Path("/proc")) -> bool:
    """Say whether numbers of processes here are those of the machine; in most containers they are not."""
    try:
        return str((proc / "self/ns/pid").readlink()) == _HOST_PIDS
    except OSError:
        return False
