"""Small trainings over real DataLoaders, and three ways to run them: bare, through a Pass, and cut.

Used by the tests beside it, and run as a program for the one that needs a really fresh process.
"""
# ruff: noqa: NPY002 - the global generator is what is tested.

from __future__ import annotations

import copy
import hashlib
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    Sampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
    get_worker_info,
)
from torchdata.stateful_dataloader import StatefulDataLoader

from trainer_shim import rng
from trainer_shim.loader import Pass, open_pass

#: Warnings of the libraries that say nothing about the shim: forking with threads, a small machine, and
#: torchdata calling a function that torch has since retired.
HARMLESS = [
    ".*fork",
    "This DataLoader will create",
    "'set_vital' is deprecated",
    "Guards may run slower on Python 3.13.0",
]
NUM_ITEMS = 22
BATCH = 4
NUM_EPOCHS = 2


class Items(Dataset):
    """22 rows of three numbers; `noise` says whose random numbers are added to each."""

    def __init__(self, noise: str = "none") -> None:
        self.noise = noise
        self.rng = np.random.default_rng(5) if noise == "held" else None
        self.loads = 0

    def __len__(self) -> int:
        return NUM_ITEMS

    def __getitem__(self, index: int) -> torch.Tensor:
        self.loads += 1
        return torch.tensor([index, index % 3, 1.0]) / NUM_ITEMS + self.draw()

    def draw(self) -> float:
        if self.rng is not None:
            return float(self.rng.random())
        info = get_worker_info()
        drawn = {
            "none": lambda: 0.0,
            "python": lambda: random.gauss(0, 1),
            "numpy": np.random.standard_normal,
            "torch": lambda: torch.rand(()).item(),
            "worker": lambda: (info.seed % 97) / 97 + info.id + random.random(),
        }
        return float(drawn[self.noise]())


class Stream(IterableDataset):
    """The same rows as a stream, split among the workers."""

    def __init__(self, noise: str = "none") -> None:
        self.items = Items(noise)

    def __iter__(self) -> Any:
        info = get_worker_info()
        first, step = (info.id, info.num_workers) if info else (0, 1)
        return (self.items[index] for index in range(first, NUM_ITEMS, step))


class CountedItems(Items):
    """Items that count how often they were read, and say so in their own state."""

    def state_dict(self) -> dict[str, Any]:
        return {"loads": self.loads}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.loads = state["loads"]

    def __getitem__(self, index: int) -> torch.Tensor:
        return super().__getitem__(index) + self.loads / 100


class LazySampler(Sampler):
    """Draws each batch when it is asked for, from NumPy's global generator, as many samplers by class do."""

    def __len__(self) -> int:
        return 6

    def __iter__(self) -> Any:
        for _ in range(6):
            yield np.random.randint(0, NUM_ITEMS, BATCH).tolist()


class SeededSampler(Sampler):
    """Carries a generator of its own through all epochs."""

    def __init__(self) -> None:
        self.own = random.Random(3)

    def __len__(self) -> int:
        return NUM_ITEMS

    def __iter__(self) -> Any:
        order = list(range(NUM_ITEMS))
        self.own.shuffle(order)
        return iter(order)


def take(batches: Any, count: int) -> list[Any]:
    """The next `count` batches."""
    return [next(batches) for _ in range(count)]


def same(expected: list[torch.Tensor], actual: list[torch.Tensor]) -> bool:
    """Whether two lists of batches are the same bits."""
    return len(expected) == len(actual) and all(map(torch.equal, expected, actual))


def seed_worker(worker: int) -> None:
    """What the PyTorch notes on reproducibility recommend."""
    seed = torch.initial_seed() % 2**32
    np.random.seed(seed)
    random.seed(seed + worker)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(11)


def shared_generator(workers: int) -> DataLoader:
    shared = generator()
    items = Items("torch")
    sampler = RandomSampler(items, replacement=True, num_samples=40, generator=shared)
    return DataLoader(items, BATCH, sampler=sampler, num_workers=workers, generator=shared)


def distributed(workers: int) -> DataLoader:
    items = Items("python")
    return DataLoader(items, 2, sampler=DistributedSampler(items, 2, 1, seed=4), num_workers=workers)


def weighted(workers: int) -> DataLoader:
    return DataLoader(
        Items("torch"), BATCH, sampler=WeightedRandomSampler(range(1, 23), NUM_ITEMS), num_workers=workers
    )


def subset(workers: int) -> DataLoader:
    batches = BatchSampler(SubsetRandomSampler(range(3, 20)), 3, drop_last=True)
    return DataLoader(Items("numpy"), batch_sampler=batches, num_workers=workers)


def plain(noise: str = "none", **options: Any) -> Callable[[int], DataLoader]:
    def make(workers: int) -> DataLoader:
        keeps = {"persistent_workers": True} if options.get("persistent_workers") and workers else {}
        rest = {name: value for name, value in options.items() if name != "persistent_workers"}
        return DataLoader(Items(noise), **{"batch_size": BATCH, **rest}, num_workers=workers, **keeps)

    return make


def stateful(
    noise: str, items: Callable[[str], Any] = Items, **options: Any
) -> Callable[[int], StatefulDataLoader]:
    return lambda workers: StatefulDataLoader(items(noise), BATCH, num_workers=workers, **options)


PERSISTENT = {"persistent_workers": True, "shuffle": True}
#: Loaders by name; each takes the number of workers.
SCENES: dict[str, Callable[[int], Any]] = {
    "in order": plain(),
    "shuffled": plain(shuffle=True),
    "shuffled, python": plain("python", shuffle=True),
    "shuffled, numpy": plain("numpy", shuffle=True),
    "shuffled, torch": plain("torch", shuffle=True),
    "shuffled, generator of the dataset": plain("held", shuffle=True),
    "drop_last, own generator": lambda workers: DataLoader(
        Items("torch"), BATCH, shuffle=True, drop_last=True, generator=generator(), num_workers=workers
    ),
    "no batches": plain("python", batch_size=None, shuffle=True),
    "user's worker seeds": plain("numpy", shuffle=True, worker_init_fn=seed_worker),
    "persistent": plain("numpy", **PERSISTENT),
    "weighted": weighted,
    "replacement, shared generator": shared_generator,
    "batch sampler of a subset": subset,
    "distributed": distributed,
    "sampler that draws as it goes": lambda workers: DataLoader(
        Items("numpy"), batch_sampler=LazySampler(), num_workers=workers
    ),
    "sampler with its own generator": lambda workers: DataLoader(
        Items("python"), BATCH, sampler=SeededSampler(), num_workers=workers
    ),
    "stream": lambda workers: DataLoader(Stream("python"), BATCH, num_workers=workers),
    "torchdata": stateful("numpy", shuffle=True),
    "torchdata, stateful dataset": stateful("python", CountedItems, shuffle=True),
    "torchdata, weighted": lambda workers: StatefulDataLoader(
        Items("torch"), BATCH, sampler=WeightedRandomSampler(range(1, 23), NUM_ITEMS), num_workers=workers
    ),
    "torchdata, stream": stateful("torch", Stream),
}
#: Loaders that are exact without workers only.
SINGLE_SCENES: dict[str, Callable[[int], Any]] = {
    "torchdata, batches drawn as they go": lambda workers: StatefulDataLoader(
        Items("torch"), batch_sampler=LazySampler(), num_workers=workers
    ),
}
#: Loaders that make no sense without workers.
WORKER_SCENES: dict[str, Callable[[int], Any]] = {
    "worker's own id and seed": plain("worker", shuffle=True),
    "persistent, worker's own id and seed": plain("worker", **PERSISTENT),
    "torchdata, persistent": stateful("numpy", **PERSISTENT),
}


class Training:
    """A tiny net with dropout over one scene. `seed` is what the script would seed with at its start."""

    def __init__(self, scene: str, workers: int, *, seed: int = 1, accumulate: int = 1) -> None:
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        self.loader = (SCENES | SINGLE_SCENES | WORKER_SCENES)[scene](workers)
        self.net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Dropout(0.5), torch.nn.Linear(4, 1))
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.05, momentum=0.9)
        self.accumulate = accumulate
        self.batches: list[str] = []

    def begin(self, epoch: int) -> None:
        if isinstance(getattr(self.loader, "sampler", None), DistributedSampler):
            self.loader.sampler.set_epoch(epoch)

    def step(self, batch: torch.Tensor, taken: int) -> None:
        """Train on one batch; the loop draws from all three generators, as mixup and the like do."""
        self.batches.append(hashlib.sha256(batch.numpy().tobytes()).hexdigest()[:8])
        mixed = batch * float(np.random.beta(2, 2)) + random.random()
        self.net(mixed).square().mean().backward()
        if taken % self.accumulate == 0:
            self.optimizer.step()
            self.optimizer.zero_grad()

    def result(self) -> dict[str, Any]:
        """Everything that must be the same bits at the end."""
        weights = b"".join(one.detach().numpy().tobytes() for one in self.net.parameters())
        return {"batches": self.batches, "weights": weights.hex(), "rng": rng.capture()}


def run_bare(scene: str, workers: int, *, accumulate: int = 1) -> dict[str, Any]:
    """The training as a script without the shim runs it."""
    training = Training(scene, workers, accumulate=accumulate)
    for epoch in range(NUM_EPOCHS):
        training.begin(epoch)
        for taken, batch in enumerate(training.loader, 1):
            training.step(batch, taken)
    return training.result()


def run(
    scene: str, workers: int, cuts: set[tuple[int, int | str]] = frozenset(), *, accumulate: int = 1
) -> dict[str, Any]:
    """The training through a Pass, thrown away and taken up again at each cut (epoch, batches or "end")."""
    training = Training(scene, workers, accumulate=accumulate)
    left = set(cuts)
    for epoch in range(NUM_EPOCHS):
        training.begin(epoch)
        batches = open_pass(training.loader)
        training, _ = go_on(
            training, batches, epoch, left, lambda: Training(scene, workers, seed=77, accumulate=accumulate)
        )

    assert not left
    return training.result()


def go_on(
    training: Training, batches: Pass, epoch: int, cuts: set[Any], again: Callable[[], Training]
) -> tuple[Training, Pass]:
    """Train to the end of the pass, with the cuts that lie in it."""
    while True:
        training, batches = cut((epoch, batches.taken), training, batches, cuts, again)
        batch = next(batches, None)
        if batch is None:
            return cut((epoch, "end"), training, batches, cuts, again)
        training.step(batch, batches.taken)


def cut(
    where: tuple[int, Any], training: Training, batches: Pass, cuts: set[Any], again: Callable[[], Training]
) -> tuple[Training, Pass]:
    if where not in cuts:
        return training, batches
    cuts.discard(where)
    saved = save(training, batches, where[0])
    del training, batches
    return load(again(), saved)


def save(training: Training, batches: Pass, epoch: int) -> bytes:
    """A checkpoint as bytes: what MessagePack and a list of tensors can hold, and nothing else."""
    tree = {
        "net": training.net.state_dict(),
        "optimizer": training.optimizer.state_dict(),
        "batches": training.batches,
        "rng": rng.capture(),
        "pass": batches.state_dict(),
        "epoch": epoch,
    }
    return msgspec.msgpack.encode(copy.deepcopy(tree), enc_hook=_as_list)


def load(training: Training, saved: bytes) -> tuple[Training, Pass]:
    tree = _with_tensors(msgspec.msgpack.decode(saved))
    training.net.load_state_dict(tree["net"])
    training.optimizer.load_state_dict(tree["optimizer"])
    training.batches = tree["batches"]
    training.begin(tree["epoch"])
    batches = open_pass(training.loader, resume=tree["pass"])
    rng.restore(tree["rng"])
    return training, batches


def _as_list(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return {"tensor": value.tolist(), "dtype": str(value.dtype).removeprefix("torch.")}
    raise TypeError(f"a checkpoint cannot hold a {type(value)}")


def _with_tensors(tree: Any) -> Any:
    if isinstance(tree, dict) and set(tree) == {"tensor", "dtype"}:
        return torch.tensor(tree["tensor"], dtype=getattr(torch, tree["dtype"]))
    if isinstance(tree, dict):
        return {name: _with_tensors(value) for name, value in tree.items()}
    return [_with_tensors(value) for value in tree] if isinstance(tree, list) else tree


def finish(scene: str, workers: int, saved: bytes) -> dict[str, Any]:
    """The rest of a training, from a checkpoint."""
    training, batches = load(Training(scene, workers, seed=77), saved)
    epoch = msgspec.msgpack.decode(saved)["epoch"]
    go_on(training, batches, epoch, set(), lambda: training)
    for later in range(epoch + 1, NUM_EPOCHS):
        training.begin(later)
        go_on(training, open_pass(training.loader), later, set(), lambda: training)
    return training.result()


if __name__ == "__main__":
    scene, workers, checkpoint, answer = sys.argv[1:]
    done = finish(scene, int(workers), Path(checkpoint).read_bytes())
    Path(answer).write_bytes(msgspec.msgpack.encode(done))
