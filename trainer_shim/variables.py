"""Variables of the script's own that go on with the run: what `Shim.state()` returns.

Covers: which there are, what may be put into them, and bringing them back into the objects that the script
made.
Does not cover: how values are stored (checkpoint/), variables that nobody handed over (strays.py).
"""

from __future__ import annotations

import copy
import struct
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

from trainer_shim import rng
from trainer_shim.checkpoint import Live, record, resolve
from trainer_shim.checkpoint.tree import encode
from trainer_shim.errors import CannotRestore
from trainer_shim.reach import is_generator

__all__ = ["State", "Variables", "as_it_was", "set_back"]

_PLACE: Final = "state"
_ASIDE: Final = "state_aside"
#: Values that are stored whatever they hold.
_PLAIN: Final = (int, float, complex, bool, str, bytes, type(None))
#: A longer container is looked through by the next boundary that looks, not at each assignment.
_MAX_LOOKED_AT: Final = 1000


class State:
    """Variables by attribute, made by `Shim.state()`: `state.best = min(state.best, loss)`.

    Only the names that were given to `Shim.state()` are there.
    """

    __slots__ = ("_names", "_variables")

    def __init__(self, variables: Variables, names: tuple[str, ...]) -> None:
        object.__setattr__(self, "_variables", variables)
        object.__setattr__(self, "_names", names)

    def __getattr__(self, name: str) -> Any:
        if name not in self._names:
            raise AttributeError(_unknown(name))
        return self._variables.values[name]

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self._names:
            raise AttributeError(_unknown(name))
        self._variables.put(name, value)

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"cannot delete `{name}`: each checkpoint has it; set it to None")

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._names]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __repr__(self) -> str:
        return f"state({', '.join(f'{name}={self._variables.values[name]!r}' for name in self._names)})"


class Variables:
    """All variables of one session. Belongs to the training thread."""

    def __init__(self, live: Callable[[], Live]) -> None:
        self.values: dict[str, Any] = {}
        self._live = live
        #: What the checkpoint has, each with the device of its tensors, until the script asks for it.
        self._saved: dict[str, tuple[Any, str | None]] = {}
        self._generators: dict[str, bytes] = {}
        #: What each was in the checkpoint, until the loop goes on from there: the object, and a copy of it.
        self._pending: dict[str, tuple[Any, Any]] | None = None

    def make(self, initial: Mapping[str, Any]) -> State:
        """Take variables in; each is what the checkpoint has, or what it is given as.

        Generators, lists, maps, sets and deques stay the objects that they are and are set to what they were.

        Raises:
            CannotStore: No checkpoint can hold one of the values.
            CannotRestore: The checkpoint has something in its place that cannot be put there.
            ValueError: One of the names is there already.

        """
        for name in initial:
            if name in self.values:
                raise ValueError(
                    f"cannot make `{name}` twice: a variable is made once, right behind attach(); to begin "
                    f"anew with an epoch, set it in its loop: `state.{name} = ...`"
                )
            if name.startswith("_"):
                raise ValueError(f"cannot make `{name}`: a name of Python's own kind; choose another")
        self._live().take_in(record({_PLACE: {**initial}}))
        for name, value in initial.items():
            if not is_generator(value):
                self._check(name, value)
            is_saved = name in self._saved or name in self._generators
            self.values[name] = self._back(name, value)
            if is_saved and self._pending is not None:
                self._pending[name] = self.values[name], _copied(self.values[name])
        return State(self, tuple(initial))

    def put(self, name: str, value: Any) -> None:
        """Set a variable; raises CannotStore for what no checkpoint can hold."""
        if not (isinstance(value, _PLAIN) or is_generator(value) or _is_long(value)):
            self._check(name, value)
        self.values[name] = value

    def state_dict(self) -> dict[str, Any]:
        """The values, where there are any; generators as bytes: those of a device have no other form."""
        if not self.values:
            return {}
        generators = {name: rng.dump(value) for name, value in self.values.items() if is_generator(value)}
        devices = {name: where for name, value in self.values.items() if (where := _device(value))}
        values = {name: value for name, value in self.values.items() if name not in generators}
        return {_PLACE: values, _ASIDE: {"generators": generators, "devices": devices}}

    def load_state_dict(self, state: Mapping[str, Any], *, is_in_loop: bool) -> None:
        """Wait for the script to ask for each.

        `is_in_loop`: the loop will say where it goes on. What the script does before (it sets a variable at
        the head of an epoch that is taken up in its middle) is undone then, as with random numbers.
        """
        self._pending = {} if is_in_loop else None
        aside = state.get(_ASIDE, {})
        devices = aside.get("devices", {})
        self._saved = {name: (value, devices.get(name)) for name, value in state.get(_PLACE, {}).items()}
        self._generators = dict(aside.get("generators", {}))

    def settle(self) -> None:
        """The loop goes on from here: each is what it was, for the last time."""
        pending, self._pending = self._pending, None
        for name, (restored, saved) in (pending or {}).items():
            now = self.values[name]
            if is_generator(now):
                rng.load(now, saved)
                continue
            self.values[name] = as_it_was(now, restored, saved)

    def unclaimed(self) -> list[str]:
        """Names that the checkpoint has and the script did not ask for; once."""
        names = sorted({*self._saved, *self._generators})
        self._saved, self._generators = {}, {}
        return names

    def _check(self, name: str, value: Any) -> None:
        encode({_PLACE: {name: value}}, self._live())

    def _back(self, name: str, now: Any) -> Any:
        """What a variable is that the script makes as `now`."""
        if name in self._generators and is_generator(now):
            try:
                rng.load(now, self._generators.pop(name))
            except (ValueError, TypeError, LookupError, RuntimeError, struct.error) as error:
                raise _differs(name, now) from error
            return now
        if name in self._generators or (name in self._saved and is_generator(now)):
            raise _differs(name, now)
        if name not in self._saved:
            return now
        saved, device = self._saved.pop(name)
        value = _moved(resolve(saved, f"{_PLACE}.{name}", self._live()), device)
        return filled(now, value)


def filled(now: Any, value: Any) -> Any:
    """Return what the script made, with a value in it; the value itself where it cannot take it."""
    fill = _FILLS.get(type(now))
    if fill is None or type(value) is not type(now):
        return value
    fill(now, value)
    return now


def as_it_was(now: Any, restored: Any, saved: Any) -> Any:
    """Return what is to be there; `restored` was there when the way began, and was `saved` then."""
    # Set back also where another is there by now: the loop may have taken out of it what it trains on next.
    as_before = set_back(restored, saved)
    return as_before if now is restored else filled(now, saved)


def set_back(now: Any, before: Any) -> Any:
    """Return what is to be there: the object that is there now, as far as it can be what it was."""
    if type(now) is not type(before):
        return copy.deepcopy(before)
    if hasattr(now, "dtype") and hasattr(now, "__setitem__"):
        if now.shape == before.shape and now.dtype == before.dtype:
            with suppress(RuntimeError, ValueError):  # Some may not be written to.
                now[...] = before  # Others may hold the tensor or array.
                return now
        return copy.deepcopy(before)
    return now if _is_equal(now, before) else filled(now, copy.deepcopy(before))


def _is_equal(now: Any, before: Any) -> bool:
    try:
        return bool(now == before)
    except (RuntimeError, ValueError):  # Of tensors and arrays inside.
        return False


def _copied(value: Any) -> Any:
    return rng.dump(value) if is_generator(value) else copy.deepcopy(value)


def _unknown(name: str) -> str:
    return f"there is no variable `{name}`: name it where they are made, `shim.state({name}=...)`"


def _differs(name: str, now: Any) -> CannotRestore:
    return CannotRestore(
        f"cannot restore `{_PLACE}.{name}`: the checkpoint has something else there than a "
        f"{type(now).__name__}, or one of another kind",
        hint="give shim.state() what the run had there, or another name",
    )


def _is_long(value: Any) -> bool:
    return type(value) in _FILLS and len(value) > _MAX_LOOKED_AT


def _fill_list(now: list[Any], value: list[Any]) -> None:
    now[:] = value


def _fill(now: Any, value: Any) -> None:
    now.clear()
    now.extend(value)


def _fill_map(now: dict[Any, Any], value: dict[Any, Any]) -> None:
    now.clear()
    for key, item in value.items():
        now[key] = item  # noqa: PERF403  # `update` of a Counter adds, that of dict breaks an OrderedDict.


def _fill_set(now: set[Any], value: set[Any]) -> None:
    now.clear()
    now.update(value)


#: How what the script made takes over what was saved: it may have given the object to others.
_FILLS: Final[dict[type, Callable[[Any, Any], None]]] = {
    list: _fill_list,
    deque: _fill,
    set: _fill_set,
    **dict.fromkeys((dict, OrderedDict, defaultdict, Counter), _fill_map),
}


def _tensors(value: Any) -> Iterator[Any]:
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _tensors(one)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


def _device(value: Any) -> str:
    """Where the tensors of a value are, "" for the host."""
    if isinstance(value, _PLAIN):
        return ""
    return next((str(one.device) for one in _tensors(value) if one.device.type != "cpu"), "")


def _moved(value: Any, device: str | None) -> Any:
    """The value with its tensors on that device."""
    if not device:
        return value
    if type(value) in (list, tuple):
        return type(value)(_moved(one, device) for one in value)
    if isinstance(value, dict):
        for key, one in value.items():
            value[key] = _moved(one, device)
        return value
    return value.to(device) if next(_tensors(value), None) is not None else value
