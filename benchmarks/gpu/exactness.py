"""Whether training on the device has the same bits after a pause as without one.

Covers: the real shim, paused at a boundary of a real training at each depth; for `exit` a second
process goes on from the checkpoint.
Does not cover: the daemon (pauses.py); trainings (training.py).

`python -m benchmarks.gpu.exactness KIND DEVICE FOLDER` is that second process.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import torch

import trainer_shim
from benchmarks.gpu.device import MIB, Device
from benchmarks.gpu.report import Finding, NotAvailable, Notes
from benchmarks.gpu.training import KINDS, Training, seed
from trainer_shim import protocol

NUM_EPOCHS, PAUSE_AT = 2, 4

#: What torch says where inductor has nothing to compile with.
_NO_COMPILER = (
    "InvalidCxxCompiler",
    "Failed to find C compiler",
    "TritonMissing",
    "Cannot find a working triton",
)


@dataclass
class Told:
    """In the place of the connection to a daemon: notes what it is told, and asks to go on at once."""

    shim: trainer_shim.Shim
    messages: list = field(default_factory=list)

    def send(self, message) -> None:
        """Note it."""
        self.messages.append(message)
        if isinstance(message, protocol.Yielded) and message.depth != "exit":
            self.shim._gate.put(protocol.Resume(request="2"))  # noqa: SLF001

    def close(self, wait_s: float = 0.0) -> None:
        """There is nothing to close."""

    def only(self, kind):
        """Return the messages of a kind."""
        return [message for message in self.messages if isinstance(message, kind)]


def trained(training: Training, folder: Path, depth: str = "") -> tuple[str, Told]:
    """Train to the end, with a pause if a depth is given; return the digest and what was told."""
    training.ready()
    seed()
    shim = trainer_shim.attach(checkpoints=folder, **training.parts())
    shim._offloader._memory_given = training.memory()  # noqa: SLF001  # as tests/trainers/offloaded.py
    shim._telling._line = told = Told(shim)  # noqa: SLF001
    try:
        for _ in shim.epochs(NUM_EPOCHS):
            for batch in shim.batches(training.loader):
                training.step(batch)
                if depth and shim.step == PAUSE_AT - 1:
                    shim._gate.put(protocol.Pause(request="1", depth=depth))  # noqa: SLF001
    except SystemExit as ended:
        if ended.code != 75:
            raise
        return "", told
    shim.detach()
    return training.digest(), told


def run(notes: Notes, device: Device, folder: Path, *, kind: str) -> None:
    """One row: a training of that kind, paused at each depth."""
    os.environ.update(device.shim_env())
    make = KINDS[kind]
    try:
        whole, _ = trained(make(device), folder / "whole")
    except Exception as error:
        if any(words in f"{type(error).__name__}: {error}" for words in _NO_COMPILER):
            raise NotAvailable(f"inductor cannot compile here: {str(error).splitlines()[0]}") from error
        raise
    again, _ = trained(make(device), folder / "again")
    notes.put("two runs without a pause", "same bits" if whole == again else "other bits")
    if whole != again:
        raise NotAvailable("this training has other bits each time, also without a pause")
    wrong = []
    for depth in ("hold", "offload", "exit"):
        words = _paused(kind, device, folder / depth, depth, whole)
        notes.put(depth, words)
        wrong += [] if words.startswith(("same bits", "refused, same bits")) else [depth]
    if wrong:
        raise Finding(f"not exact after: {', '.join(wrong)}")


def _paused(kind: str, device: Device, folder: Path, depth: str, whole: str) -> str:
    training = KINDS[kind](device)
    digest, told = trained(training, folder, depth)
    refused = told.only(protocol.CannotYield)
    yielded = told.only(protocol.Yielded)
    if depth == "exit":
        del training
        digest = _gone_on(kind, device, folder)
    bits = "same bits" if digest == whole else "OTHER BITS"
    if kind == "graph" and depth == "offload":
        return f"refused, {bits}" if refused and not yielded else f"NOT REFUSED, {bits}"
    if refused or [depth] != [one.depth for one in yielded]:
        return f"CANNOT: {refused[0].why if refused else 'nothing was yielded'}"
    freed = f", {yielded[0].bytes_freed / MIB:.2f} MiB freed" if depth == "offload" else ""
    return bits + freed


def _gone_on(kind: str, device: Device, folder: Path) -> str:
    """Return the digest of a process that goes on from the checkpoint."""
    device.trim()
    words = [sys.executable, "-m", "benchmarks.gpu.exactness", kind, device.kind, str(folder)]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    sys.stderr.write(done.stderr)
    lines = done.stdout.split()
    if done.returncode or not lines:
        raise Finding(f"the second process ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    return lines[-1]


def main() -> None:
    kind, where, folder = sys.argv[1:]
    device = Device(where)
    os.environ.update(device.shim_env())
    training = KINDS[kind](device)
    if not (Path(folder)).is_dir():
        raise SystemExit(f"there is no checkpoint in {folder}")
    digest, _ = trained(training, Path(folder))
    print(digest)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
