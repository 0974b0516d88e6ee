"""A device on CPU tensors that can be full, odd or counted; the rest is torch's.

Covers: what trainer_shim/devices.py says of a device, with a limit that a test sets.
Does not cover: time, streams.
"""

from __future__ import annotations

from typing import Any

import torch

from trainer_shim.devices import TorchMemory

__all__ = ["FakeDevice"]


class FakeDevice(TorchMemory):
    """`room` storages can be taken; then it is full. Every call of `settle` is one look at the clock."""

    def __init__(self) -> None:
        super().__init__(torch)
        self.room: int | None = None
        #: The number of the storage that cannot be dropped.
        self.stuck: int | None = None
        #: The call of settle() that fails.
        self.breaks_at: int | None = None
        self.graphs = False
        self.reserved: list[int] = []
        self.used = 0
        self.free: int | None = None
        self.host: int | None = None
        self.num_trims = self.num_settles = self.num_drops = 0
        self.is_pinned = False

    def settle(self) -> None:
        self.num_settles += 1
        if self.num_settles == self.breaks_at:
            raise RuntimeError("CUDA error: the launch timed out and was terminated")

    def pin(self, block: Any) -> Any:
        self.is_pinned = True
        return lambda: setattr(self, "is_pinned", False)

    def drop(self, storage: Any) -> None:
        self.num_drops += 1
        if self.num_drops == self.stuck:
            raise RuntimeError("Trying to resize storage that is not resizable")
        super().drop(storage)

    def take(self, storage: Any, size_bytes: int) -> None:
        if self.room == 0:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB")
        if self.room is not None:
            self.room -= 1
        super().take(storage, size_bytes)

    def trim(self) -> None:
        self.num_trims += 1

    def reserved_bytes(self) -> int | None:
        return self.reserved.pop(0) if self.reserved else None

    def used_bytes(self) -> int:
        return self.used

    def free_bytes(self, device: Any) -> int | None:
        return self.free

    def host_bytes(self) -> int | None:
        return self.host

    def has_graphs(self) -> bool:
        return self.graphs
