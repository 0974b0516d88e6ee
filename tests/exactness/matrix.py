"""Tiny trainings made of interchangeable parts, run through attach() and cut, or bare.

Each factor of a training (optimizer, scheduler, ...) has several kinds; `pairs()` combines them so that
any two kinds of different factors meet in some cell, with far fewer cells than the full product.
"""
# ruff: noqa: NPY002 - the global generators are what is tested.

from __future__ import annotations

import itertools
import random
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import lr_scheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import (
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    WeightedRandomSampler,
    get_worker_info,
)
from torchdata.stateful_dataloader import StatefulDataLoader

import trainer_shim
from trainer_shim import rng
from trainer_shim.state_digests import digests

NUM_ITEMS = 22
NUM_EPOCHS = 2
BATCH = 4


# --- data -------------------------------------------------------------------------------------


class Rows(Dataset):
    """Rows of four numbers, augmented with the random numbers of one library."""

    def __init__(self, noise: str) -> None:
        self.rows = torch.randn(NUM_ITEMS, 4, generator=torch.Generator().manual_seed(8))
        self.noise = noise

    def __len__(self) -> int:
        return NUM_ITEMS

    def __getitem__(self, index: int) -> torch.Tensor:
        draw = {"python": random.random, "numpy": np.random.rand, "torch": lambda: torch.rand(()).item()}
        return self.rows[index] * (1 + draw[self.noise]())


class Stream(IterableDataset):
    """The same rows in order, split among the workers."""

    def __init__(self, noise: str) -> None:
        self.rows = Rows(noise)

    def __iter__(self) -> Iterator[torch.Tensor]:
        info = get_worker_info()
        first, step = (info.id, info.num_workers) if info else (0, 1)
        return (self.rows[index] for index in range(first, NUM_ITEMS, step))


def _plain(noise: str, workers: int = 0, **options: Any) -> Callable[[], DataLoader]:
    options = {"shuffle": True, "batch_size": BATCH, **options}
    return lambda: DataLoader(Rows(noise), num_workers=workers, **options)


def _weighted() -> DataLoader:
    return DataLoader(Rows("python"), BATCH, sampler=WeightedRandomSampler(range(1, 23), NUM_ITEMS))


def _replacing() -> DataLoader:
    own = torch.Generator().manual_seed(4)
    rows = Rows("numpy")
    sampler = RandomSampler(rows, replacement=True, num_samples=NUM_ITEMS, generator=own)
    return DataLoader(rows, BATCH, sampler=sampler, num_workers=2)


def _distributed() -> DataLoader:
    rows = Rows("torch")
    return DataLoader(rows, 3, sampler=DistributedSampler(rows, 2, 1, seed=4))


LOADERS: dict[str, Callable[[], Any]] = {
    "plain, python": _plain("python"),
    "plain, numpy": _plain("numpy"),
    "plain, torch": _plain("torch", drop_last=True),
    "2 workers, python": _plain("python", 2),
    "2 workers, numpy": _plain("numpy", 2),
    "2 workers, torch": _plain("torch", 2),
    "persistent workers": _plain("numpy", 2, persistent_workers=True),
    "weighted sampler": _weighted,
    "random sampler, 2 workers": _replacing,
    "distributed sampler": _distributed,
    "iterable": lambda: DataLoader(Stream("numpy"), BATCH),
    "iterable, 2 workers": lambda: DataLoader(Stream("torch"), BATCH, num_workers=2),
    "StatefulDataLoader": lambda: StatefulDataLoader(Rows("python"), BATCH, shuffle=True),
    "StatefulDataLoader, 2 workers": lambda: StatefulDataLoader(
        Rows("torch"), BATCH, shuffle=True, num_workers=2
    ),
}


# --- models, optimizers, schedulers -----------------------------------------------------------


class Tied(nn.Module):
    """Encoder and decoder are one matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(4, 4, bias=False)
        self.drop = nn.Dropout(0.3)
        self.decoder = nn.Linear(4, 4, bias=False)
        self.decoder.weight = self.encoder.weight

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.drop(torch.tanh(self.encoder(rows))))


def _normed() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 4))


def _dropping() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.5), nn.GELU(), nn.Linear(6, 4))


MODELS: dict[str, Callable[[], nn.Module]] = {"batch norm": _normed, "dropout": _dropping, "tied": Tied}


class Odd(torch.optim.Optimizer):
    """State of many shapes: a scalar, a list that grows, a map with numbers as keys, None, a wider type."""

    def __init__(self, parameters: Any, lr: float) -> None:
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                state.setdefault("last", None)
                counts = state.setdefault("counts", {0: 0, 7: ()})
                norms = state.setdefault("norms", [])
                norms.append(parameter.grad.norm())
                counts[0] += 1
                if state["last"] is None:
                    state["last"] = torch.zeros(2, *parameter.shape)
                state["last"][counts[0] % 2].add_(parameter.grad)
                mean = sum(norms[-3:]) / len(norms[-3:])
                parameter.sub_(state["last"].sum(0), alpha=group["lr"] / float(1 + mean + counts[0] / 9))


OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "SGD, momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True),
    "Adam": lambda p: torch.optim.Adam(p, lr=0.02, amsgrad=True),
    "AdamW fused": lambda p: torch.optim.AdamW(p, lr=0.02, fused=True),
    "AdamW foreach": lambda p: torch.optim.AdamW(p, lr=0.02, foreach=True),
    "LBFGS": lambda p: torch.optim.LBFGS(p, lr=0.1, max_iter=3, history_size=4),
    "Adafactor": lambda p: torch.optim.Adafactor(p, lr=0.02),
    "odd state": lambda p: Odd(p, lr=0.02),
}
NUM_STEPS = 40
SCHEDULERS: dict[str, Callable[[Any], Any]] = {
    "none": lambda _: None,
    "cosine": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, T_0=5, T_mult=2),
    # No momentum to cycle in most of the optimizers.
    "one-cycle": lambda o: lr_scheduler.OneCycleLR(o, 0.05, total_steps=NUM_STEPS, cycle_momentum=False),
    "plateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, factor=0.5, patience=0, threshold=0.5),
}

#: Factor -> its kinds.
FACTORS: dict[str, Sequence[Any]] = {
    "optimizer": list(OPTIMIZERS),
    "scheduler": list(SCHEDULERS),
    "model": list(MODELS),
    "scaler": [False, True],
    "ema": [False, True],
    "accumulate": [1, 3],
}


@dataclass(frozen=True)
class Cell:
    """One training of the matrix."""

    optimizer: str = "SGD, momentum"
    scheduler: str = "none"
    model: str = "dropout"
    scaler: bool = False
    ema: bool = False
    accumulate: int = 1
    loader: str = "plain, python"
    #: Backend of torch.compile; "" without.
    compiled: str = ""

    def __str__(self) -> str:
        words = [self.optimizer, self.scheduler, self.model, self.loader]
        words += ["scaler"] * self.scaler + ["EMA"] * self.ema
        words += [f"accumulate {self.accumulate}"] * (self.accumulate > 1)
        return ", ".join([*words, self.compiled] if self.compiled else words)


def _is_possible(chosen: dict[str, Any]) -> bool:
    """LBFGS evaluates its loss several times a step, which neither a scaler nor accumulation go with."""
    return chosen.get("optimizer") != "LBFGS" or not (chosen.get("scaler") or chosen.get("accumulate", 1) > 1)


def pairs() -> list[Cell]:
    """Cells in which any two kinds of different factors meet, as far as they can; loaders take turns."""
    names = list(FACTORS)
    missing = {
        ((one, a), (other, b))
        for one, other in itertools.combinations(names, 2)
        for a, b in itertools.product(FACTORS[one], FACTORS[other])
        if _is_possible({one: a, other: b})
    }
    cells = []
    loaders = itertools.cycle(LOADERS)
    product = [dict(zip(names, kinds, strict=True)) for kinds in itertools.product(*FACTORS.values())]
    possible = [chosen for chosen in product if _is_possible(chosen)]
    covers = [set(itertools.combinations(chosen.items(), 2)) for chosen in possible]
    while missing:
        best = max(range(len(possible)), key=lambda index: len(covers[index] & missing))
        missing -= covers[best]
        cells.append(Cell(**possible[best], loader=next(loaders)))
    return cells


# --- training ---------------------------------------------------------------------------------


@dataclass
class Training:
    """Everything that one process of a cell's training has."""

    cell: Cell
    seed: int = 1
    parts: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        random.seed(self.seed)
        np.random.seed(self.seed)
        torch.manual_seed(self.seed)
        cell = self.cell
        self.loader = LOADERS[cell.loader]()
        self.model = MODELS[cell.model]()
        self.ema = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(0.7), use_buffers=True)
        # So that the running statistics of a batch norm are used, and not only kept.
        self.ema.eval()
        self.optimizer = OPTIMIZERS[cell.optimizer](self.model.parameters())
        self.scheduler = SCHEDULERS[cell.scheduler](self.optimizer)
        # A factor that is no power of two: else the scale would leave no trace in the weights.
        self.scaler = torch.amp.GradScaler(
            "cpu", init_scale=3.0, growth_factor=1.7, growth_interval=3, enabled=cell.scaler
        )
        self.forward = torch.compile(self.model, backend=cell.compiled) if cell.compiled else self.model
        self.parts = {"model": self.model, "optimizer": self.optimizer}
        self.parts |= {"scheduler": self.scheduler} if self.scheduler is not None else {}
        self.parts |= {"scaler": self.scaler} if cell.scaler else {}
        self.parts |= {"ema": self.ema} if cell.ema else {}

    def begin(self, epoch: int) -> None:
        if isinstance(self.loader.sampler, DistributedSampler):
            self.loader.sampler.set_epoch(epoch)

    def step(self, batch: torch.Tensor, taken: int) -> str:
        """Train on one batch; return the loss in exact form."""
        batch = batch + 0.01 * random.random() + 0.01 * float(np.random.rand())
        if self.cell.optimizer == "LBFGS":
            loss = self.optimizer.step(lambda: self._backward(batch))
        else:
            loss = self._backward(batch)
        if taken % self.cell.accumulate == 0:
            self._update()
        if self.cell.ema:
            loss = loss + self.ema(batch).detach().square().mean()
        return loss.item().hex()

    def over(self, losses: list[str]) -> None:
        """An epoch is over: a rest of batches is stepped on, and the plateau is looked at."""
        if any(parameter.grad is not None for parameter in self.model.parameters()):
            self._update()
        if isinstance(self.scheduler, lr_scheduler.ReduceLROnPlateau):
            self.scheduler.step(sum(map(float.fromhex, losses[-4:])))

    def _backward(self, batch: torch.Tensor) -> torch.Tensor:
        if self.cell.optimizer == "LBFGS":
            self.optimizer.zero_grad()
        out = self.forward(batch)
        loss = (out - batch).square().mean() / self.cell.accumulate
        self.scaler.scale(loss).backward()
        return loss

    def _update(self) -> None:
        if self.cell.optimizer != "LBFGS":
            self.scaler.step(self.optimizer)
            self.scaler.update()
        self.optimizer.zero_grad()
        if self.cell.ema:
            self.ema.update_parameters(self.model)
        if self.scheduler is not None and not isinstance(self.scheduler, lr_scheduler.ReduceLROnPlateau):
            self.scheduler.step()

    def result(self, losses: list[str]) -> dict[str, Any]:
        """Everything that must be the same bits at the end."""
        state = digests({name: part.state_dict() for name, part in self.parts.items()})
        return {"losses": losses, "state": state, "rng": rng.capture()}


def run_bare(cell: Cell) -> dict[str, Any]:
    """The training as a script without the shim has it."""
    training = Training(cell)
    losses: list[str] = []
    for epoch in range(NUM_EPOCHS):
        training.begin(epoch)
        for taken, batch in enumerate(training.loader, 1):
            losses.append(training.step(batch, taken))
        training.over(losses)
    return training.result(losses)


def run_cut(cell: Cell, folder: Path, cuts: set[int]) -> dict[str, Any]:
    """The training through attach(), ended by SIGTERM after the batches whose numbers are in `cuts`."""
    left = set(cuts)
    for seed in itertools.count(1):
        # A process that takes up has no weight and no generator in common with the one before.
        training = Training(cell, seed=seed)
        shim = trainer_shim.attach(checkpoints=folder, **training.parts)
        try:
            losses = _loop(training, shim, left)
        except SystemExit:
            continue
        finally:
            shim.detach()
        assert not left
        return training.result(losses)
    raise AssertionError("count() does not end")


def _loop(training: Training, shim: trainer_shim.Shim, cuts: set[int]) -> list[str]:
    losses = shim.extra.setdefault("losses", [])
    taken = shim.extra.setdefault("taken", {"in_epoch": 0})
    is_asked = False
    for epoch in shim.epochs(NUM_EPOCHS):
        training.begin(epoch)
        for batch in shim.batches(training.loader, accumulate=training.cell.accumulate):
            taken["in_epoch"] += 1
            losses.append(training.step(batch, taken["in_epoch"]))
            if len(losses) in cuts:
                cuts.discard(len(losses))
                # A second signal before the boundary would end the process at once.
                if not is_asked:
                    signal.raise_signal(signal.SIGTERM)
                is_asked = True
        taken["in_epoch"] = 0
        training.over(losses)
    return losses
