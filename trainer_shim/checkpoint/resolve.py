"""A state that was read, with the live objects in the place of what stands for them.

Covers: walking it, finding each live object where it was, telling what is missing.
Does not cover: what is stored by name, and which record there is of it (live.py).
"""

from __future__ import annotations

import enum
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from types import MappingProxyType, SimpleNamespace
from typing import Any

from trainer_shim.checkpoint.live import Live, LiveEnum, LiveName, LiveObject, LiveTuple, name_of_live
from trainer_shim.checkpoint.paths import join
from trainer_shim.errors import CannotRestore

__all__ = ["resolve"]


def resolve(value: Any, path: str, live: Live) -> Any:
    """The value with what `live` holds; containers are changed in place. Raises CannotRestore.

    An object with a state of its own has taken it over when this returns.
    """
    change = _CHANGES.get(type(value))
    return value if change is None else change(value, path, live)


def _map(value: dict[Any, Any], path: str, live: Live) -> dict[Any, Any]:
    """Any kind of map, its attributes untouched."""
    items = [(resolve(key, path, live), resolve(item, join(path, key), live)) for key, item in value.items()]
    if any(new is not old for (new, _), old in zip(items, value, strict=True)):
        value.clear()
    for key, item in items:
        value[key] = item  # noqa: PERF403  # `update` of a Counter adds, and that of dict breaks an OrderedDict.
    if type(value) is OrderedDict and hasattr(value, "_metadata"):
        value._metadata = resolve(value._metadata, join(path, "_metadata"), live)  # noqa: SLF001  # torch's name.
    if hasattr(value, "default_factory"):
        value.default_factory = resolve(value.default_factory, join(path, "default_factory"), live)
    return value


def _list(value: Any, path: str, live: Live) -> Any:
    for index, item in enumerate(tuple(value)):
        value[index] = resolve(item, join(path, index), live)
    return value


def _tuple(value: tuple[Any, ...], path: str, live: Live) -> tuple[Any, ...]:
    items = tuple(resolve(item, join(path, index), live) for index, item in enumerate(value))
    return value if all(map(_is, items, value)) else items


def _set(value: Any, path: str, live: Live) -> Any:
    items = [resolve(item, path, live) for item in value]
    return value if all(map(_is, items, value)) else type(value)(items)


def _is(one: Any, other: Any) -> bool:
    return one is other


def _proxy(value: Any, path: str, live: Live) -> Any:
    return MappingProxyType(resolve(value.copy(), join(path, "of"), live))


def _namespace(value: Any, path: str, live: Live) -> Any:
    _map(vars(value), path, live)
    return value


def _slice(value: Any, path: str, live: Live) -> Any:
    return slice(
        *(resolve(getattr(value, name), join(path, name), live) for name in ("start", "stop", "step"))
    )


def _named(value: LiveName, path: str, live: Live) -> Any:
    found = live.at.get(path)
    if name_of_live(found) != value.name:
        raise _gone(path, f"`{value.name}`")
    return found


def _object(value: LiveObject, path: str, live: Live) -> Any:
    found = live.at.get(path)
    if found is None or name_of_live(type(found)) != value.name:
        raise _gone(path, f"an object of type `{value.name}`")
    found.load_state_dict(resolve(value.state, path, live))
    return found


def _enum(value: LiveEnum, path: str, live: Live) -> Any:
    cls = _class(value.name, path, live)
    try:
        if issubclass(cls, enum.Flag):
            member = cls(value.member)
            if member.value == value.member:  # Python 3.11.2 gives an empty one for bits that it lacks.
                return member
        if issubclass(cls, enum.Enum):
            return cls[str(value.member)]
    except (LookupError, ValueError):
        pass
    hint = "bring that member back, or begin a new run in another folder"
    raise CannotRestore(
        f"cannot restore `{path}`: `{value.name}` has no `{value.member}` any more", hint=hint
    )


def _named_tuple(value: LiveTuple, path: str, live: Live) -> Any:
    cls: Any = _class(value.name, path, live)
    if getattr(cls, "_fields", None) != value.fields:
        raise CannotRestore(
            f"cannot restore `{path}`: `{value.name}` had the fields {', '.join(value.fields)}",
            hint="bring them back in that order, or begin a new run in another folder",
        )
    pairs = zip(value.fields, value.items, strict=True)
    return cls._make(resolve(item, join(path, name), live) for name, item in pairs)


def _class(name: str, path: str, live: Live) -> type:
    found = live.classes.get(name)
    if found is None:
        raise _gone(path, f"a value of type `{name}`")
    return found


def _gone(path: str, what: str) -> CannotRestore:
    return CannotRestore(
        f"cannot restore `{path}`: {what} was there, and is not when attach() is called now",
        hint="make the part as the script did that was saved, or begin a new run in another folder",
    )


_CHANGES: dict[type, Callable[[Any, str, Live], Any]] = {
    **dict.fromkeys((dict, OrderedDict, defaultdict, Counter), _map),
    list: _list,
    deque: _list,
    tuple: _tuple,
    set: _set,
    frozenset: _set,
    MappingProxyType: _proxy,
    SimpleNamespace: _namespace,
    slice: _slice,
    LiveName: _named,
    LiveObject: _object,
    LiveEnum: _enum,
    LiveTuple: _named_tuple,
}
