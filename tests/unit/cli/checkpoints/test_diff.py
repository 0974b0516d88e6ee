"""What `checkpoints diff` says of two states."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from datetime import date
from types import MappingProxyType, SimpleNamespace

import pytest
import torch

from supervisor.cli.checkpoints.diff import diff_lines, differences
from trainer_shim.checkpoint import Store, record
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


class Average:
    """An object with a state of its own."""

    def __init__(self, mean):
        self.mean = mean

    def state_dict(self):
        return {"mean": self.mean}

    def load_state_dict(self, state):
        self.mean = state["mean"]


@pytest.mark.parametrize(
    ("hold", "name"),
    [
        (lambda one: deque([1, one]), "a.1"),
        (lambda one: defaultdict(dict, {"x": {"y": one}}), "a.x.y"),
        (lambda one: Counter({3: one}), "a.3"),
        (lambda one: SimpleNamespace(x=one), "a.x"),
        (lambda one: MappingProxyType({"x": one}), "a.of.x"),
        (Average, "a.mean"),
        (lambda one: (one,), "a.0"),
    ],
)
def test_a_tensor_in_any_container_is_compared_by_its_bits(tmp_path, hold, name):
    """
    Whatever it is in, and whether or not a live object is needed to bring that back.
    """
    states = [{"a": hold(PLAIN)}, {"a": hold(PLAIN + 1)}]
    for step, state in enumerate(states, 1):
        with Store(tmp_path, job="j") as store:
            store.live = record(state)
            store.save(state, step=step, epoch=0, facts={})
    with viewed(tmp_path / "step-000000001", Name(1)) as a, viewed(tmp_path / "step-000000002", Name(2)) as b:
        rows = [row for row in differences(a, b) if row.kind != "fact"]

    assert [(name, 16, 16)] == [(row.name, row.num_elements, row.num_differing) for row in rows]


def test_what_is_stored_by_name_is_shown_by_it(tmp_path):
    """
    A function, a date, a counter: one line each, readable without the script.
    """
    before = {"f": len, "day": date(2000, 1, 1), "seen": Counter({"a": 1})}
    after = {"f": print, "day": date(2000, 1, 2), "seen": Counter({"a": 2})}
    for step, state in ((1, before), (2, after)):
        with Store(tmp_path, job="j") as store:
            store.live = record(state)
            store.save(state, step=step, epoch=0, facts={})
    with viewed(tmp_path / "step-000000001", Name(1)) as a, viewed(tmp_path / "step-000000002", Name(2)) as b:
        rows = {row.name: row.b for row in differences(a, b) if row.kind == "value"}

    assert ["day", "f", "seen"] == sorted(rows)
    assert "builtins.print" in rows["f"]
    assert "2000-01-02" in rows["day"]


def test_equal_layouts_are_no_difference(tmp_path):
    """
    A tensor that lies as it did is not shown.
    """
    assert [] == rows_of(tmp_path, {"w": TURNED}, {"w": TURNED.clone()})
