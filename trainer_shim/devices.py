"""Memory of devices and of the host: taking it, dropping it, how much there is.

Covers: the few calls of torch that giving back needs, behind one port, so that
a test can stand in for a device that is full; what /proc and the cgroups say
of host memory.
Does not cover: what is moved (tensors.py), in which order (offload.py).
"""

from __future__ import annotations

import gc
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

__all__ = ["DeviceMemory", "TorchMemory", "host_free_bytes"]


class DeviceMemory(Protocol):
    """What giving back and taking back need of the devices."""

    def settle(self) -> None:
        """Return when no device computes or copies any more."""
        ...

    def pin(self, block: Any) -> Callable[[], None]:
        """Make copies from and to this host memory fast; returns how to undo it."""
        ...

    def drop(self, storage: Any) -> None:
        """Free the memory behind a storage; the object stays."""
        ...

    def take(self, storage: Any, size_bytes: int) -> None:
        """Allocate it again; raises RuntimeError when there is none."""
        ...

    def trim(self) -> None:
        """Hand what is free in this process back to the device."""
        ...

    def reserved_bytes(self) -> int | None:
        """Return what this process holds of all devices, used or not; None where nobody counts."""
        ...

    def used_bytes(self) -> int:
        """Return what tensors of this process use of all devices."""
        ...

    def free_bytes(self, device: Any) -> int | None:
        """Return what this process could take of a device; None where nobody counts."""
        ...

    def host_bytes(self) -> int | None:
        """Return what this process could take of the host; None where nobody counts."""
        ...

    def has_graphs(self) -> bool:
        """Say whether captured graphs exist, which hold addresses."""
        ...


class TorchMemory:
    """The devices as torch has them. On CPU tensors the same calls work, and nobody counts."""

    def __init__(self, torch: Any) -> None:
        self._torch = torch

    def settle(self) -> None:
        """Return when no device computes or copies any more."""
        for device in self._devices():
            self._torch.cuda.synchronize(device)

    def pin(self, block: Any) -> Callable[[], None]:
        """Page-lock it. Torch's own pinned memory would take up to twice as much, and keep it."""
        if not self._has_devices():
            return _nothing
        runtime = self._torch.cuda.cudart()
        if int(runtime.cudaHostRegister(block.data_ptr(), block.numel(), 0)) != 0:
            # It works without, at a lower speed.
            return _nothing
        return lambda: runtime.cudaHostUnregister(block.data_ptr())

    def drop(self, storage: Any) -> None:
        """Free the memory behind a storage; the object stays."""
        storage.resize_(0)

    def take(self, storage: Any, size_bytes: int) -> None:
        """Allocate it again; raises RuntimeError when there is none."""
        storage.resize_(size_bytes)

    def trim(self) -> None:
        """Hand what is free in this process back to the device."""
        gc.collect()
        if self._has_devices():
            self._torch.cuda.empty_cache()

    def reserved_bytes(self) -> int | None:
        """Return what this process holds of all devices, used or not; None where nobody counts."""
        if not self._has_devices():
            return None
        return sum(int(self._torch.cuda.memory_reserved(device)) for device in self._devices())

    def used_bytes(self) -> int:
        """Return what tensors of this process use of all devices."""
        return sum(int(self._torch.cuda.memory_allocated(device)) for device in self._devices())

    def free_bytes(self, device: Any) -> int | None:
        """Return what this process could take of a device; None where nobody counts."""
        if device.type != "cuda":
            return None
        free, _ = self._torch.cuda.mem_get_info(device)
        kept = self._torch.cuda.memory_reserved(device) - self._torch.cuda.memory_allocated(device)
        return int(free + kept)

    def host_bytes(self) -> int | None:
        """Return what this process could take of the host; None where nobody counts."""
        return host_free_bytes()

    def has_graphs(self) -> bool:
        """Say whether captured graphs exist, which hold addresses."""
        if not self._has_devices():
            return False
        kind = self._torch.cuda.CUDAGraph
        # Not isinstance(): it would ask proxies for their class, and some raise.
        return any(issubclass(type(one), kind) for one in gc.get_objects())

    def _has_devices(self) -> bool:
        return bool(self._torch.cuda.is_initialized())

    def _devices(self) -> range:
        return range(self._torch.cuda.device_count() if self._has_devices() else 0)


def _nothing() -> None:
    pass


def host_free_bytes(root: Path = Path("/")) -> int | None:
    """Return what this process can take of the host: of the machine and of each cgroup that it is in.

    None where /proc does not say. Of cgroups only version 2 is read.
    """
    found = re.search(r"^MemAvailable:\s+(\d+) kB$", _read(root / "proc/meminfo"), re.MULTILINE)
    machine = int(found[1]) * 1024 if found else None
    limits = [*([] if machine is None else [machine]), *_cgroup_rooms(root)]
    return min(limits, default=None)


def _cgroup_rooms(root: Path) -> Iterator[int]:
    found = re.search(r"^0::/(.*)$", _read(root / "proc/self/cgroup"), re.MULTILINE)
    if found is None:
        return
    top = root / "sys/fs/cgroup"
    group = top / found[1]
    for folder in (group, *group.parents):
        limit, used = _read(folder / "memory.max").strip(), _read(folder / "memory.current").strip()
        if limit.isdecimal() and used.isdecimal():
            # Pages of files that nobody uses are given up before anything fails.
            cached = re.search(r"^inactive_file (\d+)$", _read(folder / "memory.stat"), re.MULTILINE)
            yield max(0, int(limit) - int(used) + (int(cached[1]) if cached else 0))
        if folder == top:
            return


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
