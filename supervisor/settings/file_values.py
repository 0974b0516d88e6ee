"""What is wrong with a value in a file that a person wrote: which, what it is, what it may be, in which line.

Covers: msgspec's errors about a struct, in words. Does not cover: reading files, names of rules (config.py).
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
from msgspec import inspect

__all__ = ["Place", "described", "line_of"]

_STEP = re.compile(r"\.(\w+)|\[(\d+)\]")
_MISSING = re.compile(r"Object missing required field `(\w+)`")
_SHOWN_CHARS = 60
_SHOWN_BITS = 128

Place = tuple[str | int, ...]


def described(error: Exception, kind: type, data: Any) -> tuple[Place, str]:
    """Return the place of a wrong value in the data, and what is wrong with it."""
    reason, _, where = str(error).partition(" - at `")
    place: Place = tuple(name or int(index) for name, index in _STEP.findall(where))
    if not isinstance(error, msgspec.ValidationError):
        return place, reason
    of = inspect.type_info(kind)
    if missing := _MISSING.match(reason):
        place = (*place, missing[1])
        return place, f"is missing; it is {_allowed(_type_at(of, place))}"
    if where.startswith("key` in"):
        of = _type_at(of, place)
        return place, f"has a name that may only be {_allowed(getattr(of, 'key_type', of))}"
    value = _value_at(data, place)
    if where.rstrip("`").endswith("[...]") and isinstance(value, dict):
        place = (*place, next((name for name, one in value.items() if not _is_short_text(one)), "..."))
        value = value.get(place[-1])
    return place, f"is {_shown(value)}, and may only be {_allowed(_type_at(of, place))}"


def line_of(text: str, place: Place) -> int | None:
    """Return the line of a file in which the value is given, where that can only be one."""
    name = next((one for one in reversed(place) if isinstance(one, str)), None)
    if name is None:
        return None
    found = [match.start() for match in re.finditer(rf"""(?<![\w-]){re.escape(name)}["']?[ \t]*=""", text)]
    return text.count("\n", 0, found[0]) + 1 if len(found) == 1 else None


def _is_short_text(value: object) -> bool:
    """Tables of people hold texts, some of them bounded."""
    return isinstance(value, str) and len(value) <= 200


def _value_at(data: Any, place: Place) -> Any:
    for step in place:
        data = data[step]
    return data


def _type_at(of: inspect.Type, place: Place) -> inspect.Type:
    for step in place:
        of = _plain(of)
        match of:
            case inspect.StructType(fields=fields):
                of = next(one.type for one in fields if one.encode_name == step)
            case inspect.DictType(value_type=inner):
                of = inner
            case inspect.ListType(item_type=inner) | inspect.VarTupleType(item_type=inner):
                of = inner
            case inspect.UnionType(types=types):
                # A word, or a list of them: only a list has places.
                return _type_at(next(one for one in types if isinstance(one, inspect.ListType)), (step,))
            case _:
                return of
    return _plain(of)


def _plain(of: inspect.Type) -> inspect.Type:
    """Return the type without a default of null, or what is only said about it."""
    if isinstance(of, inspect.Metadata) and not _words(of):
        return _plain(of.type)
    if isinstance(of, inspect.UnionType):
        others = [one for one in of.types if not isinstance(one, inspect.NoneType)]
        return _plain(others[0]) if len(others) == 1 else of
    return of


def _words(of: inspect.Metadata) -> str:
    """Return what a value may be where its type says it in words: Meta(extra={"words": ...})."""
    return str((of.extra or {}).get("words", ""))


def _allowed(of: inspect.Type) -> str:
    match of:
        case inspect.Metadata():
            return _words(of)
        case inspect.LiteralType(values=values):
            return _one_of(values)
        case inspect.EnumType(cls=cls):
            return _one_of([one.value for one in cls])
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType(ge=low, le=high):
            return "a whole number" + _between(low, high)
        case inspect.FloatType(ge=low, le=high):
            return "a number" + _between(low, high)
        case inspect.StrType():
            return _text(of)
        case inspect.UnionType(types=types):
            return ", or ".join(_allowed(one) for one in types if not isinstance(one, inspect.NoneType))
        case _:
            return _many(of)


def _text(of: inspect.StrType) -> str:
    if of.pattern:
        return f"a text of the form {of.pattern}"
    return "a text in quotes" + (
        f" of {of.min_length or 0} to {of.max_length} characters" if of.max_length else ""
    )


def _many(of: inspect.Type) -> str:
    if not isinstance(of, inspect.ListType | inspect.VarTupleType):
        return "a table"
    most = f" and at most {of.max_length}" if of.max_length else ""
    return f"a list of at least {of.min_length or 0}{most}, each {_allowed(_plain(of.item_type))}"


def _between(low: float | None, high: float | None) -> str:
    if low is not None and high is not None:
        return f" from {_plainly(low)} to {_plainly(high)}"
    if low is not None:
        return f" of at least {_plainly(low)}"
    return "" if high is None else f" of at most {_plainly(high)}"


def _plainly(bound: float) -> str:
    return str(int(bound)) if bound == int(bound) else str(bound)


def _one_of(values: Any) -> str:
    *first, last = (f'"{one}"' if isinstance(one, str) else str(one) for one in values)
    return f"{', '.join(first)} or {last}" if first else last


def _shown(value: Any) -> str:
    match value:
        case str():
            return f'"{value}"' if len(value) <= _SHOWN_CHARS else f'"{value[:_SHOWN_CHARS]}..."'
        case bool():
            return str(value).lower()
        case dict():
            return "a table"
        case list() | tuple():
            return "a list" if value else "an empty list"
        case int() if value.bit_length() > _SHOWN_BITS:  # Python does not print the longest ones.
            return f"a number of {value.bit_length()} bits"
        case _:
            return str(value)[:_SHOWN_CHARS]
