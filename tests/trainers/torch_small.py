"""A small training run with torch: shuffled data, noise in the workers, momentum, accumulation.

Everything that could differ after a pause takes part: weights, optimizer,
scheduler, the order of the data, random numbers of Python and torch, in the
workers and in the loop. `digest` is over the bytes of every tensor.

As a program it takes WORKERS ACCUMULATE EPOCHS [STEP_S] and prints the digest; the
checkpoints go below the working directory.
"""

from __future__ import annotations

import hashlib
import random
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

import trainer_shim

NUM_ITEMS = 24
BATCH = 4


class Noisy(Dataset):
    """Each item gets noise from the worker's own generators."""

    def __len__(self):
        return NUM_ITEMS

    def __getitem__(self, index):
        return torch.arange(6.0) * index / NUM_ITEMS + torch.rand(6) + random.random()


class Training:
    """Everything that attach() is given, and one step of it."""

    def __init__(self, workers: int, accumulate: int) -> None:
        torch.manual_seed(5)
        random.seed(5)
        self.accumulate = accumulate
        self.model = torch.nn.Sequential(
            torch.nn.Linear(6, 8), torch.nn.Dropout(0.3), torch.nn.Tanh(), torch.nn.Linear(8, 1)
        )
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.05)
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, 3, 0.7)
        self.loader = DataLoader(Noisy(), BATCH, shuffle=True, num_workers=workers)
        self.num_batches = 0

    def parts(self) -> dict[str, Any]:
        return {"model": self.model, "optimizer": self.optimizer, "scheduler": self.scheduler, "count": self}

    def state_dict(self) -> dict[str, Any]:
        return {"num_batches": self.num_batches}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.num_batches = state["num_batches"]

    def step(self, batch: torch.Tensor) -> torch.Tensor:
        loss = (self.model(batch) - random.random()).square().mean()
        (loss / self.accumulate).backward()
        self.num_batches += 1
        # A rest at the end of an epoch is a step as well.
        within = self.num_batches % len(self.loader)
        if within % self.accumulate == 0:
            self.optimizer.step()
            self.scheduler.step()
            self.optimizer.zero_grad()
        return loss

    def digest(self) -> str:
        told = hashlib.sha256(f"{self.num_batches} {random.random()} {torch.rand(1).item()}".encode())
        tensors = list(self.model.state_dict().values())
        for state in self.optimizer.state.values():
            tensors += [value for value in state.values() if torch.is_tensor(value)]
        for tensor in tensors:
            told.update(tensor.detach().contiguous().numpy().tobytes())
        return told.hexdigest()


def main(workers: int, accumulate: int, num_epochs: int, step_s: float = 0.0) -> None:
    torch.set_num_threads(1)
    training = Training(workers, accumulate)
    shim = trainer_shim.attach(checkpoints=Path("checkpoints"), **training.parts())
    for _ in shim.epochs(num_epochs):
        for batch in shim.batches(training.loader, accumulate=accumulate):
            training.step(batch)
            print(f"step {training.num_batches}", flush=True)
            time.sleep(step_s)
    shim.detach()
    print(training.digest(), flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]), *map(float, sys.argv[4:]))
