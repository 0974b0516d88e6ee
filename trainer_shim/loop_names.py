"""Which variables a loop of the script carries from one turn to the next, from its source.

Covers: names, attributes and containers that the body reads before it assigns them and that it changes, where
they decide about more than what is shown; what an outer loop that counts epochs by itself does again.
Does not cover: values (strays.py), the number of `enumerate()` (enumerated.py).

A loop carries what its body can read before it assigns it (upward exposed uses, as compilers say) and
changes. After a restart such a variable has its first value again. Whether that matters is followed by name
through the assignments of the loop: what only reaches calls that print, log or report does not.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from trainer_shim.enumerated import PASSES, SHOWING, called, source_tree

__all__ = ["Carried", "carried_at", "repeated_at"]

_Loop = ast.For | ast.While
#: Methods of Python's containers that change them.
_CHANGING = frozenset(
    {
        "add", "append", "appendleft", "clear", "discard", "extend", "extendleft", "insert", "pop", "popitem",
        "popleft", "remove", "reverse", "rotate", "setdefault", "sort", "update",
    }
)  # fmt: skip
#: What an epoch may do again without harm, by the last part of its name.
_HARMLESS = frozenset({"train", "eval", "zero_grad", "set_epoch", "time", "perf_counter", "monotonic", "len"})
#: The names of the shim's own places for what a script keeps.
_KEEPING = frozenset({"extra"})
#: What the shim itself iterates.
_ITERATED = ("epochs", *PASSES)


class Carried(NamedTuple):
    """A variable that a loop carries, and the first line that changes it."""

    name: str
    line: int


def carried_at(
    file: str, first_line: int, line: int, *, keepers: frozenset[str] = frozenset()
) -> list[Carried]:
    """Return what the loops around a line of a function carry; [] where its source cannot be had.

    `keepers` are names of objects that a checkpoint has: what a statement hands to one is kept.
    """
    scope = _scope(file, first_line)
    if scope is None:
        return []
    loops = _around(scope, line)
    if not loops:
        return []
    kept = _kept(loops[0], _KEEPING | keepers)
    tainted = _Taint(loops[0])
    found: dict[str, Carried] = {}
    for loop in loops:
        exposed, _ = _flow(_parts(loop))
        for name, at in _changed(loop).items():
            if name in exposed and name not in kept and tainted.matters(name):
                found.setdefault(name, Carried(name, at))
    return sorted(found.values(), key=lambda one: one.line)


def repeated_at(file: str, first_line: int, line: int) -> int:
    """Return the line of what an outer loop that is not the shim's does again after a restart, or 0."""
    scope = _scope(file, first_line)
    loops = [] if scope is None else _around(scope, line)
    if not any(_is_over(one, *PASSES) for one in loops[1:]):
        return 0
    for outer in loops[:-1]:
        if isinstance(outer, ast.For) and not _is_over(outer, *_ITERATED):
            for statement in outer.body:
                is_inner = statement.lineno <= line <= (statement.end_lineno or line)
                if not is_inner and not _is_harmless(statement):
                    return statement.lineno
    return 0


def _is_over(loop: _Loop, *names: str) -> bool:
    """Whether a loop goes over what a method of such a name gives."""
    return isinstance(loop, ast.For) and any(called(one) in names for one in _calls(loop.iter))


def _scope(file: str, first_line: int) -> ast.AST | None:
    """The function whose code begins in this line, or the module."""
    tree = source_tree(file)
    if tree is None:
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(one.lineno for one in node.decorator_list)])
            if first == first_line:
                return node
    return tree if first_line <= 1 else None


def _around(scope: ast.AST, line: int) -> list[_Loop]:
    """The loops of a scope around a line, the outermost first; not those of functions inside."""
    return [
        one
        for one in _own(scope)
        if isinstance(one, _Loop) and one.lineno <= line <= (one.end_lineno or one.lineno)
    ]


def _own(scope: ast.AST) -> Iterator[ast.AST]:
    """All below a node but what lies in functions and classes that are defined there; outer ones first."""
    for child in ast.iter_child_nodes(scope):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            yield child
            yield from _own(child)


def _own_and(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    yield from _own(node)


def _calls(node: ast.AST) -> list[ast.Call]:
    return [one for one in _own_and(node) if isinstance(one, ast.Call)]


def _place(node: ast.AST) -> str:
    """What an expression reads or changes: `a`, `self.a`; of `a[0]` what `a` is; "" for anything else."""
    while isinstance(node, ast.Subscript):
        node = node.value
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return f"{node.value.id}.{node.attr}"
    return ""


def _parts(loop: _Loop) -> list[ast.AST]:
    """What a turn runs through, in order."""
    head: list[ast.AST] = [loop.target] if isinstance(loop, ast.For) else [loop.test]
    return [*head, *loop.body]


def _flow(nodes: Iterable[ast.AST]) -> tuple[set[str], set[str]]:
    """Return what is read before it is assigned for certain, and what is assigned for certain."""
    exposed: set[str] = set()
    written: set[str] = set()
    for node in nodes:
        reads, writes = _one(node)
        exposed |= reads - written
        written |= writes
    return exposed, written


def _one(node: ast.AST) -> tuple[set[str], set[str]]:
    if isinstance(node, ast.If):
        test, (yes_reads, yes), (no_reads, no) = _reads(node.test), _flow(node.body), _flow(node.orelse)
        leaves = [bool(body) and isinstance(body[-1], _LEAVING) for body in (node.body, node.orelse)]
        sure = no if leaves[0] else yes if leaves[1] else yes & no
        return test | yes_reads | no_reads, sure
    if isinstance(node, _Loop):
        reads, _ = _flow(_parts(node))
        more, _ = _flow(node.orelse)
        return (_reads(node.iter) if isinstance(node, ast.For) else set()) | reads | more, set()
    if isinstance(node, ast.With | ast.AsyncWith):
        heads = [head for item in node.items for head in (item.context_expr, item.optional_vars) if head]
        return _flow([*heads, *node.body])
    if isinstance(node, ast.Try):
        reads, writes = _flow([*node.body, *node.orelse])
        handled = [_flow(one.body) for one in node.handlers]
        last_reads, last = _flow(node.finalbody)
        sure = writes.intersection(*(one for _, one in handled)) | last
        return reads.union(last_reads, *(one for one, _ in handled)), sure
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        reads = set() if node.value is None else _reads(node.value)
        return reads | _inner_reads(targets), _targets(targets) if node.value is not None else set()
    if isinstance(node, ast.AugAssign):
        return _reads(node.value) | _reads(node.target) | {_place(node.target)} - {""}, set()
    if isinstance(node, ast.Name | ast.Tuple | ast.List | ast.Starred | ast.Attribute) and _is_target(node):
        return set(), _targets([node])
    named = {one.target.id for one in _own_and(node) if isinstance(one, ast.NamedExpr)}
    return _reads(node), named


_LEAVING = (ast.Continue, ast.Break, ast.Return, ast.Raise)


def _is_target(node: ast.AST) -> bool:
    return isinstance(getattr(node, "ctx", None), ast.Store)


def _reads(node: ast.AST) -> set[str]:
    """All that is read; a function or comprehension inside may read it as well."""
    found = set()
    bound = {
        name.id
        for one in ast.walk(node)
        if isinstance(one, ast.comprehension)
        for name in ast.walk(one.target)
        if isinstance(name, ast.Name)
    }
    for one in ast.walk(node):
        if isinstance(one, ast.Name | ast.Attribute | ast.Subscript) and (place := _place(one)):
            found.add(place)
    return found - bound


def _inner_reads(targets: Iterable[ast.AST]) -> set[str]:
    """What assigning to `a[i]` or `a.b` reads on the way."""
    found = set()
    for target in targets:
        for one in ast.walk(target):
            if isinstance(one, ast.Subscript):
                found |= _reads(one.slice) | ({_place(one)} - {""})
    return found


def _targets(targets: Iterable[ast.AST]) -> set[str]:
    """What is bound as a whole: names and attributes, not the items of a container."""
    found = set()
    for target in targets:
        for one in ast.walk(target):
            if isinstance(one, ast.Name | ast.Attribute) and _is_target(one):
                found.add(_place(one))
    return found - {""}


def _changed(loop: _Loop) -> dict[str, int]:
    """What a turn assigns or changes, with the first line of it."""
    found: dict[str, int] = {}
    for one in _own(loop):
        places: set[str] = set()
        if isinstance(one, ast.Assign):
            places = _targets(one.targets) | {
                _place(t) for target in one.targets for t in ast.walk(target) if isinstance(t, ast.Subscript)
            }
        elif isinstance(one, ast.AugAssign | ast.AnnAssign | ast.NamedExpr):
            places = {_place(one.target)}
        elif isinstance(one, ast.Call) and isinstance(one.func, ast.Attribute) and one.func.attr in _CHANGING:
            places = {_place(one.func.value)}
        for place in places - {""}:
            found.setdefault(place, getattr(one, "lineno", loop.lineno))
    return found


def _kept(loop: _Loop, keepers: frozenset[str]) -> set[str]:
    """The names in statements that mention `shim.extra` or the like: the script sees to them."""
    found: set[str] = set()
    for one in _own(loop):
        if isinstance(one, ast.Expr | ast.Assign | ast.AugAssign) and any(
            getattr(node, "attr", getattr(node, "id", "")) in keepers for node in ast.walk(one)
        ):
            found |= {_place(node) for node in ast.walk(one)}
    return found - {""}


class _Taint:
    """What becomes of a variable inside one loop, followed by name."""

    def __init__(self, loop: _Loop) -> None:
        self._loop = loop
        #: What is made of what, one assignment each.
        self._flows: list[tuple[set[str], set[str]]] = []
        #: What decides about something.
        self._used: set[str] = set()
        #: What loops go over, items of something.
        self._items = {
            name for one in _own_and(loop) if isinstance(one, ast.For) for name in _targets([one.target])
        }
        self._statement(loop)

    def matters(self, name: str) -> bool:
        """Whether it reaches anything but what is shown."""
        seen = {name}
        grows = True
        while grows:
            more = {one for sources, targets in self._flows if sources & seen for one in targets}
            grows = not more <= seen
            seen |= more
        return bool(seen & self._used)

    def _take(self, node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            self._statement(child)

    def _statement(self, node: ast.AST) -> None:
        if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign):
            self._assignment(node)
        elif isinstance(node, ast.If | ast.While):
            inner = [*node.body, *node.orelse]
            if all(map(_is_harmless, inner)):
                # What it assigns depends on it.
                self._flows.append((_reads(node.test), set().union(*(_one(one)[1] for one in inner))))
            else:
                self._used |= _reads(node.test)
            self._expression(node.test)
            self._take_all(inner)
        elif isinstance(node, ast.For):
            if not _is_over(node, *_ITERATED):  # The data is the shim's.
                self._flows.append((_reads(node.iter), _targets([node.target])))
                self._expression(node.iter)
            self._take_all([*node.body, *node.orelse])
        elif isinstance(node, ast.expr):
            self._expression(node)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            self._take(node)

    def _assignment(self, node: ast.Assign | ast.AugAssign | ast.AnnAssign) -> None:
        if node.value is None:
            return
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        places = {_place(one) for target in targets for one in ast.walk(target)} - {""}
        value = _reads(node.value)
        self._flows.append((value, places))
        self._expression(node.value)
        # `group["lr"] = ...`, `model.temperature = ...`: what is handed to another's object is used.
        if any(self._is_of_another(one) for one in targets):
            self._used |= value - places

    def _is_of_another(self, target: ast.AST) -> bool:
        root, _, attribute = _place(target).partition(".")
        if isinstance(target, ast.Subscript):
            return root in self._items or (bool(attribute) and root != "self")
        return isinstance(target, ast.Attribute) and root != "self"

    def _take_all(self, nodes: Iterable[ast.AST]) -> None:
        for one in nodes:
            self._statement(one)

    def _expression(self, node: ast.AST) -> None:
        """Note what is handed to calls that do more than show; what they give is followed by assignments."""
        for call in _calls(node):
            name = called(call)
            handed = {
                place
                for one in (*call.args, *(word.value for word in call.keywords))
                for place in _reads(one)
            }
            if (
                name in _CHANGING
                and isinstance(call.func, ast.Attribute)
                and (place := _place(call.func.value))
            ):
                self._flows.append((handed, {place}))
            elif name not in SHOWING and name not in _PURE and not _is_inside_showing(node, call):
                self._used |= handed


#: Calls that only reckon: what they give is followed, not what they are given.
_PURE = frozenset(
    {
        "abs", "float", "int", "len", "max", "mean", "min", "round", "str", "sum", "item", "format", "time",
        "range", "sorted", "exp", "log", "log10", "sqrt", "isnan", "isfinite", "bool", "tensor",
        "perf_counter", "monotonic", "detach", "cpu", "numpy", "tolist", "repr",
    }
)  # fmt: skip


def _is_inside_showing(node: ast.AST, call: ast.Call) -> bool:
    return any(
        called(outer) in SHOWING and outer is not call and any(one is call for one in ast.walk(outer))
        for outer in _calls(node)
    )


def _is_harmless(statement: ast.AST) -> bool:
    """Whether a statement only shows something, or may be done twice."""
    if isinstance(statement, ast.Pass | ast.Import | ast.ImportFrom):
        return True
    if isinstance(statement, ast.If):
        return all(map(_is_harmless, [*statement.body, *statement.orelse]))
    if isinstance(statement, ast.Assign | ast.AugAssign | ast.AnnAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        if any(not isinstance(one, ast.Name | ast.Tuple) for one in targets) or statement.value is None:
            return False
        return all(called(one) in _PURE | _HARMLESS for one in _calls(statement.value))
    if not isinstance(statement, ast.Expr):
        return False
    if isinstance(statement.value, ast.Constant):
        return True
    outer = statement.value
    return isinstance(outer, ast.Call) and called(outer) in SHOWING | _HARMLESS
