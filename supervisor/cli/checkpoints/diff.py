"""What differs between two checkpoints: tensors by their bits, all else by its text.

Covers: walking two states side by side, counting, lines and rows.
Does not cover: opening and verifying (view.py of the shim), the command (checkpoints.py).

One pair of tensors is in memory at a time, and only of those whose bits differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import isfinite, isnan
from typing import Any, Final

import msgspec

from supervisor.cli.output.text import Column, clean, cut, number, whole_table
from supervisor.core.replacing import replace
from trainer_shim.checkpoint.manifest import Manifest
from trainer_shim.checkpoint.nodes import inside
from trainer_shim.checkpoint.view import View
from trainer_shim.errors import CannotRestore

__all__ = ["StateDifference", "diff_lines", "differences"]

_COLUMNS: Final = (
    Column("WHAT", spare=3),
    Column("NAME"),
    Column("TYPE", spare=1),
    Column("DIFFERENCE"),
)
#: Elements compared at once, so that the copies in float64 stay small beside the tensors.
_CHUNK: Final = 1 << 20
#: Longer lists of plain values are one value: a generator's state has 625 numbers.
_MAX_LIST: Final = 16
_MAX_CELL: Final = 36
_MISSING: Final = object()


class StateDifference(msgspec.Struct, frozen=True, kw_only=True):
    """One leaf or fact that is not the same in both; the row of `diff --json`."""

    #: `tensor` (arrays and bytes too), `value` of the state, or `fact` of the manifest.
    kind: str
    name: str
    #: Type and shape of a tensor (strides too where nothing else differs), JSON of all else; null where
    #: it is missing.
    a: str | None
    b: str | None
    num_elements: int | None = None
    num_differing: int | None = None
    #: Null where it is not a number: other shapes, or NaN on one side.
    max_abs_difference: float | None = None


def differences(a: View, b: View) -> list[StateDifference]:
    """Return all that differs, tensors first, then values, then facts."""
    left, right = dict(_leaves(a.skeleton, "")), dict(_leaves(b.skeleton, ""))
    found = []
    for name in dict.fromkeys([*left, *right]):
        one = _compare(name, (a, left.get(name, _MISSING)), (b, right.get(name, _MISSING)))
        found += [one] if one is not None else []
    found.sort(key=lambda one: one.kind != "tensor")
    return [*found, *_facts(a, b)]


def _compare(name: str, a: tuple[View, Any], b: tuple[View, Any]) -> StateDifference | None:
    (view_a, node_a), (view_b, node_b) = a, b
    kind = "tensor" if _is_block(node_a) or _is_block(node_b) else "value"
    found = StateDifference(kind=kind, name=name, a=_text(node_a), b=_text(node_b))
    if not (_is_block(node_a) and _is_block(node_b)) or found.a != found.b:
        return None if found.a == found.b else found
    if _same_bytes(view_a.memory(node_a["block"]), view_b.memory(node_b["block"])):
        one, other = _with_layout(node_a), _with_layout(node_b)
        return None if one == other else StateDifference(kind=kind, name=name, a=one, b=other)
    try:
        return _counted(found, view_a.value(node_a), view_b.value(node_b))
    except CannotRestore:
        # Without torch, or with one that lacks the type, that they differ is all that can be said.
        return found


def _leaves(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield path and node of everything that is no container of other things."""
    inner = _inside(node)
    if inner is None:
        yield path or "state", node
        return
    for key, child in inner:
        yield from _leaves(child, f"{path}.{key}" if path else key)


def _inside(node: Any) -> list[tuple[str, Any]] | None:
    """Return what is in a container; None for a leaf."""
    if isinstance(node, list) and len(node) > _MAX_LIST:
        is_plain = not any(isinstance(item, list | dict) for item in node)
        return None if is_plain else inside(node)
    return inside(node)


def _is_block(node: Any) -> bool:
    return isinstance(node, dict) and "$" in node and "block" in node


def _text(node: Any) -> str | None:
    if node is _MISSING:
        return None
    if not _is_block(node):
        return _json(node)
    if "dtype" not in node:
        return f"{node['$']} [{node['size']}]"
    return f"{node['dtype']} {node['shape']}"


def _with_layout(node: Any) -> str | None:
    """Return type and shape of a tensor, and how it lies in memory where that is not its own order."""
    return f"{_text(node)} strides {node['strides']}" if "strides" in node else _text(node)


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _same_bytes(a: memoryview, b: memoryview) -> bool:
    step = _CHUNK
    return a.nbytes == b.nbytes and all(
        bytes(a[at : at + step]) == bytes(b[at : at + step]) for at in range(0, a.nbytes, step)
    )


def _counted(found: StateDifference, a: Any, b: Any) -> StateDifference:
    """Add how many elements differ in their bits, and by how much at most."""
    import numpy as np

    is_bytes = isinstance(a, bytes | bytearray)
    if is_bytes:
        a, b = np.frombuffer(a, "u1"), np.frombuffer(b, "u1")
    is_array = isinstance(a, np.ndarray)
    flat_a, flat_b = (x.reshape(-1) if is_array else x.detach().reshape(-1) for x in (a, b))
    num_elements, num_differing, greatest = len(flat_a), 0, 0.0
    for at in range(0, num_elements, _CHUNK):
        one, other = flat_a[at : at + _CHUNK], flat_b[at : at + _CHUNK]
        mask = _differing(one, other, is_array=is_array)
        num_differing += int(mask.sum())
        greatest = _greater(greatest, _distance(one[mask], other[mask], is_array=is_array))
    known = greatest if isfinite(greatest) and not is_bytes else None
    return replace(found, num_elements=num_elements, num_differing=num_differing, max_abs_difference=known)


def _differing(a: Any, b: Any, *, is_array: bool) -> Any:
    """Return which elements differ in any bit."""
    if is_array:
        bits = [x.view("u1").reshape(len(x), -1) for x in (a, b)]
    else:
        import torch

        bits = [x.contiguous().view(torch.uint8).reshape(len(x), -1) for x in (a, b)]
    return (bits[0] != bits[1]).any(-1)


def _distance(a: Any, b: Any, *, is_array: bool) -> float:
    """Return the greatest absolute difference; NaN where there is none."""
    if len(a) == 0:
        return 0.0
    if is_array:
        if a.dtype.kind not in "biufc":
            return float("nan")
        wide = "c16" if a.dtype.kind == "c" else "f8"
        return float(abs(a.astype(wide) - b.astype(wide)).max())
    wide_of = a.to(dtype=_wide(a))
    return float((wide_of - b.to(dtype=_wide(b))).abs().max())


def _wide(tensor: Any) -> Any:
    import torch

    return torch.complex128 if tensor.is_complex() else torch.float64


def _greater(a: float, b: float) -> float:
    """Return the greater one, NaN before all."""
    return a if isnan(a) or a >= b else b


def _facts(a: View, b: View) -> list[StateDifference]:
    left, right = (dict(_leaves(_manifest_facts(view), "")) for view in (a, b))
    texts = [
        (name, _text(left.get(name, _MISSING)), _text(right.get(name, _MISSING)))
        for name in dict.fromkeys([*left, *right])
    ]
    return [
        StateDifference(kind="fact", name=name, a=one, b=other) for name, one, other in texts if one != other
    ]


def _manifest_facts(view: View) -> Mapping[str, Any]:
    """Return what a manifest says of its making."""
    manifest: Manifest = view.manifest
    facts: dict[str, Any] = msgspec.to_builtins(manifest)
    texts = {file: text.decode(errors="replace") for file, text in view.texts.items() if "rank" not in file}
    return {name: value for name, value in facts.items() if name not in ("files", "format")} | texts


def diff_lines(
    rows: Sequence[StateDifference], *, width: int | None = None, colour: bool = False
) -> list[str]:
    """Return the table of `checkpoints diff`."""
    cells = [(row.kind, clean(row.name), _type(row), _words(row)) for row in rows]
    return whole_table(_COLUMNS, cells, width=width, colour=colour)


def _type(row: StateDifference) -> str:
    return _cell(row.a) if row.kind == "tensor" and row.a == row.b else "-"


def _cell(text: str | None) -> str:
    return "-" if text is None else cut(clean(text), _MAX_CELL)


def _words(row: StateDifference) -> str:
    if row.a is None or row.b is None:
        return f"only in B: {_cell(row.b)}" if row.a is None else f"only in A: {_cell(row.a)}"
    if row.kind != "tensor" or row.a != row.b:
        return f"{_cell(row.a)} -> {_cell(row.b)}"
    if row.num_differing is None:
        return "other bits"
    most = "" if row.max_abs_difference is None else f", by {number(row.max_abs_difference)} at most"
    return f"{row.num_differing} of {row.num_elements}{most}"
