"""How a tensor lies in memory comes back too, and nothing senseless about it is believed."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.fakes.forgery import forge
from tests.unit.checkpoint.test_checkpoint_tree import comes_back
from trainer_shim.checkpoint import Store, tree
from trainer_shim.checkpoint.layout import Name
from trainer_shim.checkpoint.reader import load
from trainer_shim.checkpoint.view import viewed
from trainer_shim.errors import Damaged


def numbers(*shape, dtype=torch.float32):
    return torch.arange(torch.Size(shape).numel(), dtype=torch.float32).reshape(shape).to(dtype)


#: Non-overlapping and dense: these strides stay.
OWN = {
    "channels_last": numbers(2, 3, 4, 5).to(memory_format=torch.channels_last),
    "channels_last with one channel": numbers(4, 1, 3, 3).to(memory_format=torch.channels_last),
    "channels_last_3d": numbers(2, 3, 2, 2, 2).to(memory_format=torch.channels_last_3d),
    "transposed": numbers(3, 4).T,
    "permuted": numbers(2, 3, 4).permute(2, 0, 1),
    "with a dimension of one in the middle": numbers(2, 1, 3).permute(2, 1, 0),
    "part of larger memory": numbers(4, 3, 2)[1:3].mT,
    "bfloat16": numbers(3, 4, dtype=torch.bfloat16).T,
    "complex": numbers(3, 4, dtype=torch.complex64).T,
    "complex128, stored in parts": numbers(3, 4, dtype=torch.complex128).T,
    "float8": numbers(3, 4, dtype=torch.float8_e4m3fn).T,
    "bool": numbers(3, 4, dtype=torch.bool).T,
    "conjugate": numbers(3, 4, dtype=torch.complex64).T.conj(),
    "parameter": torch.nn.Parameter(numbers(3, 4).T),
    "needs a gradient": numbers(3, 4).T.requires_grad_(),
}
#: With gaps or overlaps: as torch's own copies of them.
COPIED = {
    "expanded": numbers(3, 1).expand(3, 4),
    "expanded and transposed": numbers(1, 4).expand(3, 4).T,
    "every other column": numbers(4, 6)[:, ::2],
    "a slice of a transposed one": numbers(4, 6).T[1:4],
    "a slice of channels_last": numbers(2, 6, 4, 4).to(memory_format=torch.channels_last)[:, 1:4],
    "negative": numbers(3, 4, dtype=torch.complex64).T.conj().imag,
    "overlapping": numbers(8).as_strided((3, 3), (1, 2)),
}
#: In their own order, whatever they are made of.
PLAIN = {
    "contiguous": numbers(2, 3),
    "no dimension": torch.tensor(3.0),
    "empty": torch.empty(3, 0, 2).mT,
    "one element": torch.ones(1, 1, 1).permute(2, 0, 1),
    "one row, expanded": torch.ones(3).expand(1, 3),
}


def same_bits(one, other):
    raw = [
        x.detach().resolve_conj().resolve_neg().contiguous().reshape(-1).view(torch.uint8)
        for x in (one, other)
    ]
    return torch.equal(*raw) and one.dtype == other.dtype and one.shape == other.shape


def stored(root, state):
    with Store(root, job="j") as store:
        return store.save(state, step=1, epoch=0, facts={}).path


@pytest.mark.parametrize("name", OWN)
def test_a_tensor_comes_back_with_its_own_strides(tmp_path, name):
    """
    A kernel that walks raw memory goes on as before: fused optimizers, norms.
    """
    tensor = OWN[name]
    back = load(stored(tmp_path, {"a": tensor})).state["a"]

    assert tensor.stride() == back.stride()
    assert same_bits(tensor, back)
    assert (tensor.requires_grad, type(tensor)) == (back.requires_grad, type(back))


@pytest.mark.parametrize("name", COPIED)
def test_a_view_with_gaps_or_overlaps_comes_back_as_a_copy_of_it_lies(tmp_path, name):
    """
    The rule is that of `torch.empty_like`, so that nothing is known of it that torch does not say.
    """
    tensor = COPIED[name]
    back = load(stored(tmp_path, {"a": tensor})).state["a"]

    assert torch.empty_like(tensor).stride() == back.stride()
    assert same_bits(tensor, back)


@pytest.mark.parametrize("name", PLAIN)
def test_a_tensor_in_its_own_order_says_nothing_of_strides(name):
    """
    Checkpoints of most runs are byte for byte what they were.
    """
    skeleton, _ = tree.encode({"a": PLAIN[name]})

    assert b"strides" not in skeleton
    assert PLAIN[name].shape == comes_back({"a": PLAIN[name]})["a"].shape


@pytest.mark.parametrize("name", [*OWN, *COPIED, *PLAIN])
def test_other_readers_find_every_tensor_in_its_shape_and_order(tmp_path, name):
    """
    The layout stands beside the tensor file, not in it: safetensors' own reader sees equal tensors.
    """
    tensor = {**OWN, **COPIED, **PLAIN}[name].detach()
    there = load_file(stored(tmp_path, {"a": tensor}) / "rank-00000.safetensors")["a"]

    expected = torch.view_as_real(tensor.resolve_conj()) if tensor.dtype == torch.complex128 else tensor
    assert same_bits(expected, there)


@pytest.mark.parametrize(
    "array",
    [
        np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        np.arange(24, dtype=">i4").reshape(2, 3, 4).transpose(2, 0, 1),
        np.arange(6).astype("M8[s]").reshape(2, 3).T,
        np.arange(12.0).reshape(3, 4)[:, ::2],
        np.arange(12.0).reshape(3, 4)[::-1],
        np.broadcast_to(np.arange(3.0), (4, 3)),
        np.arange(6.0).reshape(2, 1, 3).T,
        np.arange(12.0).reshape(3, 4).T[:, 1:],
    ],
)
def test_an_array_comes_back_as_numpys_own_copy_of_it_lies(tmp_path, array):
    """
    Arrays in Fortran's order stay so.
    """
    back = load(stored(tmp_path, {"a": array})).state["a"]
    copy = np.empty_like(array)

    many = [dim for dim, length in enumerate(array.shape) if length > 1]
    assert [copy.strides[dim] for dim in many] == [back.strides[dim] for dim in many]
    assert array.tobytes() == back.tobytes()
    assert array.dtype == back.dtype


def test_what_came_back_is_stored_again_as_the_same_text(tmp_path):
    """
    A run that is paused often does not drift from one layout to another.
    """
    state = {**OWN, **COPIED, "array": np.arange(6.0).reshape(2, 1, 3).T}
    back = load(stored(tmp_path / "a", state)).state
    again = load(stored(tmp_path / "b", back)).state

    assert tree.encode(back)[0] == tree.encode(again)[0]


def test_tied_weights_in_another_layout_are_one_again(tmp_path):
    """
    They share memory, and another view of that memory stays apart.
    """
    weight = torch.nn.Parameter(numbers(2, 3, 4, 4).to(memory_format=torch.channels_last))
    state = {
        "in": weight,
        "out": weight,
        "seen": weight.detach(),
        "turned": weight.detach().permute(0, 2, 3, 1),
    }
    back = load(stored(tmp_path, state)).state

    assert back["in"] is back["out"]
    assert back["in"].data_ptr() == back["seen"].data_ptr()
    assert back["in"].stride() == weight.stride()
    assert back["turned"].is_contiguous()


def test_a_tool_that_looks_at_one_tensor_sees_its_layout(tmp_path):
    """
    What is exported is laid out as it was trained.
    """
    path = stored(tmp_path, {"a": OWN["channels_last"], "b": np.asfortranarray(np.eye(3, 2))})
    with viewed(path, Name(1)) as view:
        tensor, array = view.value(view.skeleton["a"]), view.value(view.skeleton["b"])

    assert OWN["channels_last"].stride() == tensor.stride()
    assert torch.equal(OWN["channels_last"], tensor)
    assert array.flags.f_contiguous


def test_loading_takes_one_more_tensor_at_a_time_and_not_all_of_them(tmp_path):
    """
    A state that just fits into memory can still be restored.
    """
    arrays = {str(index): np.asfortranarray(np.full((512, 512), index, "f8")) for index in range(16)}
    one = arrays["0"].nbytes
    path = stored(tmp_path, arrays)
    tracemalloc.start()
    state = load(path).state
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert 7.0 == state["7"][3, 4]
    assert peak < 16 * one + 2.5 * one


@pytest.mark.parametrize(
    "strides",
    [
        "[1]",
        "[1,2,6]",
        "[]",
        "[-1,2]",
        "[0,0]",
        "[1,1]",
        "[1,4]",
        "[2,3]",
        "[4,1]",
        "[1,1e9]",
        "[1,4611686018427387904]",
        "[1,18446744073709551616]",
        "[true,2]",
        "[1,2.0]",
        '["1",2]',
        '"12"',
        "7",
        "null",
        "{}",
    ],
)
@pytest.mark.parametrize("value", [numbers(3, 2).T, np.asfortranarray(np.zeros((2, 3), "f4"))])
def test_strides_that_make_no_sense_are_damage(tmp_path, strides, value):
    """
    No number in a file decides where memory is read or written.
    """
    path = stored(tmp_path, {"a": value})
    forge(
        path,
        "rank-00000.json",
        lambda text: text.replace(b'"strides":[1,2]', b'"strides":' + strides.encode()),
    )

    with pytest.raises(Damaged, match=str(path)):
        load(path)


def test_a_stride_of_a_dimension_with_one_element_may_be_any_but_not_endless(tmp_path):
    """
    There it decides nothing, but must still be a number that the library takes.
    """
    tensor = numbers(3).as_strided((1, 3), (1000, 1))
    path = stored(tmp_path, {"a": tensor})

    assert (1000, 1) == load(path).state["a"].stride()
    forge(path, "rank-00000.json", lambda text: text.replace(b"[1000,1]", b"[9223372036854775808,1]"))
    with pytest.raises(Damaged, match="out of range"):
        load(path)


def test_nodes_of_one_block_must_agree_on_its_layout(tmp_path):
    """
    One piece of memory lies in one way.
    """
    node = {"$": "tensor", "dtype": "float32", "shape": [2, 3], "block": "a", "strides": [1, 2]}

    with pytest.raises(Damaged, match="two ways"):
        tree.block_nodes([node, {key: node[key] for key in node if key != "strides"}])
