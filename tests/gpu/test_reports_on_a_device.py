"""Numbers that are still on a CUDA device when the daemon wants to know them.

Covers: reading them in the shim's thread while the script captures a graph.
Does not cover: what is the same on CPU tensors (tests/integration).

As of November 2026 this has not run yet: no device was at hand.
"""

from __future__ import annotations

import threading

import pytest
import torch

from trainer_shim.link_report import LinkReport

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def test_a_graph_can_be_captured_while_numbers_are_read():
    """
    A heartbeat in the middle of a capture spoils neither.
    """
    report, ends, found = LinkReport(), threading.Event(), []
    report.metrics["loss"] = torch.full((), 2.5, device="cuda")

    def read():
        while not ends.is_set():
            found.append(report.numbers())

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for _ in range(50):
            static, graph = torch.zeros(1024, device="cuda"), torch.cuda.CUDAGraph()
            torch.cuda.synchronize()
            with torch.cuda.graph(graph):
                for _ in range(20):
                    static.add_(1)
            static.zero_()
            graph.replay()

            assert 20 * 1024 == static.sum().item()
    finally:
        ends.set()
        reader.join()
    assert [{"loss": 2.5}] * len(found) == found
    assert found
