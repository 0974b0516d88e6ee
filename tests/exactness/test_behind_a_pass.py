"""What a script reads behind its loop over a pass is there, also after an end at the last batch of the pass.

Covers: names that only the loop sets, in the same function as epochs() and in another; names that are set
before it; what the boundaries are then.
Does not cover: the bits of a training (test_pauses.py).
"""

from __future__ import annotations

import contextlib
import os
import signal

import pytest

import trainer_shim
from trainer_shim import protocol as wire


class Sum:
    """All that was trained on."""

    def __init__(self):
        self.numbers = []

    def add(self, number):
        self.numbers = [*self.numbers, number]
        return sum(self.numbers)

    def state_dict(self):
        return {"numbers": self.numbers}

    def load_state_dict(self, state):
        self.numbers = state["numbers"]


def printed(shim, each):
    """The usual form: the last loss behind the pass."""
    told = []
    for epoch in shim.epochs(3):
        for number in shim.batches(range(4)):
            loss = each(number)
        told.append((epoch, loss))
    return told


def set_long_before(shim, each):
    told, loss = [], None
    for epoch in shim.epochs(3):
        for number in shim.batches(range(4)):
            loss = each(number)
        told.append((epoch, loss + 0))
    return told


def inside_a_with(shim, each):
    told = []
    for epoch in shim.epochs(3):
        if epoch >= 0:
            with contextlib.suppress(ZeroDivisionError):
                for number in shim.batches(range(4)):
                    loss = each(number)
        told.append((epoch, loss))
    return told


def of_a_function(shim, each):
    def one_epoch():
        for number in shim.batches(range(4)):
            loss = each(number)
        return loss

    return [one_epoch() for _ in shim.epochs(3)]


def set_before(shim, each):
    """There already: each batch is a boundary as ever."""
    told = []
    for _ in shim.epochs(3):
        loss = 0
        for number in shim.batches(range(4)):
            loss = each(number)
        told.append(loss)
    return told


@pytest.fixture
def run(tmp_path):
    """Train by a loop; ended at a step if one is given. Returns the sum, and where it was ended."""
    made = []

    def begin(loop, leave_at=None):
        total = Sum()
        made.append(shim := trainer_shim.attach(checkpoints=tmp_path, total=total))

        def each(number):
            if leave_at is not None and shim.step == leave_at - 1:
                shim._gate.put(wire.Pause(request="p", depth="exit"))
            return total.add(number)

        try:
            told = loop(shim, each)
        except SystemExit:
            return None, shim.step
        shim.detach()
        return told, total.numbers

    yield begin
    for shim in made:
        shim.detach()


@pytest.mark.parametrize(
    "loop", [printed, set_long_before, inside_a_with, of_a_function], ids=lambda one: one.__name__
)
@pytest.mark.parametrize("leave_at", [3, 4, 8])
def test_a_run_that_is_ended_at_the_last_batch_of_a_pass_goes_on(run, loop, leave_at):
    """
    It ended with "referenced before assignment" at each start, because the loop had no turn left.
    """
    _, ended_at = run(loop, leave_at)
    told, numbers = run(loop)

    assert ended_at >= leave_at
    assert [*range(4)] * 3 == numbers
    assert sum(numbers) == (told[-1] if loop is of_a_function else told[-1][1])


def test_the_second_loop_of_a_script_goes_on_as_well(run):
    """
    Which nobody has looked at yet when its first pass ends.
    """

    def two_loops(shim, each):
        told = []
        for _ in shim.epochs(2):
            for _ in shim.batches(range(4)):
                pass
            for number in shim.batches(range(4)):
                loss = each(number)
            told.append(loss)
        return told

    assert run(two_loops, 8)[0] is None
    assert [12] == run(two_loops)[0]


def test_what_is_there_before_the_loop_costs_no_boundary(run):
    """
    Only where it has to, the last batch's boundary waits for what comes behind the pass.
    """
    assert (None, 4) == run(set_before, 4)


def test_the_end_of_the_epoch_is_the_boundary_then(run, tmp_path):
    """
    What the script does behind the pass is done before the run is ended, and not again.
    """
    assert (None, 4) == run(printed, 4)
    told, _ = run(printed)

    assert [1, 2] == [epoch for epoch, _ in told]


def test_a_signal_at_the_last_batch_of_all_ends_a_run_that_is_complete(tmp_path):
    """
    The end of epochs() is a boundary, too.
    """
    total = Sum()
    shim = trainer_shim.attach(checkpoints=tmp_path, total=total)

    def train():
        for epoch in shim.epochs(2):
            for number in shim.batches(range(3)):
                loss = total.add(number)
                if (epoch, number) == (1, 2):
                    os.kill(os.getpid(), signal.SIGTERM)
            assert loss == sum(total.numbers)

    with pytest.raises(SystemExit) as left:
        train()

    assert 128 + signal.SIGTERM == left.value.code
    assert [*range(3)] * 2 == total.numbers
