"""What a proved run writes down: digests of everything a state can hold."""

import subprocess
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from fractions import Fraction

import numpy as np
import pytest
import torch

from trainer_shim import trace
from trainer_shim.link_report import LinkReport
from trainer_shim.loader_strategies import READS_AGAIN
from trainer_shim.proof import Proof
from trainer_shim.state_digests import digests


def test_every_leaf_stands_under_its_path():
    """
    Plain values are themselves, a tensor is its type, shape and a digest; an empty container is a leaf.
    """
    state = {"net": OrderedDict(w=torch.ones(2, 3)), "opt": {"state": {0: (1, 2.5)}, "none": []}, "x": None}
    found = digests(state)

    assert ["net.w", "opt.state.0.0", "opt.state.0.1", "opt.none", "x"] == list(found)
    assert found["net.w"].startswith("float32[2, 3] ")
    assert ("1", "2.5", "[]", "null") == tuple(found.values())[1:]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (0.0, -0.0),
        (1, 1.0),
        (float("nan"), float("inf")),
        (torch.tensor([0.0]), torch.tensor([-0.0])),
        (torch.ones(2), torch.ones(2, dtype=torch.float64)),
        (torch.zeros(2, 3), torch.zeros(3, 2)),
        (torch.zeros(2, 3), torch.zeros(3, 2).T),
        (torch.zeros(1, 2, 3, 3), torch.zeros(1, 2, 3, 3).to(memory_format=torch.channels_last)),
        (np.zeros((2, 3)), np.asfortranarray(np.zeros((2, 3)))),
        (b"a", b"b"),
        (deque([torch.ones(2)]), deque([torch.zeros(2)])),
        (defaultdict(dict, a={"b": torch.ones(2)}), defaultdict(dict, a={"b": torch.zeros(2)})),
        (Counter(a=1), Counter(a=2)),
        (Fraction(1, 3), Fraction(1, 2)),
        (len, print),
    ],
)
def test_values_that_are_not_the_same_bits_differ(one, other):
    """
    Equal is not enough.
    """
    assert digests({"a": one}) != digests({"a": other})


def test_equal_values_in_another_container_or_order_are_the_same():
    """
    A map that was saved and loaded may be another kind of map, and have another order.
    """
    one = OrderedDict(b=torch.ones(2), a=2)
    other = {"a": 2, "b": torch.nn.Parameter(torch.ones(2))}

    assert digests({"a": one}) == digests({"a": other})


def test_a_part_that_cannot_be_stored_says_so_and_spoils_no_other():
    """
    The rest can still be compared.
    """
    found = digests({"bad": {"hook": object()}, "good": 1})

    assert found["bad"].startswith("unknown (bad.hook: ")
    assert "1" == found["good"]


def test_a_pause_whose_boundary_was_none_this_time_is_had_at_the_next_one(tmp_path):
    """
    A boundary inside critical(), or of a pass inside another one, is not seen.
    """
    (tmp_path / trace.SCHEDULE).write_bytes(trace.write_schedule([trace.Point(2, 0), trace.Point(4, 0)]))
    report = LinkReport()
    proof = Proof(tmp_path, report)
    proof.begin(lambda: {"parts": {}, "extra": {}}, list)
    paused = []
    for report.step in (1, 3, 5, 6):
        paused += [report.step] if proof.boundary() is not None else []
    proof.close(wait_s=0)

    assert [3, 5] == paused


def test_what_the_shim_doubts_is_written_down_and_what_only_takes_time_is_not(tmp_path):
    """
    The command shows it, and need not read what the script prints.
    """
    proof = Proof(tmp_path, LinkReport())
    proof.begin(lambda: {"parts": {}, "extra": {}}, list)
    for text in ("`it` goes on", READS_AGAIN):
        proof.doubted(text)
    proof.close(wait_s=0)
    proof.doubted("too late")

    records = trace.read((tmp_path / trace.TRACE).read_bytes().splitlines(keepends=True))
    assert ["`it` goes on"] == [one.text for one in records if isinstance(one, trace.Said)]


def test_a_run_that_is_not_proved_does_not_even_import_it(tmp_path):
    """
    What a proof needs costs a training nothing.
    """
    script = "import sys, trainer_shim; trainer_shim.attach(checkpoints=sys.argv[1]); print(*sys.modules)"
    command = [sys.executable, "-c", script, str(tmp_path)]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.split()

    assert "trainer_shim.session" in loaded
    assert {"trainer_shim.proof", "trainer_shim.trace", "torch"}.isdisjoint(loaded)
