"""How fast memory of the device is given back and taken again, beside plain copies.

Covers: trainer_shim's Offloader over tensors of a size, what NVML sees free before, meanwhile and after.
Does not cover: sessions and pauses (exactness.py, pauses.py).
"""

from __future__ import annotations

import time
from pathlib import Path

import torch

from benchmarks.gpu.device import GIB, MIB, Device, Nvml
from benchmarks.gpu.report import Finding, NotAvailable, Notes
from trainer_shim.devices import TorchMemory, host_free_bytes
from trainer_shim.offload import Offloader

NUM_TENSORS = 16
#: What both sides keep for other things: a context, the copies to compare with, the host's spare.
_DEVICE_SPARE, _HOST_SPARE = GIB, 2 * GIB
#: A plain copy is measured over so much, that the host needs no more for it.
_COPY_BYTES = GIB


class Tensors:
    """What is moved: a part of a run with a state."""

    def __init__(self, device: Device, size_bytes: int) -> None:
        count = size_bytes // NUM_TENSORS // 8
        self.tensors = [
            torch.arange(index, index + count, dtype=torch.int64, device=device.kind)
            for index in range(NUM_TENSORS)
        ]

    def state_dict(self) -> dict:
        """See trainer_shim.Stateful."""
        return dict(enumerate(self.tensors))

    def sums(self) -> list[int]:
        """Return what any lost piece would change."""
        return [int(tensor.sum()) for tensor in self.tensors]


class Timed(TorchMemory):
    """Notes how long page-locking takes, which is part of giving back."""

    pin_s = 0.0

    def pin(self, block):
        """See trainer_shim.devices."""
        began = time.perf_counter()
        unpin = super().pin(block)
        self.pin_s = time.perf_counter() - began
        return unpin


def run(notes: Notes, device: Device, _folder: Path, *, gib: float) -> None:
    """One row: so many GiB away and back."""
    size_bytes = int((gib if device.is_real else gib / 256) * GIB)
    _check_room(device, size_bytes)
    nvml = Nvml(device)
    _plain_copies(notes, device, min(size_bytes, _COPY_BYTES))
    part = Tensors(device, size_bytes)
    moved = sum(tensor.nbytes for tensor in part.tensors)
    before_sums = part.sums()
    memory = Timed(torch)
    offloader = Offloader({"part": part}, device_types=(device.kind,), memory=memory)
    device.settle()
    device.trim()
    nvml.show(moved)
    free_before = nvml.free_bytes()
    given = None

    def give() -> None:
        nonlocal given
        given = offloader.give_back()

    away_s = device.timed(give)
    nvml.show(0)
    free_away = nvml.free_bytes()
    back_s = device.timed(offloader.take_back)
    nvml.show(moved)
    free_after = nvml.free_bytes()
    notes.put("moved GiB", moved / GIB)
    notes.put("away GiB/s", moved / GIB / away_s)
    notes.put("page-locking s of it", memory.pin_s)
    notes.put("back GiB/s", moved / GIB / back_s)
    notes.put("away s", away_s)
    notes.put("back s", back_s)
    for name, free in (("before", free_before), ("away", free_away), ("after", free_after)):
        notes.put(f"NVML free {name} MiB", free / MIB)
    _judge(part.sums() == before_sums, given.bytes_freed, moved, free_away - free_before)


def _judge(is_whole: bool, freed: int, moved: int, seen: int) -> None:  # noqa: FBT001
    if not is_whole:
        raise Finding("other bits after the return")
    if freed < 0.9 * moved:
        raise Finding(f"only {freed / MIB:.0f} of {moved / MIB:.0f} MiB were freed")
    if seen < 0.9 * moved:
        raise Finding(f"NVML sees only {seen / MIB:.0f} MiB more free, of {moved / MIB:.0f}")


def _check_room(device: Device, size_bytes: int) -> None:
    host = host_free_bytes()
    if host is not None and host < size_bytes + _HOST_SPARE * device.is_real:
        raise NotAvailable(
            f"needs {size_bytes / GIB:.0f} GiB of host memory and 2 more; {host / GIB:.1f} free"
        )
    if device.is_real:
        free, _ = torch.cuda.mem_get_info()
        if free < size_bytes + _DEVICE_SPARE:
            raise NotAvailable(
                f"needs {size_bytes / GIB:.0f} GiB of device memory and 1 more; {free / GIB:.1f} free"
            )


def _plain_copies(notes: Notes, device: Device, size_bytes: int) -> None:
    """Note what a plain copy reaches; the first of each does not count."""
    there = torch.zeros(size_bytes, dtype=torch.uint8, device=device.kind)
    for name, is_pinned in (("pinned", True), ("pageable", False)):
        here = torch.zeros(size_bytes, dtype=torch.uint8, pin_memory=is_pinned and device.is_real)
        for direction, source, target in (("to host", there, here), ("to device", here, there)):
            best = min(device.timed(lambda s=source, t=target: t.copy_(s)) for _ in range(3))
            notes.put(f"memcpy {name} {direction} GiB/s", size_bytes / GIB / best)
        del here
    del there
    device.trim()
    # Torch keeps pinned memory for the next one who wants some; the host may need it now.
    empty = getattr(torch._C, "_host_emptyCache", None)  # noqa: SLF001  # has no public name in torch 2.4
    if device.is_real and empty is not None:
        empty()
