"""What a script carries by itself is said at the first boundaries, and a loop that is fine is left in peace.

Covers: each kind beside a loop of the same shape that is fine, in real sessions; a look keeps nothing alive.
Does not cover: variables, as text (tests/unit/trainer_shim/test_loop_names.py); data loaders
(test_wrapped_loaders.py).
"""

from __future__ import annotations

import gc
import json
import random
import weakref

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

import trainer_shim


class Noisy(Dataset):
    """Draws from a generator of its own, which is restored with the data."""

    def __init__(self):
        self.generator = random.Random(1)

    def __len__(self):
        return 12

    def __getitem__(self, index):
        return torch.full((2,), index + self.generator.random())


class Script:
    """The parts of a small training."""

    def __init__(self, folder):
        torch.manual_seed(0)
        self.folder = folder
        self.model = nn.Linear(2, 1)
        self.opt = torch.optim.SGD(self.model.parameters(), lr=0.01, momentum=0.9)
        self.loader = DataLoader(torch.randn(12, 2), 2)
        self.shim = None

    def attach(self, **more):
        self.shim = trainer_shim.attach(checkpoints=self.folder, model=self.model, opt=self.opt, **more)
        return self.shim

    def step(self, batch, scale=1.0):
        self.opt.zero_grad()
        loss = self.model(batch).square().mean() * scale
        loss.backward()
        self.opt.step()
        return loss.detach()

    def train(self, each=lambda batch: 1.0, after=lambda: None):
        for _ in self.shim.epochs(1):
            for batch in self.shim.batches(self.loader):
                self.step(batch, each(batch))
                after()


def own_generator(script, make, draw):
    generator = make()
    script.attach()
    for _ in script.shim.epochs(1):
        for batch in script.shim.batches(script.loader):
            script.step(batch + draw(generator))


def kept_generator(script, make, draw):
    script.attach()
    generator = script.shim.extra.setdefault("generator", make())
    for _ in script.shim.epochs(1):
        for batch in script.shim.batches(script.loader):
            script.step(batch + draw(generator))


def unused_generator(script, make, draw):
    generator = make()
    script.attach()
    for _ in script.shim.epochs(1):
        for batch in script.shim.batches(script.loader):
            script.step(batch)
    draw(generator)


GENERATORS = {
    "random": (lambda: random.Random(3), lambda one: one.random()),
    "numpy": (lambda: np.random.default_rng(3), lambda one: float(one.normal())),
    "old numpy": (lambda: np.random.RandomState(3), lambda one: float(one.normal())),
    "torch": (lambda: torch.Generator().manual_seed(3), lambda one: torch.rand((), generator=one)),
}


@pytest.fixture
def script(tmp_path):
    made = Script(tmp_path / "checkpoints")
    yield made
    made.shim.detach()


@pytest.mark.parametrize("kind", GENERATORS)
@pytest.mark.parametrize(
    ("loop", "is_told"), [(own_generator, True), (kept_generator, False), (unused_generator, False)]
)
def test_a_generator_of_the_loop_is_told(script, capsys, kind, loop, is_told):
    """
    Where it draws between boundaries and nobody keeps it.
    """
    loop(script, *GENERATORS[kind])

    assert is_told is ("`generator` draws random numbers and no checkpoint has it" in capsys.readouterr().err)


def test_generators_of_the_data_are_restored_and_not_told(script, capsys):
    """
    Also where the script holds the data set as well.
    """
    dataset = Noisy()
    script.loader = DataLoader(dataset, 2)
    script.attach()
    for _ in script.shim.epochs(1):
        for batch in script.shim.batches(script.loader):
            script.step(batch)

    assert len(dataset) == 12
    assert "" == capsys.readouterr().err


def test_a_counter_is_told_once_with_its_line_and_the_way_out(script, capsys):
    """
    Not at each boundary, and not the loss.
    """
    script.attach()
    it = 0
    for _ in script.shim.epochs(2):
        for batch in script.shim.batches(script.loader):
            for group in script.opt.param_groups:
                group["lr"] = 0.01 / (1 + it)
            it += 1
            loss = script.step(batch)
            script.shim.report(loss=loss)
    told = capsys.readouterr().err

    assert 1 == told.count("trainer_shim: ")
    assert "`it` (line " in told
    assert "shim.state(it=...)" in told


def test_what_was_said_stands_in_the_checkpoint_and_at_the_restart(script, capsys):
    """
    Who reads the log of a restart learns that the run may not be what it would have been.
    """
    script.attach()
    it = 0
    for batch in script.shim.batches(script.loader):
        for group in script.opt.param_groups:
            group["lr"] = 0.01 / (1 + it)
        script.step(batch)
        it = script.shim.step - it
    folder = script.shim.checkpoint()
    script.shim.detach()
    capsys.readouterr()
    script.attach()
    (warning,) = json.loads((folder / "manifest.json").read_text())["manifest"]["facts"]["warnings"]

    assert warning.startswith("`it` (line ")
    assert "before it was saved the shim warned of 1" in capsys.readouterr().err


def test_a_counter_in_extra_is_not_told(script, capsys):
    """
    What the hint says to do is the end of it.
    """
    script.attach()
    extra = script.shim.extra
    extra.setdefault("it", 0)
    for _ in script.shim.epochs(1):
        for batch in script.shim.batches(script.loader):
            script.opt.param_groups[0]["lr"] = 0.01 / (1 + extra["it"])
            extra["it"] += 1
            script.step(batch)

    assert "" == capsys.readouterr().err


def test_a_number_that_an_attached_part_keeps_is_not_told(script, capsys):
    """
    Its state_dict() has it.
    """

    class Average(dict):
        num = 0

        def state_dict(self):
            return {"num": self.num}

        def load_state_dict(self, state):
            self.num = state["num"]

    average = Average()
    script.attach(average=average)
    for _ in script.shim.epochs(1):
        for batch in script.shim.batches(script.loader):
            average.num += 1
            script.step(batch, 1 / average.num)

    assert "" == capsys.readouterr().err


def stepped_average(script):
    average = torch.optim.swa_utils.AveragedModel(script.model)
    return average, lambda: average.update_parameters(script.model)


def plateau(script):
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(script.opt)
    return scheduler, lambda: scheduler.step(1.0)


def second_model(script):
    other = nn.Linear(2, 1)
    opt = torch.optim.SGD(other.parameters(), lr=0.1)

    def step():
        opt.zero_grad()
        other(torch.ones(2)).sum().backward()
        opt.step()

    return other, step


PARTS = {"an average": stepped_average, "a scheduler": plateau, "a second model": second_model}


@pytest.mark.parametrize("kind", PARTS)
@pytest.mark.parametrize("way", ["left out", "attached", "not used"])
def test_a_part_that_changes_is_told_unless_it_was_handed_over(script, capsys, kind, way):
    """
    A frozen teacher or a scheduler that never steps needs no checkpoint.
    """
    part, change = PARTS[kind](script)
    script.attach(**({"part": part} if way == "attached" else {}))
    for _ in script.shim.epochs(1):
        for batch in script.shim.batches(script.loader):
            script.step(batch)
            if way != "not used":
                change()

    assert (way == "left out") is ("`part` is a " in capsys.readouterr().err)


def test_an_optimizer_in_the_place_of_the_attached_one_is_told(script, capsys):
    """
    The attached one would be saved for ever, and never step.
    """
    script.attach()
    opt = script.opt = torch.optim.Adam(script.model.parameters())
    for _ in script.shim.epochs(1):
        for batch in script.shim.batches(script.loader):
            script.step(batch)

    assert opt.state
    assert "`opt` is an optimizer of the run" in capsys.readouterr().err


@pytest.mark.parametrize("is_late", [True, False])
def test_weights_that_are_changed_behind_attach_are_told(script, capsys, is_late):
    """
    After a restart that would undo the training.
    """
    if not is_late:
        nn.init.ones_(script.model.weight)
    script.attach()
    if is_late:
        nn.init.ones_(script.model.weight)
    script.train()

    assert is_late is (
        "the weights of `model` were changed between attach() and the loop" in capsys.readouterr().err
    )


def test_a_batch_that_goes_through_the_model_before_the_loop_asks_for_one_is_not_told(script, capsys):
    """
    A loop that fetches ahead has its batch already: running means change, the weights do not.
    """
    script.model = nn.Sequential(nn.Linear(2, 1), nn.BatchNorm1d(1))
    script.opt = torch.optim.SGD(script.model.parameters(), lr=0.01)
    script.attach()
    script.model(torch.ones(2, 2))
    script.train()

    assert "" == capsys.readouterr().err


@pytest.mark.parametrize(("draws", "is_by_hand"), [(True, True), (False, True), (True, False)])
def test_numbers_that_are_drawn_before_a_loop_by_hand_are_told(script, capsys, draws, is_by_hand):
    """
    A loop over `batches()` has its numbers back where it begins.
    """
    script.attach()
    if draws:
        torch.rand(3)
    assert 0 == script.shim.step
    if is_by_hand:
        while script.shim.step < 3:
            script.step(torch.rand(2, 2))
            script.shim.boundary()
    else:
        script.train()

    assert (draws and is_by_hand) is ("random numbers were drawn between" in capsys.readouterr().err)


def options_by_hand(script, shim, opt, loader):
    for _ in range(2):
        for group in opt.param_groups:
            group["lr"] *= 0.5
        for batch in shim.batches(loader):
            script.step(batch)
        opt.param_groups[0]["weight_decay"] += 0.01


def rows_by_hand(script, shim, opt, loader):
    rows = []
    for _ in range(2):
        for batch in shim.batches(loader):
            script.step(batch)
        rows.append(opt)


@pytest.mark.parametrize(("loop", "is_told"), [(options_by_hand, False), (rows_by_hand, True)])
def test_epochs_that_are_counted_by_hand_are_told_where_they_do_more(script, capsys, loop, is_told):
    """
    What is done for each epoch that is over is done again; of parts it is undone where the loop goes on.
    """
    script.attach()
    loop(script, script.shim, script.opt, script.loader)

    assert is_told is ("is done again for past epochs" in capsys.readouterr().err)


class Odd:
    """Answers no question."""

    def __getattr__(self, name):
        raise ConnectionError(name)


def test_whatever_a_script_holds_a_look_costs_no_training(script, capsys):
    """
    Objects that raise when they are asked, and weights without a count of their changes.
    """
    odd = [Odd()]
    first, *_ = odd
    with torch.inference_mode():
        teacher = nn.Linear(2, 1)
    script.attach()
    script.train(after=lambda: teacher(torch.ones(2)))

    assert first is odd[0]
    assert 6 == script.shim.step
    assert "Traceback" not in capsys.readouterr().err


def test_a_look_keeps_nothing_alive(script):
    """
    A frame that is held would pin a batch and its graph for days.
    """

    class Batch(torch.Tensor):
        pass

    class Holder:
        def __init__(self, batch):
            self.batch, self.again = batch, [batch]

    seen = []
    script.attach()
    for _ in script.shim.epochs(1):
        for batch in script.shim.batches(script.loader):
            mine = batch.as_subclass(Batch)
            holder = Holder(mine)
            seen.append(weakref.ref(holder))
            script.step(batch)
            del mine, holder
    gc.collect()

    assert len(seen) == 6
    assert [] == [one for one in seen if one() is not None]


class NoClass:
    """A lazy proxy whose target is not there: its class cannot be asked for."""

    @property
    def __class__(self):
        raise ConnectionError("no class")


class NoDict:
    """Whose attributes cannot be asked for."""

    @property
    def __dict__(self):
        raise ConnectionError("no dict")


class NoAnswers:
    """Which raises on whatever an operator or a container asks."""

    def _refuse(self, *_):
        raise ConnectionError("no answer")

    __eq__ = __hash__ = __len__ = __iter__ = __bool__ = __repr__ = __getattribute__ = _refuse


class Heirs(type):
    """A metaclass that cannot tell who belongs to it."""

    def __instancecheck__(cls, one):
        raise ConnectionError("no instances")


class OddKind(metaclass=Heirs):
    """One of its classes."""


@pytest.mark.parametrize("kind", [NoClass, NoDict, NoAnswers, OddKind, Odd])
def test_an_odd_object_costs_no_training_wherever_it_lies(script, kind, capsys):
    """
    In a variable of the script, a list, an object, the data set, a closure; at attach() and at each boundary.
    """
    odd, holder = kind(), Noisy()
    holder.odd, inside = odd, [odd, {"odd": odd}]
    script.data = holder
    script.loader = DataLoader(holder, 2, collate_fn=lambda rows: (torch.stack(rows), odd)[0])
    script.attach()
    script.train(after=lambda: inside)
    script.shim.checkpoint()

    assert 6 == script.shim.step
    assert "Traceback" not in capsys.readouterr().err
