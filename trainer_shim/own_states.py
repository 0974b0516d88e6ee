"""What a part of the script's own class leaves out of its `state_dict()`, from its source.

Covers: classes of the script, those that the script derives from torch's optimizers; what a network's
`forward()` carries from call to call in attributes.
Does not cover: plain attributes of networks, which go with them (module_state.py); how a loop uses what is
left out (loop_state.py).
"""

from __future__ import annotations

import ast
import weakref
from types import FunctionType
from typing import Any

from trainer_shim.inlining import Inlining, definition
from trainer_shim.loop_uses import Uses
from trainer_shim.optimizer_state import is_optimizer
from trainer_shim.reach import attributes
from trainer_shim.script_code import is_a, is_script_class
from trainer_shim.script_names import Names, is_module
from trainer_shim.source_places import changes, flow, own_and

__all__ = ["carried_in_forward", "left_out"]

#: Ways to read attributes that are not named in the source.
_ANY = frozenset({"__dict__", "asdict", "getattr", "vars", "__getstate__"})
#: What was found for each class.
_carried: weakref.WeakKeyDictionary[type, frozenset[str]] = weakref.WeakKeyDictionary()
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
    """The attributes that `forward()` goes on from and changes: a hidden state, a memory by node, say."""
    kind: Any = type(module)
    if not is_script_class(kind):
        return frozenset()
    if kind not in _carried:
        _carried[kind] = _carried_by(module, kind.forward)
    return _carried[kind]


def _carried_by(module: Any, function: Any) -> frozenset[str]:
    node = definition(function) if is_a(function, FunctionType) else None
    if node is None or not node.args.args:
        return frozenset()
    me = node.args.args[0].arg
    names = Names({me: module}, function.__globals__)
    body = Inlining(names).body(node.body)
    exposed, _ = flow(body)
    changed = {place for statement in body for one in own_and(statement) for place in changes(one)}
    uses = Uses(body, names, is_result_used=True)
    carried = (place for place in exposed & changed if place.startswith(f"{me}.") and uses.matters(place))
    return frozenset(place.removeprefix(f"{me}.") for place in carried)


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
