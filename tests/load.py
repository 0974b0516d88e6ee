"""Real load for tests, and a small machine to put it on.

    with small_machine() as inside, RunningDaemon(config, inside=inside) as daemon:
        with busy(inside):          # three processes that only compute
            daemon.until("a", "paused")

A small machine is a set of control groups below our own, with one CPU and 2 GiB:
what others do here at the same time does not show in there. Where no groups can
be made it is the whole machine, and tests read first what others use of it.

Covers: processes that compute or hold memory, and that none is left behind.
Does not cover: making groups (tests/groups.py).
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from tests.groups import group

__all__ = ["GIB", "busy", "holding", "small_machine"]

GIB = 1 << 30

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
        inside: tuple[str, ...] = ()
        with suppress(OSError):
            inside = stack.enter_context(group("tests", _LIMITS))
        yield inside


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
