"""Optimizer state exactly as it was, where `Optimizer.load_state_dict()` makes something else of it.

Covers: types, memory layout, containers and texts of the state; the device of options that are tensors.
Does not cover: which parameter a state belongs to (param_groups.py), whatever an optimizer or a hook makes of
its state on purpose.

torch casts floating-point state to the type of its parameter, masks and integers with it, makes plain dicts
of other maps, and keeps any layout that it is given, while fused kernels walk the memory of parameter and
state side by side. So state of its parameter's shape gets the layout that the parameter has now; all else
keeps the one that it was saved with.
"""

from __future__ import annotations

import copy
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

__all__ = ["is_optimizer", "lay_out", "load", "mend"]


def is_optimizer(part: Any) -> bool:
    """Whether it is one of torch's, or built on its class."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(part, torch.optim.Optimizer)


def load(optimizer: Any, saved: Any) -> None:
    """Give an optimizer its state; options that are tensors stay on the devices where they are."""
    devices = [
        {key: value.device for key, value in group.items() if _is_tensor(value)}
        for group in optimizer.param_groups
    ]
    optimizer.load_state_dict(_without_odd(optimizer, saved))
    # A scheduler of torch's warns of a step that it did not see, which was made before the pause.
    optimizer._opt_called = True  # noqa: SLF001
    for group, places in zip(optimizer.param_groups, devices, strict=False):
        for key, device in places.items():
            if _is_tensor(group.get(key)) and group[key].device != device:
                group[key] = group[key].to(device)


class _Later:
    """Stands for a value that torch would take apart; `mend` puts it there."""


_LATER = _Later()


def _without_odd(optimizer: Any, saved: Any) -> Any:
    """The state without what torch makes something else of: arrays, ranges, named tuples, and the like."""
    import torch

    has_own = type(optimizer).load_state_dict is not torch.optim.Optimizer.load_state_dict
    if has_own or not isinstance(saved, Mapping) or not isinstance(saved.get("state"), dict):
        return saved
    return {**saved, "state": {number: _plain(state) for number, state in saved["state"].items()}}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(_plain, value))
    # A text becomes the text of a generator, and is put right by `mend` too.
    known = (str, bytes, deque)
    is_odd = isinstance(value, Iterable) and not _is_tensor(value) and not isinstance(value, known)
    return _LATER if is_odd else value


def lay_out(optimizer: Any) -> None:
    """Let state of its parameter's shape lie as the parameter does now."""
    import torch

    for parameter, state in optimizer.state.items():
        for key, value in state.items() if isinstance(state, dict) else ():
            if type(value) is not torch.Tensor or value.layout is not torch.strided:
                continue
            if value.shape != parameter.shape or not value.numel():
                continue
            strides = tuple(parameter.stride())
            if _is_dense(value.shape, strides) and not _same_layout(value, strides):
                made = torch.empty_strided(
                    tuple(value.shape), strides, dtype=value.dtype, device=value.device
                )
                state[key] = made.copy_(value)


def mend(optimizer: Any, saved: Any) -> None:
    """Make the state what it was in type and layout; what does not look like what was saved is left alone."""
    pairs = _by_parameter(optimizer, saved)
    if pairs is None:
        return
    mender = _Mender(_shown(optimizer))
    for parameter, before in pairs:
        state = optimizer.state.get(parameter)
        if state is not None:
            optimizer.state[parameter] = mender.value(before, state, parameter)


def _by_parameter(optimizer: Any, saved: Any) -> list[tuple[Any, Any]] | None:
    """Pair each parameter with its saved state; None where the optimizer saves in a form of its own."""
    try:
        numbers = [number for group in saved["param_groups"] for number in group["params"]]
        parameters = [one for group in optimizer.param_groups for one in group["params"]]
        state = saved["state"]
        if len(numbers) != len(parameters):
            return None
        return [(one, state[n]) for n, one in zip(numbers, parameters, strict=True) if n in state]
    except (TypeError, KeyError, AttributeError):
        return None


def _shown(optimizer: Any) -> set[int] | None:
    """Which tensors `state_dict()` hands out as they are; None where it is torch's own, which hands out all.

    One that is written in another form than it is kept in is loaded into that form on purpose.
    """
    import torch

    own = torch.optim.Optimizer
    has_hooks = any(
        getattr(optimizer, f"_optimizer_state_dict_{when}_hooks", None) for when in ("pre", "post")
    )
    if type(optimizer).state_dict is own.state_dict and not has_hooks:
        return None
    return {id(one) for one in _tensors(optimizer.state_dict().get("state"))}


def _tensors(value: Any) -> Iterator[Any]:
    if _is_tensor(value):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)


class _Mender:
    """One walk over the state of one optimizer beside what was saved of it."""

    def __init__(self, shown: set[int] | None) -> None:
        self._shown = shown
        #: What was made of a saved tensor: two places that shared one share it again.
        self._made: dict[tuple[Any, ...], Any] = {}

    def value(self, saved: Any, live: Any, parameter: Any) -> Any:
        """Return what is to stand there: `live` itself, mended inside, or another object."""
        if live is _LATER:
            return saved
        if _is_tensor(saved):
            return self._tensor(saved, live, parameter) if _is_tensor(live) else live
        if isinstance(saved, dict) and isinstance(live, dict):
            return self._map(saved, live, parameter)
        if isinstance(saved, list | tuple) and isinstance(live, list | tuple) and len(saved) == len(live):
            return self._items(saved, live, parameter)
        # A text is iterable, and torch makes the text of a generator of it.
        return saved if isinstance(saved, str | bytes | bytearray | range) else live

    def _map(self, saved: dict[Any, Any], live: dict[Any, Any], parameter: Any) -> dict[Any, Any]:
        # A copy has what else belongs to it: the factory of a defaultdict.
        target = live if self._shown is not None or type(live) is type(saved) else copy.copy(saved)
        for key in saved.keys() & live.keys():
            target[key] = self.value(saved[key], live[key], parameter)
        return target

    def _items(self, saved: Any, live: Any, parameter: Any) -> Any:
        items = [self.value(*pair, parameter) for pair in zip(saved, live, strict=True)]
        if isinstance(live, list):
            live[:] = items
            return live
        if all(new is old for new, old in zip(items, live, strict=True)):
            return live
        return live._make(items) if hasattr(live, "_make") else type(live)(items)

    def _tensor(self, saved: Any, live: Any, parameter: Any) -> Any:
        import torch

        # Other kinds of tensors know themselves how they are loaded.
        if type(saved) is not torch.Tensor or type(live) is not torch.Tensor or saved.shape != live.shape:
            return live
        if self._shown is not None and id(live) not in self._shown:
            return live
        if saved.layout is not torch.strided or live.layout is not torch.strided:
            return live
        strides = _strides(saved, parameter)
        is_cast = live.dtype != saved.dtype
        if not is_cast and (strides is None or _same_layout(live, strides)):
            return live
        key = (id(saved), live.device, strides)
        if key not in self._made:
            # Where a hook made other numbers of it, those are meant.
            if is_cast and not _same_numbers(live, saved.to(live.device, live.dtype)):
                return live
            source = saved if is_cast else live
            if strides is None:
                self._made[key] = source.to(live.device, copy=True)
            else:
                made = torch.empty_strided(
                    tuple(source.shape), strides, dtype=source.dtype, device=live.device
                )
                self._made[key] = made.copy_(source)
        return self._made[key]


def _strides(saved: Any, parameter: Any) -> tuple[int, ...] | None:
    """Return the strides that a state is to have; None where it is no plain dense memory."""
    try:
        like = parameter if parameter.shape == saved.shape else saved
        strides = tuple(like.stride())
    except (RuntimeError, AttributeError, ValueError):
        # A lazy parameter has no shape yet; other kinds have no strides.
        strides = tuple(saved.stride())
    return strides if _is_dense(saved.shape, strides) else None


def _is_dense(shape: Any, strides: tuple[int, ...]) -> bool:
    """Whether each element has a place of its own, without gaps."""
    expected = 1
    for stride, size in sorted((s, n) for n, s in zip(shape, strides, strict=True) if n != 1):
        if stride != expected:
            return False
        expected *= size
    return True


def _same_layout(live: Any, strides: tuple[int, ...]) -> bool:
    dims = zip(live.shape, live.stride(), strides, strict=True)
    return all(size == 1 or one == other for size, one, other in dims)


def _same_numbers(one: Any, other: Any) -> bool:
    return bool(((one == other) | (one.isnan() & other.isnan())).all())


def _is_tensor(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)
