"""Parts that do something odd when they are asked for their state, or keep something odd in it."""

from __future__ import annotations

import array
import collections
import warnings
from typing import NamedTuple

import numpy as np
import pytest
import torch
from cutting import Numbers, once, whole_and_cut
from torch.utils.data import DataLoader

import trainer_shim


class Pair(NamedTuple):
    one: int
    other: int


class Draws:
    """Draws when it is asked for its state."""

    def state_dict(self):
        return {"drawn": float(torch.rand(()) * 0)}

    def load_state_dict(self, state):
        pass


def trained_with(run, **parts):
    data = DataLoader(Numbers(), 4, shuffle=True)
    run.shim = trainer_shim.attach(checkpoints=run._folder, net=run.net, seen=run.seen, **parts)
    for _ in run.shim.epochs(2):
        for batch in run.shim.batches(data):
            run.step(batch)


def test_a_part_that_draws_when_it_is_asked_changes_no_run(tmp_path):
    """
    A run that is saved goes on with the same random numbers as one that is not.
    """
    whole, cut = whole_and_cut(
        tmp_path, lambda run: trained_with(run, optimizer=run.optimizer, draws=Draws()), [3, 8]
    )

    assert whole == cut


@pytest.mark.parametrize(
    "value",
    [Pair(1, 2), range(3), array.array("d", [1.0]), np.arange(3.0), collections.deque([1], maxlen=3), "text"],
)
def test_odd_values_in_the_state_of_an_optimizer_come_back(tmp_path, value):
    """
    torch takes apart whatever can be iterated; they are put back as they were.
    """
    kept = []

    class Keeping(torch.optim.SGD):
        def step(self, closure=None):
            kept.append([type(state.get("odd")) for state in self.state.values()])
            super().step(closure)
            for parameter in self.param_groups[0]["params"]:
                self.state[parameter]["odd"] = value

    def train(run):
        run.optimizer = Keeping(run.net.parameters(), lr=1e-4, momentum=0.9)
        run.optimizer.param_groups[0]["live"] = Pair(0, 0)
        trained_with(run, optimizer=run.optimizer)

    assert once(tmp_path, train, leave_at=3) is None
    kept.clear()
    once(tmp_path, train, seed=5)

    assert {type(value)} == set(kept[0])


class Lookahead(torch.optim.Optimizer):
    """Wraps an optimizer, and saves in a form of its own."""

    def __init__(self, base):
        self.base, self.param_groups, self.defaults = base, base.param_groups, base.defaults
        self.state, self.num_steps = collections.defaultdict(dict), 0

    def step(self, closure=None):
        self.base.step(closure)
        self.num_steps += 1

    def zero_grad(self):
        self.base.zero_grad()

    def state_dict(self):
        return {"base": self.base.state_dict(), "num_steps": self.num_steps}

    def load_state_dict(self, state):
        self.base.load_state_dict(state["base"])
        self.param_groups, self.num_steps = self.base.param_groups, state["num_steps"]


def test_a_wrapper_of_an_optimizer_goes_on(tmp_path):
    """
    It knows itself what its state is.
    """

    def train(run):
        run.optimizer = Lookahead(run.optimizer)
        trained_with(run, optimizer=run.optimizer)

    whole, cut = whole_and_cut(tmp_path, train, [3, 8])

    assert whole == cut


def test_a_model_that_changes_its_memory_format_after_attach_goes_on(tmp_path):
    """
    The moments of a fused optimizer lie as its parameters do when the loop begins.
    """

    def train(run):
        run.net = torch.nn.Conv2d(3, 8, 3)
        run.optimizer = torch.optim.AdamW(run.net.parameters(), lr=1e-2, fused=True)
        images = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(2))
        data = DataLoader(images, 4, shuffle=True)
        shim = run.attach()
        run.net.to(memory_format=torch.channels_last)
        for _ in shim.epochs(2):
            for batch in shim.batches(data):
                run.optimizer.zero_grad()
                run.net(batch).square().mean().backward()
                run.optimizer.step()
                run.see(batch)

    whole, cut = whole_and_cut(tmp_path, train, [3, 6])

    assert whole == cut


def test_a_scheduler_of_torch_warns_of_no_step_that_was_made_before_the_pause(tmp_path):
    """
    Its first step may come before the optimizer's in a run that was left at the end of an epoch.
    """

    def train(run):
        data = DataLoader(Numbers(), 4, shuffle=True)
        scheduler = torch.optim.lr_scheduler.StepLR(run.optimizer, 1)
        parts = {"net": run.net, "optimizer": run.optimizer, "scheduler": scheduler, "seen": run.seen}
        run.shim = trainer_shim.attach(checkpoints=run._folder, **parts)
        for _ in run.shim.epochs(2):
            for batch in run.shim.batches(data):
                run.step(batch)
            scheduler.step()

    assert once(tmp_path, train, leave_at=6) is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")

        assert once(tmp_path, train, seed=3) is not None
