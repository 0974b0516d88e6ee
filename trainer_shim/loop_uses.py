"""What becomes of a variable inside a loop: whether it decides about more than what is shown.

Covers: assignments, branches and calls, followed by name.
Does not cover: which variables a loop carries (loop_names.py).
"""

from __future__ import annotations

import ast
from collections.abc import Iterable

from trainer_shim.script_names import Names
from trainer_shim.source_places import (
    PASSES,
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

__all__ = ["ITERATED", "Uses", "is_harmless", "is_over"]

#: What an epoch may do again without harm, by the last part of its name.
_HARMLESS = frozenset({"train", "eval", "zero_grad", "set_epoch", "time", "perf_counter", "monotonic", "len"})
#: What the shim itself iterates.
ITERATED = ("epochs", *PASSES)
#: Calls that only reckon: what they give is followed, not what they are given.
_PURE = frozenset(
    {
        "abs", "float", "int", "len", "max", "mean", "min", "round", "str", "sum", "item", "format", "time",
        "range", "sorted", "exp", "log", "log10", "sqrt", "isnan", "isfinite", "bool", "tensor",
        "perf_counter", "monotonic", "detach", "cpu", "numpy", "tolist", "repr", "join", "items", "keys",
        "values", "get", "split", "strip", "copy", "deepcopy", "list", "dict", "tuple", "set", "zip",
        "enumerate", "map", "any", "all", "isinstance", "getattr", "hasattr", "type", "std", "median",
        "array", "asarray", "stack", "cat", "norm", "argmax", "square", "strftime", "ljust", "rjust",
        "upper", "lower", "time_ns", "process_time", "now", "total_seconds", "isoformat",
        "OrderedDict", "defaultdict", "Counter", "asdict", "vars",
    }
)  # fmt: skip


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
        #: What is made of what, one assignment each.
        self._flows: list[tuple[set[str], set[str]]] = []
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
        seen = {name}
        grows = True
        while grows:
            more = {one for sources, targets in self._flows if sources & seen for one in targets}
            grows = not more <= seen
            seen |= more
        return bool(seen & self._used) or any(map(self._is_inside_of_handed, seen))

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
            if all(map(self._only_reckons, inner)):
                # What it assigns depends on it.
                self._flows.append((read_by(node.test), _assigned_in(inner)))
            else:
                self._used |= read_by(node.test)
            self._expression(node.test)
            self._take_all(inner)
        elif isinstance(node, ast.For):
            if not is_over(node, *ITERATED):  # The data is the shim's.
                self._flows.append((read_by(node.iter), bound_by([node.target])))
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
        places = assigned_by(targets)
        value = read_by(node.value)
        self._flows.append((value, places))
        self._expression(node.value)
        # `group["lr"] = ...`, `model.temperature = ...`: what is handed to another's object is used.
        if any(self._is_of_another(one) for one in targets):
            self._used |= value - places

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
        if isinstance(statement, ast.Assign | ast.AugAssign | ast.AnnAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            if statement.value is None or any(self._is_of_another(one) for one in targets):
                return False
            return all(called(one) in _PURE for one in calls_in(statement.value))
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
            call = statement.value
            if changed_by(call) and not self._is_handed(call):
                return all(called(one) in _PURE for one in calls_in(call) if one is not call)
            return called(call) in SHOWING | _ELSEWHERE
        return is_harmless(statement)

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
                self._flows.append((handed, {place}))
                continue
            if name == "backward":
                self._used |= read_by(call.func)
            if name not in SHOWING | _PURE | _WRITING | _ELSEWHERE and not _is_inside_showing(node, call):
                self._used |= handed
                self._handed |= {
                    place_of(one) for one in (*call.args, *(word.value for word in call.keywords))
                }


def _assigned_in(statements: Iterable[ast.AST]) -> set[str]:
    return {place for statement in statements for one in own_and(statement) for place in changes(one)}


def _is_inside_showing(node: ast.AST, call: ast.Call) -> bool:
    return any(
        called(outer) in SHOWING and outer is not call and any(one is call for one in ast.walk(outer))
        for outer in calls_in(node)
    )


def is_harmless(statement: ast.AST) -> bool:
    """Whether a statement only shows something, or may be done twice."""
    if isinstance(statement, ast.Pass | ast.Import | ast.ImportFrom):
        return True
    if isinstance(statement, ast.If):
        return all(map(is_harmless, [*statement.body, *statement.orelse]))
    if isinstance(statement, ast.Assign | ast.AugAssign | ast.AnnAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        if any(not isinstance(one, ast.Name | ast.Tuple) for one in targets) or statement.value is None:
            return False
        return all(called(one) in _PURE | _HARMLESS for one in calls_in(statement.value))
    if not isinstance(statement, ast.Expr):
        return False
    if isinstance(statement.value, ast.Constant | ast.Name):
        return True
    outer = statement.value
    return isinstance(outer, ast.Call) and called(outer) in SHOWING | _HARMLESS
