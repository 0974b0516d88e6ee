"""Small values of torch and numpy as nodes: shapes, element types, devices, layouts, numbers of numpy.

Covers: which node stands for which. Does not cover: tensors and arrays (arrays.py).
"""

from __future__ import annotations

import sys
from typing import Any

from trainer_shim.checkpoint.libraries import (
    check_numpy_dtype,
    numpy_dtype,
    the_numpy,
    the_torch,
    torch_dtype,
)

__all__ = ["encode_small", "restore_small"]


#: Types of torch whose values are attributes of it, under the name that they say.
_NAMED = ("memory_format", "layout")


def encode_small(value: Any, path: str) -> dict[str, Any] | None:
    """A small value of torch or numpy as a node, None for anything else."""
    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
    if torch is not None:
        if isinstance(value, torch.Size):
            return {"$": "torch.Size", "items": list(value)}
        if isinstance(value, torch.dtype):
            return {"$": "torch.dtype", "name": str(value).removeprefix("torch.")}
        if isinstance(value, torch.device):
            return {"$": "torch.device", "name": str(value)}
        for kind in _NAMED:
            if isinstance(value, getattr(torch, kind)):
                return {"$": f"torch.{kind}", "name": str(value).removeprefix("torch.")}
    if numpy is not None and isinstance(value, numpy.generic):
        check_numpy_dtype(numpy, value.dtype, path)
        return {"$": "numpy.scalar", "dtype": value.dtype.str, "hex": value.tobytes().hex()}
    return None


def restore_small(node: dict[str, Any]) -> Any:
    """The value behind a node of `encode_small`."""
    kind = node["$"]
    if kind == "numpy.scalar":
        dtype, data = numpy_dtype(node["dtype"]), bytes.fromhex(node["hex"])
        if dtype.itemsize > len(data):  # Empty text of a type of gigabytes would take them.
            raise ValueError(f"{len(data)} bytes for one `{dtype}`")
        # Empty text has a type of no bytes, which no buffer can hold.
        return the_numpy().ndarray((), dtype, data)[()] if data else the_numpy().zeros((), dtype)[()]
    if kind == "torch.Size":
        return the_torch().Size(node["items"])
    if kind == "torch.dtype":
        return torch_dtype(node["name"])
    if kind == "torch.device":
        return the_torch().device(str(node["name"]))  # A number would ask the machine for its devices.
    if kind.removeprefix("torch.") in _NAMED:
        return _named(kind.removeprefix("torch."), node["name"])
    raise ValueError(f"unknown kind `{kind}`")


def _named(kind: str, name: object) -> Any:
    """A value of such a type; no other attribute of torch can be reached."""
    torch = the_torch()
    found = vars(torch).get(name)
    if not isinstance(found, getattr(torch, kind)):
        raise TypeError(f"`{name}` is no {kind} of torch")
    return found
