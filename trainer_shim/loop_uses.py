"""What becomes of a variable inside a loop: whether it decides about more than what is shown.

Covers: assignments, branches and calls, followed by name.
Does not cover: which variables a loop carries (loop_names.py).
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Set as AbstractSet
from types import ModuleType
from typing import Any

from trainer_shim.loop_repeats import is_harmless
from trainer_shim.script_code import is_a
from trainer_shim.script_names import Names, is_module
from trainer_shim.source_places import (
    PASSES,
    PURE,
    SHOWING,
    Loop,
    assigned_by,
    bound_by,
    called,
    calls_in,
    changed_by,
    changes,
    own_and,
    place_of,
    read_by,
    thing_changed_by,
)

__all__ = ["ITERATED", "Uses", "is_over"]

#: Modules whose functions give a result and do nothing else.
_RECKONING = frozenset({"math", "numpy", "statistics"})
#: Turns to evaluation, and back.
_EVALUATING = frozenset({"eval", "train"})
#: What the shim itself iterates.
ITERATED = ("epochs", *PASSES)


#: Calls that do something, but nothing to the training.
_ELSEWHERE = frozenset(
    {"collect", "empty_cache", "flush", "fsync", "getpid", "kill", "sleep", "synchronize", "writeheader"}
)
#: Calls that write results for people: no statement that is harmless, but nothing comes back from them.
_WRITING = frozenset(
    {
        "dump", "dumps", "log_metric", "log_metrics", "log_dict", "add_histogram", "plot", "save", "savefig",
        "savetxt", "savez", "to_csv", "write_text", "writerow",
    }
)  # fmt: skip


def is_over(loop: Loop, *names: str) -> bool:
    """Whether a loop goes over what a method of such a name gives."""
    return isinstance(loop, ast.For) and any(called(one) in names for one in calls_in(loop.iter))


class Uses:
    """What becomes of variables in some statements, followed by name."""

    def __init__(
        self, statements: Iterable[ast.stmt], names: Names | None = None, *, is_result_used: bool = False
    ) -> None:
        self._names, self._is_result_used = names, is_result_used
        statements = list(statements)
        #: Whether the branch that is looked at turns to evaluation first.
        self._is_evaluating = False
        self._tuples = _tuples(statements)
        #: What is made of what, one assignment each.
        self._flows: list[tuple[AbstractSet[str], AbstractSet[str]]] = []
        #: What decides about something.
        self._used: set[str] = set()
        #: What is handed to calls by itself, with all that it holds.
        self._handed: set[str] = set()
        #: What loops go over, items of something.
        self._items = {
            name
            for statement in statements
            for one in own_and(statement)
            if isinstance(one, ast.For)
            for name in bound_by([one.target])
        }
        self._take_all(statements)

    def matters(self, name: str) -> bool:
        """Whether it reaches anything but what is shown."""
        items = (_item_of(name, i).id for i in range(self._tuples.get(name, 0)))
        seen = {name, _keys_of(name), *items}
        grows = True
        while grows:
            more = {one for sources, targets in self._flows if sources & seen for one in targets}
            grows = not more <= seen
            seen |= more
        return bool(seen & self._used) or any(map(self._is_inside_of_handed, seen))

    def made_of(self, is_source: Callable[[str], bool]) -> set[str]:
        """All that anything of a source reaches."""
        found: set[str] = set()
        grows = True
        while grows:
            more = {
                one
                for sources, targets in self._flows
                if sources & found or any(map(is_source, sources))
                for one in targets
            }
            grows = not more <= found
            found |= more
        return found

    def _is_inside_of_handed(self, place: str) -> bool:
        """Whether the object that it is an attribute of is handed on as a whole."""
        owner = place.rpartition(".")[0]
        return owner not in ("", "self") and (owner in self._handed or self._is_inside_of_handed(owner))

    def _take(self, node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            self._statement(child)

    def _statement(self, node: ast.AST) -> None:
        if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign):
            self._assignment(node)
        elif isinstance(node, ast.If | ast.While):
            inner = [*node.body, *node.orelse]
            # `model.eval()`, and `model.train()` again: a picture now and then leaves no trace.
            names = {called(call) for one in inner for call in calls_in(one)}
            self._is_evaluating = names >= _EVALUATING
            if all(map(self._only_reckons, inner)):
                # What it assigns depends on it.
                self._flow(_tested(node.test), _assigned_in(inner))
            else:
                self._used |= _tested(node.test)
            self._expression(node.test)
            self._take_all(inner)
        elif isinstance(node, ast.For):
            if not is_over(node, *ITERATED):  # The data is the shim's.
                self._flow(read_by(node.iter), bound_by([node.target]))
                self._expression(node.iter)
            self._take_all([*node.body, *node.orelse])
        elif isinstance(node, ast.Return) and node.value is not None:
            if self._is_result_used:
                self._used |= read_by(node.value)
            self._expression(node.value)
        elif isinstance(node, ast.expr):
            self._expression(node)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            self._take(node)

    def _assignment(self, node: ast.Assign | ast.AugAssign | ast.AnnAssign) -> None:
        if node.value is None:
            return
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        for target in targets:
            for one, value in self._pairs(target, node.value):
                self._assigned(one, value, is_whole=not isinstance(node, ast.AugAssign))
        self._expression(node.value)

    def _assigned(self, target: ast.expr, value: ast.expr, *, is_whole: bool) -> None:
        reads, places = read_by(value), assigned_by([target])
        if is_whole and isinstance(target, ast.Name | ast.Attribute):
            self._flows.append((reads, places))
            self._flows.append((_keys_read(value), set(map(_keys_of, places))))
        elif isinstance(target, ast.Subscript) and _is_text(target.slice):
            self._flows.append((reads, places))
        else:
            self._flow(reads, places)
        # `group["lr"] = ...`, `model.temperature = ...`: what is handed to another's object is used.
        if self._is_of_another(target):
            self._used |= reads - places

    def _pairs(self, target: ast.expr, value: ast.expr) -> Iterator[tuple[ast.expr, ast.expr]]:
        """What is assigned to what, item by item where a tuple is: `return loss, text` is often both."""
        num = self._tuples.get(value.id, 0) if isinstance(value, ast.Name) else _num_items(value)
        if isinstance(value, ast.Name):
            items: list[ast.expr] = [_item_of(value.id, i) for i in range(num)]
        else:
            items = value.elts if isinstance(value, ast.Tuple) else []
        if num and isinstance(target, ast.Tuple) and _num_items(target) == num:
            for one, item in zip(target.elts, items, strict=True):
                yield from self._pairs(one, item)
        elif isinstance(target, ast.Name) and isinstance(value, ast.Tuple) and target.id in self._tuples:
            for i, item in enumerate(items):
                yield _item_of(target.id, i, ast.Store()), item
                yield target, _item_of(target.id, i)
        else:
            yield target, value

    def _flow(self, sources: AbstractSet[str], targets: AbstractSet[str]) -> None:
        """What targets hold, and which keys they have, is made of the sources."""
        self._flows.append((sources, targets | set(map(_keys_of, targets))))

    def _is_of_another(self, target: ast.AST) -> bool:
        is_item = isinstance(target, ast.Subscript)
        while isinstance(target, ast.Subscript):
            target = target.value
        if isinstance(target, ast.Attribute):
            return not self._is_own(target.value)
        return is_item and place_of(target) in self._items

    def _is_own(self, thing: ast.AST) -> bool:
        """Whether an object only keeps values for the loop."""
        if isinstance(thing, ast.Name) and thing.id == "self":
            return True
        return self._names is not None and self._names.is_own(thing)

    def _only_reckons(self, statement: ast.AST) -> bool:
        """Whether all it does is to show something, and to assign what is followed."""
        if isinstance(statement, ast.If):
            return all(map(self._only_reckons, [*statement.body, *statement.orelse]))
        if isinstance(statement, ast.With) and self._is_evaluating and _has_no_gradients(statement):
            return all(map(self._only_reckons, statement.body))
        if isinstance(statement, ast.Assign | ast.AugAssign | ast.AnnAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            if statement.value is None or any(self._is_of_another(one) for one in targets):
                return False
            return all(map(self._is_pure, calls_in(statement.value)))
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
            call = statement.value
            if changed_by(call) and not self._is_handed(call):
                return all(self._is_pure(one) for one in calls_in(call) if one is not call)
            return called(call) in SHOWING | _ELSEWHERE or (
                self._is_evaluating and called(call) in _EVALUATING
            )
        return is_harmless(statement)

    def _is_pure(self, call: ast.Call) -> bool:
        """Whether nothing comes of a call but its result; an evaluated network changes nothing."""
        if called(call) in PURE or self._is_of_reckoning_module(call):
            return True
        return self._is_evaluating and self._names is not None and is_module(self._names.value(call.func))

    def _is_of_reckoning_module(self, call: ast.Call) -> bool:
        """Whether it is `np.average(...)` or the like: all of these modules but what draws or changes."""
        root, *between = place_of(call.func).split(".")[:-1] or [""]
        value: Any = None if self._names is None or not root else self._names.at(root)
        name = value.__name__ if is_a(value, ModuleType) else ""
        return name in _RECKONING and "random" not in between and not changed_by(call)

    def _is_handed(self, call: ast.Call) -> bool:
        """Whether what a call changes is another's: an item of a loop, an attribute of a network."""
        thing = thing_changed_by(call)
        return self._is_of_another(thing) or place_of(thing) in self._items

    def _take_all(self, nodes: Iterable[ast.AST]) -> None:
        for one in nodes:
            self._statement(one)

    def _expression(self, node: ast.AST) -> None:
        """Note what is handed to calls that do more than show; what they give is followed by assignments."""
        for call in calls_in(node):
            name = called(call)
            handed = {
                place
                for one in (*call.args, *(word.value for word in call.keywords))
                for place in read_by(one)
            }
            if (place := changed_by(call)) and not self._is_handed(call):
                self._flow(handed, {place})
                continue
            if name == "backward":
                self._used |= read_by(call.func)
            is_known = name in SHOWING | PURE | _WRITING | _ELSEWHERE or self._is_of_reckoning_module(call)
            if not is_known and not _is_inside_showing(node, call):
                self._used |= handed
                self._handed |= {
                    place_of(one) for one in (*call.args, *(word.value for word in call.keywords))
                }


def _keys_of(place: str) -> str:
    """A name for which keys a place has, apart from what they hold."""
    return f"{place}?"


def _keys_read(value: ast.expr) -> AbstractSet[str]:
    """What decides about the keys of a value: of `{"reward": total} if is_done else {}`, `is_done`."""
    if isinstance(value, ast.Dict):
        keys = (read_by(one) for one in value.keys if one is not None)
        others = (_keys_read(one) for key, one in zip(value.keys, value.values, strict=True) if key is None)
        return set().union(*keys, *others)
    if isinstance(value, ast.IfExp):
        return _tested(value.test) | _keys_read(value.body) | _keys_read(value.orelse)
    if isinstance(value, ast.Name | ast.Attribute):
        return _owner_read(value) | {_keys_of(place_of(value))}
    return read_by(value)


def _tested(test: ast.expr) -> AbstractSet[str]:
    """What a test reads; of what it looks for a key in, the keys."""
    if isinstance(test, ast.BoolOp):
        return set().union(*map(_tested, test.values))
    if isinstance(test, ast.UnaryOp):
        return _tested(test.operand)
    if isinstance(test, ast.Compare) and isinstance(test.ops[0], ast.In | ast.NotIn) and len(test.ops) == 1:
        table = test.comparators[0]
        if isinstance(table, ast.Name | ast.Attribute):
            return read_by(test.left) | _owner_read(table) | {_keys_of(place_of(table))}
    return read_by(test)


def _owner_read(thing: ast.Name | ast.Attribute) -> AbstractSet[str]:
    return read_by(thing.value) if isinstance(thing, ast.Attribute) else set()


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _tuples(statements: Iterable[ast.stmt]) -> dict[str, int]:
    """The names that stand for tuples of one length wherever they are assigned, with that length."""
    found: dict[str, set[int]] = {}
    for node in (one for statement in statements for one in own_and(statement)):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and len(node.targets) == 1:
            if not isinstance(node.value, ast.Constant) or node.value.value is not None:
                found.setdefault(node.targets[0].id, set()).add(_num_items(node.value))
        elif isinstance(node, ast.stmt | ast.NamedExpr | ast.Call):
            bound = {node.target} if isinstance(node, ast.For | ast.NamedExpr | ast.AnnAssign) else set()
            for name in changes(node) | bound_by(bound):
                found.setdefault(name, set()).add(0)
    return {name: min(nums) for name, nums in found.items() if len(nums) == 1 and min(nums)}


def _num_items(node: ast.expr) -> int:
    """How many items a tuple in the source has, 0 where it cannot be told."""
    if not isinstance(node, ast.Tuple) or any(isinstance(one, ast.Starred) for one in node.elts):
        return 0
    return len(node.elts)


def _item_of(name: str, index: int, ctx: ast.expr_context | None = None) -> ast.Name:
    return ast.Name(f"{name}[{index}]", ctx or ast.Load())


def _has_no_gradients(block: ast.With) -> bool:
    return all(
        isinstance(one.context_expr, ast.Call) and called(one.context_expr) in ("no_grad", "inference_mode")
        for one in block.items
    )


def _assigned_in(statements: Iterable[ast.AST]) -> set[str]:
    return {place for statement in statements for one in own_and(statement) for place in changes(one)}


def _is_inside_showing(node: ast.AST, call: ast.Call) -> bool:
    return any(
        called(outer) in SHOWING and outer is not call and any(one is call for one in ast.walk(outer))
        for outer in calls_in(node)
    )
