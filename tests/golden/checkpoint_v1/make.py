"""Wrote the golden checkpoint of format 1: `python tests/golden/checkpoint_v1/make.py FOLDER`.

Kept to show what is in it. The checkpoint itself is never made anew: a later
version of the format gets a folder of its own beside this one.
"""

import random
import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch

from trainer_shim.checkpoint import Store

FACTS = {
    "incarnation": 2,
    "git_commit": "0123456789abcdef0123456789abcdef01234567",
    "command": ["python", "train.py", "--lr", "0.1"],
    "labels": {"semantic_version": "1.0.0", "licence": "MIT", "lr": 0.1, "name": "gr\u00fcn \u2713"},
    "preprocessing": {"mean": [0.5, 0.25], "size": 8},
    "metrics": {"val_loss": 0.125},
}


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(6, 4)
        self.norm = torch.nn.BatchNorm1d(4)
        self.head = torch.nn.Linear(4, 6, bias=False)
        self.head.weight = self.embed.weight


def trained():
    torch.manual_seed(7)
    net = Net()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01, weight_decay=0.1, amsgrad=True)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=20)
    for _ in range(3):
        logits = net.head(net.norm(net.embed(torch.randint(0, 6, (5,)))))
        logits.square().mean().backward()
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
    parts = {"model": net, "optimizer": optimizer, "scheduler": scheduler}
    return {name: part.state_dict() for name, part in parts.items()}


def every_kind():
    shared = torch.arange(4.0)
    return {
        "plain": [None, True, False, 0, -1, 2**53, 1.5, -0.0, 1e-300, 5e-324, "", "text", "gr\u00fcn \U0001f600"],
        "large": [2**53 + 1, -(2**64), 10**40],
        "odd": [float("inf"), float("-inf"), float("nan"), complex(1, -0.0), complex(float("nan"), 2)],
        "empty": [[], {}, (), set(), frozenset(), b"", bytearray(), torch.empty(0, 3), np.empty((2, 0))],
        "keys": {1: "a", None: "b", True: "c", 2.5: "d", (1, "x"): "e", "$": "f"},
        "dollar": {"$": "not a node"},
        "ordered": OrderedDict([("b", 1), ("a", 2)]),
        "sets": [{3, 1, 2}, {"x", (1, b"y")}, frozenset({1.5, None})],
        "short bytes": [b"\x00\xff", bytearray(b"abc")],
        "long bytes": [bytes(range(256)) * 5, bytearray(b"z" * 1500)],
        "same memory": [shared, shared, torch.nn.Parameter(shared)],
        "requires grad": torch.ones(2, requires_grad=True),
        "frozen parameter": torch.nn.Parameter(torch.ones(2), requires_grad=False),
        "scalar": torch.tensor(3),
        "not contiguous": torch.arange(6).reshape(2, 3).T,
        "torch": {
            str(dtype).removeprefix("torch."): torch.tensor([0, 1, 1]).to(dtype)
            for dtype in (
                torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn,
                torch.float8_e4m3fnuz, torch.float8_e5m2, torch.float8_e5m2fnuz, torch.int64, torch.int32,
                torch.int16, torch.int8, torch.uint64, torch.uint32, torch.uint16, torch.uint8, torch.bool,
                torch.complex64, torch.complex128,
            )
        },
        "numpy": [
            np.array([1, 2], dtype) if np.dtype(dtype).kind not in "USV" else np.array([b"a", b"b"]).astype(dtype)
            for dtype in ("<f8", ">f4", "<f2", "<i8", ">u2", "|b1", "<c8", "<c16", "<M8[ns]", "<m8[D]", "<U3", "|S4")
        ],
        "numpy scalars": [np.float32(0.1), np.int64(-3), np.bool_(True), np.str_("x"), np.datetime64("2026-01-02")],
        "small": [torch.Size([2, 3]), torch.bfloat16, torch.device("cuda:1")],
        "a.b": torch.ones(1),
        "a": {"b": torch.zeros(1)},
    }  # fmt: skip


def generators():
    return {
        "python": random.Random(5).getstate(),
        "numpy": np.random.default_rng(5).bit_generator.state,
        "torch": torch.Generator().manual_seed(5).get_state(),
    }


def main(folder):
    frozen = torch.arange(32768, dtype=torch.int16)  # Just long enough for the file of what does not change.
    with Store(Path(folder), job="golden", keep_last=1) as store:
        for step in (40, 41, 42):
            state = {**trained(), "kinds": every_kind(), "rng": generators(), "frozen": frozen, "step": step}
            store.save(state, step=step, epoch=3, facts=FACTS)
        store.close(for_now=True)


if __name__ == "__main__":
    main(sys.argv[1])
