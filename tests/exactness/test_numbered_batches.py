"""A loop that numbers its batches is told if the number matters, and the way out is exact."""

from __future__ import annotations

import pytest
from cutting import Numbers, once, whole_and_cut
from torch.utils.data import DataLoader


def left_by_number(run):
    data = DataLoader(Numbers(), 4, shuffle=True)
    shim = run.attach()
    for _ in shim.epochs(2):
        for number, batch in enumerate(shim.batches(data)):
            run.step(batch)
            if number == 3:
                break


def scaled_by_number(run):
    data = DataLoader(Numbers(), 4, shuffle=True)
    shim = run.attach()
    for _ in shim.epochs(2):
        for i, batch in enumerate(shim.batches(data), start=1):
            run.step(batch / i)


def stepped_by_number(run):
    data = DataLoader(Numbers(), 4, shuffle=True)
    shim = run.attach()
    for i, batch in enumerate(shim.batches(data)):
        run.step(batch)
        if (i + 1) % 2 == 0:
            run.optimizer.zero_grad()


def printed(run):
    data = DataLoader(Numbers(), 4, shuffle=True)
    shim = run.attach()
    for i, batch in enumerate(shim.batches(data)):
        run.step(batch)
        if i % 2 == 0:
            print(i)
        shim.report(number=i)


def unused(run):
    data = DataLoader(Numbers(), 4, shuffle=True)
    shim = run.attach()
    for _i, batch in enumerate(shim.batches(data)):
        run.step(batch)


def of_accumulated_batches(run):
    data = DataLoader(Numbers(), 4, shuffle=True)
    shim = run.attach()
    for i, batch in enumerate(shim.batches(data, accumulate=2)):
        run.step(batch)
        if (i + 1) % 2 == 0:
            run.optimizer.zero_grad()


def numbered_inside(run):
    data = DataLoader(Numbers(), 4, shuffle=True)
    shim = run.attach()
    for _ in shim.epochs(2):
        for number, batch in shim.batches(enumerate(data)):
            run.step(batch / (number + 1))


@pytest.mark.parametrize("train", [left_by_number, scaled_by_number, stepped_by_number])
def test_a_number_that_matters_is_told_at_once(tmp_path, capsys, train):
    """
    Before the first step, with its name and the line to write.
    """
    once(tmp_path, train)

    assert "of enumerate() around batches() begins at 0 again" in capsys.readouterr().err


@pytest.mark.parametrize("train", [printed, unused, of_accumulated_batches, numbered_inside])
def test_a_number_that_does_not_matter_is_not_told(tmp_path, capsys, train):
    """
    It is only shown, or counts what is taken up together.
    """
    once(tmp_path, train)

    assert "" == capsys.readouterr().err


@pytest.mark.parametrize("steps", [(3,), (8,)])
def test_the_way_out_goes_on_counting(tmp_path, steps):
    """
    `batches(enumerate(loader))` gives the numbers of the unbroken run.
    """
    whole, cut = whole_and_cut(tmp_path, numbered_inside, steps)

    assert whole == cut
