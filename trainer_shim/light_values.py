"""Small plain values of a run, as they stood at a moment, and putting them back.

Covers: variables, `extra`, parts that are no network and no optimizer (schedulers, counters), options of
optimizers.
Does not cover: what is larger, or lies on a device; random generators (epoch_marks.py).
"""

from __future__ import annotations

import copy
import sys
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from trainer_shim.handing_over import Fields, GeneratorPart
from trainer_shim.optimizer_state import is_optimizer
from trainer_shim.parts import Stateful
from trainer_shim.reach import attributes
from trainer_shim.script_names import is_module
from trainer_shim.storable import but_loaders
from trainer_shim.variables import Variables, filled

__all__ = ["LightValues"]

#: Values in one variable or state together; each of them so many bytes.
_MAX_VALUES, _MAX_BYTES = 1000, 16_384
_ATOMS = (int, float, complex, bool, str, bytes, type(None))
_LISTS = (list, tuple, deque, set)
_MAPS = (dict, OrderedDict, Counter)


class LightValues:
    """Those of one session; `now` copies them, `put` makes them what they were."""

    def __init__(
        self, parts: Mapping[str, Stateful], variables: Variables, extra: Callable[[], dict[str, Any]]
    ) -> None:
        self._parts, self._variables, self._extra = parts, variables, extra

    def now(self) -> dict[str, dict[str, Any]]:
        """Return copies by kind and name."""
        return {
            "state": _copies(self._variables.values),
            "extra": _copies(self._extra()),
            "parts": {name: kept for name, state in self._states().items() if (kept := _copies(state))},
            "options": _copies({name: _options(one) for name, one in self._optimizers().items()}),
        }

    def put_where_light(self, saved: Mapping[str, Mapping[str, Any]]) -> None:
        """Put back what is light by now as well, so that `now` has told all that this changes."""
        parts = self.now()["parts"]
        kept = {
            name: {own: value for own, value in state.items() if own in parts.get(name, {})}
            for name, state in saved["parts"].items()
        }
        self.put({**saved, "parts": kept})

    def put(self, saved: Mapping[str, Mapping[str, Any]]) -> None:
        """Make all that is there now what it was; others hold the same containers as before."""
        values, extra = self._variables.values, self._extra()
        for name, value in saved["state"].items():
            if name in values:
                values[name] = filled(values[name], copy.deepcopy(value))
        for name, value in saved["extra"].items():
            extra[name] = filled(extra.get(name), copy.deepcopy(value))
        for name, state in saved["parts"].items():
            if name in self._parts:
                _put(self._parts[name], state)
        for name, groups in saved["options"].items():
            if name in self._parts:
                _set_options(self._parts[name], groups)

    def _states(self) -> dict[str, dict[str, Any]]:
        return {
            name: _attributes(part)
            for name, part in but_loaders(self._parts).items()
            if not (isinstance(part, GeneratorPart) or is_optimizer(part) or is_module(part))
        }

    def _optimizers(self) -> dict[str, Any]:
        return {name: part for name, part in self._parts.items() if is_optimizer(part)}


def _copies(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: copy.deepcopy(value) for name, value in values.items() if _cost(value) <= _MAX_VALUES}


def _cost(value: Any, depth: int = 0) -> int:
    """How many values it holds; more than the bound where it is none of those that are kept."""
    kind: Any = type(value)
    if kind in _ATOMS:
        return 1 if not isinstance(value, str | bytes) or len(value) <= _MAX_BYTES else _MAX_VALUES + 1
    if depth < 8 and kind in (*_LISTS, *_MAPS) and len(value) <= _MAX_VALUES:
        inside = [*value.keys(), *value.values()] if kind in _MAPS else value
        return 1 + sum(_cost(one, depth + 1) for one in inside)
    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
    if torch is not None and kind is torch.Tensor:
        is_plain = value.device.type == "cpu" and value.layout is torch.strided and not value.requires_grad
        return 1 if is_plain and value.numel() * value.element_size() <= _MAX_BYTES else _MAX_VALUES + 1
    is_array = numpy is not None and (kind is numpy.ndarray or isinstance(value, numpy.generic))
    return 1 if is_array and value.nbytes <= _MAX_BYTES and value.dtype != object else _MAX_VALUES + 1


def _attributes(part: Any) -> dict[str, Any]:
    """What a part keeps, by attribute: its `load_state_dict()` need not bear to be called twice."""
    return part.state_dict() if type(part) is Fields else dict(attributes(part))


def _put(part: Any, state: Mapping[str, Any]) -> None:
    if type(part) is Fields:
        part.put(copy.deepcopy(dict(state)))
        return
    for name, value in state.items():
        with suppress(AttributeError, TypeError):  # One that may not be set stays.
            setattr(part, name, filled(getattr(part, name, None), copy.deepcopy(value)))


def _is_same(now: Any, before: Any) -> bool:
    try:
        return bool(now == before)
    except (RuntimeError, ValueError):  # Of tensors and arrays.
        return False


def _options(optimizer: Any) -> list[dict[str, Any]]:
    return [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]


def _set_options(optimizer: Any, options: list[dict[str, Any]]) -> None:
    for group, before in zip(optimizer.param_groups, options, strict=False):
        for key, value in before.items():
            now = group.get(key)
            if _is_same(now, value):
                continue
            if hasattr(now, "copy_") and hasattr(value, "device"):
                now.copy_(value)  # Others may hold the tensor.
            else:
                group[key] = copy.deepcopy(value)
