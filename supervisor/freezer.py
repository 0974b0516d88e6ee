"""Freeing what a process that waits at a boundary still holds of its GPU: the CUDA context.

Covers: the driver's process checkpoint (driver 570 and later, through `cuda.core`), each call with a
time limit and tried again; one that hangs is left alone and told. Implements ports.ProcessFreezer.
Does not cover: when it may be done: only for a job that is paused at depth `offload`, its checkpoint
durable (core/jobs/cuda_context.py).

A call of the driver may take minutes, and a restore without room may never end. It cannot be ended
from outside either; so each runs in a thread of its own, and a process whose call has not come back is
not touched again.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from supervisor.core.jobs.job import Pid
from supervisor.ports import Froze
from supervisor.system.procfs import boot_id, read_stat

__all__ = ["CudaFreezer", "CudaProcess", "Limits"]


class CudaProcess(Protocol):
    """What is used of `cuda.core.checkpoint.Process`."""

    @property
    def state(self) -> str:
        """Return running, locked, checkpointed or failed."""
        ...

    def lock(self, timeout_ms: int = 0) -> None:
        """Make its calls of CUDA wait from now on."""
        ...

    def checkpoint(self) -> None:
        """Move all that a locked one has on its devices to the host."""
        ...

    def restore(self) -> None:
        """Move it back; it is locked afterwards."""
        ...

    def unlock(self) -> None:
        """Let its calls go on."""
        ...


@dataclass(frozen=True)
class Limits:
    """How long and how often."""

    lock_s: float = 30.0
    call_s: float = 600.0
    tries: int = 3
    pause_s: float = 2.0


class CudaFreezer:
    """See ports.ProcessFreezer. `open_process` imports the driver's library, on use."""

    def __init__(
        self, open_process: Callable[[int], CudaProcess] | None = None, limits: Limits | None = None
    ) -> None:
        self._open = open_process or _open
        self._limits = limits or Limits()
        self._news: queue.SimpleQueue[Froze] = queue.SimpleQueue()
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._is_closed = False
        self._lock = threading.Lock()
        #: Processes that a call is under way for, or hangs in.
        self._busy: set[Pid] = set()

    def freeze(self, process: Pid) -> None:
        """Free its devices; news arrive by `drain()`."""
        self._begin(process, self._frozen)

    def thaw(self, process: Pid) -> None:
        """Take them again, so that it can go on; news arrive by `drain()`."""
        self._begin(process, self._thawed)

    def fileno(self) -> int:
        """Return a descriptor that is readable when `drain()` has something."""
        return self._wake_fd

    def drain(self) -> list[Froze]:
        """Return what came of it since the last call; never blocks."""
        try:
            os.eventfd_read(self._wake_fd)
        except BlockingIOError:
            return []
        news = []
        while not self._news.empty():
            news.append(self._news.get_nowait())
        return news

    def close(self) -> None:
        """Let go; a call that is under way goes on without us."""
        with self._lock:
            self._is_closed = True
            os.close(self._wake_fd)

    def _begin(self, process: Pid, work: Callable[[CudaProcess], bool]) -> None:
        with self._lock:
            is_busy = process in self._busy
            self._busy.add(process)
        if is_busy:
            self._tell(Froze(process, None, "an earlier call of the driver has not come back"))
            return
        done = threading.Event()
        call = threading.Thread(target=self._work, args=(process, work, done), name="freezer", daemon=True)
        call.start()
        threading.Thread(target=self._watch, args=(process, done), name="freezer watch", daemon=True).start()

    def _work(self, process: Pid, work: Callable[[CudaProcess], bool], done: threading.Event) -> None:
        try:
            news = self._tried(process, work)
        finally:
            with self._lock:
                self._busy.discard(process)
            done.set()
        self._tell(news)

    def _watch(self, process: Pid, done: threading.Event) -> None:
        if not done.wait(self._limits.call_s):
            self._tell(Froze(process, None, f"the driver has not answered for {self._limits.call_s:.0f} s"))

    def _tried(self, process: Pid, work: Callable[[CudaProcess], bool]) -> Froze:
        """Do the work, more than once if need be; return what it came to."""
        problem, has_begun = "", False
        for number in range(self._limits.tries):
            if number:
                time.sleep(self._limits.pause_s)
            # Its number may be another's by now.
            stat = read_stat(process.pid)
            if stat is None or stat.start_ticks != process.start_ticks or boot_id() != process.boot_id:
                return Froze(process, None, "the process is gone")
            try:
                cuda = self._open(process.pid)
                has_begun |= bool(cuda.state)
                return Froze(process, work(cuda))
            except (ImportError, OSError, RuntimeError) as error:
                # Errors of the driver are RuntimeErrors.
                problem = f"{error}" or type(error).__name__
        if not has_begun and work == self._frozen:
            # No library, or a driver that is too old: nothing was done to it.
            return Froze(process, False, problem)
        return Froze(process, self._where(process), problem)

    def _where(self, process: Pid) -> bool | None:
        """Return whether its devices are free; None when the driver does not say, or it is half-way."""
        try:
            return {"running": False, "checkpointed": True}.get(self._open(process.pid).state)
        except (ImportError, OSError, RuntimeError):
            return None

    def _frozen(self, cuda: CudaProcess) -> bool:
        """Lock and move; one that cannot be moved is let go again."""
        if cuda.state == "running":
            cuda.lock(timeout_ms=int(self._limits.lock_s * 1000))
        if cuda.state == "locked":
            try:
                cuda.checkpoint()
            except RuntimeError:
                if cuda.state == "locked":
                    cuda.unlock()
                raise
        return _expect(cuda, "checkpointed")

    def _thawed(self, cuda: CudaProcess) -> bool:
        """Move back and unlock, from wherever an earlier try ended."""
        if cuda.state == "checkpointed":
            cuda.restore()
        if cuda.state == "locked":
            cuda.unlock()
        return not _expect(cuda, "running")

    def _tell(self, news: Froze) -> None:
        with self._lock:
            if not self._is_closed:
                self._news.put(news)
                os.eventfd_write(self._wake_fd, 1)


def _expect(cuda: CudaProcess, state: str) -> bool:
    if cuda.state != state:
        raise RuntimeError(f"the driver says that the process is {cuda.state}, not {state}")
    return True


def _open(pid: int) -> CudaProcess:
    from cuda.core import checkpoint

    process: CudaProcess = checkpoint.Process(pid)
    return process
