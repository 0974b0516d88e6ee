"""Variables that a script keeps with `shim.state()`: the same after a restart, or refused where they are put.

Covers: every kind of value, the object that the script made, names, what is refused and where.
Does not cover: how values are stored (tests/property/test_checkpoint_round_trip.py).
"""

from __future__ import annotations

import random
from collections import Counter, OrderedDict, defaultdict, deque

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import trainer_shim
from tests.exactness.cutting import Numbers, whole_and_cut

KINDS = {
    "number": (lambda: 0, lambda one, step: one + step),
    "float": (lambda: 1e9, lambda one, step: min(one, 1 / (1 + step))),
    "text": (lambda: "", lambda one, step: one + str(step)),
    "none": (lambda: None, lambda one, step: (one or 0) + 0.5),
    "tuple": (lambda: (), lambda one, step: (*one, step)),
    "tensor": (lambda: torch.zeros(2), lambda one, step: one * 0.5 + step),
    "hidden": (
        lambda: None,
        lambda one, step: (torch.full((2,), step), torch.ones(1) * (one[0][0] if one else 0)),
    ),
    "array": (lambda: np.zeros(3), lambda one, step: one * 0.5 + step),
}

OBJECTS = {
    "list": (list, lambda one, step: one.append(step)),
    "dict": (dict, lambda one, step: one.update({step: step / 3})),
    "ordered": (OrderedDict, lambda one, step: (one.update({step: 1}), one.move_to_end(step, last=False))),
    "default": (lambda: defaultdict(int), lambda one, step: one.__setitem__("sum", one["sum"] + step)),
    "counter": (Counter, lambda one, step: one.update([step % 3])),
    "set": (set, lambda one, step: one.add(step % 5)),
    "deque": (lambda: deque(maxlen=4), lambda one, step: one.append(step)),
    "python": (lambda: random.Random(3), lambda one, step: one.random()),
    "numpy": (lambda: np.random.default_rng(3), lambda one, step: one.normal()),
    "legacy": (lambda: np.random.RandomState(3), lambda one, step: one.normal()),
    "torch": (lambda: torch.Generator().manual_seed(3), lambda one, step: torch.randn(1, generator=one)),
}


def plain(value):
    """What a value holds, to be compared; of a generator its next numbers."""
    if isinstance(value, random.Random):
        return [value.random() for _ in range(3)]
    if isinstance(value, np.random.Generator | np.random.RandomState):
        return value.normal(size=3).tolist()
    if isinstance(value, torch.Generator):
        return torch.randn(3, generator=value).tolist()
    if isinstance(value, torch.Tensor | np.ndarray):
        return str(value.dtype), value.tolist()
    if isinstance(value, tuple):
        return tuple(map(plain, value))
    return type(value).__name__, repr(value)


def trained(make, change):
    """A training that changes a variable in each step; what it is in the end is in `run.seen`."""

    def train(run):
        shim = run.attach()
        state = shim.state(own=make())
        for _ in shim.epochs(2):
            for batch in shim.batches(DataLoader(Numbers(), 2)):
                state.own = change(state.own, shim.step)
                run.see(batch)
        run.seen.batches.append([plain(state.own)])

    return train


@pytest.mark.parametrize("kind", KINDS)
def test_a_value_goes_on_where_it_was(tmp_path, kind):
    """
    Left twice and begun again, it is in the end what it is without.
    """
    whole, cut = whole_and_cut(tmp_path, trained(*KINDS[kind]), [5, 14])

    assert whole == cut


@pytest.mark.parametrize("kind", OBJECTS)
def test_the_object_that_the_script_made_is_the_one_that_goes_on(tmp_path, kind):
    """
    Whoever was given it before has what was saved, too.
    """
    make, change = OBJECTS[kind]

    def train(run):
        own = make()
        shim = run.attach()
        state = shim.state(own=own)
        assert state.own is own
        for _ in shim.epochs(2):
            for batch in shim.batches(DataLoader(Numbers(), 2)):
                change(own, shim.step)
                run.see(batch)
        run.seen.batches.append([plain(own)])

    whole, cut = whole_and_cut(tmp_path, train, [5, 14])

    assert whole == cut


@pytest.mark.parametrize(
    "make", [lambda: 0.0, list, lambda: random.Random(5)], ids=["number", "list", "generator"]
)
def test_what_is_set_at_the_head_of_an_epoch_is_not_set_again_in_its_middle(tmp_path, make):
    """
    A hidden state begins anew with each epoch, and goes on in one that is taken up.
    """

    def train(run):
        shim = run.attach()
        state = shim.state(own=make())
        for epoch in shim.epochs(3):
            if isinstance(state.own, random.Random):
                state.own.seed(epoch)
            else:
                state.own = make()
            for batch in shim.batches(DataLoader(Numbers(), 4)):
                if isinstance(state.own, float):
                    state.own = state.own * 0.5 + 1
                elif isinstance(state.own, list):
                    state.own.append(shim.step)
                run.seen.batches.append([plain(state.own)] if isinstance(state.own, list) else [0])
                factor = state.own if isinstance(state.own, float) else 1.0
                run.see(batch * (state.own.random() if isinstance(state.own, random.Random) else factor))
        run.seen.batches.append([plain(state.own)])

    whole, cut = whole_and_cut(tmp_path, train, [4, 6, 9])

    assert whole == cut


@pytest.fixture
def shim(tmp_path):
    made = trainer_shim.attach(checkpoints=tmp_path)
    yield made
    made.detach()


class Odd:
    """What no checkpoint can hold."""


@pytest.mark.parametrize(
    "value",
    [Odd(), [Odd()], {"a": (1, Odd())}, lambda: None],
    ids=["object", "in a list", "in a map", "function"],
)
def test_what_cannot_be_stored_is_refused_where_it_is_put_in(shim, value):
    """
    With its path, and what was there before stays.
    """
    state = shim.state(best=1.0)

    with pytest.raises(trainer_shim.CannotStore) as refused:
        state.best = value

    assert refused.value.path.startswith("state.best")
    assert 1.0 == state.best
    with pytest.raises(trainer_shim.CannotStore):
        shim.state(other=Odd())


def test_what_a_container_comes_to_hold_is_refused_at_the_first_boundary(shim):
    """
    Not at the first pause, which may be days later.
    """
    state = shim.state(history=[])
    state.history.append(Odd())

    with pytest.raises(trainer_shim.CannotStore, match=r"state\.history"):
        shim.boundary()


def test_names_are_those_that_were_given(shim):
    """
    A misspelt one is an error that says what to write; one is made once.
    """
    state = shim.state(best=1.0, it=0)
    more = shim.state(bad=2)

    with pytest.raises(AttributeError, match=r"shim\.state\(bst="):
        state.bst = 2
    with pytest.raises(AttributeError, match=r"shim\.state\(bad="):
        _ = state.bad
    with pytest.raises(ValueError, match="twice"):
        shim.state(best=3.0)
    assert "state(best=1.0, it=0)" == repr(state)
    assert (2, ["best", "it"]) == (more.bad, list(state))


def test_another_kind_of_value_than_the_checkpoint_has_is_refused(tmp_path):
    """
    A generator cannot be set to a number, nor one of numpy's to the state of Python's.
    """
    for initial, is_fine in (
        (random.Random(1), True),
        (np.random.default_rng(1), False),
        (0.5, False),
        (random.Random(2), True),
    ):
        shim = trainer_shim.attach(checkpoints=tmp_path)
        try:
            if is_fine:
                shim.state(own=initial)
                shim.boundary()
                shim.checkpoint()
            else:
                with pytest.raises(trainer_shim.CannotRestore, match=r"state\.own"):
                    shim.state(own=initial)
        finally:
            shim.detach()


def test_a_variable_that_the_script_does_not_ask_for_any_more_is_told(tmp_path, capfd):
    """
    It is not in the next checkpoint, so it is said while the older one is there.
    """
    for names in ({"best": 1.0, "old": 2}, {"best": 1.0, "new": 3}):
        shim = trainer_shim.attach(checkpoints=tmp_path)
        state = shim.state(**names)
        state.best += 1
        shim.boundary()
        shim.checkpoint()
        shim.detach()

    assert 3.0 == state.best
    assert "`old` of shim.state()" in capfd.readouterr().err
