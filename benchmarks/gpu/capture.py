"""What a connection to the daemon does to the capture of graphs and to the time of a step.

Covers: a job that captures while its shim sends heartbeats with numbers that are on the device; its steps
with a daemon beside those without.
Does not cover: the content of heartbeats.

`python -m benchmarks.gpu.capture DEVICE FILE` is the job, and is run without a daemon as well.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

import trainer_shim
from benchmarks.common import own_env, wait_for
from benchmarks.gpu.device import Device
from benchmarks.gpu.report import Finding, Notes
from benchmarks.gpu.training import Training, seed
from benchmarks.scene import Scene

_CONFIG = "[shim]\nheartbeat_s = 0.1\n[policy]\ndefault_rules = false\n"
_NUM_CAPTURES, _NUM_ADDS = 60, 20


def run(notes: Notes, device: Device, folder: Path) -> None:
    """One row."""
    alone = folder / "alone.json"
    words = [sys.executable, "-m", "benchmarks.gpu.capture", device.kind]
    subprocess.run([*words, str(alone)], env=own_env(), cwd=folder, check=True, stdin=subprocess.DEVNULL)
    home = Path(tempfile.mkdtemp(prefix="ts-"))
    try:
        watched = home / "watched.json"
        with Scene(home / "d", _CONFIG) as scene:
            scene.run("job", [*words, str(watched)])
            wait_for(lambda: scene.rows()[0].state in ("completed", "failed"), "the job")
            row = scene.rows()[0]
            if row.state != "completed":
                log = Path(row.log).read_text(errors="replace")[-500:] if row.log else ""
                raise Finding(f"the job that captures: {row.state} {row.problem}\n{log}")
        found = {"without a daemon": json.loads(alone.read_text()), "with": json.loads(watched.read_text())}
    finally:
        shutil.rmtree(home, ignore_errors=True)
    for name, figures in found.items():
        notes.put(f"captures {name}", f"{figures['right']} of {figures['captures']} right")
        notes.put(f"capture {name} ms", figures["capture_ms"])
        notes.put(f"step {name} us", figures["step_us"])
    notes.put("step, ratio", found["with"]["step_us"] / found["without a daemon"]["step_us"])
    notes.put("connected", "yes" if found["with"]["is_connected"] else "no")
    if not found["with"]["is_connected"]:
        raise Finding("the shim was not connected while it captured")
    if any(figures["right"] != figures["captures"] for figures in found.values()):
        raise Finding("a captured graph gave other numbers")


def _captured(device: Device) -> bool:
    """Capture a graph and run it; whether its numbers are right."""
    static = torch.zeros(1024, device=device.kind)
    if device.is_real:
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        with torch.cuda.graph(graph):
            for _ in range(_NUM_ADDS):
                static.add_(1)
        static.zero_()
        graph.replay()
    else:
        for _ in range(_NUM_ADDS):
            static.add_(1)
    return static.sum().item() == _NUM_ADDS * 1024


def main() -> None:
    device, file = Device(sys.argv[1]), Path(sys.argv[2])
    training = Training(device)
    shim = trainer_shim.attach(**training.parts(), checkpoints=file.with_suffix(".d"))
    link = shim._telling._line  # noqa: SLF001
    if link is not None:
        time.sleep(1.0)  # The first heartbeats.
    seed()
    shim.report(loss=torch.full((), 2.5, device=device.kind))
    captures = []
    num_right = 0
    for _ in range(_NUM_CAPTURES):
        began = time.perf_counter()
        num_right += _captured(device)
        captures.append(time.perf_counter() - began)
        if link is not None:
            time.sleep(0.02)  # Heartbeats fall into other places of it each time.
    batch = next(iter(training.loader))
    steps = []
    for _ in range(300 if device.is_real else 60):
        steps.append(device.timed(lambda: training.step(batch)))
        shim.report(loss=training.loss)
        shim.boundary()
    figures = {
        "captures": _NUM_CAPTURES,
        "right": num_right,
        "capture_ms": statistics.median(captures) * 1e3,
        "step_us": statistics.median(steps[10:]) * 1e6,
        "is_connected": shim._report.has_daemon,  # noqa: SLF001
    }
    file.write_text(json.dumps(figures))
    shim.detach()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
