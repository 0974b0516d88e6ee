"""Freeing a process's CUDA context through the driver, and taking it back.

Covers: supervisor/freezer.py on a process that trains on the device, with the package cuda-core.
Does not cover: the daemon's part of it (pauses.py).

`python -m benchmarks.gpu.context DEVICE` is that process: it trains, says `ready`, waits for a line,
trains on and says a digest.
"""

from __future__ import annotations

import select
import subprocess
import sys
import time
from pathlib import Path

import torch

from benchmarks.gpu.device import MIB, Device, Nvml
from benchmarks.gpu.report import Finding, NotAvailable, Notes
from benchmarks.gpu.training import Training, seed
from supervisor.core.jobs.job import Pid
from supervisor.freezer import CudaFreezer, Limits
from supervisor.system.procfs import boot_id, read_stat

#: Driver that has the process checkpoint for the first time.
_FIRST_DRIVER = 570
_CALL_S = 40.0
#: What the driver says where it may not or cannot; anything else is a failure.
_NOT_HERE = (
    "NOT_SUPPORTED",
    "NOT_PERMITTED",
    "NOT_FOUND",
    "STUB_LIBRARY",
    "INSUFFICIENT_DRIVER",
    "0x",
    "requires",
)
_HELD_BYTES = 256 * MIB


class Child:
    """The process that trains."""

    def __init__(self, device: Device) -> None:
        words = [sys.executable, "-m", "benchmarks.gpu.context", device.kind]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True)
        if self.said() != "ready":
            raise Finding("the process that trains ended at once")
        stat = read_stat(self.process.pid)
        self.pid = Pid(self.process.pid, stat.start_ticks, boot_id())

    def said(self) -> str:
        """Return its next line."""
        return self.process.stdout.readline().strip()

    def ended(self) -> str:
        """Let it train on; return its digest."""
        self.process.stdin.write("\n")
        self.process.stdin.close()
        digest = self.said()
        self.process.wait()
        return digest

    def close(self) -> None:
        """End it, wherever it is."""
        self.process.kill()
        self.process.wait()


def run(notes: Notes, device: Device, _folder: Path) -> None:
    """One row: freed, and back, and exact."""
    check_library(device)
    nvml = Nvml(device)
    whole = Child(device)
    expected = whole.ended()
    base = nvml.free_bytes()
    child = Child(device)
    freezer = CudaFreezer(limits=Limits(tries=2, call_s=_CALL_S))
    try:
        nvml.show(_HELD_BYTES, child.pid.pid)
        held = nvml.free_bytes()
        notes.put("held before MiB", (base - held) / MIB)
        notes.put("freed s", _moved(freezer, freezer.freeze, child.pid, to_host=True))
        nvml.show()
        freed = nvml.free_bytes() - held
        notes.put("freed MiB", freed / MIB)
        notes.put("back s", _moved(freezer, freezer.thaw, child.pid, to_host=False))
        is_exact = child.ended() == expected
        notes.put("afterwards", "same bits" if is_exact else "OTHER BITS")
    finally:
        freezer.close()
        child.close()
    if not is_exact:
        raise Finding("other bits afterwards")
    if freed < 0.9 * (base - held):
        raise Finding(f"NVML sees {freed / MIB:.0f} MiB more free, of {(base - held) / MIB:.0f} held")


def check_library(device: Device) -> None:
    """Raise NotAvailable where the driver or its library cannot do it."""
    try:
        from cuda.core import checkpoint
    except (ImportError, OSError, RuntimeError) as error:
        raise NotAvailable(f"the package cuda-core: {type(error).__name__}: {error}") from error
    del checkpoint
    if device.is_real:
        import pynvml

        pynvml.nvmlInit()
        version = pynvml.nvmlSystemGetDriverVersion()
        if int(str(version).split(".")[0]) < _FIRST_DRIVER:
            raise NotAvailable(f"driver {version}; {_FIRST_DRIVER} is the first that can")


def _moved(freezer: CudaFreezer, ask, pid: Pid, *, to_host: bool) -> float:
    """Return how long it took; raises when it did not work."""
    began = time.perf_counter()
    ask(pid)
    ready = select.select([freezer.fileno()], [], [], 2 * _CALL_S)[0]
    took_s = time.perf_counter() - began
    for one in freezer.drain() if ready else ():
        if one.is_frozen is to_host and not one.problem:
            return took_s
        if to_host and one.is_frozen is False and any(words in one.problem for words in _NOT_HERE):
            raise NotAvailable(f"the driver: {one.problem}")
        raise Finding(f"{'freeing' if to_host else 'return'}: {one.problem or one}")
    raise Finding("the driver has not answered")


def main() -> None:
    device = Device(sys.argv[1])
    training = Training(device)
    hold = torch.ones(_HELD_BYTES if device.is_real else 8, dtype=torch.uint8, device=device.kind)
    seed()
    for batch in training.loader:
        training.step(batch)
    device.settle()
    print("ready", flush=True)
    sys.stdin.readline()
    for batch in training.loader:
        training.step(batch)
    device.settle()
    print(f"{training.digest()}-{int(hold.sum())}", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
