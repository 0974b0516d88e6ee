"""Plain values of the data: telling them apart in two processes, and small forms of long ones."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import deque

import msgspec
import numpy as np
import pytest
import torch

from trainer_shim import values

LONG = list(range(10_000))
SAME = {
    "numbers": lambda: [1, 2.5, True, None],
    "text": lambda: "x" * 10,
    "long list": lambda: list(range(10_000)),
    "list of pairs": lambda: [(str(number), number) for number in range(10_000)],
    "map": lambda: {"a": [1, (2, 3)], 4: {"b": deque([1])}},
    "long map": lambda: {number: str(number) for number in range(10_000)},
    "set": lambda: {"b", "a", "c"},
    "array": lambda: np.arange(10),
    "tensor": lambda: torch.arange(10),
    "bfloat16": lambda: torch.ones(3, dtype=torch.bfloat16),
    "no elements": lambda: torch.ones(0, 3),
}


@pytest.mark.parametrize("name", SAME)
def test_equal_values_have_the_same_print(name):
    """
    Two copies cannot be told apart.
    """
    one = values.printed(SAME[name]())

    assert one is not None
    assert one == values.printed(SAME[name]())


def test_a_print_is_the_same_in_another_process():
    """
    Also of a set, whose order is another there.
    """
    code = "from trainer_shim import values; print(values.printed({'a', 'b', 'c', 'd'}))"
    said = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        for _ in "123"
    }

    assert {f"{values.printed({'d', 'c', 'b', 'a'})}\n"} == said


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, True),
        (1, 1.0),
        (0.0, -0.0),
        ([1, 2], [2, 1]),
        ([1, 2], (1, 2)),
        ([[1], 2], [[1, 2]]),
        ({"a": 1}, {"a": 2}),
        (np.ones(2), np.ones((1, 2))),
        (np.ones(2, "f4"), np.ones(2, "f8")),
        (torch.ones(2), torch.zeros(2)),
        (LONG, [*LONG[:-1], 1]),
        (LONG, LONG[::-1]),
    ],
)
def test_values_that_differ_have_other_prints(one, other):
    """
    In number, kind, order or shape.
    """
    assert values.printed(one) != values.printed(other)


def test_a_shuffle_of_a_very_long_list_cannot_hide():
    """
    Of a million items some thousand are looked at.
    """
    items = list(range(1_000_000))
    before = values.printed(items)
    random.Random(1).shuffle(items)

    assert before != values.printed(items)


@pytest.mark.parametrize("value", [object(), [object()], {"a": lambda: 1}, open, np.array([object()])])
def test_what_is_not_plain_has_no_print(value):
    """
    It is nobody's to keep.
    """
    assert values.printed(value) is None


@pytest.mark.parametrize(
    "value",
    [
        LONG,
        tuple(LONG),
        deque(LONG, maxlen=20_000),
        [(str(number), number) for number in range(10_000)],
        {number: str(number) for number in range(10_000)},
        [2**70, *LONG],
        [1.5, (2, 3)],
        {"a": {1, 2}},
        "text",
        None,
    ],
)
def test_a_value_comes_back_from_its_form_as_it_was(value):
    """
    Long ones as bytes, which a checkpoint writes fast.
    """
    back = values.unpacked(values.packed(value))

    assert (type(value), value) == (type(back), back)


def test_long_lists_are_kept_as_bytes():
    """
    As a hundred thousand nodes they would make each save slow.
    """
    form = values.packed(LONG)

    assert len(msgspec.msgpack.encode(form)) < 3 * len(LONG) + 100


def test_what_is_very_large_is_not_kept():
    """
    It is noticed by its print, and told.
    """
    assert values.packed(np.zeros(70 << 20, "u1")) is None


def test_whatever_is_kept_is_known_by_each_of_its_bytes():
    """
    Of larger arrays only places are looked at, and those are not kept.
    """
    largest = np.zeros(64 << 20, "u1")
    before = values.printed(largest)
    largest[1] = 1

    assert values.packed(largest) is not None
    assert before != values.printed(largest)


class Thing:
    pass


@pytest.mark.parametrize(
    ("present", "value"),
    [([1, 2], [3]), ({1: 2}, {3: 4}), ({1}, {2}), (deque([1]), deque([2])), (np.ones(2), np.zeros(2))],
)
def test_a_container_that_others_hold_stays_the_object_that_it_is(present, value):
    """
    An iterator over it, or another part of the data, sees the change.
    """
    thing = Thing()
    thing.held = present
    values.assign(thing, "held", present, value)

    assert thing.held is present
    assert values.printed(present) == values.printed(value)


def test_batches_are_told_apart_by_their_beginnings():
    """
    Whatever they are made of.
    """
    batch = {"x": torch.arange(6.0), "y": [torch.ones(2), "name"]}
    other = {"x": torch.arange(6.0), "y": [torch.zeros(2), "name"]}

    assert values.printed_batch(batch) == values.printed_batch(dict(batch))
    assert values.printed_batch(batch) != values.printed_batch(other)
