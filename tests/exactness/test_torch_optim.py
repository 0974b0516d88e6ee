"""Every optimizer and scheduler of the torch that is installed goes on exactly, and those that people write.

The lists are torch's own, read when the tests run: one that came with a newer torch, and that nobody
here knows how to make, fails.
"""

from __future__ import annotations

import enum
import inspect
import math
from typing import NamedTuple

import pytest
import torch
from torch.optim import lr_scheduler

import trainer_shim

optim = torch.optim


def classes(module, base):
    found = {
        name: one for name, one in vars(module).items() if inspect.isclass(one) and issubclass(one, base)
    }
    return {name: one for name, one in found.items() if not name.startswith("_") and one is not base}


SGD = {"lr": 0.1, "momentum": 0.9}
PLAIN = {"lr": 0.01}
#: How each optimizer is made.
OPTIMIZERS = {
    **dict.fromkeys(("Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "ASGD"), PLAIN),
    **dict.fromkeys(("LBFGS", "Muon", "NAdam", "RAdam", "RMSprop", "Rprop", "SparseAdam"), PLAIN),
    "SGD": SGD,
}


class Ramp:
    """A schedule that is an object, with a function in it."""

    def __init__(self):
        self.num_calls, self.shape = 0, math.sqrt

    def __call__(self, step):
        self.num_calls += 1
        return self.shape(1 + step) / (1 + self.num_calls)


class Phase(enum.IntEnum):
    WARM = 1
    MAIN = 2


class Span(NamedTuple):
    begin: int
    end: int


class GradualWarmup(lr_scheduler.LRScheduler):
    """As it goes around: a scheduler that holds the one after it, and hands over to it."""

    def __init__(self, optimizer, num_steps, after):
        self.num_steps, self.after = num_steps, after
        self.phase, self.span, self.is_finished = Phase.WARM, Span(0, num_steps), False
        super().__init__(optimizer)

    def get_lr(self):
        if self.last_epoch > self.num_steps:
            self.phase, self.is_finished = Phase.MAIN, True
            return self.after.get_last_lr()
        return [base * self.last_epoch / self.num_steps for base in self.base_lrs]

    def step(self):
        if self.is_finished:
            self.after.step()
            self._last_lr = self.after.get_last_lr()
        else:
            super().step()


class Chosen(lr_scheduler.LRScheduler):
    """A scheduler that keeps functions in a map, and its history in one."""

    def __init__(self, optimizer):
        self.shapes = {"warm": lambda step: step / 3, "main": math.exp}
        self.seen = []
        super().__init__(optimizer)

    def get_lr(self):
        self.seen.append(Phase.WARM if self.last_epoch < 3 else Phase.MAIN)
        shape = self.shapes["warm" if self.last_epoch < 3 else "main"]
        return [0.01 * shape(self.last_epoch % 4) for _ in self.base_lrs]


L = lr_scheduler
SCHEDULERS = {
    "LambdaLR": lambda o: L.LambdaLR(o, lambda step: 0.9**step),
    "MultiplicativeLR": lambda o: L.MultiplicativeLR(o, lambda step: 0.95),
    "StepLR": lambda o: L.StepLR(o, 2),
    "MultiStepLR": lambda o: L.MultiStepLR(o, [2, 4, 4]),
    "ConstantLR": lambda o: L.ConstantLR(o, total_iters=4),
    "LinearLR": L.LinearLR,
    "ExponentialLR": lambda o: L.ExponentialLR(o, 0.9),
    "SequentialLR": lambda o: L.SequentialLR(o, [L.LinearLR(o), L.MultiStepLR(o, [3])], [2]),
    "PolynomialLR": L.PolynomialLR,
    "CosineAnnealingLR": lambda o: L.CosineAnnealingLR(o, 5),
    "ChainedScheduler": lambda o: L.ChainedScheduler([L.LinearLR(o), L.MultiStepLR(o, [3])], o),
    "ReduceLROnPlateau": lambda o: L.ReduceLROnPlateau(o, patience=0),
    "CyclicLR": lambda o: L.CyclicLR(o, 0.01, 0.1, step_size_up=2),
    "CosineAnnealingWarmRestarts": lambda o: L.CosineAnnealingWarmRestarts(o, 3),
    "OneCycleLR": lambda o: L.OneCycleLR(o, 0.1, 10),
}
#: Others of the same kinds.
WRITTEN = {
    "LambdaLR with an object": lambda o: L.LambdaLR(o, Ramp()),
    "LambdaLR with two": lambda o: L.LambdaLR(o, [Ramp()]),
    "CyclicLR with a function": lambda o: L.CyclicLR(o, 0.01, 0.1, step_size_up=2, scale_fn=lambda x: 0.9**x),
    "CyclicLR with an object": lambda o: L.CyclicLR(o, 0.01, 0.1, step_size_up=2, scale_fn=Ramp()),
    "SequentialLR with an object": lambda o: L.SequentialLR(o, [L.LambdaLR(o, Ramp()), L.StepLR(o, 2)], [2]),
    "a warm-up that holds the scheduler after it": lambda o: GradualWarmup(o, 2, L.MultiStepLR(o, [2, 3])),
    "a warm-up before a warm-up": lambda o: GradualWarmup(
        o, 1, GradualWarmup(o, 2, L.CosineAnnealingLR(o, 4))
    ),
    "a warm-up before a chosen one": lambda o: GradualWarmup(o, 4, L.LambdaLR(o, Ramp())),
    "functions in a map": Chosen,
}


class Run:
    """A small training with one optimizer, or with SGD and a scheduler."""

    def __init__(self, optimizer, arguments, scheduler=None):
        torch.manual_seed(1)
        is_sparse = optimizer is torch.optim.SparseAdam
        self.model = torch.nn.Embedding(6, 4, sparse=True) if is_sparse else torch.nn.Linear(6, 4, bias=False)
        self.optimizer = optimizer(self.model.parameters(), **arguments)
        self.scheduler = None if scheduler is None else scheduler(self.optimizer)
        rows = torch.arange(18) % 6
        self.data = rows.reshape(6, 3) if is_sparse else torch.randn(6, 3, 6)

    def parts(self):
        parts = {"model": self.model, "optimizer": self.optimizer, "scheduler": self.scheduler}
        return {name: part for name, part in parts.items() if part is not None}

    def train(self, steps, boundary=lambda: None):
        for step in steps:

            def loss(step=step):
                self.optimizer.zero_grad()
                found = self.model(self.data[step]).square().sum()
                found.backward()
                return found

            value = self.optimizer.step(loss)
            if isinstance(self.scheduler, L.ReduceLROnPlateau):
                self.scheduler.step(value.detach())
            elif self.scheduler is not None:
                self.scheduler.step()
            boundary()
        rate = self.optimizer.param_groups[0]["lr"]
        return float(rate).hex(), self.model.weight.detach().clone()


def outcomes(tmp_path, *made):
    """What six steps come to without a pause, and with one in the middle."""
    straight = Run(*made).train(range(6))
    first = Run(*made)
    shim = trainer_shim.attach(checkpoints=tmp_path, **first.parts())
    first.train(range(3), shim.boundary)
    shim.checkpoint()
    shim.detach()
    second = Run(*made)
    shim = trainer_shim.attach(checkpoints=tmp_path, **second.parts())
    assert 3 == shim.step
    paused = second.train(range(3, 6), shim.boundary)
    shim.detach()
    return straight, paused


@pytest.mark.parametrize("name", classes(torch.optim, torch.optim.Optimizer))
def test_every_optimizer_of_torch_goes_on_exactly(tmp_path, name):
    """
    Whatever it keeps: one that nobody here knows how to make is no reason to pass.
    """
    assert name in OPTIMIZERS, f"say in OPTIMIZERS how `{name}` is made"
    straight, paused = outcomes(tmp_path, getattr(torch.optim, name), OPTIMIZERS[name])

    assert straight[0] == paused[0]
    assert torch.equal(straight[1], paused[1])


@pytest.mark.filterwarnings("ignore:.*EPOCH_DEPRECATION_WARNING|.*epoch parameter:UserWarning")
@pytest.mark.filterwarnings("ignore:.*lr_scheduler.step:UserWarning")
@pytest.mark.parametrize("name", [*classes(lr_scheduler, lr_scheduler.LRScheduler), *WRITTEN])
def test_every_scheduler_of_torch_and_those_that_people_write_go_on_exactly(tmp_path, name):
    """
    Counters, nested schedulers, functions, objects that are called, named tuples and enums.
    """
    known = SCHEDULERS | WRITTEN
    assert name in known, f"say in SCHEDULERS how `{name}` is made"
    straight, paused = outcomes(tmp_path, torch.optim.SGD, SGD, known[name])

    assert straight[0] == paused[0]
    assert torch.equal(straight[1], paused[1])
