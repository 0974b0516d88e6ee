"""What the data's code reaches by global names goes on: objects of the script's classes, other modules.

Covers: augmentations that count or remember, records in lists, variables of helper modules; in workers too.
Does not cover: plain values in variables of the same module (test_state_of_the_data.py).
"""

# ruff: noqa: PLW0603, PLW0108 - variables of the module that are made anew are what is tested.

from __future__ import annotations

from dataclasses import dataclass, field
from types import ModuleType

import pytest
import torch
from cutting import Numbers, epochs_over, once, whole_and_cut
from loader_training import HARMLESS
from torch.utils.data import DataLoader

pytestmark = [pytest.mark.filterwarnings(f"ignore:{text}") for text in HARMLESS]


@dataclass
class Counts:
    """An augmentation that counts."""

    asked: int = 0

    def __call__(self, number: torch.Tensor) -> torch.Tensor:
        self.asked += 1
        return number * self.asked


@dataclass
class Mixes:
    """Mixes each item with the one before."""

    last: list[torch.Tensor] = field(default_factory=list)

    def __call__(self, number: torch.Tensor) -> torch.Tensor:
        before, self.last = self.last, [number]
        return sum([number, *before])


def counting():
    """A function with a counter in its closure."""
    asked = 0

    def count(number):
        nonlocal asked
        asked += 1
        return number * asked

    return count


class Trainer:
    """The training itself, which the data's code names too."""

    def __init__(self, net):
        self.net, self.level = net, 0


#: A fresh process makes these anew (`fresh`).
augment = count = records = trainer = None
helper = ModuleType("helper")
helper.__file__ = __file__


def fresh():
    global augment, count, records
    augment, count = (Counts(), Mixes()), counting()
    records = [Counts() for _ in range(3)]
    helper.total = 0


def by_module(number):
    helper.total += 1
    return number * helper.total


USES = {
    "object": lambda number: augment[0](number),
    "buffer": lambda number: augment[1](number),
    "closure": lambda number: count(number),
    "records": lambda number: records[int(number) % 3](number),
    "module": by_module,
}


class Augmented(Numbers):
    def __init__(self, use):
        super().__init__()
        self.use = use

    def __getitem__(self, index):
        return self.use(super().__getitem__(index))


@pytest.mark.parametrize(("name", "workers"), [*((name, 0) for name in USES), ("object", 2), ("module", 2)])
def test_what_the_code_of_the_data_names_goes_on(tmp_path, capsys, name, workers):
    """
    The object is no part of the loader; its code only calls it.
    """

    def make(_run):
        fresh()
        data = DataLoader(Augmented(USES[name]), 4, shuffle=True, num_workers=workers)
        return lambda: data

    whole, cut = whole_and_cut(tmp_path, epochs_over(make), (3, 8))

    assert whole == cut
    assert "neither" not in capsys.readouterr().err


def test_the_training_that_the_code_of_the_data_names_stays_as_the_script_sets_it(tmp_path):
    """
    What holds a module is no helper of the data: the script may move it as it likes.
    """

    seen = []

    def train(run):
        global trainer
        trainer = Trainer(run.net)
        data = DataLoader(Augmented(lambda number: number + 0 * trainer.level), 4)
        run.attach()
        for batch in run.shim.batches(data):
            seen.append(trainer.level)
            trainer.level = 10
            run.step(batch)

    assert once(tmp_path, train, 3) is None
    assert once(tmp_path, train) is not None
    # Both starts begin with what the script made.
    assert seen == [0, 10, 10, 0, 10, 10]
