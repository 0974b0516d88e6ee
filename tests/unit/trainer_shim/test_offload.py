"""Giving memory back in place and taking it again: what is moved, and that nothing else changes.

Covers: every kind of storage and what refers to it, each failure half-way, on CPU tensors.
Does not cover: a loop (tests/exactness/test_giving_back.py), the daemon
(tests/integration/test_deeper.py), a real device (tests/gpu).
"""

from __future__ import annotations

import collections
import copy
import os
import weakref

import numpy as np
import pytest
import torch

from tests.fakes.device import FakeDevice
from trainer_shim.errors import CannotOffload, CannotReturn
from trainer_shim.offload import Offloader
from trainer_shim.tensors import find


class Part:
    """Anything with a state."""

    def __init__(self, **fields):
        self.__dict__.update(fields)

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


class Slots:
    """Keeps its tensor where only its state shows it."""

    __slots__ = ("tensor",)

    def __init__(self, tensor):
        self.tensor = tensor

    def state_dict(self):
        return {"tensor": self.tensor}

    def load_state_dict(self, state):
        self.tensor = state["tensor"]


def of(**parts):
    """An offloader of these on a device that can be made full."""
    device = FakeDevice()
    return Offloader(parts, device_types=("cpu",), memory=device), device


def held_bytes(*tensors):
    return sum(tensor.untyped_storage().nbytes() for tensor in tensors)


def look(tensor):
    """All that somebody could notice, but for the address."""
    grad = None if tensor.grad is None else id(tensor.grad)
    place = (tuple(tensor.shape), tensor.stride(), tensor.storage_offset(), tensor.dtype, tensor.device)
    return (id(tensor), place, tensor.requires_grad, tensor._version, grad, tensor.untyped_storage().nbytes())


def tensors_of_all_kinds():
    base = torch.randn(6, 8)
    tied = torch.nn.Parameter(torch.randn(4, 4))
    tied.grad = torch.randn(4, 4)
    return {
        "plain": torch.randn(3, 5),
        "base": base,
        "view": base[1:4, ::2],
        "transposed": base.t(),
        "strided": torch.randn(40).as_strided((3, 4), (2, 5), 3),
        "expanded": torch.randn(1).expand(7),
        "scalar": torch.tensor(2.5),
        "empty": torch.empty(0, 3),
        "bf16": torch.randn(5).bfloat16(),
        "half": torch.randn(5).half(),
        "double": torch.randn(5, dtype=torch.float64),
        "complex": torch.randn(5, dtype=torch.complex64),
        "complex128": torch.randn(3, dtype=torch.complex128),
        "conjugated": torch.randn(5, dtype=torch.complex64).conj(),
        "bool": torch.tensor([True, False, True]),
        "int8": torch.arange(7, dtype=torch.int8),
        "int64": torch.arange(7),
        "float8": torch.randn(5).to(torch.float8_e4m3fn),
        "leaf": tied,
        "again": tied,
        "frozen": torch.nn.Parameter(torch.randn(2), requires_grad=False),
        "inference": _inference(),
    }


def _inference():
    with torch.inference_mode():
        return torch.randn(3)


def bits(tensor):
    plain = tensor.detach().resolve_conj().clone().contiguous().reshape(-1)
    return plain.view(torch.uint8).tolist() if plain.numel() else []


@pytest.mark.parametrize("name", tensors_of_all_kinds())
def test_a_tensor_comes_back_as_it_was(name):
    """
    The same object, bits, strides, version, gradient; while it is away it holds no memory.
    """
    tensor = tensors_of_all_kinds()[name]
    offloader, _ = of(part=Part(tensor=tensor, other=torch.ones(3)))
    inference = tensor.is_inference()
    before, numbers = (None if inference else look(tensor)), bits(tensor)
    offloader.give_back()
    away = held_bytes(tensor)
    offloader.take_back()

    assert 0 == away
    assert (before, numbers) == (None if inference else look(tensor), bits(tensor))
    assert not offloader.is_away


def test_views_and_tied_weights_still_share_their_memory():
    """
    Each piece of memory is moved once, however many look at it; a change through one is seen by all.
    """
    model = torch.nn.ModuleDict({"in": torch.nn.Embedding(5, 4), "out": torch.nn.Linear(4, 5, bias=False)})
    model["out"].weight = model["in"].weight
    flat = torch.randn(10)
    part = Part(flat=flat, head=flat[:4], tail=flat.view(2, 5)[1])
    offloader, _ = of(model=model, part=part)
    given = offloader.give_back()
    offloader.take_back()
    with torch.no_grad():
        model["in"].weight.fill_(7)
        flat.fill_(3)

    assert 5 * 4 * 4 + 10 * 4 == given.bytes_freed
    assert model["out"].weight is model["in"].weight
    assert [7.0] * 20 == model["out"].weight.flatten().tolist()
    assert [3.0] * 9 == [*part.head.tolist(), *part.tail.tolist()]


@pytest.mark.parametrize(
    "make",
    [
        lambda params: torch.optim.AdamW(params, lr=0.1),
        lambda params: torch.optim.AdamW(params, lr=0.1, amsgrad=True, foreach=True),
        lambda params: torch.optim.Adam(params, lr=torch.tensor(0.1), fused=True),
        lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9),
        lambda params: torch.optim.LBFGS(params, lr=0.1, max_iter=2, history_size=2),
    ],
    ids=["adamw", "amsgrad", "tensor-lr", "momentum", "lbfgs"],
)
def test_training_goes_on_with_the_same_bits(make):
    """
    Parameters, gradients and the optimizer's state are all there, and all belong together still.
    """

    def train(pauses):
        torch.manual_seed(3)
        model = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.BatchNorm1d(6), torch.nn.Linear(6, 1))
        optimizer = make(model.parameters())
        offloader, _ = of(model=model, optimizer=optimizer)
        for step in range(5):

            def closure():
                optimizer.zero_grad(set_to_none=False)
                loss = model(torch.randn(8, 4)).square().mean()
                loss.backward()
                return loss

            optimizer.step(closure)
            if step in pauses:
                offloader.give_back()
                assert 0 == held_bytes(*model.parameters(), *(p.grad for p in model.parameters()))
                offloader.take_back()
        return [
            bits(value) for value in [*model.state_dict().values(), *(p.grad for p in model.parameters())]
        ]

    assert train(()) == train((0, 2, 3))


def test_everything_a_run_is_made_of_is_found():
    """
    Buffers that are not saved, attributes, containers in containers, gradients of tied weights,
    a scaler's scale, what only a state shows; and what the script keeps in `extra`.
    """
    model = torch.nn.Linear(2, 2)
    model.register_buffer("mask", torch.ones(3), persistent=False)
    model.cache = {"keys": [torch.ones(4), (torch.ones(5),)]}
    model.helper = Part(deep=collections.deque([torch.ones(6)]))
    model.weight.grad = torch.ones(2, 2)
    slots, extra, keyed = Slots(torch.ones(7)), {"ema": torch.ones(8)}, torch.ones(9)
    offloader = Offloader(
        {"model": model, "slots": slots, "part": Part(by_tensor={keyed: 1})},
        lambda: extra,
        ("cpu",),
        FakeDevice(),
    )
    given = offloader.give_back()

    assert 4 * (4 + 2 + 3 + 4 + 5 + 6 + 4 + 7 + 8 + 9) == given.bytes_freed
    offloader.take_back()
    assert 8.0 == float(extra["ema"].sum())


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_a_compiled_model_is_the_model_in_it():
    """
    `torch.compile` wraps; TorchScript hides its parameters from Python.
    """
    compiled = torch.compile(torch.nn.Linear(3, 3))
    scripted = torch.jit.script(torch.nn.Linear(2, 2))
    offloader, _ = of(compiled=compiled, scripted=scripted)

    assert 4 * (9 + 3 + 4 + 2) == offloader.give_back().bytes_freed
    offloader.take_back()


def test_what_cannot_be_given_back_stays_and_is_told(tmp_path):
    """
    Memory of numpy, of a file, of other processes, of a tensor made of tensors: counted, untouched.
    """
    file = tmp_path / "weights"
    torch.save({"a": torch.ones(300)}, file)
    own = torch.ones(2)
    stay = {
        "numpy": torch.from_numpy(np.ones(3)),
        "file": torch.load(file, mmap=True)["a"],
        "shared": torch.ones(4).share_memory_(),
        "sparse": torch.eye(3).to_sparse(),
        "of-others": _two_tensors(),
        "meta": torch.empty(3, device="meta"),
    }
    offloader, _ = of(part=Part(stay=stay, own=own))
    given = offloader.give_back()
    untouched = [float(stay[name].sum()) for name in ("numpy", "file", "shared")]
    offloader.take_back()

    assert (8, [3.0, 300.0, 4.0]) == (given.bytes_freed, untouched)
    assert {
        "2 tensors stay on their device: in memory that is not torch's own",
        "1 tensors stay on their device: shared with other processes",
        "1 tensors stay on their device: of layout sparse_coo",
        "1 tensors stay on their device: made of other tensors (TwoTensor)",
    } == set(given.notes)


def _two_tensors():
    from torch.testing._internal.two_tensor import TwoTensor  # noqa: PLC0415

    return TwoTensor(torch.ones(3), torch.ones(3))


def test_a_module_without_shapes_yet_is_passed_over():
    """
    A lazy layer has no memory before its first batch.
    """
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.LazyLinear(3))
    offloader, _ = of(model=model)

    assert 24 == offloader.give_back().bytes_freed
    offloader.take_back()


def test_objects_that_do_not_like_to_be_looked_at_are_passed_over():
    """
    A proxy of something that is gone, and a chain of references that bites its tail.
    """
    part = Part(tensor=torch.ones(2))
    gone = Part()
    part.proxy, part.itself, part.lock = weakref.proxy(gone), part, os
    del gone
    offloader, _ = of(part=part)

    assert offloader.has_something()
    assert 8 == offloader.give_back().bytes_freed
    offloader.take_back()


def test_a_map_that_reads_a_disk_is_not_asked_for_its_values():
    """
    A trainer leads to its data sets, and some of them are maps; what one holds in itself is found.
    """

    class Lazy(collections.UserDict):
        def __getitem__(self, key):
            pytest.fail("a data set was read")

        values = items = __getitem__

    part = Part()
    part.data, part.own = Lazy(x=torch.ones(3)), collections.UserDict(x=torch.ones(4))
    part.more = collections.defaultdict(list, x=[torch.ones(5)])
    offloader, _ = of(part=part)

    assert 4 * (3 + 4 + 5) == offloader.give_back().bytes_freed
    offloader.take_back()


def test_nothing_on_a_device_is_refused_in_words():
    """
    A run on the CPU has no GPU memory to give; nothing of it is touched.
    """
    model = torch.nn.Linear(2, 2)
    offloader = Offloader({"model": model}, memory=FakeDevice())
    with pytest.raises(CannotOffload, match="nothing of this run lives on a GPU"):
        offloader.give_back()

    assert not offloader.has_something()
    assert 16 == held_bytes(model.weight)


def test_captured_graphs_are_refused():
    """
    They hold addresses; after a return they would compute with whatever lies there then.
    """
    offloader, device = of(model=torch.nn.Linear(2, 2))
    device.graphs = True
    with pytest.raises(CannotOffload, match="captured CUDA graphs hold addresses") as caught:
        offloader.give_back()

    assert (False, "pause with `--depth exit`") == (offloader.is_away, caught.value.hint)


@pytest.mark.parametrize("breaks_at", [1, 2])
def test_a_copy_that_fails_changes_nothing(breaks_at):
    """
    Before anything was dropped: the loop can train on at once.
    """
    model = torch.nn.Linear(3, 3)
    before = bits(model.weight)
    offloader, device = of(model=model)
    device.breaks_at = breaks_at
    with pytest.raises(CannotOffload, match="the launch timed out"):
        offloader.give_back()

    assert (before, 0, False, False) == (
        bits(model.weight),
        device.num_drops,
        offloader.is_away,
        device.is_pinned,
    )


def test_a_host_without_room_is_refused_before_anything_is_copied():
    """
    Else the kernel would end the process, or somebody else's.
    """
    model = torch.nn.Linear(3, 3)
    offloader, device = of(model=model)
    device.host = 200 << 20
    with pytest.raises(CannotOffload, match=r"200\.0 MiB is available, and 256\.0 MiB is left to others"):
        offloader.give_back()

    assert (0, 36) == (device.num_drops, held_bytes(model.weight))


@pytest.mark.parametrize("stuck", [1, 2])
def test_memory_that_cannot_be_dropped_is_told_and_the_rest_is_given_back(stuck):
    """
    It stays what it is; what was freed is counted without it.
    """
    model = torch.nn.Linear(4, 4)
    before = [bits(value) for value in model.parameters()]
    offloader, device = of(model=model)
    device.stuck = stuck
    given = offloader.give_back()
    left = held_bytes(*model.parameters())
    offloader.take_back()

    assert 80 == left + given.bytes_freed
    assert 0 < left
    assert "some memory cannot be given back: Trying to resize" in given.notes[0]
    assert before == [bits(value) for value in model.parameters()]


def test_what_is_freed_is_what_the_device_says():
    """
    Not the sum of sizes: blocks are larger, and others may stay in use. What the shim does not know is told.
    """
    offloader, device = of(model=torch.nn.Linear(4, 4))
    device.reserved, device.used = [10_000_000_000, 7_000_000_000], 400_000_000
    given = offloader.give_back()

    assert 3_000_000_000 == given.bytes_freed
    assert ("still allocated: 381.5 MiB of GPU memory that the shim does not know",) == given.notes
    assert (1, True) == (device.num_trims, device.is_pinned)


@pytest.mark.parametrize("room", range(6))
def test_a_device_that_is_full_takes_nothing_half_way(room):
    """
    Whichever storage it is that finds no memory: all is on the host still, nothing on the device,
    and the next try brings back every bit.
    """
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    before = copy.deepcopy(model.state_dict())
    offloader, device = of(model=model, optimizer=optimizer)
    offloader.give_back()
    # As far as anybody says, there is room.
    device.room, device.free = room, 10_000
    with pytest.raises(CannotReturn, match=r"needs \d+ B \(CUDA out of memory"):
        offloader.take_back()
    half_way = (held_bytes(*model.parameters()), offloader.is_away, device.is_pinned)
    device.room = None
    offloader.take_back()

    assert (0, True, True) == half_way
    assert [bits(value) for value in before.values()] == [
        bits(value) for value in model.state_dict().values()
    ]
    assert not device.is_pinned


def test_memory_that_others_have_is_not_even_tried_for():
    """
    To take half of what is left, and give it back, would end a program that needs it at that moment.
    """
    offloader, device = of(model=torch.nn.Linear(3, 3))
    offloader.give_back()
    device.room, device.free = 2, 10
    with pytest.raises(CannotReturn, match=r"needs \d+ B, free 10 B") as caught:
        offloader.take_back()

    assert (2, True) == (device.room, caught.value.is_short)
    device.free = 10_000
    offloader.take_back()


def test_a_copy_back_that_fails_leaves_all_on_the_host():
    """
    An error of the device, after all memory was had.
    """
    model = torch.nn.Linear(3, 3)
    before = bits(model.weight)
    offloader, device = of(model=model)
    offloader.give_back()
    device.breaks_at = device.num_settles + 1
    with pytest.raises(CannotReturn, match="the launch timed out"):
        offloader.take_back()
    away = held_bytes(model.weight)
    offloader.take_back()

    assert (0, before) == (away, bits(model.weight))


def test_on_the_way_out_tensors_become_host_tensors():
    """
    A script may save its model in a `finally`: the numbers are there, and views still share them.
    """
    model = torch.nn.Linear(3, 3)
    model.tied = model.weight
    part = Part(view=model.weight.detach()[1:])
    before = bits(model.weight)
    offloader, _ = of(model=model, part=part)
    offloader.give_back()
    offloader.stay_on_host()
    with torch.no_grad():
        numbers, shape = bits(model.weight), model(torch.ones(1, 3)).shape
        model.weight.fill_(2)

    assert (before, (1, 3)) == (numbers, tuple(shape))
    assert [2.0] * 6 == part.view.flatten().tolist()
    assert (False, True) == (offloader.is_away, model.tied is model.weight)


def test_taking_back_what_is_not_away_does_nothing():
    """
    So may staying on the host: whoever is interrupted calls both.
    """
    model = torch.nn.Linear(3, 3)
    before = look(model.weight)
    offloader, _ = of(model=model)
    offloader.take_back()
    offloader.stay_on_host()

    assert before == look(model.weight)


def test_devices_of_another_kind_are_left_alone():
    """
    Tensors on the host cost no GPU memory.
    """
    found = find(torch, [torch.nn.Linear(2, 2)], ("cuda",))

    assert ([], [], {}) == (found.pieces, found.tensors, found.stay)
