"""The walk over what a data loader can reach: where it looks, what it leaves alone, and its bounds."""

from __future__ import annotations

import collections
import functools
import importlib
import itertools
import random
import threading
import types

import numpy as np
import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, RandomSampler

from trainer_shim import reach

of_the_module = random.Random(2)


def find(thing):
    """
    The generators that a walk from `thing` comes to.
    """
    return list(reach.walk({"it": thing}).generators.values())


class Transform:
    """Something with a generator, as data sets carry them."""

    def __init__(self):
        self.own = np.random.default_rng(1)


class Nested:
    """A data set with generators in several places, some of them twice."""

    def __init__(self):
        self.first = random.Random(1)
        self.transforms = [Transform(), {"more": torch.Generator()}]
        self.again = (self.first, self)
        self.rows = list(range(100))
        self.system = random.SystemRandom()
        self.kind = Transform

    @property
    def trap(self):
        raise AssertionError("a property was called")

    def __repr__(self):
        raise AssertionError("it was printed")

    def __len__(self):
        raise AssertionError("it was asked for its length")

    def __eq__(self, other):
        raise AssertionError("it was compared")

    __hash__ = None


def test_generators_are_found_once_each_and_in_the_same_order():
    """
    Two copies of a data set give their generators under the same names, so the states fit.
    """
    one, other = reach.walk({"dataset": Nested()}), reach.walk({"dataset": Nested()})

    assert ["dataset.first", "dataset.transforms[0].own", "dataset.transforms[1]['more']"] == list(
        one.generators
    )
    assert list(one.generators) == list(other.generators)
    assert [] == one.unseen


class WithSlots:
    __slots__ = ("__hidden", "plain")

    def __init__(self, own):
        self.plain = None
        self.__hidden = own


class InTheClass:
    own = random.Random(3)


class ByStaticMethod:
    @staticmethod
    def draw(own=random.Random(4)):  # noqa: B008 - that is where it lies.
        return own.random()


class ByGlobalName:
    def __getitem__(self, index):
        return [of_the_module.random() for _ in range(index)]


def closure(own):
    return lambda: [own.random()]


def started(own):
    def numbers():
        mine = own
        while True:
            yield mine.random()

    running = numbers()
    next(running)
    return running


PLACES = {
    "partial": lambda own: functools.partial(print, own),
    "keyword of a partial": lambda own: functools.partial(print, rng=own),
    "bound method": lambda own: types.MethodType(print, own),
    "method of C": lambda own: own.random,
    "closure": closure,
    "slots": WithSlots,
    "deque": lambda own: collections.deque([own]),
    "long list": lambda own: [*range(1000), own],
    "long list of tuples": lambda own: [*((number, "x") for number in range(1000)), (1, own)],
    "set": lambda own: frozenset([own]),
    "ordered map": lambda own: collections.OrderedDict(a=own),
    "namespace": lambda own: types.SimpleNamespace(rng=own),
    "generator that runs": started,
    "generator that waits": lambda own: (own.random() for _ in range(3)),
    "zip": lambda own: zip([1], [own], strict=True),
    "islice of a generator": lambda own: itertools.islice((own for _ in range(3)), 2),
    "sampler in a batch sampler": lambda own: BatchSampler([own], 2, drop_last=False),
    "module": lambda own: [_module(own)],
}


def _module(own):
    module = torch.nn.Identity()
    module.own = own
    return module


@pytest.mark.parametrize("place", PLACES)
def test_a_generator_is_found_where_people_put_it(place):
    """
    Attributes are not the only place.
    """
    own = random.Random(7)

    assert [own] == find(PLACES[place](own))


@pytest.mark.parametrize(
    ("thing", "own"),
    [
        (InTheClass(), InTheClass.own),
        (ByStaticMethod(), ByStaticMethod.draw.__defaults__[0]),
        (ByGlobalName(), of_the_module),
    ],
)
def test_a_generator_of_the_class_is_found(thing, own):
    """
    What the code of the script reaches by a name belongs to its data.
    """
    assert [own] == find(thing)


def test_the_parts_of_a_library_do_not_lead_through_all_of_it():
    """
    A lock, a thread and a file of Python's own hold nothing of the script's.
    """
    found = reach.walk({"it": [threading.Lock(), threading.current_thread(), torch.ones(3), np.ones(3)]})

    assert reach.Found({}, {}, [], {}) == found


def test_a_walk_that_comes_to_its_bounds_says_where():
    """
    A million objects are not entered; the first that was left out has a name.
    """
    many = [Transform() for _ in range(60_000)]
    found = reach.walk({"dataset": many})

    assert ["dataset"] == found.unseen


def test_a_million_plain_items_cost_next_to_nothing():
    """
    Their types are asked at once.
    """
    loader = DataLoader([(str(number), number) for number in range(200_000)], shuffle=True)
    found = reach.walk({"dataset": loader.dataset, "sampler": loader.sampler})

    assert [] == found.unseen
    assert ["sampler"] == list(found.owners)


def test_a_generator_of_a_helper_module_is_found(tmp_path, monkeypatch):
    """
    The script's code names the module only, and the function as its attribute.
    """
    (tmp_path / "augmenting.py").write_text(
        "import random\nown = random.Random(4)\ndef jitter(x):\n    return x + own.random()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    helper = importlib.import_module("augmenting")
    names = {"helper": helper}
    exec("def collate(batch): return helper.jitter(batch)", names)  # A script of its own.

    assert find(names["collate"]) == [helper.own]


class Trainer:
    """A script's own object whose method collates: what it holds is the training's business."""

    def __init__(self):
        self.model = torch.nn.Linear(1, 1)
        self.optimizer = torch.optim.SGD(self.model.parameters())
        self.step = 3
        self.own = random.Random(1)

    def collate(self, batch):
        return batch


def test_an_object_that_holds_the_training_keeps_its_values_for_itself():
    """
    Its generators are the data's, as it collates; its counters are not.
    """
    trainer = Trainer()
    found = reach.walk({"collate_fn": trainer.collate})

    assert [trainer.own] == list(found.generators.values())
    assert not any(one is trainer for one in found.owners.values())


def test_an_iterator_of_a_loader_is_looked_through_but_for_its_place():
    """
    What it was made of is found, and nothing that is another at each batch.
    """
    own = torch.Generator()
    data = [torch.ones(1)] * 8
    running = iter(DataLoader(data, sampler=RandomSampler(data, generator=own)))
    before = list(reach.walk({"loader": running}).generators)
    next(running)
    found = reach.walk({"loader": running})

    assert before == list(found.generators)
    assert own in found.generators.values()
