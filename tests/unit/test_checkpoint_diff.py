"""What `checkpoints diff` says of two states."""

from __future__ import annotations

import pytest
import torch

from supervisor.cli.checkpoint_diff import diff_lines, differences
from trainer_shim.checkpoint import Store
from trainer_shim.checkpoint.layout import Name
from trainer_shim.checkpoint.view import viewed

PLAIN = torch.arange(16.0).reshape(1, 4, 2, 2)
TURNED = PLAIN.to(memory_format=torch.channels_last)


def rows_of(folder, before, after):
    for step, state in ((1, before), (2, after)):
        with Store(folder, job="j") as store:
            store.save(state, step=step, epoch=0, facts={})
    with viewed(folder / "step-000000001", Name(1)) as a, viewed(folder / "step-000000002", Name(2)) as b:
        return [row for row in differences(a, b) if row.kind != "fact"]


def test_the_same_numbers_in_another_memory_layout_are_a_difference(tmp_path):
    """
    They are what makes a fused optimizer go on otherwise, and nothing else shows them.
    """
    (row,) = rows_of(tmp_path, {"w": TURNED}, {"w": PLAIN})

    assert ("tensor", "w", None) == (row.kind, row.name, row.num_differing)
    assert ("float32 [1,4,2,2] strides [16,1,8,4]", "float32 [1,4,2,2]") == (
        row.a.replace(", ", ","),
        row.b.replace(", ", ","),
    )
    assert "->" in diff_lines([row])[1]


@pytest.mark.parametrize(
    ("before", "after"), [(TURNED, PLAIN + 1), (PLAIN, TURNED * 2), (TURNED, TURNED + 1)]
)
def test_other_numbers_are_counted_whatever_their_layout(tmp_path, before, after):
    """
    How many differ, and by how much, is reckoned by their places and not by their memory.
    """
    (row,) = rows_of(tmp_path, {"w": before}, {"w": after})

    assert (16, int((before != after).sum())) == (row.num_elements, row.num_differing)
    assert float((before - after).abs().max()) == row.max_abs_difference


def test_equal_layouts_are_no_difference(tmp_path):
    """
    A tensor that lies as it did is not shown.
    """
    assert [] == rows_of(tmp_path, {"w": TURNED}, {"w": TURNED.clone()})
