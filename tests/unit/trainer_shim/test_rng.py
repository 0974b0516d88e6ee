"""Random generators come back exactly where they were."""
# ruff: noqa: NPY002 - the global generator is what is tested.

import random

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainer_shim import rng
from trainer_shim.errors import CannotRestore


def draw():
    """
    Two numbers of each kind from each global generator.
    """
    return [
        [random.random(), random.gauss(0, 1)],
        [np.random.random(), np.random.standard_normal()],
        torch.rand(2).tolist() + torch.randn(1).tolist(),
    ]


@given(st.integers(0, 2**32 - 1), st.integers(0, 5))
def test_restored_generators_draw_the_same_numbers(seed, num_drawn):
    """
    Whatever was drawn before the checkpoint, after it come the same numbers; msgpack can hold the state.
    """
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    for _ in range(num_drawn):
        draw()
    state = msgspec.msgpack.decode(msgspec.msgpack.encode(rng.capture()))
    expected = [draw(), draw()]
    rng.restore(state)

    assert expected == [draw(), draw()]


def test_the_spare_gaussian_is_kept():
    """
    gauss() makes two numbers and keeps one; a pause between the two does not lose it.
    """
    random.gauss(0, 1)
    np.random.standard_normal()
    state = rng.capture()
    expected = [random.gauss(0, 1), np.random.standard_normal()]
    rng.restore(state)

    assert expected == [random.gauss(0, 1), np.random.standard_normal()]


def test_capturing_draws_nothing():
    """
    A checkpoint changes no number that comes after it.
    """
    before = rng.capture()
    rng.capture()

    assert before == rng.capture()


@pytest.mark.parametrize(
    "make",
    [
        random.Random,
        lambda seed: torch.Generator().manual_seed(seed),
        np.random.default_rng,
        np.random.RandomState,
        lambda seed: np.random.RandomState(np.random.PCG64(seed)),
        lambda seed: np.random.Generator(np.random.MT19937(seed)),
        lambda seed: np.random.Generator(np.random.Philox(seed)),
        lambda seed: np.random.Generator(np.random.SFC64(seed)),
        lambda seed: np.random.Generator(np.random.PCG64DXSM(seed)),
    ],
)
def test_a_generator_object_goes_through_bytes(make):
    """
    Every usual generator that a sampler or dataset may carry can be saved and put back.
    """

    def next_number(generator):
        if isinstance(generator, torch.Generator):
            return torch.rand((), generator=generator).item()
        return generator.random()

    one, other = make(5), make(6)
    next_number(one)
    rng.load(other, rng.dump(one))

    assert next_number(one) == next_number(other)


def test_an_unknown_generator_is_refused_by_name():
    """
    A state that cannot be read is an error at once, not a wrong number later.
    """
    with pytest.raises(TypeError, match="cannot read the state of a dict"):
        rng.dump({})


def test_fewer_cuda_devices_than_before_are_refused():
    """
    A run that had more GPUs than are visible now cannot go on exactly, and says what to do.
    """
    state = {**rng.capture(), "cuda": [b"\0" * 16] * (torch.cuda.device_count() + 1)}

    with pytest.raises(CannotRestore, match=r"random numbers of \d+ CUDA devices") as error:
        rng.restore(state)
    assert "CUDA_VISIBLE_DEVICES" in error.value.hint


@pytest.mark.gpu
def test_every_cuda_device_draws_the_same_numbers_again():
    """
    Dropout on a GPU, on any of them, goes on where it was.
    """
    devices = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    for device in devices:
        torch.rand(3, device=device)
    state = rng.capture()
    expected = [torch.rand(3, device=device).tolist() for device in devices]
    rng.restore(state)

    assert len(devices) == len(state["cuda"])
    assert expected == [torch.rand(3, device=device).tolist() for device in devices]
