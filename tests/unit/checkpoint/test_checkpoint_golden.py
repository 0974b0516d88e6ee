"""A checkpoint of format 1 that every later version must read, by our reader and by another one.

Covers: every kind of node, tied weights, a file of what does not change, and the words of
docs/CHECKPOINTS.md: the second reader here was written from them alone, with the standard library and xxhash.
Does not cover: other versions of the format.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
import xxhash

from trainer_shim.checkpoint.reader import load

GOLDEN = Path(__file__).parents[2] / "golden" / "checkpoint_v1" / "step-000000042"
#: Of all values in plain form; see `plain()`. It never changes, whatever the versions of torch and numpy.
VALUES = "458d6afce8ec451356081463027d71d9ffe63843cecf8233404ee4799e1392ca"

# --- the second reader ------------------------------------------------------------------------


def digest_of(data, like):
    """As the documentation says: sha256, or XXH3 of the digests of chunks."""
    name = like.partition(":")[0]
    if name == "sha256":
        return f"{name}:{hashlib.sha256(data).hexdigest()}"
    assert name == "xxh3-128-2MiB"
    size = 2_097_152
    chunks = [xxhash.xxh3_128_digest(data[at : at + size]) for at in range(0, len(data), size)]
    return f"{name}:{xxhash.xxh3_128_hexdigest(b''.join(chunks))}"


def read_manifest(folder):
    text = (folder / "manifest.json").read_bytes()
    body, own = text[98:-2], json.loads(text)["digest"]
    assert text == b'{"digest": "' + own.encode() + b'", "manifest": ' + body + b"}\n"
    assert own == digest_of(body, own)
    return json.loads(body)


def read_blocks(data):
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    assert header.pop("__metadata__") == {"format": "pt"}
    data = data[8 + length :]
    return {name: data[slice(*entry["data_offsets"])] for name, entry in header.items()}


class SecondReader:
    """Nodes in plain form."""

    def __init__(self, blocks):
        self.blocks = blocks

    def value(self, node):
        if isinstance(node, list):
            return ("list", *map(self.value, node))
        if not isinstance(node, dict):
            return (type(node).__name__, struct.pack(">d", node) if isinstance(node, float) else node)
        if "$" not in node:
            return ("dict", *((("str", key), self.value(item)) for key, item in node.items()))
        return getattr(self, node["$"].replace(".", "_"))(node)

    def pairs(self, node):
        return tuple((self.value(key), self.value(item)) for key, item in node["items"])

    def dict(self, node):
        return ("dict", *self.pairs(node))

    def OrderedDict(self, node):  # noqa: N802
        metadata = self.value(node["metadata"]) if "metadata" in node else None
        return ("OrderedDict", metadata, *self.pairs(node))

    def tuple(self, node):
        return ("tuple", *map(self.value, node["items"]))

    def set(self, node):
        return ("set", *sorted(map(repr, map(self.value, node["items"]))))

    def frozenset(self, node):
        return ("frozenset", *self.set(node)[1:])

    def int(self, node):
        return ("int", int(node["hex"], 16))

    def float(self, node):
        return ("float", bytes.fromhex(node["bits"]))

    def complex(self, node):
        return ("complex", bytes.fromhex(node["bits"]))

    def bytes(self, node):
        if "block" in node:
            assert len(self.blocks[node["block"]]) == node["size"]
            return (node["$"], self.blocks[node["block"]])
        return (node["$"], base64.b64decode(node["base64"]))

    def bytearray(self, node):
        return self.bytes(node)

    def tensor(self, node):
        flags = (bool(node.get("requires_grad")), bool(node.get("parameter")))
        return ("tensor", node["dtype"], tuple(node["shape"]), *flags, self.blocks[node["block"]])

    def numpy_ndarray(self, node):
        return ("ndarray", node["dtype"], tuple(node["shape"]), self.blocks[node["block"]])

    def numpy_scalar(self, node):
        return ("numpy scalar", node["dtype"], bytes.fromhex(node["hex"]))

    def torch_Size(self, node):  # noqa: N802
        return ("torch.Size", *node["items"])

    def torch_dtype(self, node):
        return ("torch.dtype", node["name"])

    def torch_device(self, node):
        return ("torch.device", node["name"])


# --- ours, in the same form -------------------------------------------------------------------


def plain(value):  # noqa: C901  # one line a type
    """A value as types, names, numbers and bytes."""
    kind = type(value)
    if isinstance(value, torch.Tensor):
        raw = value.detach().reshape(-1).view(torch.uint8).numpy().tobytes() if value.numel() else b""
        flags = (value.requires_grad, kind is torch.nn.Parameter)
        return ("tensor", str(value.dtype).removeprefix("torch."), tuple(value.shape), *flags, raw)
    if kind is np.ndarray:
        return ("ndarray", value.dtype.str, value.shape, value.tobytes())
    if isinstance(value, np.generic):
        return ("numpy scalar", value.dtype.str, value.tobytes())
    if kind is torch.Size:
        return ("torch.Size", *value)
    if kind in (torch.dtype, torch.device):
        return (f"torch.{kind.__name__}", str(value).removeprefix("torch."))
    if kind is OrderedDict:
        metadata = plain(value._metadata) if hasattr(value, "_metadata") else None
        return ("OrderedDict", metadata, *((plain(key), plain(item)) for key, item in value.items()))
    if kind is dict:
        return ("dict", *((plain(key), plain(item)) for key, item in value.items()))
    if kind in (list, tuple):
        return (kind.__name__, *map(plain, value))
    if kind in (set, frozenset):
        return (kind.__name__, *sorted(map(repr, map(plain, value))))
    if kind is float:
        return ("float", struct.pack(">d", value))
    if kind is complex:
        return ("complex", struct.pack(">dd", value.real, value.imag))
    return (kind.__name__, bytes(value) if kind is bytearray else value)


@pytest.fixture(scope="module")
def golden():
    return load(GOLDEN)


def test_the_golden_checkpoint_has_the_values_that_were_saved(golden):
    """
    Years later and under other versions a checkpoint is restored to the same bits.
    """
    assert VALUES == hashlib.sha256(repr(plain(golden.state)).encode()).hexdigest()


def test_its_facts_are_read(golden):
    """
    What a model's owner said about it stays with it.
    """
    manifest = golden.manifest

    assert (1, "golden", 42, 3) == (manifest.format, manifest.job, manifest.step, manifest.epoch)
    assert (2, 1) == (manifest.incarnation, manifest.world_size)
    assert {
        "semantic_version": "1.0.0",
        "licence": "MIT",
        "lr": 0.1,
        "name": "gr\u00fcn \u2713",
    } == manifest.labels
    assert {"metrics": {"val_loss": 0.125}} == manifest.facts
    assert ["python", "train.py", "--lr", "0.1"] == manifest.command
    assert "2026-11-22" == manifest.saved_at[:10]


def test_what_shared_memory_shares_it_again(golden):
    """
    Tied weights stay tied.
    """
    same = golden.state["kinds"]["same memory"]
    model = golden.state["model"]

    assert same[0] is same[1]
    assert same[0].data_ptr() == same[2].data_ptr()
    assert model["embed.weight"].data_ptr() == model["head.weight"].data_ptr()


def test_it_holds_every_kind_of_node(golden):
    """
    No kind that the documentation names is left untested here.
    """
    names = set()
    todo = [json.loads((GOLDEN / "rank-00000.json").read_bytes())]
    while todo:
        node = todo.pop()
        todo += node if isinstance(node, list) else list(node.values()) if isinstance(node, dict) else []
        names |= {node["$"]} if isinstance(node, dict) and "$" in node else set()

    documented = {
        "dict", "OrderedDict", "tuple", "set", "frozenset", "int", "float", "complex", "bytes", "bytearray",
        "tensor", "numpy.ndarray", "numpy.scalar", "torch.Size", "torch.dtype", "torch.device",
    }  # fmt: skip
    assert documented == names
    assert golden.still


def test_an_optimizer_goes_on_from_it(golden):
    """
    The states are not only equal: torch takes them.
    """
    weight = torch.nn.Parameter(torch.zeros(6, 4))
    bias = [torch.nn.Parameter(torch.zeros(4)) for _ in range(2)]
    optimizer = torch.optim.AdamW([weight, *bias], amsgrad=True)
    optimizer.load_state_dict(golden.state["optimizer"])

    assert 3 == optimizer.state[weight]["step"].item()
    torch.Generator().set_state(golden.state["rng"]["torch"])


def test_a_reader_written_from_the_documentation_finds_the_same(golden):
    """
    Another program needs this project neither for the weights nor for the rest.
    """
    manifest = read_manifest(GOLDEN)
    data = {name: (GOLDEN / name).read_bytes() for name in manifest["files"]}
    blocks = {}
    for name, entry in manifest["files"].items():
        assert entry == {"size_bytes": len(data[name]), "digest": digest_of(data[name], entry["digest"])}
        blocks |= read_blocks(data[name]) if name.endswith(".safetensors") else {}
    state = json.loads(data["rank-00000.json"])["state"]

    assert plain(golden.state) == SecondReader(blocks).value(state)
