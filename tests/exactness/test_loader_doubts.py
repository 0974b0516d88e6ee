"""Where a pass cannot be exact, it says so: `exact` is False and a note gives the reason."""

import os

import numpy as np
import pytest
import torch
from loader_training import HARMLESS, Items, LazySampler, Stream, same, take
from torch.utils.data import DataLoader, Sampler
from torchdata.stateful_dataloader import StatefulDataLoader

from trainer_shim.loader import open_pass


class Drifting(Sampler):
    """Begins further on each time."""

    def __len__(self):
        return 22

    def __iter__(self):
        # From outside of this process: nobody looks for a number there.
        os.environ["PASSES"] = str(first := int(os.environ.get("PASSES", "0")) + 1)
        return iter(range(first, first + 20))


pytestmark = [pytest.mark.filterwarnings(f"ignore:{text}") for text in HARMLESS]


def test_workers_older_than_the_shim_are_said_to_be_unseen():
    """
    Persistent workers that were started by a bare loop have random numbers that the shim never saw.
    """
    loader = DataLoader(Items("numpy"), 4, num_workers=1, persistent_workers=True)
    list(loader)
    batches = open_pass(loader)

    assert 6 == len(list(batches))
    assert not batches.exact
    assert "older than the first pass" in batches.notes[0]


def test_batches_that_come_as_they_are_ready_are_said_to_be_inexact():
    """
    With in_order=False the timing of the workers decides, and nothing can repeat that.
    """
    batches = open_pass(DataLoader(Items(), 4, num_workers=1, in_order=False))

    assert not batches.exact
    assert "in_order=False" in batches.notes[0]


def test_persistent_workers_over_a_stream_are_doubted_after_their_first_pass():
    """
    What a stream draws behind its last batch never comes home, so a later pass cannot be put back exactly.
    """
    loader = DataLoader(Stream("python"), 4, num_workers=1, persistent_workers=True)
    batches = open_pass(loader)
    list(batches)

    assert batches.exact
    assert "start anew" in open_pass(loader).notes[0]


def test_a_sampler_that_does_not_repeat_itself_is_noticed():
    """
    A sampler that goes by something that cannot be seen is told at the resume.
    """
    batches = open_pass(DataLoader(Items(), 4, sampler=Drifting()))
    take(batches, 2)
    again = open_pass(DataLoader(Items(), 4, sampler=Drifting()), resume=batches.state_dict())

    assert not again.exact
    assert "other indices than before" in again.notes[0]


def test_another_batch_size_is_said_with_what_to_do():
    """
    The place counts in batches; the hint names both sizes and where to make the change.
    """
    batches = open_pass(DataLoader(Items(), 4, shuffle=True))
    take(batches, 2)
    again = open_pass(DataLoader(Items(), 3, shuffle=True), resume=batches.state_dict())

    assert not again.exact
    assert again.notes[0].startswith("batches had 4 items and have 3 now")
    assert "where an epoch begins" in again.notes[0]


def test_a_data_set_that_grew_is_said():
    """
    The rest of a shuffled epoch cannot be that of the smaller one.
    """

    class Grown(Items):
        def __len__(self):
            return 30

    batches = open_pass(DataLoader(Items(), 4, shuffle=True))
    take(batches, 2)
    again = open_pass(DataLoader(Grown(), 4, shuffle=True), resume=batches.state_dict())

    assert "the data set had 22 items and has 30 now" in again.notes[0]


@pytest.mark.parametrize("kind", [list, tuple, np.array, torch.tensor])
def test_items_in_another_order_are_noticed(kind):
    """
    A list of files in the order in which the disk gives them is another after each start.
    """

    class Files(Items):
        def __init__(self, numbers):
            super().__init__()
            self.files = kind(numbers)

    batches = open_pass(DataLoader(Files([3, 1, 2]), 4))
    take(batches, 2)
    again = open_pass(DataLoader(Files([3, 2, 1]), 4), resume=batches.state_dict())

    assert not again.exact
    assert "`dataset.files` holds other items than before the pause, or in another order" in again.notes[0]


def test_a_stream_of_torchdata_is_not_told_of_a_sampler():
    """
    It has none.
    """
    batches = open_pass(StatefulDataLoader(Stream("python"), 4, num_workers=1))

    assert batches.notes == []


def test_another_number_of_workers_is_noticed():
    """
    The order stays, but the random numbers of two workers cannot be dealt to three.
    """
    batches = open_pass(DataLoader(Items(), 4, shuffle=True, num_workers=1))
    take(batches, 2)
    state = batches.state_dict()
    expected = list(batches)
    again = open_pass(DataLoader(Items(), 4, shuffle=True), resume=state)

    assert same(expected, list(again))
    assert not again.exact
    assert "had 1 recorded workers and has 0" in again.notes[0]


def test_a_worker_with_other_generators_than_before_is_noticed():
    """
    A dataset that makes its generator late cannot be put back before its first batch; that is said.
    """
    first = open_pass(DataLoader(Items("held"), 4, num_workers=1))
    take(first, 1)
    state = first.state_dict()
    state["workers"][0]["held"] = []
    again = open_pass(DataLoader(Items("held"), 4, num_workers=1), resume=state)
    next(again)

    assert not again.exact
    assert "a worker carries other random generators" in again.notes[0]


def test_a_sampler_of_torchdata_that_draws_as_it_goes_is_doubted_with_workers():
    """
    torchdata asks such a sampler again for what the workers already had.
    """
    loader = StatefulDataLoader(Items(), batch_sampler=LazySampler(), num_workers=1)
    batches = open_pass(loader)

    assert not batches.exact
    assert "the sampler has no state_dict()" in batches.notes[0]


def test_torchdata_snapshots_of_several_batches_are_doubted():
    """
    Between two snapshots torchdata makes batches again, which moves the random numbers of its workers.
    """
    batches = open_pass(StatefulDataLoader(Items(), 4, num_workers=1, snapshot_every_n_steps=3))

    assert not batches.exact
    assert "snapshot_every_n_steps" in batches.notes[0]


def test_a_stream_that_shares_a_generator_with_the_training_is_doubted():
    """
    A shuffle buffer would hold other items when read again without the training in between.
    """
    batches = open_pass(DataLoader(Stream("torch"), 4))
    for _ in take(batches, 2):
        torch.rand(1)
    next(batches)

    assert not batches.exact
    assert "same generator (torch)" in batches.notes[0]
