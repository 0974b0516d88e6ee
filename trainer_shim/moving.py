"""Objects of a script whose state moves with the training and is in no checkpoint, and where they stand.

Covers: random generators, iterators and suspended generators, optimizers, schedulers, gradient scalers,
modules, copies of the weights: in variables, and inside objects and containers of the script.
Does not cover: when it is looked, and what moved (strays.py); variables of loops (loop_state.py).
"""

from __future__ import annotations

import functools
import sys
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from types import GeneratorType
from typing import Any, NamedTuple

from trainer_shim import rng
from trainer_shim.errors import CannotStore
from trainer_shim.kept import Kept
from trainer_shim.module_tree import walk as modules_of
from trainer_shim.own_states import carried_in_forward, left_out
from trainer_shim.reach import frame_variables, is_generator, walk
from trainer_shim.script_code import is_a
from trainer_shim.script_names import is_module
from trainer_shim.standing import is_file, may_stand, stands, trace

__all__ = ["Moves", "Moving", "is_known", "versions"]

#: Objects that are looked through, the nearest first: the loop waits for it.
_MAX_VISITS = 1000
#: Tensors of a container that is taken for a copy of the weights.
_MAX_TENSORS = 5000
_MAX_DEPTH = 4

_GENERATOR = (
    "`{0}` draws random numbers and no checkpoint has it: after a restart it begins anew. Write "
    "`shim.state({1}={0})` behind attach() [generator]"
)
_ITERATOR = (
    "`{0}` is {2} that goes on from turn to turn, and no checkpoint has where it stands: after a restart it "
    "begins anew. Write it as a class with attributes for `trainer_shim.Fields`, or reckon from `shim.step` "
    "[iterator]"
)
_FILE = (
    "`{0}` is read on from turn to turn, and no checkpoint has where it stands: after a restart it is read "
    "from its beginning. Keep `{0}.tell()` in `shim.state({1}=...)` [iterator]"
)
_OPTIMIZER = (
    "`{}` is an optimizer of the run, but attach() got none such: hand it over, or call `shim.add_parts()` "
    "[optimizer]"
)
_SCHEDULER = (
    "`{}` is a scheduler of the run, but attach() got none such: hand it over, or it begins anew [scheduler]"
)
_SCALER = (
    "`{}` scales the loss of the run, but attach() got none such: hand it over or it begins anew [scaler]"
)
_MODULE = (
    "`{}` is a module that changes with the training, but attach() did not get it: hand it over [module]"
)
_LOOSE = (
    "`{0}` trains {1}, which no part has: after a restart it begins anew. Write `shim.state({2}={2})` behind "
    "attach(), or make it a parameter of a module that is one [module]"
)
_HIDDEN = (
    "`{0}` goes on from batch to batch inside of the network, and no checkpoint has it: after a restart it "
    "begins anew. Keep each tensor in a buffer, `self.register_buffer(...)`, or hand over "
    '`trainer_shim.Fields({1}, "{2}")` as a part [carried]'
)
_COPY = (
    "`{0}` holds tensors of the shapes of the weights that change with the training, and no checkpoint has "
    "them. Write `shim.state({1}={2})` behind attach(): it stays the object that it is [weights-copy]"
)


_CLOSED = frozenset({"module", "optimizer", "scheduler", "scaler", "loader"})


class Moves(NamedTuple):
    """An object that may move: which it is, what to say of it if it did, and where it stands."""

    id: int
    words: str
    stands: Any


class Moving:
    """One look."""

    def __init__(self, kept: Kept) -> None:
        self._kept = kept
        modules = [part for part in kept.parts.values() if is_module(part)]
        #: What the parts hold, by identity.
        self._ours = {id(one) for part in modules for one in _tensors(part)}
        #: The schedulers inside those that are parts, which keep their states.
        self._inner = {id(one) for part in kept.parts.values() for one in _schedulers_of(part)}
        self._shapes = {
            _shapes(_tensors(part, has_buffers=both)) for part in modules for both in (False, True)
        }

    def inside(self, variables: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Moves]]:
        """Yield what has a state and is not kept, each object once, by where it was found first."""
        roots: dict[str, Any] = {}
        for place, value in variables:
            if not self._kept.is_ignored(_name(place)):
                roots.setdefault(place, value)
        for name, part in self._kept.parts.items():
            # What a part does not keep of itself.
            roots |= {f"{name}.{name}.{own}": value for own, value in left_out(part).items()}
        yield from self._hidden_states()
        found = walk(
            roots, self._is_looked_at, max_visits=_MAX_VISITS, is_closed=self._is_closed, has_owners=False
        )
        iterators = tuple(f"{place}<" for place, one in found.others.items() if _sort_of(one) == "iterator")
        for place, one in (*found.generators.items(), *found.others.items()):
            # What lies in an iterator goes on with it.
            if place.startswith(iterators) or self._kept.is_ignored(_name(place)) or self._kept.is_part(one):
                continue
            moves = self._moves(_name(place), one)
            if moves is not None:
                yield place, moves

    def _hidden_states(self) -> Iterator[tuple[str, Moves]]:
        """What networks carry from call to call in tuples, lists and maps of tensors, which no part has."""
        for name, part in self._kept.parts.items():
            for path, module in modules_of(part) if is_module(part) else ():
                present = vars(module)
                for own in carried_in_forward(module):
                    value = present.get(own)
                    if _sort_of(value) != "container" or not value or not all(map(_is_tensor, _items(value))):
                        continue
                    place = ".".join(one for one in (name, path, own) if one)
                    if not self._kept.is_ignored(place):
                        words = _HIDDEN.format(place, place.rpartition(".")[0], own)
                        yield f"{name}.{place}", Moves(id(module), words, _stand_of(_items(value)))

    def loose(self, variables: Iterable[tuple[str, Any]]) -> Iterator[str]:
        """Yield what to say of tensors that an optimizer among the parts trains and nothing has."""
        names = {id(one): _name(place) for place, one in variables if _is_tensor(one)}
        for part_name, part in self._kept.parts.items():
            groups = part.param_groups if _sort_of(part) == "optimizer" else ()
            for one in (weight for group in groups for weight in group["params"]):
                name = names.get(id(one), "")
                if id(one) in self._ours or self._kept.has_object(one) or self._kept.is_ignored(name):
                    continue
                shown = f"`{name}`" if name else f"a tensor of the shape {tuple(one.shape)}"
                yield _LOOSE.format(part_name, shown, name or "weight")

    def _is_looked_at(self, thing: Any) -> bool:
        sort = _sort_of(thing)
        if sort == "container":
            return self._is_copy(thing)
        return stands(thing) if sort == "iterator" else sort not in ("", "loader")

    def _is_closed(self, thing: Any) -> bool:
        """Whether what lies inside is its own business, or is saved with it."""
        return _sort_of(thing) in _CLOSED or self._kept.is_part(thing)

    def _moves(self, name: str, thing: Any) -> Moves | None:
        sort = _sort_of(thing)
        if sort == "optimizer":
            if any(id(one) in self._ours for group in thing.param_groups for one in group["params"]):
                return Moves(id(thing), _OPTIMIZER.format(name), _steps(thing))
            return None
        if sort == "module":
            own = list(_tensors(thing))
            if own and not any(id(one) in self._ours for one in own):
                # A buffer that is assigned anew has no count of its own changes.
                return Moves(id(thing), _MODULE.format(name), _stand_of(own))
            return None
        if sort == "scheduler":
            if self._kept.is_part(getattr(thing, "optimizer", None)) and id(thing) not in self._inner:
                return Moves(id(thing), _SCHEDULER.format(name), getattr(thing, "last_epoch", 0))
            return None
        if sort == "scaler":
            # Its first use makes the tensors; to read them would wait for a device.
            tensors = [one for one in vars(thing).values() if _is_tensor(one)]
            return Moves(id(thing), _SCALER.format(name), (len(tensors), versions(tensors)))
        return None if self._kept.has_object(thing) else self._of_value(name, thing)

    def _of_value(self, name: str, thing: Any) -> Moves | None:
        last = name.partition("[")[0].rpartition(".")[2].strip("<>")
        if is_generator(thing):
            return Moves(id(thing), _GENERATOR.format(name, last), _digest(thing))
        if _sort_of(thing) == "container":
            whole = name.partition("[")[0]
            return Moves(id(thing), _COPY.format(name, last, whole), _stand_of(_items(thing)))
        return _of_iterator(name, last, thing)

    def _is_copy(self, thing: Any) -> bool:
        """Whether a container has tensors of the weights' shapes that are not the weights."""
        if not 1 < len(thing) <= _MAX_TENSORS:
            return False
        some = _items(thing)
        if not all(map(_is_tensor, some)) or any(id(one) in self._ours for one in some):
            return False
        return _shapes(some) in self._shapes and not self._shares(some[0])

    def _shares(self, tensor: Any) -> bool:
        """Whether it is a weight under another name, as `state_dict()` has them."""
        own = (one for part in self._kept.parts.values() if is_module(part) for one in _tensors(part))
        return any(one.data_ptr() == tensor.data_ptr() for one in own if one.shape == tensor.shape)


def _schedulers_of(part: Any, depth: int = 0) -> Iterator[Any]:
    inner = vars(part).get("_schedulers") if hasattr(type(part), "get_last_lr") else None
    for one in inner if isinstance(inner, list | tuple) and depth < _MAX_DEPTH else ():
        yield one
        yield from _schedulers_of(one, depth + 1)


def _sort_of(thing: Any) -> str:
    """What an object is to a training, "" for most.

    By its class alone: to ask an unknown object for an attribute may do anything.
    """
    kind: Any = type(thing)
    return _sort(kind)


@functools.lru_cache(maxsize=2048)
def _sort(kind: Any) -> str:
    torch, data = sys.modules.get("torch"), sys.modules.get("torch.utils.data")
    if torch is not None:
        if issubclass(kind, torch.nn.Module):
            return "module"
        if issubclass(kind, torch.optim.Optimizer):
            return "optimizer"
    if data is not None and issubclass(kind, data.DataLoader):
        return "loader"
    if hasattr(kind, "get_last_lr"):
        return "scheduler"
    if any(one.__name__ == "GradScaler" and "amp" in one.__module__ for one in kind.__mro__):
        return "scaler"
    if kind in (dict, OrderedDict, list, tuple):
        return "container"
    return "iterator" if may_stand(kind) else ""


def is_known(thing: Any) -> bool:
    """Whether a look knows what it is to a training."""
    return _sort_of(thing) != "" or is_generator(thing)


def _of_iterator(name: str, last: str, thing: Any) -> Moves | None:
    if is_a(thing, GeneratorType):
        if thing.gi_running or _is_fed_by_us(thing):
            return None
        return Moves(id(thing), _ITERATOR.format(name, last, "a generator"), _plain(trace(thing)))
    if is_file(thing):
        return Moves(id(thing), _FILE.format(name, last), _plain(trace(thing)))
    if not hasattr(type(thing), "__next__"):
        return None
    return Moves(id(thing), _ITERATOR.format(name, last, "an iterator"), _plain(trace(thing)))


def _is_fed_by_us(generator: GeneratorType[Any, Any, Any]) -> bool:
    """Whether the shim gives it what it gives, and has its place."""
    inside = [] if generator.gi_frame is None else [value for _, value in frame_variables(generator.gi_frame)]
    return any(type(one).__module__.startswith("trainer_shim.") for one in (*inside, generator.gi_yieldfrom))


def _plain(told: Any) -> Any:
    """A digest that keeps nothing alive."""
    return None if told is None else repr(told)


def _name(place: str) -> str:
    """What the script calls it, without the function that it is in."""
    return place.partition(".")[2]


def _is_tensor(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and is_a(value, torch.Tensor)


def _digest(generator: Any) -> Any:
    """A number for where it stands; None for kinds that do not tell."""
    try:
        return hash(rng.dump(generator))
    except (TypeError, ValueError, AttributeError, CannotStore):
        return None


def _tensors(module: Any, *, has_buffers: bool = True) -> Iterator[Any]:
    for _, one in modules_of(module):
        own = {**one._parameters, **(one._buffers if has_buffers else {})}  # noqa: SLF001
        yield from (value for value in own.values() if value is not None)


def _shapes(tensors: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(sorted(tuple(one.shape) for one in tensors))


def versions(tensors: Iterable[Any]) -> int:
    """Together the count of their changes in place."""
    return sum(0 if one.is_inference() else one._version for one in tensors)  # noqa: SLF001


def _stand_of(tensors: Iterable[Any]) -> Any:
    return hash(tuple((id(one), versions([one])) for one in tensors))


def _items(thing: Any) -> list[Any]:
    return list(thing.values() if is_a(thing, dict) else thing)


def _steps(optimizer: Any) -> Any:
    return [
        len(optimizer.state),
        *(float(one["step"]) for one in [*optimizer.state.values()][:1] if "step" in one),
    ]
