"""Every call of NVML that the monitors make, with its answer or its error, beside the fake driver's.

Covers: names, utilization, memory, processes, MIG; and what supervisor/monitors/gpu.py makes of them.
Does not cover: figures over time.

`python -m benchmarks.gpu.calls` prints the answers of the driver that it finds, as JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import torch

from benchmarks.gpu.device import GIB, MIB, Device, Nvml
from benchmarks.gpu.report import Finding, Notes
from benchmarks.gpu.standin import stand_in_env
from supervisor.core.readings.sample import Missing
from supervisor.monitors import gpu as monitors

_PER_DEVICE = {
    "UUID": lambda nvml, handle: nvml.nvmlDeviceGetUUID(handle),
    "Name": lambda nvml, handle: nvml.nvmlDeviceGetName(handle),
    "PciInfo": lambda nvml, handle: nvml.nvmlDeviceGetPciInfo(handle).busId,
    "MigMode": lambda nvml, handle: str(nvml.nvmlDeviceGetMigMode(handle)),
    "Utilization": lambda nvml, handle: nvml.nvmlDeviceGetUtilizationRates(handle).gpu,
    "MemoryInfo v2": lambda nvml, handle: _memory(
        nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2)
    ),
    "MemoryInfo v1": lambda nvml, handle: _memory(nvml.nvmlDeviceGetMemoryInfo(handle)),
    "Temperature": lambda nvml, handle: nvml.nvmlDeviceGetTemperature(handle, 0),
    "PowerUsage": lambda nvml, handle: nvml.nvmlDeviceGetPowerUsage(handle),
    "ComputeProcesses": lambda nvml, handle: _processes(nvml.nvmlDeviceGetComputeRunningProcesses(handle)),
    "GraphicsProcesses": lambda nvml, handle: _processes(nvml.nvmlDeviceGetGraphicsRunningProcesses(handle)),
}


def answers() -> dict[str, str]:
    """Return what each call answers."""
    import pynvml

    def ask(call) -> str:
        try:
            value = call()
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)

    found = {"Init": ask(pynvml.nvmlInit), "DriverVersion": ask(pynvml.nvmlSystemGetDriverVersion)}
    found["Count"] = ask(pynvml.nvmlDeviceGetCount)
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    except Exception as error:
        return {**found, "HandleByIndex": f"{type(error).__name__}: {error}"}
    return found | {name: ask(lambda call=call: call(pynvml, handle)) for name, call in _PER_DEVICE.items()}


def _memory(info) -> str:
    return f"used {info.used / MIB:.0f} of {info.total / MIB:.0f} MiB"


def _processes(found) -> str:
    words = [f"{one.pid}: {_mib(one.usedGpuMemory)}" for one in found[:3]]
    return f"{len(found)} ({', '.join(words)})" if words else "0"


def _mib(size: int | None) -> str:
    return "not told" if size is None else f"{size / MIB:.0f} MiB"


def run(notes: Notes, device: Device, folder: Path) -> None:
    """One row: real and fake, call by call, and what the monitor reads."""
    hold = torch.ones(64 * MIB if device.is_real else 8, dtype=torch.uint8, device=device.kind)
    device.settle()
    nvml = Nvml(device)
    nvml.show(64 * MIB)
    real = answers()
    fake = _fakes(folder)
    for name, answer in real.items():
        notes.put(name, f"{answer} [fake: {fake.get(name, '-')}]" if fake else answer)
    monitor = monitors.Nvml()
    gpus = monitor.read()
    monitor.close()
    del hold
    if isinstance(gpus, Missing):
        raise Finding(f"the monitor reads nothing: {gpus.why}")
    for gpu in gpus:
        holders = gpu.processes
        seen = holders.why if isinstance(holders, Missing) else f"{len(holders)} processes"
        used = gpu.memory_used_bytes
        memory = used.why if isinstance(used, Missing) else f"{used / GIB:.2f} GiB"
        notes.put(f"monitor, GPU {gpu.index}", f"{gpu.name}, {memory}, {seen}")
    told = [gpu for gpu in gpus if not isinstance(gpu.processes, Missing)]
    if told and not any(one.pid == os.getpid() for gpu in told for one in gpu.processes):
        raise Finding("this process holds memory of the device, and the monitor does not see it")


def _fakes(folder: Path) -> dict[str, str]:
    """Return the fake driver's answers; none where it cannot be built."""
    from tests.nvml import Card, FakeDriver, build_library

    place = folder / "fake"
    place.mkdir()
    library = build_library(place)
    if library is None:
        return {}
    env = {**os.environ, **stand_in_env(library, place, os.environ.get("PYTHONPATH", ""))}
    FakeDriver(Path(env["TESTS_NVML"]).parent).show(Card("GPU-a"))
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu.calls"], env=env, capture_output=True, text=True, check=False
    )
    return json.loads(done.stdout) if done.returncode == 0 else {}


if __name__ == "__main__":
    print(json.dumps(answers()))
