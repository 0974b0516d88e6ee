"""A skeleton as paths and leaves, for whoever compares two states without their objects.

Covers: what is inside a node. Does not cover: what a node means (tree.py, kinds.py).

Values that are small and of one piece (sets, dates, counters of numbers) are
leaves, whose text says all. Whatever has a block inside is gone into, so that
no bytes are left out of a comparison.
"""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["inside"]

Node = Any

#: Nodes whose items are keys and values.
_MAPS = frozenset(
    {"dict", "OrderedDict", "collections.Counter", "collections.defaultdict", "types.SimpleNamespace"}
)
#: Those that are always gone into.
_PLAIN = frozenset({"dict", "OrderedDict", "tuple"})


def inside(node: Node) -> list[tuple[str, Node]] | None:
    """Names and nodes of what is in a container; None for a leaf."""
    if isinstance(node, list):
        return [(str(index), item) for index, item in enumerate(node)]
    if not isinstance(node, dict) or "block" in node:
        return None
    if "$" not in node:
        return list(node.items())
    if node["$"] not in _PLAIN and not _has_block(node):
        return None
    items = node.get("items", [])
    if node["$"] in _MAPS:
        found = [(key if isinstance(key, str) else _json(key), item) for key, item in items]
    else:
        found = [(str(index), item) for index, item in enumerate(items)]
    if "metadata" in node:
        found.append(("_metadata", node["metadata"]))
    if node["$"] == "stateful":
        found += inside(node["state"]) or [("state", node["state"])]
    return found + [
        (key, item) for key, item in node.items() if key not in ("$", "items", "metadata", "state")
    ]


def _has_block(node: Node) -> bool:
    if isinstance(node, list):
        return any(map(_has_block, node))
    return isinstance(node, dict) and (
        ("$" in node and "block" in node) or any(map(_has_block, node.values()))
    )


def _json(value: Node) -> str:
    return msgspec.json.encode(value).decode()
