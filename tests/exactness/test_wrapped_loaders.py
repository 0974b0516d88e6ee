"""Loaders behind something else come back exactly: `zip`, `enumerate`, generators, objects, endless streams.

Covers: what is handed to `batches()` in place of a loader, with and without workers, and what is said
where it cannot be exact.
Does not cover: loaders that are handed over as they are (test_pauses.py).
"""

from __future__ import annotations

import itertools

import pytest
import torch
from cutting import Numbers, epochs_over, once, whole_and_cut
from loader_training import HARMLESS
from torch.utils.data import DataLoader

pytestmark = [pytest.mark.filterwarnings(f"ignore:{text}") for text in HARMLESS]


def noisy(_index):
    return torch.rand(()).item()


def loader(workers=0, generator=None, draw=noisy, **options):
    return DataLoader(Numbers(draw), 4, shuffle=True, num_workers=workers, generator=generator, **options)


class ToDevice:
    """An object with the loader inside, as many libraries wrap it."""

    def __init__(self, inner):
        self.inner = inner

    def __iter__(self):
        for batch in self.inner:
            yield batch + 0


def endless(data):
    while True:
        yield from data


def pairs(data):
    """Two batches at a time: an item of it is two of the loader's."""
    while True:
        batches = iter(data)
        for first in batches:
            yield first + next(batches)


def begun_in_another_order(data, other):
    """The iterator that stands second in the zip draws first."""
    second, first = iter(data), iter(other)
    return zip(first, second, strict=True)


WRAPPED = {
    "zip of iterators": lambda data, other: lambda: begun_in_another_order(data, other),
    "zip": lambda data, other: lambda: zip(data, other, strict=True),
    "enumerate": lambda data, _: lambda: enumerate(data),
    "islice": lambda data, _: lambda: itertools.islice(data, 5),
    "iter": lambda data, _: lambda: iter(data),
    "generator expression": lambda data, _: lambda: (batch * 2 for batch in data),
    "map": lambda data, _: lambda: map(torch.neg, data),
    "object": lambda data, _: lambda: ToDevice(data),
    "chain": lambda data, other: lambda: itertools.chain(data, other),
    "enumerate of zip": lambda data, other: lambda: enumerate(zip(data, other, strict=True)),
    "zip of a cycle": lambda data, other: lambda: zip(data, itertools.cycle(other), strict=False),
    "zip of objects": lambda data, other: lambda: zip(ToDevice(data), enumerate(other), strict=True),
}
MANY = {("enumerate", 2), ("iter", 2), ("generator expression", 2), ("object", 2)}


@pytest.mark.parametrize("steps", [(3,), (6, 9)])
@pytest.mark.parametrize(("name", "workers"), [*((name, 0) for name in WRAPPED), *sorted(MANY)])
def test_a_loader_behind_something_else_goes_on_with_the_same_batches(tmp_path, name, workers, steps):
    """
    Also where its order and the seeds of its workers were drawn before `batches()` was called.
    """

    def make(_run):
        own = torch.Generator().manual_seed(7)
        return WRAPPED[name](loader(workers, own), loader(workers))

    whole, cut = whole_and_cut(tmp_path, epochs_over(make), steps)

    assert whole == cut


@pytest.mark.parametrize("name", ["zip", "enumerate", "object"])
def test_nothing_is_said_of_a_wrapper_that_is_exact(tmp_path, capsys, name):
    """
    A warning that is wrong teaches people not to read warnings.
    """
    once(tmp_path, epochs_over(lambda _run: WRAPPED[name](loader(), loader())))

    assert "" == capsys.readouterr().err


@pytest.mark.parametrize("name", ["zip", "enumerate", "object"])
def test_nor_is_it_said_at_the_restart(tmp_path, capsys, name):
    """
    Items and training draw from one generator; no batch is made of another one, so that is exact.
    """
    whole_and_cut(tmp_path, epochs_over(lambda _run: WRAPPED[name](loader(), loader())), (3,))

    assert "same generator" not in capsys.readouterr().err


def one_stream(cut_it):
    """Four epochs of four batches each of one endless stream; a pass of the loader has six."""

    def train(run, data=None):
        stream = endless(data or loader(draw=None))
        run.attach()
        for _ in run.shim.epochs(4):
            cut_it(run, stream)

    return train


def by_islice(run, stream):
    for batch in run.shim.batches(itertools.islice(stream, 4)):
        run.step(batch)


def by_enumerated_islice(run, stream):
    for _, batch in run.shim.batches(enumerate(itertools.islice(stream, 4))):
        run.step(batch)


def by_zip(run, stream):
    for batch in run.shim.batches(zip(range(4), stream, strict=False)):
        run.step(batch[1])


@pytest.mark.parametrize("steps", [(2,), (8,), (10,), (7, 13)])
@pytest.mark.parametrize("cut_it", [by_islice, by_enumerated_islice])
def test_a_stream_goes_on_from_pass_to_pass(tmp_path, cut_it, steps):
    """
    A fresh process brings a fresh stream, which is led to where the old one was, in the middle of an epoch
    and between two.
    """
    whole, cut = whole_and_cut(tmp_path, one_stream(cut_it), steps)

    assert whole == cut


def test_a_stream_is_not_read_from_its_beginning(tmp_path):
    """
    A run of weeks over an endless stream does not read weeks of data at its resume: one batch stands in.
    """
    read = []

    def train(run):
        data = DataLoader(Numbers(lambda index: read.append(index) or 0.0), 4, shuffle=True)
        run.attach()
        for batch in run.shim.batches(itertools.islice(endless(data), 40)):
            run.step(batch)

    assert once(tmp_path, train, leave_at=33) is None
    read.clear()
    once(tmp_path, train, seed=9)

    # 7 batches are left, 3 of the present turn are read again, and one stands in for 30.
    assert 4 * (7 + 3 + 1) == len(read)


@pytest.mark.parametrize("step", [4, 9, 14])
def test_one_pass_over_a_cycle_is_exact(tmp_path, step):
    """
    `itertools.cycle` keeps the batches of its first turn.
    """

    def train(run):
        data = loader(draw=None)
        run.attach()
        for batch in run.shim.batches(itertools.cycle(data)):
            run.step(batch)
            if run.shim.step == 15:
                break

    whole, cut = whole_and_cut(tmp_path, train, [step])

    assert whole == cut


def test_a_stream_that_gives_other_than_it_takes_is_told(tmp_path, capsys):
    """
    While it can still be mended: in the first pass in which its loader begins anew.
    """

    def train(run):
        data = loader(draw=None)
        run.attach()
        for batch in run.shim.batches(itertools.islice(pairs(data), 8)):
            run.step(batch)

    once(tmp_path, train)

    assert "does not give one item for each of its loader's" in capsys.readouterr().err


def test_an_iterator_from_before_attach_is_told(tmp_path, capsys):
    """
    Nobody saw what it drew when it was made.
    """

    def train(run):
        batches = iter(loader())
        run.attach()
        for batch in run.shim.batches(batches):
            run.step(batch)

    once(tmp_path, train)

    assert "made before attach()" in capsys.readouterr().err


def beside_the_shim(run):
    data = loader()
    batches = iter(data)
    run.attach()
    while run.shim.step < 4:
        run.step(next(batches))
        run.shim.boundary()


def with_an_endless_stream(run):
    stream = endless(loader())
    run.attach()
    while run.shim.step < 4:
        run.step(next(stream))
        run.shim.boundary()


def as_a_second_loader(run):
    data, other = loader(), loader()
    run.attach()
    more = iter(other)
    for batch in run.shim.batches(data):
        run.step([batch, next(more)])


@pytest.mark.parametrize("train", [with_an_endless_stream, as_a_second_loader])
def test_a_loader_that_is_iterated_beside_the_shim_is_told(tmp_path, capsys, train):
    """
    Its data would begin anew after a restart; the line to write stands there.
    """
    once(tmp_path, train)

    assert "a data loader is iterated outside of shim.batches()" in capsys.readouterr().err


def test_an_evaluation_by_hand_is_not_told(tmp_path, capsys):
    """
    A loop over another loader that is through before the next boundary keeps nothing.
    """

    def train(run):
        data, valid = loader(), loader()
        run.attach()
        for batch in run.shim.batches(data):
            run.step(batch)
            sum(float(one.sum()) for one in valid)
            next(iter(valid))

    once(tmp_path, train)

    assert "" == capsys.readouterr().err


def test_torch_is_left_as_it_was(tmp_path):
    """
    Loaders are looked at while a session lives, and not after.
    """
    before = DataLoader.__iter__
    once(tmp_path, epochs_over(lambda _run: loader))

    assert DataLoader.__iter__ is before
