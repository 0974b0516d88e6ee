"""What a script hands to attach(), and what it chooses there.

Covers: parts by position, in lists and maps, generators, attributes of objects; refusals with the line to
write; going on or not; another command; a run that was complete; signals; the ends of epochs; `ignore`.
Does not cover: one kind of part each (test_odd_parts.py), the looks behind `ignore` (test_strays.py).
"""

from __future__ import annotations

import os
import random
import signal
import sys

import numpy as np
import pytest
import torch
from torch import nn

import trainer_shim
from tests.exactness.cutting import whole_and_cut


@pytest.fixture
def attach(tmp_path):
    made = []

    def make(*handed, **more):
        made.append(trainer_shim.attach(*handed, **{"checkpoints": tmp_path / "run", **more}))
        return made[-1]

    yield make
    for shim in made:
        shim.detach()


def saved(shim, num_steps=1):
    """Pass some boundaries, save and end."""
    for _ in range(num_steps):
        shim.boundary()
    shim.checkpoint()
    shim.detach()


class Buffer:
    """A replay buffer without a state_dict()."""

    def __init__(self):
        self.storage, self.position = [], 0

    def push(self, item):
        self.storage.append(item)
        self.position += 1


def test_parts_of_every_form_come_back(tmp_path):
    """
    By position, in a list, in a map in it, a generator, and attributes of an object.
    """

    def train(run):
        generator, numbers = random.Random(3), torch.Generator().manual_seed(4)
        nets, buffer = [nn.Linear(1, 1), {"b": nn.Linear(1, 1)}], Buffer()
        run.shim = shim = trainer_shim.attach(
            run.net,
            run.optimizer,
            checkpoints=run._folder,
            nets=nets,
            generators=(generator, numbers),
            numpy=np.random.default_rng(5),
            buffer=trainer_shim.Fields(buffer, "storage", "position"),
            seen=run.seen,
        )
        while shim.step < 8:
            with torch.no_grad():
                nets[0].weight += generator.random()
                nets[1]["b"].weight += torch.rand((), generator=numbers)
            buffer.push(nets[0].weight.item() + nets[1]["b"].weight.item())
            run.see(torch.tensor(buffer.storage))
            shim.boundary()
        run.seen.batches.append([buffer.position])

    whole, cut = whole_and_cut(tmp_path, train, [3, 6])

    assert [8] == whole["seen"][-1]
    assert whole == cut


def test_parts_without_a_name_have_that_of_their_kind(attach):
    """
    The same in each start, and in the folder for people.
    """
    one, other = nn.Linear(1, 1), nn.Linear(1, 1)
    shim = attach(
        one, other, torch.optim.SGD(one.parameters()), Fields=trainer_shim.Fields(Buffer(), "storage")
    )

    assert ["model", "model_2", "optimizer", "Fields"] == list(shim._parts)


@pytest.mark.parametrize(
    ("part", "line"),
    [
        (1e9, "state = shim.state(own=...)"),
        ([1, 2], "state = shim.state(own=...)"),
        (torch.ones(2), "state = shim.state(own=...)"),
        (Buffer(), "attach(own=trainer_shim.Fields(own, 'storage', ...))"),
    ],
    ids=["number", "list", "tensor", "object"],
)
def test_what_is_no_part_is_refused_with_the_line_to_write(attach, part, line):
    """
    The line works: no circle from one hint to the next.
    """
    with pytest.raises(TypeError, match="cannot attach `own`") as refused:
        attach(own=part)

    assert line in refused.value.__notes__[0]


def test_a_run_may_begin_anew_and_loses_nothing_of_the_one_before(attach, tmp_path, capfd, monkeypatch):
    """
    What was there is kept under another name; where the daemon goes on with a run, it goes on.
    """
    saved(attach(model=nn.Linear(1, 1)), 3)
    saved(attach(model=nn.Linear(1, 1), resume="never"), 1)
    saved(attach(model=nn.Linear(2, 1), resume="never"), 2)
    monkeypatch.setenv("TRAINING_SUPERVISOR_GOES_ON", "1")
    shim = attach(model=nn.Linear(2, 1), resume="never")

    assert 2 == shim.step
    assert ["run", "run.before-1", "run.before-2"] == sorted(one.name for one in tmp_path.iterdir())
    assert (tmp_path / "run.before-1" / "step-000000003").is_dir()
    assert capfd.readouterr().err.count("begins anew; the checkpoints of the run before are in") == 2


def test_a_run_may_be_one_that_has_to_go_on(attach):
    """
    A folder that is misspelt is no new run of a week.
    """
    with pytest.raises(trainer_shim.CannotRestore, match="there is no checkpoint in"):
        attach(model=nn.Linear(1, 1), resume="must")
    saved(attach(model=nn.Linear(1, 1)), 3)

    assert 3 == attach(model=nn.Linear(1, 1), resume="must").step


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"resume": "yes"}, ValueError),
        ({"signals": ["SIGHUP"]}, ValueError),
        ({"signals": "SIGTERM"}, TypeError),
        ({"ignore": "best"}, TypeError),
        ({"every_epochs": 0}, ValueError),
    ],
)
def test_what_is_no_choice_is_refused(attach, wrong, error):
    """
    Before anything is begun.
    """
    with pytest.raises(error):
        attach(model=nn.Linear(1, 1), **wrong)


def test_another_command_than_the_checkpoints_is_told(attach, capfd, monkeypatch):
    """
    With both; not where only the folder of the script is another.
    """
    monkeypatch.setattr(sys, "argv", ["train.py", "--lr", "0.1"])
    saved(attach(model=nn.Linear(1, 1)))
    monkeypatch.setattr(sys, "argv", ["/somewhere/train.py", "--lr", "0.1"])
    saved(attach(model=nn.Linear(1, 1)))
    assert "was made by" not in capfd.readouterr().err

    monkeypatch.setattr(sys, "argv", ["train.py", "--lr", "0.2"])
    attach(model=nn.Linear(1, 1))

    assert "made by `train.py --lr 0.1`, and this is `train.py --lr 0.2`" in capfd.readouterr().err


def test_a_run_that_was_complete_is_told(attach, capfd):
    """
    By epochs and by steps; nothing is trained.
    """
    for made in (lambda shim: shim.epochs(2), lambda shim: shim.steps([1, 2], max_epochs=2)):
        for _ in range(2):
            shim = attach(model=nn.Linear(1, 1))
            list(made(shim))
            shim.checkpoint()
            shim.detach()
            first = capfd.readouterr().err
        assert "the run was complete at its last start, after" in first
        attach(model=nn.Linear(1, 1), resume="never").detach()


def test_signals_that_are_the_scripts_stay_its(attach):
    """
    Ctrl-C means what it did, SIGTERM leaves; by default both leave.
    """
    shim = attach(model=nn.Linear(1, 1), signals=["SIGTERM"])
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
    shim.boundary()
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(SystemExit) as left:
        shim.boundary()

    assert 128 + signal.SIGTERM == left.value.code


def by_epochs(shim, num_epochs):
    for _ in shim.epochs(num_epochs):
        for _ in shim.batches(range(3)):
            shim._background._periodic.wait()


def by_steps(shim, num_epochs):
    for _ in shim.steps(range(3), max_epochs=num_epochs):
        shim._background._periodic.wait()


@pytest.mark.parametrize(("every", "num_epochs", "saved"), [(2, 4, [6, 12]), (1, 1, [3]), (1, 3, [3, 6, 9])])
def test_each_so_many_epochs_are_saved_at_their_ends(attach, tmp_path, every, num_epochs, saved):
    """
    The first and the last one, too: no boundary comes after it.
    """
    shim = attach(model=nn.Linear(1, 1), every_epochs=every, keep=9)
    by_epochs(shim, num_epochs)
    shim.detach()

    assert saved == sorted(int(one.name[5:]) for one in (tmp_path / "run").iterdir() if "step-" in one.name)


@pytest.mark.parametrize(("num_epochs", "last"), [(1, 3), (3, 9)])
def test_the_last_epoch_of_steps_is_saved(attach, tmp_path, num_epochs, last):
    """
    Those before it are at the first boundary behind their ends.
    """
    shim = attach(model=nn.Linear(1, 1), every_epochs=1, keep=9)
    by_steps(shim, num_epochs)
    shim.detach()
    saved = sorted(int(one.name[5:]) for one in (tmp_path / "run").iterdir() if "step-" in one.name)

    assert num_epochs == len(saved)
    assert last == saved[-1]


def test_an_optimizer_whose_state_a_script_loads_itself_is_not_mentioned(attach, capfd):
    """
    A script's own --resume, which it leaves out where the shim goes on.
    """
    model = nn.Linear(1, 1)
    mine = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    model(torch.ones(1)).backward()
    mine.step()
    loaded = torch.optim.SGD(model.parameters(), lr=0.002, momentum=0.9)
    loaded.load_state_dict(mine.state_dict())
    attach(model=model, optimizer=loaded).checkpoint()
    attach(model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9))

    assert "was made with" not in capfd.readouterr().err


def test_what_the_script_knows_is_not_told(attach, capfd):
    """
    A counter by name; another one is told all the same.
    """
    model = nn.Linear(1, 1)
    shim = attach(model=model, ignore=["known"])
    known = other = 0
    for _ in shim.batches(range(4)):
        with torch.no_grad():
            model.weight += known + other
        known, other = known + 1, other + 1
    told = capfd.readouterr().err

    assert "`other` (line" in told
    assert "`known`" not in told


def test_a_variable_that_is_handed_to_the_state_is_not_told(attach, capfd):
    """
    Nor one that only has the name of a variable of the state, which is another.
    """
    model = nn.Linear(1, 1)
    shim = attach(model=model)
    state = shim.state(kept=0, same=0)
    kept, same = state.kept, 0
    for _ in shim.batches(range(4)):
        with torch.no_grad():
            model.weight += kept + same
        kept, same = kept + 1, same + 1
        state.kept = kept
    told = capfd.readouterr().err

    assert "`same` (line" in told
    assert "`kept`" not in told
