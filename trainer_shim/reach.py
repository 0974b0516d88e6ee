"""What a data loader can reach: the generators it may draw from, and the objects that keep values.

Covers: the walk over attributes, slots, containers, partials, methods, closures, iterators, and the global
variables that the code of the script names.
Does not cover: what is done with what is found (carried.py).

Calls nothing of the script's: a property of a user's class may do anything. Bounded, because a dataset may
hold millions of objects; what could not be entered is named. Runs in workers too: imports nothing heavy.
"""

from __future__ import annotations

import functools
import gc
import inspect
import itertools
import random
import sys
import threading
import time
from collections import ChainMap, UserDict, UserList, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import (
    BuiltinMethodType,
    CodeType,
    FrameType,
    FunctionType,
    GeneratorType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
    SimpleNamespace,
)
from typing import Any

import msgspec

from trainer_shim.script_code import (
    Globals,
    by_name,
    cells,
    is_a,
    is_script,
    is_script_class,
    is_users,
    of_function,
)

__all__ = [
    "ATOMS",
    "Found",
    "attributes",
    "frame_variables",
    "glimpse",
    "hands_on",
    "is_generator",
    "is_of_loaders",
    "is_open",
    "walk",
]

#: How far a walk goes. A dataset with a list of transforms is far inside both.
_MAX_VISITS = 50_000
_MAX_S = 1.0
#: Containers up to this length are entered one by one; longer ones are first asked for their types at once.
_SHORT = 64

#: Types of values that lead nowhere.
ATOMS: frozenset[type] = frozenset(
    {int, float, complex, bool, str, bytes, bytearray, type(None), type(...), slice, range}
)
_SEQUENCES = (list, tuple, deque, set, frozenset)
#: Iterators of C code that hand on what others give.
_HANDING_ON: tuple[type, ...] = (
    zip, enumerate, map, filter,
    itertools.islice, itertools.chain, itertools.cycle, itertools.takewhile, itertools.dropwhile,
    itertools.starmap, itertools.zip_longest, type(itertools.tee(())[0]),
    type(iter([])), type(iter(())), type(iter(int, 1)),
)  # fmt: skip
#: Those of torch's modules whose objects keep what the data is made of.
_DATA = ("torch.utils.data.", "torch.quasirandom")
#: Attributes of torch's loaders and their iterators that are about the present pass.
_LIVING = frozenset(
    {"_iterator", "_sampler_iter", "_dataset_fetcher", "shim_goes_to", "shim_loader", "shim_log"}
)
_LEAF_MODULES = frozenset({"numpy", "torch", "pathlib", "datetime", "decimal", "uuid", "fractions"})


class Found(msgspec.Struct, frozen=True):
    """What a walk came to, under the paths by which it was first reached."""

    #: Generators of random numbers, in an order that a fresh process repeats.
    generators: dict[str, Any]
    #: Objects of the loader's own that may keep values: samplers, datasets, transforms.
    owners: dict[str, Any]
    #: The place where the walk came to its bounds.
    unseen: list[str]
    #: What was asked for besides, but for what lies in an iterator, which is a part of it.
    others: dict[str, Any]


def walk(
    roots: Mapping[str, Any],
    is_other: Callable[[Any], bool] = lambda _: False,
    *,
    max_visits: int = _MAX_VISITS,
    is_closed: Callable[[Any], bool] = lambda _: False,
    has_owners: bool = True,
) -> Found:
    """Visit all that `roots` reach, breadth first, each object once; what is closed is not entered.

    Without `has_owners` it is not asked which objects keep values, which takes a third of the time.
    """
    found = Found({}, {}, [], {})
    seen: dict[int, Any] = {}
    # Whether a thing is the loader's own: what global names lead to may be the training's (_is_helper);
    # and whether it lies in an iterator.
    waiting = deque((path, thing, True, False) for path, thing in roots.items())
    until = time.monotonic() + _MAX_S
    while waiting:
        path, thing, is_own, is_inside = waiting.popleft()
        if type(thing) in ATOMS or id(thing) in seen or is_a(thing, type | ModuleType | CodeType):
            continue
        seen[id(thing)] = thing
        if is_generator(thing):
            found.generators[path] = thing
            continue
        if len(seen) > max_visits or (len(seen) % 256 == 0 and time.monotonic() > until):
            # Without the number, which is another each time.
            found.unseen.append(path.partition("[")[0])
            break
        if has_owners:
            _note(found.owners, path, thing, is_own)
        if not is_inside and is_other(thing):
            found.others[path] = thing
        if is_closed(thing):
            continue
        is_inside = is_inside or is_a(thing, GeneratorType) or hands_on(thing)
        waiting.extend((*child, is_own, is_inside) for child in _children(thing, path))
        waiting.extend((*child, False, is_inside) for child in by_name(thing))
    return found


def _note(owners: dict[str, Any], path: str, thing: Any, is_own: bool) -> None:  # noqa: FBT001
    """Note an object that keeps values, and what of its class does."""
    # What the data's code names is of its doing as far as it is a plain value.
    if is_a(thing, Globals):
        owners[path] = thing
    elif _keeps_values(thing) if is_own else _is_helper(thing):
        owners[path] = thing
        for kind in type(thing).__mro__:
            if is_script_class(kind):
                owners.setdefault(kind.__qualname__, kind)


def is_generator(thing: Any) -> bool:
    """Whether this draws random numbers and has a state that can be set."""
    if is_a(thing, random.Random):
        return not is_a(thing, random.SystemRandom)
    torch = sys.modules.get("torch")
    if torch is not None and is_a(thing, torch.Generator):
        return True
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is None:
        return False
    return is_a(thing, numpy_random.Generator | numpy_random.RandomState | numpy_random.BitGenerator)


def hands_on(thing: Any) -> bool:
    """Whether this is `zip`, `enumerate`, `islice` or the like: an iterator that hands on others' items."""
    return is_a(thing, _HANDING_ON)


def attributes(thing: Any) -> Iterator[tuple[str, Any]]:
    """Yield the attributes of an object itself, those in slots too; no property is asked.

    Of a function also the variables in its closure, of a class what is no part of its code.
    """
    if is_a(thing, type):
        yield from ((name, value) for name, value in vars(thing).items() if not _is_code(name, value))
        return
    if is_a(thing, Globals):
        yield from thing.items()
        return
    if is_a(thing, FunctionType):
        yield from cells(thing)
    yield from [(str(name), value) for name, value in _own(thing).items()]
    for kind in type(thing).__mro__:
        slots = vars(kind).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else tuple(slots):
            hidden = f"_{kind.__name__.lstrip('_')}{name}" if _is_mangled(name) else name
            slot = vars(kind).get(hidden)
            # What stands there may be something else of the user's by now.
            if type(slot).__name__ == "member_descriptor":
                try:
                    yield hidden, slot.__get__(thing)  # type: ignore[union-attr]
                except AttributeError:  # Nothing was put there yet.
                    continue


def _own(thing: Any) -> dict[Any, Any]:
    """The `__dict__` of an object, where it has a plain one."""
    is_local = is_a(thing, threading.local)  # One for each thread is no ordinary object.
    if not is_local and type(_found(type(thing), "__dict__")) not in _PLAIN_DICT:
        return {}
    try:
        own = (threading.local if is_local else object).__getattribute__(thing, "__dict__")
    except AttributeError:
        return {}
    return own if is_a(own, dict) else {}


#: Behind which a `__dict__` is one; a class of the script's may have a property in its place.
_PLAIN_DICT = (GetSetDescriptorType, MemberDescriptorType)


def _found(kind: type, name: str) -> Any:
    return next((vars(one)[name] for one in kind.__mro__ if name in vars(one)), None)


def _is_code(name: str, value: Any) -> bool:
    return name.startswith("__") or is_a(value, type) or hasattr(type(value), "__get__")


def _is_mangled(name: str) -> bool:
    return name.startswith("__") and not name.endswith("__")


def _keeps_values(thing: Any) -> bool:
    """Whether an object's attributes are the data's business: not if it also holds the training itself."""
    kind: Any = type(thing)
    if is_a(thing, FunctionType):
        return is_script(thing.__code__.co_filename)
    if is_of_loaders(kind) or not (
        is_users(kind) or _is_namespace(thing) or kind.__module__.startswith(_DATA)
    ):
        return False
    torch = sys.modules.get("torch")
    if torch is None:
        return True
    others = (torch.optim.Optimizer, torch.utils.data.DataLoader)
    return not _is_or_holds(thing, others)


def _is_or_holds(thing: Any, kinds: Any) -> bool:
    return is_a(thing, kinds) or any(is_a(one, kinds) for _, one in attributes(thing))


def _is_helper(thing: Any) -> bool:
    """Whether an object that the data's code reaches by global names does its part in the data.

    One of the script's own classes, as an augmentation that counts: unless it is or holds a module, which
    is the training's business.
    """
    kind: Any = type(thing)
    is_scripts = is_a(thing, FunctionType) or _is_namespace(thing) or is_script_class(kind)
    torch = sys.modules.get("torch")
    if not is_scripts or not _keeps_values(thing):
        return False
    return torch is None or not _is_or_holds(thing, torch.nn.Module)


def _is_namespace(thing: Any) -> bool:
    """Whether this is one of the objects of Python's own that hold what a script puts there."""
    kinds = (SimpleNamespace, UserDict, UserList, ChainMap, threading.local)
    return is_a(thing, kinds) or type(thing).__module__ == "argparse"


def _children(thing: Any, path: str) -> Iterable[tuple[str, Any]]:
    """What an object holds, with the path of each."""
    if is_a(thing, dict):
        return _of_items(thing, _of_dict(thing, path))
    if is_a(thing, _SEQUENCES):
        return _of_items(thing, ((f"{path}[{index}]", item) for index, item in enumerate(list(thing))))
    if is_a(thing, FunctionType):
        return of_function(thing, path)
    if is_a(thing, MethodType):
        return [(f"{path}.__self__", thing.__self__), (f"{path}.__func__", thing.__func__)]
    if is_a(thing, BuiltinMethodType):  # `Random(5).random` is one; for a function it is its module.
        return [(f"{path}.__self__", thing.__self__)]
    if is_a(thing, GeneratorType) or hands_on(thing):
        return _of_iterator(thing, path)
    if type(thing).__name__ == "_lru_cache_wrapper":
        return [(f"{path}.__wrapped__", thing.__wrapped__)]
    found = [(f"{path}.{name}", value) for name, value in attributes(thing)] if is_open(thing) else []
    if is_of_loaders(type(thing)):
        # An iterator of a loader is another at each batch; what it was made of stays.
        found = [(where, value) for where, value in found if where.rpartition(".")[2] not in _LIVING]
    if is_a(thing, functools.partial):
        found += [
            (f"{path}.func", thing.func),
            (f"{path}.args", thing.args),
            (f"{path}.keywords", thing.keywords),
        ]
    return found


def _of_iterator(thing: Any, path: str) -> list[tuple[str, Any]]:
    inside = gc.get_referents(thing)
    if not is_a(thing, GeneratorType):
        return [(f"{path}<{index}>", one) for index, one in enumerate(inside) if not is_a(one, dict)]
    # By name, because what else lies there is another at each item; of that only loaders' iterators.
    living = [one for one in inside if is_of_loaders(type(one))]
    named = [] if thing.gi_frame is None else frame_variables(thing.gi_frame)
    return [
        *((f"{path}<{name}>", value) for name, value in named),
        *((f"{path}<loader {index}>", one) for index, one in enumerate(living)),
    ]


def is_of_loaders(kind: type) -> bool:
    """Whether this is an iterator of a loader: another at each pass."""
    return kind.__module__ == "torch.utils.data.dataloader"


def frame_variables(frame: FrameType) -> list[tuple[str, Any]]:
    """The variables of a frame by name, which it does not keep for that.

    The dict that it is asked for stays with it in Python 3.11 and 3.12, and would hold a batch for days.
    """
    names = frame.f_locals
    found = list(names.items())
    # The variables themselves lie elsewhere, but for the bodies of modules and classes.
    if type(names) is dict and frame.f_code.co_flags & inspect.CO_OPTIMIZED:
        names.clear()
    return found


def is_open(thing: Any) -> bool:
    """Whether the attributes of an object are looked at: those of Python's own and of tensors are not."""
    kind = type(thing)
    if (
        is_a(thing, functools.partial)
        or _is_namespace(thing)
        or any(is_users(base) for base in kind.__mro__[:-1])
    ):
        return True
    return kind.__module__.startswith(("torch.utils.", "torch.nn.", "torchdata.", *_DATA))


def _of_items(items: Any, named: Iterable[tuple[str, Any]]) -> Iterable[tuple[str, Any]]:
    """The items of a container; none where their types tell that none leads anywhere."""
    if len(items) > _SHORT:
        look = glimpse(items)
        if look not in _dull:
            if len(_dull) >= _MAX_DULL:
                _dull.clear()
            _dull[look] = _is_dull(items)
        if _dull[look]:
            return ()
    # Not more than can be visited: the list of paths alone may be large.
    return list(itertools.islice(named, _MAX_VISITS + 1))


def _is_dull(items: Any) -> bool:
    """Whether a long container holds values only, or containers of values, some layers deep."""
    layer = list(items.values()) if is_a(items, dict) else items
    for _ in range(4):
        kinds = set(map(type, layer))
        if all(kind in ATOMS or _is_leaf(kind) for kind in kinds):
            return True
        if not kinds <= {list, tuple, dict, *ATOMS}:
            return False
        inner = (one.values() if type(one) is dict else one for one in layer if type(one) not in ATOMS)
        layer = list(itertools.islice(itertools.chain.from_iterable(inner), _MAX_LAYER))
        if len(layer) == _MAX_LAYER:
            # The rest is like it, or more than can be looked at.
            return all(kind in ATOMS or _is_leaf(kind) for kind in set(map(type, layer)))
    return False


#: Long containers that are known to hold values only, by a glimpse.
_dull: dict[Any, bool] = {}
_MAX_DULL = 256
_MAX_LAYER = 5_000_000


def glimpse(items: Any, num_items: int = 512) -> tuple[Any, ...]:
    """What a long container is by a quick look: about so many of its items, by identity."""
    step = max(1, len(items) // num_items)
    some: Any
    if is_a(items, list | tuple):
        some = items[::step]
    else:
        some = itertools.islice(items.values() if is_a(items, dict) else items, 0, None, step)
    return (id(items), len(items), hash(tuple(map(id, some))))


def _of_dict(thing: dict[Any, Any], path: str) -> Iterator[tuple[str, Any]]:
    for index, (key, item) in enumerate(list(thing.items())):
        # The repr() of a key of the user's may do anything.
        yield f"{path}[{repr(key)[:40] if type(key) in ATOMS else index}]", item


def _is_leaf(kind: type) -> bool:
    # Since Python 3.13 paths are of `pathlib._local`.
    module = "pathlib" if kind.__module__.startswith("pathlib.") else kind.__module__
    return module in _LEAF_MODULES and not hasattr(kind, "manual_seed")
