"""What the code of the script reaches: the variables of its functions, globals and attributes by name.

Covers: closures and defaults, global names that code uses, attributes of classes; whose code it is.
Does not cover: the walk through all of it (reach.py).
"""

from __future__ import annotations

import dis
import functools
import sys
import weakref
from collections.abc import Iterator, Mapping
from contextlib import suppress
from types import CodeType, FunctionType, ModuleType
from typing import Any

__all__ = ["Globals", "by_name", "cells", "is_a", "is_script", "is_script_class", "is_users", "of_function"]

#: Libraries whose objects are looked through, but are nobody's own.
_LIBRARIES = frozenset({"torch", "torchdata", "numpy", "trainer_shim"})


class Globals:
    """The global variables of one module that the code of one function names."""

    def __init__(self, names: list[str], space: dict[str, Any]) -> None:
        self.space, self._names = space, names

    def items(self) -> Iterator[tuple[str, Any]]:
        """Yield those that are there now."""
        yield from ((name, self.space[name]) for name in self._names if name in self.space)


def is_a(thing: Any, kinds: Any) -> bool:
    """Whether it is of a kind by its true type: `isinstance` asks `__class__`, a property that may raise."""
    return issubclass(type(thing), kinds)


def _globals_of(function: FunctionType) -> dict[str, Globals]:
    """By where they are: of its own module, and of the script's others (`counts.total += 1`).

    The same objects each time, so that the state of each has one place.
    """
    if function not in _known:
        code, space = function.__code__, function.__globals__
        where = f"{function.__module__}:{function.__qualname__}"
        found = {where: Globals(_names_globally(code), space)}
        attributes = sorted(_attribute_names(code))
        for name, module in found[where].items():
            if _is_script_module(module):
                found[f"{where}:{name}"] = Globals(attributes, vars(module))
        _known[function] = found
    return _known[function]


_known: weakref.WeakKeyDictionary[FunctionType, dict[str, Globals]] = weakref.WeakKeyDictionary()


def _is_script_module(thing: Any) -> bool:
    return is_a(thing, ModuleType) and is_script(getattr(thing, "__file__", None) or "-packages")


def _attribute_names(code: CodeType) -> set[str]:
    inner = (one for one in code.co_consts if is_a(one, CodeType))
    return set(code.co_names).union(*map(_attribute_names, inner))


def _names_globally(code: CodeType) -> list[str]:
    names = {one.argval for one in dis.get_instructions(code) if one.opname in _GLOBAL_CODES}
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            names.update(_names_globally(inner))
    return sorted(names)


_GLOBAL_CODES = frozenset({"LOAD_GLOBAL", "STORE_GLOBAL"})


def cells(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """Yield the variables of its closure."""
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        with suppress(ValueError):  # The variable has no value yet.
            yield f"<{name}>", cell.cell_contents


def of_function(function: FunctionType, path: str) -> list[tuple[str, Any]]:
    """Return what a function holds itself, under paths below its own."""
    found = [(f"{path}{name}", value) for name, value in cells(function)]
    found += [(f"{path}.{name}", value) for name, value in vars(function).items()]
    return [
        *found,
        (f"{path}.__defaults__", function.__defaults__),
        (f"{path}.__kw__", function.__kwdefaults__),
    ]


def by_name(thing: Any) -> list[tuple[str, Any]]:
    """What the script's own code for this object reaches by global names and as attributes of its class."""
    if is_a(thing, FunctionType):
        if not is_script(thing.__code__.co_filename):
            return []
        return [*_named(thing.__code__, thing.__globals__), *_globals_of(thing).items()]
    kinds = [kind for kind in type(thing).__mro__ if is_script_class(kind)]
    return [one for kind in kinds for one in _of_class(kind)]


def _of_class(kind: type) -> list[tuple[str, Any]]:
    """What the code of a class reaches, and its attributes."""
    if kind in _looking_at:  # Its methods name it.
        return []
    _looking_at.append(kind)
    found: list[tuple[str, Any]] = []
    try:
        for name, value in vars(kind).items():
            is_wrapped = type(value) in (staticmethod, classmethod)
            function = value.__func__ if is_wrapped else value
            if is_a(function, FunctionType):
                found += [*of_function(function, f"{kind.__qualname__}.{name}"), *by_name(function)]
            elif not name.startswith("__"):
                found.append((f"{kind.__qualname__}.{name}", value))
    finally:
        _looking_at.pop()
    return found


_looking_at: list[type] = []


def _named(code: CodeType, names: Mapping[str, Any]) -> list[tuple[str, Any]]:
    where = names.get("__name__", "")
    found = []
    for name in code.co_names:
        value: Any = names.get(name)
        found.append((f"{where}.{name}", value))
        if _is_script_module(value):
            # What is called by it: `augment.jitter(x)`.
            inside = vars(value)
            found += [(f"{value.__name__}.{one}", inside[one]) for one in code.co_names if one in inside]
        elif is_a(value, type) and is_script_class(value):
            found += _of_class(value)
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            found += _named(inner, names)
    return found


@functools.cache
def is_script_class(kind: Any) -> bool:
    """Whether a class is the script's own."""
    if not is_users(kind):
        return False
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    return file is None or is_script(file)


@functools.cache
def is_script(file: str) -> bool:
    """Whether code is the script's own: a library's leads through the whole library."""
    import sysconfig

    paths = sysconfig.get_paths()
    libraries = (paths["stdlib"], paths["purelib"], paths["platlib"])
    return not file.startswith(libraries) and "-packages" not in file


@functools.cache
def is_users(kind: Any) -> bool:
    """Whether a class is neither Python's own nor of a library that computes."""
    top = str(kind.__module__).partition(".")[0]
    return top == "__main__" or not (top in sys.stdlib_module_names or top in _LIBRARIES)
