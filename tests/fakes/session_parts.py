"""A real session of which a test takes the place of what lies outside: the daemon, the GPU.

Covers: where in a session these are.
Does not cover: the daemon (shims.py), the device (device.py).
"""

from __future__ import annotations

from typing import Any

from trainer_shim import Shim
from trainer_shim.devices import DeviceMemory

__all__ = ["gives_back", "listens"]


def listens(shim: Shim, line: Any) -> Any:
    """Let it be told what a daemon would be told; it has `send()` and `close()`."""
    shim._telling._line = line
    return line


def gives_back(shim: Shim, memory: DeviceMemory | None = None) -> None:
    """Let a session give back the memory of tensors on the CPU, as of a device."""
    shim._offloader._types = ("cpu",)
    shim._offloader._memory_given = memory
