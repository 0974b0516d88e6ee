"""A digest for every leaf of a state, so that two states can be told apart by name.

Covers: whatever a checkpoint can hold; what it cannot is a leaf that says so.
Does not cover: the files of a checkpoint (checkpoint/digest.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import xxhash

from trainer_shim.checkpoint import Live, nodes, tree
from trainer_shim.errors import CannotStore

__all__ = ["STRIDES", "digest_of", "digests"]

#: Stands in the leaf of a tensor that does not lie in its own order, between its digest and its layout.
STRIDES: Final = " strides "


def digests(state: Mapping[str, Any], live: Live | None = None) -> dict[str, str]:
    """Every leaf of a state by its path: a plain value as JSON, a tensor as kind, shape, digest and layout.

    With `live`, functions and the like are told by where it found them. A part that cannot be stored is one
    leaf that says why; nothing is raised.
    """
    found: dict[str, str] = {}
    for name, part in state.items():
        try:
            text, blocks = tree.encode({name: part}, live)
        except CannotStore as error:
            found[name] = f"unknown ({error})"
            continue
        memory = {block.name: digest_of(block.fetch(0, block.size_bytes)) for block in blocks}
        _walk(tree.parse(text), "", memory, found)
    return found


def digest_of(value: Any) -> str:
    """A short digest of bytes, or of a list of them."""
    parts = value if isinstance(value, list) else [value]
    running = xxhash.xxh3_128()
    for part in parts:
        running.update(part)
    return running.hexdigest()


def _walk(node: tree.Node, path: str, memory: Mapping[str, str], found: dict[str, str]) -> None:
    if isinstance(node, dict) and "block" in node and "$" in node:
        kind = node.get("dtype", node["$"])
        layout = f"{STRIDES}{node['strides']}" if "strides" in node else ""
        found[path] = f"{kind}{node.get('shape', '')} {memory[node['block']]}{layout}"
        return
    inner = nodes.inside(node)
    if not inner:
        found[path] = json.dumps(node)
        return
    for key, item in inner:
        # What a module hangs on its map is no state of its own.
        if key != "_metadata" or "metadata" not in node:
            _walk(item, f"{path}.{key}" if path else key, memory, found)
