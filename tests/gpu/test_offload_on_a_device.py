"""Giving back the memory of a real CUDA device and taking it again.

Covers: what a device alone can show: memory that others see as free, captured graphs, streams, a
device that is really full.
Does not cover: what is the same on CPU tensors (tests/unit/trainer_shim/test_offload.py,
tests/exactness/test_giving_back.py).

As of November 2026 these have not run yet: no device was at hand.
"""

from __future__ import annotations

import pytest
import torch

from trainer_shim.errors import CannotOffload, CannotReturn
from trainer_shim.offload import Offloader

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


class Training:
    """A model with AdamW on the device, big enough to be seen."""

    def __init__(self, width=2048):
        torch.manual_seed(1)
        self.model = torch.nn.Sequential(
            torch.nn.Linear(width, width), torch.nn.Dropout(0.1), torch.nn.Linear(width, 8)
        ).cuda()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.01)
        self.scaler = torch.amp.GradScaler("cuda")
        self.width = width

    def step(self):
        self.optimizer.zero_grad(set_to_none=False)
        with torch.autocast("cuda"):
            loss = self.model(torch.randn(16, self.width, device="cuda")).square().mean()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def offloader(self):
        return Offloader({"model": self.model, "optimizer": self.optimizer, "scaler": self.scaler})

    def tensors(self):
        own = [*self.model.parameters(), *(value.grad for value in self.model.parameters())]
        return own + [
            value for state in self.optimizer.state.values() for value in state.values() if value.is_cuda
        ]

    def bits(self):
        return [value.detach().cpu().view(torch.uint8).tolist() for value in self.tensors()[-1:]] + [
            value.detach().double().sum().item() for value in self.tensors()
        ]


def test_memory_is_free_for_others_and_comes_back_whole():
    """
    What is reported freed is what the driver has more; afterwards every bit is there.
    """
    training = Training()
    training.step()
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    before, places = training.bits(), [id(value) for value in training.tensors()]
    free_before, _ = torch.cuda.mem_get_info()
    offloader = training.offloader()
    given = offloader.give_back()
    free_away, _ = torch.cuda.mem_get_info()
    away = [value.untyped_storage().nbytes() for value in training.tensors()]
    offloader.take_back()

    assert offloader.has_something()
    assert [0] * len(away) == away
    assert given.bytes_freed > 4 * 4 * 2048 * 2048 * 0.9
    assert free_away - free_before == pytest.approx(given.bytes_freed, rel=0.2)
    assert (before, places) == (training.bits(), [id(value) for value in training.tensors()])


def test_training_goes_on_with_the_same_bits():
    """
    Dropout, mixed precision and the scaler included.
    """

    def train(pauses):
        training = Training(width=256)
        for step in range(6):
            training.step()
            if step in pauses:
                offloader = training.offloader()
                offloader.give_back()
                offloader.take_back()
        return training.bits()

    assert train(()) == train((0, 3))


def test_captured_graphs_are_refused():
    """
    Their addresses would be others afterwards.
    """
    training = Training(width=64)
    training.step()
    static, graph = torch.randn(4, 64, device="cuda"), torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        static.mul_(2)
    with pytest.raises(CannotOffload, match="captured CUDA graphs"):
        training.offloader().give_back()


def taken(size_bytes):
    """All that the device has left, in pieces of that size."""
    hog = []
    while True:
        try:
            hog.append(torch.empty(size_bytes, dtype=torch.uint8, device="cuda"))
        except torch.OutOfMemoryError:
            return hog


def test_a_full_device_is_waited_for():
    """
    Somebody took the memory meanwhile: nothing is half there, and the next try has all.
    """
    training = Training()
    training.step()
    before = training.bits()
    offloader = training.offloader()
    offloader.give_back()
    hog = [*taken(1 << 30), *taken(1 << 23)]
    with pytest.raises(CannotReturn, match="waiting for GPU memory: needs"):
        offloader.take_back()
    away = [value.untyped_storage().nbytes() for value in training.tensors()]
    hog.clear()
    torch.cuda.empty_cache()
    offloader.take_back()

    assert [0] * len(away) == away
    assert before == training.bits()


def test_what_the_script_holds_beside_its_parts_is_told():
    """
    A batch in a local variable stays, and the report says how much.
    """
    training = Training(width=64)
    training.step()
    batch = torch.empty(64 << 20, dtype=torch.uint8, device="cuda")
    offloader = training.offloader()
    given = offloader.give_back()
    offloader.take_back()

    assert batch.is_cuda
    assert any(note.startswith("still allocated: ") for note in given.notes)
