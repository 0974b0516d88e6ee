"""What a part of the script's own class leaves out of its `state_dict()`, from its source.

Covers: classes of the script, those that the script derives from torch's optimizers; what a network's
`forward()` carries from call to call in attributes.
Does not cover: plain attributes of networks, which go with them (module_state.py); how a loop uses what is
left out (loop_state.py).
"""

from __future__ import annotations

import ast
import functools
from types import FunctionType
from typing import Any

from trainer_shim.inlining import Inlining, definition
from trainer_shim.optimizer_state import is_optimizer
from trainer_shim.reach import attributes
from trainer_shim.script_code import is_a, is_script_class
from trainer_shim.script_names import Names, is_module
from trainer_shim.source_places import bound_by, flow, own_and

__all__ = ["carried_in_forward", "left_out"]

#: Ways to read attributes that are not named in the source.
_ANY = frozenset({"__dict__", "asdict", "getattr", "vars", "__getstate__"})
#: What torch's own optimizers save.
_OPTIMIZERS = frozenset({"defaults", "param_groups", "state"})


def left_out(part: Any) -> dict[str, Any]:
    """The attributes that no `state_dict()` of its class reads; {} where that cannot be told."""
    saved = _saved(part)
    return {} if saved is None else {name: one for name, one in attributes(part) if name not in saved}


def _saved(part: Any) -> set[str] | None:
    """The names that its `state_dict()` mentions, None for all."""
    kind: Any = type(part)
    if is_module(part) or not is_script_class(kind):
        return None
    found: set[str] = set()
    for one in kind.__mro__:
        function = vars(one).get("state_dict")
        if function is None:
            continue
        if not is_script_class(one):
            return found | _OPTIMIZERS if is_optimizer(part) else None
        read = _read_in(part, function)
        if read & _ANY or not read:
            return None
        found |= read
        if "super" not in read:
            return found
    return None


def carried_in_forward(module: Any) -> frozenset[str]:
    """The attributes that `forward()` reads before it assigns them, and assigns: a hidden state, say."""
    kind: Any = type(module)
    return _carried_in_forward(kind) if is_script_class(kind) else frozenset()


@functools.cache
def _carried_in_forward(kind: Any) -> frozenset[str]:
    function = kind.forward
    node = definition(function) if is_a(function, FunctionType) else None
    if node is None or not node.args.args:
        return frozenset()
    own = f"{node.args.args[0].arg}."
    exposed, _ = flow(node.body)
    assigned = {
        place
        for statement in node.body
        for one in own_and(statement)
        if isinstance(one, ast.Assign)
        for place in bound_by(one.targets)
    }
    return frozenset(place.removeprefix(own) for place in exposed & assigned if place.startswith(own))


def _read_in(part: Any, function: Any) -> set[str]:
    """The names and attributes that a method and those of the part that it calls mention; {} for none."""
    node = definition(function) if is_a(function, FunctionType) else None
    if node is None or not node.args.args:
        return set()
    names = Names({node.args.args[0].arg: part}, function.__globals__)
    return {
        getattr(one, "attr", getattr(one, "id", ""))
        for statement in (*node.body, *Inlining(names).body(node.body))
        for one in ast.walk(statement)
        if isinstance(one, ast.Name | ast.Attribute)
    }
