"""A checkpoint of tensors on the device, beside torch.save with a flush.

Covers: the time until durable, and what the loop waits for when it is written in the background.
Does not cover: other libraries, disks (`python -m benchmarks checkpoint`).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.gpu.device import Device
from benchmarks.gpu.report import Finding, Notes
from benchmarks.trained import change, fsync_all, size_of, state_of, trained
from trainer_shim.checkpoint import Store
from trainer_shim.checkpoint.reader import load
from trainer_shim.checkpoint.stage import StagingFolder


def run(notes: Notes, device: Device, folder: Path) -> None:
    """One row: both ways in turn, five rounds."""
    with torch.device(device.kind):
        model, optimizer = trained(1.0 if device.is_real else 0.05)
    state = state_of(model, optimizer)
    notes.put("state GB", size_of(state) / 1e9)
    rounds = 5 if device.is_real else 2
    with Store(folder / "ours", job="gpu", keep_last=1) as store:
        saved = _in_turn(notes, device, (state, store, folder), rounds)
        found = load(saved.path).state["model"]
    if not all(torch.equal(found[name].cpu(), value.cpu()) for name, value in state["model"].items()):
        raise Finding("what was loaded is not what was saved")


def _in_turn(notes: Notes, device: Device, what: tuple, rounds: int):
    state, store, folder = what
    stage = StagingFolder()
    took: dict[str, list[float]] = {"ours": [], "torch": [], "loop": [], "clone": []}

    def timed(name: str, work: Callable[[], object]) -> object:
        """Let a step happen, then note how long the work takes."""
        change(state)
        device.settle()
        began = time.perf_counter()
        result = work()
        device.settle()
        took[name].append(time.perf_counter() - began)
        return result

    def stock() -> None:
        torch.save(state, folder / "torch.pt")
        fsync_all(folder / "torch.pt")

    stage.grow(store.prepare(state, step=1, epoch=0, facts={}))
    for step in range(1, rounds + 2):
        (folder / "torch.pt").unlink(missing_ok=True)
        timed("torch", stock)
        timed("clone", lambda: [value.cpu() for value in state["model"].values()])
        draft = timed(
            "loop", lambda at=step: stage.fill(store.prepare(state, step=2 * at, epoch=0, facts={}))
        )
        store.write(draft)
        saved = timed("ours", lambda at=step: store.save(state, step=2 * at + 1, epoch=0, facts={}))
    stage.close()
    # The first round takes memory and blocks of the disk.
    median = {name: statistics.median(times[1:]) for name, times in took.items()}
    ratios = [ours / other for ours, other in zip(took["ours"][1:], took["torch"][1:], strict=True)]
    notes.put("durable s", median["ours"])
    notes.put("torch.save + fsync s", median["torch"])
    notes.put("ratio of them", statistics.median(ratios))
    notes.put("loop blocked, in the background s", median["loop"])
    notes.put("weights alone with .cpu() s", median["clone"])
    return saved
