"""What is stored by name and comes back only as the live object of a fresh process.

Covers: named tuples and enums of the script, functions and classes, objects
with a state of their own inside another one's state; their nodes, what stands
for them in a state that was read, putting the live ones in their place.
Does not cover: everything that a file alone can bring back (tree.py, kinds.py).

A file names no class to import. `Live` is the record of what the parts' states
held when attach() was called: a fresh process makes the same, so whatever is
in it can be found again there, and nothing else is stored.
"""

from __future__ import annotations

import enum
import functools
import inspect
from collections.abc import Callable
from typing import Any

import msgspec

from trainer_shim.checkpoint.kinds import Inside, Node
from trainer_shim.errors import CannotRestore, CannotStore, Damaged

__all__ = [
    "READERS",
    "Live",
    "LiveEnum",
    "LiveName",
    "LiveObject",
    "LiveTuple",
    "encode_live",
    "name_of_live",
    "note",
]


class Live(msgspec.Struct):
    """What was there when attach() was called."""

    #: Named tuples and enums, wherever they were.
    classes: dict[str, type] = msgspec.field(default_factory=dict)
    #: By path: functions, classes, and objects with a state of their own.
    at: dict[str, Any] = msgspec.field(default_factory=dict)

    def take_in(self, other: Live) -> None:
        """Know also what another record has."""
        self.classes.update(other.classes)
        self.at.update(other.at)


class LiveName(msgspec.Struct, frozen=True):
    """Stands for a function or class."""

    name: str

    def __call__(self, *_: object) -> Any:
        """Raise: a map with defaults wants something that can be called."""
        raise CannotRestore(
            f"cannot call `{self.name}`: it only stands for what a live object has",
            hint="let attach() restore the state, with a part that holds the object",
        )


class LiveEnum(msgspec.Struct, frozen=True):
    """Stands for a member of an enum; flags by their bits."""

    name: str
    member: str | int


class LiveTuple(msgspec.Struct, frozen=True):
    """Stands for a named tuple."""

    name: str
    fields: tuple[str, ...]
    items: tuple[Any, ...]


class LiveObject(msgspec.Struct, frozen=True):
    """Stands for an object that has a state of its own."""

    name: str
    state: Any


def encode_live(value: Any, inside: Inside, live: Live | None) -> dict[str, Node] | None:
    """The node of what is stored by name, None for anything else.

    Raises CannotStore for what is not in `live`: no fresh process could bring it back. None takes everything.
    """
    cls = type(value)
    if isinstance(value, enum.Enum):
        hint = "store its `.name`, or let the part hold a member of that enum already when attach() is called"
        _check_class(value, inside, live, f"a member of the enum `{name_of_live(cls)}`", hint)
        member = inside.node(value.value, "value") if isinstance(value, enum.Flag) else value.name
        return {"$": "enum", "name": name_of_live(cls), "member": member}
    if isinstance(value, tuple) and hasattr(cls, "_fields"):
        return _named_tuple(value, inside, live)
    if _is_named(value):
        what = "a class" if inspect.isclass(value) else "a function"
        if live is not None and name_of_live(live.at.get(inside.path)) != name_of_live(value):
            raise CannotStore(inside.path, f"{what}, `{name_of_live(value)}`", hint=_of_path(what))
        return {"$": "live", "name": name_of_live(value)}
    if _has_own_state(value):
        if live is not None and type(live.at.get(inside.path)) is not cls:
            what = f"an object of type `{name_of_live(cls)}`"
            raise CannotStore(inside.path, what, hint=_of_path("it"))
        return {
            "$": "stateful",
            "name": name_of_live(cls),
            "state": inside.node(_state_of(value, inside.path), None),
        }
    return None


def _of_path(what: str) -> str:
    return (
        f"let the part hold {what} at this place already when attach() is called, so that a fresh process "
        "has it there too; or leave it out of the part's `state_dict()`"
    )


def _named_tuple(value: Any, inside: Inside, live: Live | None) -> dict[str, Node]:
    cls = type(value)
    hint = "store `._asdict()` of it, or let the part hold one of that type already when attach() is called"
    _check_class(value, inside, live, f"a named tuple of type `{name_of_live(cls)}`", hint)
    for name in getattr(value, "__dict__", {}):
        hint = "make it a field of the named tuple"
        raise CannotStore(f"{inside.path}.{name}", "an attribute of a named tuple", hint=hint)
    items = [inside.node(item, name) for name, item in zip(cls._fields, value, strict=True)]
    return {"$": "namedtuple", "name": name_of_live(cls), "fields": list(cls._fields), "items": items}


def _check_class(value: Any, inside: Inside, live: Live | None, what: str, hint: str) -> None:
    """Raise CannotStore unless the value's class was there when attach() was called."""
    if live is not None and live.classes.get(name_of_live(type(value))) is not type(value):
        raise CannotStore(inside.path, what, hint=hint)


def note(value: Any, path: str, live: Live) -> None:
    """Take a value into the record, if it is one that is stored by name."""
    cls = type(value)
    if isinstance(value, enum.Enum) or (isinstance(value, tuple) and hasattr(cls, "_fields")):
        live.classes[name_of_live(cls)] = cls
    elif _is_named(value) or _has_own_state(value):
        live.at[path] = value


def _is_named(value: Any) -> bool:
    """Whether it is a function or class, of whatever make."""
    if inspect.isroutine(value) or inspect.isclass(value) or isinstance(value, functools.partial):
        return True
    return callable(value) and isinstance(getattr(value, "__name__", None), str)


def _has_own_state(value: Any) -> bool:
    """Whether it is an object with the two methods of torch's own parts."""
    found = (getattr(value, name, None) for name in ("state_dict", "load_state_dict"))
    return not inspect.isclass(value) and all(map(callable, found))


def name_of_live(value: Any) -> str:
    """The qualified name of a function or class."""
    if isinstance(value, functools.partial):
        return f"functools.partial({name_of_live(value.func)})"
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    return f"{getattr(value, '__module__', None) or 'builtins'}.{name}"


def _state_of(value: Any, path: str) -> Any:
    # Asked as the parts are, whose module uses this package.
    from trainer_shim.parts import asked

    return asked(f"`{path}`", value.state_dict)


def _text(node: dict[str, Node], key: str) -> str:
    text = node[key]
    if not isinstance(text, str):
        raise Damaged(f"cannot use the state file: the {key} of a `{node['$']}` is no text")
    return text


def _read_enum(node: dict[str, Node], value: Callable[[Node], Any]) -> LiveEnum:
    member = value(node["member"])
    if type(member) not in (int, str):
        raise Damaged("cannot use the state file: a member of an enum is neither name nor number")
    return LiveEnum(_text(node, "name"), member)


def _read_tuple(node: dict[str, Node], value: Callable[[Node], Any]) -> LiveTuple:
    fields, items = tuple(map(str, node["fields"])), tuple(map(value, node["items"]))
    if len(fields) != len(items):
        raise Damaged("cannot use the state file: a named tuple has other fields than values")
    return LiveTuple(_text(node, "name"), fields, items)


READERS: dict[str, Callable[[dict[str, Node], Callable[[Node], Any]], Any]] = {
    "enum": _read_enum,
    "namedtuple": _read_tuple,
    "live": lambda node, _: LiveName(_text(node, "name")),
    "stateful": lambda node, value: LiveObject(_text(node, "name"), value(node["state"])),
}
