"""Checkpoints of tensors on a real CUDA device.

Covers: that their bytes arrive, in a pause and through memory that is pinned for them.
Does not cover: what is the same on CPU tensors (tests/unit/checkpoint).

As of November 2026 these have not run yet: no device was at hand.
"""

from __future__ import annotations

import pytest
import torch

from trainer_shim.checkpoint import Store
from trainer_shim.checkpoint.reader import load
from trainer_shim.checkpoint.stage import StagingFolder

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

NUM = 3_000_001  # More than one part, and no multiple of anything.


def state_on_a_device():
    return {
        "plain": torch.randn(NUM, device="cuda"),
        "turned": torch.randn(1100, 1200, device="cuda").t(),
        "small": torch.ones((), device="cuda", dtype=torch.bfloat16),
        "on the host": torch.randn(5),
    }


@pytest.mark.parametrize("is_staged", [False, True])
def test_every_bit_of_a_device_is_in_the_checkpoint(tmp_path, is_staged):
    """
    Also where the run goes on while they are written, and changes them.
    """
    state = state_on_a_device()
    expected = {name: tensor.cpu().clone() for name, tensor in state.items()}
    with Store(tmp_path, job="j", keep_last=1) as store:
        draft = store.prepare(state, step=1, epoch=0, facts={})
        if is_staged:
            stage = StagingFolder()
            stage.grow(draft)
            draft = stage.fill(draft)
            for tensor in state.values():
                tensor.zero_()
        found = load(store.write(draft).path).state

    assert dict.fromkeys(expected, True) == {
        name: torch.equal(value.cpu(), expected[name]) for name, value in found.items()
    }
