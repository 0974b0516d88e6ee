"""A loop that belongs to a library: the loader's place is kept, and the boundaries are somebody else's.

Covers: exits between steps, at the end of a pass, with steps of several batches, an evaluation inside a pass;
what stands for the loader.
Does not cover: ways of loading (test_loader_scenes.py), passes whose turns are boundaries (test_pauses.py).
"""

from __future__ import annotations

import copy

import pytest
import torch
from cutting import NUM_ITEMS, Numbers, once, whole_and_cut
from torch.utils.data import DataLoader


class Trainer:
    """As a library has it: it knows a loader, and whom to call behind a step."""

    def __init__(self, on_batch, on_step, every=1, evaluate=None):
        self.on_batch, self.on_step, self.every, self.evaluate = on_batch, on_step, every, evaluate

    def fit(self, loader, num_epochs=3):
        for _ in range(num_epochs):
            for number, batch in enumerate(loader):
                self.on_batch(batch)
                if number % self.every == self.every - 1:
                    self.on_step()
                if self.evaluate is not None:
                    list(self.evaluate)


def loop(every=1, num_workers=0, *, evaluates=False):
    def train(run):
        loader = DataLoader(Numbers(), batch_size=4, shuffle=True, num_workers=num_workers)
        shim = run.attach()
        valid = shim.follow(range(6)) if evaluates else None
        Trainer(run.step, shim.boundary, every, valid).fit(shim.follow(loader))

    return train


@pytest.mark.parametrize(
    ("train", "steps"),
    [
        (loop(), (2, 6, 7, 15)),
        (loop(num_workers=2), (8,)),
        (loop(every=2), (1, 4)),
        (loop(evaluates=True), (3, 9)),
    ],
)
def test_a_library_goes_on_where_it_was(tmp_path, train, steps):
    """
    The run is ended at boundaries that the library's callback makes, also at the last batch of a pass.
    """
    whole, cut = whole_and_cut(tmp_path, train, steps)

    assert cut == whole
    assert len(whole["seen"]) == 3 * NUM_ITEMS / 4


def test_a_pass_that_was_left_is_over(tmp_path):
    """
    The library stops in the middle of an epoch and begins the next.
    """

    def train(run):
        loader = DataLoader(Numbers(), batch_size=4, shuffle=True)
        followed = run.attach().follow(loader)
        for _ in range(3):
            for batch in followed:
                run.step(batch)
                run.shim.boundary()
                if run.shim.step % 3 == 0:
                    break

    whole, cut = whole_and_cut(tmp_path, train, (2, 4))

    assert cut == whole
    assert len(whole["seen"]) == 3 * 3


def test_it_stands_for_the_loader(tmp_path):
    """
    Libraries ask a loader for its length, its data and its batch size, and copy what holds one.
    """
    found = []

    def train(run):
        loader = DataLoader(Numbers(), batch_size=4)
        followed = run.attach().follow(loader)
        found.extend([len(followed), followed.dataset is loader.dataset, followed.batch_size])
        with pytest.raises(AttributeError):
            _ = followed.no_such_thing
        found.append(isinstance(copy.copy(followed), type(followed)))

    once(tmp_path, train)

    assert [NUM_ITEMS // 4, True, 4, True] == found


def test_nothing_is_said(tmp_path, capfd):
    """
    Neither about the loader, which the shim has, nor about a boundary by hand.
    """
    torch.manual_seed(0)

    once(tmp_path, loop())

    assert capfd.readouterr().err == ""
