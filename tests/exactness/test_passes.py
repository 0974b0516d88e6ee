"""Passes over loaders that come and go, inside one another, in a run of weeks.

Covers: what of them is in a checkpoint, and that none of the data is lost or made twice after it.
Does not cover: one pass by itself (test_loader_edges.py), the bits of a training (test_pauses.py).
"""

from __future__ import annotations

import tracemalloc

import pytest
import torch
from torch.utils.data import DataLoader

import trainer_shim
from trainer_shim import protocol as wire
from trainer_shim.loader_order import Order

#: Whatever an evaluation computes is in nobody's way.
VALID = range(6)


class Seen:
    """All that a run was trained on, as a part of it."""

    def __init__(self) -> None:
        self.numbers = []

    def add(self, batch):
        self.numbers += batch.tolist()

    def state_dict(self):
        return {"numbers": self.numbers}

    def load_state_dict(self, state):
        self.numbers = list(state["numbers"])


@pytest.fixture
def attach(tmp_path):
    made = []

    def make(seen):
        torch.manual_seed(3)
        made.append(trainer_shim.attach(checkpoints=tmp_path, seen=seen))
        return made[-1]

    yield make
    for shim in made:
        shim.detach()


def leave(shim):
    """Ask for an exit at the next boundary."""
    shim._gate.put(wire.Pause(request="p", depth="exit"))


def evaluated(shim, seen, *, leave_at=None):
    """Two epochs, with an evaluation in the middle of each."""
    loader = DataLoader(range(40), batch_size=2, shuffle=True)
    for _ in shim.epochs(2):
        for batch in shim.batches(loader):
            seen.add(batch)
            if shim.step % 20 == 4:
                for _ in shim.batches(DataLoader(VALID, batch_size=2)):
                    pass
            if shim.step == leave_at:
                leave(shim)
    return seen.numbers, shim.step


def cut(attach, train, steps):
    """What a run comes to that left after each of these steps."""
    for step in steps:
        seen = Seen()
        with pytest.raises(SystemExit):
            train(attach(seen), seen, leave_at=step)
    seen = Seen()
    return train(attach(seen), seen)


def whole_and_cut(attach, train, steps):
    """What a run comes to that never left, and one that did."""
    seen = Seen()
    shim = attach(seen)
    whole = train(shim, seen)
    shim.detach()
    return whole, cut(attach, train, steps)


@pytest.mark.parametrize("steps", [(3,), (4,), (5,), (9, 30)])
def test_an_evaluation_inside_a_pass_costs_none_of_the_data(attach, capsys, steps):
    """
    A pause behind it goes on where the outer pass was; its own batches are no steps, which is said.
    """
    whole, after_pauses = whole_and_cut(attach, evaluated, steps)

    assert whole == after_pauses
    assert (80, 40) == (len(whole[0]), whole[1])
    assert "inside another one" in capsys.readouterr().err


def made_anew(shim, seen, *, leave_at=None):
    """Loaders that live for one pass, three in each epoch, and the generators of their order, which stay."""
    generators = [torch.Generator().manual_seed(number) for number in range(3)]
    for _ in shim.epochs(3):
        for generator in generators:
            for batch in shim.batches(DataLoader(range(12), batch_size=4, shuffle=True, generator=generator)):
                seen.add(batch)
                if shim.step + 1 == leave_at:
                    leave(shim)
    return seen.numbers


@pytest.mark.parametrize("step", range(10, 27, 2))
def test_loaders_made_anew_for_each_pass_go_on_with_their_generators(attach, step):
    """
    One may lie in memory where one lay that is gone; neither takes the other's place in the checkpoint.
    """
    whole, after_pauses = whole_and_cut(attach, made_anew, [step])

    assert whole == after_pauses


@pytest.mark.parametrize("generator", [None, torch.Generator()])
def test_thousands_of_passes_do_not_make_checkpoints_larger(attach, generator):
    """
    A loop without epochs makes a loader a time for weeks: what was is forgotten, in memory and on the disk.
    """
    shim = attach(Seen())
    sizes = []
    for _ in range(3):
        for _ in range(60):
            for _ in shim.batches(DataLoader(range(4), batch_size=4, shuffle=True, generator=generator)):
                pass
        sizes.append(sum(file.stat().st_size for file in shim.checkpoint().glob("rank*")))

    assert sizes[2] - sizes[1] < 1000  # Digits.


def test_an_error_that_is_caught_leaves_no_pass_open(attach):
    """
    A script that goes on with other data after a bad batch is paused there as anywhere.
    """

    def train(shim, seen, *, leave_at=None):
        try:
            for _ in shim.batches(DataLoader([0, 1, None], batch_size=1)):
                pass
        except TypeError:
            pass
        for batch in shim.batches(DataLoader(range(8), batch_size=1)):
            seen.add(batch)
            if shim.step == leave_at:
                leave(shim)
        return seen.numbers

    whole, after_pauses = whole_and_cut(attach, train, [4])

    assert list(range(8)) == whole == after_pauses


def test_a_pass_that_is_not_made_again_is_said(attach, capsys):
    """
    A script that was changed, or that depends on what no checkpoint holds, would lose the rest in silence.
    """
    with pytest.raises(SystemExit):
        evaluated(attach(seen := Seen()), seen, leave_at=3)
    for _ in (shim := attach(Seen())).epochs(2):
        pass
    shim.checkpoint()

    assert "was not made again" in capsys.readouterr().err


class Moody:
    """A loader of the script's own that cannot always tell its place."""

    def __init__(self) -> None:
        self.is_willing = False

    def __iter__(self):
        return iter(torch.arange(6).split(2))

    def state_dict(self):
        if not self.is_willing:
            raise RuntimeError("nobody iterates")
        return {}

    def load_state_dict(self, state):
        pass


def test_a_loader_that_cannot_tell_its_place_ends_no_run(attach, capsys):
    """
    A checkpoint fails, in words, and the pass ends as it would have.
    """
    seen = Seen()
    shim, loader = attach(seen), Moody()
    for batch in shim.batches(loader):
        seen.add(batch)
        shim._gate.put(wire.Checkpoint(request=""))
    next(another := shim.batches(loader))
    with pytest.raises(trainer_shim.CannotSave, match="cannot save the place of the data loader"):
        shim.checkpoint()
    another.close()
    loader.is_willing = True

    assert shim.checkpoint().is_dir()
    assert list(range(6)) == seen.numbers
    assert "its next pass begins as a new one" in capsys.readouterr().err


class Batches:
    """A sampler of as many batches as a year has."""

    def __iter__(self):
        return ([number + 1000] * 4 for number in range(300_000))


def test_going_on_late_in_a_long_pass_takes_no_memory_for_what_was_used():
    """
    One epoch over all there is may have a billion indices behind it.
    """
    order = iter(Order(Batches()))
    tracemalloc.start()
    try:
        order.skip({"used": 200_000, "ahead": [], "last": None})
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert [201_000] * 4 == next(order)
    assert peak_bytes < 1 << 20
