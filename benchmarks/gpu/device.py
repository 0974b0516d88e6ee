"""The device that the rows run on, and what NVML says of it; the CPU with a fake driver stands in.

Covers: `cuda` and `cpu` behind one interface, so that no row asks which of them it is without need.
Does not cover: what is measured (a module for each group of rows).

Torch is imported on use, so that a row without it starts at once.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GIB = 1 << 30
MIB = 1 << 20


@dataclass(frozen=True)
class Device:
    """`cuda`, or `cpu`, whose tensors count as a device's."""

    kind: str

    @property
    def is_real(self) -> bool:
        """Whether figures mean something."""
        return self.kind == "cuda"

    def settle(self) -> None:
        """Return when the device computes and copies no more."""
        if self.is_real:
            import torch

            torch.cuda.synchronize()

    def timed(self, work) -> float:
        """Return the seconds that some work takes on the device."""
        self.settle()
        began = time.perf_counter()
        work()
        self.settle()
        return time.perf_counter() - began

    def trim(self) -> None:
        """Hand back what no tensor uses, so that NVML does not count it."""
        if self.is_real:
            import torch

            torch.cuda.empty_cache()

    def shim_env(self) -> dict[str, str]:
        """Return what makes the shim give back this device's memory."""
        return {} if self.is_real else {"TRAINING_SUPERVISOR_OFFLOAD": "cpu"}


class Nvml:
    """The driver's own view of the first device that torch sees. Raises RuntimeError without a driver."""

    def __init__(self, device: Device) -> None:
        import pynvml

        self._nvml = pynvml
        self._fake = None if device.is_real else _fake()
        self.show()
        try:
            pynvml.nvmlInit()
            self.handle = self._handle(device)
        except pynvml.NVMLError as error:
            raise RuntimeError(f"cannot ask NVML: {error}") from error

    def show(self, used_bytes: int = 0, pid: int | None = None) -> None:
        """Let a fake driver say so; a real one knows."""
        if self._fake is not None:
            from tests.nvml import Card, Holder

            holders = [Holder(os.getpid() if pid is None else pid, used=used_bytes)] if used_bytes else []
            self._fake.show(Card("GPU-a", used=used_bytes, processes=holders))

    def free_bytes(self) -> int:
        """Return what NVML counts as free."""
        try:
            info = self._nvml.nvmlDeviceGetMemoryInfo(self.handle, version=self._nvml.nvmlMemory_v2)
        except self._nvml.NVMLError:
            info = self._nvml.nvmlDeviceGetMemoryInfo(self.handle)
        return int(info.free)

    def _handle(self, device: Device) -> Any:
        """The same device as torch's first one, whatever CUDA_VISIBLE_DEVICES says."""
        if device.is_real:
            import torch

            uuid = str(getattr(torch.cuda.get_device_properties(0), "uuid", ""))
            for name in (uuid, f"GPU-{uuid}") if uuid else ():
                try:
                    return self._nvml.nvmlDeviceGetHandleByUUID(name)
                except (self._nvml.NVMLError, TypeError):
                    continue
        return self._nvml.nvmlDeviceGetHandleByIndex(0)


def _fake():
    from tests.nvml import FakeDriver

    if "TESTS_NVML" not in os.environ:
        raise RuntimeError("there is no C compiler to build the fake driver with")
    return FakeDriver(Path(os.environ["TESTS_NVML"]).parent)
