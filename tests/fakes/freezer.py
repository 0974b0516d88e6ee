"""Freezing without a driver, and a driver without a device.

Covers: FakeFreezer, for the engine's side of ports.ProcessFreezer; FakeCuda, the state machine that the
driver documents for `cuda.core.checkpoint.Process`, with calls that fail or hang when a test says so.
Does not cover: GPUs.
"""

from __future__ import annotations

import os
import threading
from collections import deque

from supervisor.core.jobs.job import Pid
from supervisor.ports import Froze

__all__ = ["FakeCuda", "FakeFreezer"]


class FakeCuda:
    """One process, as the driver sees it."""

    def __init__(self) -> None:
        self.state = "running"
        #: How often each call still fails.
        self.failures: dict[str, int] = {}
        self.calls: list[str] = []
        #: Calls of that name wait until it is set.
        self.hangs: dict[str, threading.Event] = {}

    def lock(self, timeout_ms: int = 0) -> None:
        assert timeout_ms > 0
        self._move("lock", "running", "locked")

    def checkpoint(self) -> None:
        self._move("checkpoint", "locked", "checkpointed")

    def restore(self) -> None:
        self._move("restore", "checkpointed", "locked")

    def unlock(self) -> None:
        self._move("unlock", "locked", "running")

    def _move(self, call: str, before: str, after: str) -> None:
        self.calls.append(call)
        if call in self.hangs:
            self.hangs[call].wait()
        if self.failures.get(call, 0):
            self.failures[call] -= 1
            raise RuntimeError(f"CUDA_ERROR_OUT_OF_MEMORY: {call}")
        if self.state != before:
            raise RuntimeError(f"CUDA_ERROR_ILLEGAL_STATE: {call} of a {self.state} process")
        self.state = after


class FakeFreezer:
    """Answers at the next drain. `frozen` is the driver's, and outlives the daemon."""

    def __init__(self, frozen: set[Pid] | None = None) -> None:
        self.frozen: set[Pid] = set() if frozen is None else frozen
        #: Processes that cannot be frozen or thawed, and why.
        self.problems: dict[Pid, str] = {}
        self.gone: set[Pid] = set()
        self._news: deque[Froze] = deque()
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def freeze(self, process: Pid) -> None:
        self._answer(process, is_frozen=True)

    def thaw(self, process: Pid) -> None:
        self._answer(process, is_frozen=False)

    def fileno(self) -> int:
        return self._wake_fd

    def drain(self) -> list[Froze]:
        news = list(self._news)
        self._news.clear()
        if news:
            os.eventfd_read(self._wake_fd)
        return news

    def close(self) -> None:
        os.close(self._wake_fd)

    def _answer(self, process: Pid, *, is_frozen: bool) -> None:
        problem = "the process is gone" if process in self.gone else self.problems.get(process, "")
        if not problem:
            (self.frozen.add if is_frozen else self.frozen.discard)(process)
        told = None if process in self.gone else process in self.frozen
        self._news.append(Froze(process, told, problem))
        os.eventfd_write(self._wake_fd, 1)
