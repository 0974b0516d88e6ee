"""The training run of torch_small.py, whose CPU tensors count as a device's and whose device can be full.

Steered through the working directory: while `full` is there the device has no
memory, while `crowded` is there the host has none, and while `wait` is there the
loop stands still before its next step. At its end it writes `digest`.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import torch

import trainer_shim
from tests.trainers.torch_small import Training
from trainer_shim.devices import TorchMemory

NUM_EPOCHS = 4


class Device(TorchMemory):
    """Full when a file says so."""

    def take(self, storage, size_bytes):
        if Path("full").exists():
            raise torch.OutOfMemoryError("CUDA out of memory")
        super().take(storage, size_bytes)

    def host_bytes(self):
        return 0 if Path("crowded").exists() else None


def unpaused_digest():
    """Return the digest of the same run without a shim."""
    training = Training(0, 1)
    for _ in range(NUM_EPOCHS):
        for batch in training.loader:
            training.step(batch)
    return training.digest()


def main():
    training = Training(0, 1)
    shim = trainer_shim.attach(**training.parts())
    shim._offloader._memory_given = Device(torch)
    for _ in shim.epochs(NUM_EPOCHS):
        for batch in shim.batches(training.loader):
            while Path("wait").exists():
                time.sleep(0.005)
            training.step(batch)
    shim.detach()
    Path("digest").write_text(f"{training.digest()} {os.getpid()}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
