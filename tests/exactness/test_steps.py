"""`shim.steps()`: one loop for the whole run, over one loader or several, taken up where it was left.

Covers: turns, epochs, ends, accumulation over the end of an epoch, what orders data by the epoch, several
loaders, reading ahead; counting alike in every start, whoever makes the boundaries.
Does not cover: one pass over each kind of loader (test_loader_edges.py and its neighbours).
"""

from __future__ import annotations

import random

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, RandomSampler

import trainer_shim
from tests.exactness.cutting import NUM_ITEMS, Numbers, once, whole_and_cut

#: Boundaries after which a run of forty is left: the first, the ends of epochs, the middle, the last but one.
CUTS = (1, 6, 17, 24, 39)


class ByEpoch(torch.utils.data.Sampler):
    """Orders its items by the epoch that it was told, as torch's DistributedSampler does."""

    def __init__(self):
        self.epoch = 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __len__(self):
        return NUM_ITEMS

    def __iter__(self):
        order = list(range(NUM_ITEMS))
        random.Random(self.epoch).shuffle(order)
        return iter(order)


class Stream(IterableDataset):
    """Numbers one after the other."""

    def __iter__(self):
        yield from (torch.tensor([float(one)]) for one in range(NUM_ITEMS))


class Ahead:
    """Reads one batch ahead, as who copies to a device does."""

    def __init__(self, loader):
        self.loader = loader

    def __iter__(self):
        ready = None
        for batch in self.loader:
            if ready is not None:
                yield ready
            ready = batch
        yield ready


def shuffled(size=4):
    return DataLoader(Numbers(), size, shuffle=True)


LOADERS = {
    "in order": lambda: [DataLoader(Numbers(), 4)],
    "shuffled": lambda: [shuffled()],
    "workers": lambda: [DataLoader(Numbers(), 4, shuffle=True, num_workers=1)],
    "own generator": lambda: [
        DataLoader(Numbers(), 4, sampler=RandomSampler(Numbers(), generator=torch.Generator().manual_seed(3)))
    ],
    "by epoch": lambda: [DataLoader(Numbers(), 4, sampler=ByEpoch())],
    "draws": lambda: [DataLoader(Numbers(lambda _: random.random()), 4, shuffle=True)],
    "a list": lambda: [[torch.tensor([float(one)]) for one in range(7)]],
    "two": lambda: [shuffled(), shuffled(5)],
    "three": lambda: [shuffled(5), DataLoader(Numbers(), 3), DataLoader(Numbers(), 7, sampler=ByEpoch())],
    "a stream": lambda: [DataLoader(Stream(), 4), shuffled(5)],
    "ahead": lambda: [Ahead(shuffled())],
}


def stepping(make, **ends):
    """A training over `steps()`."""

    def train(run):
        loaders = make()
        run.attach()
        for batch in run.shim.steps(*loaders, **ends):
            run.step(torch.cat(batch) if isinstance(batch, tuple) else batch)
        run.seen.batches.append([run.shim.step, run.shim.epoch])

    return train


@pytest.mark.parametrize("name", LOADERS)
def test_a_run_goes_on_exactly_with_every_kind_of_loader(tmp_path, name):
    """
    Left five times, at ends of epochs and between them.
    """
    whole, cut = whole_and_cut(tmp_path, stepping(LOADERS[name], max_steps=40), CUTS)

    assert 41 == len(whole["seen"])
    assert whole == cut


@pytest.mark.parametrize("name", ["shuffled", "two"])
def test_accumulation_goes_over_the_end_of_an_epoch(tmp_path, name):
    """
    Six batches an epoch, four a step: no rest is dropped or stepped on by itself.
    """
    train = stepping(LOADERS[name], max_steps=6, accumulate=4)
    whole, cut = whole_and_cut(tmp_path, train, [1, 3, 5])

    assert (25, [6, 3]) == (len(whole["seen"]), whole["seen"][-1])
    assert whole == cut


def test_an_end_in_epochs_is_the_first_loaders(tmp_path):
    """
    Five turns of five batches each, beside a loader of six.
    """
    train = stepping(lambda: [shuffled(5), shuffled()], max_epochs=5)
    whole, cut = whole_and_cut(tmp_path, train, [4, 5, 11])

    assert [25, 4] == whole["seen"][-1]
    assert whole == cut


@pytest.mark.parametrize(
    ("first", "then"), [({"max_steps": 15}, {"max_steps": 40}), ({"max_epochs": 2}, {"max_epochs": 5})]
)
def test_a_run_that_was_complete_goes_on_where_it_is_allowed_more(tmp_path, first, then):
    """
    As if it had been allowed that from the beginning; with the same end it has nothing left.
    """

    def train(ends):
        def inner(run):
            run.attach()
            for batch in run.shim.steps(shuffled(), **ends):
                run.step(batch)
            run.shim.checkpoint()

        return inner

    whole = once(tmp_path / "whole", train(then))
    once(tmp_path / "cut", train(first))
    again = once(tmp_path / "cut", train(first), seed=7)
    more = once(tmp_path / "cut", train(then), seed=9)

    assert whole["seen"][: len(again["seen"])] == again["seen"]
    assert whole == more


@pytest.fixture
def shim(tmp_path):
    made = trainer_shim.attach(checkpoints=tmp_path)
    yield made
    made.detach()


def test_its_length_is_known_where_its_end_is(shim):
    """
    In turns of the loop, for a progress bar.
    """
    assert 40 == len(shim.steps(shuffled(), max_steps=10, accumulate=4))


def test_what_makes_no_steps_is_refused(shim):
    """
    Before the loop begins, with the argument's name.
    """
    for wrong in ({"max_steps": 0}, {"max_epochs": -1}, {"accumulate": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            shim.steps(shuffled(), **wrong)
    with pytest.raises(ValueError, match="without a loader"):
        shim.steps(max_steps=3)
    with pytest.raises(TypeError):
        len(shim.steps(shuffled()))


def test_an_iterator_that_is_gone_through_is_told(shim):
    """
    Instead of an endless wait for its next turn.
    """
    with pytest.raises(RuntimeError, match="once only"):
        for _ in shim.steps(iter([1.0, 2.0]), max_steps=5):
            pass


def counted_by_hand(run):
    """A boundary of the script's own in each turn of a loop over `batches()`."""
    run.attach()
    for _ in run.shim.epochs(2):
        for batch in run.shim.batches(shuffled()):
            run.see(batch)
            run.shim.boundary()


def counted_in_critical(run):
    """A batch is fetched ahead where no boundary may be, then one by hand."""
    run.attach()

    def forever():
        while True:
            yield from run.shim.batches(shuffled())

    batches = forever()
    state = run.shim.state(ready=None)
    if state.ready is None:
        state.ready = next(batches)
    while run.shim.step < 30:
        batch = state.ready
        with run.shim.critical():
            state.ready = next(batches)
        run.see(batch)
        run.shim.boundary()


def fetched_ahead_into_extra(run):
    """The batch that comes next is a tensor in `shim.extra`."""
    run.attach()

    def forever():
        while True:
            yield from run.shim.batches(shuffled())

    batches = forever()
    if "ready" not in run.shim.extra:
        run.shim.extra["ready"] = next(batches)
    while run.shim.step < 30:
        batch = run.shim.extra["ready"]
        with run.shim.critical():
            run.shim.extra["ready"] = next(batches)
        run.see(batch)
        run.shim.boundary()


def left_by_break(run):
    """Each epoch is left in its middle, and the epoch is what the step says."""
    run.attach()
    for _ in run.shim.epochs(4):
        for batch in run.shim.batches(shuffled()):
            run.see(batch)
            if run.shim.step % 4 == 3:
                break


@pytest.mark.parametrize(
    ("train", "cuts"),
    [
        (counted_by_hand, [3, 5]),
        (counted_in_critical, [6, 12]),
        (fetched_ahead_into_extra, [6, 12]),
        (left_by_break, [3, 9]),
    ],
)
def test_steps_are_counted_alike_in_every_start(tmp_path, train, cuts):
    """
    `shim.step` decides about lengths and learning rates; it lost one at each restart.
    """

    def counting(run):
        train(run)
        run.seen.batches.append([run.shim.step])

    whole, cut = whole_and_cut(tmp_path, counting, cuts)

    assert whole == cut


def fetched_in_the_middle_of_a_step(run):
    """The next batch is asked for between forward and backward, as loops do that copy it meanwhile."""
    norm = torch.nn.BatchNorm1d(1)
    run.attach(norm=norm)

    def forever():
        while True:
            yield from run.shim.batches(shuffled())

    batches = forever()
    state = run.shim.state(ready=None, done=0)
    if state.ready is None:
        with run.shim.critical():
            state.ready = next(batches)
    while state.done < 20:
        batch = state.ready
        run.optimizer.zero_grad()
        loss = run.net(norm(batch.reshape(-1, 1))).square().mean()
        with run.shim.critical():
            state.ready = next(batches)
        loss.backward()
        run.optimizer.step()
        state.done += 1
        run.see(batch)
        if state.done in (4, 9):
            run.leave()
        run.shim.boundary()


def test_a_batch_that_is_fetched_in_the_middle_of_a_step_belongs_to_it(tmp_path):
    """
    2026-11-29: what the forward pass had done was undone there, and its graph broken.
    """
    whole = once(tmp_path / "whole", never_left(fetched_in_the_middle_of_a_step))
    folder = tmp_path / "cut"
    for seed in (1, 70):
        assert once(folder, fetched_in_the_middle_of_a_step, seed=seed) is None

    assert whole == once(folder, fetched_in_the_middle_of_a_step, seed=99)


def never_left(train):
    """The same training, which nobody asks to end."""

    def alone(run):
        run.leave = lambda: None
        train(run)

    return alone
