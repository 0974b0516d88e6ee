"""What the names in a function of the script stand for at this moment.

Covers: variables, attributes and methods by name; which function of the script an expression calls.
Does not cover: the source of functions (inlining.py).

Nothing of the script's is called: no property, no `__getattr__`. Lives no longer than one look, because it
holds the script's own objects.
"""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FunctionType, MethodType, ModuleType
from typing import Any

from trainer_shim.optimizer_state import is_optimizer
from trainer_shim.reach import attributes
from trainer_shim.script_code import is_a, is_script, is_script_class

__all__ = ["MISSING", "Called", "Names", "is_module", "member"]

_HERE = str(Path(__file__).parent)


#: Where torch keeps what it calls besides.
_HOOKS = frozenset(
    {"_optimizer_step_pre_hooks", "_optimizer_step_post_hooks", "_forward_pre_hooks", "_forward_hooks"}
)
_MAX_ITEMS = 16


class _Missing:
    """Nothing is known."""


MISSING = _Missing()


#: A function of the script that an expression calls, and what it gets before the arguments of the call: the
#: object of a method, what a partial has; and by name.
Called = tuple[FunctionType, list[ast.expr], dict[str, ast.expr]]


class Names:
    """The names of one function. Those of others get one here that no variable has: it begins with `@`."""

    def __init__(
        self,
        variables: Mapping[str, Any],
        module_variables: Mapping[str, Any],
        is_of_run: Callable[[Any], bool] = lambda _: False,
    ) -> None:
        self.variables, self.module_variables = dict(variables), module_variables
        #: Whether an object is a part of the run, or of its data.
        self._is_of_run = is_of_run
        self._others: dict[str, Any] = {}
        self._by_cell: dict[int, str] = {}

    def value(self, node: ast.AST) -> Any:
        """What a name or a dotted name stands for, or MISSING."""
        if isinstance(node, ast.Name):
            for space in (self._others, self.variables, self.module_variables):
                if node.id in space:
                    return space[node.id]
            return MISSING
        if isinstance(node, ast.Attribute):
            base = self.value(node.value)
            return MISSING if base is MISSING else member(base, node.attr)
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            return _item(self.value(node.value), node.slice.value)
        return MISSING

    def at(self, place: str) -> Any:
        """What a place stands for: a name, dotted or not."""
        root, *rest = place.split(".")
        value = self.value(ast.Name(root, ast.Load()))
        for name in rest:
            value = MISSING if value is MISSING else member(value, name)
        return value

    def stand_for(self, value: Any, name: str) -> str:
        """A name for an object that has none here."""
        given = f"@{id(value)}:{name}"
        self._others[given] = value
        return given

    def free(self, function: FunctionType) -> dict[str, str]:
        """The names that a function uses and does not bind, with what they are called here."""
        found = {}
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=False)
        for name, cell in cells:
            try:
                value = cell.cell_contents
            except ValueError:  # It has no value yet.
                continue
            if self.variables.get(name, MISSING) is not value:
                known = self._by_cell.setdefault(id(cell), f"@{id(cell)}:{name}")
                self._others[known] = value
                found[name] = known
        space = function.__globals__
        for name in function.__code__.co_names:
            is_same = space is self.module_variables and (
                name not in self.variables or self.variables[name] is space.get(name)
            )
            if name in space and not is_same and name not in found:
                known = f"@{id(space)}:{name}"
                self._others[known] = space[name]
                found[name] = known
        return found

    def called(self, node: ast.expr) -> Called | None:
        """The function of the script behind an expression that is called; None for anything else."""
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "getattr":
            # `getattr(hook, "before_step")(trainer)`
            name = node.args[1] if len(node.args) > 1 else None
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                node = ast.Attribute(node.args[0], name.value, ast.Load())
        if isinstance(node, ast.Attribute):
            base = self.value(node.value)
            if base is MISSING:
                return None
            value, is_of_class = _found(base, node.attr)
            if is_a(value, FunctionType) and is_of_class and not is_a(base, ModuleType | type):
                return None if _is_of_torch(base, node.attr) else _of_script(value, [node.value])
            if type(value) is classmethod:
                function: Any = value.__func__
                # By the object, whose attributes those of its class are too.
                return _of_script(function, [node.value]) if is_a(function, FunctionType) else None
        else:
            value = self.value(node)
        return self._by_value(value, node)

    def property_of(self, node: ast.Attribute) -> Called | None:
        """The function behind an attribute that is a property of the script's."""
        base = self.value(node.value)
        if base is MISSING or is_a(base, type | ModuleType):
            return None
        value, is_of_class = _found(base, node.attr)
        getter: Any = value.fget if is_of_class and type(value) is property else None
        return _of_script(getter, [node.value]) if is_a(getter, FunctionType) else None

    def is_trained(self, place: str) -> bool:
        """Whether a place is, or lies in, a network that the training changes."""
        while place:
            value = self.at(place)
            if is_module(value):
                return self._is_of_run(value) or any(one.requires_grad for one in value.parameters())
            place = place.rpartition(".")[0]
        return False

    def is_own(self, node: ast.AST) -> bool:
        """Whether this is an object of the script's own that only keeps values: no part, no library's."""
        value = self.value(node)
        if value is MISSING or is_module(value) or not _is_of_script_class(value):
            return False
        return not self._is_of_run(value)

    def _by_value(self, value: Any, node: ast.expr) -> Called | None:
        if type(value) is staticmethod:
            value = value.__func__
        if is_a(value, functools.partial):
            inner = self._by_value(value.func, node)
            if inner is None:
                return None
            function, before, words = inner
            return (
                function,
                [*before, *(self._named(one) for one in value.args)],
                {**words, **{name: self._named(one) for name, one in value.keywords.items()}},
            )
        if is_a(value, FunctionType):
            return _of_script(value, [])
        if is_a(value, MethodType):
            owner, function = value.__self__, value.__func__
            if not is_a(function, FunctionType) or _is_of_torch(owner, function.__name__):
                return None
            return _of_script(function, [self._named(owner)])
        if value is MISSING or is_a(value, type) or is_module(value) or not _is_of_script_class(value):
            return None
        called, is_of_class = _found(value, "__call__")
        if not is_of_class or not is_a(called, FunctionType):
            return None
        return _of_script(
            called, [node if isinstance(node, ast.Name | ast.Attribute) else self._named(value)]
        )

    def hooks(self, node: ast.expr) -> list[Called]:
        """The functions of the script that torch calls with `optimizer.step()` or `model(x)`."""
        owner = node.value if isinstance(node, ast.Attribute) and node.attr == "step" else node
        value = self.value(owner)
        if value is MISSING or not (is_module(value) or is_optimizer(value)):
            return []
        tables = [own for name, own in attributes(value) if name in _HOOKS and is_a(own, dict)]
        found = [self._by_value(one, self._named(one)) for own in tables for one in own.values()]
        return [one for one in found if one is not None]

    def items(self, node: ast.expr) -> list[ast.expr]:
        """Names for the script's objects in a short list that a loop goes over; [] for any other."""
        value = self.value(node)
        if type(value) not in (list, tuple) or not 0 < len(value) <= _MAX_ITEMS:
            return []
        is_own = all(_is_of_script_class(one) or is_a(one, FunctionType | functools.partial) for one in value)
        return [self._named(one) for one in value] if is_own else []

    def _named(self, value: Any) -> ast.expr:
        for name, one in self.variables.items():
            if one is value:
                return ast.Name(name, ast.Load())
        return ast.Name(self.stand_for(value, type(value).__name__), ast.Load())


def member(thing: Any, name: str) -> Any:
    """An attribute as it stands, or MISSING."""
    value, is_of_class = _found(thing, name)
    return MISSING if is_of_class and hasattr(type(value), "__get__") else value


def is_module(thing: Any) -> bool:
    """Whether it is a network."""
    torch = sys.modules.get("torch")
    return torch is not None and is_a(thing, torch.nn.Module)


def _found(thing: Any, name: str) -> tuple[Any, bool]:
    """An attribute, and whether it is one of the class."""
    if is_a(thing, ModuleType):
        return vars(thing).get(name, MISSING), False
    if is_a(thing, type):
        return next((vars(one)[name] for one in thing.__mro__ if name in vars(one)), MISSING), False
    for own, value in attributes(thing):
        if own == name:
            return value, False
    return next(
        ((vars(one)[name], True) for one in type(thing).__mro__ if name in vars(one)), (MISSING, False)
    )


def _is_of_script_class(thing: Any) -> bool:
    kind: Any = type(thing)
    return is_script_class(kind)


def _is_of_torch(owner: Any, name: str) -> bool:
    """Whether torch calls this method of a network, which is the training itself."""
    return is_module(owner) and name in ("forward", "__call__")


def _item(thing: Any, key: Any) -> Any:
    """An item of one of Python's own containers, or MISSING."""
    if type(thing) in (list, tuple) and type(key) is int and -len(thing) <= key < len(thing):
        return thing[key]
    return thing.get(key, MISSING) if type(thing) is dict and type(key) in (str, int) else MISSING


def _of_script(function: FunctionType, before: list[ast.expr]) -> Called | None:
    # A decorator as torch.no_grad() puts a function of its own in front.
    while is_a(inner := vars(function).get("__wrapped__"), FunctionType):
        function = inner  # type: ignore[assignment]
    file = function.__code__.co_filename
    return (function, before, {}) if is_script(file) and not file.startswith(_HERE) else None
