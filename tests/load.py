"""Real load for tests, and a small machine to put it on.

    with small_machine() as inside, RunningDaemon(config, inside=inside) as daemon:
        with busy(inside):          # three processes that only compute
            daemon.until("a", "paused")

A small machine is a set of control groups below our own, with one CPU and 2 GiB:
what others do here at the same time does not show in there. Where no groups can
be made it is the whole machine, and tests read first what others use of it.

Covers: groups, processes that compute or hold memory, and that none is left behind.
Does not cover: control groups of version 2, which give no limits to a group beside processes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tests.harness import until

__all__ = ["GIB", "busy", "holding", "small_machine"]

GIB = 1 << 30

_ROOT = Path("/sys/fs/cgroup")
#: A group that competes with much else still gets its one CPU.
_LIMITS = {
    "cpu": {"cpu.cfs_period_us": 100_000, "cpu.cfs_quota_us": 100_000, "cpu.shares": 8192},
    "cpuacct": {},
    "memory": {"memory.limit_in_bytes": 2 * GIB},
}

#: Both end with the test that started them, however it ends, and after a while anyway.
_BUSY = """
import os, time
parent, end = os.getppid(), time.monotonic() + 100
while os.getppid() == parent and time.monotonic() < end:
    for _ in range(10000): pass
"""
_HOLD = """
import os, sys, time
parent, end = os.getppid(), time.monotonic() + 100
held = bytearray(os.urandom(1 << 20)) * (int(sys.argv[1]) >> 20)
print("held", flush=True)
while os.getppid() == parent and time.monotonic() < end:
    time.sleep(0.05)
"""


@contextmanager
def small_machine() -> Iterator[tuple[str, ...]]:
    """Yield the words which, put before a command, run it in there; none: it is the whole machine."""
    with ExitStack() as stack:
        try:
            folders = [stack.enter_context(_group(controller)) for controller in _LIMITS]
        except (OSError, KeyError):
            yield ()
            return
        enter = " ".join(f"echo $$ > {folder}/cgroup.procs &&" for folder in folders)
        yield ("sh", "-c", f'{enter} exec "$@"', "sh")


@contextmanager
def busy(inside: tuple[str, ...]) -> Iterator[None]:
    """Let three processes compute: more than any job can do beside them."""
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(_process(*inside, sys.executable, "-c", _BUSY))
        yield


@contextmanager
def holding(inside: tuple[str, ...], size_bytes: int) -> Iterator[None]:
    """Let a process hold that much memory; it has it when this begins."""
    with _process(*inside, sys.executable, "-c", _HOLD, str(size_bytes)) as process:
        assert process.stdout is not None
        assert b"held\n" == process.stdout.readline()
        yield


@contextmanager
def _process(*argv: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def _group(controller: str) -> Iterator[Path]:
    lines = Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines()
    ours = {name: line.split(":", 2)[2] for line in lines for name in line.split(":", 2)[1].split(",")}
    parent = _ROOT / controller / ours[controller].lstrip("/")
    _sweep(parent)
    folder = parent / f"ts-tests-{os.getpid()}"
    folder.mkdir()
    try:
        for name, value in _LIMITS[controller].items():
            (folder / name).write_text(str(value), encoding="ascii")
        yield folder
    finally:
        until(lambda: _is_removed(folder), f"{folder} to be empty")


def _sweep(parent: Path) -> None:
    """Remove what tests left that were killed."""
    for folder in parent.glob("ts-tests-*"):
        if not Path("/proc", folder.name.rpartition("-")[2]).exists():
            with suppress(OSError):
                folder.rmdir()


def _is_removed(folder: Path) -> bool:
    with suppress(OSError):
        folder.rmdir()
    return not folder.exists()
