"""How long it takes from a pause that is asked for until NVML sees the device free.

Covers: a real daemon, a real job that holds memory of the device, each depth.
Does not cover: where the time goes inside the shim (`python -m benchmarks pause_latency`).

`python -m benchmarks.gpu.pauses DEVICE BYTES CHECKPOINTS` is the job.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path

import torch

import trainer_shim
from benchmarks.gpu.context import check_library
from benchmarks.gpu.device import GIB, MIB, Device, Nvml
from benchmarks.gpu.report import Finding, Notes
from benchmarks.scene import Scene
from supervisor import api
from supervisor.client import new_id
from trainer_shim import protocol

_CONFIG = "[daemon]\nsample_s = 0.5\n[shim]\nheartbeat_s = 0.2\n[policy]\ndefault_rules = false\n"
_CONTEXT = "[jobs]\nfree_cuda_context = true\n"
_GUARD_S = 45.0
_STEP_S = 0.05
#: This part of the job's tensors may be left of what was seen: others move, and the driver keeps a little.
_REST = 16


def run(notes: Notes, device: Device, folder: Path, *, depth: str) -> None:
    """One row: a depth of hold, offload, context (offload and the CUDA context) and exit."""
    if depth == "context":
        check_library(device)
    nvml = Nvml(device)
    size_bytes = GIB if device.is_real else 16 * MIB
    # The path of a socket holds 107 bytes.
    home = Path(tempfile.mkdtemp(prefix="ts-"))
    try:
        config = _CONFIG + (_CONTEXT if depth == "context" else "")
        with Scene(home / "d", config) as scene:
            argv = [sys.executable, "-m", "benchmarks.gpu.pauses", device.kind, str(size_bytes)]
            base = nvml.free_bytes()
            scene.run("job", [*argv, str(folder / "checkpoints")], **device.shim_env())
            _measure(notes, (device, nvml, scene), (depth, size_bytes, base))
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _measure(notes: Notes, where: tuple[Device, Nvml, Scene], what: tuple[str, int, int]) -> None:
    device, nvml, scene = where
    depth, size_bytes, base = what
    asked_depth = "offload" if depth == "context" else depth
    # Only after steps is all of its memory there.
    _until(scene, lambda row: row.pausable and (row.step or 0) > 3, "the first steps")
    _until(scene, lambda _: asked_depth in scene.client.show("job").depths, f"depth {asked_depth}")
    pid = _row(scene).pid
    nvml.show(size_bytes, pid)
    held = base - nvml.free_bytes()
    notes.put("held MiB", held / MIB)
    began = time.perf_counter()
    asked = api.PauseRequest(id=new_id(), jobs=("job",), depth=asked_depth)
    (answer,) = scene.client.ask_jobs(asked)
    if isinstance(answer, protocol.Refusal):
        raise Finding(f"the pause was refused: {answer.error}")
    wanted = {"hold": 0, "offload": size_bytes - size_bytes // _REST}.get(depth, held - size_bytes // _REST)
    freed_s = paused_s = None
    while freed_s is None or paused_s is None:
        row = _row(scene)
        if paused_s is None and row.state == "paused":
            paused_s = time.perf_counter() - began
            if not device.is_real and depth != "hold":
                nvml.show()
        is_free = nvml.free_bytes() - (base - held) >= wanted
        # A stand-in's memory is free as soon as the job is paused; the context is not.
        is_free &= device.is_real or depth != "context" or "freed" in row.stage
        if freed_s is None and is_free:
            freed_s = time.perf_counter() - began
        if time.perf_counter() - began > _GUARD_S:
            raise Finding(
                f"after {_GUARD_S:.0f} s: {row.state}, {row.stage} {row.problem}; NVML: free {is_free}"
            )
        time.sleep(0.01)
    notes.put("paused s", paused_s)
    notes.put("NVML sees it free s", None if depth == "hold" else freed_s)
    notes.put("freed MiB", (nvml.free_bytes() - (base - held)) / MIB)
    _go_on(notes, scene, depth)


def _go_on(notes: Notes, scene: Scene, depth: str) -> None:
    if depth == "context":
        row = _until(scene, lambda row: "freed" in row.stage or row.problem, "the context")
        notes.put("stage", row.stage or row.problem)
    step = _row(scene).step or 0
    began = time.perf_counter()
    scene.client.ask_jobs(api.ResumeRequest(id=new_id(), jobs=("job",)))
    _until(scene, lambda row: row.state == "running" and (row.step or 0) > step, "steps after the pause")
    notes.put("trains again s", time.perf_counter() - began)


def _row(scene: Scene) -> api.JobRow:
    return next(row for row in scene.rows() if row.name == "job")


def _until(scene: Scene, claim, what: str) -> api.JobRow:
    give_up_at = time.monotonic() + _GUARD_S
    while not claim(row := _row(scene)):
        if time.monotonic() > give_up_at or row.state == "failed":
            log = Path(row.log).read_text(errors="replace")[-500:] if row.log else ""
            raise Finding(f"{what}: not after {_GUARD_S:.0f} s: {row.state} {row.problem}\n{log}")
        time.sleep(0.02)
    return row


class Part(torch.nn.Module):
    """A weight as big as is asked for."""

    def __init__(self, device: str, size_bytes: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(size_bytes // 4, device=device), requires_grad=False)


def main() -> None:
    where, size, checkpoints = sys.argv[1:]
    part = Part(where, int(size))
    shim = trainer_shim.attach(part=part, checkpoints=checkpoints, keep=1)
    give_up_at = time.monotonic() + 600
    while time.monotonic() < give_up_at:
        part.weight[:16].add_(1)
        time.sleep(_STEP_S)
        shim.boundary()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
