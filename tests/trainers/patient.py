"""The training run of torch_small.py, long enough for whatever is to happen to it.

Steered through the working directory: while `slow` is there it takes its time for
each step. At its end it writes `digest`.
"""

from __future__ import annotations

import time
from pathlib import Path

import torch

import trainer_shim
from tests.trainers.torch_small import Training

#: Nearly a minute at the slow pace, a second at the quick one.
NUM_EPOCHS = 60
STEP_S = 0.15


def train(num_epochs: int = NUM_EPOCHS) -> str:
    """Return the digest of a run that nobody disturbs."""
    training = Training(0, 1)
    for _ in range(num_epochs):
        for batch in training.loader:
            training.step(batch)
    return training.digest()


def main() -> None:
    training = Training(0, 1)
    shim = trainer_shim.attach(**training.parts())
    for _ in shim.epochs(NUM_EPOCHS):
        for batch in shim.batches(training.loader):
            training.step(batch)
            if Path("slow").exists():
                time.sleep(STEP_S)
    shim.detach()
    Path("digest").write_text(training.digest())


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
