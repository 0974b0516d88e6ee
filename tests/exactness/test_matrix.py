"""Real trainings of every kind, ended and taken up at random points: the same bits as without the shim."""

import gc
import random
from multiprocessing import active_children

import pytest
import torch

from tests.exactness.loader_training import HARMLESS
from tests.exactness.matrix import Cell, pairs, run_bare, run_cut

pytestmark = [pytest.mark.filterwarnings(f"ignore:{text}") for text in HARMLESS]

NUM_CUTS = 2
#: Without the compiler of machine code, which takes a minute and changes nothing of what is saved.
COMPILED = [
    Cell(compiled="eager", model="batch norm", optimizer="AdamW fused", loader="plain, torch"),
    Cell(compiled="aot_eager", model="tied", optimizer="Adam", ema=True, accumulate=2),
]


@pytest.fixture(autouse=True)
def one_thread():
    """
    Nets of some dozen weights: a second thread only waits. And no workers are left to the end of pytest.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
    if active_children():
        gc.collect()  # Workers live as long as their iterator, which is part of a cycle.


@pytest.mark.parametrize("cell", [*pairs(), *COMPILED], ids=str)
def test_a_training_that_was_ended_and_taken_up_ends_with_the_same_bits(cell, tmp_path):
    """
    Whatever a run is made of: each loss, each tensor of each part and each generator is what it would
    have been.
    """
    expected = run_bare(cell)
    cuts = set(random.Random(str(cell)).sample(range(1, len(expected["losses"]) + 1), NUM_CUTS))
    print("cut after", sorted(cuts))

    assert expected == run_cut(cell, tmp_path, cuts)
