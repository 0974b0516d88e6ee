"""Runs a small training whole, and the same one left after some steps and begun again; compares the two.

Each start of the training gets fresh objects and other global generators, as a fresh process has.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch.utils.data import Dataset

import trainer_shim
from trainer_shim import protocol as wire

#: Items of the data sets here.
NUM_ITEMS = 24


class Numbers(Dataset):
    """The numbers from 0 on, plus what `draw` gives for each."""

    def __init__(self, draw: Callable[[int], float] | None = None) -> None:
        self.draw = draw

    def __len__(self) -> int:
        return NUM_ITEMS

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.tensor([float(index) + (0.0 if self.draw is None else self.draw(index))])


class Seen:
    """All batches that a training saw, as a part of it."""

    def __init__(self) -> None:
        self.batches: list[list[float]] = []

    def state_dict(self) -> dict[str, list[list[float]]]:
        return {"batches": self.batches}

    def load_state_dict(self, state: dict[str, list[list[float]]]) -> None:
        self.batches = [list(batch) for batch in state["batches"]]


class Run:
    """One start of a training: a net with dropout, and the session."""

    def __init__(self, folder, leave_at: int | None, seed: int) -> None:
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - the global generator is what is tested.
        torch.manual_seed(seed)
        self._folder, self._leave_at = folder, leave_at
        self.seen = Seen()
        self.net = torch.nn.Sequential(torch.nn.Linear(1, 4), torch.nn.Dropout(0.5), torch.nn.Linear(4, 1))
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=1e-4, momentum=0.9)

    def attach(self, **more) -> trainer_shim.Shim:
        """Begin the session, with more parts than net, optimizer and what is seen."""
        parts = {"net": self.net, "optimizer": self.optimizer, "seen": self.seen, **more}
        self.shim = trainer_shim.attach(checkpoints=self._folder, **parts)
        return self.shim

    def step(self, batch) -> None:
        """Train on a batch, or on the sum of several; ask to leave at the boundary behind it."""
        batch = summed(batch)
        self.optimizer.zero_grad()
        self.net(batch.reshape(-1, 1).float()).square().mean().backward()
        self.optimizer.step()
        self.see(batch)

    def see(self, batch) -> None:
        """Remember a batch; ask to leave at the boundary behind it."""
        self.seen.batches.append(batch.flatten().tolist())
        if self.shim.step + 1 == self._leave_at:
            self.leave()

    def leave(self) -> None:
        self.shim._gate.put(wire.Pause(request="p", depth="exit"))

    def result(self):
        weights = [one.detach().numpy().tobytes().hex() for one in self.net.parameters()]
        return {"seen": self.seen.batches, "weights": weights}


def summed(batch) -> torch.Tensor:
    """The sum of all tensors in a batch."""
    if isinstance(batch, torch.Tensor):
        return batch
    return sum(summed(one) for one in batch if isinstance(one, torch.Tensor | list | tuple))


def once(folder, train, leave_at=None, seed=1):
    """What one start comes to; None if it left."""
    run = Run(folder, leave_at, seed)
    try:
        train(run)
    except SystemExit:
        return None
    finally:
        if hasattr(run, "shim"):
            run.shim.detach()
    return run.result()


def whole_and_cut(tmp_path, train, steps: Iterable[int]):
    """What a training comes to that never left, and one that left after each of these steps."""
    whole = once(tmp_path / "whole", train)
    for number, step in enumerate(steps):
        assert once(tmp_path / "cut", train, step, seed=1 if number == 0 else 70 + number) is None
    return whole, once(tmp_path / "cut", train, seed=99)


def epochs_over(make: Callable[[Run], Callable[[], Iterable]], num_epochs: int = 3):
    """A training of so many epochs; `make` gives, for each start, what hands over an epoch's batches."""

    def train(run: Run) -> None:
        batches = make(run)
        run.attach()
        for _ in run.shim.epochs(num_epochs):
            for batch in run.shim.batches(batches()):
                run.step(batch)

    return train
