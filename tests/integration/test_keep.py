"""What a training run keeps: by the numbers that it reports, and what it says of that in the manifest."""

from __future__ import annotations

import math

import pytest
import torch

import trainer_shim
from trainer_shim import Keep
from trainer_shim.checkpoint.reader import load, visible
from trainer_shim.checkpoint.survey import keep_of, look, metrics_of


class Part:
    def state_dict(self):
        return {"weight": torch.ones(3)}

    def load_state_dict(self, state):
        pass


@pytest.fixture
def train(tmp_path):
    """Train one step for each value, reported as val_loss, with a checkpoint after each."""

    def run(keep, values):
        shim = trainer_shim.attach(checkpoints=tmp_path, keep=keep, model=Part())
        try:
            for value in values:
                shim.report(**({} if value is None else {"val_loss": value}))
                shim.boundary()
                shim.checkpoint()
        finally:
            shim.detach()
        return [name.step for name in visible(tmp_path)]

    return run


def test_the_best_checkpoints_outlive_the_newer_ones(train):
    """
    Three best by the loss that the script reports, wherever they were; a tensor is a number too.
    """
    keep = Keep(last=1, best=3, metric="val_loss")
    steps = train(keep, [0.9, torch.tensor(0.3), 0.8, math.nan, 0.2, 0.5, 0.7, math.inf, 0.6])

    assert [9, 6, 5, 2] == steps


def test_a_number_that_was_reported_once_belongs_to_the_save_after_it(train):
    """
    Later checkpoints that still carry the number of the last evaluation are not taken for the best.
    """
    assert [8, 5, 1] == train(
        Keep(last=1, best=2, metric="val_loss"), [0.5, None, None, None, 0.4, *[None] * 3]
    )


def test_after_a_restart_a_run_keeps_what_it_kept(train):
    """
    The numbers stand in the manifests, not in the process that reported them.
    """
    keep = Keep(last=1, best=1, metric="accuracy", mode="max")
    train(Keep(last=1, best=1, metric="val_loss"), [0.5, 0.1, 0.4])

    assert [4, 2] == train(Keep(last=1, best=1, metric="val_loss"), [None])
    assert [5] == train(keep, [None])


def test_the_manifest_says_what_was_measured_and_what_is_kept(train, tmp_path):
    """
    For `list`, `prune` and a person; a loss that went wrong is told, not hidden.
    """
    keep = Keep(last=2, every_h=12)
    train(keep, [0.5, math.nan])
    facts = {name.step: load(tmp_path / str(name)).manifest.facts for name in visible(tmp_path)}

    assert [{"val_loss": 0.5}, {"val_loss": "nan"}] == [facts[1]["metrics"], facts[2]["metrics"]]
    assert [{"val_loss": 0.5}, {}] == [metrics_of(facts[1]), metrics_of(facts[2])]
    assert keep == keep_of(facts[2])
    assert [2, 1] == [seen.known.name.step for seen in look(tmp_path)]


@pytest.mark.parametrize(
    "facts", [{}, {"keep": 3}, {"keep": {"last": 0}}, {"metrics": [1]}, {"metrics": {"a": True}}]
)
def test_facts_of_another_hand_are_no_facts(facts):
    """
    A manifest may say anything there; it is no reason to fail, or to remove something.
    """
    assert (None, {}) == (keep_of(facts), metrics_of(facts))
    assert {} == metrics_of({"metrics": {"huge": 10**400}})
