"""The driver's process checkpoint, as files in the folder CUDA_STAND_IN; they outlive a daemon.

Covers: the documented states, one file a process; calls that fail while a file of their name is there.
Does not cover: devices; a real process without its context would wait at its next call of CUDA.
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["Process"]


class Process:
    """As `cuda.core.checkpoint.Process`."""

    def __init__(self, pid: int) -> None:
        self._folder = Path(os.environ["CUDA_STAND_IN"])
        self._file = self._folder / f"{pid}"

    @property
    def state(self) -> str:
        return self._file.read_text() if self._file.exists() else "running"

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
        if (self._folder / call).exists():
            raise RuntimeError(f"CUDA_ERROR_OUT_OF_MEMORY: {call}")
        if self.state != before:
            raise RuntimeError(f"CUDA_ERROR_ILLEGAL_STATE: {call} of a {self.state} process")
        # One file is moved over the other: a daemon may be killed at any time.
        new = self._file.with_suffix(".new")
        new.write_text(after)
        new.rename(self._file)
