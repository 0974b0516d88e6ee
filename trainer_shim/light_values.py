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
from trainer_shim.variables import Variables, set_back

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
            "options": _copies(self._options()),
        }

    def put_where_light(self, saved: Mapping[str, Mapping[str, Any]]) -> None:
        """Put back what is light by now as well, so that `now` has told all that this changes."""
        there = self._states()
        kept = {
            name: {own: value for own, value in state.items() if _is_light(there.get(name, {}).get(own))}
            for name, state in saved["parts"].items()
        }
        self.put({**saved, "parts": kept})

    def put(self, saved: Mapping[str, Mapping[str, Any]]) -> None:
        """Make all that is there now what it was, of the kinds that are given; objects stay the same."""
        values, extra = self._variables.values, self._extra()
        for name, value in saved.get("state", {}).items():
            if name in values:
                values[name] = set_back(values[name], value)
        for name, value in saved.get("extra", {}).items():
            extra[name] = set_back(extra.get(name), value)
        for name, state in saved.get("parts", {}).items():
            if name in self._parts:
                _put(self._parts[name], state)
        for name, groups in saved.get("options", {}).items():
            part: Any = self._parts.get(name)
            for group, before in zip(part.param_groups, groups, strict=False) if part is not None else ():
                group.update({key: set_back(group.get(key), value) for key, value in before.items()})

    def _states(self) -> dict[str, dict[str, Any]]:
        return {
            name: _attributes(part)
            for name, part in but_loaders(self._parts).items()
            if not (isinstance(part, GeneratorPart) or is_optimizer(part) or is_module(part))
        }

    def _options(self) -> dict[str, list[dict[str, Any]]]:
        optimizers: dict[str, Any] = {name: part for name, part in self._parts.items() if is_optimizer(part)}
        return {
            name: [{k: v for k, v in group.items() if k != "params"} for group in part.param_groups]
            for name, part in optimizers.items()
        }


def _copies(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: copy.deepcopy(value) for name, value in values.items() if _is_light(value)}


def _is_light(value: Any) -> bool:
    """Whether it is of few and small plain values."""
    waiting, num_values = [value], 0
    while waiting:
        one = waiting.pop()
        num_values += 1
        is_list, is_map = type(one) in _LISTS, type(one) in _MAPS
        if num_values > _MAX_VALUES or ((is_list or is_map) and len(one) > _MAX_VALUES):
            return False
        if is_list:
            waiting += one
        elif is_map:
            waiting += [*one.keys(), *one.values()]
        elif not _is_small(one):
            return False
    return True


def _is_small(value: Any) -> bool:
    if type(value) in _ATOMS:
        return not isinstance(value, str | bytes) or len(value) <= _MAX_BYTES
    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
    if torch is not None and type(value) is torch.Tensor:
        is_plain = value.device.type == "cpu" and value.layout is torch.strided and not value.requires_grad
        return is_plain and value.numel() * value.element_size() <= _MAX_BYTES
    is_array = numpy is not None and (type(value) is numpy.ndarray or isinstance(value, numpy.generic))
    return is_array and value.nbytes <= _MAX_BYTES and value.dtype != object


def _attributes(part: Any) -> dict[str, Any]:
    """What a part keeps, by attribute: its `load_state_dict()` need not bear to be called twice."""
    return part.state_dict() if type(part) is Fields else dict(attributes(part))


def _put(part: Any, state: Mapping[str, Any]) -> None:
    owner = part.thing if type(part) is Fields else part
    for name, value in state.items():
        with suppress(AttributeError, TypeError):  # One that may not be set stays.
            setattr(owner, name, set_back(getattr(owner, name, None), value))
