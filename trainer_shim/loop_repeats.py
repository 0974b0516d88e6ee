"""What a loop over epochs that the shim does not know of does again after a restart, statement by statement.

Covers: whether that is no harm: it only shows something, or what it changes is given back where the loop
goes on (redone.py).
Does not cover: which loops these are (loop_names.py).
"""

from __future__ import annotations

import ast
from collections.abc import Callable

from trainer_shim.source_places import PURE, SHOWING, called, calls_in

__all__ = ["is_harmless"]

#: What an epoch may do again without harm, by the last part of its name.
_HARMLESS = frozenset({"train", "eval", "zero_grad", "set_epoch", "time", "perf_counter", "monotonic", "len"})
#: What reads a part.
_READING = frozenset({"state_dict", "parameters", "buffers", "get_last_lr"})


def _nothing(_: ast.expr) -> bool:
    return False


def is_harmless(statement: ast.AST, is_given_back: Callable[[ast.expr], bool] = _nothing) -> bool:
    """Whether a statement may be done twice; `is_given_back` says which expressions stand for parts."""
    if isinstance(statement, ast.Pass | ast.Import | ast.ImportFrom):
        return True
    if isinstance(statement, ast.If):
        return all(is_harmless(one, is_given_back) for one in [*statement.body, *statement.orelse])
    if isinstance(statement, ast.For):
        return _sets_options(statement, is_given_back)
    if isinstance(statement, ast.Assign | ast.AugAssign | ast.AnnAssign):
        is_own = all(
            isinstance(one, ast.Name | ast.Tuple) or _is_of(one, is_given_back) for one in _targets(statement)
        )
        return is_own and _only_reckons(statement.value)
    if not isinstance(statement, ast.Expr):
        return False
    if isinstance(statement.value, ast.Constant | ast.Name):
        return True
    outer = statement.value
    if not isinstance(outer, ast.Call):
        return False
    is_of_part = isinstance(outer.func, ast.Attribute) and is_given_back(outer.func.value)
    if is_of_part:
        return all(map(_only_reckons, [*outer.args, *(word.value for word in outer.keywords)]))
    return called(outer) in SHOWING | _HARMLESS


def _sets_options(loop: ast.For, is_given_back: Callable[[ast.expr], bool]) -> bool:
    """Whether it is `for group in optimizer.param_groups:` and sets options of these groups, and no more."""
    if not (isinstance(loop.target, ast.Name) and _is_of(loop.iter, is_given_back)):
        return False

    def is_group(one: ast.expr) -> bool:
        return isinstance(one, ast.Name) and isinstance(loop.target, ast.Name) and one.id == loop.target.id

    return all(
        isinstance(one, ast.Assign | ast.AugAssign)
        and all(_is_of(target, is_group) for target in _targets(one))
        and _only_reckons(one.value)
        for one in [*loop.body, *loop.orelse]
    )


def _targets(statement: ast.Assign | ast.AugAssign | ast.AnnAssign) -> list[ast.expr]:
    return statement.targets if isinstance(statement, ast.Assign) else [statement.target]


def _is_of(place: ast.expr, is_owner: Callable[[ast.expr], bool]) -> bool:
    """Whether it is an attribute or an item of such an object, or of what that holds."""
    while isinstance(place, ast.Attribute | ast.Subscript):
        place = place.value
        if is_owner(place):
            return True
    return False


def _only_reckons(value: ast.expr | None) -> bool:
    return value is not None and all(called(one) in PURE | _HARMLESS | _READING for one in calls_in(value))
