"""What can be stored, what is refused and how it is said."""

from __future__ import annotations

import enum
import threading
from collections import ChainMap, OrderedDict, defaultdict
from datetime import date
from functools import partial
from random import SystemRandom
from typing import NamedTuple

import numpy as np
import pytest
import torch

from trainer_shim.checkpoint import tree
from trainer_shim.checkpoint.arrays import make_place
from trainer_shim.checkpoint.live import Live
from trainer_shim.checkpoint.strides import laid_out
from trainer_shim.errors import CannotStore, Damaged


class Point(NamedTuple):
    x: int


class Color(enum.IntEnum):
    RED = 1


class Later(date):
    pass


class Weight(torch.Tensor):
    pass


def comes_back(state):
    """Through the skeleton and plain memory, without a file."""
    skeleton, blocks = tree.encode(state)
    node = tree.parse(skeleton)
    nodes, places = tree.block_nodes(node), {}
    for block in blocks:
        places[block.name] = make_place(nodes[block.name], block.dtype, block.shape)
        places[block.name].memory[:] = block.fetch(0, block.size_bytes)
    values = {name: laid_out(place.value, nodes[name].get("strides")) for name, place in places.items()}
    return tree.decode(node, values)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (lambda: 0, "a function"),
        (len, "a function"),
        (int, "a class"),
        (partial(len), "a function"),
        (np.sin, "a function"),
        (torch.nn.Linear(1, 1), "an object of type `torch.nn.modules.linear.Linear`"),
        (threading.Lock(), "an object of type `_thread.lock`"),
        (iter([]), "an object of type `builtins.list_iterator`"),
        (Color.RED, "a member of the enum"),
        (Point(1), "a named tuple"),
        (ChainMap({}), "a map of type `collections.ChainMap`"),
        (defaultdict(lambda: 1), "a function"),
        (SystemRandom(), "an object of type `random.SystemRandom`"),
        (Later(2000, 1, 1), "an object of type"),
        ("\ud800", "text with half a surrogate pair"),
        (np.array([object()]), "numpy values of type `object`"),
        (np.zeros(2, [("a", "f4")]), "numpy values of type"),
        (np.ma.array([1]), "an array of type"),
        (torch.eye(2).to_sparse(), "a tensor of layout sparse_coo"),
        (torch.empty(2, device="meta"), "a tensor on the meta device"),
        (torch.eye(2).as_subclass(Weight), "a tensor of type"),
        ({1, len}, "a set with a member of type `builtin_function_or_method`"),
        ({2, Color.RED}, "a member of the enum"),
        ({int: 1}, "a key of type `type`"),
        ({(1, object()): 1}, "a key of type `tuple`"),
        ({torch.ones(1): 1}, "a key of type `Tensor`"),
    ],
)
def test_what_has_no_safe_form_is_refused_with_its_path_and_a_hint(value, reason):
    """
    The message names the one entry to change among thousands, and how.
    """
    with pytest.raises(CannotStore) as caught:
        tree.encode({"optimizer": {"state": {3: {"hook": value}}}}, Live())

    assert str(caught.value).startswith("optimizer.state.3.hook")
    assert f"cannot store {reason}" in str(caught.value)
    assert caught.value.hint


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_quantized_tensor_is_refused():
    """
    Scale and zero point would be lost without a word.
    """
    with pytest.raises(CannotStore, match="a: cannot store a quantized tensor"):
        tree.encode({"a": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)})


def test_a_tensor_whose_memory_was_given_back_is_refused():
    """
    Saving while the model is offloaded is an error, not a crash or garbage.
    """
    tensor = torch.ones(4)
    tensor.untyped_storage().resize_(0)

    with pytest.raises(CannotStore, match="given back"):
        tree.encode({"a": tensor})


def test_a_tree_that_contains_itself_is_refused():
    """
    A cycle is an error at once, not a full disk or a hang.
    """
    inner = []
    inner.append({"again": inner})

    with pytest.raises(CannotStore, match=r"a\.0\.again: cannot store a list that contains itself"):
        tree.encode({"a": inner})


def test_a_tree_may_be_deep_but_not_endless():
    """
    The deepest tree that is accepted can also be read back.
    """
    deep = 0
    for _ in range(tree.MAX_DEPTH - 1):
        deep = {(): deep}  # The kind of node that nests deepest in JSON.
    comes_back({"a": deep})

    with pytest.raises(CannotStore, match="deeper than"):
        tree.encode({"a": [deep]})


def test_tied_weights_are_stored_once_and_come_back_as_one():
    """
    After a resume, training one of two tied weights trains the other.
    """
    weight = torch.nn.Parameter(torch.arange(6.0).reshape(2, 3))
    state = {
        "in": weight,
        "out": weight,
        "seen": weight.detach(),
        "seen too": weight.detach(),
        "other": weight[:1],
    }
    _, blocks = tree.encode(state)

    back = comes_back(state)
    with torch.no_grad():
        back["in"].fill_(7)

    assert ["in", "other"] == [block.name for block in blocks]
    assert back["in"] is back["out"]
    assert back["seen"] is back["seen too"]
    assert 7 == back["seen"][0, 0]
    assert 0 == back["other"][0, 0]


def test_equal_tensors_that_are_not_one_stay_apart():
    """
    Two layers that start with the same numbers do not become tied.
    """
    state = {"a": torch.zeros(0), "b": torch.zeros(0), "c": torch.ones(2), "d": torch.ones(2)}
    state |= {"e": state["c"].view(2, 1), "f": state["c"].view(torch.int32)}
    square = torch.arange(4).reshape(2, 2)
    state |= {"g": square, "h": square.T}
    back = comes_back(state)

    assert [[0, 2], [1, 3]] == back["h"].tolist()
    assert 8 == len({id(value) for value in back.values()})
    assert [(2,), (2, 1), (2,)] == [tuple(back[key].shape) for key in "cef"]
    assert torch.int32 == back["f"].dtype


def test_equal_arrays_that_are_not_one_stay_apart():
    """
    Two counters that start with the same numbers do not become one; one array on two ways stays one.
    """
    one, square = np.zeros(3), np.arange(4.0).reshape(2, 2)
    state = {"a": one, "b": np.zeros(3), "again": one, "c": np.zeros(0), "d": np.zeros(0)}
    state |= {"square": square, "turned": square.T, "flat": square.reshape(-1), "bits": square.view("i8")}
    state |= {"first": square[:1], "second": square[1:], "reversed": square[::-1]}
    _, blocks = tree.encode(state)
    back = comes_back(state)
    back["a"][0] = 7

    assert len(state) - 1 == len(blocks)
    assert back["a"] is back["again"]
    assert 0 == back["b"][0]
    assert len(state) - 1 == len({id(value) for value in back.values()})
    assert all(np.array_equal(state[name], back[name]) for name in state if name not in ("a", "again"))
    assert np.int64 == back["bits"].dtype


@pytest.mark.parametrize(
    "make", [lambda: np.zeros(3), lambda: torch.zeros(3), lambda: bytes(5000), lambda: torch.zeros(0)]
)
def test_many_equal_values_are_as_many_after_a_resume(make):
    """
    Whatever addresses they had: some are taken again while the others are stored.
    """
    back = comes_back({"all": [make() for _ in range(20)]})["all"]

    assert 20 == len({id(one) for one in back})


def test_a_module_state_dict_keeps_its_order_and_metadata():
    """
    Layers that look at their version number when they load still find it.
    """
    before = torch.nn.BatchNorm1d(3).state_dict()
    after = comes_back({"model": before})["model"]

    assert type(after) is OrderedDict
    assert list(before) == list(after)
    assert before._metadata == after._metadata


def test_an_attribute_on_a_map_is_refused_and_not_lost():
    """
    Nothing of a state disappears in silence.
    """
    state = OrderedDict()
    state.extra = 1

    with pytest.raises(CannotStore, match=r"a\.extra: cannot store an attribute"):
        tree.encode({"a": state})


def test_a_set_is_stored_in_one_order_however_it_grew():
    """
    Equal states give equal files, so that their digests can be compared.
    """
    assert list({0, 8}) != list({8, 0})
    assert tree.encode({"a": {0, 8}}) == tree.encode({"a": {8, 0}})


def test_an_integer_that_a_double_cannot_hold_is_stored_as_text():
    """
    A reader in another language gets the exact number too, however long it is.
    """
    skeleton, _ = tree.encode({"small": 2**53, "large": 2**53 + 1})
    long = {"seed": -(10**6000)}

    assert b'{"state":{"small":9007199254740992,"large":{"$":"int","hex":"0x20000000000001"}}}' == skeleton
    assert long == comes_back(long)


def test_an_optimizer_goes_on_with_its_own_state():
    """
    AdamW's moments and options survive the way to the disk.
    """
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, betas=(0.8, 0.9))
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    before = optimizer.state_dict()
    other = torch.optim.AdamW(torch.nn.Linear(2, 2).parameters())

    other.load_state_dict(comes_back({"optimizer": before})["optimizer"])

    assert repr(before) == repr(other.state_dict())


def test_paths_that_look_alike_do_not_share_a_tensor():
    """
    {"a.b": x} and {"a": {"b": y}} are two tensors.
    """
    state = {"a.b": torch.tensor(1), "a": {"b": torch.tensor(2)}, "__metadata__": torch.tensor(3)}
    _, blocks = tree.encode(state)
    back = comes_back(state)

    assert ["a.b", "a.b#2", "__metadata__#2"] == [block.name for block in blocks]

    assert (1, 2, 3) == (back["a.b"].item(), back["a"]["b"].item(), back["__metadata__"].item())


@pytest.mark.parametrize(
    "state",
    [
        {"a.b": b"x" * 5000, "a": {"b": b"y" * 5000}},
        {"a": {1: bytearray(b"x" * 5000), "1": bytearray(b"y" * 6000)}},
    ],
)
def test_two_byte_strings_of_one_path_are_two(state):
    """
    {"a.b": x} and {"a": {"b": y}} come back as they were, long as they may be.
    """
    assert state == comes_back(state)


def test_conjugate_and_expanded_views_are_stored_as_they_look():
    """
    Lazy views of torch are resolved; the user's own tensor is left alone.
    """
    view = torch.tensor([1 + 2j]).conj()
    back = comes_back({"conj": view, "neg": view.imag, "wide": torch.tensor([5]).expand(3)})

    assert 1 - 2j == back["conj"].item()
    assert -2 == back["neg"].item()
    assert [5, 5, 5] == back["wide"].tolist()
    assert view.is_conj()


@pytest.mark.parametrize(
    "skeleton",
    [
        b"",
        b"[]",
        b'{"state": 1',
        b'{"other": 1}',
        b"[" * 100_000,
        b'{"state": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"state": {"$": "pickle", "data": ""}}',
        b'{"state": {"$": []}}',
        b'{"state": {"$": "tuple"}}',
        b'{"state": {"$": "dict", "items": [[[], 1]]}}',
        b'{"state": {"$": "int", "hex": "x"}}',
        b'{"state": {"$": "float", "bits": "00"}}',
        b'{"state": {"$": "bytes", "base64": "?"}}',
        b'{"state": {"$": "tensor", "block": "gone"}}',
        b'{"state": {"$": "numpy.scalar", "dtype": "|O8", "hex": ""}}',
        b'{"state": {"$": "torch.device", "name": "moon"}}',
        b'{"state": {"$": "numpy.scalar", "dtype": "<f8", "hex": "00"}}',
        b'{"state": {"$": "torch.Size", "items": ["a"]}}',
        b"\xff\xfe",
    ],
)
def test_a_senseless_skeleton_is_damage_and_nothing_else(skeleton):
    """
    A broken file ends in one kind of error, and an older checkpoint is used.
    """
    with pytest.raises(Damaged):
        tree.decode(tree.parse(skeleton), {})


def test_nodes_that_disagree_about_a_block_are_damage():
    """
    One piece of bytes is never read as two types.
    """
    one = {"$": "tensor", "dtype": "float32", "shape": [1], "block": "a"}

    with pytest.raises(Damaged, match="two ways"):
        tree.block_nodes([one, one | {"dtype": "int32"}])
