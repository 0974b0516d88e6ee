"""docs/CHECKPOINTS.md is enough to read a checkpoint: a second reader, written from it alone."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from collections import OrderedDict

import numpy as np
import torch
import xxhash
from safetensors.numpy import load_file

from trainer_shim.checkpoint import Store

STATE = {
    "w": torch.arange(6.0).reshape(2, 3).T,
    "wide": np.array([1 + 2j]),
    "when": np.array(["2026-11-22"], "M8[D]"),
    "model": OrderedDict([("a", (1, -0.0, None)), ("b", {True})]),
    "keys": {3: "x", (1, None): [float("inf"), -(10**30), 2.5e300]},
    "short": b"ab",
    "long": bytes(range(256)) * 8,
    "two chunks": bytes(range(251)) * 9000,
    "lr": np.float32(0.1),
}


def read(folder):
    """The state in a checkpoint folder, tensors as numpy arrays."""
    text = (folder / "manifest.json").read_bytes()
    body = text[98:-2]
    assert text[:98] == b'{"digest": "sha256:%s", "manifest": ' % hashlib.sha256(body).hexdigest().encode()
    assert text[-2:] == b"}\n"
    for name, file in json.loads(body)["files"].items():
        data = (folder / name).read_bytes()
        assert (len(data), digest(name, data)) == (file["size_bytes"], file["digest"])
    blocks = load_file(folder / "rank-00000.safetensors")
    return value(json.loads((folder / "rank-00000.json").read_text())["state"], blocks)


def digest(name, data):
    if not name.endswith(".safetensors"):
        return "sha256:" + hashlib.sha256(data).hexdigest()
    chunks = [xxhash.xxh3_128(data[at : at + 2**21]).digest() for at in range(0, len(data), 2**21)]
    return "xxh3-128-2MiB:" + xxhash.xxh3_128(b"".join(chunks)).hexdigest()


def value(node, blocks):
    if isinstance(node, list):
        return [value(item, blocks) for item in node]
    if not isinstance(node, dict):
        return node
    if "$" not in node:
        return {key: value(item, blocks) for key, item in node.items()}
    kind, block = node["$"], blocks.get(node.get("block"))
    if kind in ("dict", "OrderedDict"):
        return {value(key, blocks): value(item, blocks) for key, item in node["items"]}
    if kind in ("tuple", "set"):
        return {"tuple": tuple, "set": set}[kind](value(item, blocks) for item in node["items"])
    if kind == "int":
        return int(node["hex"], 16)
    if kind == "float":
        return struct.unpack(">d", bytes.fromhex(node["bits"]))[0]
    if kind == "bytes":
        return base64.b64decode(node["base64"]) if block is None else block.tobytes()
    if kind == "numpy.scalar":
        return np.frombuffer(bytes.fromhex(node["hex"]), node["dtype"])[0]
    return np.frombuffer(block.tobytes(), node["dtype"]).reshape(node["shape"])


def test_the_documented_format_is_enough_to_read_a_checkpoint(tmp_path):
    """
    A run's state is not locked in: another program can read it by the book.
    """
    with Store(tmp_path, job="j") as store:
        found = read(store.save(STATE, step=1, epoch=0, facts={"labels": {"lr": 0.1}}).path)

    arrays = {key: found.pop(key) for key in ("w", "wide", "when")}
    assert [STATE["w"].tolist(), [1 + 2j]] == [arrays["w"].tolist(), arrays["wide"].tolist()]
    assert STATE["when"] == arrays["when"]
    assert {key: item for key, item in STATE.items() if key in found} == found
