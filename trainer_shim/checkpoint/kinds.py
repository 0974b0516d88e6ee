"""Values of the standard library as nodes, by a closed table.

Covers: which types can be stored besides JSON's own and Python's basic ones,
under which name each stands in a file.
Does not cover: the basic ones (tree.py), torch and numpy (arrays.py,
small.py), generators (generators.py), what only a live object can bring back (live.py).

A file names a row of this table and never a class: what is imported to read
one is said here. Exact types only: a subclass carries more than its base can
bring back. The modules are imported on use, most runs need none of them.
"""

from __future__ import annotations

import binascii
import os
import re
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import PosixPath, PurePosixPath, PureWindowsPath
from types import EllipsisType, MappingProxyType, SimpleNamespace
from typing import Any, NamedTuple, Protocol

from trainer_shim.errors import CannotRestore, CannotStore

__all__ = ["Inside", "ValueKind", "kind_named", "kind_of"]

Node = Any


class Inside(Protocol):
    """Where the nodes of what is in a value come from; `key` stands in the path."""

    path: str

    def node(self, value: Any, key: object) -> Node:
        """The node of an inner value; raises CannotStore."""

    def pairs(self, value: Mapping[Any, Any]) -> list[Node]:
        """Keys and values of a map."""


class ValueKind(NamedTuple):
    """One type: its node but for the name, and the value behind a node."""

    write: Callable[[Any, Inside], dict[str, Node]]
    #: The type, the node, and what gives the value of an inner node.
    read: Callable[[Any, dict[str, Node], Callable[[Node], Any]], Any]
    #: Whether it may be the key of a map or the member of a set.
    is_key: bool = True


def kind_of(value: Any) -> tuple[str, ValueKind] | None:
    """The row of a value's exact type, with its name."""
    cls = type(value)
    name = _NAMES.get(cls)
    if name is None:
        # The other modules need not be there: without one, no value of it is.
        name = f"{cls.__module__}.{cls.__qualname__}"
        if name not in _KINDS or _type(name) is not cls:
            return None
    return name, _KINDS[name]


def kind_named(name: str) -> Callable[[dict[str, Node], Callable[[Node], Any]], Any] | None:
    """What reads the nodes of a name; None where the table has none."""
    kind = _KINDS.get(name)
    if kind is None:
        return None
    return lambda node, value: kind.read(_type(name), node, value)


def _type(name: str) -> Any:
    """The type of a row; never called with a name that is none."""
    module, _, cls = name.rpartition(".")
    return getattr(import_module(module), cls)


# --- one line a type -------------------------------------------------------------------------


def _text(value: Any, _: Inside) -> dict[str, Node]:
    return {"text": str(value)}


def _from_text(cls: Any, node: dict[str, Node], _: object) -> Any:
    return cls(_checked(node["text"]))


def _checked(text: object) -> str:
    """Raise TypeError for what is no text: many types make something of a number too."""
    if not isinstance(text, str):
        raise TypeError(f"{type(text).__name__} instead of text")
    return text


def _fields(*names: str) -> ValueKind:
    """A type whose arguments are attributes of the same names."""

    def write(value: Any, inside: Inside) -> dict[str, Node]:
        return {name: inside.node(getattr(value, name), name) for name in names}

    def read(cls: Any, node: dict[str, Node], value: Callable[[Node], Any]) -> Any:
        return cls(*(value(node[name]) for name in names))

    return ValueKind(write, read)


def _read_path(cls: Any, node: dict[str, Node], _: object) -> Any:
    if "base64" in node:
        return cls(os.fsdecode(binascii.a2b_base64(node["base64"], strict_mode=True)))
    return cls(_checked(node["text"]))


def _write_path(value: Any, _: Inside) -> dict[str, Node]:
    text = str(value)
    try:
        text.encode()
    except UnicodeEncodeError:  # A name on the disk that is no UTF-8.
        return {"base64": binascii.b2a_base64(os.fsencode(text), newline=False).decode()}
    return {"text": text}


def _write_clock(value: Any, inside: Inside) -> dict[str, Node]:
    """A time of day, or a moment, as it is read on its own clock."""
    node: dict[str, Node] = {"text": value.replace(tzinfo=None).isoformat()}
    if value.fold:
        node["fold"] = value.fold
    if value.tzinfo is not None:
        node["tzinfo"] = inside.node(value.tzinfo, "tzinfo")
    return node


def _read_clock(cls: Any, node: dict[str, Node], value: Callable[[Node], Any]) -> Any:
    zone = value(node["tzinfo"]) if "tzinfo" in node else None
    return cls.fromisoformat(_checked(node["text"])).replace(fold=node.get("fold", 0), tzinfo=zone)


def _write_timezone(value: Any, inside: Inside) -> dict[str, Node]:
    offset, *name = value.__getinitargs__()
    return {
        "offset": inside.node(offset, "offset"),
        **({"name": inside.node(name[0], "name")} if name else {}),
    }


def _read_timezone(cls: Any, node: dict[str, Node], value: Callable[[Node], Any]) -> Any:
    name = (_checked(node["name"]),) if "name" in node else ()
    return cls(value(node["offset"]), *name)


_ZONE = re.compile(r"[A-Za-z0-9_+-]{1,64}(/[A-Za-z0-9_+-]{1,64}){0,3}")


def _write_zone(value: Any, inside: Inside) -> dict[str, Node]:
    if value.key is None or not _ZONE.fullmatch(value.key):
        hint = "use `zoneinfo.ZoneInfo(name)`, or `datetime.timezone`"
        raise CannotStore(inside.path, "a time zone without a name", hint=hint)
    return {"key": value.key}


def _read_zone(cls: Any, node: dict[str, Node], _: object) -> Any:
    if not _ZONE.fullmatch(_checked(node["key"])):
        raise ValueError("the name of a time zone that cannot be one")
    try:
        return cls(node["key"])
    except (LookupError, OSError) as error:
        raise CannotRestore(
            f"cannot restore the time zone `{node['key']}`: it is not known here", hint="`pip install tzdata`"
        ) from error


def _write_array(value: Any, inside: Inside) -> dict[str, Node]:
    data = inside.node(value.tobytes(), "data")
    return {"typecode": value.typecode, "item_bytes": value.itemsize, "data": data}


def _read_array(cls: Any, node: dict[str, Node], value: Callable[[Node], Any]) -> Any:
    array = cls(node["typecode"])
    if array.itemsize != node["item_bytes"]:
        raise CannotRestore(
            f"cannot restore an array of type `{array.typecode}`: elements have {array.itemsize} bytes here",
            hint="restore it on a machine of the same kind",
        )
    array.frombytes(value(node["data"]))
    return array


def _write_counts(value: Any, inside: Inside) -> dict[str, Node]:
    for name in vars(value):
        hint = "make it an entry of the map"
        raise CannotStore(f"{inside.path}.{name}", "an attribute of a map", hint=hint)
    return {"items": inside.pairs(value)}


def _read_counts(cls: Any, node: dict[str, Node], value: Callable[[Node], Any]) -> Any:
    found = cls()
    # Not handed to it, or it would count what is counted.
    found.update({value(key): value(item) for key, item in node["items"]})
    return found


#: What a missing entry of a `defaultdict` may begin with; others only where the live object has it.
_FACTORIES = {
    cls.__name__: cls
    for cls in (
        *(bool, int, float, complex, str, bytes, bytearray, tuple, list, dict, set, frozenset),
        *(Counter, OrderedDict, deque),
    )
}


def _write_defaults(value: Any, inside: Inside) -> dict[str, Node]:
    factory: Any = value.default_factory
    name = next((name for name, cls in _FACTORIES.items() if cls is factory), None)
    node = name if name is not None or factory is None else inside.node(factory, "default_factory")
    return {"factory": node, "items": inside.pairs(value)}


def _read_defaults(cls: Any, node: dict[str, Node], value: Callable[[Node], Any]) -> Any:
    factory = node["factory"]
    factory = _FACTORIES[factory] if isinstance(factory, str) else value(factory)
    return cls(factory, {value(key): value(item) for key, item in node["items"]})


def _write_deque(value: Any, inside: Inside) -> dict[str, Node]:
    items = [inside.node(item, index) for index, item in enumerate(value)]
    return {"items": items, **({} if value.maxlen is None else {"maxlen": value.maxlen})}


def _write_namespace(value: Any, inside: Inside) -> dict[str, Node]:
    return {"items": inside.pairs(vars(value))}


def _read_namespace(cls: Any, node: dict[str, Node], value: Callable[[Node], Any]) -> Any:
    return cls(**{_checked(value(name)): value(item) for name, item in node["items"]})


_PATH = ValueKind(_write_path, _read_path)
_CLOCK = ValueKind(_write_clock, _read_clock)
#: Under the name that stands in a file, which is also where the type is found.
_KINDS: Mapping[str, ValueKind] = {
    "builtins.range": _fields("start", "stop", "step"),
    "builtins.slice": _fields("start", "stop", "step"),
    "types.EllipsisType": ValueKind(lambda *_: {}, lambda *_: ...),
    "types.MappingProxyType": ValueKind(
        lambda value, inside: {"of": inside.node(value.copy(), "of")},
        lambda cls, node, value: cls(value(node["of"])),
        is_key=False,
    ),
    "types.SimpleNamespace": ValueKind(_write_namespace, _read_namespace, is_key=False),
    "collections.Counter": ValueKind(_write_counts, _read_counts, is_key=False),
    "collections.defaultdict": ValueKind(_write_defaults, _read_defaults, is_key=False),
    "collections.deque": ValueKind(
        _write_deque,
        lambda cls, node, value: cls(map(value, node["items"]), node.get("maxlen")),
        is_key=False,
    ),
    "pathlib.PurePosixPath": _PATH,
    "pathlib.PureWindowsPath": _PATH,
    "pathlib.PosixPath": _PATH,
    "datetime.date": ValueKind(
        lambda value, _: {"text": value.isoformat()},
        lambda cls, node, _: cls.fromisoformat(_checked(node["text"])),
    ),
    "datetime.time": _CLOCK,
    "datetime.datetime": _CLOCK,
    "datetime.timedelta": _fields("days", "seconds", "microseconds"),
    "datetime.timezone": ValueKind(_write_timezone, _read_timezone),
    "zoneinfo.ZoneInfo": ValueKind(_write_zone, _read_zone),
    "decimal.Decimal": ValueKind(_text, _from_text),
    "fractions.Fraction": _fields("numerator", "denominator"),
    "uuid.UUID": ValueKind(_text, _from_text),
    "array.array": ValueKind(_write_array, _read_array, is_key=False),
}
#: Types that say another home of themselves, in some versions of Python.
_NAMES: dict[type, str] = {
    EllipsisType: "types.EllipsisType",
    MappingProxyType: "types.MappingProxyType",
    SimpleNamespace: "types.SimpleNamespace",
    PurePosixPath: "pathlib.PurePosixPath",
    PureWindowsPath: "pathlib.PureWindowsPath",
    PosixPath: "pathlib.PosixPath",
}
