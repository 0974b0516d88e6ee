"""GPUs through NVML, asked aside: a call to the driver may hang.

Covers: no driver, one that is loaded later, a GPU that is lost, readings that a
GPU does not have, who holds its memory.
Does not cover: slices of a divided GPU (MIG), other makers.

A GPU that the kernel has put to sleep is not woken by being looked at.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from supervisor.core.readings.sample import Gpu, GpuProcess, Missing, Reading
from supervisor.core.replacing import replace
from supervisor.monitors.background_call import BackgroundCall
from supervisor.system.procfs import sees_host_pids

__all__ = ["Gpus", "Nvml"]

_LIBRARY: Final = "libnvidia-ml.so.1"
#: A driver that is not there, or lost a GPU, is started anew after that long.
_RETRY_S: Final = 60.0
#: While there is nothing to read, it is looked that often whether there is now.
_LOOK_S: Final = 5.0
#: An older answer does not tell of the present.
_MAX_AGE_S: Final = 15.0
#: The GPUs are read so long before the next sample, that it finds them fresh.
_LEAD_S: Final = 0.1
_TOO_OLD: Final = Missing("this driver is too old to tell it")


class _Device(msgspec.Struct, frozen=True):
    index: int
    uuid: str
    name: str
    #: As the driver knows it; None: it could never be opened.
    handle: Any
    #: Where the kernel says whether it sleeps.
    power_state: Path


class Nvml:
    """The driver's readings; all methods may hang, so one thread has it for itself."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        sys: Path = Path("/sys"),
        proc: Path = Path("/proc"),
    ) -> None:
        self._clock = clock
        self._sys = sys
        self._sees_host_pids = sees_host_pids(proc)
        self._nvml: Any = None
        self._devices: list[_Device] = []
        self._retry_at = float("-inf")
        self._problem: Missing | None = Missing("the NVIDIA driver has not been asked yet")
        #: The driver, or a GPU, is in a state that only a new start can end.
        self._is_lost = False

    def read(self) -> tuple[Gpu, ...] | Missing:
        """Return all GPUs, or why they cannot be told."""
        if self._clock() >= self._retry_at:
            self._retry_at = float("inf")
            self.close()
            self._problem = self._start()
        if self._problem is not None:
            if self._retry_at == float("inf"):
                self._retry_at = self._clock() + _RETRY_S
            return self._problem
        self._is_lost = False
        gpus = tuple(self._read(device) for device in self._devices)
        if not self._is_lost:
            self._retry_at = float("inf")
        elif self._retry_at == float("inf"):
            self._retry_at = self._clock() + _RETRY_S
        return gpus

    def close(self) -> None:
        """Let go of the driver."""
        if self._nvml is not None and self._problem is None:
            self._ask(self._nvml.nvmlShutdown)
        self._problem = Missing("the NVIDIA driver is let go")

    def _start(self) -> Missing | None:
        """Load and start the driver's library; return what keeps it from it."""
        try:
            # The binding takes 3 MB and 30 ms; a machine without the library does not pay for it.
            ctypes.CDLL(_LIBRARY)
        except OSError:
            return Missing(f"there is no NVIDIA driver: {_LIBRARY} is not found")
        try:
            import pynvml
        except ImportError:
            return Missing("the package nvidia-ml-py is not installed")
        self._nvml = pynvml
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            return Missing(f"the NVIDIA driver does not start: {error}")
        count = self._ask(pynvml.nvmlDeviceGetCount)
        if isinstance(count, Missing):
            return count
        before = {device.index: device for device in self._devices}
        self._devices = [self._open(index, before.get(index)) for index in range(count)]
        return None

    def _open(self, index: int, before: _Device | None) -> _Device:
        handle = self._ask(self._nvml.nvmlDeviceGetHandleByIndex, index)
        if isinstance(handle, Missing):
            # Its name is known if it was there before; rules and jobs go by that.
            return before or _Device(index, f"unknown-{index}", "", None, self._sys / "none")
        uuid, name, pci = (
            self._ask(call, handle)
            for call in (
                self._nvml.nvmlDeviceGetUUID,
                self._nvml.nvmlDeviceGetName,
                self._nvml.nvmlDeviceGetPciInfo,
            )
        )
        bus = "none" if isinstance(pci, Missing) else _text(pci.busId).lower()[-12:]
        return _Device(
            index,
            f"unknown-{index}" if isinstance(uuid, Missing) else _text(uuid),
            "" if isinstance(name, Missing) else _text(name),
            handle,
            self._sys / "bus/pci/devices" / bus / "power/runtime_status",
        )

    def _read(self, device: _Device) -> Gpu:
        gpu = Gpu(uuid=device.uuid, index=device.index, name=device.name)
        if device.handle is None:
            self._is_lost = True
            return _unread(gpu, Missing("the GPU cannot be opened"))
        if _sleeps(device.power_state):
            asleep = _unread(gpu, Missing("it sleeps: nobody uses it"))
            return replace(asleep, utilization_pct=0.0, processes=())
        nvml, handle = self._nvml, device.handle
        memory = self._memory(handle)
        is_divided = self._ask(nvml.nvmlDeviceGetMigMode, handle)
        if not isinstance(is_divided, Missing) and is_divided[0]:
            processes: tuple[GpuProcess, ...] | Missing = Missing(
                "it is divided (MIG): who uses which slice is not looked at"
            )
        else:
            processes = self._processes(handle)
        return replace(
            gpu,
            utilization_pct=self._number(lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu),
            memory_used_bytes=memory if isinstance(memory, Missing) else float(memory.used),
            memory_total_bytes=memory if isinstance(memory, Missing) else float(memory.total),
            temperature_c=self._number(lambda: nvml.nvmlDeviceGetTemperature(handle, 0)),
            power_w=self._number(lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1000),
            processes=processes,
        )

    def _memory(self, handle: Any) -> Any:
        """Return the record that tells what the driver reserves apart, where it has it."""
        nvml = self._nvml
        memory = self._ask(lambda: nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2))
        return self._ask(nvml.nvmlDeviceGetMemoryInfo, handle) if isinstance(memory, Missing) else memory

    def _processes(self, handle: Any) -> tuple[GpuProcess, ...] | Missing:
        if not self._sees_host_pids:
            return Missing("the driver names processes by their numbers outside of this container")
        computing = self._list(handle, "Compute")
        drawing = self._list(handle, "Graphics")
        if isinstance(computing, Missing):
            return computing
        held: dict[int, int | None] = {}
        # A GPU for computing only has no list of the others. One process may stand in both.
        for process in (*computing, *(() if isinstance(drawing, Missing) else drawing)):
            used = process.usedGpuMemory
            held[process.pid] = max((known for known in (used, held.get(process.pid)) if known), default=used)
        computes = {process.pid for process in computing}
        return tuple(GpuProcess(pid, used, computes=pid in computes) for pid, used in sorted(held.items()))

    def _list(self, handle: Any, kind: str) -> Any:
        """Return the processes of one kind, by the newest call that this driver has."""
        found: Any = _TOO_OLD
        for version in ("", "_v2"):
            found = self._ask(getattr(self._nvml, f"nvmlDeviceGet{kind}RunningProcesses{version}"), handle)
            if found is not _TOO_OLD:
                break
        return found

    def _number(self, call: Callable[[], float]) -> Reading:
        found = self._ask(call)
        return found if isinstance(found, Missing) else float(found)

    def _ask(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """Return what the driver answers, or Missing."""
        nvml = self._nvml
        try:
            return call(*arguments)
        except nvml.NVMLError_NotSupported:
            return Missing("this GPU does not tell it")
        except nvml.NVMLError_FunctionNotFound:
            return _TOO_OLD
        except nvml.NVMLError_GpuIsLost:
            self._is_lost = True
            return Missing("the GPU is lost: it does not answer its driver")
        except nvml.NVMLError as error:
            self._is_lost |= isinstance(error, (nvml.NVMLError_Uninitialized, nvml.NVMLError_DriverNotLoaded))
            return Missing(f"the NVIDIA driver says: {error}")
        # The binding decodes and converts what the driver writes.
        except (ValueError, TypeError, ctypes.ArgumentError) as error:
            return Missing(f"the NVIDIA driver's answer is not understood: {error}")


class Gpus:
    """The newest readings; for the thread of the loop, never waits."""

    def __init__(self, nvml: Nvml | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        nvml = nvml or Nvml(clock=clock)
        self._call = BackgroundCall("the NVIDIA driver", nvml.read, at_end=nvml.close, clock=clock)
        self._asked_at = float("-inf")

    def read(self, owner: Callable[[int], str], *, at: float, interval_s: float) -> tuple[Gpu, ...] | Missing:
        """Return all GPUs, each process with the job that it belongs to; asks for the next sample."""
        answer = self._call.answer(max_age_s=_MAX_AGE_S)
        if isinstance(answer, Missing):
            if at - self._asked_at >= _LOOK_S:
                self._asked_at = at
                self._call.ask()
            return answer
        self._asked_at = at
        self._call.ask(delay_s=max(0.0, interval_s - _LEAD_S - self._call.took_s))
        return tuple(_with_owners(gpu, owner) for gpu in answer)

    def close(self) -> None:
        """Ask no more; a call that hangs is left to itself."""
        self._call.close()


def _unread(gpu: Gpu, why: Missing) -> Gpu:
    return replace(
        gpu,
        utilization_pct=why,
        memory_used_bytes=why,
        memory_total_bytes=why,
        temperature_c=why,
        power_w=why,
        processes=why,
    )


def _with_owners(gpu: Gpu, owner: Callable[[int], str]) -> Gpu:
    if isinstance(gpu.processes, Missing):
        return gpu
    named = (replace(process, job=owner(process.pid)) for process in gpu.processes)
    return replace(gpu, processes=tuple(one for one in named if one.job or _is_there(one.pid)))


def _is_there(pid: int) -> bool:
    """Say whether such a process is; one that ended since the driver was asked holds nothing."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _sleeps(power_state: Path) -> bool:
    try:
        return power_state.read_text(encoding="ascii").strip() == "suspended"
    except (OSError, ValueError):
        return False


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
