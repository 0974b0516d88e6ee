"""What is stored by name comes back as the live object of a fresh process, or not at all."""

from __future__ import annotations

import enum
from collections import Counter, OrderedDict, defaultdict, deque
from functools import lru_cache, partial
from types import MappingProxyType, SimpleNamespace
from typing import NamedTuple

import pytest
import torch

from tests.unit.checkpoint.test_checkpoint_tree import comes_back
from trainer_shim.checkpoint import tree
from trainer_shim.checkpoint.live import Live, LiveEnum, LiveName, LiveObject, LiveTuple
from trainer_shim.checkpoint.resolve import resolve
from trainer_shim.errors import CannotRestore, CannotSave, CannotStore

HERE = __name__


class Point(NamedTuple):
    x: int
    y: object = None


class Phase(enum.Enum):
    WARM = "w"
    MAIN = ("m", 1)


class Rank(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Mode(enum.StrEnum):
    MIN = "min"


class Parts(enum.Flag):
    HEAD = 1
    BODY = 2


class Bits(enum.IntFlag):
    A = 1
    B = 2


class Average:
    """An object with a state of its own."""

    def __init__(self, mean=0.0, inner=None):
        self.mean, self.inner = mean, inner

    def state_dict(self):
        return {"mean": self.mean, "inner": self.inner}

    def load_state_dict(self, state):
        self.mean, self.inner = state["mean"], state["inner"]


def warm(step):
    return step


def there_and_back(state, fresh):
    """Stored by a process that made `fresh` before it began, restored in another one that made it too."""
    text, _ = tree.encode(state, tree.record(fresh))
    return resolve(tree.decode(tree.parse(text), {}), "", tree.record(fresh))


@pytest.mark.parametrize(
    "value",
    [
        Point(1),
        Point(Point(2, y=[Rank.LOW])),
        Phase.MAIN,
        Rank.HIGH,
        Mode.MIN,
        Parts.HEAD | Parts.BODY,
        Parts(0),
        Bits.A | Bits.B,
        {Rank.HIGH: 1, Rank.LOW: 2},
        {Point(1, Phase.WARM): 1},
        {Phase.WARM, Phase.MAIN},
        frozenset({(Mode.MIN, 1)}),
        Counter({Mode.MIN: 3}),
        deque([Phase.WARM], 2),
        defaultdict(list, {Mode.MIN: [Phase.WARM]}),
        OrderedDict({Rank.LOW: Point(1)}),
        MappingProxyType({"a": Phase.WARM}),
        SimpleNamespace(a=Phase.WARM),
        slice(Rank.LOW, None),
        (1, (Phase.WARM,)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_named_tuples_and_enums_come_back_by_the_class_of_the_live_state(value):
    """
    Wherever they are in a state: one value of the class in the fresh process's own is enough.
    """
    fresh = {"known": [Point(0), Phase.WARM, Rank.LOW, Mode.MIN, Parts.HEAD, Bits.A]}
    back = there_and_back({"a": value, **fresh}, fresh)["a"]

    assert type(value) is type(back)
    # By what is printed, which tells a member from its value; equal sets may print theirs in another order.
    assert value == back
    assert sorted(repr(value)) == sorted(repr(back))


@pytest.mark.parametrize(
    "value",
    [
        warm,
        len,
        torch.relu,
        lambda step: step,
        partial(warm, 1),
        lru_cache(warm),
        int,
        Average,
        Average().state_dict,
    ],
)
def test_a_function_or_class_comes_back_as_the_one_at_its_place(value):
    """
    A schedule given as a function is what the script made again, and no code is ever in a file.
    """
    back = there_and_back({"a": [{"f": value}]}, {"a": [{"f": value}]})

    assert value is back["a"][0]["f"]


def test_a_missing_entrys_beginning_may_be_the_scripts_own():
    """
    `defaultdict(lambda: 1)` goes on with the live function.
    """
    made = {"a": defaultdict(warm)}
    back = there_and_back({"a": defaultdict(warm, {"x": 1})}, made)["a"]

    assert warm is back.default_factory
    assert {"x": 1} == back


def test_an_object_with_a_state_of_its_own_takes_it_over_and_is_the_live_one():
    """
    A warm-up scheduler that holds the scheduler after it: the attribute stays the script's own object.
    """
    live = Average(0.0, Average())
    fresh = {"after": live}
    text, _ = tree.encode(
        {"after": Average(0.5, Average(2.0, [Average]))},
        tree.record({"after": Average(0, Average(0, [Average]))}),
    )
    with pytest.raises(CannotRestore, match=r"after\.inner\.inner\.0"):
        resolve(tree.decode(tree.parse(text), {}), "", tree.record(fresh))
    live.inner.inner = [Average]

    back = resolve(tree.decode(tree.parse(text), {}), "", tree.record(fresh))

    assert back["after"] is live
    assert (0.5, 2.0) == (live.mean, live.inner.mean)
    assert live.inner.inner == [Average]


@pytest.mark.parametrize(
    ("value", "fresh", "what", "way_out"),
    [
        (Point(1), {}, "a named tuple of type", "._asdict()"),
        (Phase.WARM, {}, "a member of the enum", ".name"),
        (Rank.LOW, {"b": Phase.WARM}, "a member of the enum", "when attach() is called"),
        (warm, {}, "a function, `", "when attach() is called"),
        (warm, {"b": warm}, "a function", "at this place"),
        (warm, {"a": len}, "a function", "at this place"),
        (int, {"a": float}, "a class", "at this place"),
        (Average(), {}, "an object of type", "when attach() is called"),
        (Average(), {"a": torch.nn.Linear(1, 1)}, "an object of type", "when attach() is called"),
    ],
)
def test_what_a_fresh_process_would_not_have_is_refused(value, fresh, what, way_out):
    """
    It could be written, and never be brought back.
    """
    with pytest.raises(CannotStore, match=f"^a: cannot store {what}") as caught:
        tree.encode({"a": value}, tree.record(fresh))

    assert way_out in caught.value.hint


@pytest.mark.parametrize(
    ("saved", "fresh", "words"),
    [
        ({"a": warm}, {"a": len}, f"`a`: `{HERE}.warm` was there"),
        ({"a": warm}, {"b": warm}, f"`a`: `{HERE}.warm` was there"),
        ({"a": Average()}, {"a": torch.nn.Linear(1, 1)}, "`a`: an object of type"),
        ({"a": Average()}, {}, "`a`: an object of type"),
        ({"a": [Point(1)]}, {}, f"`a.0`: a value of type `{HERE}.Point`"),
        ({"a": Phase.WARM}, {"a": Rank.LOW}, f"`a`: a value of type `{HERE}.Phase`"),
    ],
)
def test_what_is_not_there_any_more_stops_the_restore_with_its_path(saved, fresh, words):
    """
    A changed script is told what it lacks, before anything trains.
    """
    text, _ = tree.encode(saved, tree.record(saved))

    with pytest.raises(CannotRestore, match=words) as caught:
        resolve(tree.decode(tree.parse(text), {}), "", tree.record(fresh))
    assert "attach" in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("placeholder", "cls"),
    [
        (LiveEnum("x.E", "GONE"), Phase),
        (LiveEnum("x.E", 64), Parts),
        (LiveEnum("x.E", "WARM"), Point),
        (LiveTuple("x.E", ("x",), (1,)), Point),
        (LiveTuple("x.E", ("y", "x"), (1, 2)), Point),
        (LiveTuple("x.E", ("x",), (1,)), Phase),
    ],
)
def test_a_class_that_changed_meanwhile_stops_the_restore(placeholder, cls):
    """
    A member that is gone, a field that was added: told with its place, not guessed.
    """
    with pytest.raises(CannotRestore, match=r"`a`: `x\.E` ha") as caught:
        resolve({"a": placeholder}, "", Live(classes={"x.E": cls}))
    assert caught.value.hint


def test_a_named_tuples_attribute_is_refused_and_not_lost():
    """
    A class made from a named tuple may carry more.
    """

    class Wide(Point):
        pass

    value = Wide(1)
    value.more = 1

    with pytest.raises(CannotStore, match=r"a\.more: cannot store an attribute"):
        tree.encode({"a": value}, tree.record({"a": value}))


def test_the_record_is_whole_whatever_else_cannot_be_stored():
    """
    A lazy layer that has no shape yet hides no function behind it.
    """
    state = {
        "lazy": torch.nn.LazyLinear(2).state_dict(),
        "lock": object(),
        "f": warm,
        "m": {object(): 1},
        "e": {Phase.WARM},
    }
    live = tree.record(state)

    assert {"f": warm} == live.at
    assert {f"{HERE}.Phase": Phase} == live.classes


def test_an_object_that_cannot_give_its_state_is_an_error_that_names_it():
    """
    Whatever its own code raises.
    """
    part = Average()
    part.state_dict = lambda: 1 / 0

    with pytest.raises(CannotSave, match=r"`a\.b`: its state_dict\(\) raised ZeroDivisionError"):
        tree.encode({"a": {"b": part}})


def test_an_object_that_contains_itself_is_refused():
    """
    Two objects that know each other are an error at once, and not a deep one.
    """
    part = Average()
    part.inner = [part]

    with pytest.raises(CannotStore, match="contains itself"):
        tree.encode({"a": part})


def test_a_tool_without_the_script_sees_what_was_there():
    """
    The names are readable, and nothing has to be importable.
    """
    state = {"f": warm, "e": Phase.WARM, "p": Point(1), "o": Average(0.5)}
    back = comes_back(state)

    assert LiveName(f"{HERE}.warm") == back["f"]
    assert LiveEnum(f"{HERE}.Phase", "WARM") == back["e"]
    assert LiveTuple(f"{HERE}.Point", ("x", "y"), (1, None)) == back["p"]
    assert LiveObject(f"{HERE}.Average", {"mean": 0.5, "inner": None}) == back["o"]
    assert "warm" in repr(back)


def test_containers_without_anything_live_are_the_same_objects_afterwards():
    """
    Large states are not copied for it; a state dict keeps its metadata.
    """
    model = torch.nn.BatchNorm1d(2).state_dict()
    state = {"model": model, "list": [1, (2, {3})], "set": {1}}
    before = {name: id(value) for name, value in state.items()}
    back = resolve(state, "", Live())

    assert back is state
    assert before == {name: id(value) for name, value in back.items()}
    assert model._metadata is back["model"]._metadata
    assert list(torch.nn.BatchNorm1d(2).state_dict()) == list(back["model"])
