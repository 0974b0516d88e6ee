"""What was copied is what is written, however the state looks from one time to the next."""

from __future__ import annotations

import ctypes
import os
from collections import OrderedDict
from copy import deepcopy

import numpy as np
import pytest
import torch

from trainer_shim.checkpoint import Store
from trainer_shim.checkpoint.arrays import DeviceBytes
from trainer_shim.checkpoint.pages import take
from trainer_shim.checkpoint.reader import load
from trainer_shim.checkpoint.stage import StagingFolder
from trainer_shim.errors import CannotSave

LARGE = 4_300_000  # More than one part, and no multiple of anything.


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path, job="j", keep_last=100) as opened:
        yield opened


def as_before():
    return {"a": torch.arange(LARGE, dtype=torch.float32), "b": torch.ones(7), "note": bytes(5000)}


def shared():
    tensor = torch.randn(LARGE)
    return {"a": tensor, "b": tensor.view(-1), "c": tensor[5:]}


STATES = {
    "the same": as_before,
    "replaced": lambda: {**as_before(), "a": torch.randn(LARGE)},
    "resized": lambda: {**as_before(), "a": torch.randn(LARGE - 3), "b": torch.ones(0)},
    "of another type": lambda: {**as_before(), "a": torch.ones(LARGE, dtype=torch.bfloat16)},
    "moved": lambda: {key: value.clone() if key == "a" else value for key, value in as_before().items()},
    "shared": shared,
    "in another order": lambda: dict(reversed(as_before().items())),
    "fewer": lambda: {"b": torch.ones(7)},
    "turned": lambda: {"a": torch.randn(1100, 1200).t(), "c": torch.randn(900, dtype=torch.cfloat).conj()},
    "no torch": lambda: {"a": np.arange(LARGE), "b": bytearray(b"x" * 2000), "c": OrderedDict(d=1)},
    "nothing": dict,
}


def same(one, other):
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    return bool(np.all(one == other))


def train_on(state):
    """Every number becomes another one, in place."""
    for value in state.values():
        if isinstance(value, torch.Tensor):
            value.resolve_conj().fill_(7)
        elif isinstance(value, np.ndarray):
            value.fill(7)
        elif isinstance(value, bytearray):
            value[:] = b"7" * len(value)


def test_whatever_becomes_of_a_state_its_copy_is_what_was_there(store):
    """
    Parameters are replaced, resized, retyped, moved, tied and dropped between
    two checkpoints; each holds the state of its own moment.
    """
    stage = StagingFolder()
    for step, name in enumerate(["the same", *STATES, *reversed(STATES)]):
        state = STATES[name]()
        expected = deepcopy(state)
        draft = store.prepare(state, step=step, epoch=0, facts={})
        if not stage.has_room(draft):
            stage.grow(draft)
        copied = stage.fill(draft)
        train_on(state)
        saved = store.write(copied)

        assert same(expected, load(saved.path).state), name


def test_a_parameter_that_gets_other_memory_is_saved_with_what_it_had(store):
    """
    A hook that swaps `.data` between looking and writing tears nothing.
    """
    parameter = torch.nn.Parameter(torch.ones(LARGE))
    draft = store.prepare({"w": parameter}, step=1, epoch=0, facts={})
    parameter.data = torch.zeros(3)
    saved = store.write(draft)

    assert torch.equal(torch.ones(LARGE), load(saved.path).state["w"])


def test_a_forked_worker_takes_no_part_of_the_copy_with_it():
    """
    A data-loader worker makes neither the copy dearer nor itself larger.
    """
    memory = take(10_000)
    memory[:] = b"x" * 10_000
    child = os.fork()
    if child == 0:
        os._exit(0 if not any(memory) else 1)

    assert 0 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert bytes(memory) == b"x" * 10_000
    assert 0 == ctypes.addressof(ctypes.c_char.from_buffer(memory)) % (2 << 20)


class Pinned:
    """Stands in for a driver that makes memory fast for its device."""

    def __init__(self):
        self.now = []

    def __call__(self, memory):
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        self.now.append((address, memory.nbytes))
        return lambda: self.now.remove((address, memory.nbytes))


def test_memory_for_copies_is_pinned_as_long_as_it_is_there(store):
    """
    A model on a device is copied at the speed of the bus; pages are not kept
    locked that nobody uses any more.
    """
    pinned = Pinned()
    stage = StagingFolder(pin=pinned)
    for step, num in enumerate((10, 3_000_000, 3_000_000)):
        draft = store.prepare({"w": torch.ones(num)}, step=step, epoch=0, facts={})
        if not stage.has_room(draft):
            stage.grow(draft)
        store.write(stage.fill(draft))

        assert 1 == len(pinned.now)
    assert pinned.now[0][1] >= 12_000_000
    stage.close()
    stage.close()
    assert [] == pinned.now


@pytest.mark.parametrize("num", [0, 1, LARGE])
def test_bytes_of_a_device_come_whole_in_any_parts(num):
    """
    Whoever writes them asks for chunks, whoever stages them for larger parts.
    """
    tensor = torch.randn(num, dtype=torch.float64)
    there, expected = DeviceBytes(torch, tensor), tensor.numpy().tobytes()
    found = bytearray(b"x" * tensor.nbytes)
    for begin in range(0, tensor.nbytes, 1_000_003):
        there.copy_to(memoryview(found)[begin : begin + 1_000_003], begin)

    assert expected == found
    assert expected == bytes(there.fetch(0, tensor.nbytes))
    assert expected[: num * 4] == bytes(there.fetch(0, num * 4))


def test_a_device_that_is_lost_is_told_of():
    """
    The run learns which tensor could not be read, not only what the driver says.
    """
    there = DeviceBytes(torch, torch.ones(4, device="meta"))

    with pytest.raises(CannotSave, match=r"cannot read a tensor of shape \[16\] from meta"):
        there.copy_to(memoryview(bytearray(16)), 0)
