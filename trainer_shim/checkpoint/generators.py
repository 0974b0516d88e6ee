"""Random number generators as nodes, by their state.

Covers: `random.Random`, CPU generators of torch, generators of numpy.
Does not cover: the global ones, which every checkpoint has (rng.py).
"""

from __future__ import annotations

import binascii
import random
import sys
from importlib import import_module
from typing import Any

from trainer_shim import rng
from trainer_shim.checkpoint.libraries import the_torch
from trainer_shim.errors import CannotStore

__all__ = ["READERS", "encode_generator"]

#: What numpy draws from; a file names one of these.
_BIT_GENERATORS = ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")


def encode_generator(value: Any, path: str) -> dict[str, Any] | None:
    """A generator's node, None for anything else; raises CannotStore for those of a device."""
    if type(value) is random.Random:
        return {"$": "random.Random", "base64": _text(value)}
    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy.random")
    if torch is not None and type(value) is torch.Generator:
        if value.device.type != "cpu":
            hint = "store its `get_state()`, and give it to `set_state()` of a new one"
            raise CannotStore(path, f"a generator on {value.device}", hint=hint)
        return {"$": "torch.Generator", "base64": _text(value)}
    if numpy is None or type(value) not in (numpy.Generator, numpy.RandomState):
        return None
    source = value.bit_generator if type(value) is numpy.Generator else value._bit_generator  # noqa: SLF001  # No other way.
    bits = type(source).__name__
    if bits not in _BIT_GENERATORS or type(source).__module__.partition(".")[0] != "numpy":
        hint = f"use one of {', '.join(_BIT_GENERATORS)}"
        raise CannotStore(path, f"a generator that draws from `{bits}`", hint=hint)
    return {"$": f"numpy.random.{type(value).__name__}", "bits": bits, "base64": _text(value)}


def _text(generator: Any) -> str:
    return binascii.b2a_base64(rng.dump(generator), newline=False).decode()


def _with_state(generator: Any, node: dict[str, Any]) -> Any:
    rng.load(generator, binascii.a2b_base64(node["base64"], strict_mode=True))
    return generator


def _read_torch(node: dict[str, Any]) -> Any:
    return _with_state(the_torch().Generator(), node)


def _read_numpy(node: dict[str, Any]) -> Any:
    if node["bits"] not in _BIT_GENERATORS:
        raise ValueError("a generator of numpy that draws from nothing known")
    module = import_module("numpy.random")
    bits = getattr(module, node["bits"])()
    cls = module.Generator if node["$"] == "numpy.random.Generator" else module.RandomState
    found = _with_state(cls(bits), node)
    _check_place(bits.state)
    return found


def _check_place(state: dict[str, Any]) -> None:
    """Raise ValueError where the next number would be read from outside: numpy believes what it is told."""
    place, size = state["state"].get("pos", 0), 624
    if state["bit_generator"] == "Philox":
        place, size = state["buffer_pos"], 4
    if not 0 <= place <= size:
        raise ValueError("a generator whose place is outside its own state")


READERS = {
    "random.Random": lambda node: _with_state(random.Random(), node),
    "torch.Generator": _read_torch,
    "numpy.random.Generator": _read_numpy,
    "numpy.random.RandomState": _read_numpy,
}
